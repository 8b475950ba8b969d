"""A view of a machine: samples of its RAM pages, and what they say about the last second.

Looking never disturbs: the view copies words out of the mapped RAM and asks no node anything. So it
works alike for a machine of this process, for one whose RAM file another process mapped read-only,
for the simulation (the clock is virtual then) and for dead nodes, whose last page stays. What a
single node's samples say is ``nodeview``.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bus.ram import MAGIC, Layout, Ram
from bus.recorder import Record, Recorder
from nodes.apic.page import LAST_ROWS
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import APIC, LAN, MachineSettings
from orchestrator.dashboards.nodeview import (
    FAST_PERIOD_NS,
    FAST_SPAN_NS,
    KIND_SCHEMAS,
    SECOND_NS,
    SLOW_PERIOD_NS,
    NodeView,
    Sample,
)
from orchestrator.dashboards.pinggap import Gap, ended_gap
from orchestrator.machines.machine import NodeState

__all__ = [
    "FAST_PERIOD_NS",
    "KIND_SCHEMAS",
    "MANY_CPUS",
    "SECOND_NS",
    "SLOW_PERIOD_NS",
    "MachineView",
    "NodeView",
    "Route",
    "kind_of",
    "open_readonly",
]


#: With more CPUs fewer samples are kept; the counters lose nothing, the columns get wider.
MANY_CPUS = 8
STATES_PERIOD_NS = SECOND_NS // 20
LOG_LINES_SHOWN = 64
#: Records that may have been written since the last sample.
TRACE_SLACK = 256
#: Bits 31:20 of an MSI's address.
MSI_WINDOW = 0xFEE
_IRQ_ENTRY = TRACEPOINTS["irq_handler_entry"].number

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


class Route(NamedTuple):
    """A way of an interrupt: from a source (see the page of the apic) to a CPU."""

    source: int
    cpu: int
    vector: int
    delivery_mode: int


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
            self.gap = ended_gap(cpu) or self.gap
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
