"""Threads of interrupt lines: request_threaded_irq's other half (kernel/irq/{manage,handle}.c).

A handler that says IRQ_WAKE_THREAD sets RUNTHREAD, takes its bit of ``threads_oneshot`` and wakes
``irq/<n>-<name>``, a SCHED_FIFO task. A second wake while RUNTHREAD is set does nothing, so many
interrupts during a run are one more run. The line of a ONESHOT action stays masked until every
woken thread is done.

Forced threading (``threadirqs``): the handler itself becomes the thread_fn, and runs with bottom
halves off (6.1: hard interrupts too, ``forced_thread_irqs``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq import spurious
from nodes.cpu.kernel.irq.chip import unmask_irq
from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    IRQCHIP_EOI_THREADED,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQD_IRQ_MASKED,
    IRQF_NO_THREAD,
    IRQF_ONESHOT,
    IRQF_PERCPU,
    IRQS_ONESHOT,
    IRQTF_AFFINITY,
    IRQTF_FORCED_THREAD,
    IRQTF_READY,
    IRQTF_RUNTHREAD,
    IRQTF_WARNED,
    IrqAction,
    IrqDesc,
)
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.printk import KERN_WARNING, printk
from nodes.cpu.kernel.sched import (
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    kthread_create,
    sched_set_fifo,
    wake_up_process,
)
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Priority of an irq thread: MAX_USER_RT_PRIO / 2.
IRQ_THREAD_PRIO = 50


def irq_default_primary_handler(_irq: int, _dev_id: object) -> int:
    """For requests without a handler: wake the thread."""
    return IRQ_WAKE_THREAD


def irq_nested_primary_handler(_irq: int, _dev_id: object) -> int:
    """Of a line whose parent's thread calls its thread_fn; never run as an interrupt."""
    return IRQ_NONE


def irq_forced_secondary_handler(_irq: int, _dev_id: object) -> int:
    """Of the second half of a forced handler; never run as an interrupt."""
    return IRQ_NONE


def irq_wake_thread(cpu: Cpu, desc: IrqDesc, action: IrqAction) -> None:
    """A handler returned IRQ_WAKE_THREAD."""
    thread = action.thread
    if action.thread_fn is None or thread is None:
        if not action.thread_flags & IRQTF_WARNED:
            action.thread_flags |= IRQTF_WARNED
            text = (
                f"IRQ {desc.irq} device {action.name} returned IRQ_WAKE_THREAD "
                "but no thread function available."
            )
            printk(cpu, text, KERN_WARNING)
        return
    if thread.state == TASK_DEAD or action.thread_flags & IRQTF_RUNTHREAD:
        return
    action.thread_flags |= IRQTF_RUNTHREAD
    desc.threads_oneshot |= action.thread_mask
    desc.threads_active += 1
    wake_up_process(cpu, thread)


def setup_irq_thread(cpu: Cpu, desc: IrqDesc, action: IrqAction, secondary: bool = False) -> None:
    """Create the thread; it sleeps until the line is set up."""
    name = f"irq/{desc.irq}-{'s-' if secondary else ''}{action.name}"
    action.thread = kthread_create(cpu, name, irq_thread(cpu, desc, action))
    sched_set_fifo(action.thread, IRQ_THREAD_PRIO)
    action.thread_flags |= IRQTF_AFFINITY


def wake_up_irq_thread(cpu: Cpu, action: IrqAction) -> None:
    """The line is set up: its threads may wait for interrupts."""
    if action.thread is not None:
        action.thread_flags |= IRQTF_READY
        wake_up_process(cpu, action.thread)


def stop_irq_threads(cpu: Cpu, action: IrqAction) -> None:
    """Tell the threads of a removed action to end, where nobody can wait for it."""
    for part in (action, action.secondary):
        if part is not None and part.thread is not None:
            part.thread.should_stop = True
            wake_up_process(cpu, part.thread)


def irq_thread(cpu: Cpu, desc: IrqDesc, action: IrqAction) -> Context:
    """The thread's code."""
    while (yield from _wait_for_interrupt(cpu, action)):
        action.thread_flags &= ~IRQTF_AFFINITY  # it runs where the line is routed to
        forced = action.thread_flags & IRQTF_FORCED_THREAD
        returned: int = yield from (_forced_thread_fn if forced else _thread_fn)(cpu, desc, action)
        yield from irq_finalize_oneshot(cpu, desc, action)
        if returned == IRQ_HANDLED:
            desc.threads_handled += 1
        if returned == IRQ_WAKE_THREAD and action.secondary is not None:
            irq_wake_thread(cpu, desc, action.secondary)
        if cpu.params.spurious_threads == "thread-result":
            yield from spurious.note_interrupt(cpu, desc, returned)
        desc.threads_active -= 1
        if not desc.threads_active:
            waiters, desc.wait_for_threads = desc.wait_for_threads, []
            for task in waiters:
                wake_up_process(cpu, task)


def _wait_for_interrupt(cpu: Cpu, action: IrqAction) -> Context:
    """False: the thread is to end."""
    task = cpu.current
    while True:
        task.state = TASK_INTERRUPTIBLE
        if action.thread_flags & IRQTF_RUNTHREAD:
            action.thread_flags &= ~IRQTF_RUNTHREAD
            task.state = TASK_RUNNING
            return True
        if task.should_stop:
            task.state = TASK_RUNNING
            return False
        yield SCHEDULE


def _thread_fn(cpu: Cpu, desc: IrqDesc, action: IrqAction) -> Context:
    assert action.thread_fn is not None
    returned = action.thread_fn(desc.irq, action.dev_id)
    if not isinstance(returned, int):
        returned = yield from returned
    yield
    return returned


def _forced_thread_fn(cpu: Cpu, desc: IrqDesc, action: IrqAction) -> Context:
    """A hard handler as a thread: what it relied on is kept off."""
    local_bh_disable(cpu)
    irqs_off = cpu.params.forced_thread_irqs == "off"
    if irqs_off:
        local_irq_disable(cpu)
    returned = yield from _thread_fn(cpu, desc, action)
    if irqs_off:
        local_irq_enable(cpu)
    yield from local_bh_enable(cpu)
    return returned


def irq_finalize_oneshot(cpu: Cpu, desc: IrqDesc, action: IrqAction) -> Context:
    """This thread needs the line masked no longer, unless it was woken again meanwhile."""
    if not desc.istate & IRQS_ONESHOT or action.handler is irq_forced_secondary_handler:
        return
    while desc.state & IRQD_IRQ_INPROGRESS:
        yield
    if action.thread_flags & IRQTF_RUNTHREAD:
        return
    desc.threads_oneshot &= ~action.thread_mask
    masked = desc.state & (IRQD_IRQ_DISABLED | IRQD_IRQ_MASKED) == IRQD_IRQ_MASKED
    if not desc.threads_oneshot and masked:
        chip = desc.chip
        if chip.flags & IRQCHIP_EOI_THREADED and chip.irq_eoi is not None:
            chip.irq_eoi(cpu, desc)
        unmask_irq(cpu, desc)


def irq_setup_forced_threading(cpu: Cpu, new: IrqAction) -> None:
    """threadirqs: whatever can run as a thread does."""
    if cpu.params.threadirqs == "off" or new.handler is irq_default_primary_handler:
        return
    if new.flags & (IRQF_NO_THREAD | IRQF_PERCPU | IRQF_ONESHOT):
        return
    new.flags |= IRQF_ONESHOT
    if new.thread_fn is not None:
        if cpu.params.forced_secondary == "no":
            return
        new.secondary = IrqAction(
            irq_forced_secondary_handler, new.name, new.dev_id, thread_fn=new.thread_fn
        )
    new.thread_flags |= IRQTF_FORCED_THREAD
    new.thread_fn = new.handler
    new.handler = irq_default_primary_handler
