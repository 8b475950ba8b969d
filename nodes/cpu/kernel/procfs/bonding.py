"""/proc/net/bonding/BOND in mode active-backup (kernel-net reference section 3.11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LINK_61 = ("up", "going down", "down", "going back")
_LINK_OLD = ("up", "down", "down", "down")


def render_bond(boot: Mapping[str, Any], bond: Mapping[str, Any]) -> str:
    """Version, the bond's lines, a block for each slave."""
    era = boot["proc_format"]
    primary = bond["primary"] or "None"
    if bond["primary"] and era != "2.6.18":
        primary += " (primary_reselect always)"
    lines = [
        f"Ethernet Channel Bonding Driver: {boot['bonding_version']}",
        "",
        "Bonding Mode: fault-tolerance (active-backup)",
        f"Primary Slave: {primary}",
        f"Currently Active Slave: {bond['active'] or 'None'}",
        f"MII Status: {'up' if bond['carrier'] else 'down'}",
        f"MII Polling Interval (ms): {bond['miimon']}",
        f"Up Delay (ms): {bond['updelay']}",
        f"Down Delay (ms): {bond['downdelay']}",
    ]
    if era == "6.1":
        lines.append("Peer Notification Delay (ms): 0")
    for slave in bond["slaves"]:
        lines += ["", *_slave(era, slave)]
    return "\n".join(lines) + "\n"


def _slave(era: str, slave: Mapping[str, Any]) -> list[str]:
    old = era == "2.6.18"
    known = slave["speed"] > 0
    lines = [
        f"Slave Interface: {slave['name']}",
        f"MII Status: {(_LINK_OLD if old else _LINK_61)[slave['link']]}",
    ]
    if not old:
        lines.append(f"Speed: {slave['speed']} Mbps" if known else "Speed: Unknown")
        lines.append("Duplex: full" if known else "Duplex: Unknown")
    lines.append(f"Link Failure Count: {slave['failures']}")
    lines.append(f"Permanent HW addr: {bytes(slave['perm_hwaddr']).hex(':')}")
    if not old:
        lines.append("Slave queue ID: 0")
    return lines
