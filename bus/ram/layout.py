"""Where everything lies in the RAM's file, and how large it is.

The file is laid out once, from the list of nodes; every section is aligned to 4 KiB. What stands
in a section is the matter of the module that reads and writes it; the flight recorder is
``bus.recorder``. The header is that of ``bus.ram.file``.
"""

from __future__ import annotations

from typing import NamedTuple

PAGE_BYTES = 16384
RECORD_WORDS = 4
RECORDS = 4096
LOG_LINES = 512
LOG_LINE_BYTES = 256
ATOMIC_WORDS = 32768
CSD_RECORDS = 64
CSD_RECORD_WORDS = 10
HANDOVER_BUFFERS = 128
BUFFER_BYTES = 10240  # a jumbo frame
TAP_SLOTS = 1024
TAP_SLOT_BYTES = 2048
IOMMU_WINDOWS = 128
HEADER_BYTES = 65536
LAST_BYTES = 65536 + 4096


def whole_pages(size_bytes: int) -> int:
    return (size_bytes + 4095) // 4096 * 4096


#: Bytes of a section for each node, CPU, pair of CPUs or NIC.
RECORDER_BYTES = whole_pages(64 + RECORDS * RECORD_WORDS * 8)
LOG_BYTES = whole_pages(64 + LOG_LINES * LOG_LINE_BYTES)
CSD_BYTES = whole_pages(128 + CSD_RECORDS * CSD_RECORD_WORDS * 8)
HANDOVER_BYTES = whole_pages(HANDOVER_BUFFERS * 8) + HANDOVER_BUFFERS * BUFFER_BYTES
TAP_BYTES = whole_pages(64) + TAP_SLOTS * TAP_SLOT_BYTES
IOMMU_BYTES = whole_pages(64 + IOMMU_WINDOWS * 32)


class Layout(NamedTuple):
    """Where each section begins. ``nodes`` in a fixed order; CPUs are named cpu0, cpu1, ..."""

    nodes: tuple[str, ...]
    cpus: int
    nics: int
    dma_bytes: int

    @property
    def pages(self) -> int:
        return HEADER_BYTES

    @property
    def recorders(self) -> int:
        return self.pages + len(self.nodes) * PAGE_BYTES

    @property
    def logs(self) -> int:
        return self.recorders + len(self.nodes) * RECORDER_BYTES

    @property
    def atomics(self) -> int:
        return self.logs + self.cpus * LOG_BYTES

    @property
    def csd(self) -> int:
        return self.atomics + ATOMIC_WORDS * 8

    @property
    def handover(self) -> int:
        return self.csd + self.cpus * self.cpus * CSD_BYTES

    @property
    def taps(self) -> int:
        return self.handover + self.cpus * HANDOVER_BYTES

    @property
    def iommu(self) -> int:
        return self.taps + (self.cpus + 1) * TAP_BYTES

    @property
    def last(self) -> int:
        return self.iommu + self.nics * IOMMU_BYTES

    @property
    def dma(self) -> int:
        return self.last + LAST_BYTES

    @property
    def total_bytes(self) -> int:
        return self.dma + self.dma_bytes
