"""A value that outlives its writer: the boot CPU's last snapshot of its tables.

From it the orchestrator shows the ``/proc`` files of a kernel whose boot CPU is dead.
"""

from __future__ import annotations


class LastWords:
    """A value that its one writer replaces now and then and that outlives it: a sequence word, odd
    while the value changes, a length, the bytes."""

    def __init__(self, words: memoryview, data: memoryview) -> None:
        self._words = words
        self._data = data

    def store(self, data: bytes) -> None:
        """Replace the value; ValueError if it does not fit."""
        if len(data) > len(self._data):
            raise ValueError(f"{len(data)} bytes are too many for last words")
        self._words[0] += 1
        self._words[1] = len(data)
        self._data[: len(data)] = data
        self._words[0] += 1

    def load(self) -> bytes | None:
        """The value; None if none was stored, or if its writer died while it changed it."""
        for _ in range(100):
            before = self._words[0]
            data = bytes(self._data[: self._words[1]])
            if before % 2 == 0 and self._words[0] == before:
                return data if before else None
        return None
