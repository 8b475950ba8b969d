"""Work for other CPUs: records in the rings that carry an IPI's payload, and how they are taken.

An IPI carries only its vector (``ipi``). What is to be done stands in a record of the bounded ring
of that pair of CPUs: a function by its number, and words. Two kinds share a ring. A *wake-up* is
what ttwu_queue hands over; it comes with the reschedule vector and is taken by ``scheduler_ipi``.
A *call* comes with a call-function vector; ``CALL_QUEUE`` is an atomic word for each CPU that says
"its call queue is not empty": whoever sets it sends the IPI, the receiver clears it before it takes
the records. Records that the other kind's interrupt finds are put aside for their own, which is on
its way. A full ring makes the sender wait, as csd_lock does.

``smpcall`` has what Linux calls smp_call_function. ``call_function_single`` is for what in Linux
moves through shared memory: frames for another CPU's backlog, new values for replicas. It rides in
the same ring with the same vector, but always announces itself, so that an IPI that is lost on its
way (somebody killed the interrupt controller) is mended by the next one; a call's is not.

Left out: in 6.1 a wake-up may ride in the call queue when the CPUs share no cache; ours do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bus.ram import CSD_RECORDS
from nodes.cpu.kernel import words
from nodes.cpu.kernel.bug import warn
from nodes.cpu.kernel.csd import csd_lock_wait, csd_record
from nodes.cpu.kernel.ipi import send_ipi
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

ENXIO = 6

#: Atomic words: the call queue of CPU n (CALL_QUEUE + n) holds something; call_data of 2.6.18.
CALL_QUEUE = words.CALL_QUEUE
CALL_LOCK, CALL_STARTED, CALL_FINISHED = range(words.CALL_DATA, words.CALL_DATA + 3)

#: Word 0 of a record: function number, and this bit for a wake-up.
TTWU = 1 << 16
#: Slots of a ring: a call_single_data for each use (``bus.ram.CsdRing``). 0 is the caller's own.
CSD_OWN, CSD_DATA, CSD_ON_STACK, CFD = 0, 1, 2, 3
#: Word 8: when it was queued. Word 9: slot, these bits, use of the slot.
CSD_TIME, CSD_FLAGS = 8, 9
CSD_TYPE_SYNC, CSD_GLOBAL, CSD_USE_SHIFT = 1 << 2, 1 << 3, 4

_ONLINE = CPU_SCHEMA.index("online")
_REMOTE_WAKEUPS = CPU_SCHEMA.index("wakeups_remote")

#: What a record may ask for: function number -> f(cpu, source CPU, record); it may be a context.
RemoteFunction = Callable[["Cpu", int, list[int]], Context | None]
REMOTE_FUNCTIONS: dict[int, RemoteFunction] = {}


class CallQueues:
    """What this CPU took off the rings and has not run yet; and its own csd_data."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []  # (source CPU, record)
        self.wakes: list[tuple[int, list[int]]] = []
        #: for a CPU that is offline, what its ring has no room for
        self.late: dict[int, list[list[int]]] = {}
        self.csd_target = -1  # whom csd_data was last used for, and for what
        self.csd_function = 0


def remote_function(number: int) -> Callable[[RemoteFunction], RemoteFunction]:
    """Register what record number ``number`` does on the CPU that receives it."""

    def register(function: RemoteFunction) -> RemoteFunction:
        assert number not in REMOTE_FUNCTIONS
        assert 0 < number < TTWU
        REMOTE_FUNCTIONS[number] = function
        return function

    return register


def function_name(number: int) -> str:
    """The name of a remote function, as a stack trace has it."""
    return REMOTE_FUNCTIONS[number & (TTWU - 1)].__name__


# -- sending


def _push(cpu: Cpu, target: int, record: Sequence[int]) -> Context:
    """Put a record into the ring to ``target``; wait while the ring is full."""
    ring = cpu.ram.csd_ring(cpu.number, target)
    while not ring.push(record):
        yield from csd_lock_wait(
            cpu, target, function_name, record[0] & (TTWU - 1), lambda: len(ring) == CSD_RECORDS
        )


def queue_record(cpu: Cpu, target: int, record: Sequence[int], flags: int = CSD_OWN) -> Context:
    """Enqueue a call; the caller sees to the IPI."""
    assert len(record) <= CSD_TIME
    padding = [0] * (CSD_TIME - len(record))
    yield from _push(cpu, target, [*record, *padding, cpu.now(), flags])


def queue_call(cpu: Cpu, target: int, record: Sequence[int], flags: int) -> Context:
    """Enqueue a call; True if the target's queue was empty, so that it needs an IPI."""
    yield from queue_record(cpu, target, record, flags)
    return not cpu.ram.atomics.test_and_set(CALL_QUEUE + target)


def call_function_single(cpu: Cpu, target: int, record: Sequence[int]) -> Context:
    """Give data to another CPU: a call whose end nobody waits for."""
    yield from queue_record(cpu, target, record)
    send_ipi(cpu, target, cpu.params.call_function_single_vector)


def queue_remote_wakeup(cpu: Cpu, target: int, record: Sequence[int]) -> Context:
    """ttwu_queue: hand a wake-up (and what it brings) over and send the reschedule IPI; not to a
    CPU that is offline: that finds it when it is back."""
    cpu.words[_REMOTE_WAKEUPS] += 1
    wakeup = [record[0] | TTWU, *record[1:]]
    if target not in cpu.online_cpus and not is_online(cpu, target):
        text = f"sched: Unexpected reschedule of offline CPU#{target}!"
        warn(cpu, "arch/x86/kernel/smp.c", text if cpu.params.log_format == "6.1" else "")
        late = cpu.call.late
        if target in late or not cpu.ram.csd_ring(cpu.number, target).push(wakeup):
            late.setdefault(target, []).append(wakeup)  # to wait for room could be for ever
        return
    if target in cpu.call.late:
        yield from send_late_wakeups(cpu, target)
    yield from _push(cpu, target, wakeup)
    send_ipi(cpu, target, cpu.params.reschedule_vector)


def send_late_wakeups(cpu: Cpu, target: int) -> Context:
    """A CPU is back: what did not fit into its ring meanwhile."""
    for wakeup in cpu.call.late.pop(target, ()):
        yield from _push(cpu, target, wakeup)
        send_ipi(cpu, target, cpu.params.reschedule_vector)


def is_online(cpu: Cpu, number: int) -> bool:
    """What that CPU itself says; the mask of this one may be older."""
    return bool(cpu.ram.page(f"cpu{number}", CPU_SCHEMA).words[_ONLINE])


# -- receiving; all of it in a hard interrupt, interrupts off


def take_records(cpu: Cpu) -> None:
    """Take every record that waits for this CPU."""
    me, ram, queues = cpu.number, cpu.ram, cpu.call
    # not online_cpus: a CPU that was told of this one first may be sending already
    for source in range(cpu.machine.cpus):
        if source == me:
            continue
        ring = ram.csd_ring(source, me)
        while (record := ring.pop()) is not None:
            (queues.wakes if record[0] & TTWU else queues.calls).append((source, record))


def run_wake_list(cpu: Cpu) -> Context:
    """sched_ttwu_pending."""
    wakes, cpu.call.wakes = cpu.call.wakes, []
    for source, record in wakes:
        context = REMOTE_FUNCTIONS[record[0] ^ TTWU](cpu, source, record)
        if context is not None:
            yield from context
        yield


def take_calls(cpu: Cpu) -> list[tuple[int, list[int]]]:
    """Empty the call queue: what is queued from now on announces itself by an IPI again."""
    cpu.ram.atomics.release(CALL_QUEUE + cpu.number)
    take_records(cpu)
    calls, cpu.call.calls = cpu.call.calls, []
    if len(calls) > 1:
        calls.sort(key=_queued_at)
        if cpu.params.call_function == "llist":
            calls.sort(key=_asynchronous)
    return calls


def _queued_at(call: tuple[int, list[int]]) -> int:
    return call[1][CSD_TIME]


def _asynchronous(call: tuple[int, list[int]]) -> bool:
    return not call[1][CSD_FLAGS] & CSD_TYPE_SYNC


def run_calls(cpu: Cpu, calls: list[tuple[int, list[int]]]) -> Context:
    """generic_smp_call_function_interrupt: run each, and release its call_single_data."""
    early = cpu.params.call_function == "llist"  # an async csd is free again before f runs
    recording = cpu.params.csdlock_debug == "on"
    for source, record in calls:
        flags = record[CSD_FLAGS]
        slot, sync = flags & 3, flags & CSD_TYPE_SYNC
        if flags & CSD_GLOBAL:
            cpu.ram.atomics.add(CALL_STARTED, 1)
        if slot and early and not sync:
            cpu.ram.csd_ring(source, cpu.number).give_back(slot, flags >> CSD_USE_SHIFT)
        if recording:
            csd_record(cpu, source, record[0])
        context = REMOTE_FUNCTIONS[record[0]](cpu, source, record)
        if context is not None:
            yield from context
        if slot and not (early and not sync):
            cpu.ram.csd_ring(source, cpu.number).give_back(slot, flags >> CSD_USE_SHIFT)
        if flags & CSD_GLOBAL and sync:
            cpu.ram.atomics.add(CALL_FINISHED, 1)
        yield
    if recording and calls:
        csd_record(cpu, 0, 0)


def flush_records(cpu: Cpu) -> Context:
    """Run all calls that wait; for interrupts of other vectors whose work rides in the rings."""
    yield from run_calls(cpu, take_calls(cpu))
