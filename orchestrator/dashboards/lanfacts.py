"""What the LAN's page says: ports, the table of addresses, what was dropped and why."""

from __future__ import annotations

from typing import NamedTuple

from nodes.lan.page import (
    GATEWAY_PORT,
    GW_DROPS,
    IN_DROPS,
    MAC_ROWS,
    PORTS,
    ROW_PORT_SHIFT,
    ROW_VLAN_SHIFT,
)
from nodes.machine import GATEWAY
from orchestrator.dashboards import facts
from orchestrator.dashboards.model import SLOW_PERIOD_NS, MachineView, NodeView

#: Why a frame ended here, in the words people read.
DROP_WORDS = {
    "in_drop_cable_out": "its cable is out",
    "in_drop_no_light": "no light from the sender",
    "in_drop_undersize": "shorter than 60 bytes",
    "in_drop_source": "multicast source",
    "in_drop_reserved": "reserved for bridges",
    "in_drop_same_port": "target behind the same port",
    "in_drop_no_port": "no other port is up",
    "in_drop_port_down": "its port is shut",
    "in_drop_vlan": "not a VLAN of the port",
    "in_drop_not_collecting": "its member takes no data",
    "out_drop_no_link": "the link went meanwhile",
    "fault_loss": "fault loss",
    "fault_silent": "fault silent",
    "fault_one_way": "fault one-way",
    "fault_full": "its faulty cable is full",
    "fault_fcs": "wrong FCS (fault corrupt)",
    "lost_dead": "the NIC's process is dead",
    "lost_full": "the NIC takes nothing",
    "gw_drop_not_mine": "not to the gateway's MAC",
    "gw_drop_protocol": "not ARP, ICMP or UDP",
    "gw_drop_arp": "ARP, not for the gateway",
    "gw_drop_address": "not the gateway's address",
    "gw_drop_checksum": "wrong checksum",
    "gw_drop_fragment": "a fragment",
    "gw_fragment": "pieces of datagrams",
    "gw_drop_icmp": "no echo request",
    "gw_drop_port": "a closed UDP port",
}
FAULT_DROPS = (
    "in_drop_port_down", *(name for name in IN_DROPS if name.startswith("fault_")),
)  # fmt: skip
_PORT_DROPS = (*IN_DROPS, "lost_dead", "lost_full")


class Port(NamedTuple):
    """One port of the switch."""

    number: int
    name: str
    cable: bool
    light: bool
    link: bool
    came: float  # frames per second from it
    went: float  # frames per second to it
    lost: int  # frames from or to it that ended here, ever
    losing: float  # the same per second
    history: list[float]  # frames both ways
    faults: tuple[str, ...]  # as one types them
    held: int  # frames that wait in its cable
    channel: str  # its port-channel, or nothing
    carries: str  # what a member does with data


class Address(NamedTuple):
    """One row of the table of addresses."""

    mac: str
    port: str
    age_ns: int
    vlan: int  # 0 where the switch knows none


def words(port: int) -> range:
    """Words of one port in a field by port and class."""
    return range(3 * port, 3 * port + 3)


def port_name(view: MachineView, port: int) -> str:
    """Name of a port or of a port-channel."""
    if port >= PORTS:
        channels = view.settings.lan.channels
        return channels[port - PORTS].name if port - PORTS < len(channels) else f"po{port}"
    if port < len(view.nics):
        return view.nic(port)
    if port == GATEWAY_PORT:
        return "uplink" if view.settings.lan.uplink else GATEWAY
    return guests(view).get(port, f"port {port + 1}")


def guests(view: MachineView) -> dict[int, str]:
    """Machines whose switch joined this one, by port."""
    found = (word.partition(":") for word in view.lan.text("guests").split())
    return {int(port): name for port, _, name in found}


def _carries(view: MachineView, port: int) -> str:
    get = view.lan.get
    words = ("collecting", "distributing")
    return " ".join(word for word in words if get(word, port)) or "carries no data"


def ports(view: MachineView, columns: int = 1) -> list[Port]:
    """Ports of the NICs, then the gateway's."""
    lan = view.lan
    out = []
    for number in (*range(len(view.nics)), *guests(view), GATEWAY_PORT):
        mine = words(number)
        name = port_name(view, number)
        channel = lan.get("channel", number)
        ways = [
            lan.series(field, mine, columns, SLOW_PERIOD_NS, slow=True)
            for field in ("frames_in", "frames_out")
        ]
        out.append(
            Port(
                number,
                name,
                bool(lan.get("cable", number)),
                bool(lan.get("light", number)),
                bool(lan.get("link", number)),
                lan.rate("frames_in", mine),
                lan.rate("frames_out", mine),
                sum(lan.get(field, word) for field in _PORT_DROPS for word in mine),
                sum(lan.rate(field, mine) for field in _PORT_DROPS),
                [came + went for came, went in zip(*ways, strict=True)],
                tuple(fault.text for fault in facts.faults_at(view, number)),
                sum(lan.get("fault_held", word) for word in mine),
                port_name(view, channel) if channel else "",
                _carries(view, number) if channel else "",
            )
        )
    return out


def addresses(view: MachineView) -> list[Address]:
    """The table of addresses, those seen last first."""
    flat = view.lan.run("macs")
    found = []
    for row in range(MAC_ROWS):
        what, seen_ns = flat[2 * row : 2 * row + 2]
        if what >> 48:
            mac = (what & 0xFFFF_FFFF_FFFF).to_bytes(6, "big").hex(":")
            port = port_name(view, (what >> ROW_PORT_SHIFT & 0xF) - 1)
            found.append(Address(mac, port, view.age_ns(seen_ns), what >> ROW_VLAN_SHIFT))
    return sorted(found, key=lambda address: (address.age_ns, address.mac))


def drops(node: NodeView) -> list[tuple[str, int, float]]:
    """(reason, frames, frames per second) of what ended here, the latest first."""
    found = [
        (DROP_WORDS[name], sum(node.run(name)), node.rate(name))
        for name in (*_PORT_DROPS, *GW_DROPS)
        if any(node.run(name))
    ]
    return sorted(found, key=lambda drop: (-drop[2], -drop[1]))


def dropping(view: MachineView) -> tuple[str, str, int] | None:
    """(port, reason, frames) that lost most in the last second."""
    lan = view.lan
    lost = {
        (port_name(view, number), name): lan.delta(name, words(number))
        for number in range(PORTS)
        for name in _PORT_DROPS
    } | {("gateway", name): lan.delta(name) for name in GW_DROPS}
    worst = max(lost, key=lambda key: lost[key])
    return (worst[0], DROP_WORDS[worst[1]], lost[worst]) if lost[worst] else None


def talk(view: MachineView) -> str:
    """Who talks: ``eth0 talks to the gateway``."""
    talking = [port.name for port in ports(view) if port.came and port.name != "gateway"]
    if not talking:
        return "nobody talks"
    verb = "talks" if len(talking) == 1 else "talk"
    to = " to the gateway" if view.lan.delta("frames_out", words(GATEWAY_PORT)) else ""
    return f"{' and '.join(talking)} {verb}{to}"
