"""What the interrupt layer asks of a chip, and what it does when the chip cannot (chip.c).

=========  ==============================  =======================================  ==============
operation  callback                        fallback                                 state
=========  ==============================  =======================================  ==============
startup    irq_startup                     enable                                   depth 0
shutdown   irq_shutdown                    irq_disable, then irq_mask               depth 1
enable     irq_enable                      irq_unmask                               DISABLED off
disable    irq_disable                     nothing: lazy, the next arrival masks    DISABLED on
mask_ack   irq_mask_ack                    irq_mask, then irq_ack                   MASKED on
mask       irq_mask                        nothing                                  MASKED on
unmask     irq_unmask                      nothing                                  MASKED off
=========  ==============================  =======================================  ==============

Behaviours: ``lazy_disable``, ``redundant_mask`` (6.1 does not mask a masked line again),
``freed_depth``, ``enable_irq_starts``, ``startup_resend`` (setup_irq of 2.6.18 owes nothing).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq.desc import (
    IRQ_DELAYED_DISABLE,
    IRQ_DISABLE_UNLAZY,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_MASKED,
    IRQD_IRQ_STARTED,
    IrqDesc,
)
from nodes.cpu.kernel.irq.resend import check_irq_resend

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def irq_startup(cpu: Cpu, desc: IrqDesc) -> None:
    """The line may deliver from here on; what it owes is sent again (``startup_resend``)."""
    desc.depth = 0
    startup = desc.chip.irq_startup
    if startup is not None and not desc.state & IRQD_IRQ_STARTED:
        startup(cpu, desc)
        desc.state &= ~(IRQD_IRQ_DISABLED | IRQD_IRQ_MASKED)
    else:
        irq_enable(cpu, desc)
    desc.state |= IRQD_IRQ_STARTED
    if cpu.params.startup_resend == "yes":
        check_irq_resend(cpu, desc)


def irq_shutdown(cpu: Cpu, desc: IrqDesc) -> None:
    """The last action went."""
    chip = desc.chip
    operation = chip.irq_shutdown or chip.irq_disable or chip.irq_mask
    if operation is not None:
        operation(cpu, desc)
    desc.state |= IRQD_IRQ_DISABLED | IRQD_IRQ_MASKED
    desc.state &= ~IRQD_IRQ_STARTED
    if cpu.params.freed_depth == "one":
        desc.depth = 1


def irq_enable(cpu: Cpu, desc: IrqDesc) -> None:
    desc.state &= ~IRQD_IRQ_DISABLED
    if desc.chip.irq_enable is not None:
        desc.chip.irq_enable(cpu, desc)
        desc.state &= ~IRQD_IRQ_MASKED
    else:
        unmask_irq(cpu, desc)


def irq_disable(cpu: Cpu, desc: IrqDesc) -> None:
    """No handler runs from here on. Lazily: hardware learns of it if an interrupt comes."""
    desc.state |= IRQD_IRQ_DISABLED
    if desc.chip.irq_disable is not None:
        desc.chip.irq_disable(cpu, desc)
        desc.state |= IRQD_IRQ_MASKED
    elif not _lazily(cpu, desc):
        mask_irq(cpu, desc)


def _lazily(cpu: Cpu, desc: IrqDesc) -> bool:
    rule = cpu.params.lazy_disable
    if rule == "if-marked":
        return bool(desc.settings & IRQ_DELAYED_DISABLE)
    return rule == "always" or not desc.settings & IRQ_DISABLE_UNLAZY


def mask_irq(cpu: Cpu, desc: IrqDesc) -> None:
    if desc.state & IRQD_IRQ_MASKED and cpu.params.redundant_mask == "skipped":
        return
    if desc.chip.irq_mask is not None:
        desc.chip.irq_mask(cpu, desc)
        desc.state |= IRQD_IRQ_MASKED


def unmask_irq(cpu: Cpu, desc: IrqDesc) -> None:
    if not desc.state & IRQD_IRQ_MASKED and cpu.params.redundant_mask == "skipped":
        return
    if desc.chip.irq_unmask is not None:
        desc.chip.irq_unmask(cpu, desc)
        desc.state &= ~IRQD_IRQ_MASKED


def mask_ack_irq(cpu: Cpu, desc: IrqDesc) -> None:
    chip = desc.chip
    if chip.irq_mask_ack is not None:
        chip.irq_mask_ack(cpu, desc)
        desc.state |= IRQD_IRQ_MASKED
        return
    mask_irq(cpu, desc)
    if chip.irq_ack is not None:
        chip.irq_ack(cpu, desc)
