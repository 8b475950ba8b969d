"""The Internet checksum (RFC 1071), by arithmetic on one large integer.

The one's-complement sum of 16-bit words is the number they form, modulo 65535."""

from __future__ import annotations


def checksum(data: bytes) -> int:
    """Checksum to store for ``data`` (its own field zero); 0 means that a received one is right."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    if not number:
        return 0xFFFF
    return 0xFFFF - (number % 0xFFFF or 0xFFFF)
