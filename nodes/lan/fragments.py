"""Fragments at the gateway: put together on the way in, made on the way out (RFC 791).

A datagram that came in pieces is answered in pieces of the same size. What is not whole after 30 s,
or is the oldest when there are too many, is forgotten in silence. Overlapping pieces end their
datagram (RFC 5722's rule, which hosts follow for IPv4 too)."""

from __future__ import annotations

from nodes.checksum import checksum

TIME_NS = 30_000_000_000
DATAGRAMS_MAX = 64
DATAGRAM_BYTES_MAX = 65535
_MF, _OFFSET = 0x2000, 0x1FFF
_HEAD = 34  # Ethernet and IPv4 header


class Datagram:
    """Pieces by offset; ``end`` is 0 until the last one came."""

    def __init__(self, began_ns: int) -> None:
        self.began_ns = began_ns
        self.pieces: dict[int, bytes] = {}
        self.head = b""  # of the first piece
        self.end = 0

    def whole(self) -> bytes:
        """The payload, if no byte is missing and none is there twice."""
        if not self.head or sum(map(len, self.pieces.values())) != self.end:
            return b""
        at = 0
        for offset, data in sorted(self.pieces.items()):
            if offset != at:
                return b""
            at += len(data)
        return b"".join(data for _, data in sorted(self.pieces.items()))


class Fragments:
    """Datagrams that are on their way."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Datagram] = {}

    def take(self, frame: bytes, now_ns: int) -> tuple[bytes, int]:
        """A fragment: (frame of the whole datagram, bytes in each full piece), or nothing yet."""
        self._tidy(now_ns)
        if frame[14] != 0x45 or checksum(frame[14:_HEAD]):
            return b"", 0
        key = frame[26:34] + frame[18:20] + frame[23:24]
        datagram = self._waiting.setdefault(key, Datagram(now_ns))
        flags = frame[20] << 8 | frame[21]
        offset = (flags & _OFFSET) << 3
        data = frame[_HEAD : 14 + (frame[16] << 8 | frame[17])]
        if offset + len(data) > DATAGRAM_BYTES_MAX - 20:
            del self._waiting[key]
            return b"", 0
        datagram.pieces[offset] = data
        if not offset:
            datagram.head = frame[:_HEAD]
        if not flags & _MF:
            datagram.end = offset + len(data)
        payload = datagram.whole()
        if not payload:
            return b"", 0
        del self._waiting[key]
        head = datagram.head
        header = _header(head[14:], 0, len(payload))
        return head[:14] + header + payload, len(datagram.pieces[0])

    def _tidy(self, now_ns: int) -> None:
        for key, datagram in list(self._waiting.items()):
            if now_ns - datagram.began_ns >= TIME_NS:
                del self._waiting[key]
        while len(self._waiting) >= DATAGRAMS_MAX:
            del self._waiting[next(iter(self._waiting))]


def split(frame: bytes, size: int) -> list[bytes]:
    """The frame of a datagram in fragments with ``size`` bytes each, a multiple of eight."""
    payload = frame[_HEAD : 14 + (frame[16] << 8 | frame[17])]
    pieces = []
    for at in range(0, len(payload), size):
        data = payload[at : at + size]
        more = at + size < len(payload)
        header = _header(frame[14:_HEAD], at >> 3 | (_MF if more else 0), len(data))
        pieces.append((frame[:14] + header + data).ljust(60, b"\0"))
    return pieces


def _header(old: bytes, flags: int, length: int) -> bytes:
    """An IPv4 header with another place in its datagram."""
    start = old[:2] + (20 + length).to_bytes(2, "big") + old[4:6] + flags.to_bytes(2, "big")
    start += old[8:10]
    return start + checksum(start + old[12:20]).to_bytes(2, "big") + old[12:20]
