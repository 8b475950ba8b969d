"""/sys/class/net/BOND/bonding and /sys/class/net/SLAVE/bonding_slave, after bond_sysfs.c.

2.6.18 ends lists and names with a blank or a newline and a NUL, because it counts one byte too
many. Options are shown from their table (``bonding.options``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nodes.cpu.kernel.net.bonding.options import OPTIONS, value_text
from nodes.cpu.kernel.procfs.tree import Boot, Groups, Pages, file

#: Not outside the modes that use them in 2.6.18.
_NOT_APPLICABLE = {"lacp_rate": ("802.3ad",), "xmit_hash_policy": ("balance-xor", "802.3ad")}
#: Only 802.3ad has them, and tells them in ``info``.
_AD = ("ad_actor_key", "ad_aggregator", "ad_num_ports", "ad_partner_key", "ad_partner_mac")
_AD_OPTIONS = ("ad_actor_sys_prio", "ad_actor_system", "ad_user_port_key")

Bond = Mapping[str, Any]


def _list(old: bool, names: Iterable[str]) -> str:
    if old:
        return "".join(f"{name} " for name in names) + "\n\0"
    return " ".join(names) + "\n" if names else ""


def _name(old: bool, name: str | None) -> str:
    if name:
        return f"{name}\n"
    return "\n\0" if old else ""


def _mii_status(bond: Bond, boot: Boot) -> str:
    """6.1 shows the bond's carrier, older kernels whether there is an active slave."""
    up = bond["carrier"] if boot["proc_format"] == "6.1" else bond["active"] is not None
    return "up\n" if up else "down\n"


_SHOWS: dict[str, Callable[[Bond, bool], str]] = {
    "active_slave": lambda bond, old: _name(old, bond["active"] if bond["uses_primary"] else None),
    "arp_ip_target": lambda bond, old: _list(old, bond["arp_ip_target"]),
    "num_unsol_na": lambda bond, old: f"{bond['num_grat_arp']}\n",
    "primary": lambda bond, old: _name(old, bond["primary"]),
    "queue_id": lambda bond, old: _list(
        old, [f"{slave['name']}:{slave['queue_id']}" for slave in bond["slaves"]]
    ),
    "slaves": lambda bond, old: _list(old, [slave["name"] for slave in bond["slaves"]]),
}


def _show(name: str, bond: Bond, boot: Boot) -> str:
    old = boot["proc_format"] == "2.6.18"
    if name == "mii_status":
        return _mii_status(bond, boot)
    if name in _SHOWS:
        return _SHOWS[name](bond, old)
    if name in _AD:
        value = bond["info"].get(name)
        return "" if value is None else f"{value}\n"
    if name in _AD_OPTIONS and bond["mode"] != "802.3ad":
        return ""
    if old and bond["mode"] not in _NOT_APPLICABLE.get(name, (bond["mode"],)):
        return "NA\n"
    return value_text(OPTIONS[name], bond[name]) + "\n"


def _register(name: str) -> None:
    @file(f"/sys/class/net/{{bond}}/bonding/{name}")
    def render(boot: Boot, _pages: Pages, groups: Groups) -> str:
        return _show(name, boot["bonds"][groups["bond"]], boot)


for _key in (*OPTIONS, *_AD, "mii_status"):
    _register(_key)


_SLAVE: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str]] = {
    "ad_actor_oper_port_state": lambda bond, slave: _ad(slave, "ad_actor_oper_port_state"),
    "ad_aggregator_id": lambda bond, slave: _ad(slave, "ad_aggregator_id"),
    "ad_partner_oper_port_state": lambda bond, slave: _ad(slave, "ad_partner_oper_port_state"),
    "link_failure_count": lambda bond, slave: str(slave["failures"]),
    "mii_status": lambda bond, slave: ("up", "going down", "down", "going back")[slave["link"]],
    "perm_hwaddr": lambda bond, slave: bytes(slave["perm_hwaddr"]).hex(":"),
    "queue_id": lambda bond, slave: str(slave["queue_id"]),
    "state": lambda bond, slave: "backup" if slave["backup"] else "active",
}


def _ad(slave: Mapping[str, Any], name: str) -> str:
    return str(slave["info"].get(name, "N/A"))


def _slave_attribute(name: str) -> None:
    show = _SLAVE[name]

    @file(f"/sys/class/net/{{slave}}/bonding_slave/{name}")
    def render(boot: Boot, _pages: Pages, groups: Groups) -> str:
        for bond in boot["bonds"].values():
            for slave in bond["slaves"]:
                if slave["name"] == groups["slave"]:
                    return show(bond, slave) + "\n"
        raise AssertionError("names of slaves come from the bonds")


for _key in _SLAVE:
    _slave_attribute(_key)
