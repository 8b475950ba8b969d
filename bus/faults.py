"""What can be broken in a device without ending its process: the one table of fault kinds.

A fault is a state of the device, as a broken part is: the driver is not told. The table feeds the
verb ``fault``, its help and completion, the steps of scenarios and labs, and docs/seeing.md. A
value is one number on the bus and in the device's page:

* ``share``: ``n << 32 | m`` hits n of m, by the node's own random numbers; a number below 2**32
  hits the next so many and is then over;
* ``words``: the place of the word among those that the kind knows, from 1.

Broken links and killed or stopped processes are not here: ``cable``, ``kill`` and ``freeze`` are
verbs of their own, with states of their own; ``fault list`` shows them too.
"""

from __future__ import annotations

import re
from math import gcd
from typing import NamedTuple

NIC, APIC = "nic", "apic"
#: Faults that a device can have at a time, and the words of the page for each of them.
ROWS = 8
ROW_WORDS = 5
#: In this order, in the page: number of the kind + 1 (0: the row is free), value, since when, until
#: when (0: until it is cleared), how often it hit.
KIND, VALUE, SINCE_NS, UNTIL_NS, HITS = range(ROW_WORDS)

ALWAYS = 1 << 32 | 1
COUNT_MAX = (1 << 31) - 1
#: Words of ``hang``.
UNTIL_RESET, HARD = 1, 2


class Kind(NamedTuple):
    """One row: what breaks, in whom, and what may stand behind the ``=``."""

    name: str
    number: int
    targets: tuple[str, ...]
    values: str
    example: str
    doc: str
    hint: str  # where the kernel or the ledger shows it
    words: tuple[str, ...] = ()  # values that are words; the first one is meant without ``=``


_SHARE = "next, N (the next N), N/M, P%; without a value all"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("lose-msi", 0, (NIC, APIC), _SHARE, "lose-msi=1",
             "interrupt messages are lost: of a NIC, or all in the controller",
             "ledger `lost: fault lose-msi`; the service task kicks every vector each 2 s"),
        Kind("dup-msi", 1, (NIC, APIC), _SHARE, "dup-msi=1/10",
             "interrupt messages arrive twice",
             "ledger `doubled: fault dup-msi`; the second merges in IRR or finds nothing"),
        Kind("no-dma", 2, (NIC,), "none", "no-dma",
             "no way into memory, as with bus mastering off: descriptors stay, no MSI leaves",
             "`ring`: head stands still; the packet buffer fills, then `rx_drop_missed`"),
        Kind("hang", 3, (NIC,), "hard (no reset mends it); without a value until a reset", "hang",
             "the datapath stands still; registers answer, MSIs leave",
             "`ring`: head stands still; a driver that checks for hangs resets the port",
             words=("", "hard")),
    )
}  # fmt: skip
BY_NUMBER: dict[int, Kind] = {kind.number: kind for kind in KINDS.values()}


def parse(kind: Kind, text: str | None) -> int:
    """The number of a value; ValueError says what is allowed. ``text`` None: no ``=``."""
    if kind.words:
        if (text or "") in kind.words:
            return kind.words.index(text or "") + 1
    elif kind.values == "none":
        if text is None:
            return 1
    else:
        value = _share(text)
        if value:
            return value
    raise ValueError(kind.values)


def _share(text: str | None) -> int:
    """0 if it is no share."""
    if text in (None, "all"):
        return ALWAYS
    if text == "next":
        return 1
    assert text is not None
    if match := re.fullmatch(r"(\d{1,9})/(\d{1,9})", text):
        n, m = int(match[1]), int(match[2])
    elif match := re.fullmatch(r"(\d{1,3})(?:\.(\d{1,3}))?%", text):
        n, m = int(match[1]) * 1000 + int((match[2] or "").ljust(3, "0")), 100_000
    else:
        return int(text) if re.fullmatch(r"\d{1,9}", text) else 0
    if not 0 < n <= m:
        return 0
    common = gcd(n, m)
    return n // common << 32 | m // common


def show(kind: Kind, value: int) -> str:
    """As one types it: ``lose-msi=1/100``, ``hang=hard``, ``no-dma``."""
    if kind.words:
        word = kind.words[value - 1] if value <= len(kind.words) else str(value)
    elif kind.values == "none" or value == ALWAYS:
        word = ""
    elif value >> 32:
        word = f"{value >> 32}/{value & 0xFFFF_FFFF}"
    else:
        word = str(value)
    return f"{kind.name}={word}" if word else kind.name
