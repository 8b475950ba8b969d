"""Counters of a kind of packet, added up over the nodes and devices that hold them.

A class of packet (``nodes.ledger``: other, request, reply) is one word of three in a field.
"""

from __future__ import annotations

from nodes.cpu.page import DROP_REASONS
from nodes.lan.page import PORTS
from nodes.machine import LAN
from orchestrator.machines.counts import Counts

#: Drops of the driver that end frames between the CPU's books and the NIC's.
TX_RESET = DROP_REASONS.index("TX_RING_RESET")
RX_RESET = DROP_REASONS.index("RX_RING_RESET")
_DROP_WORDS = 3 * len(DROP_REASONS)
#: Reasons of drops that happen to descriptors of a ring, not to what a CPU has in its hands.
OF_RINGS = (TX_RESET, RX_RESET)


def cpu_drops(counts: Counts, cpu: str, reason: int, device: int, kind: int) -> int:
    return counts.get(cpu, "drops", device * _DROP_WORDS + reason * 3 + kind)


def ring_drops(counts: Counts, reason: int, nic: int, kind: int) -> int:
    return sum(cpu_drops(counts, cpu, reason, nic + 1, kind) for cpu in counts.settings.cpu_names)


def over_cpus(counts: Counts, name: str, index: int) -> int:
    return sum(counts.get(cpu, name, index) for cpu in counts.settings.cpu_names)


def over_ports(counts: Counts, name: str, kind: int) -> int:
    return sum(counts.get(LAN, name, 3 * port + kind) for port in range(PORTS))
