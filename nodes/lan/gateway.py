"""The gateway: a host that owns a few addresses and answers ARP, ICMP echo and UDP.

Source: RFC 826, 768, 792, 862 (echo), 863 (discard), 1122, 1812. It answers an ARP request for one
of its addresses and an echo request to one of them; UDP port 7 sends datagrams back, port 9 takes
them. It forwards nothing: what is to another host gets an ICMP error (TTL used up, host or network
unreachable), and so does UDP to another port; never an error about an error, a broadcast or a later
fragment. Replies have TTL 64, DF clear and an identification that counts up, the request's TOS, and
the request's data to the byte. In a VLAN where it has addresses it answers with the same tag.

Its neighbour table is as honest as Linux's: an ARP request for one of its addresses enters the
sender, and so does a reply that it asked for; any other ARP (gratuitous ARP, too) changes an entry
that is there and makes none. So after a
failover that changes the MAC address it goes on sending to the old one until an ARP tells it. To a
host that ARP said nothing about it answers the way the frame came.

Left out: fragments, IP options, redirects, ageing and probing of neighbours, limits on the rate of
ICMP errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from nodes.checksum import checksum

MIN_FRAME = 60
TTL = 64
#: What became of a frame that ended as it should.
ARP_ANSWER, ECHO_ANSWER, ARP_TAKEN, ECHO_TAKEN, UDP_ECHO, UDP_DISCARD, ERROR_TAKEN = range(1, 8)
BROADCAST = b"\xff" * 6
NEIGHBOURS_MAX = 1024

#: A reply, if there is one; how the frame ended: one of the above, or a name of ``page.GW_DROPS``.
Outcome = tuple[bytes | None, int | str]

_ARP = b"\x08\x06"
_IPV4 = b"\x08\x00"
_TAG = b"\x81\x00"
_ARP_REQUEST = bytes.fromhex("0001 0800 06 04 0001")
_ARP_REPLY = bytes.fromhex("0001 0800 06 04 0002")
_ICMP, _UDP = 1, 17
_ECHO_REPLY, _UNREACHABLE, _ECHO_REQUEST, _TIME_EXCEEDED = 0, 3, 8, 11
_NET, _HOST, _PORT = 0, 1, 3
#: ICMP messages about which an error may be sent: questions.
_QUESTIONS = (_ECHO_REQUEST, 13, 15, 17)
_ECHO_PORT, _DISCARD_PORT = b"\0\7", b"\0\x09"
#: What an error quotes: no more than fits into 576 bytes.
_QUOTE_BYTES = 576 - 20 - 8


def icmp_message(first: bytes, rest: bytes) -> bytes:
    """Type and code, checksum, the rest."""
    return first + checksum(first + b"\0\0" + rest).to_bytes(2, "big") + rest


class Gateway:
    """``take(frame)`` gives an ``Outcome``; ``heard`` collects what a ping here waits for."""

    def __init__(
        self,
        mac: bytes,
        addresses: Sequence[str],
        vlans: Sequence[tuple[int, Sequence[str]]] = (),
    ) -> None:
        self.mac = mac
        self.first = IPv4Address(addresses[0]).packed
        self._own = frozenset(IPv4Address(a).packed for a in addresses)
        self._by_vlan = {
            vid: frozenset(IPv4Address(a).packed for a in own) for vid, own in vlans
        }  # fmt: skip
        self.neighbours: dict[bytes, bytes] = {}
        self._asked: dict[bytes, bool] = {}
        self.moved = 0
        self._ident = 0
        #: IPv4 packets (header and message) of replies and errors that came to the gateway
        self.heard: list[bytes] = []

    def take(self, frame: bytes) -> Outcome:
        """Answer a frame, or say why not."""
        if frame[:6] not in (self.mac, BROADCAST):
            return None, "gw_drop_not_mine"
        ethertype = frame[12:14]
        if ethertype == _IPV4:
            return self._ipv4(frame, self._own)
        if ethertype == _ARP:
            return self._arp(frame, self._own)
        if ethertype == _TAG:
            return self._tagged(frame)
        return None, "gw_drop_protocol"

    def _tagged(self, frame: bytes) -> Outcome:
        """With the addresses of that VLAN, and the tag again on the way back."""
        own = self._by_vlan.get(int.from_bytes(frame[14:16], "big") & 0xFFF)
        if own is None:
            return None, "gw_drop_not_mine"
        tag, inner = frame[12:16], frame[:12] + frame[16:]
        if inner[12:14] not in (_IPV4, _ARP):
            return None, "gw_drop_protocol"
        answer = self._ipv4 if inner[12:14] == _IPV4 else self._arp
        reply, outcome = answer(inner.ljust(MIN_FRAME, b"\0"), own)
        return (None if reply is None else reply[:12] + tag + reply[12:]), outcome

    # -- ARP

    def _arp(self, frame: bytes, own: frozenset[bytes]) -> Outcome:
        head, sender_mac, sender_ip, target_ip = (
            frame[14:22], frame[22:28], frame[28:32], frame[38:42],
        )  # fmt: skip
        if head not in (_ARP_REQUEST, _ARP_REPLY):
            return None, "gw_drop_arp"
        known = sender_ip in self.neighbours
        if head == _ARP_REQUEST and target_ip in own:
            self._learn(sender_ip, sender_mac)
            body = _ARP_REPLY + self.mac + target_ip + sender_mac + sender_ip
            reply = frame[6:12] + self.mac + _ARP + body
            return reply.ljust(MIN_FRAME, b"\0"), ARP_ANSWER
        if known or sender_ip in self._asked:
            self._learn(sender_ip, sender_mac)
            return None, ARP_TAKEN
        return None, "gw_drop_arp"

    def _learn(self, address: bytes, mac: bytes) -> None:
        if address == bytes(4) or mac[0] & 1:
            return  # a probe for a duplicate address says nothing
        before = self.neighbours.get(address)
        if before is None and len(self.neighbours) >= NEIGHBOURS_MAX:
            return
        self.moved += before not in (None, mac)
        self._asked.pop(address, None)
        self.neighbours[address] = mac

    def ask(self, address: bytes) -> bytes:
        """An ARP request for ``address``, whose entry is incomplete from now on."""
        if len(self._asked) < NEIGHBOURS_MAX:
            self._asked[address] = True
        body = _ARP_REQUEST + self.mac + self.first + bytes(6) + address
        return (BROADCAST + self.mac + _ARP + body).ljust(MIN_FRAME, b"\0")

    # -- IPv4

    def _ipv4(self, frame: bytes, own: frozenset[bytes]) -> Outcome:
        protocol = frame[23]
        if frame[14] != 0x45 or protocol not in (_ICMP, _UDP):
            return None, "gw_drop_protocol"
        if checksum(frame[14:34]):
            return None, "gw_drop_checksum"
        if frame[30:34] not in own:
            return self._not_mine(frame, own), "gw_drop_address"
        if frame[20] & 0x3F or frame[21]:
            return None, "gw_drop_fragment"
        end = 14 + int.from_bytes(frame[16:18], "big")
        message = frame[34:end]
        if protocol == _UDP:
            return self._udp(frame, message, end)
        if end > len(frame) or len(message) < 8 or checksum(message):
            return None, "gw_drop_checksum"
        if message[0] != _ECHO_REQUEST or message[1]:
            return self._icmp(frame[14:end])
        return self._echo_reply(frame, message), ECHO_ANSWER

    def _icmp(self, packet: bytes) -> Outcome:
        """A reply or an error: for a ping of ours, if one runs."""
        if packet[20] in (_ECHO_REPLY, _UNREACHABLE, _TIME_EXCEEDED) and self.listens:
            self.heard.append(packet)
            return None, ECHO_TAKEN if packet[20] == _ECHO_REPLY else ERROR_TAKEN
        return None, "gw_drop_icmp"

    #: Does a ping run here?
    listens = False

    def _echo_reply(self, frame: bytes, message: bytes) -> bytes:
        # type 8 -> 0 takes 0x0800 from the sum of the words (RFC 1624)
        total = (0xFFFF - int.from_bytes(message[2:4], "big") - 0x0800) % 0xFFFF
        # a sum of 0 over words that are not all zero is really 0xFFFF
        icmp_sum = 0xFFFF - total if total or not any(message[4:]) else 0
        self._ident = self._ident + 1 & 0xFFFF
        ident = self._ident.to_bytes(2, "big")
        start = b"\x45" + frame[15:18] + ident + b"\0\0" + bytes((TTL, _ICMP))
        addresses = frame[30:34] + frame[26:30]
        header_sum = checksum(start + addresses)
        return b"".join(
            (
                self.neighbours.get(frame[26:30]) or frame[6:12], self.mac, _IPV4,
                start, header_sum.to_bytes(2, "big"), addresses,
                b"\0\0", icmp_sum.to_bytes(2, "big"), message[4:],
            )
        ).ljust(MIN_FRAME, b"\0")  # fmt: skip

    def _udp(self, frame: bytes, message: bytes, end: int) -> Outcome:
        length = int.from_bytes(message[4:6], "big")
        if end > len(frame) or not 8 <= length <= len(message):
            return None, "gw_drop_checksum"
        pseudo = frame[26:34] + b"\0\x11" + message[4:6]
        if message[6:8] != b"\0\0" and checksum(pseudo + message[:length]):
            return None, "gw_drop_checksum"
        if message[2:4] == _DISCARD_PORT:
            return None, UDP_DISCARD
        if message[2:4] != _ECHO_PORT:
            return self._error(frame, _UNREACHABLE, _PORT, frame[30:34]), "gw_drop_port"
        # addresses and ports change places, so the checksum stays
        swapped = message[2:4] + message[:2] + message[4:length]
        return self._reply(frame, _UDP, frame[30:34], swapped), UDP_ECHO

    def _reply(self, frame: bytes, protocol: int, source: bytes, message: bytes) -> bytes:
        """A packet back to where ``frame`` came from."""
        packet = self.packet(protocol, source, frame[26:30], message, frame[15:16])
        mac = self.neighbours.get(frame[26:30]) or frame[6:12]
        return (mac + self.mac + _IPV4 + packet).ljust(MIN_FRAME, b"\0")

    def packet(
        self,
        protocol: int,
        source: bytes,
        target: bytes,
        message: bytes,
        tos: bytes = b"\0",
        ttl: int = TTL,
    ) -> bytes:
        """An IPv4 packet."""
        self._ident = self._ident + 1 & 0xFFFF
        length = (20 + len(message)).to_bytes(2, "big")
        start = b"\x45" + tos + length + self._ident.to_bytes(2, "big") + b"\0\0"
        start += bytes((ttl, protocol))
        header_sum = checksum(start + source + target)
        return start + header_sum.to_bytes(2, "big") + source + target + message

    def frame(self, mac: bytes, packet: bytes) -> bytes:
        """The packet on the wire to ``mac``."""
        return (mac + self.mac + _IPV4 + packet).ljust(MIN_FRAME, b"\0")

    # -- errors

    def _not_mine(self, frame: bytes, own: frozenset[bytes]) -> bytes | None:
        """What a router says about a packet that it cannot forward."""
        near = [address for address in own if address[:3] == frame[26:29]]
        source = min(near or own)
        if frame[22] <= 1:
            return self._error(frame, _TIME_EXCEEDED, 0, source)
        here = any(address[:3] == frame[30:33] for address in own)
        return self._error(frame, _UNREACHABLE, _HOST if here else _NET, source)

    def _error(self, frame: bytes, kind: int, code: int, source: bytes) -> bytes | None:
        """An ICMP error about ``frame``; None where RFC 1122 3.2.2 forbids one."""
        sender, target = frame[26:30], frame[30:34]
        if (
            frame[0] & 1
            or target[0] >= 224
            or sender[0] in (0, 127)
            or sender[0] >= 224
            or (frame[20] & 0x1F or frame[21])
            or (frame[23] == _ICMP and frame[34] not in _QUESTIONS)
        ):
            return None
        end = 14 + int.from_bytes(frame[16:18], "big")
        quoted = frame[14:end][:_QUOTE_BYTES]
        message = icmp_message(bytes((kind, code)), bytes(4) + quoted)
        return self._reply(frame, _ICMP, source, message)
