"""Where the headers of a received frame lie: what the parser in front of RSS, checksum check and
header split finds.

Source: 82599 datasheet 7.1.2 and 7.1.10, RFC 791 and 8200. Ethernet II, IPv4 with options, IPv6
with hop-by-hop, routing, destination, fragment and authentication headers. A header that does not
fit into the frame ends the walk: what lies behind it is unknown (protocol -1).

Left out: LLC/SNAP, tunnels.
"""

from __future__ import annotations

from typing import NamedTuple

MAC_BYTES = 14
TCP, UDP, SCTP, AH = 6, 17, 132, 51
UNKNOWN = -1

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_HOME_ADDRESS = 201  # option of the destination header (RFC 6275)


class Headers(NamedTuple):
    """Offsets count from the beginning of the untagged frame."""

    version: int
    l4: int  # where the transport header begins
    end: int  # where the IP packet ends: padding lies behind it
    protocol: int
    fragment: bool
    first: bool  # not a fragment, or the first one
    extended: bool  # options or extension headers
    source: bytes
    destination: bytes
    #: for the hash over extensions: home address, and the address of a type 2 routing header
    home: bytes
    routed: bytes


def parse(frame: bytes) -> Headers | None:
    """Headers of an untagged frame; None if it is no IP packet that can be understood."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x00":
        return _ipv4(frame)
    if ethertype == b"\x86\xdd":
        return _ipv6(frame)
    return None


def _ipv4(frame: bytes) -> Headers | None:
    header = (frame[14] & 0xF) * 4
    total = frame[16] << 8 | frame[17]
    if (
        frame[14] >> 4 != 4
        or header < 20
        or total < header
        or len(frame) < MAC_BYTES + max(total, 20)
    ):
        return None
    offset = (frame[20] << 8 | frame[21]) & 0x1FFF
    source, destination = frame[26:30], frame[30:34]
    return Headers(
        4,
        MAC_BYTES + header,
        MAC_BYTES + total,
        frame[23],
        bool(offset or frame[20] & 0x20),
        not offset,
        header > 20,
        source,
        destination,
        source,
        destination,
    )


def _ipv6(frame: bytes) -> Headers | None:
    end = MAC_BYTES + 40 + (frame[18] << 8 | frame[19])
    if frame[14] >> 4 != 6 or len(frame) < end:
        return None
    at, protocol = MAC_BYTES + 40, frame[20]
    fragment, first = False, True
    home, routed = frame[22:38], frame[38:54]
    while protocol in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION, AH) and first:
        if at + 8 > end:
            protocol = UNKNOWN
            break
        size = 8 + 8 * frame[at + 1]
        if protocol == _FRAGMENT:
            size = 8
            field = frame[at + 2] << 8 | frame[at + 3]
            first = not field >> 3
            fragment = fragment or not first or bool(field & 1)
        elif protocol == AH:
            size = 8 + 4 * frame[at + 1]
        if at + size > end:
            protocol = UNKNOWN
            break
        if protocol == _DESTINATION:
            home = _home_address(frame[at + 2 : at + size]) or home
        elif protocol == _ROUTING and frame[at + 2] == 2 and size == 24:
            routed = frame[at + 8 : at + 24]
        protocol = frame[at]
        at += size
    return Headers(
        6,
        at,
        end,
        protocol,
        fragment,
        first,
        at > MAC_BYTES + 40,
        frame[22:38],
        frame[38:54],
        home,
        routed,
    )


def _home_address(options: bytes) -> bytes:
    """The home address among the options of a destination header; empty if there is none."""
    at = 0
    while at + 1 < len(options):
        if options[at] == 0:  # Pad1
            at += 1
            continue
        size = options[at + 1]
        if options[at] == _HOME_ADDRESS and size == 16 and at + 18 <= len(options):
            return options[at + 2 : at + 18]
        at += 2 + size
    return b""
