"""Emptying this CPU's queues without an interrupt: flush_smp_call_function_queue of kernel/smp.c.

For a CPU that goes offline: interrupts are off, or its local APIC is, and what others have queued
for it until they saw the new mask is to be done still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irqflags import local_irq_restore, local_irq_save
from nodes.cpu.kernel.percpu import HARDIRQ_OFFSET, Context
from nodes.cpu.kernel.smp import flush_records, run_wake_list

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def flush_smp_call_function_queue(cpu: Cpu) -> Context:
    """Calls and wake-ups, as if their interrupts had come."""
    flags = local_irq_save(cpu)
    cpu.preempt_count += HARDIRQ_OFFSET
    cpu.levels.append(cpu.params.call_function_vector)
    yield from flush_records(cpu)
    yield from run_wake_list(cpu)
    cpu.levels.pop()
    cpu.preempt_count -= HARDIRQ_OFFSET
    local_irq_restore(cpu, flags)
