"""A machine's TOML file, the command line on top of it, and what Linux would refuse -> settings.

Keys of ``[bond0]`` are the bonding driver's own names with its ranges and defaults, from the
kernel's table (``nodes.cpu.kernel.net.bonding.options``); what Linux refuses is in ``bondcheck``.
Options that this program has not built are known by name and refused as such, so that nothing is
swallowed in silence.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from nodes.cpu.kernel.net.bonding.options import (
    ARP_TARGETS_MAX,
    BOOLEANS,
    MIIMON_DEFAULT,
    MODE_NAMES,
    OPTIONS,
)
from nodes.machine import (
    BondSettings,
    MachineSettings,
    NicSettings,
)
from orchestrator import bondcheck, eras, lanconfig, tomlfile
from orchestrator.errors import BottomhalfError, did_you_mean, words
from orchestrator.lanconfig import Lan
from orchestrator.tomlfile import TomlFile

CPUS_MAX = 64
NICS_MAX = 8
DEFAULT_MACHINE = "bond-pair"
LIMITS = "docs/limitations.md"

#: Bonding's modes, by number.
MODES = MODE_NAMES

#: Options of the bonding driver that are not built.
BOND_NOT_BUILT = ("max_bonds", "ns_ip6_target", "tx_queues")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _allowed(text: str) -> dict[str, Any]:
    return {"allowed": text}


def _option(name: str) -> Any:
    """A field as the kernel's table has it."""
    row = OPTIONS[name]
    default = MIIMON_DEFAULT if name == "miimon" else row.default
    if row.words and name not in BOOLEANS:
        named = ", ".join(f"{word} ({number})" for number, word in enumerate(row.words))
        return Field(default, description=row.about, json_schema_extra=_allowed(named))
    if row.words or isinstance(default, int):
        high = len(row.words) - 1 if row.words else row.high
        return Field(default, ge=row.low, le=high, description=row.about)
    return Field(default, description=row.about)


class Bond0(_Table):
    """[bond0]"""

    slaves: list[str] = Field(
        min_length=1,
        description="NICs of the bond, in the order in which they are enslaved",
        json_schema_extra=_allowed("a list of NICs, at least one"),
    )
    mode: str | int = Field(
        "active-backup",
        description="bonding mode, by name or number",
        json_schema_extra=_allowed(", ".join(f"{m} ({n})" for n, m in enumerate(MODE_NAMES))),
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
        json_schema_extra=_allowed("a list of IPv4 addresses"),
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
        json_schema_extra=_allowed("an IPv4 address with its prefix, 192.168.1.10/24"),
    )


class Machine(_Table):
    """The top of a machine's file."""

    era: str = Field(
        "6.1",
        description="kernel release whose behaviours are used",
        json_schema_extra=_allowed(" or ".join(f'"{name}"' for name in eras.names())),
    )
    cpus: int = Field(2, ge=1, le=CPUS_MAX, description="CPUs, a process each")
    nics: list[str] = Field(
        ["eth0", "eth1"],
        min_length=1,
        max_length=NICS_MAX,
        description="82599s, a process each, in slot order",
        json_schema_extra=_allowed(f"1 to {NICS_MAX} different names eth0, eth1, ..."),
    )
    hostname: str = Field(
        "m1",
        pattern=r"^[a-z][a-z0-9-]{0,31}$",
        description="name of the machine",
        json_schema_extra=_allowed("small letters, digits and -, at most 32"),
    )
    completion_timeout_ms: int = Field(
        1000, ge=1, le=60_000, description="how long a register read waits for a hung device"
    )
    address: str = Field(
        "192.168.1.10/24",
        description="address of the first NIC of a machine without a bond",
        json_schema_extra=_allowed("an IPv4 address with its prefix, 192.168.1.10/24"),
    )
    hotplug: bool | list[str] = Field(
        False,
        description="slots that tell the kernel when a card goes or comes (pciehp): it removes and "
        "adds the NIC by itself",
        json_schema_extra=_allowed("true, false, or a list of NICs"),
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
    bond0: Bond0 | None = Field(None, description="the bond; without it the NICs stay single")
    lan: Lan = Field(Lan.model_construct(), description="the switch and what stands behind it")
    set: dict[str, str | int] = Field(
        {}, description="single behaviours on top of the era (`bottomhalf era` lists them)"
    )


TABLES: dict[str, type[BaseModel]] = {"": Machine, "bond0": Bond0, "lan": Lan}


def load(
    name: str = DEFAULT_MACHINE,
    *,
    era: str | None = None,
    bond: str | None = None,
    overrides: Sequence[str] = (),
) -> MachineSettings:
    """Settings of a bundled machine or a file, with the command line's changes on top."""
    file = tomlfile.read("machines", name)
    return build(file, _stem(name), era=era, bond=bond, overrides=overrides)


def build(
    file: TomlFile,
    name: str,
    *,
    era: str | None = None,
    bond: str | None = None,
    overrides: Sequence[str] = (),
) -> MachineSettings:
    """Validate ``file`` and turn it into settings."""
    if era is not None:
        file.data["era"] = era
        file.options[("era",)] = "--era"
    if bond is not None:
        _overlay_bond(file, bond)
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise BottomhalfError(f"--set {item}: a `=` is missing", "--set packet_tap=rx_handler")
        file.set(("set", key), value, "--set")
    _refuse_not_built(file)
    parsed = tomlfile.validate(Machine, file)
    _check_era(file, parsed)
    _check_nics(file, parsed)
    hotplug = _hotplug(file, parsed)
    _check_address(file, ("address",), parsed.address)
    bond_settings = None if parsed.bond0 is None else _bond(file, parsed, parsed.bond0)
    return MachineSettings(
        name=name,
        era=parsed.era,
        cpus=parsed.cpus,
        nics=tuple(
            NicSettings(nic, slot, bytes((0x52, 0x54, 0, 0, 0, 0x10 + slot)), nic in hotplug)
            for slot, nic in enumerate(parsed.nics)
        ),
        bond=bond_settings,
        gateway=lanconfig.gateway(file, parsed.lan),
        overrides=tuple(
            (key, eras.value_text(parsed.era, key, value, file))
            for key, value in parsed.set.items()
        ),
        completion_timeout_ms=parsed.completion_timeout_ms,
        hostname=parsed.hostname,
        address=parsed.address,
        fast_probe=parsed.fast_probe,
        lan=lanconfig.switch(file, parsed.lan, parsed.nics),
        guest=parsed.guest,
    )


def _stem(name: str) -> str:
    return re.sub(r"\.toml$", "", name.rsplit("/", 1)[-1])


def _overlay_bond(file: TomlFile, text: str) -> None:
    """``mode=1 miimon=50``, as modprobe.d, BONDING_OPTS and nmcli have it. As in sysfs, one monitor
    that is set here takes the place of the file's other one."""
    given: dict[str, Any] = {}
    for item in re.split(r"\s+|,(?=\w+=)", text.strip()):
        key, equals, value = item.partition("=")
        if not equals:
            raise BottomhalfError(
                f"--bond: `{item}` has no value", "--bond 'mode=active-backup miimon=100'"
            )
        number = value.removeprefix("-").isdecimal()
        given[key] = int(value) if number else value
        if key in ("slaves", "arp_ip_target"):
            given[key] = value.split(",")
    if "miimon" not in given and given.get("arp_interval"):
        given["miimon"] = 0
    if "arp_interval" not in given and given.get("miimon"):
        bond = file.data.get("bond0")
        if isinstance(bond, dict) and bond.get("arp_interval"):
            given["arp_interval"] = 0
    for key, parsed in given.items():
        file.set(("bond0", key), parsed, "--bond")


def _refuse_not_built(file: TomlFile) -> None:
    """Linux's exclusivities first, then Linux's options that are not built."""
    bond = file.data.get("bond0")
    if not isinstance(bond, dict):
        return
    if bond.get("arp_interval", 0):
        bond.setdefault("miimon", 0)  # its default is for bonds without the ARP monitor
    for key in bond:
        if key in BOND_NOT_BUILT:
            raise file.error(
                ("bond0", key),
                f"bonding's `{key}` is not built yet",
                f"{LIMITS} says what is; built are {words(Bond0.model_fields)}",
            )


def _check_era(file: TomlFile, machine: Machine) -> None:
    names = eras.names()
    if machine.era not in names:
        place = file.place(("era",))
        prefix = "" if place == "--era" else f"{place}: "
        raise eras.no_preset(machine.era, prefix)


def _check_nics(file: TomlFile, machine: Machine) -> None:
    for nic in machine.nics:
        if not re.fullmatch(r"eth\d{1,3}", nic) or machine.nics.count(nic) > 1:
            raise file.error(
                ("nics",),
                f"nics holds {tomlfile.show(nic)}"
                + (" twice" if machine.nics.count(nic) > 1 else ""),
                f"allowed: {tomlfile.allowed(Machine.model_fields['nics'])}",
            )


def _hotplug(file: TomlFile, machine: Machine) -> list[str]:
    """NICs in slots with hot-plug."""
    if isinstance(machine.hotplug, bool):
        return machine.nics if machine.hotplug else []
    for nic in machine.hotplug:
        if nic not in machine.nics:
            raise file.error(
                ("hotplug",),
                f"hotplug holds {tomlfile.show(nic)}, which is no NIC of this machine"
                + did_you_mean(nic, machine.nics),
                f"nics are {words(machine.nics)}",
            )
    return machine.hotplug


def _bond(file: TomlFile, machine: Machine, bond: Bond0) -> BondSettings:
    mode = _mode(file, bond.mode)
    for slave in bond.slaves:
        if slave not in machine.nics or bond.slaves.count(slave) > 1:
            raise file.error(
                ("bond0", "slaves"),
                f"[bond0] slaves holds {tomlfile.show(slave)}"
                + (
                    " twice"
                    if bond.slaves.count(slave) > 1
                    else ", which is no NIC of this machine"
                )
                + ("" if slave in machine.nics else did_you_mean(slave, machine.nics)),
                f"nics are {words(machine.nics)}",
            )
    if bond.primary and bond.primary not in bond.slaves:
        raise file.error(
            ("bond0", "primary"),
            f"[bond0] primary = {tomlfile.show(bond.primary)} is no slave"
            + did_you_mean(bond.primary, bond.slaves),
            f"slaves are {words(bond.slaves)}",
        )
    values = bondcheck.values(file, machine.era, mode, bond.model_dump())
    _check_address(file, ("bond0", "address"), bond.address)
    return BondSettings(
        **{
            **values,
            "slaves": tuple(bond.slaves),
            "mode": mode,
            "address": bond.address,
        }
    )


def _check_address(file: TomlFile, loc: tomlfile.Loc, address: str) -> None:
    try:
        if "/" not in address:
            raise ValueError
        ipaddress.IPv4Interface(address)
    except ValueError:
        where = f"[{loc[0]}] " if len(loc) > 1 else ""
        raise file.error(
            loc,
            f"{where}address = {tomlfile.show(address)}: allowed is "
            + tomlfile.allowed(Bond0.model_fields["address"]),
            'address = "192.168.1.10/24"',
        ) from None


def _mode(file: TomlFile, mode: str | int) -> str:
    text = str(mode)
    name = MODES[int(text)] if text.isdecimal() and int(text) < len(MODES) else text
    if name not in MODES:
        raise file.error(
            ("bond0", "mode"),
            f"[bond0] mode = {tomlfile.show(mode)} is no bonding mode{did_you_mean(text, MODES)}",
            "modes are " + ", ".join(f"{n} {m}" for n, m in enumerate(MODES)),
        )
    return name


# ---------------------------------------------------------------- listing and storing


def keys_text(table: str = "") -> str:
    """All keys of a table with what they take, their default and what they do."""
    from orchestrator.labs.file import LabFile, QuestionTable  # noqa: PLC0415  (it imports us)
    from orchestrator.labs.guestlab import GuestLabFile  # noqa: PLC0415
    from orchestrator.scenario import RealKernelTable, ScenarioFile, StepTable  # noqa: PLC0415

    tables = TABLES | {
        "scenario": ScenarioFile,
        "step": StepTable,
        "real_kernel": RealKernelTable,
        "lab": LabFile,
        "question": QuestionTable,
        "guestlab": GuestLabFile,
    }
    if table not in tables:
        known = [name for name in tables if name]
        raise BottomhalfError(
            f"no table [{table}]{did_you_mean(table, known)}",
            f"tables are {words(known)}; without a name the top of a machine's file is shown",
        )
    lines = []
    for key, info in tables[table].model_fields.items():
        if key in tables or key == "set":
            lines.append(f"{key}\n    {info.description}\n    a table: [{key}]\n")
            continue
        default = info.get_default(call_default_factory=False)
        shown = "needed" if info.is_required() else f"default: {tomlfile.show(default)}"
        lines.append(
            f"{key}\n    {info.description}\n    allowed: {tomlfile.allowed(info)}; {shown}\n"
        )
    if table == "bond0":
        lines.append("known to Linux, not built yet: " + ", ".join(BOND_NOT_BUILT) + "\n")
    return "".join(lines)


#: Keys of the bond that a written file has whatever their value is.
_SHOWN = ("slaves", "mode", "miimon", "updelay", "downdelay", "use_carrier", "num_grat_arp",
          "address")  # fmt: skip


def to_toml(settings: MachineSettings) -> str:
    """The machine as a file that ``up`` and ``check`` read back to the same settings."""
    quoted = ", ".join(f'"{nic.name}"' for nic in settings.nics)
    lines = [
        f'era  = "{settings.era}"',
        f"cpus = {settings.cpus}",
        f"nics = [{quoted}]",
        f'hostname = "{settings.hostname}"',
        f"completion_timeout_ms = {settings.completion_timeout_ms}",
        f'address = "{settings.address}"',
        f"fast_probe = {tomlfile.show(settings.fast_probe)}",
    ]
    if settings.guest:
        lines.append("guest = true")
    if settings.hotplug_slots:
        slots = ", ".join(f'"{settings.nics[number].name}"' for number in settings.hotplug_slots)
        lines.append(f"hotplug = [{slots}]")
    if settings.bond is not None:
        lines += ["", f"[{settings.bond.name}]"]
        for key, value in settings.bond._asdict().items():
            if key == "name" or (value == BondSettings._field_defaults[key] and key not in _SHOWN):
                continue
            if isinstance(value, tuple):
                lines.append(f"{key} = [" + ", ".join(f'"{v}"' for v in value) + "]")
            else:
                lines.append(f"{key} = {tomlfile.show(value)}")
    lines += ["", *lanconfig.to_toml(settings.gateway, settings.lan)]
    if settings.overrides:
        lines += ["", "[set]", *(f'{key} = "{value}"' for key, value in settings.overrides)]
    return "\n".join(lines) + "\n"
