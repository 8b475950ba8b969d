"""/sys/class/net/BOND/bonding and /sys/class/net/SLAVE/bonding_slave, after bond_sysfs.c.

2.6.18 ends lists and names with a blank or a newline and a NUL, because it counts one byte too
many. Values that only other modes have are the defaults of a bond in mode active-backup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nodes.cpu.kernel.procfs.tree import Boot, Groups, Pages, file

#: Options that are not modelled, as a bond without them shows them.
_DEFAULTS = {
    "ad_actor_key": "", "ad_actor_sys_prio": "", "ad_actor_system": "", "ad_aggregator": "",
    "ad_num_ports": "", "ad_partner_key": "", "ad_partner_mac": "", "ad_select": "stable 0\n",
    "ad_user_port_key": "", "all_slaves_active": "0\n", "arp_all_targets": "any 0\n",
    "arp_interval": "0\n", "arp_missed_max": "2\n", "arp_validate": "none 0\n",
    "fail_over_mac": "none 0\n", "lacp_active": "on 1\n", "lacp_rate": "slow 0\n",
    "lp_interval": "1\n", "min_links": "0\n", "packets_per_slave": "1\n",
    "peer_notif_delay": "0\n", "primary_reselect": "always 0\n", "resend_igmp": "1\n",
    "tlb_dynamic_lb": "1\n",
}  # fmt: skip
#: Not outside 802.3ad in 2.6.18.
_NOT_APPLICABLE = ("lacp_rate", "xmit_hash_policy")


def _list(old: bool, names: list[str]) -> str:
    if old:
        return "".join(f"{name} " for name in names) + "\n\0"
    return " ".join(names) + "\n" if names else ""


def _name(old: bool, name: str | None) -> str:
    if name:
        return f"{name}\n"
    return "\n\0" if old else ""


_SHOWS: dict[str, Callable[[Mapping[str, Any], bool], str]] = {
    "active_slave": lambda bond, old: _name(old, bond["active"]),
    "arp_ip_target": lambda bond, old: _list(old, []),
    "downdelay": lambda bond, old: f"{bond['downdelay']}\n",
    "mii_status": lambda bond, old: "up\n" if bond["carrier"] else "down\n",
    "miimon": lambda bond, old: f"{bond['miimon']}\n",
    "mode": lambda bond, old: "active-backup 1\n",
    "num_grat_arp": lambda bond, old: f"{bond['num_grat_arp']}\n",
    "num_unsol_na": lambda bond, old: f"{bond['num_grat_arp']}\n",
    "primary": lambda bond, old: _name(old, bond["primary"]),
    "queue_id": lambda bond, old: _list(old, [f"{s['name']}:0" for s in bond["slaves"]]),
    "slaves": lambda bond, old: _list(old, [s["name"] for s in bond["slaves"]]),
    "updelay": lambda bond, old: f"{bond['updelay']}\n",
    "use_carrier": lambda bond, old: f"{bond['use_carrier']}\n",
    "xmit_hash_policy": lambda bond, old: "layer2 0\n",
}


def _option(name: str, show: Callable[[Mapping[str, Any], bool], str]) -> None:
    @file(f"/sys/class/net/{{bond}}/bonding/{name}")
    def render(boot: Boot, _pages: Pages, groups: Groups) -> str:
        old = boot["proc_format"] == "2.6.18"
        if old and name in _NOT_APPLICABLE:
            return "NA\n"
        return show(boot["bonds"][groups["bond"]], old)


def _default(name: str) -> None:
    _option(name, lambda bond, old: _DEFAULTS[name])


for _key, _show in _SHOWS.items():
    _option(_key, _show)
for _key in _DEFAULTS:
    _default(_key)


_SLAVE: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str]] = {
    "ad_actor_oper_port_state": lambda bond, slave: "N/A",
    "ad_aggregator_id": lambda bond, slave: "N/A",
    "ad_partner_oper_port_state": lambda bond, slave: "N/A",
    "link_failure_count": lambda bond, slave: str(slave["failures"]),
    "mii_status": lambda bond, slave: ("up", "going down", "down", "going back")[slave["link"]],
    "perm_hwaddr": lambda bond, slave: bytes(slave["perm_hwaddr"]).hex(":"),
    "queue_id": lambda bond, slave: "0",
    "state": lambda bond, slave: "active" if bond["active"] == slave["name"] else "backup",
}


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
