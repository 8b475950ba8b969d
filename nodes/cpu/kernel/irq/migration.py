"""Moving a line to another CPU while its device goes on interrupting.

Models irq_move_irq (kernel/irq/migration.c) and the two halves of a move in apic/vector.c. A
message cannot be readdressed safely from outside, so the move is made by the CPU that takes the
line, *inside the acknowledgement of its next interrupt*: mask the entry, write address and data,
unmask. Both slots stay mapped; the first interrupt at the new place sends IRQ_MOVE_CLEANUP to the
old CPU, which frees its slot, unless that vector is requested there again: then it sends the IPI to
itself and looks later.

Here a line's flow state belongs to one CPU, so it travels too. Who does what, by records::

    boot     reserves a slot     INSTALL -> new CPU        PREPARE -> old CPU
    old      next interrupt: reprograms the device, runs the handlers, then
                                 HAND_OVER -> new CPU      MOVED -> boot
    new      first interrupt:    CLEANUP + IRQ_MOVE_CLEANUP -> old CPU
    old      frees its slot:                               FREED -> boot

Nothing is lost on the way. What comes to the new CPU before the state has come is PENDING, as while
a handler runs elsewhere, and is replayed; what still comes to the old CPU is passed on (RESEND) and
replayed. A replay proves nothing about the device, so it never completes a move. Eras without
IRQ_MOVE_CLEANUP, and moves within a vector's domain, end at MOVED: the number stays the same.

A line whose threads or handlers run is handed over when they are done; the new CPU makes threads of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodes.cpu.kernel.ipi import send_ipi
from nodes.cpu.kernel.irq.desc import (
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQD_IRQ_MASKED,
    IRQD_SETAFFINITY_PENDING,
    IRQS_PENDING,
    IRQS_REPLAY,
    IrqDesc,
)
from nodes.cpu.kernel.irq.system_vectors import IRQ_MOVE_CLEANUP_VECTOR
from nodes.cpu.kernel.irq.thread import setup_irq_thread, wake_up_irq_thread
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.sched import wake_up_process
from nodes.cpu.kernel.smp import (
    REMOTE_FUNCTIONS,
    call_function_single,
    flush_records,
    queue_record,
    remote_function,
)
from nodes.cpu.kernel.timer import timer_setup

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Records: [function, irq, serial of the move, ...]
INSTALL, UNINSTALL, PREPARE, CANCEL, HAND_OVER, RESEND, CLEANUP = range(40, 47)
MOVED, FREED, CANCELLED = range(47, 50)  # to the boot CPU

BOOT_CPU = 0


@dataclass(slots=True)
class Motion:
    """Of a line, on the CPU concerned. ``target``: where it is to go, -1 nowhere; ``written``: the
    device knows. ``cleanup_on``: the CPU that still has a slot of it, -1 none."""

    serial: int
    target: int = -1
    vector: int = 0
    cleanup: bool = False
    written: bool = False
    cleanup_on: int = -1


def tell(cpu: Cpu, target: int, record: list[int]) -> Context:
    """Have ``target`` act on a record: by an IPI, or at once if that is this CPU."""
    if target != cpu.number:
        yield from call_function_single(cpu, target, record)
        return
    context = REMOTE_FUNCTIONS[record[0]](cpu, target, record)
    if context is not None:
        yield from context


# ---------------------------------------------------------------- the CPU that has the line


@remote_function(PREPARE)
def _prepare(cpu: Cpu, _source: int, record: list[int]) -> None:
    """[.., new CPU, new vector, whether the old slot is to be cleaned up]"""
    _, irq, serial, target, vector, cleanup = record[:6]
    desc = cpu.irq.desc.get(irq)
    if desc is not None and desc.target == cpu.number:
        desc.motion = Motion(serial, target, vector, bool(cleanup))
        desc.state |= IRQD_SETAFFINITY_PENDING


@remote_function(CANCEL)
def _cancel(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    """Something else is wanted now; too late once the device knows."""
    desc = cpu.irq.desc.get(record[1])
    motion = desc.motion if desc is not None else None
    if desc is None or motion is None or motion.serial != record[2] or motion.written:
        return None
    desc.motion = None
    desc.state &= ~IRQD_SETAFFINITY_PENDING
    return tell(cpu, BOOT_CPU, [CANCELLED, *record[1:3]])


def irq_move_irq(cpu: Cpu, desc: IrqDesc) -> None:
    """From the chip's acknowledgement: make the move that is pending."""
    motion = desc.motion
    if motion is None or motion.target < 0 or motion.written or desc.state & IRQD_IRQ_DISABLED:
        return
    move_masked_irq(cpu, desc, motion)


def move_masked_irq(cpu: Cpu, desc: IrqDesc, motion: Motion) -> None:
    """Reprogram the device with the line masked."""
    chip = desc.chip
    assert chip.irq_set_affinity is not None
    assert chip.irq_mask is not None
    assert chip.irq_unmask is not None
    masked = desc.state & IRQD_IRQ_MASKED
    if not masked:
        chip.irq_mask(cpu, desc)
    chip.irq_set_affinity(cpu, desc, motion.target, motion.vector)
    if not masked:
        chip.irq_unmask(cpu, desc)
    motion.written = True
    desc.state &= ~IRQD_SETAFFINITY_PENDING


def moving_interrupt(cpu: Cpu, desc: IrqDesc) -> Context:
    """A device's vector whose line is on the move, or is not this CPU's."""
    if desc.target != cpu.number:
        cpu.lapic.eoi()
        yield from _resend(cpu, desc)
        return
    motion = desc.motion
    if motion is not None and motion.cleanup_on >= 0 and not desc.istate & IRQS_REPLAY:
        yield from _irq_complete_move(cpu, desc, motion)
    yield from desc.handle_irq(cpu, desc)
    if move_is_made(desc):
        yield from hand_over(cpu, desc)


def move_is_made(desc: IrqDesc) -> bool:
    """The device sends elsewhere from now on; the line's state is still here."""
    return desc.motion is not None and desc.motion.written


def hand_over(cpu: Cpu, desc: IrqDesc) -> Context:
    """The device sends to the new CPU: give it the line's state."""
    motion = desc.motion
    assert motion is not None
    if desc.threads_active or desc.state & IRQD_IRQ_INPROGRESS:
        later = timer_setup(cpu, lambda cpu: _hand_over_later(cpu, desc, motion))
        cpu.timers.mod_timer(later, cpu.jiffies() + 1)
        return
    desc.motion = None
    if motion.target != cpu.number:
        record = [
            HAND_OVER, desc.irq, motion.serial, desc.istate, desc.state, desc.depth,
            desc.irq_count << 32 | desc.irqs_unhandled, desc.last_unhandled,
        ]  # fmt: skip
        desc.target = motion.target
        desc.istate = 0
        _stop_threads(cpu, desc)
        yield from call_function_single(cpu, motion.target, record)
    yield from tell(cpu, BOOT_CPU, [MOVED, desc.irq, motion.serial])


def _hand_over_later(cpu: Cpu, desc: IrqDesc, motion: Motion) -> Context | None:
    return hand_over(cpu, desc) if desc.motion is motion else None


def _stop_threads(cpu: Cpu, desc: IrqDesc) -> None:
    """Threads of a line live where it lives."""
    for action in desc.actions:
        for part in (action, action.secondary):
            if part is not None and part.thread is not None:
                part.thread.should_stop = True
                wake_up_process(cpu, part.thread)
                part.thread, part.thread_flags = None, 0


# ---------------------------------------------------------------- the CPU that gets it


@remote_function(INSTALL)
def _install(cpu: Cpu, _source: int, record: list[int]) -> None:
    """[.., vector, CPU to clean up on afterwards or none (all ones)]"""
    _, irq, serial, vector = record[:4]
    desc = cpu.irq.desc.get(irq)
    if desc is not None:
        cpu.irq.vector_irq[vector] = desc
        desc.vector = vector
        desc.istate = 0
        desc.incoming = Motion(serial, cleanup_on=record[4] - 1)


@remote_function(UNINSTALL)
def _uninstall(cpu: Cpu, _source: int, record: list[int]) -> None:
    """The move was called off. [.., whether the slot goes with it]"""
    desc = cpu.irq.desc.get(record[1])
    if desc is not None and desc.incoming is not None and desc.incoming.serial == record[2]:
        desc.incoming = None
        if record[3] and cpu.irq.vector_irq[desc.vector] is desc:
            cpu.irq.vector_irq[desc.vector] = None


@remote_function(HAND_OVER)
def _take_over(cpu: Cpu, _source: int, record: list[int]) -> None:
    desc = cpu.irq.desc.get(record[1])
    if desc is None or desc.incoming is None or desc.incoming.serial != record[2]:
        return  # freed meanwhile
    came = desc.istate & IRQS_PENDING
    desc.target = cpu.number
    desc.istate, desc.state, desc.depth = record[3] | came, record[4], record[5]
    desc.irq_count, desc.irqs_unhandled = record[6] >> 32, record[6] & 0xFFFF_FFFF
    desc.last_unhandled = record[7]
    motion, desc.incoming = desc.incoming, None
    desc.motion = motion if motion.cleanup_on >= 0 else None
    for action in desc.actions:
        for part, second in ((action, False), (action.secondary, True)):
            if part is not None and part.thread_fn is not None and part.thread is None:
                setup_irq_thread(cpu, desc, part, second)
                wake_up_irq_thread(cpu, part)
    if came and not desc.state & IRQD_IRQ_DISABLED:
        _replay(cpu, desc)


def _resend(cpu: Cpu, desc: IrqDesc) -> Context:
    """An interrupt for a line that this CPU has not yet, or no longer."""
    if desc.incoming is not None:
        desc.istate |= IRQS_PENDING
    else:
        yield from call_function_single(cpu, desc.target, [RESEND, desc.irq])


@remote_function(RESEND)
def _resent(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    desc = cpu.irq.desc.get(record[1])
    if desc is None:
        return None
    if desc.target != cpu.number:
        return _resend(cpu, desc)
    _replay(cpu, desc)
    return None


def _replay(cpu: Cpu, desc: IrqDesc) -> None:
    """irq_retrigger: the vector as an IPI to this CPU."""
    if not desc.istate & IRQS_REPLAY:
        desc.istate = desc.istate & ~IRQS_PENDING | IRQS_REPLAY
        send_ipi(cpu, cpu.number, desc.vector)


def _irq_complete_move(cpu: Cpu, desc: IrqDesc, motion: Motion) -> Context:
    """send_cleanup_vector: the device's first message came here, so none comes there any more."""
    desc.motion = None
    old = motion.cleanup_on
    if old in cpu.online_cpus:
        yield from queue_record(cpu, old, [CLEANUP, desc.irq, motion.serial])
        send_ipi(cpu, old, IRQ_MOVE_CLEANUP_VECTOR)
    else:
        yield from tell(cpu, BOOT_CPU, [FREED, desc.irq, motion.serial])


# ---------------------------------------------------------------- the CPU that had it


@remote_function(CLEANUP)
def _note_cleanup(cpu: Cpu, _source: int, record: list[int]) -> None:
    cpu.irq.cleanup_list.append((record[1], record[2]))


def irq_move_cleanup_interrupt(cpu: Cpu) -> Context:
    """The IRQ_MOVE_CLEANUP vector: free what has moved away."""
    yield from flush_records(cpu)
    waiting, cpu.irq.cleanup_list = cpu.irq.cleanup_list, []
    for irq, serial in waiting:
        desc = cpu.irq.desc.get(irq)
        gone = desc is not None and desc.target != cpu.number and desc.incoming is None
        if desc is not None and gone and cpu.irq.vector_irq[desc.vector] is desc:
            if cpu.lapic.irr >> desc.vector & 1:
                cpu.irq.cleanup_list.append((irq, serial))
                send_ipi(cpu, cpu.number, IRQ_MOVE_CLEANUP_VECTOR)
                continue
            cpu.irq.vector_irq[desc.vector] = None
        yield from tell(cpu, BOOT_CPU, [FREED, irq, serial])
