"""Flight recorder: a ring of trace records for each node, in RAM, readable after its death.

A record is four words: time, event number with 56 bits of context, and two arguments. The ring has
one writer, its node, and overwrites the oldest. ``mask`` says which events are recorded: a few
cheap ones always, all of them while somebody traces (the orchestrator writes the mask).

What the numbers mean (name, format, reason) is a table of the node's room: ``Tracepoint``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bus.ram import RECORD_WORDS, RECORDS

#: Events are 0 to 127: the mask is two words.
ALL_EVENTS = (1 << 128) - 1
EVENT_SHIFT = 56
CONTEXT_MASK = (1 << EVENT_SHIFT) - 1
_HEADER = 8
_WORD = (1 << 64) - 1


class Tracepoint(NamedTuple):
    """One event: its number is its bit in the mask (0..127)."""

    number: int
    name: str
    doc: str
    always: bool = False


class Record(NamedTuple):
    """One trace record as read back."""

    time_ns: int
    event: int
    context: int  # what the node's room put there
    a: int
    b: int


def always_mask(table: Mapping[str, Tracepoint]) -> int:
    """Mask of the events that are recorded even when nobody traces."""
    return sum(1 << t.number for t in table.values() if t.always)


def table(*points: Tracepoint) -> dict[str, Tracepoint]:
    """Tracepoints by name; numbers must differ."""
    assert len({p.number for p in points}) == len(points), "two tracepoints with one number"
    return {p.name: p for p in points}


class Recorder:
    """Writer and reader of one ring."""

    def __init__(self, words: memoryview) -> None:
        self._words = words

    @property
    def mask(self) -> int:
        """Which events are recorded, bit n for event n."""
        value: int = self._words[1]
        high: int = self._words[2]
        return value | high << 64 if high else value

    @mask.setter
    def mask(self, value: int) -> None:
        self._words[1] = value & _WORD
        self._words[2] = value >> 64

    def record(self, time_ns: int, event: int, context: int = 0, a: int = 0, b: int = 0) -> None:
        """Append one record if its event is in the mask."""
        words = self._words
        if not words[1 + (event >> 6)] >> (event & 63) & 1:
            return
        count: int = words[0]
        at = _HEADER + count % RECORDS * RECORD_WORDS
        words[at] = time_ns
        words[at + 1] = event << EVENT_SHIFT | context
        words[at + 2] = a
        words[at + 3] = b
        words[0] = count + 1

    @property
    def count(self) -> int:
        """Records ever written."""
        value: int = self._words[0]
        return value

    def read(self, since: int = 0) -> tuple[list[Record], int, int]:
        """Records from number ``since`` on: (records, next number, records overwritten unread)."""
        words = self._words
        count = self.count
        first = max(since, count - RECORDS + 1, 0)
        out: list[Record] = []
        number = first
        while number < count:  # once, or twice where the ring begins anew
            slot = number % RECORDS
            end = min(slot + count - number, RECORDS)
            found = words[_HEADER + slot * RECORD_WORDS : _HEADER + end * RECORD_WORDS].tolist()
            out += [
                Record(time_ns, head >> EVENT_SHIFT, head & CONTEXT_MASK, a, b)
                for time_ns, head, a, b in zip(*[iter(found)] * RECORD_WORDS, strict=True)
            ]
            number += end - slot
        overrun = min(self.count - RECORDS + 1 - first, len(out))
        if overrun > 0:  # written over while we read
            out = out[overrun:]
            first += overrun
        return out, count, first - since
