"""What the LAN says of itself: ports, channels, LACP, the MAC table, the gateway's neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from bus.faults import BY_NUMBER, HITS, KIND, ROW_WORDS, ROWS, VALUE, show
from nodes.lan.page import GATEWAY_PORT, NICS_MAX, PORTS
from nodes.machine import GATEWAY, OUTSIDE

if TYPE_CHECKING:
    from nodes.lan.node import LanNode


def _state(lan: LanNode) -> dict[str, Any]:
    """MAC table as [address, port name, age in ms, VLAN], the ports' names and links."""
    names = [*(name.lstrip(OUTSIDE) for name in lan.names[:NICS_MAX]), GATEWAY]
    logical = {**dict(enumerate(names)), **{n: c.name for n, c in lan.forwarding.channels.items()}}
    now_ns = lan.clock()
    return {
        "ports": [[names[n], lan.link[n]] for n in range(PORTS) if names[n]],
        "macs": [
            [key[-6:].hex(":"), logical[port], age_ns // 1_000_000, int.from_bytes(key[:-6], "big")]
            for key, port, age_ns in lan.forwarding.table.rows(now_ns)
        ],
        "faults": [
            [names[port], text, hits] for port in range(PORTS) for text, hits in _faults(lan, port)
        ],
        "channels": [
            [c.name, c.mode, [names[p] for p in c.members], [names[p] for p in c.active]]
            for c in lan.forwarding.channels.values()
        ],
        "lacp": [
            {"port": names[port], **partner.snapshot(port)}
            for port, partner in sorted(lan.partners.items())
        ],
        "neighbours": [
            [str(IPv4Address(address)), mac.hex(":")]
            for address, mac in lan.host.gateway.neighbours.items()
        ],
    }


def _faults(lan: LanNode, port: int) -> Iterator[tuple[str, int]]:
    """(as one types it, how often it hit) of each fault of a port."""
    words = lan.page.run("faults")[port * ROWS * ROW_WORDS : (port + 1) * ROWS * ROW_WORDS]
    for at in range(0, len(words), ROW_WORDS):
        kind = BY_NUMBER.get(words[at + KIND] - 1)
        if kind is not None:
            yield show(kind, words[at + VALUE]), words[at + HITS]


SNAPSHOTS = {"state": _state}
assert GATEWAY_PORT == PORTS - 1
