"""Sums that the 82599 checks on receive and inserts on transmit.

Source: RFC 1071 (the Internet checksum), RFC 3309 (CRC32c of SCTP), RFC 8200 8.1 (pseudo header).
A ones' complement sum of 16-bit words is the number they form modulo 0xFFFF, so one division of a
large integer does it; only a sum of nothing but zeros is 0.
"""

from __future__ import annotations


def ones_sum(data: bytes) -> int:
    """Ones' complement sum of the 16-bit words of ``data``, not inverted; odd data is padded."""
    value = int.from_bytes(data, "big") << 8 * (len(data) & 1)
    return value % 0xFFFF or (0xFFFF if value else 0)


def checksum(data: bytes, start: int = 0) -> int:
    """The Internet checksum of ``data`` on top of the sum ``start``."""
    total = ones_sum(data) + start
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


def pseudo_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """Sum over the pseudo header of IPv4 or IPv6; ``length`` of the transport header and data."""
    return ones_sum(source + destination) + protocol + (length >> 16) + (length & 0xFFFF)


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC, as SCTP stores it (little-endian)."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFF_FFFF
