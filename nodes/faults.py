"""The faults of one device: rows of its page, so that whoever looks sees them without asking.

Faults add up: each row acts by itself, and none is changed by another, but for counts of the same
kind, which are summed. A row ends by its own time, by its count, by ``clear``, or with the
process: a new one is a new part. What a fault does is the business of the device, which is told
whenever the rows change (``changed``) and asks ``hits`` for each message.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgpack

from bus.faults import (
    BY_NUMBER,
    COUNT_MAX,
    HITS,
    KIND,
    KINDS,
    NUMBER,
    ROW_WORDS,
    ROWS,
    SHARE,
    SINCE_NS,
    UNTIL_NS,
    VALUE,
    WAY_SHIFT,
)
from bus.messages import Fault, Reply
from bus.ram import Field

NEVER_NS = (1 << 63) - 1

#: The field of a page that holds the rows.
FIELD = Field("faults", "faults of the device: bus/faults.py has the words of a row",
              ROWS * ROW_WORDS)  # fmt: skip


class Faults:
    """``words`` is the page, ``at`` where the rows stand, ``target`` which kinds there are."""

    def __init__(
        self,
        words: memoryview,
        at: int,
        target: str,
        rng: random.Random,
        changed: Callable[[int, bool], None],
    ) -> None:
        self._words = words
        self._at = at
        self._target = target
        self._rng = rng
        self._changed = changed  # (number of the kind, on or off)
        #: when the next row ends by itself
        self.until_ns = NEVER_NS
        #: kinds that are on, a bit each
        self.on = 0

    def _rows(self) -> Iterator[int]:
        """Places of the rows in use."""
        for at in range(self._at, self._at + ROWS * ROW_WORDS, ROW_WORDS):
            if self._words[at]:
                yield at

    # -- by hand

    def take(self, message: Fault, now_ns: int) -> Reply:
        """Do what a control message asks for."""
        kind = KINDS.get(message.kind)
        if message.kind and (kind is None or self._target not in kind.targets):
            able = " ".join(k.name for k in KINDS.values() if self._target in k.targets)
            return _reply(message, f"no fault {message.kind} here; there are: {able}")
        if not message.on:
            return _reply(message, None, self._clear(kind.number if kind else None))
        if kind is None or not message.value or (message.value >> WAY_SHIFT and not kind.ways):
            return _reply(message, "which fault?")
        why = self._add(kind.number, message.value, now_ns, message.for_ns)
        return _reply(message, why)

    def _add(self, number: int, value: int, now_ns: int, for_ns: int) -> str | None:
        words = self._words
        until = min(now_ns + for_ns, NEVER_NS) if for_ns else 0
        for at in self._rows():
            if words[at + KIND] != number + 1:
                continue
            before = words[at + VALUE]
            same_way = before >> WAY_SHIFT == value >> WAY_SHIFT
            counts = self._counts(number, value) and self._counts(number, before) and same_way
            if counts and words[at + UNTIL_NS] == until:
                total = min((before & NUMBER) + (value & NUMBER), COUNT_MAX)
                words[at + VALUE] = before >> WAY_SHIFT << WAY_SHIFT | total
                return None
            if not counts and words[at + VALUE] == value:  # it is so already; the later end counts
                if words[at + UNTIL_NS]:
                    words[at + UNTIL_NS] = max(until, words[at + UNTIL_NS]) if until else 0
                self._look()
                return None
        for at in range(self._at, self._at + ROWS * ROW_WORDS, ROW_WORDS):
            if not words[at]:
                words[at + VALUE] = value
                words[at + SINCE_NS] = now_ns
                words[at + UNTIL_NS] = until
                words[at + HITS] = 0
                words[at + KIND] = number + 1
                self._look()
                self._changed(number, True)
                return None
        return f"it has {ROWS} faults, more it cannot keep"

    @staticmethod
    def _counts(number: int, value: int) -> bool:
        """Is the value a number of messages?"""
        return BY_NUMBER[number].measure == SHARE and not (value & NUMBER) >> 32

    def _clear(self, number: int | None) -> int:
        return self._end(
            [at for at in self._rows() if number is None or self._words[at] == number + 1]
        )

    # -- by itself

    def expire(self, now_ns: int) -> None:
        """End the rows whose time is over."""
        self._end([at for at in self._rows() if 0 < self._words[at + UNTIL_NS] <= now_ns])

    def sooner(self, wanted: int | None) -> int | None:
        """When a device that wants to be woken then (None: never) has to look: the end of a fault
        may come first."""
        if self.until_ns == NEVER_NS:
            return wanted
        return self.until_ns if wanted is None else min(wanted, self.until_ns)

    def end(self, number: int, value: int) -> None:
        """The device itself mended this fault."""
        self._end(
            [
                at for at in self._rows()
                if self._words[at] == number + 1 and self._words[at + VALUE] == value
            ]
        )  # fmt: skip

    def hits(self, number: int, way: int = 0) -> bool:
        """Does this kind hit the message at hand? Counted, and a count is used up."""
        words, hit, over = self._words, False, []
        for at in self._rows():
            value = words[at + VALUE]
            if words[at] != number + 1 or value >> WAY_SHIFT not in (0, way):
                continue
            value &= NUMBER
            if value >> 32:
                n, m = value >> 32, value & 0xFFFF_FFFF
                if n < m and self._rng.randrange(m) >= n:
                    continue
            elif not hit:  # one message uses up one of one count
                words[at + VALUE] -= 1
                if value <= 1:
                    over.append(at)
            else:
                continue
            words[at + HITS] += 1
            hit = True
        if over:
            self._end(over)
        return hit

    def value(self, number: int) -> int:
        """The largest value of a kind; 0 if it is off."""
        return max(
            (self._words[at + VALUE] for at in self._rows() if self._words[at] == number + 1),
            default=0,
        )

    def values(self, number: int, way: int) -> list[int]:
        """All values of a kind that befall this way, each counted as a hit."""
        words, found = self._words, []
        for at in self._rows():
            value = words[at + VALUE]
            if words[at] == number + 1 and value >> WAY_SHIFT in (0, way):
                words[at + HITS] += 1
                found.append(value & NUMBER)
        return found

    def _end(self, rows: list[int]) -> int:
        kinds = dict.fromkeys(self._words[at] - 1 for at in rows)
        for at in rows:
            self._words[at] = 0
        self._look()
        for number in kinds:
            self._changed(number, False)
        return len(rows)

    def _look(self) -> None:
        self.on = 0
        self.until_ns = NEVER_NS
        for at in self._rows():
            self.on |= 1 << self._words[at] - 1
            until = self._words[at + UNTIL_NS]
            if until:
                self.until_ns = min(self.until_ns, until)


def _reply(message: Fault, why: str | None, cleared: int = 0) -> Reply:
    value: bytes = msgpack.packb(cleared if why is None else why)
    return Reply(message.request, int(why is None), value)
