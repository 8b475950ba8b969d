"""Running the actions of a line, after kernel/irq/handle.c.

The chain is run in the order of registration and to its end, whoever says IRQ_HANDLED; the results
are OR-ed. Behaviour ``handlers_irqs_on``: until 2.6.35 hard interrupts are enabled for the whole
chain if its first action lacks IRQF_DISABLED; later a handler that leaves them on is warned about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.irq import spurious, thread
from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    IRQD_IRQ_INPROGRESS,
    IRQF_DISABLED,
    IRQS_PENDING,
    IrqDesc,
)
from nodes.cpu.kernel.irq.report import function_name, print_irq_desc
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.page import CPU_SCHEMA, LATENCY_BUCKETS
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_IRQS = CPU_SCHEMA.index("irqs")
_LATENCY = CPU_SCHEMA.index("irq_latency")
_NOW = CPU_SCHEMA.index("hardirq_now")
_ENTRY = TRACEPOINTS["irq_handler_entry"].number
_EXIT = TRACEPOINTS["irq_handler_exit"].number


def kstat_incr_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """The count that /proc/interrupts shows."""
    cpu.words[_IRQS + desc.irq] += 1


def handle_irq_event(cpu: Cpu, desc: IrqDesc, in_progress: int = IRQD_IRQ_INPROGRESS) -> Context:
    """Run the chain with the line marked in progress (``in_progress`` 0: without, as
    handle_irq_event_percpu); returns the OR of what the handlers said."""
    irq, words, table = desc.irq, cpu.words, cpu.irq
    actions = desc.actions
    desc.istate &= ~IRQS_PENDING
    desc.state |= in_progress
    outer = 0
    if table.handlers_irqs_on:  # only then handlers nest
        outer = words[_NOW]
        cpu.irqs_on = not actions[0].flags & IRQF_DISABLED
    words[_NOW] = irq + 1
    if desc.arrived_ns:
        bucket = (cpu.now() - desc.arrived_ns).bit_length()
        words[_LATENCY + min(bucket, LATENCY_BUCKETS - 1)] += 1
        desc.arrived_ns = 0
    result = IRQ_NONE
    for action in actions:
        if cpu.trace_mask >> _ENTRY & 1:
            cpu.trace(_ENTRY, irq, desc.vector)
        returned = action.handler(irq, action.dev_id)
        if not isinstance(returned, int):
            returned = yield from returned
        if cpu.trace_mask >> _EXIT & 1:
            cpu.trace(_EXIT, irq, returned)
        if cpu.irqs_on and table.handlers_watched:
            name = function_name(action.handler)
            warn_once(cpu, "kernel/irq/handle.c", f"irq {irq} handler {name} enabled interrupts")
            cpu.irqs_on = False
        if returned == IRQ_WAKE_THREAD:
            thread.irq_wake_thread(cpu, desc, action)
        result |= returned
        yield
    cpu.irqs_on = False
    words[_NOW] = outer
    if result != IRQ_HANDLED or desc.irqs_unhandled or table.count_every:
        yield from spurious.note_interrupt(cpu, desc, result)
    desc.state &= ~in_progress
    return result


def handle_bad_irq(cpu: Cpu, desc: IrqDesc) -> Context:
    """The flow of a line that nobody set up: say so, count it, acknowledge it."""
    print_irq_desc(cpu, desc)
    kstat_incr_irq(cpu, desc)
    printk(cpu, f"unexpected IRQ trap at vector {desc.irq:02x}", KERN_ERR)
    cpu.lapic.eoi()
    yield
