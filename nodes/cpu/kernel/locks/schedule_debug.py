"""What schedule() does when it is called in atomic context: it says so, and does it.

The preempt count and the interrupts that stand on the task's stack go with the task and come back
with it; the CPU's other tasks run as ever, with interrupts on. So it is up to 3.12, where the count
lives in the task's thread_info; in 6.1 it is the CPU's and would be reset, which is not modelled.
The idle task cannot sleep: that CPU panics (Linux says ``bad: scheduling from the idle thread!``
and goes on, not for long).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel.bug import KernelBugError
from nodes.cpu.kernel.locks.might_sleep import schedule_bug
from nodes.cpu.kernel.percpu import CONTEXT_TASK, Context
from nodes.cpu.kernel.printk import KERN_ERR, printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.sched import Task


class SetAside(NamedTuple):
    """What a task that slept in atomic context takes with it."""

    preempt_count: int
    levels: tuple[int, ...]
    stack: tuple[Context, ...]
    saved: tuple[tuple[bool, Any], ...]
    context: int


def schedule_debug(cpu: Cpu, prev: Task) -> bool:
    """Called with a preempt count or with interrupts off; True: this CPU is about to end."""
    if cpu.preempt_count:
        schedule_bug(cpu)
    if cpu.in_nmi() or (prev is cpu.idle and cpu.preempt_count):
        if prev is cpu.idle:
            printk(cpu, "bad: scheduling from the idle thread!", KERN_ERR)
        cpu.stack.append(_die())
        cpu.saved.append((False, None))
        return True
    if cpu.preempt_count:
        prev.aside = SetAside(
            cpu.preempt_count, tuple(cpu.levels), tuple(cpu.stack), tuple(cpu.saved), cpu.context
        )
        cpu.preempt_count = 0
        for used in (cpu.levels, cpu.stack, cpu.saved):
            used.clear()
        cpu.enter_context(CONTEXT_TASK)
    cpu.irqs_on = True
    return False


def put_back(cpu: Cpu, task: Task, aside: SetAside) -> None:
    """The task has the CPU again."""
    task.aside = None
    cpu.preempt_count = aside.preempt_count
    cpu.levels[:] = aside.levels
    cpu.stack[:] = aside.stack
    cpu.saved[:] = aside.saved
    cpu.enter_context(aside.context)


def _die() -> Context:
    """An interrupt cannot go on: the core makes a panic of it."""
    yield from ()
    raise KernelBugError("schedule")
