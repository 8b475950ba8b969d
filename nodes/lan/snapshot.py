"""What the LAN says about itself: ports, channels, the MAC table, the gateway's neighbours."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from nodes.lan.page import GATEWAY_PORT, NICS_MAX, PORTS
from nodes.machine import GATEWAY, OUTSIDE

if TYPE_CHECKING:
    from nodes.lan.node import LanNode


def _state(lan: LanNode) -> dict[str, Any]:
    """MAC table as [address, port name, age in ms, VLAN], the ports' names and links."""
    names = [*(name.lstrip(OUTSIDE) for name in lan.names[:NICS_MAX]), GATEWAY]
    logical = {**dict(enumerate(names)), **{n: c.name for n, c in lan.channels.items()}}
    now_ns = lan.clock()
    return {
        "ports": [[names[n], lan.link[n]] for n in range(PORTS) if names[n]],
        "macs": [
            [key[-6:].hex(":"), logical[port], age_ns // 1_000_000, int.from_bytes(key[:-6], "big")]
            for key, port, age_ns in lan.table.rows(now_ns)
        ],
        "channels": [
            [c.name, c.mode, [names[p] for p in c.members], [names[p] for p in c.active]]
            for c in lan.channels.values()
        ],
        "neighbours": [
            [str(IPv4Address(address)), mac.hex(":")]
            for address, mac in lan.host.gateway.neighbours.items()
        ],
    }


SNAPSHOTS = {"state": _state}
assert GATEWAY_PORT == PORTS - 1
