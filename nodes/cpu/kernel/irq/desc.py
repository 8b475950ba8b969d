"""Interrupt descriptors, actions and the PCI-MSI chip, after kernel/irq and arch/x86 apic/msi.

``IrqTable`` is what one CPU knows: its ``vector_irq`` and the descriptors whose interrupts it
takes. Descriptors are created by the boot CPU and replicated; a line's flow state lives on the CPU
that the line is routed to. Only MSI interrupts with the edge flow exist in this slice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nodes.cpu.kernel.percpu import Context

IRQ_NONE, IRQ_HANDLED, IRQ_WAKE_THREAD = 0, 1, 2

IRQS_REPLAY, IRQS_WAITING, IRQS_PENDING = 0x40, 0x80, 0x200
IRQD_IRQ_DISABLED, IRQD_IRQ_MASKED, IRQD_IRQ_INPROGRESS = 1 << 16, 1 << 17, 1 << 18

FIRST_MSI_IRQ = 24

#: irq handler of (irq, dev_id), run with interrupts off: returns IRQ_*, or a context that does if
#: it must read registers.
Handler = Callable[[int, object], "int | Context"]


@dataclass
class IrqAction:
    """struct irqaction."""

    handler: Handler
    name: str
    dev_id: object


@dataclass
class IrqDesc:
    """struct irq_desc of an MSI interrupt."""

    irq: int
    hwirq: int
    vector: int
    target: int  # CPU it is routed to
    chip_name: str
    actions: list[IrqAction] = field(default_factory=list)
    istate: int = 0
    state: int = IRQD_IRQ_DISABLED
    depth: int = 1
    arrived_ns: int = 0


class IrqTable:
    """vector_irq and descriptors as one CPU sees them."""

    def __init__(self) -> None:
        self.desc: dict[int, IrqDesc] = {}
        self.vector_irq: list[IrqDesc | None] = [None] * 256


def request_irq(table: IrqTable, irq: int, handler: Handler, name: str, dev_id: object) -> None:
    """Install a handler on this CPU's descriptor and start the line up."""
    desc = table.desc[irq]
    desc.actions.append(IrqAction(handler, name, dev_id))
    if len(desc.actions) == 1:
        desc.depth = 0
        desc.state &= ~IRQD_IRQ_DISABLED


def free_irq(table: IrqTable, irq: int, dev_id: object) -> None:
    """Remove the handler; the last one shuts the line down and frees the vector slot."""
    desc = table.desc.get(irq)
    if desc is None:
        return
    desc.actions = [action for action in desc.actions if action.dev_id is not dev_id]
    if not desc.actions:
        desc.depth = 1
        desc.state |= IRQD_IRQ_DISABLED
        if table.vector_irq[desc.vector] is desc:
            table.vector_irq[desc.vector] = None
        del table.desc[irq]
