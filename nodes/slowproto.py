"""Slow Protocols on the wire: LACPDU and Marker PDU, read and written by both ends of a link.

Source: IEEE 802.1AX (formerly 802.3 clause 43), figures of the LACPDU (version 1) and of the Marker
PDU; both are 124 bytes without FCS and go to 01:80:C2:00:00:02 with EtherType 0x8809.

``lacpdu_from`` is strict, as the standard allows: subtype, version and the three TLVs must be in
their places. Linux looks at less (length and subtype); who receives as Linux does calls it with
``strict=False``.
"""

from __future__ import annotations

from typing import NamedTuple

SLOW_MULTICAST = bytes.fromhex("0180c2000002")
ETH_P_SLOW = 0x8809
SUBTYPE_LACP, SUBTYPE_MARKER = 1, 2
MARKER_INFORMATION, MARKER_RESPONSE = 1, 2
PDU_BYTES = 124  # with the Ethernet header, without FCS

# bits of a port's state
ACTIVITY, TIMEOUT, AGGREGATION, SYNCHRONIZATION = 0x01, 0x02, 0x04, 0x08
COLLECTING, DISTRIBUTING, DEFAULTED, EXPIRED = 0x10, 0x20, 0x40, 0x80
#: In the order of the bits, as `ip -d link` names them.
STATE_NAMES = (
    "active", "short_timeout", "aggregating", "in_sync",
    "collecting", "distributing", "defaulted", "expired",
)  # fmt: skip

_START = 14
_ACTOR, _PARTNER, _COLLECTOR, _END = 16, 36, 56, 72
_HEADERS = ((_ACTOR, b"\x01\x14"), (_PARTNER, b"\x02\x14"), (_COLLECTOR, b"\x03\x10"))


class PortParams(NamedTuple):
    """What a PDU says of one end of the link."""

    system_priority: int
    system: bytes
    key: int
    port_priority: int
    port_number: int
    port_state: int


class Lacpdu(NamedTuple):
    actor: PortParams
    partner: PortParams
    collector_max_delay: int = 0


class Marker(NamedTuple):
    kind: int  # MARKER_INFORMATION or MARKER_RESPONSE
    port: int
    system: bytes
    transaction: int


def state_names(port_state: int) -> str:
    return ",".join(name for bit, name in enumerate(STATE_NAMES) if port_state >> bit & 1)


def _header(source: bytes, subtype: int) -> bytes:
    return SLOW_MULTICAST + source + ETH_P_SLOW.to_bytes(2, "big") + bytes((subtype, 1))


def _packed(port: PortParams) -> bytes:
    return b"".join(
        (
            port.system_priority.to_bytes(2, "big"),
            port.system,
            port.key.to_bytes(2, "big"),
            port.port_priority.to_bytes(2, "big"),
            port.port_number.to_bytes(2, "big"),
            bytes((port.port_state, 0, 0, 0)),
        )
    )


def _unpacked(frame: bytes, at: int) -> PortParams:
    return PortParams(
        int.from_bytes(frame[at : at + 2], "big"),
        frame[at + 2 : at + 8],
        int.from_bytes(frame[at + 8 : at + 10], "big"),
        int.from_bytes(frame[at + 10 : at + 12], "big"),
        int.from_bytes(frame[at + 12 : at + 14], "big"),
        frame[at + 14],
    )


def lacpdu_frame(source: bytes, pdu: Lacpdu) -> bytes:
    """The frame that carries ``pdu``, from MAC address ``source``."""
    frame = b"".join(
        (
            _header(source, SUBTYPE_LACP),
            b"\x01\x14", _packed(pdu.actor),
            b"\x02\x14", _packed(pdu.partner),
            b"\x03\x10", pdu.collector_max_delay.to_bytes(2, "big"),
        )
    )  # fmt: skip
    return frame.ljust(PDU_BYTES, b"\0")


def is_slow(frame: bytes) -> bool:
    return frame[12:14] == b"\x88\x09"


def lacpdu_from(frame: bytes, *, strict: bool = True) -> Lacpdu | None:
    """The LACPDU in a frame; None if there is none."""
    if len(frame) < PDU_BYTES or not is_slow(frame) or frame[_START] != SUBTYPE_LACP:
        return None
    if strict and (
        frame[:6] != SLOW_MULTICAST
        or not frame[_START + 1]
        or any(frame[at : at + 2] != header for at, header in _HEADERS)
    ):
        return None
    return Lacpdu(
        _unpacked(frame, _ACTOR + 2),
        _unpacked(frame, _PARTNER + 2),
        int.from_bytes(frame[_COLLECTOR + 2 : _COLLECTOR + 4], "big"),
    )


def marker_frame(source: bytes, marker: Marker) -> bytes:
    frame = b"".join(
        (
            _header(source, SUBTYPE_MARKER),
            bytes((marker.kind, 16)),
            marker.port.to_bytes(2, "big"),
            marker.system,
            marker.transaction.to_bytes(4, "big"),
        )
    )
    return frame.ljust(PDU_BYTES, b"\0")


def marker_from(frame: bytes) -> Marker | None:
    """The Marker PDU in a frame; None if there is none."""
    if len(frame) < PDU_BYTES or not is_slow(frame) or frame[_START] != SUBTYPE_MARKER:
        return None
    return Marker(
        frame[16],
        int.from_bytes(frame[18:20], "big"),
        frame[20:26],
        int.from_bytes(frame[26:30], "big"),
    )
