"""The NIC's way into memory: windows, their limits, and when a changed table is taken over."""

from __future__ import annotations

import pytest

from bus.ram import Iommu, Ram, Window
from nodes.nic.dma import RamDma
from nodes.nic.page import NIC_SCHEMA
from tests.nodes.harness import machine


class Memory:
    """RAM, the kernel's side of the IOMMU, and the NIC's."""

    def __init__(self) -> None:
        self.ram = Ram.anonymous(machine().layout())
        self.iommu: Iommu = self.ram.iommu(0)
        self.page = self.ram.page("eth0", NIC_SCHEMA)
        self.dma = RamDma(self.ram, self.iommu, self.page.words)
        self.base = self.ram.layout.dma


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_nothing_is_reachable_before_it_is_mapped(memory: Memory) -> None:
    memory.dma.sync()
    assert memory.dma.read(memory.base, 1) is None
    assert not memory.dma.write(memory.base, b"x")
    assert memory.page["dma_refused"] == 2


@pytest.mark.parametrize(
    ("offset", "size", "ok"), [(0, 4096, True), (4095, 1, True), (-1, 2, False), (4095, 2, False)]
)
def test_an_access_must_lie_inside(memory: Memory, offset: int, size: int, ok: bool) -> None:
    memory.iommu.map(memory.base + 4096, 4096)
    memory.dma.sync()
    assert (memory.dma.read(memory.base + 4096 + offset, size) is not None) == ok


def test_windows_that_touch_count_as_one(memory: Memory) -> None:
    memory.iommu.map(memory.base + 2048, 2048)
    memory.iommu.map(memory.base, 2048)
    memory.iommu.map(memory.base + 8192, 2048)
    assert memory.dma.windows() == [
        Window(memory.base, 4096, True), Window(memory.base + 8192, 2048, True),
    ]  # fmt: skip
    assert memory.dma.write(memory.base + 2000, bytes(100))


def test_read_only_window_in_a_page_that_was_read_before(memory: Memory) -> None:
    memory.iommu.map(memory.base, 4096, writable=False)
    memory.dma.sync()
    assert memory.dma.read(memory.base, 8) == bytes(8)
    assert not memory.dma.write(memory.base, b"x")
    assert memory.ram.bytes[memory.base] == 0


def test_an_access_that_leaves_a_page_that_was_used_is_looked_at_again(memory: Memory) -> None:
    memory.iommu.map(memory.base, 4096, writable=False)
    memory.dma.sync()
    assert memory.dma.descriptor(memory.base) == (0, 0)
    assert memory.dma.read(memory.base + 4088, 8) is not None
    assert memory.dma.read(memory.base + 4088, 9) is None
    assert memory.dma.descriptor(memory.base + 4096) is None
    assert not memory.dma.write_back(memory.base, 1, 1)
    assert not memory.dma.store32(memory.base + 12, 1)
    assert memory.page["dma_refused"] == 4
    memory.iommu.map(memory.base + 4096, 4096, writable=False)
    memory.dma.sync()
    assert memory.dma.read(memory.base + 4088, 9) is not None


def test_two_windows_in_one_page_are_told_apart(memory: Memory) -> None:
    memory.iommu.map(memory.base, 1024)
    memory.iommu.map(memory.base + 2048, 1024)
    memory.dma.sync()
    for _ in range(2):
        assert memory.dma.write(memory.base, b"a")
        assert memory.dma.write(memory.base + 2048, b"b")
        assert not memory.dma.write(memory.base + 1024, b"c")


def test_window_beyond_memory_is_as_good_as_none(memory: Memory) -> None:
    end = memory.ram.layout.total_bytes
    memory.iommu.map(end - 4096, 8192)
    memory.dma.sync()
    assert memory.dma.read(end - 4096, 64) is None


def test_table_in_the_middle_of_a_change_is_taken_over_afterwards(memory: Memory) -> None:
    """The kernel's CPU may even have died there: the NIC goes on with what it knows."""
    memory.iommu.map(memory.base, 4096)
    memory.dma.sync()
    words = memory.iommu.words
    words[0] += 1
    memory.dma.sync()
    assert memory.dma.write(memory.base, b"x")
    words[9] = 0  # the size of the first window
    words[0] += 1
    memory.dma.sync()
    assert not memory.dma.write(memory.base, b"x")
