"""A command that waits for answers of the device, and what its reply will be."""

from __future__ import annotations


class Owed:
    """A command that waits for ``waiting`` answers of the device, and for those before it; the
    first of them has the number ``tag``."""

    __slots__ = ("body", "command", "cuts", "error", "number", "posted", "tag", "waiting")

    def __init__(self, number: int, command: int, posted: bool, tag: int) -> None:
        self.number = number
        self.command = command
        self.posted = posted
        self.tag = tag
        self.waiting = 0
        self.body = b""
        self.error = 0
        #: of a read: (bytes, bits to shift away) of each answer
        self.cuts: list[tuple[int, int]] = []

    def answer(self, value: int) -> None:
        """The device answers the next access: what was read, or an errno."""
        if self.cuts:
            size, shift = self.cuts[-self.waiting]
            self.body += (value >> shift & (1 << 8 * size) - 1).to_bytes(size, "little")
        else:
            self.error = self.error or value
        self.tag += 1
        self.waiting -= 1
