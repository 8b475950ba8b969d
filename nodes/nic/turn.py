"""What all units of the device share: the time of the turn, and how to walk a bit mask."""

from __future__ import annotations

from collections.abc import Iterator


class Now:
    """The turn: its time in ns and the recorder's mask; one object that all units share."""

    __slots__ = ("ns", "trace")

    def __init__(self) -> None:
        self.ns = 0
        self.trace = 0


def bits_of(mask: int) -> Iterator[int]:
    """Numbers of the set bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
