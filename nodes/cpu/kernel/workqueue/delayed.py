"""Delayed works: a timer that any CPU may arm, delete or inherit, and then __queue_work.

What delayed_work remembers for its timer (workqueue and CPU asked for) is an atomic word, because
the timer may go off on another CPU than the one that armed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.timer import TIMER_IRQSAFE
from nodes.cpu.kernel.timer_shared import add_timer_on, mod_timer, shared_timer_setup
from nodes.cpu.kernel.workqueue.alloc import Workqueue
from nodes.cpu.kernel.workqueue.grab import cancel_delayed_work, try_to_grab_pending
from nodes.cpu.kernel.workqueue.queue import WORK_CPU_UNBOUND, __queue_work
from nodes.cpu.kernel.workqueue.work import DelayedWork, test_and_set_pending

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_CPU_BITS, _CPU_MASK = 16, 0xFFFF


def INIT_DELAYED_WORK(
    cpu: Cpu, number: int, name: str, function: Callable[[Cpu], Context], flags: int = 0
) -> DelayedWork:
    """As INIT_WORK, with a timer; ``flags`` are the timer's (TIMER_DEFERRABLE)."""
    dwork = DelayedWork(number, name, function)
    irqsafe = 0 if cpu.wq.keventd is not None else TIMER_IRQSAFE
    dwork.timer = shared_timer_setup(
        cpu,
        lambda cpu: delayed_work_timer_fn(cpu, dwork),
        words.DELAYED_WORK_TIMER + number - words.WORK,
        flags | irqsafe,
        "delayed_work_timer_fn",
    )
    dwork.timer.watch = lambda timer, armed: cpu.wq.rows.timer(timer, name, armed)
    cpu.wq.works[number] = cpu.wq.delayed_works[number] = dwork
    cpu.wq.unpark()
    return dwork


def _remembered(work: DelayedWork) -> int:
    return words.DELAYED_WORK + work.number - words.WORK


def queue_delayed_work_on(
    cpu: Cpu, target: int, wq: Workqueue, dwork: DelayedWork, delay: int
) -> Context:
    """Queue on CPU ``target`` after ``delay`` jiffies; False if it was pending already."""
    if test_and_set_pending(cpu, dwork):
        return False
    yield from _queue_delayed_work(cpu, target, wq, dwork, delay)
    return True


def queue_delayed_work(cpu: Cpu, wq: Workqueue, dwork: DelayedWork, delay: int) -> Context:
    """Queue after ``delay`` jiffies, where its timer goes off; False if it was pending."""
    return queue_delayed_work_on(cpu, WORK_CPU_UNBOUND, wq, dwork, delay)


def schedule_delayed_work(cpu: Cpu, dwork: DelayedWork, delay: int) -> Context:
    return queue_delayed_work(cpu, cpu.wq.system_wq, dwork, delay)


def schedule_delayed_work_on(cpu: Cpu, target: int, dwork: DelayedWork, delay: int) -> Context:
    return queue_delayed_work_on(cpu, target, cpu.wq.system_wq, dwork, delay)


def mod_delayed_work_on(
    cpu: Cpu, target: int, wq: Workqueue, dwork: DelayedWork, delay: int
) -> Context:
    """Take it off its timer or worklist, and queue with a new delay; True if it was pending."""
    if cpu.wq.keventd is not None:
        pending = yield from cancel_delayed_work(cpu, dwork)
        queued = yield from queue_delayed_work_on(cpu, target, wq, dwork, delay)
        return pending or not queued
    grabbed: int = yield from try_to_grab_pending(cpu, dwork)
    if grabbed >= 0:
        yield from _queue_delayed_work(cpu, target, wq, dwork, delay)
    return grabbed != 0  # also true, and not queued, while somebody cancels it


def mod_delayed_work(cpu: Cpu, wq: Workqueue, dwork: DelayedWork, delay: int) -> Context:
    return mod_delayed_work_on(cpu, WORK_CPU_UNBOUND, wq, dwork, delay)


def _queue_delayed_work(
    cpu: Cpu, target: int, wq: Workqueue, dwork: DelayedWork, delay: int
) -> Context:
    """__queue_delayed_work; the caller has PENDING."""
    if delay == 0:
        yield from __queue_work(cpu, target, wq, dwork)
        return
    cpu.ram.atomics.store(_remembered(dwork), wq.id << _CPU_BITS | target)
    expires = cpu.jiffies() + delay
    if target == WORK_CPU_UNBOUND:
        mod_timer(cpu, dwork.timer, expires)
    else:
        yield from add_timer_on(cpu, dwork.timer, _timer_cpu(cpu, target), expires)


def _timer_cpu(cpu: Cpu, target: int) -> int:
    """The timer cannot be on an offline CPU, the work can be for one."""
    return target if target in cpu.online_cpus else cpu.number


def delayed_work_timer_fn(cpu: Cpu, dwork: DelayedWork) -> Context:
    """The timer: queue it, here unless a CPU was asked for. keventd's knows only where it fires."""
    remembered = cpu.ram.atomics.load(_remembered(dwork))
    wq = cpu.wq.workqueues[remembered >> _CPU_BITS]
    target = remembered & _CPU_MASK if cpu.wq.keventd is None else WORK_CPU_UNBOUND
    yield from __queue_work(cpu, target, wq, dwork)


def delayed_for(cpu: Cpu, dwork: DelayedWork) -> str:
    """Name of the workqueue that its timer queues it on."""
    wq = cpu.wq.workqueues.get(cpu.ram.atomics.load(_remembered(dwork)) >> _CPU_BITS)
    return wq.name if wq is not None else ""
