"""The Internet checksum (RFC 1071), by arithmetic on one large integer.

The ones' complement sum of 16-bit words is the number they form, modulo 0xFFFF; only a sum of
nothing but zeros is 0, any other is 1 to 0xFFFF. Odd data is padded with a zero.
"""

from __future__ import annotations


def ones_sum(data: bytes) -> int:
    """Sum of the words of ``data``, not inverted."""
    number = int.from_bytes(data, "big") << 8 * (len(data) & 1)
    return number % 0xFFFF or (0xFFFF if number else 0)


def checksum(data: bytes, start: int = 0) -> int:
    """Checksum to store for ``data`` (its own field zero) on top of the sum ``start``; 0 means that
    a received one is right."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    if start:
        number += start
    if not number:
        return 0xFFFF
    return 0xFFFF - (number % 0xFFFF or 0xFFFF)
