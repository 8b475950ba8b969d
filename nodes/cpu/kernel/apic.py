"""The kernel sets its local APIC up, and takes the two vectors that tell of it.

After arch/x86/kernel/apic/apic.c (setup_local_APIC): software-disable, destination registers, task
priority 0x10, drain what firmware left, enable with the spurious vector, LINT pins, error vector.
The timer works by deadline in every era here; what older kernels do with the counting modes has the
same effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.printk import KERN_DEBUG, KERN_INFO, printk
from nodes.cpu.lapicregs import DEADLINE, MASKED, OFFSET, SVR_ENABLE
from nodes.cpu.page import ARCH_IRQS, CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

SPURIOUS_APIC_VECTOR, ERROR_APIC_VECTOR = 0xFF, 0xFE
DIVIDE_BY_16 = 0x3
DRAIN_MAX = 512
#: Up to here the flat logical model has a bit for each CPU, and every era drives it.
FLAT_CPUS_MAX = 8
_EXTINT, _NMI = 0x700, 0x400

_ARCH = CPU_SCHEMA.index("arch_irqs")
_SPU = _ARCH + ARCH_IRQS.index("SPU")
_ERR = _ARCH + ARCH_IRQS.index("ERR")

#: Meaning of the bits of the error register, as the kernel words them.
ESR_TEXT = (
    "Send CS error", "Receive CS error", "Send accept error", "Receive accept error",
    "Redirectable IPI", "Send illegal vector", "Received illegal vector",
    "Illegal register address",
)  # fmt: skip


def setup_local_apic(cpu: Cpu) -> None:
    """setup_local_APIC and the timer's entry, register by register."""
    read, write = cpu.apic.read, cpu.apic.write
    write(OFFSET["SVR"], read(OFFSET["SVR"]) & ~SVR_ENABLE)
    if cpu.machine.cpus <= FLAT_CPUS_MAX:
        write(OFFSET["DFR"], 0xFFFF_FFFF)
        write(OFFSET["LDR"], 1 << cpu.number << 24)
    write(OFFSET["TPR"], 0x10)
    _drain(cpu)
    write(OFFSET["SVR"], SVR_ENABLE | SPURIOUS_APIC_VECTOR)
    write(OFFSET["LVT_LINT0"], _EXTINT | MASKED)
    write(OFFSET["LVT_LINT1"], _NMI | (0 if cpu.boot else MASKED))
    write(OFFSET["ESR"], 0)
    write(OFFSET["LVT_ERROR"], ERROR_APIC_VECTOR)
    write(OFFSET["ESR"], 0)
    write(OFFSET["LVT_TIMER"], DEADLINE | cpu.params.local_timer_vector)
    write(OFFSET["TIMER_DIVIDE"], DIVIDE_BY_16)


def lapic_offline(cpu: Cpu) -> None:
    """apic_soft_disable: what still comes is not accepted; what is requested stays in IRR."""
    cpu.lapic.deadline_ns = None
    cpu.apic.write(OFFSET["SVR"], cpu.apic.read(OFFSET["SVR"]) & ~SVR_ENABLE)


def _drain(cpu: Cpu) -> None:
    """One EOI for each vector that firmware left in service, until none is."""
    for _ in range(DRAIN_MAX):
        in_service = sum(cpu.apic.read(OFFSET[f"ISR{n}"]).bit_count() for n in range(8))
        if not in_service:
            return
        for _ in range(in_service):
            cpu.apic.write(OFFSET["EOI"], 0)


def spurious_interrupt(cpu: Cpu) -> None:
    """The vector of nobody: counted and reported; no EOI, unless somebody really sent it."""
    if cpu.lapic.isr >> SPURIOUS_APIC_VECTOR & 1:
        cpu.lapic.eoi()
    cpu.words[_SPU] += 1
    if cpu.params.log_format == "6.1":
        what = f"Spurious APIC interrupt (vector 0x{SPURIOUS_APIC_VECTOR:02X})"
    else:
        what = "spurious APIC interrupt"
    printk(cpu, f"{what} on CPU#{cpu.number}, should never happen.", KERN_INFO)


def error_interrupt(cpu: Cpu) -> None:
    """Latch and report the error register (a kernel since 3.x does so with ``apic=debug``)."""
    cpu.words[_ERR] += 1
    before = cpu.apic.read(OFFSET["ESR"])
    cpu.apic.write(OFFSET["ESR"], 0)
    errors = cpu.apic.read(OFFSET["ESR"])
    if cpu.params.log_format == "6.1":
        named = [text for bit, text in enumerate(ESR_TEXT) if errors >> bit & 1]
        words = "".join(f" : {text}" for text in named)
        printk(cpu, f"APIC error on CPU{cpu.number}: {errors:02x}{words}", KERN_DEBUG)
    else:
        printk(cpu, f"APIC error on CPU{cpu.number}: {before:02x}({errors:02x})", KERN_DEBUG)
