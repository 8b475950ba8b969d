"""A descriptor ring of a NIC as it lies in RAM: what ``ring`` shows.

Base, length, head and tail stand in the NIC's page, the descriptors in the machine's memory: so a
look asks nobody and works on a dead NIC too. From head up to tail descriptors are the NIC's
(datasheet 7.1.6, 7.2.3), all others the driver's. A descriptor with DD is done; in a transmit ring
DD stays until the driver uses the descriptor again.

Source of the formats: 82599 datasheet 7.1.5, 7.1.6 (receive), 7.2.3.2 (transmit), legacy and
advanced.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bus.ram import Ram
from nodes.nic.page import NIC_SCHEMA, QUEUE_ROWS
from orchestrator.dashboards.nicfacts import Ring as Bar

RX, TX = "rx", "tx"
_DD, _EOP = 1, 2
_TX_EOP, _TX_RS, _TX_DEXT = 1 << 24, 1 << 27, 1 << 29
_DTYP = {2: "context", 3: "data"}


class Descriptor(NamedTuple):
    """One descriptor. ``address`` is that of the buffer while the NIC owns it."""

    entry: int
    owner: str  # nic or driver
    dd: bool
    eop: bool
    rs: bool
    length: int
    kind: str
    address: int | None
    words: tuple[int, int]


class Ring(NamedTuple):
    """One ring and its descriptors."""

    way: str
    queue: int
    base: int
    size: int  # 0: off
    head: int
    tail: int
    packets: int
    descriptors: tuple[Descriptor, ...]

    @property
    def hardware(self) -> int:
        """Descriptors that belong to the NIC."""
        return (self.tail - self.head) % self.size if self.size else 0

    def bar(self, columns: int) -> str:
        """As on the NIC's screen."""
        done = tuple(d.dd for d in self.descriptors)
        head, tail, size = self.head, self.tail, self.size
        return Bar(self.queue, head, tail, size, self.packets, 0.0, done).bar(columns)

    def near(self, around: int) -> list[int]:
        """Indices around head and tail, in the order of the ring."""
        if not self.size:
            return []
        wanted = {
            (middle + step) % self.size
            for middle in (self.head, self.tail)
            for step in range(-around, around + 1)
        }
        return sorted(wanted)

    def as_json(self, indices: list[int]) -> dict[str, Any]:
        return {
            "way": self.way, "queue": self.queue, "base": self.base, "length": self.size,
            "head": self.head, "tail": self.tail, "packets": self.packets,
            "nic": self.hardware, "driver": self.size - self.hardware,
            "done": sum(d.dd for d in self.descriptors),
            "descriptors": [self.descriptors[i]._asdict() for i in indices if self.descriptors],
        }  # fmt: skip


def read(ram: Ram, nic: str, way: str, queue: int, advanced: bool = True) -> Ring:
    """The ring now; ``advanced`` is the format of receive descriptors (SRRCTL.DESCTYPE)."""
    if not 0 <= queue < QUEUE_ROWS:
        raise ValueError(f"queues are 0 to {QUEUE_ROWS - 1}")
    page = ram.page(nic, NIC_SCHEMA)
    head, tail, size, base, packets = (
        page.run(f"{way}_{what}")[queue] for what in ("head", "tail", "size", "base", "packets")
    )
    found: list[Descriptor] = []
    if size and not base % 16 and base + 16 * size <= len(ram.bytes):
        hardware = (tail - head) % size
        words = ram.words64[base // 8 : base // 8 + 2 * size].tolist()
        for index in range(size):
            mine = (index - head) % size < hardware
            low, high = words[2 * index : 2 * index + 2]
            decode = _transmit if way == TX else _receive
            found.append(decode(index, "nic" if mine else "driver", low, high, advanced))
    return Ring(way, queue, base, size, head, tail, packets, tuple(found))


def _receive(index: int, owner: str, low: int, high: int, advanced: bool) -> Descriptor:
    """What the NIC owns is in the read format: two addresses, of which the second may be 0."""
    words = (low, high)
    if owner == "nic" or not (low or high):
        return Descriptor(index, owner, False, False, False, 0, "buffer", low, words)
    status = high if advanced else high >> 32
    length = high >> 32 & 0xFFFF if advanced else high & 0xFFFF
    done = bool(status & _DD)
    kind = ("packet" if advanced else "legacy packet") if done else "buffer"
    address = None if advanced and done else low
    return Descriptor(
        index, owner, done, done and bool(status & _EOP), False, length if done else 0, kind,
        address, words,
    )  # fmt: skip


def _transmit(index: int, owner: str, low: int, high: int, advanced: bool) -> Descriptor:
    words = (low, high)
    kind = _DTYP.get(high >> 20 & 0xF, "reserved") if high & _TX_DEXT else "legacy"
    if not (low or high):
        kind = "unused"
    context = kind == "context"
    return Descriptor(
        index, owner, bool(high >> 32 & _DD), bool(high & _TX_EOP), bool(high & _TX_RS),
        0 if context else high & 0xFFFF, kind, None if context else low, words,
    )  # fmt: skip
