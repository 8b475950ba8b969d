"""What the transmitter does to a packet: checksums, segmentation, VLAN tag.

Source: 82599 datasheet 7.2.3 (descriptors), 7.2.4 (TCP and UDP segmentation), 7.2.5 (checksums).
A context descriptor says where the headers lie and stays valid in its slot (two a queue) until it
is overwritten; the first data descriptor of a packet chooses the slot and the offloads.

* IXSM: the IPv4 header checksum is computed anew, whatever stood there;
* TXSM: software left the pseudo header's sum in the checksum field, so the sum from the transport
  header to the end is the checksum (UDP: 0 is sent as FFFF; SCTP: CRC32c instead);
* TSE: the headers are repeated in front of each MSS bytes. Each segment gets its own IP length,
  IPv4 identification + n, TCP sequence number, flags masked by DTXTCPFLGL/H for the first, middle
  and last segment, UDP length, and both checksums (to the pseudo header's sum, which is without a
  length here, its length is added);
* VLE: a tag behind the addresses, its type from DMATXCTL.

A legacy descriptor (IC) has the Internet checksum from CSS to the end put at CSO; an offset
outside the packet means none.

Left out: what hardware does when context and packet do not fit: here it is dropped by name.
IPsec, FCoE, LinkSec, double VLAN.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.checksum import checksum
from nodes.nic.checksum import crc32c

#: A packet for segmentation has at most 256 KiB of payload.
PAYLOAD_BYTES_MAX = 1 << 18
#: More segments than this from one packet are refused: no driver wants them, and each is a frame.
SEGMENTS_MAX = 4096

# dword 2 of the first descriptor, and POPTS and PAYLEN in dword 3
LEGACY_IC, DEXT, VLE, TSE = 1 << 26, 1 << 29, 1 << 30, 1 << 31
IXSM, TXSM, IPSEC = 1 << 40, 1 << 41, 1 << 42
_PAYLEN_SHIFT = 46
#: What an advanced and what a legacy packet can ask for.
WANTS, LEGACY_WANTS = VLE | TSE | IXSM | TXSM | IPSEC, VLE | LEGACY_IC

_L4_UDP, _L4_TCP, _L4_SCTP = 0, 1, 2
#: Where the checksum lies in the transport header, and the shortest such header.
_L4_FIELD = {_L4_UDP: 6, _L4_TCP: 16, _L4_SCTP: 8}
_L4_BYTES_MIN = {_L4_UDP: 8, _L4_TCP: 20, _L4_SCTP: 12}


class Context(NamedTuple):
    """A context descriptor, decoded."""

    mac_bytes: int
    ip_bytes: int
    l4_bytes: int
    mss: int
    l4: int
    ipv4: bool
    vlan: int


def decode(low: int, high: int) -> tuple[int, Context]:
    """(slot, context) of the two words of a context descriptor."""
    return high >> 36 & 1, Context(
        mac_bytes=low >> 9 & 0x7F,
        ip_bytes=low & 0x1FF,
        l4_bytes=high >> 40 & 0xFF,
        mss=high >> 48,
        l4=high >> 11 & 3,
        ipv4=bool(high >> 10 & 1),
        vlan=low >> 16 & 0xFFFF,
    )


class FlagMasks(NamedTuple):
    """TCP flags that a segment keeps, by DTXTCPFLGL and DTXTCPFLGH."""

    first: int
    middle: int
    last: int


class Settings(NamedTuple):
    """What holds for all queues."""

    ifcs: int  # the bit that has hardware append the FCS; 0: HLREG0.TXCRCEN is off
    vlan_type: bytes
    masks: FlagMasks


def transform(
    data: bytes, control: int, context: Context | None, settings: Settings
) -> list[bytes]:
    """The frames that a packet becomes; none if it asks for what cannot be done."""
    wants = control & (WANTS if control & DEXT else LEGACY_WANTS)
    if not wants:
        return [data]
    if not control & settings.ifcs:  # the FCS in the buffer would be that of something else
        return []
    if not control & DEXT:
        return [_legacy(data, control, settings.vlan_type)]
    if context is None or control & IPSEC:
        return []
    if control & TSE:
        frames = _segments(data, control >> _PAYLEN_SHIFT, context, settings.masks)
    elif control & (IXSM | TXSM):
        packet = bytearray(data)
        if not _insert_sums(packet, control, context):
            return []
        frames = [bytes(packet)]
    else:
        frames = [data]
    if control & VLE:
        tag = settings.vlan_type + context.vlan.to_bytes(2, "big")
        frames = [frame[:12] + tag + frame[12:] for frame in frames]
    return frames


def _legacy(data: bytes, control: int, vlan_type: bytes) -> bytes:
    """IC and VLE of a legacy descriptor."""
    if control & LEGACY_IC:
        field, start = control >> 16 & 0xFF, control >> 40 & 0xFF
        if field + 2 <= len(data) and start < len(data):
            total = checksum(data[start:]).to_bytes(2, "big")
            data = data[:field] + total + data[field + 2 :]
    if control & VLE:
        data = data[:12] + vlan_type + (control >> 48).to_bytes(2, "big") + data[12:]
    return data


def _insert_sums(packet: bytearray, control: int, context: Context) -> bool:
    """IXSM and TXSM; False if the headers do not lie where the context says."""
    ip, l4 = context.mac_bytes, context.mac_bytes + context.ip_bytes
    if control & IXSM and context.ipv4:
        if context.ip_bytes < 20 or l4 > len(packet):
            return False
        _insert_ip_sum(packet, ip, l4)
    if control & TXSM:
        shortest = _L4_BYTES_MIN.get(context.l4)
        if shortest is None or l4 < 14 or l4 + shortest > len(packet):
            return False
        _insert_l4_sum(packet, l4, context.l4, 0)
    return True


def _insert_ip_sum(packet: bytearray, begin: int, end: int) -> None:
    packet[begin + 10 : begin + 12] = b"\0\0"
    packet[begin + 10 : begin + 12] = checksum(bytes(packet[begin:end])).to_bytes(2, "big")


def _insert_l4_sum(packet: bytearray, l4: int, kind: int, start: int) -> None:
    """``start`` is added to the sum that lies in the field."""
    at = l4 + _L4_FIELD[kind]
    if kind == _L4_SCTP:
        packet[at : at + 4] = bytes(4)
        packet[at : at + 4] = crc32c(bytes(packet[l4:])).to_bytes(4, "little")
        return
    total = checksum(bytes(packet[l4:]), start)
    if kind == _L4_UDP and not total:
        total = 0xFFFF
    packet[at : at + 2] = total.to_bytes(2, "big")


def _segments(data: bytes, payload_bytes: int, context: Context, masks: FlagMasks) -> list[bytes]:
    """TSE: the packet cut into segments."""
    ip, l4 = context.mac_bytes, context.mac_bytes + context.ip_bytes
    header_bytes, mss = l4 + context.l4_bytes, context.mss
    if (
        ip < 14
        or context.ip_bytes < (20 if context.ipv4 else 40)
        or context.l4 == _L4_SCTP
        or context.l4_bytes < _L4_BYTES_MIN.get(context.l4, 1 << 8)
        or header_bytes + payload_bytes != len(data)
        or not payload_bytes
        or not mss
        or -(-payload_bytes // mss) > SEGMENTS_MAX
        or header_bytes + mss > 0xFFFF
    ):
        return []
    header = data[:header_bytes]
    identification = int.from_bytes(header[ip + 4 : ip + 6], "big")
    sequence = int.from_bytes(header[l4 + 4 : l4 + 8], "big")
    flags = (header[l4 + 12] << 8 | header[l4 + 13]) if context.l4 == _L4_TCP else 0
    frames = []
    for number, at in enumerate(range(0, payload_bytes, mss)):
        part = data[header_bytes + at : header_bytes + at + mss]
        packet = bytearray(header + part)
        l4_total = context.l4_bytes + len(part)
        if context.ipv4:
            packet[ip + 2 : ip + 4] = (context.ip_bytes + l4_total).to_bytes(2, "big")
            packet[ip + 4 : ip + 6] = ((identification + number) & 0xFFFF).to_bytes(2, "big")
            _insert_ip_sum(packet, ip, l4)
        else:
            packet[ip + 4 : ip + 6] = (context.ip_bytes - 40 + l4_total).to_bytes(2, "big")
        if context.l4 == _L4_TCP:
            packet[l4 + 4 : l4 + 8] = ((sequence + at) & 0xFFFF_FFFF).to_bytes(4, "big")
            if payload_bytes > mss:
                last = at + mss >= payload_bytes
                mask = masks.last if last else masks.middle if number else masks.first
                packet[l4 + 12 : l4 + 14] = (flags & (0xF000 | mask)).to_bytes(2, "big")
        else:
            packet[l4 + 4 : l4 + 6] = l4_total.to_bytes(2, "big")
        _insert_l4_sum(packet, l4, context.l4, l4_total)
        frames.append(bytes(packet))
    return frames
