"""Softirqs, after kernel/softirq.c: raising, running, and keeping them off.

A mask of pending vectors for each CPU; raised here, run here: on the way out of a hard interrupt,
when bottom halves are enabled again, or by ksoftirqd (``ksoftirqd``). Behaviours:
``softirq_restart`` (10 passes; later also 2 ms and need_resched), ``ksoftirqd_gate`` (inline
softirqs wait for a runnable ksoftirqd: always, or unless a tasklet is pending), ``softirq_leak`` (a
leaked preempt count is logged and repaired, or nobody looks). Vectors without a user here (BLOCK,
IRQ_POLL, HRTIMER) have an action that does nothing; /proc/softirqs counts it. Block devices do not
exist here, and hrtimers have no SOFT modes.

A name that begins with two underscores cannot be used inside a class body, where Python would
mangle it; import it there under another name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.percpu import (
    CONTEXT_SOFTIRQ,
    LEVEL_SOFTIRQ,
    SOFTIRQ_OFFSET,
    Context,
)
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.sched import TASK_RUNNING, Task, wake_up_process
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: The vectors that have one number in all eras; others by name: ``SoftirqState.number``.
HI_SOFTIRQ, TIMER_SOFTIRQ, NET_TX_SOFTIRQ, NET_RX_SOFTIRQ, BLOCK_SOFTIRQ = 0, 1, 2, 3, 4
MAX_SOFTIRQ_RESTART = 10
MAX_SOFTIRQ_TIME_MS = 2

_COUNT = CPU_SCHEMA.index("softirqs")
_RAISED = CPU_SCHEMA.index("softirqs_raised")
_NOW = CPU_SCHEMA.index("softirq_now")
_WAKEUPS = CPU_SCHEMA.index("ksoftirqd_wakeups")
_RESTARTS = CPU_SCHEMA.index("softirq_restarts")
_RAISE = TRACEPOINTS["softirq_raise"].number
_ENTRY = TRACEPOINTS["softirq_entry"].number
_EXIT = TRACEPOINTS["softirq_exit"].number

Action = Callable[["Cpu"], Context]


def no_action(_cpu: Cpu) -> Context:
    """Of a vector that has no user in this kernel."""
    yield from ()


class SoftirqState:
    """__softirq_pending, softirq_vec and ksoftirqd of one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        params = cpu.params
        self.pending = 0
        #: Number of each vector that the era has, by name.
        self.number = {name: number for number, name in enumerate(params.softirq_names)}
        self.actions: list[Action] = [no_action] * len(params.softirq_names)
        self.ksoftirqd: Task | None = None
        self.should_park = False  # what ksoftirqd is told: see there
        self.should_stop = False
        self.force_irqthreads = False  # threadirqs: softirqs are left to ksoftirqd
        self.timed = params.softirq_restart == "count+time"
        self.checks_count = params.softirq_leak == "repaired"
        self.gated = params.ksoftirqd_gate != "never"
        self.lifts_gate = 0  # pending bits for which the gate is open
        if params.ksoftirqd_gate == "unless-tasklet":
            self.lifts_gate = 1 << HI_SOFTIRQ | 1 << self.number["TASKLET"]
        self.time_ns = (
            (MAX_SOFTIRQ_TIME_MS * params.hz + 999) // 1000 * (1_000_000_000 // params.hz)
        )


def open_softirq(cpu: Cpu, number: int, action: Action) -> None:
    """Say what vector ``number`` does on this CPU."""
    cpu.softirq.actions[number] = action


# ---------------------------------------------------------------- raising


def __raise_softirq_irqoff(cpu: Cpu, number: int) -> None:
    """Set the bit, wake nobody; interrupts are off, or nobody else can raise it meanwhile."""
    cpu.softirq.pending |= 1 << number
    cpu.words[_RAISED + number] += 1
    if cpu.trace_mask >> _RAISE & 1:
        cpu.trace(_RAISE, number)


def raise_softirq_irqoff(cpu: Cpu, number: int) -> None:
    """Outside interrupts nobody would come by to run it: wake ksoftirqd."""
    __raise_softirq_irqoff(cpu, number)
    if not cpu.in_interrupt():
        wakeup_softirqd(cpu)


def raise_softirq(cpu: Cpu, number: int) -> None:
    """From anywhere; nothing lies between the two halves here, so IF need not be touched."""
    raise_softirq_irqoff(cpu, number)


def wakeup_softirqd(cpu: Cpu) -> None:
    ksoftirqd = cpu.softirq.ksoftirqd
    if ksoftirqd is not None and wake_up_process(cpu, ksoftirqd):
        cpu.words[_WAKEUPS] += 1


def ksoftirqd_running(cpu: Cpu) -> bool:
    """The gate: leave softirqs to a ksoftirqd that is runnable anyway."""
    softirq = cpu.softirq
    if not softirq.gated or softirq.ksoftirqd is None or softirq.pending & softirq.lifts_gate:
        return False
    return softirq.ksoftirqd.state == TASK_RUNNING and not softirq.should_park


# ---------------------------------------------------------------- running


def __do_softirq(cpu: Cpu, outer: int) -> Context:
    """Run what is pending, in passes, and go on in the context ``outer``; hard interrupts are off
    on entry and on return."""
    softirq, words = cpu.softirq, cpu.words
    cpu.enter_context(CONTEXT_SOFTIRQ)
    cpu.preempt_count += SOFTIRQ_OFFSET
    cpu.levels.append(LEVEL_SOFTIRQ)
    count = cpu.preempt_count
    end_ns = cpu.now() + softirq.time_ns
    restarts = MAX_SOFTIRQ_RESTART
    while True:
        pending, softirq.pending = softirq.pending, 0
        if cpu.lockdep is not None:
            cpu.lockdep.hardirqs_on()
        cpu.irqs_on = True
        number = 0
        while pending:
            if pending & 1:
                words[_COUNT + number] += 1
                words[_NOW] = number + 1
                if cpu.trace_mask >> _ENTRY & 1:
                    cpu.trace(_ENTRY, number)
                yield from softirq.actions[number](cpu)
                if cpu.trace_mask >> _EXIT & 1:
                    cpu.trace(_EXIT, number)
                if cpu.preempt_count != count:
                    count = _count_leaked(cpu, number, count)
            pending >>= 1
            number += 1
        words[_NOW] = 0
        cpu.irqs_on = False
        if not softirq.pending:
            break
        # the count is looked at last: an exit for time or need_resched takes none off it
        if not softirq.timed or (cpu.now() < end_ns and not cpu.need_resched):
            restarts -= 1
            if restarts:
                words[_RESTARTS] += 1
                continue
        wakeup_softirqd(cpu)
        break
    cpu.levels.pop()
    cpu.preempt_count -= SOFTIRQ_OFFSET
    cpu.enter_context(outer)


def _count_leaked(cpu: Cpu, number: int, count: int) -> int:
    """An action came back with another preempt count; returns the one that now holds."""
    if not cpu.softirq.checks_count:
        return cpu.preempt_count
    action = cpu.softirq.actions[number].__name__
    name = cpu.params.softirq_names[number]
    text = f"huh, entered softirq {number} {name} {action} with preempt_count {count:08x}"
    printk(cpu, f"{text}, exited with {cpu.preempt_count:08x}?", KERN_ERR)
    cpu.preempt_count = count
    return count


def do_softirq(cpu: Cpu) -> Context:
    """From process context: run what is pending, unless in interrupt or ksoftirqd will."""
    if cpu.in_interrupt():
        return
    if cpu.softirq.pending and not ksoftirqd_running(cpu):
        enabled, cpu.irqs_on = cpu.irqs_on, False
        yield from __do_softirq(cpu, cpu.context)
        cpu.irqs_on = enabled


def invoke_softirq(cpu: Cpu, outer: int) -> Context | tuple[()]:
    """At the end of the outermost hard interrupt, with something pending: what runs before the
    context ``outer`` goes on."""
    waits = ksoftirqd_running(cpu)
    if not waits and not cpu.softirq.force_irqthreads:
        return __do_softirq(cpu, outer)
    cpu.enter_context(outer)
    if not waits:
        wakeup_softirqd(cpu)
    return ()


# ---------------------------------------------------------------- bottom halves off


def local_bh_disable(cpu: Cpu) -> None:
    """No softirq begins on this CPU until the same number of ``local_bh_enable``; it nests."""
    if cpu.preempt_count & cpu.hardirq_mask:
        warn_once(cpu, "kernel/softirq.c")
    cpu.preempt_count += cpu.params.softirq_disable_offset


def _local_bh_enable(cpu: Cpu) -> None:
    """Enable without running anything; interrupts are off, and irq_exit will come."""
    if cpu.preempt_count & cpu.hardirq_mask or cpu.irqs_on:
        warn_once(cpu, "kernel/softirq.c")
    cpu.preempt_count -= cpu.params.softirq_disable_offset


def local_bh_enable(cpu: Cpu) -> Context:
    """Enable bottom halves again and run what was raised meanwhile."""
    if (not cpu.irqs_on or cpu.preempt_count & cpu.hardirq_mask) and _bh_enable_is_wrong(cpu):
        warn_once(cpu, "kernel/softirq.c")
    # one count stays until the softirqs are done: nobody is scheduled in between
    cpu.preempt_count -= cpu.params.softirq_disable_offset - 1
    if cpu.lockdep is not None and cpu.irqs_on and not cpu.in_softirq():
        cpu.lockdep.softirqs_on()
    if cpu.softirq.pending and not cpu.in_interrupt():
        yield from do_softirq(cpu)
    cpu.preempt_count -= 1


def _bh_enable_is_wrong(cpu: Cpu) -> bool:
    """Not in a hard interrupt, and not with interrupts off: softirqs would run there. The latter
    newer kernels say only where lockdep is on."""
    if cpu.in_irq() or cpu.params.bh_enable_irqs_off == "warn":
        return True
    return cpu.lockdep is not None and cpu.lockdep.on()
