"""Packets as taps saw them: a ring for each CPU, and the LAN's, whose ports are tapped on demand.

The model of packet(7)'s PACKET_RX_RING, turned round: the writer never waits and never drops the
new for the old, and a reader finds out by the numbers of the slots what it was too slow for. A CPU
is told by messages who captures; the LAN, which has no kernel to be asked, looks at the claims.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from bus.ram.layout import TAP_SLOT_BYTES, TAP_SLOTS


class TapPacket(NamedTuple):
    """A frame as a tap saw it. ``length`` is the frame's, ``data`` may be shorter (snaplen)."""

    time_ns: int
    ifindex: int
    outgoing: bool
    length: int
    sessions: int  # bit n: session n wanted it
    data: bytes
    other_host: bool = False  # unicast, but not to the address of the device that took it


class TapRing:
    """Packet ring of one CPU: overwrites the oldest; a reader sees by the numbers what it lost."""

    def __init__(self, words: memoryview, data: memoryview) -> None:
        self._words = words
        self._data = data

    def append(
        self,
        time_ns: int,
        ifindex: int,
        outgoing: bool,
        sessions: int,
        frame: bytes,
        snaplen: int,
        other_host: bool = False,
    ) -> None:
        count: int = self._words[0]
        at = count % TAP_SLOTS * TAP_SLOT_BYTES
        data = frame[: min(snaplen, TAP_SLOT_BYTES - 32)]
        head = (
            time_ns.to_bytes(8, "little")
            + (ifindex | outgoing << 16 | other_host << 17 | sessions << 32).to_bytes(8, "little")
            + (len(frame) | len(data) << 32).to_bytes(8, "little")
            + count.to_bytes(8, "little")
        )
        self._data[at : at + 32 + len(data)] = head + data
        self._words[0] = count + 1

    @property
    def count(self) -> int:
        """Packets ever written."""
        value: int = self._words[0]
        return value

    def read(self, since: int) -> tuple[list[TapPacket], int, int]:
        """Packets from number ``since`` on: (packets, next number, packets overwritten unread)."""
        count = self.count
        first = max(since, count - TAP_SLOTS + 1)
        lost = first - since
        packets = []
        for number in range(first, count):
            at = number % TAP_SLOTS * TAP_SLOT_BYTES
            slot = bytes(self._data[at : at + TAP_SLOT_BYTES])
            if self.count - number >= TAP_SLOTS or int.from_bytes(slot[24:32], "little") != number:
                lost += 1
                continue
            meta = int.from_bytes(slot[8:16], "little")
            sizes = int.from_bytes(slot[16:24], "little")
            packets.append(
                TapPacket(
                    int.from_bytes(slot[0:8], "little"),
                    meta & 0xFFFF,
                    bool(meta >> 16 & 1),
                    sizes & 0xFFFF_FFFF,
                    meta >> 32,
                    slot[32 : 32 + (sizes >> 32)],
                    bool(meta >> 17 & 1),
                )
            )
        return packets, count, lost

    # The LAN's ring: which ports are tapped is said here, by who captures.

    @property
    def ports(self) -> int:
        """Bit n: somebody captures at port n."""
        value: int = self._words[1]
        return value

    def claim(self, ports: int, owner: int) -> int | None:
        """Capture at these ports; the claim's number, or None when all are taken. ``owner`` is a
        process: what a dead one left is cleared away by the next that claims."""
        words = self._words
        for number in range(2, 8):
            if words[number] and not _alive(words[number] >> 32):
                words[number] = 0
        for number in range(2, 8):
            if not words[number]:
                words[number] = owner << 32 | ports
                self._publish_ports()
                return number
        return None

    def release(self, claim: int) -> None:
        self._words[claim] = 0
        self._publish_ports()

    def _publish_ports(self) -> None:
        ports = 0
        for number in range(2, 8):
            ports |= self._words[number] & 0xFFFF_FFFF
        self._words[1] = ports


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
