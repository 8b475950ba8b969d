"""Software interrupt lines, in the manner of kernel/irq/irq_sim.c, for any flow.

A line is a wire of this CPU that kernel code raises: a pulse (``irq_sim_fire``), or a level that
stands until it is taken away (``irq_sim_assert``, ``irq_sim_deassert``). What leaves it is the
line's vector, as an IPI of the CPU to itself, so each interrupt passes the interrupt controller and
can be seen on the bus. The wire behaves as a pin of an I/O APIC: a level that still stands comes
again after its EOI; a pulse on a masked pin is lost (and counted), unless the line latches it as an
MSI-X entry does.

Descriptors, chips and actions are the kernel's own: ``request_irq`` and the rest work as for any
line. A line lives on the CPU that made it. Default chips: IO-APIC for edge and fasteoi, XT-PIC for
level, by the era's way (``irq_flow``); simple and per-CPU lines have chips of their own.
"""

from __future__ import annotations

from errno import EBUSY, ENOSPC
from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq.desc import NR_IRQS, IrqChip, IrqDesc
from nodes.cpu.kernel.irq.flow import (
    handle_simple_irq,
    irq_alloc_desc,
    irq_free_desc,
    irq_set_chip_and_handler,
)
from nodes.cpu.kernel.irq.x86_chips import (
    IO_APIC,
    IO_APIC_EDGE_18,
    IO_APIC_LEVEL_18,
    XT_PIC,
    XT_PIC_18,
    ack_apic_level,
    mask,
    send_vector,
    unmask,
)
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Vectors are taken from here down: far from where every era's allocator begins.
_VECTOR_LAST, _VECTOR_FIRST, _SYSCALL_VECTOR = 0xDF, 0x31, 0x80

SIM = IrqChip("irq_sim", irq_mask=mask, irq_unmask=unmask)
SIM_PERCPU = IrqChip(
    "irq_sim", irq_mask=mask, irq_unmask=unmask, irq_eoi=ack_apic_level, irq_end=ack_apic_level
)
CHIPS = {
    "handlers": {"edge": IO_APIC, "fasteoi": IO_APIC, "level": XT_PIC},
    "do_irq": {"edge": IO_APIC_EDGE_18, "fasteoi": IO_APIC_LEVEL_18, "level": XT_PIC_18},
}
_OWN = {"simple": SIM, "percpu": SIM_PERCPU}


class SimLine:
    """The wire, and its pin at the controller."""

    def __init__(self, vector: int, target: int, *, latch: bool) -> None:
        self._vector = vector
        self._target = target
        self._latch = latch
        self.masked = True
        self.asserted = False  # the level
        self.remote_irr = False  # a level was delivered and has had no EOI
        self.latched = False  # a pulse waits for the mask to go
        self.fired = 0  # pulses
        self.sent = 0  # vectors
        self.lost = 0  # pulses that met a mask, and merged ones

    def fire(self, cpu: Cpu) -> None:
        self.fired += 1
        if not self.masked:
            self._send(cpu)
        elif self._latch and not self.latched:
            self.latched = True
        else:
            self.lost += 1

    def set_level(self, cpu: Cpu, asserted: bool) -> None:
        self.asserted = asserted
        self._look(cpu)

    def mask(self, _cpu: Cpu) -> None:
        self.masked = True

    def unmask(self, cpu: Cpu) -> None:
        self.masked = False
        if self.latched:
            self.latched = False
            self._send(cpu)
        self._look(cpu)

    def eoi(self, cpu: Cpu) -> None:
        self.remote_irr = False
        self._look(cpu)

    def write_msg(self, cpu: Cpu, target: int, vector: int) -> None:
        """A wire ends where it was laid: its chips cannot set an affinity."""

    def _look(self, cpu: Cpu) -> None:
        if self.asserted and not self.masked and not self.remote_irr:
            self.remote_irr = True
            self._send(cpu)

    def _send(self, cpu: Cpu) -> None:
        self.sent += 1
        send_vector(cpu, self._target, self._vector)


def irq_sim_create(
    cpu: Cpu,
    irq: int,
    flow: str = "simple",
    *,
    vector: int | None = None,
    chip: IrqChip | None = None,
    latch: bool = False,
) -> IrqDesc:
    """A line of this CPU; OSError: EBUSY if the irq or the vector has an owner, ENOSPC if no vector
    is free.

    ``flow`` is a key of ``flow.FLOWS``; ``latch``: a pulse on the masked line is kept, one deep."""
    if not 0 <= irq < NR_IRQS or irq in cpu.irq.desc:
        raise OSError(EBUSY, f"irq {irq} is not free")
    if vector is None:
        vector = _free_vector(cpu)
    elif cpu.irq.vector_irq[vector] is not None:
        raise OSError(EBUSY, f"vector {vector:#x} is not free")
    desc = irq_alloc_desc(cpu, irq, irq, vector, cpu.number)
    if chip is None:
        chip = _OWN[flow] if flow in _OWN else CHIPS[cpu.params.irq_flow][flow]
    line = SimLine(vector, cpu.number, latch=latch)
    irq_set_chip_and_handler(cpu, desc, chip, flow, line)
    if flow == "simple":
        desc.handle_irq = _handle_simple
    return desc


def _free_vector(cpu: Cpu) -> int:
    for vector in range(_VECTOR_LAST, _VECTOR_FIRST, -1):
        if vector != _SYSCALL_VECTOR and cpu.irq.vector_irq[vector] is None:
            return vector
    raise OSError(ENOSPC, "no free vector")


def _handle_simple(cpu: Cpu, desc: IrqDesc) -> Context:
    """The simple flow acknowledges nothing; here, as under irq_work, the entry does it."""
    ack_apic_level(cpu, desc)
    yield from handle_simple_irq(cpu, desc)


def irq_sim_remove(cpu: Cpu, irq: int) -> None:
    """The line goes; free its actions before."""
    irq_free_desc(cpu, irq)


def irq_sim_line(cpu: Cpu, irq: int) -> SimLine:
    """The wire of a line made here; LookupError if there is none."""
    line = cpu.irq.desc[irq].chip_data
    if not isinstance(line, SimLine):
        raise LookupError(f"irq {irq} is no software line")
    return line


def irq_sim_fire(cpu: Cpu, irq: int) -> None:
    """One pulse."""
    irq_sim_line(cpu, irq).fire(cpu)


def irq_sim_assert(cpu: Cpu, irq: int) -> None:
    """The level stands until it is deasserted."""
    irq_sim_line(cpu, irq).set_level(cpu, True)


def irq_sim_deassert(cpu: Cpu, irq: int) -> None:
    """What a handler does when it has quieted its device."""
    irq_sim_line(cpu, irq).set_level(cpu, False)
