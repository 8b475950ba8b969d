"""A view of a machine: samples of its RAM pages, and what they say about the last second.

Looking never disturbs: the view copies words out of the mapped RAM and asks no node anything. So it
works alike for a machine of this process, for one whose RAM file another process mapped read-only,
for the simulation (the clock is virtual then) and for dead nodes, whose last page stays.

Two histories are kept, both bounded: a *fast* one of the last second and a bit for the rates and
the contexts of CPUs, and a *slow* one, some samples a second for a quarter of a minute, for the
sparklines of devices. A page that a new incarnation began is not compared with its predecessor's.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from bus.ram import MAGIC, Layout, Ram, Schema
from bus.recorder import Record, Recorder
from nodes.apic.page import APIC_SCHEMA, LAST_ROWS
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.lan.page import LAN_SCHEMA
from nodes.machine import APIC, LAN, MachineSettings
from nodes.nic.page import NIC_SCHEMA
from orchestrator.machine import NodeState

SECOND_NS = 1_000_000_000
#: Samples are taken at most this often; a column of a CPU's history is 1/60 s.
FAST_PERIOD_NS = SECOND_NS // 60
FAST_SPAN_NS = SECOND_NS + SECOND_NS // 5
#: The slow history: a sample each quarter of a second, the last 15 s.
SLOW_PERIOD_NS = SECOND_NS // 4
SLOW_SAMPLES = 62
#: With more CPUs fewer samples are kept; the counters lose nothing, the columns get wider.
MANY_CPUS = 8
STATES_PERIOD_NS = SECOND_NS // 20
LOG_LINES_SHOWN = 64
#: Records that may have been written since the last sample.
TRACE_SLACK = 256
#: Bits 31:20 of an MSI's address.
MSI_WINDOW = 0xFEE
#: A silence is a gap when it is longer than this many intervals of the ping, and than 20 ms.
GAP_INTERVALS = 3
GAP_NS_MIN = 20_000_000

KIND_SCHEMAS: dict[str, Schema] = {
    "cpu": CPU_SCHEMA,
    "apic": APIC_SCHEMA,
    "nic": NIC_SCHEMA,
    "lan": LAN_SCHEMA,
}
_IRQ_ENTRY = TRACEPOINTS["irq_handler_entry"].number
_INCARNATION = Schema.COMMON[1].name

#: Words of a field: one, a run of them, or all (None).
Which = int | range | None
#: archived(node, incarnation), as ``Machine.archived_page``
Archive = Callable[[str, int], Mapping[str, int | list[int]] | None]
States = Callable[[], Mapping[str, NodeState]]


def open_readonly(path: str, layout: Layout) -> Ram:
    """Map the RAM file of another process's machine so that nothing here can change it.

    ``ValueError`` when the file is not the RAM of such a machine."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size != layout.total_bytes:
            raise ValueError(f"{path} has not the size of this machine's RAM")
        memory = mmap.mmap(fd, layout.total_bytes, access=mmap.ACCESS_READ)
    finally:
        os.close(fd)
    ram = Ram(layout, memory, None)
    if ram.words64[0] != MAGIC:
        ram.close()
        raise ValueError(f"{path} is not the RAM of a bottomhalf machine")
    return ram


def kind_of(settings: MachineSettings, node: str) -> str:
    """ "cpu", "apic", "nic" or "lan"; ``KeyError`` if the machine has no such node."""
    kinds = dict.fromkeys(settings.cpu_names, "cpu") | dict.fromkeys(settings.nic_names, "nic")
    return (kinds | {APIC: "apic", LAN: "lan"})[node]


class Sample(NamedTuple):
    """The words of one node's page at one time."""

    time_ns: int
    words: array[int]


class Route(NamedTuple):
    """A way of an interrupt: from a source (see the page of the apic) to a CPU."""

    source: int
    cpu: int
    vector: int
    delivery_mode: int


class Gap(NamedTuple):
    """A silence of a ping that is over; clock of the machine."""

    start_ns: int
    end_ns: int


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


class MachineView:
    """All nodes of one machine; ``sample`` looks at the pages, the rest is reading."""

    def __init__(
        self,
        ram: Ram,
        settings: MachineSettings,
        states: States,
        clock: Callable[[], int],
        virtual: bool = False,
        archived: Archive | None = None,
    ) -> None:
        self.ram = ram
        self.settings = settings
        self.virtual = virtual
        #: pages of former lives, for the ledger
        self.archived = archived
        #: what screens keep from one frame to the next
        self.kept: dict[str, Any] = {}
        self._states = states
        self.clock = clock
        self._states_at = clock()
        known = states()
        self.nodes = {
            name: NodeView(name, kind_of(settings, name), number, known[name])
            for number, name in enumerate(settings.node_names)
        }
        self._period = FAST_PERIOD_NS if settings.cpus <= MANY_CPUS else 3 * FAST_PERIOD_NS
        self._logs = [ram.log(cpu) for cpu in range(ram.layout.cpus)]
        self._log_counts = [0] * ram.layout.cpus
        self._recorders = {name: Recorder(ram.recorder_words(name)) for name in self.nodes}
        self.now_ns = 0
        #: routes of the interrupt controller that were seen in use, and when last
        self.routes: dict[Route, int] = {}
        self._routes_seen = 0
        self._irq_vectors: dict[str, tuple[dict[int, int], int]] = {}
        #: the last silence of a ping that is over
        self.gap: Gap | None = None
        self.sample(force=True)

    # -- looking

    def sample(self, force: bool = False) -> bool:
        """Copy the pages if the last copy is old enough; True if it was."""
        now = self.clock()
        if not force and now - self.now_ns < self._period * 9 // 10:
            return False
        if force or now - self._states_at >= STATES_PERIOD_NS:
            self._states_at = now
            for name, state in self._states().items():
                self.nodes[name].state = state
        self.now_ns = now
        for node in self.nodes.values():
            self._sample_node(node, now)
        for cpu in self.cpus:
            self.gap = _gap(cpu) or self.gap
        self._learn_routes()
        self._log_counts = [log.count for log in self._logs]
        return True

    def _sample_node(self, node: NodeView, now: int) -> None:
        page = self.ram.page(node.name, node.schema)
        sample = Sample(now, array("Q", bytes(page.words[: node.schema.words])))
        fast, slow = node.fast, node.slow
        fast.append(sample)
        while len(fast) > 2 and now - fast[1].time_ns > FAST_SPAN_NS:
            fast.popleft()
        if node.kind != "cpu" and (not slow or now - slow[-1].time_ns >= SLOW_PERIOD_NS):
            slow.append(sample)

    def _learn_routes(self) -> None:
        """Take over the rows that the interrupt controller wrote since the last sample."""
        if self.settings.guest:
            return
        apic = self.apic
        count = apic.get("last_count")
        if count < self._routes_seen:  # a new incarnation
            self._routes_seen = 0
        for number in range(max(self._routes_seen, count - LAST_ROWS), count):
            at = number % LAST_ROWS * 2
            what = apic.get("last", at + 1)
            route = Route(what & 0xFFFF, what >> 16 & 0xFFFF, what >> 32 & 0xFF, what >> 40 & 7)
            self.routes[route] = apic.get("last", at)
        self._routes_seen = count

    # -- reading

    def __getitem__(self, name: str) -> NodeView:
        return self.nodes[name]

    @property
    def cpus(self) -> list[NodeView]:
        return [self.nodes[name] for name in self.settings.cpu_names]

    @property
    def nics(self) -> list[NodeView]:
        return [self.nodes[name] for name in self.settings.nic_names]

    @property
    def boot_cpu(self) -> NodeView:
        """The CPU that holds RTNL: its page carries the kernel's view of the network."""
        return self.cpus[0]

    @property
    def apic(self) -> NodeView:
        return self.nodes[APIC]

    @property
    def lan(self) -> NodeView:
        return self.nodes[LAN]

    @property
    def up_ns(self) -> int:
        """Since the machine's power-on."""
        return max(self.now_ns - self.ram.boot_ns, 0)

    def age_ns(self, time_ns: int) -> int:
        """How long ago ``time_ns`` of the machine's clock was."""
        return max(self.now_ns - time_ns, 0)

    def msix_names(self) -> dict[tuple[int, int], str]:
        """Name of the action behind (CPU, vector), from the NICs' MSI-X tables."""
        names = {}
        for nic in self.nics:
            words = zip(nic.run("msix_address"), nic.run("msix_data"), strict=True)
            for entry, (address, data) in enumerate(words):
                if address >> 20 == MSI_WINDOW:
                    name = f"{nic.name}-TxRx-{entry}" if entry < self.settings.queues else nic.name
                    for cpu in _destination(address):
                        names[cpu, data & 0xFF] = name
        return names

    def descriptors_done(self, base: int, size: int, dword: int) -> list[bool]:
        """DD bit, in this dword, of each descriptor of the ring at ``base``; empty if there is no
        ring in RAM."""
        if not base or base % 16 or base + 16 * size > len(self.ram.bytes):
            return []
        status = self.ram.words32[base // 4 + dword : base // 4 + 4 * size : 4]
        return [bool(word & 1) for word in status.tolist()]

    def nic(self, number: int) -> str:
        """Name of NIC ``number``."""
        return self.settings.nic_names[number]

    def trace(self, node: str, records: int) -> list[Record]:
        """The last records of a node's flight recorder as of the last sample."""
        recorder = self._recorders[node]
        found, _, _ = recorder.read(max(recorder.count - records - TRACE_SLACK, 0))
        return [record for record in found if record.time_ns <= self.now_ns][-records:]

    def irq_vectors(self, cpu: NodeView) -> dict[int, int]:
        """Vector of each irq whose handler this CPU was seen to enter."""
        recorder = self._recorders[cpu.name]
        known, seen = self._irq_vectors.get(cpu.name, ({}, 0))
        found, seen, _ = recorder.read(seen if seen <= recorder.count else 0)
        known |= {record.a: record.b for record in found if record.event == _IRQ_ENTRY}
        self._irq_vectors[cpu.name] = known, seen
        return known

    def kernel_log(self, lines: int) -> list[tuple[int, str]]:
        """The last lines of the kernel log as of the last sample: (ns since boot, text)."""
        lines = min(lines, LOG_LINES_SHOWN)
        merged: list[tuple[int, int, str]] = []
        for cpu, (log, count) in enumerate(zip(self._logs, self._log_counts, strict=True)):
            since = max(count - lines, 0)
            found = log.lines(since)[: count - since]
            merged.extend((time_ns, cpu, text) for time_ns, _, text in found)
        merged.sort(key=lambda line: line[:2])
        return [(time_ns, text) for time_ns, _, text in merged[-lines:]] if lines else []


def _destination(address: int) -> list[int]:
    """CPUs that an MSI address names: by APIC id, or flat logical (bit 2) by a bit each."""
    field = address >> 12 & 0xFF
    return [n for n in range(8) if field >> n & 1] if address & 4 else [field]


def _gap(cpu: NodeView) -> Gap | None:
    """A silence of this CPU's ping that ended between the last two samples."""
    if len(cpu.fast) < 2:
        return None
    interval = cpu.get("ping_interval_ns")
    end = cpu.get("ping_last_reply_ns")
    start, received = (cpu.previous(f) for f in ("ping_last_reply_ns", "ping_received"))
    if not start or cpu.previous("ping_interval_ns") != interval:
        return None
    if not _lost_before_newest(cpu.get("ping_window"), cpu.get("ping_sent")):
        return None  # late is not lost
    # Replies that came after the first one between the two samples are no part of the silence.
    end -= max(cpu.get("ping_received") - received - 1, 0) * interval
    return Gap(start, end) if end - start > gap_limit_ns(interval) else None


def _lost_before_newest(window: int, sent: int) -> int:
    """Requests in a row without an answer, just before the newest ones that were answered."""
    letters = "".join("!" if window >> n & 1 else "." for n in range(min(sent, 64)))
    before = letters.lstrip(".").lstrip("!")
    return len(before) - len(before.lstrip("."))


def gap_limit_ns(interval_ns: int) -> int:
    """A longer silence than this, of a ping with such an interval, is a gap."""
    return max(GAP_INTERVALS * interval_ns, GAP_NS_MIN)


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
