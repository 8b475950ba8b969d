"""The gateway: a host that owns a few addresses and answers ARP and ICMP echo.

Source: RFC 826, 792, 1122. It answers an ARP request for one of its addresses, and an echo request
to one of them, back to the MAC address that it came from; it keeps no neighbour table and routes
nothing. Replies have TTL 64, DF clear and an identification that counts up, the request's TOS, and
the request's data to the byte.

Left out: fragments, IP options, everything but ARP and ICMP echo.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

MIN_FRAME = 60
TTL = 64
ARP_ANSWER, ECHO_ANSWER = 1, 2
BROADCAST = b"\xff" * 6

_ARP = b"\x08\x06"
_IPV4 = b"\x08\x00"
_ARP_REQUEST = bytes.fromhex("0001 0800 06 04 0001")
_ARP_REPLY = bytes.fromhex("0001 0800 06 04 0002")
_ICMP = 1
_ECHO_REQUEST = 8


def ones_sum(data: bytes) -> int:
    """Sum of 16-bit words in ones' complement, 0..0xFFFE; 0 for data with a right checksum."""
    if len(data) & 1:
        data += b"\0"
    return int.from_bytes(data, "big") % 0xFFFF


def checksum_of(total: int, anything: bool = True) -> int:
    """Checksum field for words that sum to ``total``. A sum of 0 over words that are not all zero
    is really 0xFFFF folded, so its complement is 0."""
    return 0xFFFF - total if total or not anything else 0


class Gateway:
    """``take(frame)`` gives (answer, kind) or (None, reason)."""

    def __init__(self, mac: bytes, addresses: Sequence[str]) -> None:
        self.mac = mac
        self._addresses = frozenset(IPv4Address(a).packed for a in addresses)
        self._ident = 0

    def take(self, frame: bytes) -> tuple[bytes | None, int | str]:
        """Answer a frame, or say why not (a name of ``page.GW_DROPS``)."""
        if frame[:6] not in (self.mac, BROADCAST):
            return None, "gw_drop_not_mine"
        ethertype = frame[12:14]
        if ethertype == _IPV4:
            return self._ipv4(frame)
        if ethertype == _ARP:
            return self._arp(frame)
        return None, "gw_drop_protocol"

    def _arp(self, frame: bytes) -> tuple[bytes | None, int | str]:
        sender_mac, sender_ip, target_ip = frame[22:28], frame[28:32], frame[38:42]
        if frame[14:22] != _ARP_REQUEST or target_ip not in self._addresses:
            return None, "gw_drop_arp"
        body = _ARP_REPLY + self.mac + target_ip + sender_mac + sender_ip
        return (frame[6:12] + self.mac + _ARP + body).ljust(MIN_FRAME, b"\0"), ARP_ANSWER

    def _ipv4(self, frame: bytes) -> tuple[bytes | None, int | str]:
        header = frame[14:34]
        if frame[14] != 0x45 or frame[23] != _ICMP:
            return None, "gw_drop_protocol"
        if ones_sum(header):
            return None, "gw_drop_checksum"
        if frame[30:34] not in self._addresses:
            return None, "gw_drop_address"
        if frame[20] & 0x3F or frame[21]:
            return None, "gw_drop_fragment"
        end = 14 + int.from_bytes(frame[16:18], "big")
        message = frame[34:end]
        if end > len(frame) or len(message) < 8 or ones_sum(message):
            return None, "gw_drop_checksum"
        if message[0] != _ECHO_REQUEST or message[1]:
            return None, "gw_drop_icmp"
        return self._echo_reply(frame, message), ECHO_ANSWER

    def _echo_reply(self, frame: bytes, message: bytes) -> bytes:
        # type 8 -> 0 takes 0x0800 from the sum of the words (RFC 1624)
        total = (0xFFFF - int.from_bytes(message[2:4], "big") - 0x0800) % 0xFFFF
        checksum = checksum_of(total, anything=any(message[4:]))
        self._ident = self._ident + 1 & 0xFFFF
        ident = self._ident.to_bytes(2, "big")
        start = b"\x45" + frame[15:18] + ident + b"\0\0" + bytes((TTL, _ICMP))
        addresses = frame[30:34] + frame[26:30]
        header_sum = checksum_of(ones_sum(start + b"\0\0" + addresses))
        return b"".join(
            (
                frame[6:12], self.mac, _IPV4,
                start, header_sum.to_bytes(2, "big"), addresses,
                b"\0\0", checksum.to_bytes(2, "big"), message[4:],
            )
        ).ljust(MIN_FRAME, b"\0")  # fmt: skip
