"""The only way of the NIC into memory: the windows that the driver mapped, as an IOMMU sees them.

``Dma`` is what the units of the device see, ``RamDma`` the RAM of an emulated machine (that of a
guest is in ``guestmemory``). Physical addresses are offsets in RAM. Each access must lie in one
mapped window (windows that touch count as one); anything else is refused and counted. The table is
read again when its generation changed; that is looked at (``sync``) for each frame received and
each pass over a transmit queue. A frame's accesses see one table, as an IOMMU invalidation waits
for what is in flight.

Everything a CPU may look at at the same time is stored as one aligned word.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from bus.ram import Iommu, Ram, Window
from nodes.nic.page import NIC_SCHEMA

_READS = NIC_SCHEMA.index("dma_reads")
_READ_BYTES = NIC_SCHEMA.index("dma_read_bytes")
_WRITES = NIC_SCHEMA.index("dma_writes")
_WRITE_BYTES = NIC_SCHEMA.index("dma_write_bytes")
_REFUSED = NIC_SCHEMA.index("dma_refused")


def _merged(windows: list[Window], limit: int) -> list[Window]:
    """Windows inside memory, sorted, neighbours of the same kind joined."""
    out: list[Window] = []
    for window in sorted(windows):
        if window.address + window.size > limit:
            continue
        if out:
            last = out[-1]
            if last.address + last.size == window.address and last.writable == window.writable:
                out[-1] = Window(last.address, last.size + window.size, last.writable)
                continue
        out.append(window)
    return out


class Dma(ABC):
    """Reads and writes by physical address; None or False says that the access was refused."""

    def __init__(self, words: memoryview) -> None:
        self._page = words
        #: Told of each read that the root complex answered with Unsupported Request.
        self.master_abort: Callable[[], None] = lambda: None

    def _refuse(self, write: bool) -> None:
        """Nothing is mapped there (for that)."""
        self._page[_REFUSED] += 1
        if not write:  # a posted write has no answer
            self.master_abort()

    def _count_read(self, size: int) -> None:
        page = self._page
        page[_READS] += 1
        page[_READ_BYTES] += size

    def _count_write(self, size: int) -> None:
        page = self._page
        page[_WRITES] += 1
        page[_WRITE_BYTES] += size

    @abstractmethod
    def sync(self) -> None:
        """Take over a changed table."""

    @abstractmethod
    def windows(self) -> list[Window]:
        """What is mapped now."""

    @abstractmethod
    def read(self, address: int, size: int) -> bytes | None:
        """``size`` bytes of a buffer."""

    @abstractmethod
    def write(self, address: int, data: bytes) -> bool:
        """Store into a buffer."""

    @abstractmethod
    def writable(self, address: int, size: int) -> bool:
        """May ``size`` bytes be stored there? Counted as refused if not."""

    @abstractmethod
    def descriptor(self, address: int) -> tuple[int, int] | None:
        """The two 64-bit words of a descriptor; ``address`` is a multiple of 16."""

    @abstractmethod
    def write_back(self, address: int, first: int, second: int) -> bool:
        """Both words of a descriptor, each as one aligned store; DD is in the second."""

    @abstractmethod
    def store32(self, address: int, value: int) -> bool:
        """One aligned 32-bit store."""


class RamDma(Dma):
    """The RAM of an emulated machine, as far as ``iommu`` maps it."""

    def __init__(self, ram: Ram, iommu: Iommu, words: memoryview) -> None:
        super().__init__(words)
        self._bytes = ram.bytes
        self._words32 = ram.words32
        self._words64 = ram.words64
        self._limit = ram.layout.total_bytes
        self._iommu = iommu
        self._generation = -1
        self._windows: list[Window] = []
        #: 4 KiB pages that were used and lie in one window, and whether that is writable: as with
        #: an IOTLB, accesses within one of them need no walk. Descriptors do not cross a page.
        self._pages: dict[int, bool] = {}

    def sync(self) -> None:
        """One that is being changed is taken over when it is done."""
        generation = self._iommu.words[0]
        if generation != self._generation and not generation & 1:
            windows = self._iommu.consistent()
            if windows is None:
                return
            self._windows = _merged(windows, self._limit)
            self._pages.clear()
            self._generation = generation

    def windows(self) -> list[Window]:
        self.sync()
        return list(self._windows)

    def _allowed(self, address: int, size: int, write: bool) -> bool:
        """Does one window hold all of it, and allow that? Refused and counted if not."""
        for window in self._windows:
            end = window.address + window.size
            if (
                window.address <= address
                and address + size <= end
                and (window.writable or not write)
            ):
                page = address >> 12
                if window.address <= page << 12 and page + 1 << 12 <= end:
                    self._pages[page] = window.writable
                return True
        self._refuse(write)
        return False

    def read(self, address: int, size: int) -> bytes | None:
        within = address + size <= (address | 0xFFF) + 1 and address >> 12 in self._pages
        if not within and not self._allowed(address, size, False):
            return None
        page = self._page
        page[_READS] += 1
        page[_READ_BYTES] += size
        return bytes(self._bytes[address : address + size])

    def write(self, address: int, data: bytes) -> bool:
        size = len(data)
        within = address + size <= (address | 0xFFF) + 1 and self._pages.get(address >> 12)
        if not within and not self._allowed(address, size, True):
            return False
        page = self._page
        page[_WRITES] += 1
        page[_WRITE_BYTES] += size
        self._bytes[address : address + size] = data
        return True

    def writable(self, address: int, size: int) -> bool:
        return self._allowed(address, size, True)

    def descriptor(self, address: int) -> tuple[int, int] | None:
        if address >> 12 not in self._pages and not self._allowed(address, 16, False):
            return None
        words = self._words64
        at = address >> 3
        return words[at], words[at + 1]

    def write_back(self, address: int, first: int, second: int) -> bool:
        if not self._pages.get(address >> 12) and not self._allowed(address, 16, True):
            return False
        words = self._words64
        at = address >> 3
        words[at] = first
        words[at + 1] = second
        return True

    def store32(self, address: int, value: int) -> bool:
        if not self._pages.get(address >> 12) and not self._allowed(address, 4, True):
            return False
        self._words32[address >> 2] = value
        return True
