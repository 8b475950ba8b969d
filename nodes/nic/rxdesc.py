"""What a receive descriptor says about its packet: types, checksum verdicts, hash, VLAN tag.

Source: 82599 datasheet 7.1.5, 7.1.6 (formats), 7.1.11 (checksum offload), 7.1.13 (fragments). The
IPv4 header is checked on every packet (IPCS, IPE), TCP, UDP and SCTP on unfragmented ones (L4CS,
L4E; UDPCS too for UDP); a UDP checksum of 0 says nothing and is not checked. Errors are reported,
never a reason to drop. With RXCSUM.PCSD the second word carries the RSS hash, without it the IP
identification and, with IPPCSE, the sum over the payload of a UDP fragment.

A frame with a MAC error that FCTRL.SBP lets through is not looked into.
"""

from __future__ import annotations

from nodes.checksum import checksum, ones_sum
from nodes.nic.checksum import crc32c, pseudo_sum
from nodes.nic.headers import AH, SCTP, TCP, UDP, Headers, parse
from nodes.nic.regfile import RegisterFile
from nodes.nic.rxqueue import RxQueue
from nodes.nic.statistics import RX_CHECKSUM, Statistics

# status of a descriptor: the third word
DD, EOP, VP, UDPCS, L4CS, IPCS, PIF = 1 << 0, 1 << 1, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
UDPV = 1 << 10
_DONE = DD | EOP
HBO, RXE, L4E, IPE = 1 << 23, 1 << 29, 1 << 30, 1 << 31
# the legacy format has the same low byte and its errors in the byte above
_LEGACY_STATUS = 0xFB
_LEGACY_RXE, _LEGACY_TCPE, _LEGACY_IPE = 1 << 8, 1 << 14, 1 << 15

# packet type of the advanced descriptor
_IPV4, _IPV4E, _IPV6, _IPV6E = 1 << 4, 1 << 5, 1 << 6, 1 << 7
_ESP = 50
_TYPE_L4 = {TCP: 1 << 8, UDP: 1 << 9, SCTP: 1 << 10, _ESP: 1 << 12, AH: 1 << 13}

_IPPCSE, _PCSD = 1 << 12, 1 << 13


class Describer:
    """First and second word of a write-back, without the length."""

    def __init__(self, regs: RegisterFile, statistics: Statistics) -> None:
        self._regs = regs
        self._totals = statistics.totals
        regs.attach("RXCSUM", after=self.configure)
        self.configure(0, 0)

    def configure(self, index: int, value: int) -> None:
        rxcsum = self._regs.get("RXCSUM")
        self._hash = bool(rxcsum & _PCSD)
        self._fragments = rxcsum & (_PCSD | _IPPCSE) == _IPPCSE

    def describe(
        self,
        frame: bytes,
        queue: RxQueue,
        hashed: tuple[int, int, int],
        marks: int,
        tag: int | None,
    ) -> tuple[int, int]:
        """``marks`` are the status bits known already (PIF, RXE)."""
        status = _DONE | marks
        kind = sums = vlan = 0
        if tag is not None:
            frame = frame[:12] + frame[16:]
            if queue.strip:
                status |= VP
                vlan = tag << 48
        ethertype = frame[12:14]
        if marks & RXE:
            pass
        elif ethertype == b"\x08\x00" and 0x45 <= frame[14] <= 0x4F:
            header = 14 + (frame[14] & 0xF) * 4
            if header == 34 or header <= len(frame):
                status |= IPCS
                if int.from_bytes(frame[14:header], "big") % 0xFFFF:
                    status |= IPE
                    self._totals[RX_CHECKSUM] += 1
            kind = _IPV4 if header == 34 else _IPV4 | _IPV4E
            if frame[23] in _TYPE_L4:
                kind, status, sums = self._look_further(frame, kind, status)
            if not self._hash:
                sums |= frame[18] << 8 | frame[19]
        elif ethertype == b"\x86\xdd":
            kind, status, sums = self._look_further(frame, _IPV6, status)
        if not queue.advanced:
            return 0, _legacy(status) << 32 | sums >> 16 << 16 | vlan
        return (hashed[1] if self._hash else sums) << 32 | kind | hashed[2], status | vlan

    def _look_further(self, frame: bytes, kind: int, status: int) -> tuple[int, int, int]:
        """Packet type, status and sum of a fragment, with what the transport header tells."""
        headers = parse(frame)
        if headers is None:
            return kind, status, 0
        if headers.version == 6 and headers.extended:
            kind |= _IPV6E
        sums = 0
        if headers.fragment:
            if self._fragments and headers.version == 4 and headers.protocol == UDP:
                sums = ones_sum(frame[headers.l4 : headers.end]) << 16
                status |= UDPCS
                if headers.first and frame[headers.l4 + 6 : headers.l4 + 8] != b"\0\0":
                    status |= UDPV
            return kind, status, sums
        kind |= _TYPE_L4.get(headers.protocol, 0)
        verdict = transport_verdict(frame, headers)
        if verdict & L4E and not status & IPE:
            self._totals[RX_CHECKSUM] += 1
        return kind, status | verdict, sums


def _legacy(status: int) -> int:
    """Status and errors as the legacy descriptor has them."""
    return (
        status & _LEGACY_STATUS
        | (_LEGACY_RXE if status & RXE else 0)
        | (_LEGACY_TCPE if status & L4E else 0)
        | (_LEGACY_IPE if status & IPE else 0)
    )


def transport_verdict(frame: bytes, headers: Headers) -> int:
    """L4CS, UDPCS and L4E of an unfragmented packet; 0 if there is nothing to check."""
    protocol, l4 = headers.protocol, headers.l4
    data = frame[l4 : headers.end]
    if protocol == SCTP:
        if len(data) < 12:
            return 0
        stored = int.from_bytes(data[8:12], "little")
        good = crc32c(data[:8] + bytes(4) + data[12:]) == stored
        return L4CS if good else L4CS | L4E
    if protocol == UDP:
        if len(data) < 8 or data[6:8] == b"\0\0":
            return 0
        data = data[: int.from_bytes(data[4:6], "big")]
        checked = L4CS | UDPCS
    elif protocol == TCP and len(data) >= 20:
        checked = L4CS
    else:
        return 0
    start = pseudo_sum(headers.source, headers.destination, protocol, len(data))
    return checked | L4E if checksum(data, start) else checked
