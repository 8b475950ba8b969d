"""Configuration space as bytes with an access rule for each bit; functions bring their own table.

Source: PCI Local Bus 3.0 chapter 6, PCI Express base specification 2.1 chapter 7. What a write
makes a function do is not here, only what stands in the words afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CONFIG_BYTES = 4096


class Word(NamedTuple):
    """32 bits: ``value`` after power-on, ``writable`` bits, ``clearing`` bits (writing 1 clears),
    and the ``sticky`` bits that a reset of the function keeps."""

    offset: int
    value: int
    writable: int = 0
    clearing: int = 0
    sticky: int = 0


class Space:
    """The bytes, and the rules by which a write changes them."""

    def __init__(self, table: Sequence[Word]) -> None:
        self._bytes = bytearray(CONFIG_BYTES)
        self._writable = bytearray(CONFIG_BYTES)
        self._clearing = bytearray(CONFIG_BYTES)
        for word in table:
            self.put(word.offset, word.value)
            span = slice(word.offset, word.offset + 4)
            self._writable[span] = word.writable.to_bytes(4, "little")
            self._clearing[span] = word.clearing.to_bytes(4, "little")

    def __bytes__(self) -> bytes:
        """The whole space, for whoever hands it out in one piece."""
        return bytes(self._bytes)

    def get(self, offset: int, size: int = 2) -> int:
        """Value without side effects."""
        return int.from_bytes(self._bytes[offset : offset + size], "little")

    def put(self, offset: int, value: int, size: int = 4) -> None:
        """Store as hardware does, whatever the rules say."""
        self._bytes[offset : offset + size] = value.to_bytes(size, "little")

    def change(self, offset: int, bits: int, on: bool) -> None:
        """Set or clear bits of a 16-bit word as hardware does."""
        old = self.get(offset)
        self.put(offset, old | bits if on else old & ~bits, 2)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write by the rules of each bit."""
        for i in range(size):
            at = offset + i
            byte = value >> 8 * i & 0xFF
            writable = self._writable[at]
            new = self._bytes[at] & ~writable | byte & writable
            self._bytes[at] = new & ~(byte & self._clearing[at])


def aligned(offset: int, size: int) -> bool:
    """May configuration space be accessed so? Else the request is unsupported."""
    return size in (1, 2, 4) and not offset % size and offset < CONFIG_BYTES
