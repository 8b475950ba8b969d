"""The CPU's interrupt flag and the preempt count, after include/linux/{irqflags,preempt}.h.

``local_irq_disable`` and ``local_irq_enable`` do not nest: an enable inside somebody else's
disabled region breaks it. ``local_irq_save`` and ``local_irq_restore`` do. Enabling never runs
softirqs: they wait for the next irq_exit, for ``local_bh_enable`` or for ksoftirqd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import PREEMPT_MASK, SCHEDULE, Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def local_irq_disable(cpu: Cpu) -> None:
    """cli."""
    cpu.irqs_on = False


def local_irq_enable(cpu: Cpu) -> None:
    """sti: what waits in the local APIC comes in at the next boundary."""
    cpu.irqs_on = True


def local_irq_save(cpu: Cpu) -> bool:
    """Disable; returns the flag as it was."""
    flags, cpu.irqs_on = cpu.irqs_on, False
    return flags


def local_irq_restore(cpu: Cpu, flags: bool) -> None:
    """Put the flag back as ``local_irq_save`` found it."""
    cpu.irqs_on = flags


def preempt_disable(cpu: Cpu) -> None:
    cpu.preempt_count += 1


def preempt_enable(cpu: Cpu) -> Context:
    """Give way now if that was the last reason not to."""
    cpu.preempt_count -= 1
    if cpu.need_resched and not cpu.preempt_count & PREEMPT_MASK and cpu.preemptible():
        yield SCHEDULE
