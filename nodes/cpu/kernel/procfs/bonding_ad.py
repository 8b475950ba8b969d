"""What mode 802.3ad adds to /proc/net/bonding/BOND, after bond_procfs.c; the reader is root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nodes.cpu.kernel.procfs.bonding import MODE_LINES, Bond, ModeLines


def _mac(address: bytes) -> str:
    return bytes(address).hex(":")


def _master(era: str, bond: Bond) -> list[str]:
    info = bond["info"]
    lines = ["", "802.3ad info"]
    if era == "6.1":
        lines.append(f"LACP active: {bond['lacp_active']}")
    lines.append(f"LACP rate: {bond['lacp_rate']}")
    if era != "2.6.18":
        lines.append(f"Min links: {bond['min_links']}")
        lines.append(f"Aggregator selection policy (ad_select): {bond['ad_select']}")
    if era == "6.1" and info:
        lines.append(f"System priority: {info['system_priority']}")
        lines.append(f"System MAC address: {_mac(info['system'])}")
    if not info.get("ad_aggregator"):
        return [*lines, f"bond {bond['name']} has no active aggregator"]
    return [
        *lines,
        "Active Aggregator Info:",
        f"\tAggregator ID: {info['ad_aggregator']}",
        f"\tNumber of ports: {info['ad_num_ports']}",
        f"\tActor Key: {info['ad_actor_key']}",
        f"\tPartner Key: {info['ad_partner_key']}",
        f"\tPartner Mac Address: {info['ad_partner_mac']}",
    ]


def _slave(era: str, bond: Bond, slave: Mapping[str, Any]) -> list[str]:
    info = slave["info"]
    number = info.get("ad_aggregator_id", 0)
    lines = [f"Aggregator ID: {number or 'N/A'}"]
    if era != "6.1" or not number:
        return lines
    churn, count = info["churn_state"], info["churn_count"]
    return [
        *lines,
        f"Actor Churn State: {churn['actor']}",
        f"Partner Churn State: {churn['partner']}",
        f"Actor Churned Count: {count['actor']}",
        f"Partner Churned Count: {count['partner']}",
        "details actor lacp pdu:",
        *_pdu("port key", info["actor"]),
        "details partner lacp pdu:",
        *_pdu("oper key", info["partner"]),
    ]


def _pdu(key_name: str, port: Sequence[Any]) -> list[str]:
    priority, system, key, port_priority, number, state = port
    return [
        f"    system priority: {priority}",
        f"    system mac address: {_mac(system)}",
        f"    {key_name}: {key}",
        f"    port priority: {port_priority}",
        f"    port number: {number}",
        f"    port state: {state}",
    ]


MODE_LINES["802.3ad"] = ModeLines(_master, _slave)
