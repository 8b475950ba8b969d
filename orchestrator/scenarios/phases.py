"""From the times of single pings to phases: what each step cost, and which kernel line ended it.

A gap is measured as one would on a real box with ``ping -D``: from the last reply before the
longest run of lost requests to the first reply after it. A request belongs to the phase in which it
was sent; a lost one to the phase in which its reply was due (a request that was on its way when a
step began is that step's loss). How soon a reply is due, the replies of the same phase tell: what a
later step makes slow says nothing of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrator.machines.kernellog import LogLine

#: Kernel lines that end a gap, best first; else the last line before the first reply is taken.
ENDINGS = ("the new active one", "link status definitely up", "NIC Link is Up")


class PingTimes(NamedTuple):
    """When each request left and when its reply came; times on the machine's clock in ns."""

    sent: tuple[int, ...]  # by sequence number, the first is number 1
    received: Mapping[int, int]
    duplicates: int = 0

    def until(self, end_ns: int | None) -> PingTimes:
        """Without the requests that left after ``end_ns``: nobody waited for their replies."""
        if end_ns is None:
            return self
        kept = tuple(time for time in self.sent if time <= end_ns)
        received = {number: time for number, time in self.received.items() if number <= len(kept)}
        return PingTimes(kept, received, self.duplicates)


@dataclass
class Phase:
    """One phase; ``gap_ms`` is 0 without a loss and None when no reply ever came again."""

    name: str
    start_ms: float
    sent: int = 0
    received: int = 0
    lost: int = 0
    gap_ms: float | None = 0.0
    cause: str = ""
    #: of the requests that were answered: sum and greatest of their round trips
    rtt_sum_ns: int = 0
    rtt_max_ns: int = 0
    #: curr_active_slave when the phase ended
    active: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "start_ms": self.start_ms,
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "gap_ms": self.gap_ms,
            "cause": self.cause,
            "rtt_ms": self.measure("rtt"),
            "rtt_max_ms": self.measure("rtt_max"),
        }

    def measure(self, quantity: str) -> float | str | None:
        """Value of a quantity that a scenario can expect something of."""
        if quantity == "gap":
            return self.gap_ms
        if quantity == "loss":
            return 100.0 * self.lost / self.sent if self.sent else 0.0
        if quantity == "active":
            return self.active
        if quantity in ("rtt", "rtt_max"):
            if not self.received:
                return None
            mean = quantity == "rtt"
            return round((self.rtt_sum_ns / self.received if mean else self.rtt_max_ns) / 1e6, 3)
        value: int = getattr(self, quantity)
        return value


class _Run(NamedTuple):
    """A run of lost requests, first to last sequence number, with the replies around it."""

    first: int
    last: int
    before_ns: int
    after_ns: int | None


def compute(
    starts: Sequence[tuple[str, int]], times: PingTimes, log: Sequence[LogLine], boot_ns: int
) -> list[Phase]:
    """Phases from their (name, start on the machine's clock), the first being the ping's start."""
    origin = starts[0][1]
    borders = [start for _, start in starts]
    phases = [Phase(name, _ms(start - origin)) for name, start in starts]

    def index_at(time_ns: int) -> int:
        return max(0, bisect_right(borders, time_ns) - 1)

    trips: list[list[int]] = [[] for _ in phases]
    for number, received_ns in times.received.items():
        sent_ns = times.sent[number - 1]
        trips[index_at(sent_ns)].append(received_ns - sent_ns)
    patience = [_patience_ns(of_phase) for of_phase in trips]

    def due_in(number: int) -> int:
        sent_ns = times.sent[number - 1]
        return index_at(sent_ns + patience[index_at(sent_ns)])

    for phase, of_phase in zip(phases, trips, strict=True):
        phase.sent = phase.received = len(of_phase)
        phase.rtt_sum_ns = sum(of_phase)
        phase.rtt_max_ns = max(of_phase, default=0)
    for number in range(1, len(times.sent) + 1):
        if number not in times.received:
            phase = phases[due_in(number)]
            phase.sent += 1
            phase.lost += 1
    longest: dict[int, _Run] = {}
    for run in _runs(times):
        index = due_in(run.first)
        if index not in longest or _length(run) > _length(longest[index]):
            longest[index] = run
    for index, run in longest.items():
        phase = phases[index]
        phase.gap_ms = None if run.after_ns is None else _ms(run.after_ns - run.before_ns)
        if run.after_ns is not None:
            phase.cause = _cause(log, run.before_ns - boot_ns, run.after_ns - boot_ns)
    return phases


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 1)


def _length(run: _Run) -> int:
    return run.last - run.first


def _patience_ns(trips: Sequence[int]) -> int:
    """Time in which all but one in a hundred replies came."""
    return sorted(trips)[len(trips) * 99 // 100] if trips else 0


def _runs(times: PingTimes) -> list[_Run]:
    runs: list[_Run] = []
    received = times.received
    first = None
    before = times.sent[0] if times.sent else 0
    for number in range(1, len(times.sent) + 1):
        if number not in received:
            first = number if first is None else first
            continue
        if first is not None:
            runs.append(_Run(first, number - 1, before, received[number]))
            first = None
        before = received[number]
    if first is not None:
        runs.append(_Run(first, len(times.sent), before, None))
    return runs


def _cause(log: Sequence[LogLine], after_ns: int, until_ns: int) -> str:
    """The kernel line that ended a gap between two times since boot."""
    lines = [line for line in log if after_ns <= line.time_ns <= until_ns]
    for ending in ENDINGS:
        for line in reversed(lines):
            if ending in line.text:
                return line.stamped()
    return lines[-1].stamped() if lines else ""


def ping_totals(times: PingTimes) -> dict[str, int]:
    """``sent received lost duplicates``."""
    return {
        "sent": len(times.sent),
        "received": len(times.received),
        "lost": len(times.sent) - len(times.received),
        "duplicates": times.duplicates,
    }
