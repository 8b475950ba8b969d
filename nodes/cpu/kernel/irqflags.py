"""The CPU's interrupt flag and the preempt count, after include/linux/{irqflags,preempt}.h.

``local_irq_disable`` and ``local_irq_enable`` do not nest: an enable inside somebody else's
disabled region breaks it. ``local_irq_save`` and ``local_irq_restore`` do. Enabling never runs
softirqs: they wait for the next irq_exit, for ``local_bh_enable`` or for ksoftirqd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def local_irq_disable(cpu: Cpu) -> None:
    """cli."""
    cpu.irqs_on = False


def local_irq_enable(cpu: Cpu) -> None:
    """sti: what waits in the local APIC comes in at the next boundary."""
    if cpu.lockdep is not None and not cpu.irqs_on:
        cpu.lockdep.hardirqs_on()
    cpu.irqs_on = True


def local_irq_save(cpu: Cpu) -> bool:
    """Disable; returns the flag as it was."""
    flags, cpu.irqs_on = cpu.irqs_on, False
    return flags


def local_irq_restore(cpu: Cpu, flags: bool) -> None:
    """Put the flag back as ``local_irq_save`` found it."""
    if cpu.lockdep is not None and flags and not cpu.irqs_on:
        cpu.lockdep.hardirqs_on()
    cpu.irqs_on = flags


def preempt_disable(cpu: Cpu) -> None:
    """Counts only where the kernel counts (``preempt_count``): else nothing preempts it anyway."""
    cpu.preempt_count += cpu.preempt_counted


def preempt_enable(cpu: Cpu) -> Context:
    """These kernels are PREEMPT_VOLUNTARY: it gives way at cond_resched, not here."""
    cpu.preempt_count -= cpu.preempt_counted
    yield
