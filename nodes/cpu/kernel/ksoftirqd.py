"""ksoftirqd, the thread of each CPU that runs what softirqs left over: kernel/softirq.c.

One ``__do_softirq`` at a time, each with the limits of its own, giving way between them.
Behaviours: ``ksoftirqd_nice``; ``ksoftirqd_thread``: up to 3.6 a plain kthread, which waits to die
when it finds its CPU offline and is stopped then; later an smpboot thread, which is parked and
unparked. Parking and stopping are functions here; who takes a CPU offline calls them on that CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import (
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_PARKED,
    TASK_RUNNING,
    kthread_run,
    wake_up_process,
)
from nodes.cpu.kernel.softirq import __do_softirq
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_RUNS = CPU_SCHEMA.index("ksoftirqd_runs")


def run_ksoftirqd(cpu: Cpu) -> Context:
    """One round, if something is pending still when interrupts are off."""
    cpu.irqs_on = False
    if cpu.softirq.pending:
        cpu.words[_RUNS] += 1
        yield from __do_softirq(cpu, cpu.context)
    cpu.irqs_on = True
    yield
    if cpu.need_resched:
        yield SCHEDULE


def ksoftirqd(cpu: Cpu) -> Context:
    """The plain kthread, up to 3.6."""
    task, softirq = cpu.current, cpu.softirq
    while not softirq.should_stop:
        if not softirq.pending:
            task.state = TASK_INTERRUPTIBLE
            yield SCHEDULE
        elif not cpu.online:
            yield from _wait_to_die(cpu)
        else:
            yield from run_ksoftirqd(cpu)
    task.state = TASK_RUNNING


def _wait_to_die(cpu: Cpu) -> Context:
    """Its CPU is gone, and what is pending is not its business any more."""
    while not cpu.softirq.should_stop:
        cpu.current.state = TASK_INTERRUPTIBLE
        yield SCHEDULE


def smpboot_thread_fn(cpu: Cpu) -> Context:
    """The smpboot thread, 3.7 and later: stop, park, or run when it should."""
    task, softirq = cpu.current, cpu.softirq
    while not softirq.should_stop:
        if softirq.should_park:
            task.state = TASK_PARKED
            yield SCHEDULE
        elif not softirq.pending:
            task.state = TASK_INTERRUPTIBLE
            yield SCHEDULE
        else:
            yield from run_ksoftirqd(cpu)
    task.state = TASK_RUNNING


def spawn_ksoftirqd(cpu: Cpu) -> None:
    """At the CPU's start."""
    params = cpu.params
    thread = ksoftirqd if params.ksoftirqd_thread == "kthread" else smpboot_thread_fn
    name = f"ksoftirqd/{cpu.number}"
    cpu.softirq.should_stop = cpu.softirq.should_park = False
    cpu.softirq.ksoftirqd = kthread_run(cpu, name, thread(cpu), params.ksoftirqd_nice)


def ksoftirqd_park(cpu: Cpu) -> Context:
    """kthread_park, on the way down: returns when the thread has parked itself."""
    softirq = cpu.softirq
    task = softirq.ksoftirqd
    softirq.should_park = True
    while task is not None and task.state not in (TASK_PARKED, TASK_DEAD):
        wake_up_process(cpu, task)
        yield SCHEDULE


def ksoftirqd_unpark(cpu: Cpu) -> None:
    """The CPU is online again."""
    task = cpu.softirq.ksoftirqd
    cpu.softirq.should_park = False
    if task is not None:
        if task.state == TASK_PARKED:  # wake_up_state(TASK_PARKED)
            task.state = TASK_INTERRUPTIBLE
        wake_up_process(cpu, task)


def ksoftirqd_stop(cpu: Cpu) -> Context:
    """kthread_stop, when the CPU is dead: returns when the thread has ended."""
    softirq = cpu.softirq
    task = softirq.ksoftirqd
    softirq.should_stop = True
    while task is not None and task.state != TASK_DEAD:
        wake_up_process(cpu, task)
        yield SCHEDULE
    softirq.ksoftirqd = None
