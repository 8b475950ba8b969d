"""What ``ip link``, ``ip addr``, ``ip neigh`` and ``ip monitor link`` print, after iproute2 6.1.

Formats are those of captures of iproute2 6.1, in every era: of older ones there is none."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net import neighbour
from nodes.cpu.kernel.net.fib import INADDR_LOOPBACK
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.rtnetlink import RTM_DELLINK, LinkMessage, link_message
from nodes.cpu.kernel.net.stats import COLUMNS, device_stats

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.neighbour import Neighbour
    from nodes.cpu.kernel.percpu import Cpu

#: print_link_flags: in this order.
_FLAGS = (
    (0x8, "LOOPBACK"), (0x2, "BROADCAST"), (0x1000, "MULTICAST"), (0x80, "NOARP"),
    (0x200, "ALLMULTI"), (0x100, "PROMISC"), (0x400, "MASTER"), (0x800, "SLAVE"), (0x1, "UP"),
)  # fmt: skip
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_QLEN = 1000
_STATES = {
    neighbour.NUD_INCOMPLETE: "INCOMPLETE", neighbour.NUD_REACHABLE: "REACHABLE",
    neighbour.NUD_STALE: "STALE", neighbour.NUD_DELAY: "DELAY", neighbour.NUD_PROBE: "PROBE",
    neighbour.NUD_FAILED: "FAILED", neighbour.NUD_NOARP: "NOARP",
    neighbour.NUD_PERMANENT: "PERMANENT",
}  # fmt: skip
#: Narrowest columns of print_stats64.
_WIDTHS = (10, 7, 6, 7, 7, 7, 10)
_RX = (("bytes", "rx_bytes"), ("packets", "rx_packets"), ("errors", "rx_errs"),
       ("dropped", "rx_drop"), ("missed", ""), ("mcast", "rx_multicast"))  # fmt: skip
_TX = (("bytes", "tx_bytes"), ("packets", "tx_packets"), ("errors", "tx_errs"),
       ("dropped", "tx_drop"), ("carrier", "tx_carrier"), ("collsns", "tx_colls"))  # fmt: skip


def devices(cpu: Cpu) -> list[NetDevice]:
    """All, by index."""
    return [dev for _, dev in sorted(cpu.net.devices.items())]


def qdisc_name(cpu: Cpu, dev: NetDevice) -> str:
    """dev->qdisc, the root: noop before the first dev_open, mq above several rings. A device that
    is down or has no carrier keeps it (its transmit queues alone have noop then)."""
    if dev.adapter is None:
        return "noqueue"
    if not dev.qdisc_attached:
        return "noop"
    several = cpu.params.bql != "none" and len(dev.adapter.rings) > 1
    return "mq" if several else "pfifo_fast"


def first_line(cpu: Cpu, link: LinkMessage, dev: NetDevice, *, mode: bool) -> str:
    """``2: eth0: <...> mtu 1500 ...``."""
    loopback = link.flags & _IFF_LOOPBACK
    up = bool(link.flags & _IFF_UP)
    names = [] if loopback or link.carrier or not up else ["NO-CARRIER"]
    names += [name for flag, name in _FLAGS if link.flags & flag]
    if up and (loopback or link.carrier):
        names.append("LOWER_UP")
    state = "UP" if up and link.qdisc_active and link.carrier else "DOWN"
    if loopback:
        state = "UNKNOWN" if up else "DOWN"
    text = f"{link.ifindex}: {link.name}: <{','.join(names)}> mtu {link.mtu}"
    text += f" qdisc {qdisc_name(cpu, dev)}"
    if link.master:
        text += f" master {link.master}"
    text += f" state {state}" + (" mode DEFAULT" if mode else "") + " group default"
    if dev.adapter is not None or cpu.params.bond_xmit_code == "slave":
        text += f" qlen {_QLEN}"  # a bond of older kernels has none
    return text


def second_line(cpu: Cpu, dev: NetDevice) -> str:
    text = _address_line(link_message(dev))
    perm = next(
        (s.perm_hwaddr for b in cpu.net.bonds.values() for s in b.slaves if s.dev is dev),
        dev.dev_addr,
    )
    return text + (f" permaddr {perm.hex(':')}" if perm != dev.dev_addr else "")


def _address_line(link: LinkMessage) -> str:
    kind, broadcast = "ether", b"\xff" * 6
    if link.flags & _IFF_LOOPBACK:
        kind, broadcast = "loopback", bytes(6)
    return f"    link/{kind} {link.address.hex(':')} brd {broadcast.hex(':')}"


def link_text(cpu: Cpu, dev: NetDevice, *, stats: bool = False) -> str:
    """A device of ``ip [-s] link``."""
    text = first_line(cpu, link_message(dev), dev, mode=True) + "\n" + second_line(cpu, dev) + "\n"
    return text + (_stats(cpu, dev) if stats else "")


def _stats(cpu: Cpu, dev: NetDevice) -> str:
    """print_stats64: columns as wide as their largest number."""
    values = dict(zip(COLUMNS, device_stats(cpu, dev), strict=True))
    lines = []
    for title, columns in (("RX", _RX), ("TX", _TX)):
        numbers = [values.get(name, 0) for _, name in columns]
        widths = [
            max(width, len(str(number)))
            for width, number in zip(_WIDTHS, [*numbers, 0], strict=True)
        ]
        heads = [f"{label:>{width}}" for (label, _), width in zip(columns, widths, strict=False)]
        heads[0] = f"{'bytes':>{widths[0] - 4}}"
        lines.append(f"    {title}: {' '.join(heads)} {'':{widths[-1]}}")
        cells = (f"{number:>{width}} " for number, width in zip(numbers, widths, strict=False))
        lines.append("    " + "".join(cells))
    return "".join(line + "\n" for line in lines)


def addr_text(cpu: Cpu, dev: NetDevice) -> str:
    """A device of ``ip addr``."""
    lines = [first_line(cpu, link_message(dev), dev, mode=False), second_line(cpu, dev)]
    found = [(a, i) for a, i in cpu.net.addresses.items() if i == dev.ifindex]
    scope = "host" if dev.flags & _IFF_LOOPBACK else "global"
    for address, _ in found:
        text = f"{ipaddress.IPv4Address(address)}/{_prefix(cpu, address)}"
        lines.append(f"    inet {text} scope {scope} {dev.name}")
        lines.append("       valid_lft forever preferred_lft forever")
    return "".join(line + "\n" for line in lines)


def _prefix(cpu: Cpu, address: bytes) -> int:
    fib = cpu.net.fib
    route = fib.loopback.route if address == INADDR_LOOPBACK else fib.connected.get(address)
    return route.mask.bit_count() if route is not None else 32


def neigh_text(neigh: Neighbour) -> str:
    """A line of ``ip neigh``."""
    text = f"{ipaddress.IPv4Address(neigh.address)} dev {neigh.dev.name} "
    if neigh.state & neighbour.NUD_VALID:
        text += f"lladdr {neigh.mac.hex(':')} "
    return text + _STATES.get(neigh.state, "NONE") + " \n"


def monitor_text(cpu: Cpu, message: LinkMessage, dev: NetDevice) -> str:
    """A message of ``ip monitor link``."""
    text = "Deleted " if message.kind == RTM_DELLINK else ""
    line = first_line(cpu, message, dev, mode=False)
    return f"{text}{line.split(' qlen')[0]} \n{_address_line(message)}\n"
