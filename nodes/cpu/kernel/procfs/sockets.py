"""/proc/net/udp and raw, after udp4_format_sock and raw_sock_seq_show: a row a socket, padded.

The number of a socket stands for its inode; addresses of structures are hidden, as for everybody
without CAP_SYSLOG. How much waits in a queue is known of sockets on the boot CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.ram import Page

_COMMON = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
    "timeout inode"
)
_HEADERS = {
    "2.6.18": _COMMON,
    "3.10": f"{_COMMON} ref pointer drops",
    "6.1": f"{_COMMON} ref pointer drops",
}
TCP_ESTABLISHED, TCP_CLOSE = 1, 7
_TABLE_MASK = {"2.6.18": 127, "3.10": 255, "6.1": 255}


def render_udp(boot: Mapping[str, Any], _pages: Mapping[str, Page]) -> str:
    """The bound sockets, by their bucket."""
    mask = _TABLE_MASK[boot["proc_format"]]
    rows = sorted(boot["udp_sockets"], key=lambda row: (row["port"] & mask, row["number"]))
    return _table(boot, [(row["port"] & mask, row) for row in rows])


def render_raw(boot: Mapping[str, Any], _pages: Mapping[str, Page]) -> str:
    """A raw socket's port is its protocol."""
    return _table(boot, [(row["port"], row) for row in boot["raw_sockets"]])


def _table(boot: Mapping[str, Any], rows: list[tuple[int, Mapping[str, Any]]]) -> str:
    era = boot["proc_format"]
    lines = [_HEADERS[era], *(_row(era, bucket, row) for bucket, row in rows)]
    return "".join(f"{line:<127}\n" for line in lines)


def _row(era: str, bucket: int, row: Mapping[str, Any]) -> str:
    state = TCP_ESTABLISHED if row["peer_port"] else TCP_CLOSE
    text = (
        f"{bucket:{4 if era == '2.6.18' else 5}d}: {_end(row['address'], row['port'])} "
        f"{_end(row['peer'], row['peer_port'])} {state:02X} 00000000:{row['rmem']:08X} "
        f"00:00000000 00000000 {0:5d} {0:8d} {row['number']} 2 {'0' * 16}"
    )
    return text if era == "2.6.18" else f"{text} {row['drops']}"


def _end(address: bytes, port: int) -> str:
    return f"{int.from_bytes(address, 'little'):08X}:{port:04X}"
