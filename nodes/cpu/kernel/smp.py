"""Work for other CPUs: IPIs, the record rings that carry their payload, bringing CPUs up.

An IPI is an ICR write and carries only its vector. What is to be done stands in a record of the
bounded ring of that pair of CPUs, as Linux's call-single-data: a function number and seven words.
The receiver's interrupt takes all records of all rings. A full ring makes the sender wait, as
``csd_lock`` does. Bring-up follows arch/x86/kernel/smpboot.c: INIT, STARTUP, wait for the CPU to
call in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bus.messages import IcrWrite
from nodes.cpu.kernel.percpu import Context, Pause
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import APIC

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Page number of the trampoline: start-up IPIs carry it, the CPU would start at 0x9a000.
TRAMPOLINE_PAGE = 0x9A

#: A CPU that waits for room in a ring looks again after this long.
CSD_RETRY_NS = 50_000

_SENT = CPU_SCHEMA.index("ipi_sent")
_REMOTE_WAKEUPS = CPU_SCHEMA.index("wakeups_remote")
_SEND = TRACEPOINTS["ipi_send"].number

#: What a record may ask for: function number -> f(cpu, source CPU, record); it may be a context.
RemoteFunction = Callable[["Cpu", int, list[int]], Context | None]
REMOTE_FUNCTIONS: dict[int, RemoteFunction] = {}


def remote_function(number: int) -> Callable[[RemoteFunction], RemoteFunction]:
    """Register what record number ``number`` does on the CPU that receives it."""

    def register(function: RemoteFunction) -> RemoteFunction:
        assert number not in REMOTE_FUNCTIONS
        REMOTE_FUNCTIONS[number] = function
        return function

    return register


def send_ipi(cpu: Cpu, target: int, vector: int) -> None:
    """Fixed, physical destination, edge; at most one of a kind to each CPU in a turn.

    What is posted in a turn leaves at its end, so one message announces every record queued until
    then: Linux sends none either while the target's need_resched is set already."""
    if (target, vector) in cpu.ipis_posted:
        return
    cpu.ipis_posted.append((target, vector))
    cpu.words[_SENT] += 1
    cpu.trace(_SEND, vector, target)
    cpu.post(APIC, IcrWrite(target << 56 | 1 << 14 | vector))


def queue_record(cpu: Cpu, target: int, record: list[int]) -> Context:
    """Put a record into the ring to ``target``; wait while the ring is full."""
    ring = cpu.ram.csd_ring(cpu.number, target)
    while not ring.push(record):
        yield Pause(cpu.now() + CSD_RETRY_NS)


def call_function_single(cpu: Cpu, target: int, record: list[int]) -> Context:
    """smp_call_function_single without waiting for its end."""
    yield from queue_record(cpu, target, record)
    send_ipi(cpu, target, cpu.params.call_function_single_vector)


def queue_remote_wakeup(cpu: Cpu, target: int, record: list[int]) -> Context:
    """ttwu_queue: hand a wake-up (and what it brings) over and send the reschedule IPI."""
    cpu.words[_REMOTE_WAKEUPS] += 1
    yield from queue_record(cpu, target, record)
    send_ipi(cpu, target, cpu.params.reschedule_vector)


def flush_records(cpu: Cpu) -> Context:
    """Take every record that waits for this CPU; returns how many there were."""
    taken = 0
    for source in cpu.online_cpus:
        if source == cpu.number:
            continue
        ring = cpu.ram.csd_ring(source, cpu.number)
        while (record := ring.pop()) is not None:
            taken += 1
            context = REMOTE_FUNCTIONS[record[0]](cpu, source, record)
            if context is not None:
                yield from context
            yield
    return taken


def start_cpu(cpu: Cpu, target: int) -> None:
    """INIT assert, then two STARTUP IPIs (the second is ignored by a running CPU)."""
    for low in (0x4500, 0x4600 | TRAMPOLINE_PAGE, 0x4600 | TRAMPOLINE_PAGE):
        cpu.post(APIC, IcrWrite(target << 56 | low))
        cpu.words[_SENT] += 1
