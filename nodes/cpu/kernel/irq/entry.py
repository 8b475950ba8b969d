"""From the vector to the handler and out again: arch/x86/kernel/irq.c.

``interrupt`` is the context that the core pushes when it takes a vector. System vectors (local
timer, reschedule, call function) have entries of their own, here by their names in 6.1; every
other vector is a device's (do_IRQ, later common_interrupt) and goes through
``vector_irq`` to a descriptor's flow handler, or is acknowledged and reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.apic import error_interrupt, spurious_interrupt
from nodes.cpu.kernel.irq.migration import (
    hand_over,
    irq_move_cleanup_interrupt,
    move_is_made,
    moving_interrupt,
)
from nodes.cpu.kernel.irq.system_vectors import SYSTEM_VECTORS
from nodes.cpu.kernel.percpu import CONTEXT_HARDIRQ, HARDIRQ_OFFSET, Context
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.smp import (
    flush_records,
    run_calls,
    run_wake_list,
    take_calls,
    take_records,
)
from nodes.cpu.kernel.softirq import invoke_softirq
from nodes.cpu.page import ARCH_IRQS, CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.irq.desc import SystemEntry
    from nodes.cpu.kernel.params import Params
    from nodes.cpu.kernel.percpu import Cpu

_ARCH = CPU_SCHEMA.index("arch_irqs")
_LOC = _ARCH + ARCH_IRQS.index("LOC")
_RES = _ARCH + ARCH_IRQS.index("RES")
_CAL = _ARCH + ARCH_IRQS.index("CAL")
_NO_HANDLER = CPU_SCHEMA.index("msi_no_handler")
_LOCAL_TIMER = TRACEPOINTS["local_timer_entry"].number
_RESCHEDULE = TRACEPOINTS["reschedule_entry"].number
_CALL = TRACEPOINTS["call_function_entry"].number
_LOCAL_TIMER_EXIT = TRACEPOINTS["local_timer_exit"].number
_RESCHEDULE_EXIT = TRACEPOINTS["reschedule_exit"].number
_CALL_EXIT = TRACEPOINTS["call_function_exit"].number
_SPURIOUS = TRACEPOINTS["spurious_apic_entry"].number
_SPURIOUS_EXIT = TRACEPOINTS["spurious_apic_exit"].number
_ERROR = TRACEPOINTS["error_apic_entry"].number
_ERROR_EXIT = TRACEPOINTS["error_apic_exit"].number


def interrupt(cpu: Cpu, vector: int, arrived_ns: int) -> Context:
    """The hard interrupt context for one vector; interrupts are off on entry."""
    outer = cpu.enter_context(CONTEXT_HARDIRQ)
    entry = cpu.irq.system_entry.get(vector)
    if entry is None:
        irq_enter(cpu, vector)
        yield from common_interrupt(cpu, vector, arrived_ns)
        yield from irq_exit(cpu, outer)
    else:
        yield from entry(cpu, vector, outer)


def system_entries(params: Params) -> dict[int, SystemEntry]:
    """The gates of the system vectors that this kernel has a use for."""
    vectors = SYSTEM_VECTORS[params.system_vectors].vectors
    return {vectors[name]: entry for name, entry in _SYSTEM.items() if name in vectors}


def sysvec_apic_timer_interrupt(cpu: Cpu, vector: int, outer: int) -> Context:
    cpu.lapic.eoi()
    irq_enter(cpu, vector)
    cpu.words[_LOC] += 1
    cpu.trace(_LOCAL_TIMER, vector)
    cpu.timers.interrupt()
    cpu.trace(_LOCAL_TIMER_EXIT, vector)
    yield from irq_exit(cpu, outer)


def sysvec_call_function(cpu: Cpu, vector: int, outer: int) -> Context:
    cpu.lapic.eoi()
    irq_enter(cpu, vector)
    cpu.words[_CAL] += 1
    calls = take_calls(cpu)
    cpu.trace(_CALL, vector)
    yield from run_calls(cpu, calls)
    cpu.trace(_CALL_EXIT, vector, len(calls))
    yield from irq_exit(cpu, outer)


def sysvec_irq_move_cleanup(cpu: Cpu, vector: int, outer: int) -> Context:
    cpu.lapic.eoi()
    irq_enter(cpu, vector)
    yield from irq_move_cleanup_interrupt(cpu)
    yield from irq_exit(cpu, outer)


def sysvec_spurious_apic_interrupt(cpu: Cpu, vector: int, outer: int) -> Context:
    irq_enter(cpu, vector)
    cpu.trace(_SPURIOUS, vector)
    spurious_interrupt(cpu)
    cpu.trace(_SPURIOUS_EXIT, vector)
    yield from irq_exit(cpu, outer)


def sysvec_error_interrupt(cpu: Cpu, vector: int, outer: int) -> Context:
    cpu.lapic.eoi()
    irq_enter(cpu, vector)
    cpu.trace(_ERROR, vector)
    error_interrupt(cpu)
    cpu.trace(_ERROR_EXIT, vector)
    yield from irq_exit(cpu, outer)


def sysvec_reschedule_ipi(cpu: Cpu, vector: int, outer: int) -> Context:
    """Nothing but the return path's look at need_resched; since 2.6.39 also scheduler_ipi.

    Behaviour ``scheduler_ipi``: *nothing* (2.6.18), no irq_enter; *wake-list*, irq_enter and
    irq_exit, and so softirqs, if it brought wake-ups; *no-exit* (6.1), it counts as a hard
    interrupt but never runs softirqs. Wake-ups ride here in all eras: where Linux takes the other
    CPU's run queue lock, this kernel sends what it would have done."""
    cpu.lapic.eoi()
    cpu.words[_RES] += 1
    take_records(cpu)
    wakes = len(cpu.call.wakes)
    how = cpu.params.scheduler_ipi
    entered = how == "no-exit" or (wakes > 0 and how == "wake-list")
    if entered:
        irq_enter(cpu, vector)
    cpu.trace(_RESCHEDULE, vector)
    if wakes:
        yield from run_wake_list(cpu)
    cpu.trace(_RESCHEDULE_EXIT, vector, wakes)
    if entered:
        if how == "wake-list":
            yield from irq_exit(cpu, outer)
            return
        cpu.levels.pop()
        cpu.preempt_count -= HARDIRQ_OFFSET
    cpu.enter_context(outer)


#: By the names of ``system_vectors``; all others above 0x1f lead to ``common_interrupt``.
_SYSTEM: dict[str, SystemEntry] = {
    "LOCAL_TIMER": sysvec_apic_timer_interrupt,
    "RESCHEDULE": sysvec_reschedule_ipi,
    "CALL_FUNCTION": sysvec_call_function,
    "CALL_FUNCTION_SINGLE": sysvec_call_function,
    "IRQ_MOVE_CLEANUP": sysvec_irq_move_cleanup,
    "SPURIOUS_APIC": sysvec_spurious_apic_interrupt,
    "ERROR_APIC": sysvec_error_interrupt,
}


def irq_enter(cpu: Cpu, vector: int) -> None:
    """From here on this is a hard interrupt."""
    cpu.preempt_count += HARDIRQ_OFFSET
    cpu.levels.append(vector)


def irq_exit(cpu: Cpu, outer: int) -> Context:
    """Leave the hard interrupt; run softirqs if no interrupt is left below."""
    cpu.irqs_on = False
    cpu.levels.pop()
    cpu.preempt_count -= HARDIRQ_OFFSET
    if cpu.softirq.pending and not cpu.in_interrupt():
        yield from invoke_softirq(cpu, outer)
    else:
        cpu.enter_context(outer)


def common_interrupt(cpu: Cpu, vector: int, arrived_ns: int) -> Context:
    """do_IRQ / common_interrupt for vectors that belong to devices."""
    desc = cpu.irq.vector_irq[vector]
    if desc is None:
        yield from flush_records(cpu)  # the record that maps it may be under way
        desc = cpu.irq.vector_irq[vector]
    if desc is None:
        cpu.lapic.eoi()
        cpu.words[_NO_HANDLER] += 1
        printk(cpu, f"{cpu.number}.{vector} No irq handler for vector", KERN_ERR)
        return
    desc.arrived_ns = arrived_ns
    if desc.target != cpu.number or desc.motion is not None:
        yield from moving_interrupt(cpu, desc)
        return
    yield from desc.handle_irq(cpu, desc)
    if move_is_made(desc):  # it was asked for while the handlers ran
        yield from hand_over(cpu, desc)
