"""The keys of a machine's TOML file: each with what it takes, its default and what it does.

Keys of ``[bond0]`` are the bonding driver's own names with its ranges and defaults, from the
kernel's table (``nodes.cpu.kernel.net.bonding.options``). Options that this program has not built
are known by name, so that nothing is swallowed in silence. ``[lan]`` is in ``lanconfig``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nodes.cpu.kernel.net.bonding.options import (
    ARP_TARGETS_MAX,
    BOOLEANS,
    MIIMON_DEFAULT,
    MODE_NAMES,
    OPTIONS,
)
from orchestrator.configuration import eras
from orchestrator.configuration.lanconfig import Lan
from orchestrator.configuration.tables import Table, allowed

CPUS_MAX = 64
NICS_MAX = 8

#: Options of the bonding driver that are not built.
BOND_NOT_BUILT = ("max_bonds", "ns_ip6_target", "tx_queues")


def _option(name: str) -> Any:
    """A field as the kernel's table has it."""
    row = OPTIONS[name]
    default = MIIMON_DEFAULT if name == "miimon" else row.default
    if row.words and name not in BOOLEANS:
        named = ", ".join(f"{word} ({number})" for number, word in enumerate(row.words))
        return Field(default, description=row.about, json_schema_extra=allowed(named))
    if row.words or isinstance(default, int):
        high = len(row.words) - 1 if row.words else row.high
        return Field(default, ge=row.low, le=high, description=row.about)
    return Field(default, description=row.about)


class Bond0(Table):
    """[bond0]"""

    slaves: list[str] = Field(
        min_length=1,
        description="NICs of the bond, in the order in which they are enslaved",
        json_schema_extra=allowed("a list of NICs, at least one"),
    )
    mode: str | int = Field(
        "active-backup",
        description="bonding mode, by name or number",
        json_schema_extra=allowed(", ".join(f"{m} ({n})" for n, m in enumerate(MODE_NAMES))),
    )
    miimon: int = _option("miimon")
    updelay: int = _option("updelay")
    downdelay: int = _option("downdelay")
    peer_notif_delay: int = _option("peer_notif_delay")
    use_carrier: int = _option("use_carrier")
    primary: str = _option("primary")
    primary_reselect: str | int = _option("primary_reselect")
    fail_over_mac: str | int = _option("fail_over_mac")
    num_grat_arp: int = _option("num_grat_arp")
    num_unsol_na: int = _option("num_unsol_na")
    resend_igmp: int = _option("resend_igmp")
    all_slaves_active: int = _option("all_slaves_active")
    arp_interval: int = _option("arp_interval")
    arp_ip_target: list[str] = Field(
        [],
        max_length=ARP_TARGETS_MAX,
        description=OPTIONS["arp_ip_target"].about,
        json_schema_extra=allowed("a list of IPv4 addresses"),
    )
    arp_validate: str | int = _option("arp_validate")
    arp_all_targets: str | int = _option("arp_all_targets")
    arp_missed_max: int = _option("arp_missed_max")
    min_links: int = _option("min_links")
    packets_per_slave: int = _option("packets_per_slave")
    xmit_hash_policy: str | int = _option("xmit_hash_policy")
    lacp_rate: str | int = _option("lacp_rate")
    lacp_active: str | int = _option("lacp_active")
    ad_select: str | int = _option("ad_select")
    ad_actor_sys_prio: int = _option("ad_actor_sys_prio")
    ad_user_port_key: int = _option("ad_user_port_key")
    ad_actor_system: str = _option("ad_actor_system")
    lp_interval: int = _option("lp_interval")
    tlb_dynamic_lb: int = _option("tlb_dynamic_lb")
    address: str = Field(
        "192.168.1.10/24",
        description="address and prefix of bond0",
        json_schema_extra=allowed("an IPv4 address with its prefix, 192.168.1.10/24"),
    )


class Machine(Table):
    """The top of a machine's file."""

    era: str = Field(
        "6.1",
        description="kernel release whose behaviours are used",
        json_schema_extra=allowed(" or ".join(f'"{name}"' for name in eras.names())),
    )
    cpus: int = Field(2, ge=1, le=CPUS_MAX, description="CPUs, a process each")
    nics: list[str] = Field(
        ["eth0", "eth1"],
        min_length=1,
        max_length=NICS_MAX,
        description="82599s, a process each, in slot order",
        json_schema_extra=allowed(f"1 to {NICS_MAX} different names eth0, eth1, ..."),
    )
    hostname: str = Field(
        "m1",
        pattern=r"^[a-z][a-z0-9-]{0,31}$",
        description="name of the machine",
        json_schema_extra=allowed("small letters, digits and -, at most 32"),
    )
    completion_timeout_ms: int = Field(
        1000, ge=1, le=60_000, description="how long a register read waits for a hung device"
    )
    address: str = Field(
        "192.168.1.10/24",
        description="address of the first NIC of a machine without a bond",
        json_schema_extra=allowed("an IPv4 address with its prefix, 192.168.1.10/24"),
    )
    hotplug: bool | list[str] = Field(
        False,
        description="slots that tell the kernel when a card goes or comes (pciehp): it removes and "
        "adds the NIC by itself",
        json_schema_extra=allowed("true, false, or a list of NICs"),
    )
    fast_probe: bool = Field(
        True,
        description="the NICs' driver takes EEPROM, module and reset values as known; "
        "false: every register access of a real probe, thousands of them, for each NIC",
    )
    guest: bool = Field(
        False,
        description="CPUs and interrupt controller are those of a virtual machine (QEMU), which "
        "drives the NICs through vfio-user sockets: only NICs and LAN are nodes, and there is no "
        "kernel of ours",
    )
    placement: Literal["bound", "free"] = Field(
        "bound",
        description="bound: each process keeps to one processor of the host, those that speak most "
        "with one another to the same; free: the host's scheduler puts them anywhere",
        json_schema_extra=allowed('"bound" or "free"'),
    )
    bond0: Bond0 | None = Field(None, description="the bond; without it the NICs stay single")
    lan: Lan = Field(Lan.model_construct(), description="the switch and what stands behind it")
    set: dict[str, str | int] = Field(
        {}, description="single behaviours on top of the era (`bottomhalf era` lists them)"
    )


TABLES: dict[str, type[Table]] = {"": Machine, "bond0": Bond0, "lan": Lan}
