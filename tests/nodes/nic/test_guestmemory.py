"""A guest's memory: windows that come and go, buffers across them, holes, what is refused."""

from __future__ import annotations

from errno import EEXIST, ENOENT

import pytest

from bus.ram import Ram, Window
from nodes.nic.guestmemory import GuestDma
from nodes.nic.page import NIC_SCHEMA
from tests.nodes.harness import machine

PAGE = 4096


class Guest:
    """Two windows that touch, the second read-only, and a hole behind them."""

    def __init__(self) -> None:
        self.page = Ram.anonymous(machine().layout()).page("eth0", NIC_SCHEMA)
        self.dma = GuestDma(self.page.words)
        self.low, self.high = bytearray(PAGE), bytearray(2 * PAGE)
        self.aborts = 0
        self.dma.master_abort = self._abort
        assert self.dma.map(PAGE, PAGE, True, memoryview(self.low)) == 0
        assert self.dma.map(2 * PAGE, 2 * PAGE, False, memoryview(self.high)) == 0
        assert self.dma.map(4 * PAGE, PAGE, True, None) == 0

    def _abort(self) -> None:
        self.aborts += 1


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_windows_are_told_without_holes(guest: Guest) -> None:
    assert guest.dma.windows() == [Window(PAGE, PAGE, True), Window(2 * PAGE, 2 * PAGE, False)]


def test_a_buffer_may_lie_across_windows_that_touch(guest: Guest) -> None:
    guest.low[-2:], guest.high[:2] = b"ab", b"cd"
    assert guest.dma.read(2 * PAGE - 2, 4) == b"abcd"
    assert not guest.dma.write(2 * PAGE - 2, b"1234")  # the second is read-only
    assert guest.low[-2:] == b"ab"
    assert guest.dma.write(2 * PAGE - 2, b"12")
    assert guest.low[-2:] == b"12"
    assert (guest.page["dma_reads"], guest.page["dma_writes"]) == (1, 1)


@pytest.mark.parametrize(
    ("address", "size"), [(0, 4), (4 * PAGE - 2, 4), (4 * PAGE, 4), (1 << 60, 1)]
)
def test_what_nobody_mapped_is_refused_and_a_read_aborted(
    guest: Guest, address: int, size: int
) -> None:
    assert guest.dma.read(address, size) is None
    assert not guest.dma.write(address, bytes(size))
    assert not guest.dma.writable(address, size)
    assert (guest.page["dma_refused"], guest.aborts) == (3, 1)


def test_descriptors_are_words_at_their_place(guest: Guest) -> None:
    assert guest.dma.write_back(PAGE + 32, 0x1122334455667788, 3)
    assert guest.low[32:48] == bytes.fromhex("8877665544332211") + b"\3" + bytes(7)
    assert guest.dma.descriptor(PAGE + 32) == (0x1122334455667788, 3)
    assert guest.dma.store32(PAGE + 60, 7)
    assert guest.low[60:64] == b"\7\0\0\0"
    assert not guest.dma.write_back(2 * PAGE, 1, 1)
    assert not guest.dma.store32(2 * PAGE, 1)
    assert guest.dma.descriptor(0) is None


@pytest.mark.parametrize("address", [0, PAGE, 3 * PAGE, 4 * PAGE])
def test_a_window_over_another_is_refused(guest: Guest, address: int) -> None:
    assert guest.dma.map(address, 2 * PAGE, True, memoryview(bytearray(2 * PAGE))) == EEXIST


def test_only_exactly_what_was_mapped_is_unmapped_and_its_memory_is_free(guest: Guest) -> None:
    assert guest.dma.unmap(2 * PAGE, PAGE) == ENOENT
    assert guest.dma.unmap(3 * PAGE, PAGE) == ENOENT
    assert guest.dma.read(2 * PAGE, 1) == b"\0"
    assert guest.dma.unmap(2 * PAGE, 2 * PAGE) == 0
    assert guest.dma.read(2 * PAGE, 1) is None
    guest.high.clear()  # BufferError while a view of it is held
    guest.dma.clear()
    guest.low.clear()
    assert guest.dma.windows() == []
