"""Calling a function on other CPUs and waiting for it, after kernel/smp.c.

Behaviour ``call_function``:

* *call_data* (2.6.18): one call in the whole machine at a time, under call_lock; the sender always
  waits until every target has started, and with ``wait`` until they are done; no check whether a
  target is online; the vector is the same for one and for many;
* *call_queue* (3.10): a queue and a csd for each CPU, the csd released after the function;
* *llist* (6.1): as before, but synchronous calls run first, an asynchronous csd is released before
  the function, and only CPUs whose queue was empty get an IPI of a call to many.

Functions are known by number (``smp.remote_function``); they run in the hard interrupt with
interrupts off, and must not sleep. Each function here is a context of the sender, which keeps its
CPU: interrupts come through if they are on, so that two CPUs may call each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn, warn_once
from nodes.cpu.kernel.csd import csd_lock_wait
from nodes.cpu.kernel.ipi import send_ipi, send_ipi_mask
from nodes.cpu.kernel.irqflags import local_irq_restore, local_irq_save
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import (
    CALL_FINISHED,
    CALL_LOCK,
    CALL_STARTED,
    CFD,
    CSD_DATA,
    CSD_GLOBAL,
    CSD_ON_STACK,
    CSD_TYPE_SYNC,
    CSD_USE_SHIFT,
    ENXIO,
    REMOTE_FUNCTIONS,
    function_name,
    queue_call,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

EBUSY = 16


def smp_call_function_single(
    cpu: Cpu, target: int, function: int, arguments: Sequence[int] = (), *, wait: bool
) -> Context:
    """Run ``function`` on CPU ``target``; returns 0, -ENXIO (offline) or -EBUSY (2.6.18: itself).

    Without ``wait`` the CPU's one csd is used: this call waits until the last one released it."""
    if not cpu.irqs_on:
        warn_once(cpu, "kernel/smp.c")  # two that do this to each other wait for ever
    if cpu.params.call_function == "call_data":
        if target == cpu.number:
            warn(cpu, "arch/x86_64/kernel/smp.c")
            return -EBUSY
        yield from _call_data(cpu, [target], function, arguments, wait)
        return 0
    if cpu.params.call_function == "llist" and not cpu.in_task():
        warn_once(cpu, "kernel/smp.c", "smp_call_function_single outside a task")
    if target == cpu.number:
        yield from _run_local(cpu, function, arguments)
        return 0
    if target not in cpu.online_cpus:
        return -ENXIO
    if wait:
        yield from _enqueue(cpu, target, CSD_ON_STACK, function, arguments, CSD_TYPE_SYNC)
        yield from _wait(cpu, target, CSD_ON_STACK, function)
        return 0
    queues = cpu.call
    while queues.csd_target >= 0 and _locked(cpu, queues.csd_target, CSD_DATA):
        yield from _wait(cpu, queues.csd_target, CSD_DATA, queues.csd_function)
    queues.csd_target, queues.csd_function = target, function
    yield from _enqueue(cpu, target, CSD_DATA, function, arguments, 0)
    return 0


def smp_call_function_many(
    cpu: Cpu, mask: Collection[int], function: int, arguments: Sequence[int] = (), *, wait: bool
) -> Context:
    """Run ``function`` on the online CPUs of ``mask``, without this one."""
    targets = [n for n in cpu.online_cpus if n in mask and n != cpu.number]
    if cpu.params.call_function == "call_data":
        if not cpu.irqs_on:
            warn_once(cpu, "arch/x86_64/kernel/smp.c")
        if targets:
            yield from _call_data(cpu, targets, function, arguments, wait)
        return
    if len(targets) == 1:
        yield from smp_call_function_single(cpu, targets[0], function, arguments, wait=wait)
        return
    yield from _enqueue_many(cpu, targets, function, arguments, wait)
    if wait:
        for target in targets:
            yield from _wait(cpu, target, CFD, function)


def _enqueue_many(
    cpu: Cpu, targets: Sequence[int], function: int, arguments: Sequence[int], wait: bool
) -> Context:
    if not cpu.irqs_on:
        warn_once(cpu, "kernel/smp.c")
    sync = CSD_TYPE_SYNC if wait else 0
    idle = []
    for target in targets:
        while _locked(cpu, target, CFD):
            yield from _wait(cpu, target, CFD, function)
        use = cpu.ram.csd_ring(cpu.number, target).take_slot(CFD)
        flags = CFD | sync | use << CSD_USE_SHIFT
        if (yield from queue_call(cpu, target, [function, *arguments], flags)):
            idle.append(target)
    params = cpu.params
    if params.call_function == "llist":
        targets = idle
        if len(targets) == 1:
            send_ipi(cpu, targets[0], params.call_function_single_vector)
            return
    if targets:
        send_ipi_mask(cpu, targets, params.call_function_vector)


def smp_call_function(
    cpu: Cpu, function: int, arguments: Sequence[int] = (), *, wait: bool
) -> Context:
    """Run ``function`` on every other online CPU; returns 0."""
    yield from smp_call_function_many(cpu, cpu.online_cpus, function, arguments, wait=wait)
    return 0


def on_each_cpu(cpu: Cpu, function: int, arguments: Sequence[int] = (), *, wait: bool) -> Context:
    """Run ``function`` on all online CPUs, on this one with interrupts off."""
    others = [n for n in cpu.online_cpus if n != cpu.number]
    if cpu.params.call_function == "llist" and len(others) > 1:
        yield from _enqueue_many(cpu, others, function, arguments, wait)
        yield from _run_local(cpu, function, arguments)  # while the others run it too
        if wait:
            for target in others:
                yield from _wait(cpu, target, CFD, function)
        return
    yield from smp_call_function(cpu, function, arguments, wait=wait)
    yield from _run_local(cpu, function, arguments)


# -- csd


def _locked(cpu: Cpu, target: int, slot: int) -> bool:
    ring = cpu.ram.csd_ring(cpu.number, target)
    return ring.slot_use(slot) > ring.given_back(slot)


def _enqueue(
    cpu: Cpu, target: int, slot: int, function: int, arguments: Sequence[int], sync: int
) -> Context:
    """Lock the slot, queue the call, and announce it if nobody else did."""
    use = cpu.ram.csd_ring(cpu.number, target).take_slot(slot)
    flags = slot | sync | use << CSD_USE_SHIFT
    if (yield from queue_call(cpu, target, [function, *arguments], flags)):
        send_ipi(cpu, target, cpu.params.call_function_single_vector)


def _wait(cpu: Cpu, target: int, slot: int, function: int) -> Context:
    """csd_lock_wait for the use that was made of the slot last."""
    ring = cpu.ram.csd_ring(cpu.number, target)
    use = ring.slot_use(slot)
    yield from csd_lock_wait(
        cpu, target, function_name, function, lambda: ring.given_back(slot) < use
    )


def _run_local(cpu: Cpu, function: int, arguments: Sequence[int]) -> Context:
    flags = local_irq_save(cpu)
    context = REMOTE_FUNCTIONS[function](cpu, cpu.number, [function, *arguments])
    if context is not None:
        yield from context
    local_irq_restore(cpu, flags)


# -- 2.6.18


def _call_data(
    cpu: Cpu, targets: Sequence[int], function: int, arguments: Sequence[int], wait: bool
) -> Context:
    """One call in the machine at a time; a CPU that died with call_lock held ends all of them."""
    atomics, first = cpu.ram.atomics, targets[0]
    while atomics.test_and_set(CALL_LOCK):
        yield from csd_lock_wait(
            cpu, first, function_name, function, lambda: atomics.load(CALL_LOCK) != 0
        )
    atomics.store(CALL_STARTED, 0)
    atomics.store(CALL_FINISHED, 0)
    flags = CSD_GLOBAL | (CSD_TYPE_SYNC if wait else 0)
    for target in targets:
        yield from queue_call(cpu, target, [function, *arguments], flags)
    if len(targets) > 1:
        send_ipi_mask(cpu, targets, cpu.params.call_function_vector)
    else:
        send_ipi(cpu, first, cpu.params.call_function_vector)
    yield from _wait_for_all(cpu, CALL_STARTED, targets, function)
    if wait:
        yield from _wait_for_all(cpu, CALL_FINISHED, targets, function)
    atomics.release(CALL_LOCK)


def _wait_for_all(cpu: Cpu, word: int, targets: Sequence[int], function: int) -> Context:
    atomics, count = cpu.ram.atomics, len(targets)
    yield from csd_lock_wait(
        cpu, targets[0], function_name, function, lambda: atomics.load(word) < count
    )
