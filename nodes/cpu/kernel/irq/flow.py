"""Flow handlers: what happens between a vector and the actions of its line (kernel/irq/chip.c).

========  ==================  ===============================  =================================
flow      first               when disabled or in progress     after the chain
========  ==================  ===============================  =================================
edge      ack                 PENDING, mask, ack; the one      again while PENDING
                              who is in progress runs again
level     mask and ack        leave it masked                  unmask, if no thread needs it masked
fasteoi   -                   mask (disabled), eoi             eoi; ONESHOT: unmask as level does
simple    -                   leave                            -
percpu    ack                 (no states at all)               eoi
========  ==================  ===============================  =================================

Eras differ in details, each a behaviour: ``irq_count_position``, ``disabled_sets_pending``,
``fasteoi_masks_disabled``, ``level_unmask``, ``fasteoi_oneshot``. 2.6.18's x86 runs every line
through ``__do_IRQ`` instead (``irq_flow``); its chips make the difference between edge and level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq.chip import mask_ack_irq, mask_irq, unmask_irq
from nodes.cpu.kernel.irq.desc import (
    IRQ_LEVEL,
    IRQCHIP_EOI_IF_HANDLED,
    IRQCHIP_EOI_THREADED,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQD_IRQ_MASKED,
    IRQD_LEVEL,
    IRQD_PER_CPU,
    IRQS_ONESHOT,
    IRQS_PENDING,
    IRQS_REPLAY,
    IRQS_WAITING,
    FlowHandler,
    IrqChip,
    IrqDesc,
    Line,
)
from nodes.cpu.kernel.irq.handle import handle_bad_irq, handle_irq_event
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_IRQS = CPU_SCHEMA.index("irqs")
_REPLAYED = ~(IRQS_REPLAY | IRQS_WAITING)


def handle_edge_irq(cpu: Cpu, desc: IrqDesc) -> Context:
    """Acknowledge first; what arrives while the handlers run is one more run by the loop."""
    desc.istate &= _REPLAYED
    if desc.state & (IRQD_IRQ_DISABLED | IRQD_IRQ_INPROGRESS) or not desc.actions:
        desc.istate |= IRQS_PENDING
        mask_ack_irq(cpu, desc)
        return
    cpu.words[_IRQS + desc.irq] += 1
    ack = desc.chip.irq_ack
    if ack is not None:
        ack(cpu, desc)
    while True:
        if not desc.actions:
            mask_irq(cpu, desc)
            return
        if desc.istate & IRQS_PENDING:
            masked = desc.state & (IRQD_IRQ_DISABLED | IRQD_IRQ_MASKED) == IRQD_IRQ_MASKED
            if masked:
                unmask_irq(cpu, desc)
        yield from handle_irq_event(cpu, desc)
        if not desc.istate & IRQS_PENDING or desc.state & IRQD_IRQ_DISABLED:
            return


def _may_not_run(cpu: Cpu, desc: IrqDesc, pending_rules: tuple[str, ...]) -> bool:
    """Steps 3 to 5 that level, fasteoi and simple share, counting included."""
    desc.istate &= _REPLAYED
    early = cpu.params.irq_count_position == "before-check"
    idle = not desc.actions or bool(desc.state & IRQD_IRQ_DISABLED)
    if early or not idle:
        cpu.words[_IRQS + desc.irq] += 1
    if idle and cpu.params.disabled_sets_pending in pending_rules:
        desc.istate |= IRQS_PENDING
    return idle


def handle_simple_irq(cpu: Cpu, desc: IrqDesc) -> Context:
    """No hardware to speak to: a demultiplexed or software interrupt."""
    if desc.state & IRQD_IRQ_INPROGRESS or _may_not_run(cpu, desc, ("always",)):
        return
    yield from handle_irq_event(cpu, desc)


def handle_level_irq(cpu: Cpu, desc: IrqDesc) -> Context:
    """Mask while the handlers quiet the device, then unmask."""
    mask_ack_irq(cpu, desc)
    if desc.state & IRQD_IRQ_INPROGRESS:
        return
    if _may_not_run(cpu, desc, ("always", "level+fasteoi")):
        return
    yield from handle_irq_event(cpu, desc)
    rule = cpu.params.level_unmask
    if rule == "conditional":
        cond_unmask_irq(cpu, desc)
    elif not desc.state & IRQD_IRQ_DISABLED and (
        rule == "not-disabled" or not desc.istate & IRQS_ONESHOT
    ):
        unmask_irq(cpu, desc)


def cond_unmask_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """Not while it is disabled, nor while a oneshot thread has yet to quiet its device."""
    masked = desc.state & (IRQD_IRQ_DISABLED | IRQD_IRQ_MASKED) == IRQD_IRQ_MASKED
    if masked and not desc.threads_oneshot:
        unmask_irq(cpu, desc)


def handle_fasteoi_irq(cpu: Cpu, desc: IrqDesc) -> Context:
    """The controller holds the line back until EOI: one eoi at the end, in every path."""
    chip = desc.chip
    if desc.state & IRQD_IRQ_INPROGRESS:
        eoi_unless_unhandled(cpu, desc)
        return
    if _may_not_run(cpu, desc, ("always", "level+fasteoi")):
        if cpu.params.fasteoi_masks_disabled == "yes":
            mask_irq(cpu, desc)
        eoi_unless_unhandled(cpu, desc)
        return
    oneshot = desc.istate & IRQS_ONESHOT
    if oneshot:
        mask_irq(cpu, desc)
    yield from handle_irq_event(cpu, desc)
    rule = cpu.params.fasteoi_oneshot
    if not oneshot:
        _eoi(cpu, desc)
    elif rule == "eoi-then-unmask":
        if chip.flags & IRQCHIP_EOI_THREADED and desc.threads_oneshot:
            return  # the thread does it
        _eoi(cpu, desc)
        cond_unmask_irq(cpu, desc)
    else:
        if rule == "unmask-then-eoi":
            cond_unmask_irq(cpu, desc)
        _eoi(cpu, desc)


def _eoi(cpu: Cpu, desc: IrqDesc) -> None:
    if desc.chip.irq_eoi is not None:
        desc.chip.irq_eoi(cpu, desc)


def eoi_unless_unhandled(cpu: Cpu, desc: IrqDesc) -> None:
    if not desc.chip.flags & IRQCHIP_EOI_IF_HANDLED:
        _eoi(cpu, desc)


def handle_percpu_irq(cpu: Cpu, desc: IrqDesc) -> Context:
    """No lock, no states: every CPU may be in it at once."""
    cpu.words[_IRQS + desc.irq] += 1
    if desc.chip.irq_ack is not None:
        desc.chip.irq_ack(cpu, desc)
    if desc.actions:
        yield from handle_irq_event(cpu, desc, 0)
    _eoi(cpu, desc)


def do_irq(cpu: Cpu, desc: IrqDesc) -> Context:
    """2.6.18's __do_IRQ: the chip's ack before the handlers, its end after them."""
    chip = desc.chip
    cpu.words[_IRQS + desc.irq] += 1
    if desc.state & IRQD_PER_CPU:
        if chip.irq_ack is not None:
            chip.irq_ack(cpu, desc)
        yield from handle_irq_event(cpu, desc, 0)
        _end(cpu, desc)
        return
    if chip.irq_ack is not None:
        chip.irq_ack(cpu, desc)
    desc.istate = desc.istate & _REPLAYED | IRQS_PENDING
    if not desc.state & (IRQD_IRQ_DISABLED | IRQD_IRQ_INPROGRESS):
        desc.state |= IRQD_IRQ_INPROGRESS
        while desc.istate & IRQS_PENDING and desc.actions:
            yield from handle_irq_event(cpu, desc, 0)  # takes PENDING
        desc.state &= ~IRQD_IRQ_INPROGRESS
    _end(cpu, desc)


def _end(cpu: Cpu, desc: IrqDesc) -> None:
    if desc.chip.irq_end is not None:
        desc.chip.irq_end(cpu, desc)


FLOWS: dict[str, FlowHandler] = {
    "edge": handle_edge_irq,
    "level": handle_level_irq,
    "fasteoi": handle_fasteoi_irq,
    "simple": handle_simple_irq,
    "percpu": handle_percpu_irq,
    "bad": handle_bad_irq,
}
#: Flows that __do_IRQ takes the place of: on x86 all but the bad one.
_DONE_BY_DO_IRQ = ("edge", "level", "fasteoi", "percpu")


def irq_set_chip_and_handler(
    cpu: Cpu, desc: IrqDesc, chip: IrqChip, flow: str, line: Line | None = None
) -> None:
    """Who the line's chip is, how it flows (a key of FLOWS), and its hardware."""
    desc.chip = chip
    desc.name = flow
    if line is not None:
        desc.chip_data = line
    old = cpu.params.irq_flow == "do_irq" and flow in _DONE_BY_DO_IRQ
    desc.handle_irq = do_irq if old else FLOWS[flow]
    if flow in ("level", "fasteoi"):
        desc.settings |= IRQ_LEVEL
        desc.state |= IRQD_LEVEL
    elif flow == "percpu":
        desc.state |= IRQD_PER_CPU


def irq_alloc_desc(cpu: Cpu, irq: int, hwirq: int, vector: int, target: int) -> IrqDesc:
    """A descriptor without a chip; on the CPU that takes it, the vector leads to it."""
    desc = cpu.irq.desc[irq] = IrqDesc(irq, hwirq, vector, target, handle_irq=handle_bad_irq)
    if target == cpu.number:
        cpu.irq.vector_irq[vector] = desc
    return desc


def irq_free_desc(cpu: Cpu, irq: int) -> None:
    """The number and, on the CPU that takes it, the vector are free again."""
    desc = cpu.irq.desc.pop(irq, None)
    if desc is not None and cpu.irq.vector_irq[desc.vector] is desc:
        cpu.irq.vector_irq[desc.vector] = None
