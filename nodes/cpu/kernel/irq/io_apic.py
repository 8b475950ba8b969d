"""Linux's conversation with the I/O APIC: arch/x86/kernel/apic/io_apic.c.

Registers are reached by IOREGSEL and IOWIN over the bus, as a NIC's are: a write is two posted
writes, a read is a posted write and a stall. The two leave in one turn and arrive together, which
is what ``ioapic_lock`` gives in Linux; so does the order of what one CPU sends: an EOI is there
before the writes that follow it, and remote IRR need not be read back to know that.

A line's entry is written by the CPU that the line is routed to, from what its descriptor says.
Linux below 6.0 reads an entry before it changes the mask, and reads once more to be sure that it
is there (io_apic_sync): both are left out, since chip operations never wait. Left out too: the
check of the timer (there is no PIT, nor another ISA device) and virtual wire mode with the 8259.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bus.messages import MemWrite
from nodes.cpu.kernel.apic import FLAT_CPUS_MAX
from nodes.cpu.kernel.irq.desc import IRQD_IRQ_MASKED, IrqChip, IrqDesc
from nodes.cpu.kernel.irq.migration import irq_move_irq
from nodes.cpu.kernel.irq.x86_chips import (
    IO_APIC,
    IO_APIC_LEVEL_18,
    ack_msi,
    mask,
    msi_set_affinity,
    unmask,
)
from nodes.cpu.kernel.percpu import Context, IoApicRead
from nodes.cpu.kernel.printk import KERN_ERR, KERN_INFO, printk
from nodes.cpu.page import ARCH_IRQS, CPU_SCHEMA
from nodes.machine import APIC, IOAPIC_PINS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

IO_APIC_DEFAULT_PHYS_BASE = 0xFEC0_0000
_IOREGSEL, _IOWIN, _EOI = 0x00, 0x10, 0x40
_ID, _VERSION, _ARBITRATION, _REDIRECTION = 0x00, 0x01, 0x02, 0x10

DELIVERY = {"fixed": 0 << 8, "lowest": 1 << 8}
_SMI, _MODE = 2 << 8, 7 << 8
LOGICAL, ACTIVE_LOW, REMOTE_IRR, LEVEL, MASKED = 1 << 11, 1 << 13, 1 << 14, 1 << 15, 1 << 16
_ID_MAX = 0xF
#: The MADT overrides one of the ISA irqs: IRQ 0 is wired to pin 2.
TIMER_IRQ, CASCADE_IRQ, TIMER_PIN = 0, 2, 2

_WRITES = CPU_SCHEMA.index("ioapic_writes")
_MIS = CPU_SCHEMA.index("arch_irqs") + ARCH_IRQS.index("MIS")
_TMR = 0x180


# ---------------------------------------------------------------- registers


def _write(cpu: Cpu, offset: int, value: int) -> None:
    cpu.words[_WRITES] += 1
    cpu.post(APIC, MemWrite(0, offset, value))


def io_apic_write(cpu: Cpu, register: int, value: int) -> None:
    """Posted: it has taken effect when the next read has completed."""
    _write(cpu, _IOREGSEL, register)
    _write(cpu, _IOWIN, value)


def io_apic_read(cpu: Cpu, register: int) -> Context:
    """The register's value; all ones if the interrupt controller does not answer."""
    _write(cpu, _IOREGSEL, register)
    value: int = yield IoApicRead(_IOWIN)
    return value


def io_apic_eoi(cpu: Cpu, vector: int) -> None:
    """__eoi_ioapic_pin: end the vector's level entries by the EOI register."""
    _write(cpu, _EOI, vector)


# ---------------------------------------------------------------- entries


def entry_low(cpu: Cpu, vector: int, *, level: bool, masked: bool) -> int:
    """Lower half of a redirection entry: PCI is level and active low, ISA edge and active high."""
    flat = cpu.machine.cpus <= FLAT_CPUS_MAX
    low = vector | DELIVERY[cpu.params.ioapic_delivery] | (LOGICAL if flat else 0)
    if level:
        low |= LEVEL | ACTIVE_LOW
    return low | (MASKED if masked else 0)


def entry_high(cpu: Cpu, target: int) -> int:
    """Upper half: one CPU, by its bit in the flat model, else by its id."""
    return (1 << target if cpu.machine.cpus <= FLAT_CPUS_MAX else target) << 24


def ioapic_write_entry(cpu: Cpu, pin: int, high: int, low: int) -> None:
    """High half first, so that an entry is whole when it is unmasked."""
    io_apic_write(cpu, _REDIRECTION + 1 + 2 * pin, high)
    io_apic_write(cpu, _REDIRECTION + 2 * pin, low)


class IoApicPin:
    """A pin as the hardware behind a level line (``desc.chip_data``)."""

    __slots__ = ("_desc", "_moved", "pin")

    def __init__(self, desc: IrqDesc, pin: int) -> None:
        self.pin = pin
        self._desc = desc
        self._moved = 0  # serial of the move for which the entry was last written

    def mask(self, cpu: Cpu) -> None:
        self._write_low(cpu, masked=True)

    def unmask(self, cpu: Cpu) -> None:
        self._write_low(cpu, masked=False)

    def eoi(self, cpu: Cpu) -> None:
        """By the EOI register, whatever became of the broadcast."""
        io_apic_eoi(cpu, self.vector)

    def write_msg(self, cpu: Cpu, target: int, vector: int) -> None:
        """Route it anew; it is masked meanwhile."""
        motion = self._desc.motion
        assert motion is not None
        self._moved = motion.serial
        low = entry_low(cpu, vector, level=True, masked=True)
        ioapic_write_entry(cpu, self.pin, entry_high(cpu, target), low)

    @property
    def vector(self) -> int:
        """What stands in the entry."""
        motion = self._desc.motion
        if motion is not None and motion.serial == self._moved:
            return motion.vector
        return self._desc.vector

    def _write_low(self, cpu: Cpu, *, masked: bool) -> None:
        low = entry_low(cpu, self.vector, level=True, masked=masked)
        io_apic_write(cpu, _REDIRECTION + 2 * self.pin, low)


# ---------------------------------------------------------------- chips


def ioapic_ack_level(cpu: Cpu, desc: IrqDesc) -> None:
    """End of a level interrupt; a move that is pending is made here, with the pin masked.

    Some chipsets deliver a level as an edge, and so does a replay by IPI: the local APIC's TMR says
    how the vector came. After an edge no EOI is broadcast, and the pin would stay silent."""
    motion = desc.motion
    moves = motion is not None and motion.target >= 0 and not motion.written
    masked_here = moves and not desc.state & IRQD_IRQ_MASKED
    if masked_here:
        mask(cpu, desc)
        desc.state |= IRQD_IRQ_MASKED
    vector = desc.vector
    tmr = cpu.apic.read(_TMR + (vector >> 5) * 0x10)
    cpu.lapic.eoi()
    if not tmr >> (vector & 31) & 1:
        cpu.words[_MIS] += 1
        desc.chip_data.eoi(cpu)
    if moves:
        irq_move_irq(cpu, desc)
    if masked_here:
        unmask(cpu, desc)
        desc.state &= ~IRQD_IRQ_MASKED


IO_APIC_PCI = replace(
    IO_APIC, irq_ack=ack_msi, irq_eoi=ioapic_ack_level, irq_set_affinity=msi_set_affinity
)
IO_APIC_PCI_18 = replace(
    IO_APIC_LEVEL_18,
    irq_end=ioapic_ack_level,
    irq_mask=mask,
    irq_unmask=unmask,
    irq_set_affinity=msi_set_affinity,
)


def ioapic_chip(cpu: Cpu) -> IrqChip:
    """Of a PCI pin in this kernel."""
    return IO_APIC_PCI_18 if cpu.params.irq_flow == "do_irq" else IO_APIC_PCI


# ---------------------------------------------------------------- boot


def setup_io_apic(cpu: Cpu) -> Context:
    """mp_register_ioapic and setup_IO_APIC: say who is there, silence every pin, route ISA's."""
    if not cpu.machine.ioapics:
        return
    yield from io_apic_read(cpu, _ID)
    version = yield from io_apic_read(cpu, _VERSION)
    yield from io_apic_read(cpu, _ARBITRATION)
    apic_id = min(cpu.machine.cpus, _ID_MAX)
    io_apic_write(cpu, _ID, apic_id << 24)
    last = version >> 16 & 0xFF
    printk(
        cpu,
        f"IOAPIC[0]: apic_id {apic_id}, version {version & 0xFF}, "
        f"address {IO_APIC_DEFAULT_PHYS_BASE:#x}, GSI 0-{last}",
        KERN_INFO,
    )
    for pin in range(min(last + 1, IOAPIC_PINS)):
        yield from clear_io_apic_pin(cpu, pin)
    for irq, cfg in sorted(cpu.vectors.cfg.items()):
        if irq == CASCADE_IRQ:
            continue  # the second 8259, which no pin is wired to
        pin = TIMER_PIN if irq == TIMER_IRQ else irq
        low = entry_low(cpu, cfg.vector, level=False, masked=False)
        ioapic_write_entry(cpu, pin, entry_high(cpu, 0), low)


def clear_io_apic_pin(cpu: Cpu, pin: int) -> Context:
    """Mask it, and end what firmware may have left unfinished; SMI is firmware's business."""
    low = _REDIRECTION + 2 * pin
    entry = yield from io_apic_read(cpu, low)
    if entry & _MODE == _SMI:
        return
    if not entry & MASKED:
        entry |= MASKED
        io_apic_write(cpu, low, entry)
    if entry & REMOTE_IRR:
        if not entry & LEVEL:  # an EOI is for level entries only
            io_apic_write(cpu, low, entry | LEVEL)
        io_apic_eoi(cpu, entry & 0xFF)
    ioapic_write_entry(cpu, pin, 0, MASKED)
    entry = yield from io_apic_read(cpu, low)
    if entry & REMOTE_IRR:
        printk(cpu, f"Unable to reset IRR for apic: 0, pin :{pin}", KERN_ERR)
