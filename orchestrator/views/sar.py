"""``sar -n DEV``: what sysstat makes of two readings of /proc/net/dev.

Behaviour ``sysstat_text``: release 7 counts bytes, later ones kilobytes (of 1024), release 12 has
``%ifutil``, the share of the line's speed. A counter that fell (a device that came anew) starts at
zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

KB = 1024
_BYTES = {"7": "   rxbyt/s   txbyt/s", "10": "    rxkB/s    txkB/s", "12": "    rxkB/s    txkB/s"}
_TAIL = {"7": "", "10": "", "12": "   %ifutil"}
#: Columns of /proc/net/dev: packets, bytes, compressed of both ways, multicast.
_WANTED = (1, 9, 0, 8, 6, 15, 7)


class Reading(NamedTuple):
    """/proc/net/dev at a time; ``speeds`` in Mbit/s, 0 unknown."""

    time_ns: int
    rows: Mapping[str, Sequence[int]]
    speeds: Mapping[str, int]


def parse(text: str) -> dict[str, list[int]]:
    """Name -> the sixteen columns."""
    rows = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        rows[name.strip()] = [int(word) for word in rest.split()]
    return rows


def header(release: str, clock: str) -> str:
    """The line of titles, with the time of the reading before."""
    titles = f"     IFACE   rxpck/s   txpck/s{_BYTES[release]}   rxcmp/s   txcmp/s  rxmcst/s"
    return f"\n{clock:<11}{titles}{_TAIL[release]}\n"


def table(release: str, clock: str, before: Reading, now: Reading) -> str:
    """A row for each device that there is now."""
    return "".join(_row(release, clock, name, before, now) for name in now.rows)


def _row(release: str, clock: str, name: str, before: Reading, now: Reading) -> str:
    seconds = (now.time_ns - before.time_ns) / 1e9
    old = before.rows.get(name, [0] * 16)
    new = now.rows[name]
    if any(new[column] < old[column] for column in _WANTED[:4]):
        old = [0] * 16
    rates = [(new[column] - old[column]) / seconds for column in _WANTED]
    octets = rates[2:4]
    if release != "7":
        rates[2:4] = [rate / KB for rate in octets]
    if release == "12":
        speed = now.speeds.get(name, 0)
        rates.append(800 * max(octets) / (speed * 1_000_000) if speed else 0.0)
    return f"{clock:<11} {name:>9}" + "".join(f" {rate:9.2f}" for rate in rates) + "\n"
