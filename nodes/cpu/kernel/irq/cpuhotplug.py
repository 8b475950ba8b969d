"""Interrupts of a CPU that goes offline: kernel/irq/cpuhotplug.c, fixup_irqs of arch/x86.

Two halves. ``irq_migrate_all_off`` (boot CPU, a task): refuse if the others have too few vectors
(behaviour ``offline_vectors``), give each line of the dying CPU a place on one that stays, in its
affinity if that has a CPU left, else anywhere. ``fixup_irqs`` (dying CPU, interrupts off): move the
lines now, wait a millisecond for what was under way, and send what is latched in the local APIC
once more at the new place, before the slots are free. 2.6.18 looks at no IRR: it lets interrupts in
for that millisecond.

The caller takes the CPU out of the online masks: after ``fixup_irqs``, for its records must be
taken; and it switches the local APIC off, in whose IRR the latched vectors stay.
"""

from __future__ import annotations

from errno import ENOSPC
from typing import TYPE_CHECKING

from nodes.cpu.kernel.delay import mdelay
from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.ipi import send_ipi
from nodes.cpu.kernel.irq.affinity import IrqAffinity, begin_move, online_mask
from nodes.cpu.kernel.irq.migration import (
    BOOT_CPU,
    CANCEL,
    CLEANUP,
    FREED,
    RESEND,
    hand_over,
    move_masked_irq,
    tell,
)
from nodes.cpu.kernel.irq.system_vectors import IRQ_MOVE_CLEANUP_VECTOR
from nodes.cpu.kernel.irq.vector import cpus_of
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_CRIT, KERN_NOTICE, printk
from nodes.cpu.kernel.smp import flush_records, queue_record

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

SETTLE_NS = 50_000
DRAIN_MS = 1


def irq_migrate_all_off(cpu: Cpu, dying: int) -> Context:
    """Prepare every line of ``dying`` to move; 0, or -ENOSPC and nothing has changed."""
    left = online_mask(cpu) & ~(1 << dying)
    irqs = [irq for irq in sorted(cpu.affinity.irqs) if irq in cpu.irq.desc]
    here = [irq for irq in irqs if cpu.affinity.irqs[irq].target == dying]
    if cpu.params.offline_vectors == "checked":
        free = sum(cpu.vectors.available[number] for number in cpus_of(left))
        if len(here) > free:
            text = f"CPU {dying} has {len(here)} vectors, {free} available. Cannot disable CPU"
            printk(cpu, text, KERN_CRIT)
            return -ENOSPC
    for irq in irqs:
        state = cpu.affinity.irqs[irq]
        if state.target == dying or (state.move is not None and state.move.target == dying):
            yield from _settle(cpu, irq, state)
        if state.target != dying:
            continue
        state.pending = state.affinity
        if not state.affinity & left:
            state.pending = left
            said = cpu.params.affinity_broken_log
            if said != "none":
                printk(cpu, f"{said.capitalize()} affinity for irq {irq}", KERN_NOTICE)
        yield from begin_move(cpu, irq, state, left)
    return 0


def _settle(cpu: Cpu, irq: int, state: IrqAffinity) -> Context:
    """irq_force_complete_move: no move of the line is under way any more; what was asked for last
    is what counts."""
    wanted = state.pending
    state.pending = None
    move = state.move
    if move is not None and not move.made:
        yield from tell(cpu, state.target, [CANCEL, irq, move.serial])
    elif move is not None:
        old = next(cpus_of(cpu.vectors.cfg[irq].old_domain), BOOT_CPU)
        yield from queue_record(cpu, old, [CLEANUP, irq, move.serial])
        send_ipi(cpu, old, IRQ_MOVE_CLEANUP_VECTOR)
    while state.move is not None:
        yield from nanosleep(cpu, SETTLE_NS)
    if wanted is not None:
        state.affinity = wanted


def fixup_irqs(cpu: Cpu) -> Context:
    """On the dying CPU: its lines go now."""
    yield from flush_records(cpu)  # what the boot CPU has prepared
    to_free: list[tuple[int, int]] = []
    for irq in sorted(cpu.irq.desc):
        desc = cpu.irq.desc[irq]
        motion = desc.motion
        if desc.target != cpu.number or motion is None or motion.target < 0:
            continue
        if motion.cleanup:
            to_free.append((irq, motion.serial))
        if not motion.written:
            move_masked_irq(cpu, desc, motion)
        yield from hand_over(cpu, desc)
    if cpu.params.offline_drain == "irqs-on":
        local_irq_enable(cpu)
        yield from mdelay(cpu, DRAIN_MS)
        local_irq_disable(cpu)
    else:
        yield from mdelay(cpu, DRAIN_MS)
    for vector, mapped in enumerate(cpu.irq.vector_irq):
        if mapped is None:
            continue
        if cpu.params.offline_drain == "irr" and cpu.lapic.irr >> vector & 1:
            yield from tell(cpu, mapped.target, [RESEND, mapped.irq])
        cpu.irq.vector_irq[vector] = None
    for irq, serial in to_free:
        yield from tell(cpu, BOOT_CPU, [FREED, irq, serial])
