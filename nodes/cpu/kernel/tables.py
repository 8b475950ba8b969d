"""Replicas: how a CPU that owns a piece of kernel state tells the others its new value.

The owner applies the change to itself and sends every other online CPU a record whose handover
buffer holds (kind, key, value) as MessagePack, with a call-function IPI. Kinds are registered by
the rooms that own them. Values are small (at most 2 KiB) and whole: a replica is replaced.
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

#: kind -> f(cpu, key, value): replace this CPU's replica.
Apply = Callable[["Cpu", Any, Any], None]
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
    others = [number for number in cpu.online_cpus if number != cpu.number]
    if not others:
        return
    data: bytes = msgpack.packb((kind, key, value))
    for number in others:
        while (buffer := cpu.handover.put(data)) is None:
            yield
        yield from call_function_single(cpu, number, [APPLY_REPLICA, buffer, len(data)])


@remote_function(APPLY_REPLICA)
def _apply(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    data = cpu.ram.handover(source).take(record[1], record[2])
    kind, key, value = msgpack.unpackb(data, use_list=False, strict_map_key=False)
    KINDS[kind](cpu, key, value)
    return None
