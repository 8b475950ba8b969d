"""Gates of the vector table and the exceptions behind them, after arch/x86/kernel/{idt,traps}.c.

Every vector from 0x20 up leads to the interrupt entry, so that any stray one still reaches
``vector_irq``; 0x80 is the one gate that user mode may call (DPL 3), beside breakpoint and
overflow. ``int 0x80`` knows no system call here and answers -ENOSYS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.idt import VECTORS, Idt
from nodes.cpu.kernel.irq.entry import interrupt, system_entries
from nodes.cpu.kernel.irq.system_vectors import FIRST_EXTERNAL_VECTOR, IA32_SYSCALL_VECTOR
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_EMERG, KERN_INFO, printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

EXCEPTIONS = {
    0: "divide error", 1: "debug", 2: "nmi", 3: "int3", 4: "overflow", 5: "bounds",
    6: "invalid opcode", 7: "device not available", 8: "double fault",
    9: "coprocessor segment overrun", 10: "invalid TSS", 11: "segment not present",
    12: "stack segment", 13: "general protection", 14: "page fault", 16: "coprocessor error",
    17: "alignment check", 18: "machine check", 19: "simd exception",
}  # fmt: skip
BREAKPOINT, OVERFLOW = 3, 4
ENOSYS = 38


def trap_init(cpu: Cpu) -> None:
    """Fill this CPU's table."""
    cpu.idt = Idt()
    cpu.irq.system_entry = system_entries(cpu.params)
    for n in EXCEPTIONS:
        cpu.idt.set_gate(n, _exception, dpl=3 if n in (BREAKPOINT, OVERFLOW) else 0)
    for n in range(FIRST_EXTERNAL_VECTOR, VECTORS):
        if n != IA32_SYSCALL_VECTOR:
            cpu.idt.set_gate(n, _external)
    cpu.idt.set_gate(IA32_SYSCALL_VECTOR, _syscall, dpl=3)


def _external(cpu: Cpu, n: int) -> Context:
    return interrupt(cpu, n, 0)


def _syscall(cpu: Cpu, _n: int) -> Context:
    """entry_INT80: process context, interrupts on again at once."""
    cpu.irqs_on = True
    yield
    return -ENOSYS


def _exception(cpu: Cpu, n: int) -> Context:
    printk(cpu, f"traps: {cpu.current.comm}[{cpu.current.pid}] trap {EXCEPTIONS[n]}", KERN_INFO)
    yield
    return 0


def general_protection(cpu: Cpu, error_code: int, *, user: bool) -> None:
    """#GP in the log; the caller ends the task."""
    task = cpu.current
    if user:
        printk(cpu, f"traps: {task.comm}[{task.pid}] general protection fault error:{error_code:x}")
    else:
        printk(cpu, f"general protection fault: {error_code:04x} [#1] SMP", KERN_EMERG)
