"""/proc/net/dev, softnet_stat, arp, route (kernel-net reference sections 2.3 and 5.5 to 5.7) and
stat/rt_cache (net/ipv4/route.c)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.ram import Page

_DEV_HEADER = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|"
    "bytes    packets errs drop fifo colls carrier compressed\n"
)
_RT_CACHE_HEADER = (
    "entries  in_hit in_slow_tot in_slow_mc in_no_route in_brd in_martian_dst in_martian_src  "
    "out_hit out_slow_tot out_slow_mc  gc_total gc_ignored gc_goal_miss gc_dst_overflow "
    "in_hlist_search out_hlist_search"
)
_WIDTHS = (7, 7, 4, 4, 4, 5, 10, 9, 8, 7, 4, 4, 4, 5, 7, 10)


def render_dev(boot: Mapping[str, Any], _pages: Mapping[str, Page]) -> str:
    """Two header lines and one row a device, lo first."""
    rows = []
    old = boot["proc_format"] == "2.6.18"
    for name, stats in boot["devices"]:
        cells = [f"{value:{width}d}" for value, width in zip(stats, _WIDTHS, strict=True)]
        if old:  # no blank behind the colon, so the first number is one wider
            rows.append(f"{name:>6}:{stats[0]:8d} " + " ".join(cells[1:]))
        else:
            rows.append(f"{name:>6}: " + " ".join(cells))
    return _DEV_HEADER + "\n".join(rows) + "\n"


def render_softnet_stat(boot: Mapping[str, Any], pages: Mapping[str, Page]) -> str:
    """One line an online CPU, in hexadecimal; columns by era."""
    lines = []
    columns = boot["softnet_columns"]
    for number in boot["online"]:
        processed, dropped, squeeze, collision, rps, flow = pages[f"cpu{number}"].run("softnet")
        row = [processed, dropped, squeeze, 0, 0, 0, 0, 0]
        row += [0 if columns == 13 else collision, rps, flow, 0, number]
        lines.append(" ".join(f"{value:08x}" for value in row[:columns]))
    return "\n".join(lines) + "\n"


def render_arp(boot: Mapping[str, Any], _pages: Mapping[str, Page]) -> str:
    """One row a neighbour."""
    lines = [
        "IP address       HW type     Flags       HW address            Mask     Device",
    ]
    for address, flags, mac, device in boot["neighbours"]:
        text = bytes(mac).hex(":")
        if boot["proc_format"] == "2.6.18":
            text = text.upper()
        lines.append(f"{address:<16} 0x{1:<10x}0x{flags:<10x}{text:<17}     *        {device}")
    return "\n".join(lines) + "\n"


def render_rt_cache(boot: Mapping[str, Any], pages: Mapping[str, Page]) -> str:
    """One line an online CPU; entries are of all of them. Columns of what is not modelled (input
    routes, the cache's own collector) are 0."""
    lines = [_RT_CACHE_HEADER]
    rows = [pages[f"cpu{number}"].run("rt_cache") for number in boot["online"]]
    entries = sum(row[0] for row in rows)
    for _, out_hit, out_slow_tot in rows:
        first = " ".join(f"{value:08x}" for value in (0,) * 7)
        rest = " ".join(f"{value:08x}" for value in (out_hit, out_slow_tot, *(0,) * 7))
        lines.append(f"{entries:08x}  {first}  {rest} ")
    return "\n".join(lines) + "\n"


def _little_endian(address: int) -> str:
    return f"{int.from_bytes(address.to_bytes(4, 'big'), 'little'):08X}"


def render_route(boot: Mapping[str, Any], _pages: Mapping[str, Page]) -> str:
    """The table as hexadecimal words, every line padded to 127 characters."""
    lines = ["Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"]
    for device, network, mask, gateway, metric in sorted(boot["routes"], key=lambda r: r[2]):
        flags = 0x1 | (0x2 if gateway else 0) | (0x4 if mask == 0xFFFF_FFFF else 0)
        lines.append(
            f"{device}\t{_little_endian(network)}\t{_little_endian(gateway)}\t{flags:04X}"
            f"\t0\t0\t{metric}\t{_little_endian(mask)}\t0\t0\t0"
        )
    return "".join(f"{line:<127}\n" for line in lines)
