"""What Linux refuses of a bond's options: kinds of values, and options that exclude one another.

The texts are the kernel's: bond_opt_error_interpret, bond_netlink.c, and bond_check_params for what
only a module's options can get wrong. An option that the era does not have is an unknown parameter.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from nodes.cpu.kernel.net.bonding.options import (
    MIIMON_DEFAULT,
    MODE_NAMES,
    OPTIONS,
    Option,
    parse,
)
from orchestrator.configuration import eras
from orchestrator.configuration.tomlfile import TomlFile
from orchestrator.errors import BottomhalfError

_REFUSED = "Linux refuses this bond: "
_NO_ADDRESS = ("0.0.0.0", "255.255.255.255")
#: arp_validate was only for active-backup up to 3.10, as its row of the old options has it.
_OLD_MODES = {"arp_validate": ("active-backup",)}


def values(file: TomlFile, era: str, mode: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options as settings hold them; raises what Linux would say."""
    stated = file.data.get("bond0", {})
    found: dict[str, Any] = {}
    for name, row in OPTIONS.items():
        if name in stated:
            _check_known(file, era, name)
        if name in given and name not in ("mode", "slaves"):
            found[name] = _value(file, era, row, given[name])
    for name, row in OPTIONS.items():
        if name in stated:
            _check_mode(file, era, row, mode, found.get(name))
    _check_targets(file, found)
    _check_monitors(file, found)
    alias = found.pop("num_unsol_na")
    if "num_unsol_na" in stated and "num_grat_arp" not in stated:
        found["num_grat_arp"] = alias
    if mode not in OPTIONS["arp_interval"].modes and not found["miimon"]:
        found["miimon"] = MIIMON_DEFAULT  # "Forcing miimon to 100msec"
    return found


def _refuse(file: TomlFile, name: str, why: str, hint: str) -> BottomhalfError:
    return file.error(("bond0", name), _REFUSED + why, hint)


def _check_known(file: TomlFile, era: str, name: str) -> None:
    absent = eras.behaviours(era)["absent_files"]
    if f"/sys/class/net/{{bond}}/bonding/{name}" in absent:
        hint = f"{era} has no such option: leave it out, or take a later --era"
        raise _refuse(file, name, f"bonding: Unknown parameter `{name}'", hint)


def _value(file: TomlFile, era: str, row: Option, value: Any) -> Any:
    if row.name == "arp_ip_target":
        return tuple(value)
    if row.raw or not row.words:
        return value
    absent = eras.behaviours(era)["absent_values"]
    parsed = parse(row, str(value), absent)
    if parsed is None:
        words = ", ".join(
            f"{word} ({number})"
            for number, word in enumerate(row.words)
            if f"{row.name}={word}" not in absent
        )
        why = f"option {row.name}: invalid value ({value})"
        raise _refuse(file, row.name, why, f"allowed: {words}")
    return parsed


def _check_mode(file: TomlFile, era: str, row: Option, mode: str, value: Any) -> None:
    modes = row.modes
    if eras.behaviours(era)["bond_options"] != "table":
        modes = _OLD_MODES.get(row.name, modes)
    if value in ("", row.default) or not modes or mode in modes:
        return
    number = MODE_NAMES.index(mode)
    why = f"option {row.name}: mode dependency failed, not supported in mode {mode}({number})"
    raise _refuse(file, row.name, why, f"{row.name} is for {', '.join(modes)}")


def _check_targets(file: TomlFile, found: dict[str, Any]) -> None:
    for target in found["arp_ip_target"]:
        try:
            ipaddress.IPv4Address(target)
            wrong = target in _NO_ADDRESS
        except ValueError:
            wrong = True
        if wrong:
            why = f"invalid ARP target {target} specified for addition"
            raise _refuse(file, "arp_ip_target", why, 'arp_ip_target = ["192.168.1.1"]')


def _check_monitors(file: TomlFile, found: dict[str, Any]) -> None:
    miimon, arp_interval = found["miimon"], found["arp_interval"]
    if miimon and arp_interval:
        raise _refuse(
            file,
            "arp_interval",
            "ARP monitoring cannot be used with MII monitoring",
            f"miimon = {miimon}{_line(file, 'miimon')} and "
            f"arp_interval = {arp_interval}{_line(file, 'arp_interval')}: set one to 0",
        )
    if found["arp_validate"] != "none" and not arp_interval:
        stated = miimon and "miimon" in file.data.get("bond0", {})
        words = "ARP validating cannot be used with MII monitor"
        why = words if stated else "arp_validate requires arp_interval"
        raise _refuse(file, "arp_validate", why, "set arp_interval, and miimon = 0")
    for name in ("updelay", "downdelay", "peer_notif_delay"):
        if found[name] and not miimon:
            raise _refuse(
                file,
                name,
                f"Unable to set {OPTIONS[name].shown} as MII monitoring is disabled",
                f"miimon = 0{_line(file, 'miimon')} and {name} = {found[name]}: "
                "give miimon a value or leave the delay out",
            )


def _line(file: TomlFile, key: str) -> str:
    if ("bond0", key) in file.options:
        return f" ({file.options[('bond0', key)]})"
    line = file.line(("bond0", key))
    return f" (line {line})" if line else ""
