"""The interrupt chips of x86, as tables: arch/x86 apic/{msi,io_apic}.c, i8259.c.

A chip's callbacks reach the hardware through ``desc.chip_data`` (``desc.Line``): an MSI-X entry, or
a software line (``sim.py``). There is no 8259 on this bus: an XT-PIC line comes as a vector like
the others, so its EOI goes to the local APIC.

2.6.18's chips are used through ``__do_IRQ``: ``ack`` before the handlers, ``end`` after them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodes.cpu.kernel.ipi import ICR_ASSERT, write_icr
from nodes.cpu.kernel.irq.desc import (
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQS_PENDING,
    IrqChip,
    IrqDesc,
)
from nodes.cpu.kernel.irq.migration import irq_move_irq
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_SEND = TRACEPOINTS["ipi_send"].number


def mask(cpu: Cpu, desc: IrqDesc) -> None:
    desc.chip_data.mask(cpu)


def unmask(cpu: Cpu, desc: IrqDesc) -> None:
    desc.chip_data.unmask(cpu)


def nothing(_cpu: Cpu, _desc: IrqDesc) -> None:
    """An operation that the chip has and that does nothing."""


def ack_apic_edge(cpu: Cpu, _desc: IrqDesc) -> None:
    """EOI before the handlers."""
    cpu.lapic.eoi()


def ack_msi(cpu: Cpu, desc: IrqDesc) -> None:
    """apic_ack_edge: a pending move is made here, before the EOI."""
    if desc.motion is not None:
        irq_move_irq(cpu, desc)
    cpu.lapic.eoi()


def msi_set_affinity(cpu: Cpu, desc: IrqDesc, target: int, vector: int) -> None:
    """Write the message anew."""
    desc.chip_data.write_msg(cpu, target, vector)


def ack_apic_level(cpu: Cpu, desc: IrqDesc) -> None:
    """EOI after the handlers; a level that still stands comes again."""
    cpu.lapic.eoi()
    desc.chip_data.eoi(cpu)


def mask_and_ack(cpu: Cpu, desc: IrqDesc) -> None:
    mask(cpu, desc)
    ack_apic_level(cpu, desc)


def send_vector(cpu: Cpu, target: int, vector: int) -> None:
    """Fixed, physical destination: the vector as an IPI, one message each time."""
    cpu.trace(_SEND, vector, target)
    write_icr(cpu, target << 56 | ICR_ASSERT | vector)


def retrigger(cpu: Cpu, desc: IrqDesc) -> bool:
    """Send the line's vector to its CPU as an IPI."""
    send_vector(cpu, desc.target, desc.vector)
    return True


PCI_MSI = IrqChip(
    "PCI-MSI",
    irq_ack=ack_msi,
    irq_mask=mask,
    irq_unmask=unmask,
    irq_retrigger=retrigger,
    irq_set_affinity=msi_set_affinity,
)
IO_APIC = IrqChip(
    "IO-APIC",
    irq_ack=ack_apic_edge,
    irq_eoi=ack_apic_level,
    irq_mask=mask,
    irq_unmask=unmask,
    irq_retrigger=retrigger,
)
XT_PIC = IrqChip(
    "XT-PIC", irq_mask=mask, irq_disable=mask, irq_unmask=unmask, irq_mask_ack=mask_and_ack
)


# ---------------------------------------------------------------- 2.6.18


def _end_8259(cpu: Cpu, desc: IrqDesc) -> None:
    if not desc.state & (IRQD_IRQ_DISABLED | IRQD_IRQ_INPROGRESS) and desc.actions:
        unmask(cpu, desc)


def _ack_edge_ioapic(cpu: Cpu, desc: IrqDesc) -> None:
    if desc.istate & IRQS_PENDING and desc.state & IRQD_IRQ_DISABLED:
        mask(cpu, desc)
    cpu.lapic.eoi()


def _end_msi_maskable(cpu: Cpu, desc: IrqDesc) -> None:
    if desc.motion is not None:
        irq_move_irq(cpu, desc)
    unmask(cpu, desc)  # also if it was disabled meanwhile
    cpu.lapic.eoi()


XT_PIC_18 = IrqChip(
    "XT-PIC", irq_enable=unmask, irq_disable=mask, irq_ack=mask_and_ack, irq_end=_end_8259
)
IO_APIC_EDGE_18 = IrqChip(
    "IO-APIC-edge",
    irq_enable=unmask,
    irq_disable=nothing,
    irq_ack=_ack_edge_ioapic,
    irq_end=nothing,
    irq_retrigger=retrigger,
)
IO_APIC_LEVEL_18 = IrqChip(
    "IO-APIC-level",
    irq_enable=unmask,
    irq_disable=mask,
    irq_ack=nothing,
    irq_end=ack_apic_level,
    irq_retrigger=retrigger,
)
PCI_MSI_18 = IrqChip(
    "PCI-MSI", irq_enable=nothing, irq_disable=nothing, irq_ack=nothing, irq_end=ack_apic_edge
)
PCI_MSIX_18 = IrqChip(
    "PCI-MSI-X",
    irq_enable=unmask,
    irq_disable=mask,
    irq_ack=mask,
    irq_end=_end_msi_maskable,
    irq_mask=mask,
    irq_unmask=unmask,
    irq_set_affinity=msi_set_affinity,
)


#: MSI with a mask bit has the same operations.
PCI_MSI_MASKBIT_18 = replace(PCI_MSIX_18, name="PCI-MSI")


def msi_chip(cpu: Cpu) -> IrqChip:
    """Of an MSI interrupt that can be masked in the device, in this kernel."""
    return PCI_MSI_MASKBIT_18 if cpu.params.irq_flow == "do_irq" else PCI_MSI


def msix_chip(cpu: Cpu) -> IrqChip:
    """Of an MSI-X interrupt in this kernel."""
    return PCI_MSIX_18 if cpu.params.irq_flow == "do_irq" else PCI_MSI
