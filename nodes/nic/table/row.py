"""What one row of the register table says, and how rows are written down.

A register array is one row. ``runs`` says where its elements lie: queue registers 64..127 stand
apart from 0..63. ``aliases`` are further addresses of the same storage, from element 0 on.

Fields are written as the datasheet lists them, ``"RST 26, LMS 15:13"``; a field whose values have
names gets them in ``values``, by number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

#: Access rules. The bits of ``mask`` follow the rule, all others ignore writes.
ACCESS = {
    "RW": "plain storage",
    "RO": "writes are ignored",
    "WO": "stored, reads give 0",
    "RC": "a read clears it, writes are ignored",
    "W1C": "writing 1 clears",
    "W1S": "writing 1 sets",
    "RS": "a read sets bit 0",
}
ALL = 0xFFFF_FFFF
QUEUES = 128
VECTORS = 64


class Run(NamedTuple):
    """Where ``elements`` of an array lie, ``stride`` bytes apart."""

    offset: int
    elements: int = 1
    stride: int = 4


class Field(NamedTuple):
    """Bits ``high``:``low`` of a register; ``values`` names what they can say."""

    name: str
    high: int
    low: int
    values: Mapping[int, str] = {}

    def of(self, value: int) -> int:
        """This field of a register's value."""
        return value >> self.low & (1 << self.high - self.low + 1) - 1


class Register(NamedTuple):
    """One row. ``self_clearing`` bits read 0 after a write; behaviour sees them in the value.
    ``survives``: it belongs to the whole chip; only power-on brings the reset value back, no reset
    of a port does."""

    name: str
    runs: tuple[Run, ...]
    access: str
    reset: int
    mask: int
    section: str
    doc: str
    self_clearing: int = 0
    aliases: tuple[Run, ...] = ()
    fields: tuple[Field, ...] = ()
    survives: bool = False

    @property
    def elements(self) -> int:
        return sum(run.elements for run in self.runs)


Values = Mapping[str, tuple[str, ...] | Mapping[int, str]]


def _fields(text: str, values: Values) -> tuple[Field, ...]:
    """``"RST 26, LMS 15:13"`` as Fields, highest first."""
    out = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, bits = item.rpartition(" ")
        high, _, low = bits.partition(":")
        named = values.get(name, ())
        if isinstance(named, tuple):
            named = dict(enumerate(named))
        out.append(Field(name, int(high), int(low or high), named))
    unknown = [name for name in values if all(field.name != name for field in out)]
    if unknown:
        raise ValueError(f"values for no field: {unknown}")
    return tuple(sorted(out, key=lambda field: -field.high))


def reg(
    name: str,
    at: int | Run | tuple[Run, ...],
    section: str,
    doc: str,
    fields: str = "",
    access: str = "RW",
    reset: int = 0,
    mask: int = ALL,
    sc: int = 0,
    alias: tuple[Run, ...] = (),
    values: Values | None = None,
    survives: bool = False,
) -> Register:
    """A row as the tables write it."""
    runs = (Run(at),) if isinstance(at, int) else (at,) if isinstance(at, Run) else at
    return Register(
        name, runs, access, reset, mask, section, doc, sc, alias,
        _fields(fields, values or {}), survives,
    )  # fmt: skip


def rx(offset: int) -> tuple[Run, ...]:
    """A register of each receive queue."""
    return (Run(0x1000 + offset, 64, 0x40), Run(0xD000 + offset, 64, 0x40))


def tx(offset: int) -> Run:
    """A register of each transmit queue."""
    return Run(0x6000 + offset, 128, 0x40)


def stat(name: str, at: int | Run, doc: str, alias: tuple[Run, ...] = ()) -> Register:
    """A statistics register: a read clears it."""
    return reg(name, at, "8.2.3.23", doc, "count 31:0", "RC", alias=alias)
