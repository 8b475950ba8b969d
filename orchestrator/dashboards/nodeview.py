"""One node of a view: its page's words at many times, and what grew between them.

Two histories are kept, both bounded: a *fast* one of the last second and a bit for the rates and
the contexts of CPUs, and a *slow* one, some samples a second for a quarter of a minute, for the
sparklines of devices. A page that a new incarnation began is not compared with its predecessor's.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from bus.ram import Schema
from nodes.apic.page import APIC_SCHEMA
from nodes.cpu.page import CPU_SCHEMA
from nodes.lan.page import LAN_SCHEMA
from nodes.nic.page import NIC_SCHEMA
from orchestrator.machines.machine import NodeState

SECOND_NS = 1_000_000_000
#: Samples are taken at most this often; a column of a CPU's history is 1/60 s.
FAST_PERIOD_NS = SECOND_NS // 60
FAST_SPAN_NS = SECOND_NS + SECOND_NS // 5
#: The slow history: a sample each quarter of a second, the last 15 s.
SLOW_PERIOD_NS = SECOND_NS // 4
SLOW_SAMPLES = 62

KIND_SCHEMAS: dict[str, Schema] = {
    "cpu": CPU_SCHEMA,
    "apic": APIC_SCHEMA,
    "nic": NIC_SCHEMA,
    "lan": LAN_SCHEMA,
}
_INCARNATION = Schema.COMMON[1].name

#: Words of a field: one, a run of them, or all (None).
Which = int | range | None


class Sample(NamedTuple):
    """The words of one node's page at one time."""

    time_ns: int
    words: array[int]


class NodeView:
    """One node as of the last sample, and how it came there."""

    def __init__(self, name: str, kind: str, number: int, state: NodeState) -> None:
        self.name = name
        self.kind = kind
        self.number = number  # its key on the overview
        self.schema = KIND_SCHEMAS[kind]
        self.state = state
        self.fast: deque[Sample] = deque()
        self.slow: deque[Sample] = deque(maxlen=SLOW_SAMPLES)
        self._incarnation = self.schema.index(_INCARNATION)

    # -- now

    @property
    def now(self) -> Sample:
        return self.fast[-1]

    @property
    def alive(self) -> bool:
        return self.state.alive

    @property
    def running(self) -> bool:
        """Alive and not stopped."""
        return self.state.alive and not self.state.frozen

    @property
    def incarnation(self) -> int:
        """Which life wrote the page; 0 when there was none yet."""
        return self.now.words[self._incarnation]

    def get(self, name: str, which: int = 0) -> int:
        """Word ``which`` of a field."""
        return self.now.words[self.schema.index(name) + which]

    def run(self, name: str) -> list[int]:
        """All words of a field."""
        return self.now.words[self.schema.span(name)].tolist()

    def before(self, name: str, span_ns: int = SECOND_NS) -> list[int]:
        """All words of a field as they were at the sample that ``delta`` compares with."""
        return self._base(span_ns).words[self.schema.span(name)].tolist()

    def previous(self, name: str) -> int:
        """First word of a field in the sample before the last."""
        return self.fast[-2].words[self.schema.index(name)]

    def text(self, name: str) -> str:
        """A field that holds NUL-padded text."""
        return (
            self.now.words[self.schema.span(name)]
            .tobytes()
            .rstrip(b"\0")
            .decode("utf-8", "replace")
        )

    # -- the last second

    def span_ns(self, span_ns: int = SECOND_NS) -> int:
        """How much time ``delta`` compares; 0 with a single sample."""
        return self.now.time_ns - self._base(span_ns).time_ns

    def delta(self, name: str, which: Which = None, span_ns: int = SECOND_NS) -> int:
        """Growth of a counter (of ``which`` words together) in the last ``span_ns``."""
        base = self._base(span_ns)
        grown = self._value(self.now, name, which) - self._value(base, name, which)
        return max(grown, 0)

    def rate(self, name: str, which: Which = None, span_ns: int = SECOND_NS) -> float:
        """Growth of a counter per second; 0 for a node that is dead or was sampled once."""
        span = self.span_ns(span_ns)
        if not span or not self.alive:
            return 0.0
        return self.delta(name, which, span_ns) * SECOND_NS / span

    def series(
        self, name: str, which: Which, columns: int, column_ns: int, slow: bool = False
    ) -> list[float]:
        """Growth of a counter in each of the last ``columns`` columns, the latest last.

        Between two samples growth is taken to be even, so a late sample shifts nothing."""
        samples = self.slow if slow else self.fast
        known = [(s.time_ns, self._value(s, name, which)) for s in samples if self._same_life(s)]
        if len(known) < 2:
            return [0.0] * columns
        end = known[-1][0]
        edges = _interpolate(known, [end - column_ns * k for k in range(columns, -1, -1)])
        return [max(later - earlier, 0.0) for earlier, later in pairwise(edges)]

    # -- plumbing

    def _same_life(self, sample: Sample) -> bool:
        return sample.words[self._incarnation] == self.incarnation

    def _value(self, sample: Sample, name: str, which: Which) -> int:
        if which is None:
            return sum(sample.words[self.schema.span(name)])
        at = self.schema.index(name)
        if isinstance(which, range):
            return sum(sample.words[at + which.start : at + which.stop])
        return sample.words[at + which]

    def _base(self, span_ns: int) -> Sample:
        """The earliest sample of this life that is not older than ``span_ns``, or the previous
        one if nobody looked for so long."""
        oldest = self.now.time_ns - span_ns
        for samples in (self.slow, self.fast) if span_ns > FAST_SPAN_NS else (self.fast,):
            for sample in samples:
                if sample.time_ns >= oldest and self._same_life(sample) and sample is not self.now:
                    return sample
        if len(self.fast) > 1 and self._same_life(self.fast[-2]):
            return self.fast[-2]
        return self.now


def _interpolate(known: Sequence[tuple[int, int]], times: Sequence[int]) -> list[float]:
    """Values of a counter at ``times`` (ascending), linear between the known points."""
    out: list[float] = []
    at = 0
    for time in times:
        while at < len(known) - 1 and known[at + 1][0] < time:
            at += 1
        t0, v0 = known[at]
        if time <= t0 or at == len(known) - 1:
            out.append(float(v0))
            continue
        t1, v1 = known[at + 1]
        out.append(v0 + (v1 - v0) * (time - t0) / (t1 - t0))
    return out
