"""High-resolution timers of one CPU: a heap of absolute expiries in ns, after kernel/hrtimer.c.

They expire in the local timer's hard interrupt (high-resolution mode). No slack between soft and
hard expiry, no SOFT modes: so the HRTIMER softirq has no user. Sleeping by the clock is here too.
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
    wake_up_process,
)
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: The last time there is: ktime_add_safe stops here (292 years).
KTIME_MAX = (1 << 63) - 1

_INIT = TRACEPOINTS["hrtimer_init"].number
_START = TRACEPOINTS["hrtimer_start"].number
_CANCEL = TRACEPOINTS["hrtimer_cancel"].number
_ENTRY = TRACEPOINTS["hrtimer_expire_entry"].number
_EXIT = TRACEPOINTS["hrtimer_expire_exit"].number
_EVENTS = 1 << _INIT | 1 << _START | 1 << _CANCEL


class HrTimer:
    """struct hrtimer: ``function(cpu)`` is a plain call in the hard interrupt."""

    __slots__ = ("_token", "expires_ns", "function", "name", "number")

    def __init__(self, function: Callable[[Cpu], None], name: str = "") -> None:
        self.function = function
        self.name = name or function.__name__
        self.number = 0  # given when it is first started
        self.expires_ns = 0
        self._token: int | None = None  # None: not pending

    def pending(self) -> bool:
        return self._token is not None


class HrtimerBase:
    """hrtimer_cpu_base: who is due, and when."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._heap: list[tuple[int, int, HrTimer]] = []  # (expiry, order of starting, timer)
        self._order = 0
        self._numbers = 0

    def trace(self, event: int, timer: HrTimer) -> None:
        cpu = self._cpu
        if cpu.trace_mask >> event & 1:
            a = trace_number(cpu, timer.number) | cpu.symbol(timer.name) << 32
            cpu.trace(event, a, timer.expires_ns)

    def start(self, timer: HrTimer, expires_ns: int) -> None:
        traced = self._cpu.trace_mask & _EVENTS
        if traced and timer._token is not None:
            self.trace(_CANCEL, timer)
        if not timer.number:
            self._numbers += 1
            timer.number = self._numbers
            if traced:
                self.trace(_INIT, timer)
        self._order += 1
        expires_ns = min(expires_ns, KTIME_MAX)
        timer.expires_ns = expires_ns
        timer._token = self._order
        heapq.heappush(self._heap, (expires_ns, self._order, timer))
        if traced:
            self.trace(_START, timer)

    def cancel(self, timer: HrTimer) -> bool:
        """Disarm; True if it was pending."""
        if timer._token is None:
            return False
        timer._token = None
        if self._cpu.trace_mask & _EVENTS:
            self.trace(_CANCEL, timer)
        return True

    def next_event(self) -> int | None:
        """Clock of the earliest expiry."""
        heap = self._heap
        while heap and heap[0][2]._token != heap[0][1]:
            heapq.heappop(heap)  # cancelled or started again meanwhile
        return heap[0][0] if heap else None

    def run(self, now: int) -> None:
        """hrtimer_interrupt: everything that is due at ``now``."""
        while (due := self.next_event()) is not None and due <= now:
            timer = heapq.heappop(self._heap)[2]
            timer._token = None
            self.trace(_CANCEL, timer)
            self.trace(_ENTRY, timer)
            timer.function(self._cpu)
            self.trace(_EXIT, timer)


def trace_number(cpu: Cpu, number: int) -> int:
    """A timer's number as trace records hold it: unique in the machine, 32 bits."""
    return cpu.number << 24 | number & 0xFF_FFFF


def hrtimer_wakeup(task: Task) -> HrTimer:
    """The timer of a sleeper."""

    def wakeup(cpu: Cpu) -> None:
        wake_up_process(cpu, task)

    return HrTimer(wakeup, "hrtimer_wakeup")


def schedule_hrtimeout(cpu: Cpu, expires_ns: int | None) -> Context:
    """Sleep until woken or until the absolute time; the caller has set its state before."""
    task = cpu.current
    if expires_ns is None:
        yield SCHEDULE
        return
    timer = hrtimer_wakeup(task)
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


def usleep_range(cpu: Cpu, least_us: int, _most_us: int) -> Context:
    """Sleep at least ``least_us``; the rest of the range is for power management."""
    end = cpu.now() + least_us * 1_000
    while cpu.now() < end:
        cpu.current.state = TASK_UNINTERRUPTIBLE
        yield from schedule_hrtimeout(cpu, end)
