"""/proc/net/nf_conntrack, in 2.6.18 /proc/net/ip_conntrack: a line for each connection.

Formats: ct_seq_show of net/netfilter/nf_conntrack_standalone.c and of ip_conntrack_standalone.c;
without accounting. In 2.6.18 there is no family before the protocol and nobody else holds an entry
while it is shown; 6.1 has zones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodes.cpu.kernel.net.protocols import ICMP_ECHO, ICMP_ECHOREPLY, IPPROTO_ICMP, IPPROTO_UDP

_PROTOCOLS = {IPPROTO_ICMP: "icmp", IPPROTO_UDP: "udp"}


def path(boot: Mapping[str, Any]) -> str | None:
    """The file, while the module is loaded."""
    table = boot.get("conntrack")
    return None if table is None else f"/proc/net/{table['proc']}"


def render(boot: Mapping[str, Any]) -> str:
    table = boot["conntrack"]
    old = table["proc"] == "ip_conntrack"
    return "".join(_line(row, boot["proc_format"], old=old) for row in table["rows"])


def _line(row: Mapping[str, Any], proc_format: str, *, old: bool) -> str:
    protocol, here, there = row["protocol"], row["source"], row["destination"]
    text = "" if old else "ipv4     2 "
    text += f"{_PROTOCOLS[protocol]:<8} {protocol} {row['seconds']} "
    if protocol == IPPROTO_ICMP:
        way = f"type={ICMP_ECHO} code=0 id={row['a']} "
        back = f"type={ICMP_ECHOREPLY} code=0 id={row['a']} "
    else:
        way, back = f"sport={row['a']} dport={row['b']} ", f"sport={row['b']} dport={row['a']} "
    text += f"src={here} dst={there} {way}"
    text += "" if row["seen_reply"] else "[UNREPLIED] "
    text += f"src={there} dst={here} {back}"
    text += "[ASSURED] " if row["assured"] else ""
    zone = "zone=0 " if proc_format == "6.1" else ""
    return f"{text}mark=0 {zone}use={1 if old else 2}\n"
