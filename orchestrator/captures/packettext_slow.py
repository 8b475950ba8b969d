"""LACP and the marker protocol (IEEE 802.3 slow protocols) as tcpdump 4.99 prints them, and
Ethernet's configuration testing protocol (0x9000), the type of bonding's learning packets.
"""

from __future__ import annotations

import struct

_SUBTYPES = {1: "LACP", 2: "MARKER"}
_TLVS = {
    (1, 0): "Terminator",
    (1, 1): "Actor Information",
    (1, 2): "Partner Information",
    (1, 3): "Collector Information",
    (2, 0): "Terminator",
    (2, 1): "Marker Information",
    (2, 2): "Marker Response Information",
}
STATES = (
    "Activity", "Timeout", "Aggregation", "Synchronization", "Collecting", "Distributing",
    "Default", "Expired",
)  # fmt: skip


def slow_protocols(body: bytes, length: int, verbose: int = 0) -> str:
    """One line; with -v its TLVs, with -vv their bytes too."""
    if len(body) < 2:
        return f"[|slow] length {length}"
    subtype, version = body[0], body[1]
    name = _SUBTYPES.get(subtype)
    if name is None:
        return f"unknown (0x{subtype:02x}) (not decoded here), length {length}"
    text = f"{name}v{version}, length {length}"
    if not verbose:
        return text
    rest = body[2:]
    while len(rest) >= 2:
        kind, size = rest[0], rest[1]
        title = _TLVS.get((subtype, kind), "Unknown")
        text += f"\n\t{title} TLV (0x{kind:02x}), length {size}"
        value = rest[2:size]
        if kind == 0 or size < 2:
            break
        text += _value(subtype, kind, value)
        if verbose > 1:
            text += _bytes(value)
        rest = rest[size:]
    return text


def loopback(body: bytes, length: int) -> str:
    """A function behind so many bytes that are skipped; a learning packet has zeros there."""
    skip = int.from_bytes(body[:2], "little")
    text = "Loopback"
    if length < 2:
        return f"{text} (invalid)"
    text += f", skipCount {skip}" + (" (bogus)" if skip % 8 else "")
    if skip + 4 > length:
        return f"{text} (invalid)"
    rest, left = body[2 + skip :], length - 4 - skip
    function, value = int.from_bytes(rest[:2], "little"), rest[2:8]
    if function == 1 and left >= 2:
        number = int.from_bytes(value[:2], "little")
        return f"{text}, Reply, receipt number {number}, data ({left - 2} octets)"
    if function == 2 and left >= 6:
        where = f"forwarding address {value.hex(':')}"
        return f"{text}, Forward Data, {where}, data ({left - 6} octets)"
    names = {1: "Reply (invalid)", 2: "Forward Data (invalid)"}
    return f"{text}, {names.get(function, f' invalid ({function})')}"


def _value(subtype: int, kind: int, value: bytes) -> str:
    if subtype == 1 and kind in (1, 2) and len(value) >= 15:
        priority, system, key, port_priority, port, state = struct.unpack(">H6sHHHB", value[:15])
        flags = ", ".join(name for bit, name in enumerate(STATES) if state >> bit & 1)
        return (
            f"\n\t  System {system.hex(':')}, System Priority {priority}, Key {key}, "
            f"Port {port}, Port Priority {port_priority}"
            f"\n\t  State Flags [{flags or 'none'}]"
        )
    if subtype == 1 and kind == 3 and len(value) >= 2:
        return f"\n\t  Max Delay {int.from_bytes(value[:2], 'big')}"
    if subtype == 2 and len(value) >= 12:
        port, system, number = struct.unpack(">H6sI", value[:12])
        return (
            f"\n\t  Request System {system.hex(':')}, Request Port {port}, "
            f"Request Transaction ID 0x{number:08x}"
        )
    return ""


def _bytes(value: bytes) -> str:
    text = ""
    for at in range(0, len(value), 16):
        row = value[at : at + 16]
        pairs = " ".join(row[i : i + 2].hex() for i in range(0, len(row), 2))
        text += f"\n\t  0x{at:04x}:  {pairs}"
    return text
