"""The mapped file itself (or, in the simulation, plain memory): header, and a view of each section.

Words of the header: magic, the clock at power-on, the number of nodes, the time of day at power-on;
from word 64 on eight for each node, of which two are used: its incarnation and its pid. The
incarnation is what tells messages of a dead process from those of the one that took its place.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

from bus.ram.atomics import Atomics
from bus.ram.between import CsdRing, HandoverPool
from bus.ram.iommu import Iommu
from bus.ram.lastwords import LastWords
from bus.ram.layout import (
    ATOMIC_WORDS,
    BUFFER_BYTES,
    CSD_BYTES,
    HANDOVER_BUFFERS,
    HANDOVER_BYTES,
    IOMMU_BYTES,
    LAST_BYTES,
    LOG_BYTES,
    PAGE_BYTES,
    RECORDER_BYTES,
    TAP_BYTES,
    Layout,
    whole_pages,
)
from bus.ram.log import LogRing
from bus.ram.page import COMMON_SCHEMA, Page, Schema
from bus.ram.tap import TapRing

MAGIC = 0x31304D41524842  # "BHRAM01"
_HEADER_NODE_WORD = 64
_HEADER_NODE_WORDS = 8


class Ram:
    """The mapped file (or, in the simulation, plain memory) and its sections."""

    def __init__(self, layout: Layout, memory: mmap.mmap, fd: int | None) -> None:
        self.layout = layout
        self._memory = memory
        self._fd = fd
        self.bytes = memoryview(memory)
        self.words32 = self.bytes.cast("I")
        self.words64 = self.bytes.cast("Q")
        self._number = {name: i for i, name in enumerate(layout.nodes)}
        self._csd_rings: dict[tuple[int, int], CsdRing] = {}
        self._handovers: dict[int, HandoverPool] = {}
        self.atomics = Atomics(self._section(layout.atomics, ATOMIC_WORDS), fd, layout.atomics)

    # -- making and opening

    @classmethod
    def anonymous(cls, layout: Layout) -> Ram:
        """Memory of this process only, for the simulation and unit tests."""
        ram = cls(layout, mmap.mmap(-1, layout.total_bytes), None)
        ram._format()
        return ram

    @classmethod
    def create(cls, path: str, layout: Layout) -> Ram:
        """Make the file (mode 0600) at ``path``; FileExistsError if there is one."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(fd, layout.total_bytes)
        ram = cls(layout, mmap.mmap(fd, layout.total_bytes), fd)
        ram._format()
        return ram

    @classmethod
    def open(cls, path: str, layout: Layout) -> Ram:
        """Map an existing file; ValueError if it is not the RAM of such a machine."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if os.fstat(fd).st_size != layout.total_bytes:
            os.close(fd)
            raise ValueError(f"{path} has not the size of this machine's RAM")
        ram = cls(layout, mmap.mmap(fd, layout.total_bytes), fd)
        if ram.words64[0] != MAGIC:
            ram.close()
            raise ValueError(f"{path} is not the RAM of a bottomhalf machine")
        return ram

    def close(self) -> None:
        """Drop the mapping; views that are still held keep the memory alive."""
        for view in (self.words64, self.words32, self.bytes):
            view.release()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _format(self) -> None:
        self.words64[2] = len(self.layout.nodes)
        self.words64[0] = MAGIC

    # -- header

    @property
    def boot_ns(self) -> int:
        """Clock at the machine's power-on: zero of the kernel's time."""
        value: int = self.words64[1]
        return value

    @boot_ns.setter
    def boot_ns(self, value: int) -> None:
        self.words64[1] = value

    @property
    def epoch_ns(self) -> int:
        """What the machine's clock zero is in the time of day. As on a PC a battery clock is read
        at power-on; that of the simulation says 1970-01-01."""
        value: int = self.words64[3]
        return value - self.boot_ns

    def power_on(self, clock_ns: int, time_of_day_ns: int) -> None:
        """The machine's clock and the time of day at the same moment."""
        self.words64[1] = clock_ns
        self.words64[3] = time_of_day_ns

    def number(self, node: str) -> int:
        return self._number[node]

    def _node_word(self, node: str, word: int) -> int:
        return _HEADER_NODE_WORD + self._number[node] * _HEADER_NODE_WORDS + word

    def incarnation_word(self, node: str) -> int:
        """Place of ``incarnation`` in ``words64``, for who looks at each message."""
        return self._node_word(node, 0)

    def incarnation(self, node: str) -> int:
        """Which life of ``node`` is the present one: 1, 2, ...; 0 before the first."""
        value: int = self.words64[self._node_word(node, 0)]
        return value

    def set_incarnation(self, node: str, incarnation: int) -> None:
        self.words64[self._node_word(node, 0)] = incarnation

    def pid(self, node: str) -> int:
        value: int = self.words64[self._node_word(node, 1)]
        return value

    def set_pid(self, node: str, pid: int) -> None:
        self.words64[self._node_word(node, 1)] = pid

    # -- sections

    def _section(self, offset: int, words: int) -> memoryview:
        return self.words64[offset // 8 : offset // 8 + words]

    def page(self, node: str, schema: Schema = COMMON_SCHEMA) -> Page:
        """The page of counters of ``node``."""
        at = self.layout.pages + self._number[node] * PAGE_BYTES
        return Page(self._section(at, PAGE_BYTES // 8), schema)

    def clear_page(self, node: str) -> None:
        """Zero the page: a new incarnation begins to count."""
        at = self.layout.pages + self._number[node] * PAGE_BYTES
        self.bytes[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)

    def recorder_words(self, node: str) -> memoryview:
        at = self.layout.recorders + self._number[node] * RECORDER_BYTES
        return self._section(at, RECORDER_BYTES // 8)

    def log(self, cpu: int) -> LogRing:
        """Kernel log ring of CPU number ``cpu``."""
        at = self.layout.logs + cpu * LOG_BYTES
        return LogRing(self._section(at, 8), self.bytes[at + 64 : at + LOG_BYTES])

    def csd_ring(self, source: int, target: int) -> CsdRing:
        """Records from CPU ``source`` to CPU ``target``."""
        ring = self._csd_rings.get((source, target))
        if ring is None:
            at = self.layout.csd + (source * self.layout.cpus + target) * CSD_BYTES
            ring = CsdRing(self._section(at, CSD_BYTES // 8))
            self._csd_rings[source, target] = ring
        return ring

    def handover(self, cpu: int) -> HandoverPool:
        """Buffers that CPU ``cpu`` fills for others."""
        pool = self._handovers.get(cpu)
        if pool is None:
            at = self.layout.handover + cpu * HANDOVER_BYTES
            data = at + whole_pages(HANDOVER_BUFFERS * 8)
            pool = self._handovers[cpu] = HandoverPool(
                self._section(at, HANDOVER_BUFFERS),
                self.bytes[data : data + HANDOVER_BUFFERS * BUFFER_BYTES],
            )
        return pool

    def tap(self, cpu: int) -> TapRing:
        """Packet ring of CPU ``cpu``; one further than the CPUs go: the LAN's."""
        at = self.layout.taps + cpu * TAP_BYTES
        return TapRing(self._section(at, 8), self.bytes[at + whole_pages(64) : at + TAP_BYTES])

    def iommu(self, nic: int) -> Iommu:
        """Mapped windows of NIC number ``nic``."""
        at = self.layout.iommu + nic * IOMMU_BYTES
        return Iommu(self._section(at, IOMMU_BYTES // 8))

    def last_words(self) -> LastWords:
        """The boot CPU's last snapshot."""
        at = self.layout.last
        return LastWords(self._section(at, 8), self.bytes[at + 64 : at + LAST_BYTES])

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.nodes)
