"""A machine's TOML file, the command line on top of it, and what Linux would refuse -> settings.

What may stand in the file is ``configtables``; here it becomes ``MachineSettings``, or a line says
what is wrong, where, and what is allowed. What Linux refuses of a bond is in ``bondcheck``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from nodes.cpu.kernel.net.bonding.options import MODE_NAMES
from nodes.machine import BondSettings, MachineSettings, NicSettings
from orchestrator.configuration import bondcheck, eras, lanconfig, tomlfile
from orchestrator.configuration.configtables import BOND_NOT_BUILT, Bond0, Machine
from orchestrator.configuration.tomlfile import TomlFile
from orchestrator.errors import BottomhalfError, did_you_mean, words

DEFAULT_MACHINE = "bond-pair"
LIMITS = "docs/limitations.md"


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
        placement=parsed.placement,
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
    name = MODE_NAMES[int(text)] if text.isdecimal() and int(text) < len(MODE_NAMES) else text
    if name not in MODE_NAMES:
        raise file.error(
            ("bond0", "mode"),
            f"[bond0] mode = {tomlfile.show(mode)} is no bonding mode"
            + did_you_mean(text, MODE_NAMES),
            "modes are " + ", ".join(f"{n} {m}" for n, m in enumerate(MODE_NAMES)),
        )
    return name
