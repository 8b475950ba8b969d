"""drain_workqueue and destroy_workqueue.

While a workqueue is drained only its own works may queue on it; what anybody else queues is dropped
with one warning, and stays pending. WQ_DRAINING is set on every CPU before the first flush.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_WARNING, printk
from nodes.cpu.kernel.tables import publish
from nodes.cpu.kernel.workqueue import keventd_flush
from nodes.cpu.kernel.workqueue.alloc import WQ_DRAINING, Workqueue
from nodes.cpu.kernel.workqueue.completion import ask_each, operation, signed
from nodes.cpu.kernel.workqueue.flusher import flush_workqueue
from nodes.cpu.kernel.workqueue.rescuer import end_rescuers

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Operations (``completion``).
ADD_DRAINER, NOT_DRAINED, NOT_EMPTY = 40, 41, 42


def drain_workqueue(cpu: Cpu, wq: Workqueue) -> Context:
    """Flush it until nothing is left, not even what its works queued."""
    if cpu.wq.keventd is not None:
        yield from keventd_flush.drain_workqueue(cpu, wq)
        return
    yield from ask_each(cpu, ADD_DRAINER, wq.id, 1)
    flushes = 0
    while True:
        yield from flush_workqueue(cpu, wq)
        if not any((yield from ask_each(cpu, NOT_DRAINED, wq.id))):
            break
        flushes += 1
        if flushes == 10 or (flushes % 100 == 0 and flushes <= 1000):
            text = f"drain_workqueue() isn't complete after {flushes} tries"
            printk(cpu, f"workqueue {wq.name}: {text}", KERN_WARNING)
    yield from ask_each(cpu, ADD_DRAINER, wq.id, -1)


@operation(ADD_DRAINER)
def _add_drainer(cpu: Cpu, _key: int, number: int, count: int, _c: int) -> int | None:
    wq = cpu.wq.workqueues.get(number)
    if wq is not None:
        wq.nr_drainers = max(0, wq.nr_drainers + signed(count))
        wq.flags = wq.flags | WQ_DRAINING if wq.nr_drainers else wq.flags & ~WQ_DRAINING
    return 0


@operation(NOT_DRAINED)
def _not_drained(cpu: Cpu, _key: int, number: int, _b: int, _c: int) -> int | None:
    wq = cpu.wq.workqueues.get(number)
    if wq is None:
        return 0
    parked = any(record[2] == number for record in cpu.wq.parked)
    return parked or any(pwq.nr_active or pwq.inactive_works for pwq in wq.pwqs.values())


def destroy_workqueue(cpu: Cpu, wq: Workqueue) -> Context:
    """Drain it, end its rescuers, forget it on every CPU."""
    if cpu.wq.keventd is not None:
        yield from keventd_flush.destroy_workqueue(cpu, wq)
        return
    yield from drain_workqueue(cpu, wq)
    if any((yield from ask_each(cpu, NOT_EMPTY, wq.id))):
        warn(cpu, "kernel/workqueue.c")
        return
    yield from end_rescuers(cpu, wq)
    yield from publish(cpu, "workqueue", wq.id, None)


@operation(NOT_EMPTY)
def _not_empty(cpu: Cpu, _key: int, number: int, _b: int, _c: int) -> int | None:
    """The sanity checks."""
    wq = cpu.wq.workqueues.get(number)
    if wq is None:
        return 0
    pwqs = wq.pwqs.values()
    return any(sum(pwq.nr_in_flight) or pwq.nr_active or pwq.inactive_works for pwq in pwqs)
