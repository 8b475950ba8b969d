"""Replicas: how a CPU that owns a piece of kernel state tells the others its new value.

The owner applies the change to itself and sends every other online CPU a record whose handover
buffer holds (kind, key, value) as MessagePack, with a call-function IPI. Kinds are registered by
the rooms that own them. Values are small (at most 2 KiB) and whole: a replica is replaced.

A CPU that is offline misses them. Whoever publishes keeps the last value of each for it, and sends
them all, in the order in which they came to be, when that CPU is back (``catch_up``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgpack

from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import call_function_single, remote_function

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

APPLY_REPLICA = 1

#: kind -> f(cpu, key, value): replace this CPU's replica. What it returns, if anything, is a
#: context that the receiver of a record runs.
Apply = Callable[["Cpu", Any, Any], "Context | None"]
KINDS: dict[str, Apply] = {}


def replica(kind: str) -> Callable[[Apply], Apply]:
    """Register how a replica of this kind is applied."""

    def register(function: Apply) -> Apply:
        assert kind not in KINDS
        KINDS[kind] = function
        return function

    return register


def publish(cpu: Cpu, kind: str, key: Any, value: Any) -> Context:
    """Apply here and send to every other online CPU; may wait for buffers or ring space."""
    KINDS[kind](cpu, key, value)
    cpu.tables_changed = True
    others = []
    for number in range(cpu.machine.cpus):
        if number == cpu.number:
            continue
        if number in cpu.online_cpus:
            others.append(number)
        else:
            missed = cpu.missed.setdefault(number, {})
            missed.pop((kind, key), None)
            missed[kind, key] = value
    if not others:
        return
    data: bytes = msgpack.packb((kind, key, value))
    for number in others:
        yield from _send(cpu, number, data)


def catch_up(cpu: Cpu, number: int) -> Context:
    """CPU ``number`` is back: send it what it missed of this CPU's."""
    missed = cpu.missed.get(number, {})
    while missed:
        kind, key = next(iter(missed))
        data: bytes = msgpack.packb((kind, key, missed.pop((kind, key))))
        yield from _send(cpu, number, data)


def _send(cpu: Cpu, number: int, data: bytes) -> Context:
    while (buffer := cpu.handover.put(data)) is None:
        yield
    yield from call_function_single(cpu, number, [APPLY_REPLICA, buffer, len(data)])


@remote_function(APPLY_REPLICA)
def _apply(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    data = cpu.ram.handover(source).take(record[1], record[2])
    kind, key, value = msgpack.unpackb(data, use_list=False, strict_map_key=False)
    for missed in cpu.missed.values():
        missed.pop((kind, key), None)  # what this CPU had for it is old now: the sender keeps it
    return KINDS[kind](cpu, key, value)
