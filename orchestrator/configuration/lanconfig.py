"""The table [lan] of a machine's file: the switch, its ports, and the gateway behind it."""

from __future__ import annotations

import ipaddress
import re
import zlib
from typing import Literal

from pydantic import Field

import nodes.lan.lacp  # noqa: F401  (it makes partners)
from bus.faults import LACP_WRONG
from nodes.lan.channel import PARTNERS
from nodes.lan.page import CHANNELS_MAX
from nodes.machine import (
    GATEWAY,
    GATEWAY_ADDRESSES,
    BondSettings,
    ChannelSettings,
    GatewaySettings,
    LacpSettings,
    LanSettings,
    MachineSettings,
    PortSettings,
)
from orchestrator.configuration import tomlfile
from orchestrator.configuration.tables import Table, allowed
from orchestrator.configuration.tomlfile import TomlFile
from orchestrator.errors import BottomhalfError, did_you_mean, words

VLAN_MAX = 4094
_PORT_EXAMPLE = 'ports = { eth0 = "access 10", eth1 = "trunk 10,20 native 1" }'
_CHANNEL_EXAMPLE = 'channels = { po1 = ["eth0", "eth1"] }'
_TRUNK = re.compile(r"trunk (\d{1,4}(?:,\d{1,4})*)(?: native (\d{1,4}))?")


class Lacp(Table):
    """LACP of a port-channel, as the switch speaks it."""

    activity: Literal["active", "passive"] = "active"
    rate: Literal["slow", "fast"] = "slow"
    priority: int = Field(default=32768, ge=1, le=65535)
    key: int = Field(default=1, ge=1, le=65535)
    keys: dict[str, int] = {}
    wrong: dict[str, str] = {}


class Lan(Table):
    """[lan]"""

    gateway: list[str] = Field(
        list(GATEWAY_ADDRESSES),
        min_length=1,
        max_length=64,
        description="addresses of the host that answers ARP, echo and UDP ports 7 and 9",
        json_schema_extra=allowed("a list of IPv4 addresses"),
    )
    gateway_mac: str = Field(
        "02:00:00:00:00:01",
        pattern=r"^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$",
        description="its hardware address",
        json_schema_extra=allowed("six bytes in hex, 02:00:00:00:00:01"),
    )
    gateway_vlans: dict[str, list[str]] = Field(
        {},
        description="addresses that it has in tagged VLANs",
        json_schema_extra=allowed('a table of VLANs, { 10 = ["192.168.10.1"] }'),
    )
    ageing: int = Field(
        300, ge=1, le=1_000_000, description="seconds after which the switch forgets an address"
    )
    ports: dict[str, str] = Field(
        {},
        description="VLANs of the switch's ports; ports that are not named are `access 1`; "
        "with an empty table the switch knows no VLANs and lets tags pass",
        json_schema_extra=allowed(
            'a table of NICs (and gateway), "access N" or "trunk N,N native N"'
        ),
    )
    uplink: Literal["none", "tap"] = Field(
        "none",
        description="tap: behind the switch is a real kernel, in a network namespace of its own "
        "(needs root)",
    )
    join: str = Field(
        "",
        description="name of a running machine: the last port leads to its switch",
        json_schema_extra=allowed("a machine's name"),
    )
    channels: dict[str, list[str]] = Field(
        {},
        max_length=CHANNELS_MAX,
        description="port-channels: the members, static; a mode before them "
        "(lacp) says who decides",
        json_schema_extra=allowed(
            f'at most {CHANNELS_MAX} lists of at least one NIC, {{ po1 = ["eth0", "eth1"] }}'
        ),
    )
    lacp: dict[str, Lacp] = Field(
        {},
        description="how the switch speaks LACP on a port-channel: activity (active, passive), "
        "rate (slow, fast), priority, key, keys of single ports, wrong at single ports",
        json_schema_extra=allowed('a table of channels, { po1 = { rate = "fast" } }'),
    )


def joined(settings: MachineSettings, host: str) -> MachineSettings:
    """The machine with its switch on another machine's: MAC addresses of its own, and an address
    of its own if it has the default one (the number in its name decides: m2 has 192.168.1.12)."""
    digits = re.sub(r"\D", "", settings.name)
    number = int(digits) % 200 if digits else zlib.crc32(settings.name.encode()) % 200
    nics = tuple(
        nic._replace(mac=nic.mac[:4] + bytes((number or 1,)) + nic.mac[5:]) for nic in settings.nics
    )
    address = f"192.168.1.{10 + number}/24"
    changed = settings._replace(nics=nics, lan=settings.lan._replace(uplink="join", join=host))
    if changed.bond is not None and changed.bond.address == BondSettings().address:
        return changed._replace(bond=changed.bond._replace(address=address))
    if changed.bond is None and changed.address == BondSettings().address:
        return changed._replace(address=address)
    return changed


def gateway(file: TomlFile, lan: Lan) -> GatewaySettings:
    """The host behind the switch."""
    for address in lan.gateway:
        _address(file, "gateway", address, 'gateway = ["192.168.1.1"]')
    vlans = []
    for vid, addresses in lan.gateway_vlans.items():
        example = 'gateway_vlans = { 10 = ["192.168.10.1"] }'
        _vlan(file, "gateway_vlans", vid, example)
        for address in addresses:
            _address(file, "gateway_vlans", address, example)
        vlans.append((int(vid), tuple(addresses)))
    mac = bytes.fromhex(lan.gateway_mac.replace(":", ""))
    return GatewaySettings(mac, tuple(lan.gateway), tuple(vlans))


def switch(file: TomlFile, lan: Lan, nics: list[str]) -> LanSettings:
    """The switch."""
    ports = tuple(_port(file, port, text, nics) for port, text in lan.ports.items())
    channels: list[ChannelSettings] = []
    taken: dict[str, str] = {}
    for name, listed in lan.channels.items():
        mode = "static" if not listed or listed[0] in nics else listed[0]
        members = tuple(listed if mode == "static" else listed[1:])
        if mode not in ("static", *PARTNERS):
            raise _wrong(
                file, "channels", f"{name} holds `{mode}`: no NIC and no mode"
                + did_you_mean(mode, (*nics, *PARTNERS)), f"NICs are {words(nics)}",
            )  # fmt: skip
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", name) or name in (*nics, GATEWAY):
            raise _wrong(file, "channels", f"`{name}` is no name for one", _CHANNEL_EXAMPLE)
        for member in members:
            if member not in nics or member in taken:
                why = f"which is in {taken[member]}" if member in taken else "which is no NIC"
                raise _wrong(file, "channels", f"{name} holds `{member}`, {why}", words(nics))
            taken[member] = name
        if not members:
            raise _wrong(file, "channels", f"{name} has no member", _CHANNEL_EXAMPLE)
        _alike(file, name, members, ports)
        lacp = _lacp(file, name, lan.lacp.get(name, Lacp()), members)
        channels.append(ChannelSettings(name, members, mode, lacp))
    for name in lan.lacp:
        if name not in [c.name for c in channels if c.mode == "lacp"]:
            text = f"`{name}` is no port-channel that speaks LACP"
            raise _wrong(file, "lacp", text, 'channels = { po1 = ["lacp", "eth0", "eth1"] }')
    if lan.uplink == "tap" and lan.join:
        raise _wrong(file, "join", "there is one way out of the switch", "uplink or join")
    uplink = "join" if lan.join else lan.uplink.replace("none", "")
    return LanSettings(lan.ageing, ports, tuple(channels), uplink, lan.join)


def _lacp(file: TomlFile, name: str, lacp: Lacp, members: tuple[str, ...]) -> LacpSettings:
    """Keys and ways to be wrong are of members."""
    for member in (*lacp.keys, *lacp.wrong):
        if member not in members:
            raise _wrong(file, "lacp", f"`{member}` is no member of {name}", words(members))
    for member, key in lacp.keys.items():
        if not 1 <= key <= 65535:
            raise _wrong(file, "lacp", f"{member} has key {key}", "1 to 65535")
    for member, way in lacp.wrong.items():
        if way not in LACP_WRONG:
            text = f"{member} cannot be wrong like `{way}`{did_you_mean(way, LACP_WRONG)}"
            raise _wrong(file, "lacp", text, words(LACP_WRONG))
    return LacpSettings(
        activity=lacp.activity,
        rate=lacp.rate,
        key=lacp.key,
        system_priority=lacp.priority,
        keys=tuple(lacp.keys.items()),
        wrong=tuple(lacp.wrong.items()),
    )


def _alike(
    file: TomlFile, name: str, members: tuple[str, ...], ports: tuple[PortSettings, ...]
) -> None:
    """A channel is one port: its members have the same VLANs."""
    found = {port.port: (port.native, port.trunk) for port in ports}
    if len({found.get(member, (1, ())) for member in members}) > 1:
        text = f"the members of {name} have different VLANs"
        raise _wrong(file, "ports", text, "give each of them the same")


def _port(file: TomlFile, port: str, text: str, nics: list[str]) -> PortSettings:
    known = [*nics, GATEWAY]
    if port not in known:
        raise _wrong(file, "ports", f"no port `{port}`{did_you_mean(port, known)}", words(known))
    head, _, number = text.partition(" ")
    if head == "access":
        return PortSettings(port, _vlan(file, "ports", number, _PORT_EXAMPLE))
    match = _TRUNK.fullmatch(text)
    if match is None:
        raise _wrong(file, "ports", f'{port} = "{text}" is neither access nor trunk', _PORT_EXAMPLE)
    listed = tuple(_vlan(file, "ports", vid, _PORT_EXAMPLE) for vid in match[1].split(","))
    native = _vlan(file, "ports", match[2], _PORT_EXAMPLE) if match[2] else 0
    return PortSettings(port, native, listed)


def _vlan(file: TomlFile, key: str, text: str, example: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= VLAN_MAX:
        raise _wrong(file, key, f"`{text}` is no VLAN: 1 to {VLAN_MAX}", example)
    return int(text)


def _address(file: TomlFile, key: str, address: str, example: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        what = f"[lan] {key} holds {tomlfile.show(address)}, which is no IPv4 address"
        raise file.error(("lan", key), what, example) from None


def _wrong(file: TomlFile, key: str, what: str, hint: str) -> BottomhalfError:
    return file.error(("lan", key), f"[lan] {key}: {what}", hint)


def to_toml(gateway: GatewaySettings, lan: LanSettings) -> list[str]:
    """The table as lines that read back to the same settings."""
    lines = ["[lan]", f"gateway = {_list(gateway.addresses)}"]
    lines.append(f'gateway_mac = "{gateway.mac.hex(":")}"')
    if gateway.vlans:
        rows = ", ".join(f"{vid} = {_list(addresses)}" for vid, addresses in gateway.vlans)
        lines.append(f"gateway_vlans = {{ {rows} }}")
    lines.append(f"ageing = {lan.ageing_s}")
    if lan.ports:
        rows = ", ".join(f'{port.port} = "{_port_text(port)}"' for port in lan.ports)
        lines.append(f"ports = {{ {rows} }}")
    lines += ['uplink = "tap"'] if lan.uplink == "tap" else []
    lines += [f'join = "{lan.join}"'] if lan.join else []
    if lan.channels:
        rows = ", ".join(
            f"{c.name} = {_list(c.members if c.mode == 'static' else (c.mode, *c.members))}"
            for c in lan.channels
        )
        lines.append(f"channels = {{ {rows} }}")
        rows = ", ".join(
            f"{c.name} = {{ {_lacp_text(c.lacp)} }}"
            for c in lan.channels
            if c.lacp != LacpSettings()
        )
        if rows:
            lines.append(f"lacp = {{ {rows} }}")
    return lines


def _lacp_text(lacp: LacpSettings) -> str:
    """What is not as it is by itself."""
    usual, parts = LacpSettings(), []
    for key, value, default in (
        ("activity", f'"{lacp.activity}"', f'"{usual.activity}"'),
        ("rate", f'"{lacp.rate}"', f'"{usual.rate}"'),
        ("priority", str(lacp.system_priority), str(usual.system_priority)),
        ("key", str(lacp.key), str(usual.key)),
    ):
        if value != default:
            parts.append(f"{key} = {value}")
    if lacp.keys:
        parts.append(f"keys = {{ {', '.join(f'{n} = {k}' for n, k in lacp.keys)} }}")
    if lacp.wrong:
        rows = ", ".join(f'{name} = "{way}"' for name, way in lacp.wrong)
        parts.append(f"wrong = {{ {rows} }}")
    return ", ".join(parts)


def _port_text(port: PortSettings) -> str:
    if not port.trunk:
        return f"access {port.native}"
    native = f" native {port.native}" if port.native else ""
    return f"trunk {','.join(str(vid) for vid in port.trunk)}{native}"


def _list(items: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{item}"' for item in items) + "]"
