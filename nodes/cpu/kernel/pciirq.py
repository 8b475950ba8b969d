"""What a device interrupts by: MSI-X, else MSI, else its wire (drivers/pci/msi/api.c).

``pci_alloc_irq_vectors`` is how drivers have asked since 4.8; older ones make the same three steps
themselves, with ``pci_enable_msix_range`` (or pci_enable_msix in a loop), ``pci_enable_msi`` and
the irq of their pin. Whoever frees what it got passes it back whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import ENOSPC
from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.irq.gsi import pci_intx, pci_irq, pci_irq_disable
from nodes.cpu.kernel.pcimsi import (
    MsiDesc,
    disable_msix,
    msi_free_irqs,
    pci_disable_msi,
    pci_enable_msi,
    pci_enable_msix_range,
)
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PCI_IRQ_LEGACY, PCI_IRQ_MSI, PCI_IRQ_MSIX = 1, 2, 4
PCI_IRQ_ALL_TYPES = PCI_IRQ_LEGACY | PCI_IRQ_MSI | PCI_IRQ_MSIX


class PciIrqs(NamedTuple):
    """``kind`` is one of PCI_IRQ_*; ``entries`` the messages' interrupts, ``irq`` the wire's."""

    kind: int
    entries: tuple[MsiDesc, ...] = ()
    irq: int = 0


def pci_alloc_irq_vectors(
    cpu: Cpu,
    nic: int,
    min_vecs: int,
    max_vecs: int,
    flags: int = PCI_IRQ_ALL_TYPES,
    affinity: Sequence[int] = (),
) -> Context:
    """The best of the kinds in ``flags`` that gives ``min_vecs`` interrupts; returns ``PciIrqs`` or
    a negative errno. ``affinity`` is for MSI-X: a mask for each vector, 0 the default."""
    error = -ENOSPC
    if flags & PCI_IRQ_MSIX:
        got = yield from pci_enable_msix_range(cpu, nic, min_vecs, max_vecs, affinity)
        if isinstance(got, list):
            return PciIrqs(PCI_IRQ_MSIX, tuple(got))
        error = got
    if flags & PCI_IRQ_MSI and min_vecs == 1:
        got = yield from pci_enable_msi(cpu, nic)
        if isinstance(got, MsiDesc):
            return PciIrqs(PCI_IRQ_MSI, (got,))
        error = got
    if flags & PCI_IRQ_LEGACY and min_vecs == 1:
        irq = yield from pci_irq(cpu, nic)
        if irq > 0:
            yield from pci_intx(cpu, nic, enable=True)
            return PciIrqs(PCI_IRQ_LEGACY, irq=irq)
    return error


def pci_free_irq_vectors(cpu: Cpu, nic: int, irqs: PciIrqs) -> Context:
    """Give it back; handlers and descriptors of the messages are gone already."""
    if irqs.kind == PCI_IRQ_LEGACY:
        yield from pci_irq_disable(cpu, nic)
        return
    msi_free_irqs(cpu, irqs.entries)
    if irqs.kind == PCI_IRQ_MSIX:
        yield from disable_msix(cpu, nic)
    else:
        yield from pci_disable_msi(cpu, nic)
