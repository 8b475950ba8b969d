"""What all units of the device share: the time of the turn, and how to walk a bit mask."""

from __future__ import annotations

from collections.abc import Sequence


class Now:
    """The turn: its time in ns and the recorder's mask; one object that all units share."""

    __slots__ = ("ns", "trace")

    def __init__(self) -> None:
        self.ns = 0
        self.trace = 0


def bits_of(mask: int) -> Sequence[int]:
    """Numbers of the set bits, lowest first."""
    if not mask & mask - 1:  # mostly one, or none
        return (mask.bit_length() - 1,) if mask else ()
    bits = []
    while mask:
        low = mask & -mask
        bits.append(low.bit_length() - 1)
        mask ^= low
    return bits
