"""From a PCI device's INTA..D to an irq: acpi_register_gsi, drivers/acpi/pci_irq.c.

The boot CPU holds the map. ``acpi_register_gsi`` gives a GSI its irq when the first device behind
it asks: a vector, a redirection entry (level, active low, masked) and a descriptor on every CPU
(replica "gsi"); others share it. Who then calls ``request_irq`` with IRQF_SHARED starts the line
up. What a GSI's irq is called is a matter of ``vector_allocator``: its own number, or in 2.6.18 the
vector's.

A driver gets INTx, as the last choice of ``pci_alloc_irq_vectors`` or as an old driver does, in
three steps: take ``pci_irq``, switch the wire on by ``pci_intx``, request the irq on the CPU that
has the line and on its replicas.

Left out: links that can be set to another irq (the board's routing is fixed), sharing of one irq by
two GSIs when 2.6.18's vectors run out (it takes more devices than there are slots).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq.affinity import (
    forget_affinity,
    online_mask,
    release_irq,
    setup_affinity,
)
from nodes.cpu.kernel.irq.flow import irq_alloc_desc, irq_free_desc, irq_set_chip_and_handler
from nodes.cpu.kernel.irq.io_apic import (
    IoApicPin,
    entry_high,
    entry_low,
    ioapic_chip,
    ioapic_write_entry,
)
from nodes.cpu.kernel.pci import PCI_COMMAND_INTX_DISABLE, change_command, read_config
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_DEBUG, KERN_INFO, KERN_WARNING, printk
from nodes.cpu.kernel.tables import publish, replica

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PCI_INTERRUPT_PIN = 0x3D
_PIN_LAST = 4


class GsiUse:
    """Of one GSI, on the boot CPU: its irq and how many devices have it."""

    __slots__ = ("irq", "users")

    def __init__(self, irq: int) -> None:
        self.irq = irq
        self.users = 0


@replica("gsi")
def apply_gsi(cpu: Cpu, irq: int, value: tuple[int, int, int, int] | None) -> None:
    """(GSI, vector, target CPU, mask of the CPUs that map the vector); None: nobody wants it."""
    if value is None:
        irq_free_desc(cpu, irq)
        return
    gsi, vector, target, domain = value
    desc = irq_alloc_desc(cpu, irq, gsi, vector, target)
    if domain >> cpu.number & 1:
        cpu.irq.vector_irq[vector] = desc
    irq_set_chip_and_handler(cpu, desc, ioapic_chip(cpu), "fasteoi", IoApicPin(desc, gsi))


def acpi_register_gsi(cpu: Cpu, gsi: int) -> Context:
    """On the boot CPU: one device more behind ``gsi``; its irq, or a negative errno."""
    use = cpu.irq.gsi.get(gsi)
    if use is None:
        irq = cpu.vectors.pin_irq(gsi)
        state = setup_affinity(cpu, irq, None)
        try:
            cpu.vectors.activate(irq, state.affinity, online_mask(cpu))
        except OSError as error:
            forget_affinity(cpu, irq)
            return -(error.errno or 1)
        cfg = cpu.vectors.cfg[irq]
        target = state.target = cfg.target(state.affinity, online_mask(cpu))
        low = entry_low(cpu, cfg.vector, level=True, masked=True)
        ioapic_write_entry(cpu, gsi, entry_high(cpu, target), low)
        use = cpu.irq.gsi[gsi] = GsiUse(irq)
        yield from publish(cpu, "gsi", irq, (gsi, cfg.vector, target, cfg.domain))
    use.users += 1
    return use.irq


def acpi_unregister_gsi(cpu: Cpu, gsi: int) -> Context:
    """One device less; the last one has freed the irq before."""
    use = cpu.irq.gsi[gsi]
    use.users -= 1
    if not use.users:
        del cpu.irq.gsi[gsi]
        yield from publish(cpu, "gsi", use.irq, None)
        release_irq(cpu, use.irq)
        forget_affinity(cpu, use.irq)


def pci_irq(cpu: Cpu, nic: int) -> Context:
    """acpi_pci_irq_enable: the irq of a device's interrupt pin; 0 if it has none, or -errno."""
    pin = yield from read_config(cpu, nic, PCI_INTERRUPT_PIN, 1)
    if not 1 <= pin <= _PIN_LAST or not cpu.machine.ioapics:
        return 0
    gsi = cpu.machine.gsi(nic, pin)
    irq: int = yield from acpi_register_gsi(cpu, gsi)
    if irq >= 0:
        cpu.irq.gsi_of[nic] = gsi
    name, letter = cpu.machine.nics[nic].pci_name, "ABCD"[pin - 1]
    if irq < 0:
        printk(cpu, f"ixgbe {name}: PCI INT {letter}: failed to register GSI", KERN_WARNING)
    elif cpu.params.irq_flow == "do_irq":
        text = f"ACPI: PCI Interrupt {name}[{letter}] -> GSI {gsi} (level, low) -> IRQ {irq}"
        printk(cpu, text, KERN_INFO)
    else:
        text = f"ixgbe {name}: PCI INT {letter} -> GSI {gsi} (level, low) -> IRQ {irq}"
        printk(cpu, text, KERN_DEBUG)
    return irq


def pci_irq_disable(cpu: Cpu, nic: int) -> Context:
    """acpi_pci_irq_disable: the device gives its irq back; it is not asked, it may be gone."""
    gsi = cpu.irq.gsi_of.pop(nic, None)
    if gsi is not None:
        yield from acpi_unregister_gsi(cpu, gsi)


def pci_intx(cpu: Cpu, nic: int, *, enable: bool) -> Context:
    """May the function assert its pin? Bit 10 of the command register."""
    if enable:
        yield from change_command(cpu, nic, off=PCI_COMMAND_INTX_DISABLE)
    else:
        yield from change_command(cpu, nic, on=PCI_COMMAND_INTX_DISABLE)
