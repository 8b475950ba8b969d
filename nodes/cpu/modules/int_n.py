"""Why a software interrupt is not a softirq: ``int n`` beside ``raise_softirq``.

With interrupts off, the module executes ``int n`` and raises a softirq, and notes for both when
they ran and in which state. The vector table is looked at as bytes: 4 an entry in real mode, a
gate of 16 in long mode. Result::

    int_n: n=0x41 real_mode_entry=0x104 long_mode_gate=0x410 ...
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.idt import RealModeTable
from nodes.cpu.kernel.irqflags import local_irq_restore, local_irq_save
from nodes.cpu.kernel.percpu import Context, SoftwareInterrupt
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.softirq import (
    local_bh_disable,
    local_bh_enable,
    open_softirq,
    raise_softirq_irqoff,
)
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "int_n"
#: Where a real-mode handler might lie.
SEGMENT, OFFSET = 0xF000, 0x1234


@module(NAME, params={"n": (0x41, "vector, 0x20 to 0xeb")})
def init(cpu: Cpu, params: Values) -> Context:
    """Execute int n and raise a softirq, both with interrupts off."""
    n = params["n"]
    if not 0x20 <= n < 0xEC or n == 0x80:
        return -EINVAL
    order: list[str] = []
    seen: dict[str, int] = {}

    def handler(cpu: Cpu, _n: int) -> Context:
        order.append("int")
        seen["int_count"], seen["int_isr"] = cpu.preempt_count, cpu.lapic.isr
        yield

    def action(cpu: Cpu) -> Context:
        order.append("softirq")
        seen["softirq_count"] = cpu.preempt_count
        yield

    _show_tables(cpu, n)
    number = cpu.params.softirq_names.index("BLOCK")
    before = cpu.softirq.actions[number]
    eois = cpu.lapic.isr
    open_softirq(cpu, number, action)
    old = bytes(cpu.idt.memory)
    cpu.idt.set_gate(n, handler)
    local_bh_disable(cpu)
    flags = local_irq_save(cpu)
    raise_softirq_irqoff(cpu, number)
    yield SoftwareInterrupt(n)
    order.append("interrupts_on")
    local_irq_restore(cpu, flags)
    yield
    order.append("bottom_halves_on")
    yield from local_bh_enable(cpu)
    cpu.idt.memory[:] = old
    open_softirq(cpu, number, before)
    report(
        cpu,
        NAME,
        n=f"{n:#x}",
        real_mode_entry=f"{RealModeTable().entry_address(n):#x}",
        long_mode_gate=f"{cpu.idt.entry_offset(n):#x}",
        order=",".join(order),
        int_preempt_count=f"{seen['int_count']:#x}",
        softirq_preempt_count=f"{seen['softirq_count']:#x}",
        apic_in_service=seen["int_isr"] - eois,
    )
    return 0


def _show_tables(cpu: Cpu, n: int) -> None:
    real = RealModeTable()
    real.set(n, SEGMENT, OFFSET)
    at = real.entry_address(n)
    printk(
        cpu,
        f"{NAME}: real mode: {n:#x} * 4 = {at:#x}: {real.memory[at : at + 4].hex(' ')} -> "
        f"{SEGMENT:04x}:{OFFSET:04x} = {real.handler_address(n):#x}",
    )
    at, gate = cpu.idt.entry_offset(n), cpu.idt.gate(n)
    raw = gate.encode()
    printk(
        cpu,
        f"{NAME}: long mode: {n:#x} * 16 = {at:#x}: {raw.hex(' ')} -> {gate.offset:#x}, "
        f"type {gate.type:#x}, DPL {gate.dpl}",
    )
