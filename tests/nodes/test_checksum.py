"""The Internet checksum against word-by-word addition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodes.checksum import checksum, ones_sum


def added(data: bytes, start: int = 0) -> int:
    """RFC 1071, word by word with the carry folded in."""
    padded = data + b"\0" * (len(data) & 1)
    total = start
    for at in range(0, len(padded), 2):
        total += int.from_bytes(padded[at : at + 2], "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=64), st.integers(0, 0x2FFFF))
def test_it_is_the_sum_with_carries_folded_in(data: bytes, start: int) -> None:
    assert ones_sum(data) == added(data)
    assert checksum(data, start) == 0xFFFF - added(data, start)


def test_zeros_sum_to_zero_and_right_data_to_all_ones() -> None:
    assert (ones_sum(bytes(4)), checksum(bytes(4)), checksum(b"")) == (0, 0xFFFF, 0xFFFF)
    header = bytes.fromhex("45000054000040004001 0000 c0a8010a c0a80101")
    right = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
    assert (ones_sum(right), checksum(right)) == (0xFFFF, 0)
