"""Turning flight recorders on, collecting what they hold, turning them off again.

The mask of a recorder is one word in RAM that only readers write; a CPU looks at its own at the
beginning of a turn. Two readers may be at work at once: each takes away at its end only those bits
that it had set itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bus.ram import Ram
from bus.recorder import Record, Recorder


class Event(NamedTuple):
    """A record and whose it is; sorted by time, then as its node wrote it."""

    time_ns: int
    order: int
    node: str
    record: Record
    lost: int = 0  # records of this node that were overwritten unread just before it


class Recording:
    """Records of some nodes; ``masks`` says by node which events are wanted."""

    def __init__(self, ram: Ram, masks: Mapping[str, int], past: Iterable[str] = ()) -> None:
        """Of the nodes in ``past`` also what their rings hold already."""
        self._masks = dict(masks)
        self._recorders = {name: Recorder(ram.recorder_words(name)) for name in masks}
        self._next = {name: recorder.count for name, recorder in self._recorders.items()}
        for name in past:
            skipped = self._recorders[name].read()[2]
            self._next[name] = skipped
        self._missed = dict.fromkeys(masks, 0)
        self._set: dict[str, int] = {}
        self.lost = 0
        for name, recorder in self._recorders.items():
            before = recorder.mask
            self._set[name] = masks[name] & ~before
            recorder.mask = before | masks[name]

    def pull(self) -> list[Event]:
        """What was recorded since the last call, node by node."""
        found = []
        for name, recorder in self._recorders.items():
            wanted = self._masks[name]
            first = self._next[name]
            records, self._next[name], lost = recorder.read(first)
            self.lost += lost
            self._missed[name] += lost
            for number, record in enumerate(records, first + lost):
                if wanted >> record.event & 1:
                    missed, self._missed[name] = self._missed[name], 0
                    found.append(Event(record.time_ns, number, name, record, missed))
        return found

    def stop(self) -> None:
        """Take away the bits that were set here."""
        for name, recorder in self._recorders.items():
            recorder.mask &= ~self._set[name]
