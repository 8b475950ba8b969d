"""Softirqs and ksoftirqd, after kernel/softirq.c.

A mask of pending vectors for each CPU; raised here, run here: on the way out of a hard interrupt,
when bottom halves are enabled again, or by ksoftirqd. Behaviours: ``softirq_restart`` (10 passes;
later also 2 ms and need_resched), ``ksoftirqd_gate`` (inline softirqs wait for a runnable
ksoftirqd), ``ksoftirqd_nice``. Tasklets come with the bottom-half issue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import (
    CONTEXT_SOFTIRQ,
    LEVEL_SOFTIRQ,
    SCHEDULE,
    SOFTIRQ_OFFSET,
    Context,
)
from nodes.cpu.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    Task,
    kthread_run,
    wake_up_process,
)
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

HI_SOFTIRQ, TIMER_SOFTIRQ, NET_TX_SOFTIRQ, NET_RX_SOFTIRQ = 0, 1, 2, 3
MAX_SOFTIRQ_RESTART = 10
MAX_SOFTIRQ_TIME_MS = 2

_PENDING = CPU_SCHEMA.index("softirq_pending")
_COUNT = CPU_SCHEMA.index("softirqs")
_RAISED = CPU_SCHEMA.index("softirqs_raised")
_NOW = CPU_SCHEMA.index("softirq_now")
_WAKEUPS = CPU_SCHEMA.index("ksoftirqd_wakeups")
_RUNS = CPU_SCHEMA.index("ksoftirqd_runs")
_RESTARTS = CPU_SCHEMA.index("softirq_restarts")
_RAISE = TRACEPOINTS["softirq_raise"].number
_ENTRY = TRACEPOINTS["softirq_entry"].number
_EXIT = TRACEPOINTS["softirq_exit"].number

Action = Callable[["Cpu"], Context]


class SoftirqState:
    """__softirq_pending, the table of actions and ksoftirqd of one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self.pending = 0
        self.actions: dict[int, Action] = {}
        self.ksoftirqd: Task | None = None
        self._timed = cpu.params.softirq_restart == "count+time"
        self._gated = cpu.params.ksoftirqd_gate == "unless-tasklet"
        tasklet = cpu.params.softirq_names.index("TASKLET")
        self._lifts_gate = 1 << HI_SOFTIRQ | 1 << tasklet
        self.time_ns = (
            (MAX_SOFTIRQ_TIME_MS * cpu.params.hz + 999) // 1000 * (1_000_000_000 // cpu.params.hz)
        )

    def open_softirq(self, number: int, action: Action) -> None:
        self.actions[number] = action

    def __raise_irqoff(self, number: int) -> None:
        cpu = self._cpu
        self.pending |= 1 << number
        cpu.words[_RAISED + number] += 1
        cpu.trace(_RAISE, number)

    def raise_only(self, number: int) -> None:
        """__raise_softirq_irqoff: set the bit, wake nobody."""
        self.__raise_irqoff(number)

    def raise_irqoff(self, number: int) -> None:
        """raise_softirq_irqoff: outside interrupts ksoftirqd must run it."""
        self.__raise_irqoff(number)
        if not self._cpu.in_interrupt():
            self.wakeup_softirqd()

    def wakeup_softirqd(self) -> None:
        if self.ksoftirqd is not None and wake_up_process(self._cpu, self.ksoftirqd):
            self._cpu.words[_WAKEUPS] += 1

    def ksoftirqd_running(self) -> bool:
        """The gate: leave softirqs to a ksoftirqd that is runnable anyway."""
        if not self._gated or self.ksoftirqd is None or self.pending & self._lifts_gate:
            return False
        return self.ksoftirqd.state == TASK_RUNNING

    def run(self) -> Context:
        """__do_softirq: hard interrupts are off on entry and on return."""
        cpu, words = self._cpu, self._cpu.words
        outer = cpu.enter_context(CONTEXT_SOFTIRQ)
        cpu.preempt_count += SOFTIRQ_OFFSET
        cpu.levels.append(LEVEL_SOFTIRQ)
        end_ns = cpu.now() + self.time_ns
        restarts = MAX_SOFTIRQ_RESTART
        while True:
            pending, self.pending = self.pending, 0
            cpu.irqs_on = True
            number = 0
            while pending:
                if pending & 1:
                    words[_COUNT + number] += 1
                    words[_NOW] = number + 1
                    cpu.trace(_ENTRY, number)
                    yield from self.actions[number](cpu)
                    cpu.trace(_EXIT, number)
                pending >>= 1
                number += 1
            words[_NOW] = 0
            cpu.irqs_on = False
            if not self.pending:
                break
            restarts -= 1
            if restarts and not (self._timed and (cpu.now() >= end_ns or cpu.need_resched)):
                words[_RESTARTS] += 1
                continue
            self.wakeup_softirqd()
            break
        cpu.levels.pop()
        cpu.preempt_count -= SOFTIRQ_OFFSET
        cpu.enter_context(outer)

    def show(self) -> None:
        self._cpu.words[_PENDING] = self.pending


def do_softirq(cpu: Cpu) -> Context:
    """From process context: run what is pending, unless in interrupt or ksoftirqd will."""
    if cpu.in_interrupt():
        return
    softirq = cpu.softirq
    if softirq.pending and not softirq.ksoftirqd_running():
        enabled, cpu.irqs_on = cpu.irqs_on, False
        yield from softirq.run()
        cpu.irqs_on = enabled


def local_bh_disable(cpu: Cpu) -> None:
    cpu.preempt_count += cpu.params.softirq_disable_offset


def local_bh_enable(cpu: Cpu) -> Context:
    """Enable bottom halves again and run what was raised meanwhile."""
    cpu.preempt_count -= cpu.params.softirq_disable_offset
    if cpu.softirq.pending and not cpu.in_interrupt():
        cpu.preempt_count += 1
        yield from do_softirq(cpu)
        cpu.preempt_count -= 1


def run_ksoftirqd(cpu: Cpu) -> Context:
    """The thread: one __do_softirq at a time, giving way between them."""
    task, softirq = cpu.current, cpu.softirq
    while True:
        if not softirq.pending:
            task.state = TASK_INTERRUPTIBLE
            yield SCHEDULE
            continue
        cpu.irqs_on = False
        if softirq.pending:
            cpu.words[_RUNS] += 1
            yield from softirq.run()
        cpu.irqs_on = True
        yield
        if cpu.need_resched:
            yield SCHEDULE


def spawn_ksoftirqd(cpu: Cpu) -> None:
    cpu.softirq.ksoftirqd = kthread_run(
        cpu, f"ksoftirqd/{cpu.number}", run_ksoftirqd(cpu), cpu.params.ksoftirqd_nice
    )
