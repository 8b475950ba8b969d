"""The two timer wheels, as data structures; when they are turned is ``timer``'s business.

*Cascading* (kernel/timer.c up to 4.7): 256 slots of one jiffy and four vectors of 64 slots, each
64 times coarser; when a vector has gone round, one slot of the next is dealt out below. A timer
fires in its jiffy; a slot is first in, first out. *Hierarchical* (4.8 and later): levels of 64
buckets, eight times coarser each; a timer stays in its bucket and fires at the bucket's end, up to
one granularity late; a bucket is last in, first out, and of several levels that end in one jiffy
the coarsest comes first.

A slot is a dict of timers by number, in the order of insertion. ``timer.entry`` is the slot that
holds the timer, also after the slot was taken out to be run; None: not pending.
"""

from __future__ import annotations

from typing import Protocol

from nodes.cpu.kernel.jiffies import signed_difference, time_after, time_before

TVR_BITS, TVN_BITS = 8, 6
TVR_SIZE, TVN_SIZE = 1 << TVR_BITS, 1 << TVN_BITS
MAX_TVAL = (1 << 32) - 1

LVL_BITS, LVL_CLK_SHIFT = 6, 3
LVL_SIZE = 1 << LVL_BITS
NEXT_TIMER_MAX_DELTA = (1 << 30) - 1


class Entry(Protocol):
    """What a wheel knows of a timer."""

    number: int
    expires: int
    deferrable: bool
    entry: Slot | None
    index: int


Slot = dict[int, Entry]


class CascadingWheel:
    """struct tvec_base: ``clk`` is timer_jiffies, the next jiffy to be processed."""

    newest_first = False

    def __init__(self, clk: int) -> None:
        self.clk = clk
        self._tv: tuple[dict[int, Slot], ...] = ({}, {}, {}, {}, {})
        self._soonest: int | None = None  # next_timer: what an idle CPU must be awake for
        self._look_again = False  # the timer it was is gone
        self.count = 0

    def _place(self, timer: Entry) -> tuple[int, int]:
        """(vector, slot) of a timer by its distance from ``clk``."""
        distance = signed_difference(timer.expires, self.clk)
        if distance < 0:
            return 0, self.clk % TVR_SIZE  # at the next run
        if distance < TVR_SIZE:
            return 0, timer.expires % TVR_SIZE
        expires = self.clk + min(distance, MAX_TVAL)
        for vector in range(1, 5):
            shift = TVR_BITS + TVN_BITS * (vector - 1)
            if distance < 1 << (shift + TVN_BITS) or vector == 4:
                return vector, (expires >> shift) % TVN_SIZE
        raise AssertionError("unreachable")

    def _put(self, timer: Entry) -> None:
        vector, index = self._place(timer)
        timer.index = index
        timer.entry = self._tv[vector].setdefault(index, {})
        timer.entry[timer.number] = timer

    def add(self, timer: Entry) -> None:
        """internal_add_timer: to the tail of its slot."""
        self._put(timer)
        self.count += 1
        if not timer.deferrable and (
            self._soonest is None or time_before(timer.expires, self._soonest)
        ):
            self._soonest = timer.expires

    def remove(self, timer: Entry) -> None:
        """detach_timer."""
        assert timer.entry is not None
        del timer.entry[timer.number]
        timer.entry = None
        self.count -= 1
        if timer.expires == self._soonest:
            self._look_again = True

    def forward(self, _jiffies: int) -> None:
        """This wheel's clock moves only when it is turned."""

    def due(self, jiffies: int) -> bool:
        """Is there a jiffy to be processed?"""
        return signed_difference(jiffies, self.clk) >= 0

    def collect(self, jiffies: int) -> list[Slot]:
        """Process jiffies up to the first with a timer, ``jiffies``, or the end of tv1's round."""
        if not self.count:
            self.clk = jiffies + 1
            return []
        first = self.clk % TVR_SIZE
        if first == 0:
            self._cascade()
        tv1 = self._tv[0]
        ahead = min(TVR_SIZE - first, signed_difference(jiffies, self.clk) + 1)
        for index in range(first, first + ahead):
            slot = tv1.pop(index, None)
            if slot:
                self.clk += index - first + 1
                return [slot]
        self.clk += ahead
        return []

    def _cascade(self) -> None:
        """Deal out the next slot of tv2, and of tv3 when tv2 is at its beginning, and so on."""
        for vector in range(1, 5):
            index = (self.clk >> (TVR_BITS + TVN_BITS * (vector - 1))) % TVN_SIZE
            for timer in self._tv[vector].pop(index, {}).values():
                self._put(timer)
            if index:
                break

    def next_event(self) -> int | None:
        """The earliest jiffy that an idle CPU must be awake for; deferrable timers may wait."""
        if self._look_again:
            self._look_again = False
            soonest: int | None = None
            for timer in self.timers():
                if timer.deferrable:
                    continue
                if soonest is None or time_before(timer.expires, soonest):
                    soonest = timer.expires
            self._soonest = soonest
        return self._soonest

    def timers(self) -> list[Entry]:
        """All of them, tv1 to tv5 in the order of the slots."""
        return [t for tv in self._tv for index in sorted(tv) for t in tv[index].values()]


def wheel_depth(hz: int) -> int:
    """LVL_DEPTH."""
    return 9 if hz > 100 else 8


def lvl_start(level: int) -> int:
    """First distance that is too far for the level below."""
    return (LVL_SIZE - 1) << (level - 1) * LVL_CLK_SHIFT


def calc_wheel_index(expires: int, clk: int, depth: int = 9) -> tuple[int, int]:
    """(bucket, jiffy at which it ends) of a timer that is put in at ``clk``."""
    distance = signed_difference(expires, clk)
    if distance < 0:
        return clk % LVL_SIZE, clk
    level = 0
    while level < depth - 1 and distance >= lvl_start(level + 1):
        level += 1
    cutoff = lvl_start(depth)
    if distance >= cutoff:  # farther than the wheel: as far as it goes
        expires = clk + cutoff - (1 << (depth - 1) * LVL_CLK_SHIFT)
    value = (expires >> level * LVL_CLK_SHIFT) + 1
    return level * LVL_SIZE + value % LVL_SIZE, value << level * LVL_CLK_SHIFT


class HierarchicalWheel:
    """struct timer_base of 4.8 and later."""

    newest_first = True

    def __init__(self, clk: int, depth: int) -> None:
        self.clk = clk
        self._depth = depth
        self._buckets: dict[int, Slot] = {}
        self._ends: dict[int, int] = {}  # jiffy at which a bucket in use ends
        self.next_expiry = clk + NEXT_TIMER_MAX_DELTA
        self.next_expiry_recalc = False  # the bucket that ended first has become empty
        self.count = 0

    def locate(self, expires: int) -> tuple[int, int]:
        """(bucket, its end) of a timer that is put in now."""
        return calc_wheel_index(expires, self.clk, self._depth)

    def holds(self, timer: Entry) -> bool:
        """Is it in a bucket, not in one that was taken out to be run?"""
        return self._buckets.get(timer.index) is timer.entry

    def add(self, timer: Entry) -> None:
        """enqueue_timer: to the head of its bucket."""
        timer.index, end = self.locate(timer.expires)
        timer.entry = self._buckets.setdefault(timer.index, {})
        timer.entry[timer.number] = timer
        self._ends[timer.index] = end
        self.count += 1
        if time_before(end, self.next_expiry):
            self.next_expiry = end
            self.next_expiry_recalc = False

    def remove(self, timer: Entry) -> None:
        """detach_if_pending."""
        slot = timer.entry
        assert slot is not None
        del slot[timer.number]
        timer.entry = None
        self.count -= 1
        if not slot and self._buckets.get(timer.index) is slot:
            del self._buckets[timer.index]
            del self._ends[timer.index]
            self.next_expiry_recalc = True

    def forward(self, jiffies: int) -> None:
        """forward_timer_base: the clock lags while the CPU idles; never past what is due."""
        if signed_difference(jiffies, self.clk) < 1:
            return
        if time_after(self.next_expiry, jiffies):
            self.clk = jiffies
        elif not time_before(self.next_expiry, self.clk):
            self.clk = self.next_expiry

    def due(self, jiffies: int) -> bool:
        ahead = self.clk if time_after(self.clk, self.next_expiry) else self.next_expiry
        return signed_difference(jiffies, ahead) >= 0

    def collect(self, _jiffies: int) -> list[Slot]:
        """The buckets that end at next_expiry, the coarsest level first."""
        self.clk = clk = self.next_expiry
        slots: list[Slot] = []
        for level in range(self._depth):
            index = level * LVL_SIZE + clk % LVL_SIZE
            slot = self._buckets.pop(index, None)
            if slot is not None:
                del self._ends[index]
                slots.append(slot)
            if clk % (1 << LVL_CLK_SHIFT):
                break  # the next level's clock does not move here
            clk >>= LVL_CLK_SHIFT
        self.clk += 1
        self._recalculate()
        return slots[::-1]

    def _recalculate(self) -> None:
        """__next_timer_interrupt."""
        soonest = self.clk + NEXT_TIMER_MAX_DELTA
        for end in self._ends.values():
            if time_before(end, soonest):
                soonest = end
        self.next_expiry = soonest
        self.next_expiry_recalc = False

    def next_event(self) -> int | None:
        """What an idle CPU must be awake for; looks again if the first bucket became empty."""
        if self.next_expiry_recalc:
            self._recalculate()
        return self.next_expiry if self.count else None

    def timers(self) -> list[Entry]:
        """All of them, bucket by bucket as they would be run."""
        return [t for i in sorted(self._buckets) for t in reversed(self._buckets[i].values())]


Wheel = CascadingWheel | HierarchicalWheel
