"""Timers of one CPU: the wheel (jiffies), hrtimers (ns), the tick, and tickless idle.

Models kernel/time/timer.c in two behaviours (``timer_wheel``): *cascading* fires in the jiffy that
was asked for, first in first out; *hierarchical* (4.8 and later) puts a timer into a bucket whose
width grows with the distance, fires it when the bucket's end is reached, never early, last in first
out. Both keep their timers in one heap here: buckets are an implementation, not a behaviour.
kernel/time/hrtimer.c: a heap of absolute expiries, run in the timer's hard interrupt.

An idle CPU stops its tick; the local APIC's deadline is then the next timer that exists.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Task,
    scheduler_tick,
    wake_up_process,
)
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

TIMER_SOFTIRQ = 1
LEVELS, LEVEL_BITS, LEVEL_SIZE = 9, 3, 64

_TIMERS_RUN = CPU_SCHEMA.index("timers_run")
_EXPIRE = TRACEPOINTS["timer_expire_entry"].number
_HREXPIRE = TRACEPOINTS["hrtimer_expire_entry"].number


class Timer:
    """struct timer_list: ``function(cpu)`` is a context run in the TIMER softirq."""

    __slots__ = ("_token", "expires", "function")

    def __init__(self, function: Callable[[Cpu], Context | None]) -> None:
        self.function = function
        self.expires = 0  # jiffies, as asked for
        self._token: int | None = None  # None: not pending

    def pending(self) -> bool:
        return self._token is not None


class HrTimer:
    """struct hrtimer: ``function(cpu)`` is a plain call in the hard interrupt."""

    __slots__ = ("_token", "expires_ns", "function")

    def __init__(self, function: Callable[[Cpu], None]) -> None:
        self.function = function
        self.expires_ns = 0
        self._token: int | None = None

    def pending(self) -> bool:
        return self._token is not None


def bucket_expiry(clk: int, expires: int) -> tuple[int, int]:
    """Hierarchical wheel: (jiffy at which it fires, level) of a timer armed at ``clk``."""
    delta = expires - clk
    if delta < 0:
        return clk, 0
    for level in range(LEVELS):
        if delta < (LEVEL_SIZE - 1) << (LEVEL_BITS * level) or level == LEVELS - 1:
            shift = LEVEL_BITS * level
            return ((expires >> shift) + 1) << shift, level
    raise AssertionError("unreachable")


class Timers:
    """timer_base, hrtimer base and tick of one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._ns_per_jiffy = 1_000_000_000 // cpu.params.hz
        self._hierarchical = cpu.params.timer_wheel == "hierarchical"
        self._every_tick = cpu.params.timer_softirq == "every-tick"
        self._wheel: list[tuple[int, int, int, Timer]] = []  # (fires at, -level, order, timer)
        self._hr: list[tuple[int, int, HrTimer]] = []
        self._order = 0
        self.tick_running = False
        self._next_tick_ns = 0

    # -- the wheel

    def mod_timer(self, timer: Timer, expires: int) -> bool:
        """Arm (or re-arm) for jiffy ``expires``; True if it was pending."""
        was = timer.pending()
        self._order += 1
        timer.expires = expires
        timer._token = self._order
        if self._hierarchical:
            fires, level = bucket_expiry(self._cpu.jiffies(), expires)
            entry = (fires, -level, -self._order, timer)
        else:
            fires = max(expires, self._cpu.jiffies() + 1)
            entry = (fires, 0, self._order, timer)
        heapq.heappush(self._wheel, entry)
        self.program()
        return was

    def del_timer(self, timer: Timer) -> bool:
        """Disarm; True if it was pending."""
        was = timer.pending()
        timer._token = None
        return was

    def _next_wheel(self) -> int | None:
        wheel = self._wheel
        while wheel and wheel[0][3]._token != abs(wheel[0][2]):
            heapq.heappop(wheel)  # deleted or re-armed meanwhile
        return wheel[0][0] if wheel else None

    def run_timers(self) -> Context:
        """The TIMER softirq: every timer whose jiffy has come."""
        cpu = self._cpu
        jiffies = cpu.jiffies()
        while True:
            due = self._next_wheel()
            if due is None or due > jiffies:
                break
            timer = heapq.heappop(self._wheel)[3]
            timer._token = None
            cpu.words[_TIMERS_RUN] += 1
            cpu.trace(_EXPIRE, jiffies)
            context = timer.function(cpu)
            if context is not None:
                yield from context
            yield
        self.program()

    # -- hrtimers

    def hrtimer_start(self, timer: HrTimer, expires_ns: int) -> None:
        """Arm for an absolute time of this CPU's clock."""
        self._order += 1
        timer.expires_ns = expires_ns
        timer._token = self._order
        heapq.heappush(self._hr, (expires_ns, self._order, timer))
        self.program()

    def hrtimer_cancel(self, timer: HrTimer) -> bool:
        was = timer.pending()
        timer._token = None
        return was

    def _next_hr(self) -> int | None:
        heap = self._hr
        while heap and heap[0][2]._token != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    # -- the local timer interrupt

    def interrupt(self) -> None:
        """Body of the local timer's handler: hrtimers, then the tick if one is due."""
        cpu = self._cpu
        now = cpu.now()
        while True:
            due = self._next_hr()
            if due is None or due > now:
                break
            timer = heapq.heappop(self._hr)[2]
            timer._token = None
            cpu.trace(_HREXPIRE, due)
            timer.function(cpu)
        if self.tick_running and now >= self._next_tick_ns:
            self._next_tick_ns = self._tick_after(now)
            self._run_local_timers()
            cpu.rcu.sched_clock_irq()
            scheduler_tick(cpu)
            cpu.watchdog.tick(now)
        elif not self.tick_running:
            self._run_local_timers()
            cpu.rcu.sched_clock_irq()
        self.program()

    def _run_local_timers(self) -> None:
        cpu = self._cpu
        due = self._next_wheel()
        if self._every_tick or (due is not None and due <= cpu.jiffies()):
            cpu.softirq.raise_irqoff(TIMER_SOFTIRQ)

    def _tick_after(self, now: int) -> int:
        boot = self._cpu.ram.boot_ns
        return boot + ((now - boot) // self._ns_per_jiffy + 1) * self._ns_per_jiffy

    def _jiffy_ns(self, jiffy: int) -> int:
        """Clock at which jiffies becomes ``jiffy``."""
        hz = self._cpu.params.hz
        return self._cpu.ram.boot_ns + (jiffy * 1_000_000_000 + hz - 1) // hz

    def enter_idle(self) -> None:
        """tick_nohz_idle_enter: no tick while there is nothing to run and RCU has no callbacks."""
        if self._cpu.rcu.callbacks:
            self.leave_idle()
        elif self.tick_running:
            self.tick_running = False
            self.program()

    def leave_idle(self) -> None:
        """tick_nohz_idle_exit."""
        if not self.tick_running:
            self.tick_running = True
            now = self._cpu.now()
            self._next_tick_ns = self._tick_after(now)
            self._cpu.watchdog.leave_idle(now)
            self.program()

    def program(self) -> None:
        """Write the local APIC's deadline: the earliest thing that is due."""
        deadline = self._next_hr()
        if self.tick_running:
            if deadline is None or self._next_tick_ns < deadline:
                deadline = self._next_tick_ns
        elif not self._cpu.softirq.pending >> TIMER_SOFTIRQ & 1:  # else it is being seen to
            jiffy = self._next_wheel()
            if jiffy is not None:
                at = self._jiffy_ns(jiffy)
                if deadline is None or at < deadline:
                    deadline = at
        self._cpu.lapic.deadline_ns = deadline


def msecs_to_jiffies(cpu: Cpu, ms: int) -> int:
    """Rounded up, as the kernel does."""
    return (ms * cpu.params.hz + 999) // 1000


def _waker(task: Task) -> Callable[[Cpu], None]:
    def wake(cpu: Cpu) -> None:
        wake_up_process(cpu, task)

    return wake


def schedule_hrtimeout(cpu: Cpu, expires_ns: int | None) -> Context:
    """Sleep until woken or until the absolute time; the caller has set its state before."""
    task = cpu.current
    if expires_ns is None:
        yield SCHEDULE
        return
    timer = HrTimer(_waker(task))
    cpu.timers.hrtimer_start(timer, expires_ns)
    yield SCHEDULE
    if cpu.timers.hrtimer_cancel(timer):
        cpu.timers.program()
    task.state = TASK_RUNNING


def nanosleep(cpu: Cpu, duration_ns: int) -> Context:
    """Interruptible sleep of a user task."""
    end = cpu.now() + duration_ns
    while cpu.now() < end and not cpu.current.signals:
        cpu.current.state = TASK_INTERRUPTIBLE
        yield from schedule_hrtimeout(cpu, end)


def msleep(cpu: Cpu, ms: int) -> Context:
    """Uninterruptible sleep on the wheel: msecs_to_jiffies(ms) + 1 jiffies."""
    task = cpu.current
    woken = False

    def wake(cpu: Cpu) -> None:
        nonlocal woken
        woken = True
        wake_up_process(cpu, task)

    timer = Timer(wake)
    cpu.timers.mod_timer(timer, cpu.jiffies() + msecs_to_jiffies(cpu, ms) + 1)
    while not woken:
        task.state = TASK_UNINTERRUPTIBLE
        yield SCHEDULE
