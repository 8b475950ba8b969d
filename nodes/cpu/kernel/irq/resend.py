"""Sending again what came while a line was disabled, after kernel/irq/resend.c.

First the chip tries (``irq_retrigger``: the local APIC sends the vector to the line's CPU); where
there is no such operation, ``sw_resend`` lets a tasklet run the flow handler. Level lines need
neither: their level is still there. Behaviour ``irq_resend``: 2.6.18 knows no levels here; 6.1
marks REPLAY only if something was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq.desc import IRQ_LEVEL, IRQS_PENDING, IRQS_REPLAY, IrqDesc
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tasklet import tasklet_schedule

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def check_irq_resend(cpu: Cpu, desc: IrqDesc) -> None:
    """The line was enabled: is an interrupt owed?"""
    rule = cpu.params.irq_resend
    if rule != "any-pending" and desc.settings & IRQ_LEVEL:
        desc.istate &= ~IRQS_PENDING
        return
    if desc.istate & IRQS_REPLAY or not desc.istate & IRQS_PENDING:
        return
    desc.istate &= ~IRQS_PENDING
    if rule != "edge-if-sent":
        desc.istate |= IRQS_REPLAY
    retrigger = desc.chip.irq_retrigger
    if (retrigger is not None and retrigger(cpu, desc)) or irq_sw_resend(cpu, desc):
        desc.istate |= IRQS_REPLAY


def irq_sw_resend(cpu: Cpu, desc: IrqDesc) -> bool:
    """Leave it to the tasklet; False where the kernel is built without."""
    if cpu.params.sw_resend == "no":
        return False
    if desc not in cpu.irq.resend_list:
        cpu.irq.resend_list.append(desc)
    assert cpu.irq.resend_tasklet is not None
    tasklet_schedule(cpu, cpu.irq.resend_tasklet)
    return True


def resend_irqs(cpu: Cpu) -> Context:
    """The tasklet: run the flow of each marked line as its interrupt would."""
    marked = cpu.irq.resend_list
    while marked:
        desc = marked.pop(0)
        local_irq_disable(cpu)
        yield from desc.handle_irq(cpu, desc)
        local_irq_enable(cpu)
