"""Who may stand on whom on one CPU, checked at instruction boundaries.

``cpu.levels`` says what serves what (``nodes.cpu.kernel.percpu``); it is kept by the entry code
apart from ``preempt_count``, so that the two can be compared. The simulation checks each boundary
and stops; a CPU process checks at the end of each turn and counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irq.desc import IRQD_IRQ_INPROGRESS
from nodes.cpu.kernel.percpu import (
    HARDIRQ_OFFSET,
    LEVEL_NMI,
    LEVEL_SOFTIRQ,
    SOFTIRQ_MASK,
    SOFTIRQ_OFFSET,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


class InvariantError(AssertionError):
    """A rule of contexts does not hold."""


def broken(cpu: Cpu) -> str:
    """What is wrong on this CPU, in words; empty if nothing is."""
    levels, count = cpu.levels, cpu.preempt_count
    hard = nmis = 0
    softirq = False
    for at, level in enumerate(levels):
        if level == LEVEL_SOFTIRQ:
            if softirq:
                return "a softirq runs on top of a softirq"
            if hard or nmis:
                return "a softirq runs on top of a hard interrupt"
            softirq = True
        elif level == LEVEL_NMI:
            if nmis:
                return "an NMI runs on top of an NMI"
            nmis += 1
        else:
            if nmis:
                return f"vector {level:#x} was taken inside an NMI"
            if level in levels[:at] and not _line_in_progress(cpu, level):
                return f"vector {level:#x} runs on top of itself"
            hard += 1
    if count < 0:
        return f"preempt_count is {count:#x}"
    if (count & cpu.hardirq_mask) // HARDIRQ_OFFSET != hard + nmis:
        return f"preempt_count {count:#x} does not show {hard} hard interrupts and {nmis} NMIs"
    if cpu.nmi_mask and bool(count & cpu.nmi_mask) != bool(nmis):
        return f"preempt_count {count:#x} does not show {nmis} NMIs"
    if softirq and not count & SOFTIRQ_MASK:
        return f"preempt_count {count:#x} does not show the softirq"
    serving = count & SOFTIRQ_OFFSET
    if not softirq and serving and cpu.params.softirq_disable_offset != SOFTIRQ_OFFSET:
        return f"preempt_count {count:#x} shows a softirq that does not run"
    if not levels and not cpu.stack and cpu.current is cpu.idle and count:
        return f"the idle task has preempt_count {count:#x}"
    return ""


def _line_in_progress(cpu: Cpu, vector: int) -> bool:
    """Handlers that run with interrupts on, behind an early EOI, can meet their own vector again;
    its flow finds the line in progress, marks it and leaves."""
    desc = cpu.irq.vector_irq[vector] if vector >= 0 else None
    return desc is not None and bool(desc.state & IRQD_IRQ_INPROGRESS)
