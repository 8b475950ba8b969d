"""The learning switch: which port a frame goes to.

Source: IEEE 802.1D and 802.1Q, transparent bridging. A source address is learned at its port and
kept for 300 s (``[lan] ageing``) after its last frame; a known destination gets the frame alone,
anything else (unknown, broadcast, multicast) goes to every other port with a link. An address whose
port goes down is forgotten at once. Addresses 01:80:C2:00:00:0x are never forwarded.

A port is a logical one: a port-channel (``nodes.lan.channel``) or a port that is in none. With
VLANs (``nodes.lan.vlan``) a key is two bytes of VLAN and the address, so that each has a table of
its own.

Left out: spanning tree, flow control; forwarding takes no time.
"""

from __future__ import annotations

from nodes.lan.page import LAN_SCHEMA, MAC_ROWS, ROW_PORT_SHIFT, ROW_VLAN_SHIFT

#: Default.
AGEING_NS = 300_000_000_000
TABLE_ENTRIES = 1024

_LEARNED = LAN_SCHEMA.index("learned")
_MOVED = LAN_SCHEMA.index("moved")
_AGED = LAN_SCHEMA.index("aged")
_FLUSHED = LAN_SCHEMA.index("flushed")
_TABLE_FULL = LAN_SCHEMA.index("table_full")
_ENTRIES = LAN_SCHEMA.index("mac_entries")
_MACS = LAN_SCHEMA.index("macs")


class Entry:
    """Where an address was seen last, and in which row of the page it stands."""

    __slots__ = ("port", "row", "seen_ns")

    def __init__(self, port: int, seen_ns: int, row: int | None) -> None:
        self.port = port
        self.seen_ns = seen_ns
        self.row = row


class MacTable:
    """Addresses of the switch; the first 64 also stand in the page."""

    def __init__(self, words: memoryview, ageing_ns: int = AGEING_NS) -> None:
        self._words = words
        self._ageing_ns = ageing_ns
        self._entries: dict[bytes, Entry] = {}
        self._free = list(range(MAC_ROWS - 1, -1, -1))

    def learn(self, address: bytes, port: int, now_ns: int) -> bool:
        """A frame from ``address`` came in at ``port``; True if that is news."""
        entry = self._entries.get(address)
        if entry is not None and entry.port == port:
            entry.seen_ns = now_ns
            if entry.row is not None:
                self._words[_MACS + 2 * entry.row + 1] = now_ns
            return False
        if entry is not None:
            self._words[_MOVED] += 1
            entry.port, entry.seen_ns = port, now_ns
        else:
            if len(self._entries) >= TABLE_ENTRIES:
                self._sweep(now_ns)
            if len(self._entries) >= TABLE_ENTRIES:
                self._words[_TABLE_FULL] += 1
                return False
            entry = Entry(port, now_ns, self._free.pop() if self._free else None)
            self._entries[address] = entry
            self._words[_LEARNED] += 1
            self._words[_ENTRIES] = len(self._entries)
        self._show(address, entry)
        return True

    def find(self, address: bytes, now_ns: int) -> int | None:
        """Port of ``address``, or None when it is unknown or too old."""
        entry = self._entries.get(address)
        if entry is None:
            return None
        if now_ns - entry.seen_ns >= self._ageing_ns:
            self._words[_AGED] += 1
            self._forget(address)
            return None
        return entry.port

    def flush(self, port: int) -> None:
        """The port went down: forget what was behind it."""
        gone = [address for address, entry in self._entries.items() if entry.port == port]
        for address in gone:
            self._words[_FLUSHED] += 1
            self._forget(address)

    def rows(self, now_ns: int) -> list[tuple[bytes, int, int]]:
        """(address, port, age in ns) of every entry that is not too old."""
        self._sweep(now_ns)
        return [(a, e.port, now_ns - e.seen_ns) for a, e in sorted(self._entries.items())]

    def _sweep(self, now_ns: int) -> None:
        old = [a for a, e in self._entries.items() if now_ns - e.seen_ns >= self._ageing_ns]
        for address in old:
            self._words[_AGED] += 1
            self._forget(address)

    def _forget(self, address: bytes) -> None:
        entry = self._entries.pop(address)
        if entry.row is not None:
            self._words[_MACS + 2 * entry.row] = 0
            self._free.append(entry.row)
        self._words[_ENTRIES] = len(self._entries)

    def _show(self, address: bytes, entry: Entry) -> None:
        if entry.row is not None:
            at = _MACS + 2 * entry.row
            self._words[at + 1] = entry.seen_ns
            vlan, mac = int.from_bytes(address[:-6], "big"), int.from_bytes(address[-6:], "big")
            self._words[at] = mac | entry.port + 1 << ROW_PORT_SHIFT | vlan << ROW_VLAN_SHIFT
