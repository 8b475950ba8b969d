"""Register accesses of the CPUs, by groups of registers and in the order of their time.

The groups are those of the 82599 datasheet's chapter 8, which the register table names for each
row; what software uses as a tool (EEPROM, I2C, MDIO, semaphores, station addresses, CTRL for
resets, STATUS as the read that pushes writes out) is a group of its own. The time of a group runs
from each of its accesses to the next access of any: what the driver waits after it is its cost.
Left out: configuration space and the MSI-X table, of which the CPUs keep no record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from bus.recorder import Record
from nodes.cpu.trace import TRACEPOINTS
from nodes.nic.registers import DECODE, name_of

EVENTS = ("mmio_read", "mmio_write")
_READ, _WRITE = (TRACEPOINTS[name].number for name in EVENTS)

_SECTIONS = {
    "8.2.3.1": "general", "8.2.3.2": "EEPROM", "8.2.3.3": "flow-control", "8.2.3.4": "firmware",
    "8.2.3.5": "interrupts", "8.2.3.7": "filters", "8.2.3.8": "receive", "8.2.3.9": "transmit",
    "8.2.3.10": "DCB", "8.2.3.11": "DCA", "8.2.3.12": "security", "8.2.3.13": "security",
    "8.2.3.21": "flow-director", "8.2.3.22": "link", "8.2.3.23": "statistics",
    "8.2.3.24": "wake-up", "8.2.3.25": "firmware", "8.2.3.27": "filters",
}  # fmt: skip
_TOOLS = {
    "CTRL": "reset", "STATUS": "flush", "EEC": "general",
    "I2CCTL": "I2C", "MSCA": "MDIO", "MSRWD": "MDIO",
    "SWSM": "semaphores", "GSSR": "semaphores",
    "RAL": "addresses", "RAH": "addresses", "MPSAR_LO": "addresses", "MPSAR_HI": "addresses",
}  # fmt: skip
OTHER = "other"
GROUPS: tuple[str, ...] = (*dict.fromkeys([*_SECTIONS.values(), *_TOOLS.values()]), OTHER)
#: So many names of a group, and of all that was touched first, are printed.
NAMES_MAX, FIRST_MAX = 4, 16


class Access(NamedTuple):
    """One 32-bit access of BAR 0."""

    time_ns: int
    write: bool
    offset: int

    @property
    def register(self) -> str:
        """The register's name, without the index of an array."""
        return register_of(self.offset)

    @property
    def group(self) -> str:
        return group_of(self.offset)


class Row(NamedTuple):
    """What was done to one group."""

    group: str
    names: tuple[str, ...]  # in the order of the first touch
    reads: int
    writes: int
    spent_ns: int


@cache
def register_of(offset: int) -> str:
    """The name at a BAR 0 offset, without the index of an array."""
    return name_of(offset).partition("[")[0]


@cache
def group_of(offset: int) -> str:
    """The group of a BAR 0 offset."""
    slot = DECODE.get(offset)
    if slot is None:
        return OTHER
    register = slot.register
    return _TOOLS.get(register.name, _SECTIONS.get(register.section, OTHER))


def of(records: Iterable[tuple[str, Record]], nic: int | None = None) -> list[Access]:
    """All accesses among the CPUs' records, of one NIC (by its number) or of all."""
    return list(_of(records, nic))


def _of(records: Iterable[tuple[str, Record]], nic: int | None) -> Iterator[Access]:
    for _, record in records:
        if record.event not in (_READ, _WRITE) or nic not in (None, record.a):
            continue
        write = record.event == _WRITE
        yield Access(record.time_ns, write, record.b >> 32 if write else record.b)


def table(accesses: list[Access]) -> list[Row]:
    """A row for each group, in the order in which they were touched first."""
    ends = [access.time_ns for access in [*accesses[1:], *accesses[-1:]]]
    names: dict[str, dict[str, None]] = {}
    sums: dict[str, list[int]] = {}  # reads, writes, ns
    for access, end_ns in zip(accesses, ends, strict=True):
        group = access.group
        names.setdefault(group, {})[access.register] = None
        row = sums.setdefault(group, [0, 0, 0])
        row[access.write] += 1
        row[2] += end_ns - access.time_ns
    return [Row(group, tuple(found), *sums[group]) for group, found in names.items()]


def draw(nic: str, where: str, accesses: list[Access]) -> list[str]:
    """The table as lines, and the registers that came first."""
    rows = table(accesses)
    reads, writes = sum(row.reads for row in rows), sum(row.writes for row in rows)
    last_ms = (accesses[-1].time_ns - accesses[0].time_ns) / 1e6
    lines = [
        f"registers of {nic} in {where}: {reads} reads, {writes} writes in {last_ms:.2f} ms",
        f"  {'group':<14}{'reads':>6}{'writes':>7}{'ms':>9}  registers",
    ]
    for row in rows:
        names = " ".join(row.names[:NAMES_MAX]) + (" ..." if len(row.names) > NAMES_MAX else "")
        lines.append(
            f"  {row.group:<14}{row.reads:>6}{row.writes:>7}{row.spent_ns / 1e6:>9.2f}  {names}"
        )
    order = list(dict.fromkeys(access.register for access in accesses))[:FIRST_MAX]
    half = FIRST_MAX // 2
    lines.append(f"  first touched: {' '.join(order[:half])}")
    lines += [f"  {'':<15}{' '.join(order[half:])}"] if order[half:] else []
    return lines
