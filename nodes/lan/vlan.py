"""VLANs of the switch's ports: tags on the way in and on the way out.

Source: IEEE 802.1Q. Inside the switch a frame is untagged and belongs to a VLAN. An access port
has a native VLAN and no other: what comes without a tag (or with VLAN 0) belongs to it, a tag of
another VLAN is dropped. A trunk also carries its listed VLANs, with a tag. Addresses are learned
for each VLAN by itself: the table's key is the VLAN and the address.

Left out: priorities (a tag that is put on has priority 0), double tags, GVRP.
"""

from __future__ import annotations

from collections.abc import Mapping

from nodes.machine import PortSettings

TAG = b"\x81\x00"
MIN_FRAME = 60
DEFAULT_VLAN = 1


class Vlans:
    """``ports`` by number; a port that is not listed is an access port of VLAN 1."""

    def __init__(self, ports: Mapping[int, PortSettings], count: int) -> None:
        plain = PortSettings("", DEFAULT_VLAN)
        listed = [ports.get(port, plain) for port in range(count)]
        self._native = [port.native for port in listed]
        self._trunk = [frozenset(port.trunk) for port in listed]

    def enter(self, port: int, frame: bytes) -> tuple[int, bytes]:
        """(VLAN, frame without tag); VLAN 0: the port does not carry it."""
        vid = 0
        if frame[12:14] == TAG:
            vid = int.from_bytes(frame[14:16], "big") & 0xFFF
            frame = (frame[:12] + frame[16:]).ljust(MIN_FRAME, b"\0")
        if not vid:
            return self._native[port], frame
        return (vid if self.carries(port, vid) else 0), frame

    def carries(self, port: int, vid: int) -> bool:
        return vid == self._native[port] or vid in self._trunk[port]

    def leave(self, port: int, vid: int, frame: bytes) -> bytes:
        """The frame as it goes out of a port that carries ``vid``."""
        if vid == self._native[port]:
            return frame
        return frame[:12] + TAG + vid.to_bytes(2, "big") + frame[12:]
