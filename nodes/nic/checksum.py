"""Sums that the 82599 checks on receive and inserts on transmit, beside the Internet checksum.

Source: RFC 8200 8.1 (pseudo header), RFC 3309 (CRC32c of SCTP).
"""

from __future__ import annotations

from nodes.checksum import ones_sum


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
