"""The cable of a port, when it is not as it should be: what faults do to frames on their way.

Each way of a cable is a lane. A frame that enters is lost by name, or is carried: at once, or
after it waited. ``delay`` and ``jitter`` add to its time, ``rate`` lets one frame after another
pass; their order stays, but for ``reorder``, which lets the next frame overtake. Two faults of one
kind add up: delays are summed, of two rates the smaller counts, losses are independent. At most
``FRAMES_MAX`` frames wait in a lane, as in netem. Random draws are the node's own, so that a seed
gives the same run.

A cable without faults is never asked: ``Forwarding`` hands frames over only while a port has one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from bus.faults import KINDS, RX, TIME_NS_MAX, TX
from nodes.faults import NEVER_NS, Faults
from nodes.lan.page import LAN_SCHEMA

FRAMES_MAX = 1000
#: A frame that is to be overtaken waits so long at most.
REORDER_NS = 10_000_000
#: Preamble, FCS and the gap between frames.
_WIRE_BYTES = 8 + 4 + 12

_NUMBER = {name: kind.number for name, kind in KINDS.items()}
_LOSS, _DUP, _REORDER = _NUMBER["loss"], _NUMBER["dup"], _NUMBER["reorder"]
_CORRUPT, _DELAY, _JITTER = _NUMBER["corrupt"], _NUMBER["delay"], _NUMBER["jitter"]
_RATE, _SILENT, _ONE_WAY = _NUMBER["rate"], _NUMBER["silent"], _NUMBER["one-way"]
DOWN = _NUMBER["down"]
_TIMED = 1 << _DELAY | 1 << _JITTER | 1 << _RATE | 1 << _REORDER

_DUPLICATED = LAN_SCHEMA.index("fault_dup")
_HELD = LAN_SCHEMA.index("fault_held")


class Waiting(NamedTuple):
    """A frame on its way."""

    due_ns: int
    kind: int
    frame: bytes
    bad: bool


#: arrive(way, kind, frame, bad): the frame is at the other end
Arrive = Callable[[int, int, bytes, bool], None]
#: drop(reason, kind, frame)
Drop = Callable[[str, int, bytes], None]


class Lane:
    """What is on its way in one direction."""

    def __init__(self) -> None:
        self.waiting: deque[Waiting] = deque()
        self.late: Waiting | None = None
        self.free_ns = 0  # when the rate lets the next frame pass
        self.last_ns = 0  # nothing arrives before what was sent before it

    @property
    def frames(self) -> int:
        return len(self.waiting) + (self.late is not None)

    def next_ns(self) -> int:
        """When the next frame arrives."""
        due = self.waiting[0].due_ns if self.waiting else NEVER_NS
        return min(due, self.late.due_ns) if self.late is not None else due


class FaultyCable:
    """The faults of one port and both lanes of its cable."""

    def __init__(
        self,
        words: memoryview,
        port: int,
        faults: Faults,
        rng: random.Random,
        arrive: Arrive,
        drop: Drop,
    ) -> None:
        self._words = words
        self._port = port
        self.faults = faults
        self._rng = rng
        self._arrive = arrive
        self._drop = drop
        self._lanes = {RX: Lane(), TX: Lane()}

    @property
    def busy(self) -> bool:
        """Is there anything to do for this cable?"""
        return bool(self.faults.on) or any(lane.frames for lane in self._lanes.values())

    @property
    def shut(self) -> bool:
        return bool(self.faults.on >> DOWN & 1)

    def next_ns(self) -> int:
        return min(self.faults.until_ns, *(lane.next_ns() for lane in self._lanes.values()))

    # -- frames

    def enter(self, way: int, kind: int, frame: bytes, now_ns: int) -> None:
        """A frame begins its way through the cable."""
        on, hits = self.faults.on, self.faults.hits
        if on >> _SILENT & 1 and self.faults.values(_SILENT, way):
            self._drop("fault_silent", kind, frame)
            return
        if on >> _ONE_WAY & 1 and any(w != way for w in self.faults.values(_ONE_WAY, way)):
            self._drop("fault_one_way", kind, frame)
            return
        if on >> _LOSS & 1 and hits(_LOSS, way):
            self._drop("fault_loss", kind, frame)
            return
        bad = bool(on >> _CORRUPT & 1) and hits(_CORRUPT, way)
        if on >> _DUP & 1 and hits(_DUP, way):
            self._words[_DUPLICATED + 3 * self._port + kind] += 1
            self._carry(way, kind, frame, bad, now_ns)
        self._carry(way, kind, frame, bad, now_ns)

    def _carry(self, way: int, kind: int, frame: bytes, bad: bool, now_ns: int) -> None:
        lane = self._lanes[way]
        if not (self.faults.on & _TIMED or lane.frames):
            self._arrive(way, kind, frame, bad)
            return
        if lane.frames >= FRAMES_MAX:
            self._drop("fault_full", kind, frame)
            return
        due = max(self._due(lane, way, len(frame), now_ns), lane.last_ns)
        self._words[_HELD + 3 * self._port + kind] += 1
        if lane.late is None and self.faults.on >> _REORDER & 1 and self.faults.hits(_REORDER, way):
            lane.late = Waiting(due + REORDER_NS, kind, frame, bad)
            return
        lane.last_ns = due
        lane.waiting.append(Waiting(due, kind, frame, bad))
        if lane.late is not None:  # it was overtaken
            lane.waiting.append(lane.late._replace(due_ns=due))
            lane.late = None
        if due <= now_ns:
            self._release(way, lane, now_ns)

    def _due(self, lane: Lane, way: int, size: int, now_ns: int) -> int:
        due, faults = now_ns, self.faults
        if faults.on >> _RATE & 1:
            rates = faults.values(_RATE, way)
            if rates:
                time_ns = (size + _WIRE_BYTES) * 8_000_000_000 // max(min(rates), 1)
                lane.free_ns = due = max(now_ns, lane.free_ns) + time_ns
        if faults.on >> _DELAY & 1:
            due += sum(min(late, TIME_NS_MAX) for late in faults.values(_DELAY, way))
        if faults.on >> _JITTER & 1:
            for most in faults.values(_JITTER, way):
                due += self._rng.randint(0, min(most, TIME_NS_MAX))
        return due

    # -- time

    def run(self, now_ns: int) -> None:
        """Faults whose time is over end, frames whose time has come arrive."""
        if now_ns >= self.faults.until_ns:
            self.faults.expire(now_ns)
        for way, lane in self._lanes.items():
            self._release(way, lane, now_ns)

    def _release(self, way: int, lane: Lane, now_ns: int) -> None:
        while lane.waiting and lane.waiting[0].due_ns <= now_ns:
            self._let_go(way, lane.waiting.popleft())
        late = lane.late
        if late is not None and late.due_ns <= now_ns:
            lane.late = None
            lane.last_ns = max(lane.last_ns, late.due_ns)
            self._let_go(way, late)

    def _let_go(self, way: int, waiting: Waiting) -> None:
        self._words[_HELD + 3 * self._port + waiting.kind] -= 1
        self._arrive(way, waiting.kind, waiting.frame, waiting.bad)
