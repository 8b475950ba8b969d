"""What a NIC may reach of the memory: the windows that its driver mapped.

A table under a sequence word in place of the page tables of VT-d: the kernel writes it, the NIC
looks at the sequence word before a DMA and reads the table again when that has moved. Left out:
translation (a bus address is a physical one) and the invalidation queue.
"""

from __future__ import annotations

from typing import NamedTuple

from bus.ram.layout import IOMMU_WINDOWS

#: Looks at a table that changes before a reader goes on with what it knows.
LOOKS = 100


class Window(NamedTuple):
    """A piece of memory that a device may reach: bus address, size, writable."""

    address: int
    size: int
    writable: bool


class Iommu:
    """The windows that the driver of one NIC mapped; the kernel writes, the NIC reads.

    ``generation`` (sequence word) tells the NIC when to read the table again."""

    def __init__(self, words: memoryview) -> None:
        self.words = words  # the first is the sequence word

    @property
    def generation(self) -> int:
        value: int = self.words[0]
        return value

    def consistent(self) -> list[Window] | None:
        """All mapped windows as they were at one moment; None while the table is being changed
        (for good, if its writer died there)."""
        for _ in range(LOOKS):
            before = self.generation
            windows = self.windows()
            if before % 2 == 0 and self.generation == before:
                return windows
        return None

    def windows(self) -> list[Window]:
        """All mapped windows, for the one who changes the table."""
        count = min(self.words[1], IOMMU_WINDOWS)
        flat = self.words[8 : 8 + count * 4].tolist()
        return [
            Window(flat[i], flat[i + 1], bool(flat[i + 2]))
            for i in range(0, count * 4, 4)
            if flat[i + 1]
        ]

    def map(self, address: int, size: int, writable: bool = True) -> None:
        """Add a window. ``MemoryError`` when the table is full."""
        words = self.words
        count: int = words[1]
        slot = next((i for i in range(count) if not words[8 + i * 4 + 1]), count)
        if slot >= IOMMU_WINDOWS:
            raise MemoryError("IOMMU table is full")
        words[0] += 1
        at = 8 + slot * 4
        words[at], words[at + 1], words[at + 2] = address, size, int(writable)
        words[1] = max(count, slot + 1)
        words[0] += 1

    def unmap(self, address: int) -> None:
        """Remove the window that begins at ``address``; KeyError if there is none."""
        words = self.words
        for i in range(words[1]):
            at = 8 + i * 4
            if words[at + 1] and words[at] == address:
                words[0] += 1
                words[at + 1] = 0
                words[0] += 1
                return
        raise KeyError(f"no IOMMU window at {address:#x}")
