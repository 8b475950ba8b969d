"""Non-maskable interrupts, after arch/x86/kernel/nmi.c and traps.c.

An NMI comes in whatever IF says, but not over another NMI: one more is latched until the iret. It
takes no lock, wakes nobody and runs no softirq on its way out. Handlers are asked in turn; when
nobody wants it the kernel says so and goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import CONTEXT_NMI, HARDIRQ_OFFSET, LEVEL_NMI, Context
from nodes.cpu.kernel.printk import KERN_EMERG, printk
from nodes.cpu.page import ARCH_IRQS, CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_NMI = CPU_SCHEMA.index("arch_irqs") + ARCH_IRQS.index("NMI")

_UNKNOWN = {
    "2.6.18": (
        "Uhhuh. NMI received for unknown reason 00.",
        "Dazed and confused, but trying to continue",
        "Do you have a strange power saving mode enabled?",
    ),
    "3.10": (
        "Uhhuh. NMI received for unknown reason 00 on CPU {cpu}.",
        "Do you have a strange power saving mode enabled?",
        "Dazed and confused, but trying to continue",
    ),
    "6.1": (
        "Uhhuh. NMI received for unknown reason 00 on CPU {cpu}.",
        "Dazed and confused, but trying to continue",
    ),
}


def nmi(cpu: Cpu) -> Context:
    """The context of one NMI: nmi_enter, handlers, nmi_exit."""
    outer = cpu.enter_context(CONTEXT_NMI)
    offset = cpu.params.nmi_offset + HARDIRQ_OFFSET
    cpu.preempt_count += offset
    cpu.levels.append(LEVEL_NMI)
    cpu.words[_NMI] += 1
    yield
    wanted = False
    for handler in cpu.nmi_handlers:
        wanted |= handler(cpu)
    if not wanted:
        for line in _UNKNOWN[cpu.params.log_format]:
            printk(cpu, line.format(cpu=cpu.number), KERN_EMERG)
    yield
    cpu.levels.pop()
    cpu.preempt_count -= offset
    cpu.enter_context(outer)
