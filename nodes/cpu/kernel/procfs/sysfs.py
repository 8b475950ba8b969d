"""/sys/class/net/DEV and /sys/bus/pci, after net/core/net-sysfs.c and drivers/pci/pci-sysfs.c.

Left out: queues of lo, speed and duplex, links between directories.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES, EINVAL
from typing import Any

from nodes.cpu.kernel.procfs.tree import TREE, Boot, Groups, Pages, file

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
#: ARPHRD_LOOPBACK
_TYPE_LOOPBACK = 772
_STATISTICS = (
    "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "rx_fifo_errors", "rx_frame_errors",
    "rx_compressed", "multicast", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped",
    "tx_fifo_errors", "collisions", "tx_carrier_errors", "tx_compressed",
)  # fmt: skip
#: Parts of the sums above that nothing here counts.
_NEVER = (
    "rx_crc_errors", "rx_length_errors", "rx_missed_errors", "rx_over_errors",
    "tx_aborted_errors", "tx_heartbeat_errors", "tx_window_errors",
)  # fmt: skip
VENDOR, DEVICE, CLASS = "0x8086", "0x10fb", "0x020000"

_NET = "/sys/class/net/{dev}/"
_PCI = "/sys/bus/pci/devices/{pci}/"


def _operstate(dev: Any) -> str:
    """RFC 2863; linkwatch sets it together with the queueing discipline; nobody does of lo."""
    if dev["flags"] & IFF_LOOPBACK:
        return "unknown"
    return "up" if dev["flags"] & IFF_UP and dev["qdisc_active"] else "down"


def _carrier(dev: Any) -> int:
    if not dev["flags"] & IFF_UP:
        raise OSError(EINVAL, "the device is down")
    return int(dev["carrier"])


def _broadcast(dev: Any) -> str:
    return ":".join(["00" if dev["flags"] & IFF_LOOPBACK else "ff"] * 6)


_ATTRIBUTES: dict[str, Callable[[Any], object]] = {
    "addr_len": lambda dev: 6,
    "address": lambda dev: bytes(dev["address"]).hex(":"),
    "broadcast": lambda dev: (
        "00:00:00:00:00:00" if dev["flags"] & IFF_LOOPBACK else "ff:ff:ff:ff:ff:ff"
    ),
    "carrier": _carrier,
    "dormant": lambda dev: 0,
    "flags": lambda dev: f"{dev['flags']:#x}",
    "ifindex": lambda dev: dev["ifindex"],
    "iflink": lambda dev: dev["ifindex"],
    "link_mode": lambda dev: 0,
    "mtu": lambda dev: dev["mtu"],
    "operstate": _operstate,
    "type": lambda dev: _TYPE_LOOPBACK if dev["flags"] & IFF_LOOPBACK else 1,
}


def _attribute(name: str) -> None:
    get = _ATTRIBUTES[name]

    @file(_NET + name)
    def show(boot: Boot, _pages: Pages, groups: Groups) -> str:
        return f"{get(boot['netdevs'][groups['dev']])}\n"


def _statistic(name: str, column: int | None) -> None:
    @file(f"{_NET}statistics/{name}")
    def show(boot: Boot, _pages: Pages, groups: Groups) -> str:
        return f"{0 if column is None else dict(boot['devices'])[groups['dev']][column]}\n"


for _name in _ATTRIBUTES:
    _attribute(_name)
for _column, _name in enumerate(_STATISTICS):
    _statistic(_name, _column)
for _name in _NEVER:
    _statistic(_name, None)


def _fixed(name: str, text: str) -> None:
    TREE[_PCI + name] = lambda boot, pages, groups: f"{text}\n"


_fixed("vendor", VENDOR)
_fixed("device", DEVICE)
_fixed("class", CLASS)


@file("/sys/bus/pci/drivers/ixgbe/bind")
@file("/sys/bus/pci/drivers/ixgbe/unbind")
@file("/sys/bus/pci/rescan")
@file(_PCI + "remove")
def write_only(_boot: Boot, _pages: Pages, _groups: Groups) -> str:
    """Mode 0200, which in /sys binds root too."""
    raise OSError(EACCES, "write only")
