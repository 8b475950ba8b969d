"""A guest's memory as the NIC reaches it: the windows that its virtual machine monitor mapped.

Each window is a piece of a file that both sides have mapped, at a bus address. They do not overlap;
they come and go as messages of the guest's port, so that an access sees those that stood when its
cause was written. A buffer may lie across windows that touch; a descriptor never does, as windows
are whole pages. A window without memory behind it (a ROM, or no descriptor came) is a hole that has
an owner.
"""

from __future__ import annotations

from bisect import bisect_right
from errno import EEXIST, ENOENT, ENOSPC
from typing import NamedTuple

from bus.ram import Window
from nodes.nic.dma import Dma

WINDOWS_MAX = 4096


class Piece(NamedTuple):
    """One window: [begin, end), and the memory behind it in three widths."""

    begin: int
    end: int
    writable: bool
    bytes: memoryview | None
    words32: memoryview
    words64: memoryview


_NOWHERE = Piece(0, 0, False, None, memoryview(b""), memoryview(b""))


class GuestDma(Dma):
    """Reads and writes by the guest's physical address."""

    def __init__(self, words: memoryview) -> None:
        super().__init__(words)
        self._pieces: list[Piece] = []  # by address
        self._last = _NOWHERE

    # -- the table

    def map(self, address: int, size: int, writable: bool, memory: memoryview | None) -> int:
        """Add a window; 0, or the errno that says why not."""
        at = bisect_right(self._pieces, address, key=_begin)
        before = at > 0 and self._pieces[at - 1].end > address
        if before or (at < len(self._pieces) and self._pieces[at].begin < address + size):
            return EEXIST
        if len(self._pieces) >= WINDOWS_MAX:
            return ENOSPC
        view = memoryview(b"") if memory is None else memory
        piece = Piece(address, address + size, writable, memory, view.cast("I"), view.cast("Q"))
        self._pieces.insert(at, piece)
        return 0

    def unmap(self, address: int, size: int) -> int:
        """Take away exactly this window; 0, or ENOENT. Its memory is free afterwards."""
        at = bisect_right(self._pieces, address, key=_begin) - 1
        if at < 0 or self._pieces[at][:2] != (address, address + size):
            return ENOENT
        self._release(self._pieces.pop(at))
        return 0

    def clear(self) -> None:
        """The guest is gone, and its memory."""
        while self._pieces:
            self._release(self._pieces.pop())

    def _release(self, piece: Piece) -> None:
        self._last = _NOWHERE
        for view in (piece.words32, piece.words64, piece.bytes):
            if view is not None:
                view.release()

    def sync(self) -> None:
        """Windows change between accesses only."""

    def windows(self) -> list[Window]:
        return [
            Window(piece.begin, piece.end - piece.begin, piece.writable)
            for piece in self._pieces
            if piece.bytes is not None
        ]

    # -- accesses

    def _find(self, address: int, write: bool) -> Piece | None:
        """The window with this address that allows the access; None: refused, and counted."""
        piece = self._last
        if not piece.begin <= address < piece.end:
            at = bisect_right(self._pieces, address, key=_begin) - 1
            if at < 0 or address >= self._pieces[at].end:
                self._refuse(write)
                return None
            piece = self._last = self._pieces[at]
        if piece.bytes is None or (write and not piece.writable):
            self._refuse(write)
            return None
        return piece

    def _parts(self, address: int, size: int, write: bool) -> list[memoryview] | None:
        """The memory of a buffer, one part for each window; None if it is refused."""
        out: list[memoryview] = []
        end = address + size
        while True:
            piece = self._find(address, write)
            if piece is None or piece.bytes is None:
                return None
            stop = min(end, piece.end)
            out.append(piece.bytes[address - piece.begin : stop - piece.begin])
            address = stop
            if address >= end:
                return out

    def read(self, address: int, size: int) -> bytes | None:
        parts = self._parts(address, size, False)
        if parts is None:
            return None
        self._count_read(size)
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> bool:
        parts = self._parts(address, len(data), True)
        if parts is None:
            return False
        self._count_write(len(data))
        at = 0
        for part in parts:
            part[:] = data[at : at + len(part)]
            at += len(part)
        return True

    def writable(self, address: int, size: int) -> bool:
        return self._parts(address, size, True) is not None

    def descriptor(self, address: int) -> tuple[int, int] | None:
        piece = self._find(address, False)
        if piece is None:
            return None
        words = piece.words64
        at = address - piece.begin >> 3
        return words[at], words[at + 1]

    def write_back(self, address: int, first: int, second: int) -> bool:
        piece = self._find(address, True)
        if piece is None:
            return False
        words = piece.words64
        at = address - piece.begin >> 3
        words[at] = first
        words[at + 1] = second
        return True

    def store32(self, address: int, value: int) -> bool:
        piece = self._find(address, True)
        if piece is None:
            return False
        piece.words32[address - piece.begin >> 2] = value
        return True


def _begin(piece: Piece) -> int:
    return piece.begin
