"""Timers on the wheel, after kernel/timer.c: arming, deleting, running, and sleeping by jiffies.

Each CPU has its bases; a ``Timer`` belongs to the CPU whose bases it was armed on (``timer_shared``
has those that several CPUs arm). Behaviours: ``timer_wheel`` (see ``wheel``), ``timer_slack``
(2.6.35 to 4.7 round far expiries so that timers meet), ``timer_leak`` (a callback that leaks
preempt counts is a BUG or a warning), ``deferrable_timers`` (no such thing; on the same wheel but
not worth waking for; on a wheel of their own). Left out: an unpinned timer armed on an idle CPU
stays there (``timer_migration`` of later kernels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import bug, dump_stack, warn, warn_once
from nodes.cpu.kernel.hrtimer import HrTimer, nanosleep, schedule_hrtimeout, trace_number
from nodes.cpu.kernel.jiffies import (
    initial_jiffies,
    msecs_to_jiffies,
    signed_difference,
    time_before,
)
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Pause
from nodes.cpu.kernel.printk import KERN_ERR, KERN_WARNING, printk
from nodes.cpu.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    wake_up_process,
)
from nodes.cpu.kernel.wheel import CascadingWheel, HierarchicalWheel, Slot, Wheel, wheel_depth
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.timer_shared import SharedTimer

__all__ = [
    "HrTimer", "Timer", "TimerBases", "msecs_to_jiffies", "msleep", "nanosleep",
    "schedule_hrtimeout", "schedule_timeout", "timer_setup",
]  # fmt: skip

TIMER_DEFERRABLE, TIMER_PINNED, TIMER_IRQSAFE = 0x80000, 0x100000, 0x200000
MAX_SCHEDULE_TIMEOUT = (1 << 63) - 1
#: del_timer_sync looks again after this long.
SPIN_NS = 2_000

_TIMERS_RUN = CPU_SCHEMA.index("timers_run")
_INIT = TRACEPOINTS["timer_init"].number
_START = TRACEPOINTS["timer_start"].number
_CANCEL = TRACEPOINTS["timer_cancel"].number
_ENTRY = TRACEPOINTS["timer_expire_entry"].number
_EXIT = TRACEPOINTS["timer_expire_exit"].number

#: Kernel file of each wheel, for what is logged.
_SOURCE = {"cascading": "kernel/timer.c", "hierarchical": "kernel/time/timer.c"}


class Timer:
    """struct timer_list: ``function(cpu)`` is a context (or a plain call) in the TIMER softirq.

    Made like this it is a static one, DEFINE_TIMER; ``timer_setup`` makes the others."""

    __slots__ = (
        "deferrable", "entry", "expires", "flags", "function", "index", "name", "number", "slack",
    )  # fmt: skip

    def __init__(
        self, function: Callable[[Cpu], Context | None], flags: int = 0, name: str = ""
    ) -> None:
        self.function = function
        self.flags = flags
        self.name = name or function.__name__
        self.number = 0  # of its CPU, given when it is first used
        self.expires = 0  # jiffies, as asked for
        self.slack = -1  # jiffies that it may be late; -1: a 256th of the distance
        self.deferrable = bool(flags & TIMER_DEFERRABLE)
        self.entry: Slot | None = None  # the slot that holds it; None: not pending
        self.index = 0  # of that slot

    def pending(self) -> bool:
        return self.entry is not None


def timer_setup(
    cpu: Cpu, function: Callable[[Cpu], Context | None], flags: int = 0, name: str = ""
) -> Timer:
    """A timer that is initialised at run time."""
    timer = Timer(function, flags, name)
    cpu.timers.init_timer(timer)
    return timer


class TimerBases:
    """The timer bases of one CPU. ``Timers`` (tick) says what makes the CPU look at them."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        params = cpu.params
        start = initial_jiffies(params.hz)
        self._source = _SOURCE[params.timer_wheel]
        self._hierarchical = params.timer_wheel == "hierarchical"
        self._slack = params.timer_slack != "none"
        self.standard: Wheel = self._new_wheel(start)
        self.deferrable: Wheel | None = None
        if params.deferrable_timers == "own-base":
            self.deferrable = self._new_wheel(start)
        self.running_timer: Timer | None = None
        self.shared: dict[int, SharedTimer] = {}  # by number: timer_shared
        self._numbers = 0

    def _new_wheel(self, clk: int) -> Wheel:
        if self._hierarchical:
            return HierarchicalWheel(clk, wheel_depth(self._cpu.params.hz))
        return CascadingWheel(clk)

    def program(self) -> None:
        """Write the local APIC's deadline."""

    # -- arming

    def init_timer(self, timer: Timer) -> None:
        """Give the timer its number."""
        self._numbers += 1
        timer.number = self._numbers
        if self._cpu.params.deferrable_timers == "none":
            timer.deferrable = False
        self._trace(_INIT, timer, 0)

    def add_timer(self, timer: Timer) -> None:
        """Arm an inactive timer for its ``expires``; BUG if it is pending."""
        if timer.entry is not None:
            raise bug(self._cpu, self._source)
        self.mod_timer(timer, timer.expires)

    def add_timer_on(self, timer: Timer, number: int) -> None:
        """Arm on CPU ``number``, exactly. A ``Timer`` is known to its own CPU only, so that is the
        only number allowed; ``timer_shared.add_timer_on`` reaches others."""
        if timer.entry is not None or number != self._cpu.number:
            raise bug(self._cpu, self._source)
        self._mod_timer(timer, timer.expires)

    def mod_timer(self, timer: Timer, expires: int) -> bool:
        """Arm (or re-arm) for jiffy ``expires``; True if it was pending."""
        expires = self._apply_slack(timer, expires)
        if timer.entry is not None and timer.expires == expires:
            return True
        return self._mod_timer(timer, expires)

    def mod_timer_pending(self, timer: Timer, expires: int) -> bool:
        """Re-arm a pending timer; False, and nothing done, if it is not."""
        return timer.entry is not None and self._mod_timer(timer, expires)

    def mod_timer_pinned(self, timer: Timer, expires: int) -> bool:
        """As ``mod_timer``, for this CPU and exactly."""
        if timer.entry is not None and timer.expires == expires:
            return True
        return self._mod_timer(timer, expires)

    def timer_reduce(self, timer: Timer, expires: int) -> bool:
        """Arm, or make a pending timer earlier, never later."""
        if timer.entry is not None and not time_before(expires, timer.expires):
            return True
        return self._mod_timer(timer, expires)

    def set_timer_slack(self, timer: Timer, slack: int) -> None:
        """Jiffies that this timer may be late; 0: none, -1: a 256th of the distance."""
        timer.slack = slack

    def _apply_slack(self, timer: Timer, expires: int) -> int:
        """The jiffy with the most trailing zeros that is not too late."""
        if not self._slack:
            return expires
        if timer.slack >= 0:
            limit = expires + timer.slack
        else:
            distance = signed_difference(expires, self._cpu.jiffies())
            if distance < 256:
                return expires
            limit = expires + distance // 256
        differ = expires ^ limit
        if not differ:
            return expires
        return limit & ~((1 << (differ.bit_length() - 1)) - 1)

    def _mod_timer(self, timer: Timer, expires: int) -> bool:
        """__mod_timer."""
        if not timer.number:
            self._numbers += 1
            timer.number = self._numbers
        wheel = self._wheel_of(timer)
        pending = timer.entry is not None
        if isinstance(wheel, HierarchicalWheel):
            if pending and timer.expires == expires:
                return True
            wheel.forward(self._cpu.jiffies())
            if pending and wheel.holds(timer) and wheel.locate(expires)[0] == timer.index:
                timer.expires = expires  # the same bucket: nothing to move
                return True
        if pending:
            wheel.remove(timer)
            self._trace(_CANCEL, timer, 0)
        timer.expires = expires
        wheel.add(timer)
        self._trace(_START, timer, expires)
        self.program()
        return pending

    def _wheel_of(self, timer: Timer) -> Wheel:
        if timer.deferrable and self.deferrable is not None:
            return self.deferrable
        return self.standard

    # -- deleting

    def del_timer(self, timer: Timer) -> bool:
        """Disarm; True if it was pending. Does not wait for a callback that runs."""
        if timer.entry is None:
            return False
        self._wheel_of(timer).remove(timer)
        self._trace(_CANCEL, timer, 0)
        return True

    def try_to_del_timer_sync(self, timer: Timer) -> int:
        """As ``del_timer``, or -1 if the callback is running."""
        if self.running_timer is timer:
            return -1
        return int(self.del_timer(timer))

    def del_timer_sync(self, timer: Timer) -> Context:
        """Disarm and wait for a running callback; from that callback itself it never returns."""
        cpu = self._cpu
        if cpu.in_irq() and not timer.flags & TIMER_IRQSAFE:
            warn(cpu, self._source)
        while (was := self.try_to_del_timer_sync(timer)) < 0:
            yield Pause(cpu.now() + SPIN_NS)
        return was

    # -- running

    def run_timer_softirq(self) -> Context:
        """The TIMER softirq: every timer whose jiffy has come."""
        yield from self._run_timers(self.standard)
        if self.deferrable is not None:
            yield from self._run_timers(self.deferrable)
        self.program()

    def _run_timers(self, wheel: Wheel) -> Context:
        """__run_timers: one jiffy after the other, up to now."""
        cpu = self._cpu
        while wheel.due(jiffies := cpu.jiffies()):
            for slot in wheel.collect(jiffies):
                while slot:
                    number = next(reversed(slot) if wheel.newest_first else iter(slot))
                    timer = slot[number]
                    assert isinstance(timer, Timer)
                    wheel.remove(timer)
                    self._trace(_CANCEL, timer, 0)
                    self.running_timer = timer
                    yield from self.call_timer_fn(timer, wheel.clk - 1)
                    self.running_timer = None
                    yield

    def call_timer_fn(self, timer: Timer, base_clk: int) -> Context:
        """One callback, with interrupts on unless it is IRQSAFE; it must keep the preempt count."""
        cpu = self._cpu
        count = cpu.preempt_count
        cpu.words[_TIMERS_RUN] += 1
        if timer.flags & TIMER_IRQSAFE:
            cpu.irqs_on = False
        self._trace(_ENTRY, timer, base_clk)
        context = timer.function(cpu)
        if context is not None:
            yield from context
        self._trace(_EXIT, timer, 0)
        cpu.irqs_on = True
        if cpu.preempt_count == count:
            return
        if cpu.params.timer_leak == "bug":
            text = f"huh, entered {timer.name} with preempt_count {count:08x}, exited with"
            printk(cpu, f"{text} {cpu.preempt_count:08x}?", KERN_WARNING)
            raise bug(cpu, self._source)
        text = f"timer: {timer.name} preempt leak: {count:08x} -> {cpu.preempt_count:08x}"
        warn_once(cpu, self._source, text)
        cpu.preempt_count = count

    def pending_timers(self) -> list[Timer]:
        """What is armed here, in the order in which a dead CPU's timers are moved."""
        found = self.standard.timers()
        if self.deferrable is not None:
            found += self.deferrable.timers()
        return [timer for timer in found if isinstance(timer, Timer)]

    def timer_softirq_due(self, jiffies: int) -> bool:
        """run_local_timers of the eras that look: has a base something to do?"""
        return self.standard.due(jiffies) or (
            self.deferrable is not None and self.deferrable.due(jiffies)
        )

    def _trace(self, event: int, timer: Timer, b: int) -> None:
        cpu = self._cpu
        if cpu.trace_mask >> event & 1:
            flags = timer.flags >> 19 & 7  # DEFERRABLE, PINNED, IRQSAFE
            a = trace_number(cpu, timer.number) | cpu.symbol(timer.name) << 32
            cpu.trace(event, a | flags << 48 | (timer.index & 0x3FF) << 52, b)


# ---------------------------------------------------------------- sleeping


def schedule_timeout(cpu: Cpu, timeout: int) -> Context:
    """Sleep up to ``timeout`` jiffies; the caller has set its state. Returns what is left."""
    task = cpu.current
    if timeout == MAX_SCHEDULE_TIMEOUT:
        yield SCHEDULE
        return timeout
    if timeout < 0:
        value = timeout & (1 << 64) - 1
        printk(cpu, f"schedule_timeout: wrong timeout value {value:x}", KERN_ERR)
        dump_stack(cpu)
        task.state = TASK_RUNNING
        return 0

    def process_timeout(cpu: Cpu) -> None:
        wake_up_process(cpu, task)

    expire = cpu.jiffies() + timeout
    timer = timer_setup(cpu, process_timeout)
    cpu.timers.mod_timer_pinned(timer, expire)  # no slack
    yield SCHEDULE
    cpu.timers.del_timer(timer)
    return max(0, signed_difference(expire, cpu.jiffies()))


def schedule_timeout_interruptible(cpu: Cpu, timeout: int) -> Context:
    cpu.current.state = TASK_INTERRUPTIBLE
    return (yield from schedule_timeout(cpu, timeout))


def schedule_timeout_uninterruptible(cpu: Cpu, timeout: int) -> Context:
    cpu.current.state = TASK_UNINTERRUPTIBLE
    return (yield from schedule_timeout(cpu, timeout))


def msleep(cpu: Cpu, ms: int) -> Context:
    """Uninterruptible sleep: msecs_to_jiffies(ms) + 1 jiffies."""
    timeout = msecs_to_jiffies(cpu, ms) + 1
    while timeout:
        timeout = yield from schedule_timeout_uninterruptible(cpu, timeout)
