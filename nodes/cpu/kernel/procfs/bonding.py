"""/proc/net/bonding/BOND, after bond_procfs.c: each line by era and mode.

A mode with lines of its own registers them in ``MODE_LINES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Bond = Mapping[str, Any]

_LINK_NEW = ("up", "going down", "down", "going back")
_LINK_OLD = ("up", "down", "down", "down")
HASH_POLICIES = ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")


class ModeLines(NamedTuple):
    """What a mode adds: f(era, bond) behind the bond's lines, f(era, bond, slave) in a slave's."""

    master: Callable[[str, Bond], list[str]]
    slave: Callable[[str, Bond, Mapping[str, Any]], list[str]]


#: By the name of the mode.
MODE_LINES: dict[str, ModeLines] = {}


def render_bond(boot: Mapping[str, Any], bond: Bond) -> str:
    """Version, the bond's lines, a block for each slave."""
    era = boot["proc_format"]
    lines = [f"Ethernet Channel Bonding Driver: {boot['bonding_version']}", "", *_master(era, bond)]
    more = MODE_LINES.get(bond["mode"])
    if more is not None:
        lines += more.master(era, bond)
    for slave in bond["slaves"]:
        lines += ["", *_slave(era, bond, slave)]
    return "\n".join(lines) + "\n"


def _master(era: str, bond: Bond) -> list[str]:
    mode = bond["long_name"]
    if bond["mode"] == "active-backup" and bond["fail_over_mac"] != "none":
        mode += f" (fail_over_mac {bond['fail_over_mac']})"
    lines = [f"Bonding Mode: {mode}"]
    if bond["hashes"]:
        policy = bond["xmit_hash_policy"]
        lines.append(f"Transmit Hash Policy: {policy} ({HASH_POLICIES.index(policy)})")
    if bond["uses_primary"]:
        primary = bond["primary"] or "None"
        if bond["primary"] and era != "2.6.18":
            primary += f" (primary_reselect {bond['primary_reselect']})"
        lines.append(f"Primary Slave: {primary}")
        lines.append(f"Currently Active Slave: {bond['active'] or 'None'}")
    lines += [
        f"MII Status: {'up' if bond['carrier'] else 'down'}",
        f"MII Polling Interval (ms): {bond['miimon']}",
        f"Up Delay (ms): {bond['updelay']}",
        f"Down Delay (ms): {bond['downdelay']}",
    ]
    if era == "6.1":
        lines.append(f"Peer Notification Delay (ms): {bond['peer_notif_delay']}")
    if bond["arp_interval"]:
        lines += _arp(era, bond)
    return lines


def _arp(era: str, bond: Bond) -> list[str]:
    lines = [f"ARP Polling Interval (ms): {bond['arp_interval']}"]
    if era == "6.1":
        lines.append(f"ARP Missed Max: {bond['arp_missed_max']}")
    targets = ",".join(f" {target}" for target in bond["arp_ip_target"])
    lines.append(f"ARP IP target/s (n.n.n.n form):{targets}")
    if era == "6.1":
        lines.append("NS IPv6 target/s (xx::xx form):")
    return lines


def _slave(era: str, bond: Bond, slave: Mapping[str, Any]) -> list[str]:
    old = era == "2.6.18"
    known = slave["speed"] > 0
    lines = [
        f"Slave Interface: {slave['name']}",
        f"MII Status: {(_LINK_OLD if old else _LINK_NEW)[slave['link']]}",
    ]
    if not old:
        lines.append(f"Speed: {slave['speed']} Mbps" if known else "Speed: Unknown")
        lines.append("Duplex: full" if known else "Duplex: Unknown")
    lines.append(f"Link Failure Count: {slave['failures']}")
    lines.append(f"Permanent HW addr: {bytes(slave['perm_hwaddr']).hex(':')}")
    queue = [] if old else [f"Slave queue ID: {slave['queue_id']}"]
    more = MODE_LINES.get(bond["mode"])
    own = more.slave(era, bond, slave) if more is not None else []
    return [*lines, *(queue + own if era == "6.1" else own + queue)]
