"""A receive queue, a frame that waits, and packets that take more than one buffer.

Source: 82599 datasheet 7.1.6 (advanced format), 7.1.9 (queues), 7.1.10 (header split). A packet
longer than SRRCTL.BSIZEPACKET goes on in the buffers of the next descriptors; hash and type stand
in the first descriptor, status in the last.

Header split: PSRTYPE(0) says after which headers a packet may be cut; the headers go to the
header buffer of the first descriptor, HDR_LEN and SPH tell. DESCTYPE 010 uses the header buffer
only when the whole header fits; DESCTYPE 101 always fills it. HBO: the header is longer than it.

Left out: RSC, large-packet replication (such queues work as one-buffer queues).
"""

from __future__ import annotations

from nodes.nic.dma import Dma
from nodes.nic.headers import MAC_BYTES, TCP, UDP, parse

SPLIT, SPLIT_ALWAYS = 2, 5  # SRRCTL.DESCTYPE
_PSR_TCP, _PSR_UDP, _PSR_IPV4, _PSR_IPV6, _PSR_L2 = 1 << 4, 1 << 5, 1 << 8, 1 << 9, 1 << 12
_SPH = 1 << 31
_HBO = 1 << 23
_DD = 1
#: BSIZEPACKET 0 is not allowed; such a queue gets what the register's reset value gives.
_BUFFER_BYTES = 2048


class RxQueue:
    """State of one queue; addresses are physical."""

    __slots__ = (
        "advanced", "base", "buffer_bytes", "drop_en", "enabled", "head", "header_bytes", "number",
        "size", "split", "strip", "tail",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.base = 0
        self.size = 0
        self.head = 0
        self.tail = 0
        self.enabled = False
        self.strip = False  # VLAN tags
        self.advanced = False
        self.split = 0
        self.drop_en = False
        self.buffer_bytes = _BUFFER_BYTES
        self.header_bytes = 0

    def configure(self, srrctl: int) -> None:
        """SRRCTL was written."""
        self.buffer_bytes = (srrctl & 0x1F) * 1024 or _BUFFER_BYTES
        self.header_bytes = (srrctl >> 8 & 0x3F) * 64
        kind = srrctl >> 25 & 7
        self.advanced = bool(kind)
        self.split = kind if kind in (SPLIT, SPLIT_ALWAYS) else 0
        self.drop_en = bool(srrctl >> 28 & 1)


class Waiting:
    """A frame in the packet buffer with what is known about it."""

    __slots__ = ("frame", "hashed", "kind", "marks", "queue", "tag")

    def __init__(
        self,
        frame: bytes,
        kind: int,
        queue: RxQueue,
        hashed: tuple[int, int, int],
        marks: int,
        tag: int | None,
    ) -> None:
        self.frame = frame
        self.kind = kind
        self.queue = queue
        self.hashed = hashed
        self.marks = marks
        self.tag = tag


def header_end(frame: bytes, psrtype: int) -> int:
    """Length of the headers after which PSRTYPE cuts this untagged frame; 0: it does not."""
    headers = parse(frame) if psrtype else None
    if headers is not None:
        if not headers.fragment:
            if psrtype & _PSR_TCP and headers.protocol == TCP and headers.l4 + 20 <= headers.end:
                return min(headers.l4 + (frame[headers.l4 + 12] >> 4) * 4, headers.end)
            if psrtype & _PSR_UDP and headers.protocol == UDP and headers.l4 + 8 <= headers.end:
                return headers.l4 + 8
        if psrtype & (_PSR_IPV4 if headers.version == 4 else _PSR_IPV6):
            return headers.l4
    return MAC_BYTES if psrtype & _PSR_L2 else 0


def cut(queue: RxQueue, data: bytes, tagged: bool, psrtype: int) -> tuple[int, int, int]:
    """(bytes for the header buffer, bits of the first word, bits of the status) of a packet."""
    if tagged:
        header = header_end(data[:12] + data[16:], psrtype)
        header += 4 if header else 0
    else:
        header = header_end(data, psrtype)
    room = queue.header_bytes
    over = header > room
    if queue.split == SPLIT_ALWAYS:
        kept = header if header and not over else min(len(data), room)
        told = header or kept
    elif header:
        kept, told = 0 if over else header, header
    else:
        return 0, 0, 0
    return kept, (_SPH if header else 0) | (told & 0x3FF) << 21, _HBO if over else 0


def spread(
    dma: Dma, queue: RxQueue, data: bytes, header: int, words: tuple[int, int], needed: int
) -> bool:
    """Store a packet in ``needed`` buffers, its first ``header`` bytes in the header buffer.

    Buffers and descriptors are checked before the first store, so that a refusal leaves no
    half-written packet."""
    room, front = queue.buffer_bytes, 0
    plan = []
    for i in range(needed):
        at = queue.base + (queue.head + i) % queue.size * 16
        found = dma.descriptor(at)
        part = data[header + i * room : header + (i + 1) * room]
        if found is None or not dma.writable(at, 16) or not dma.writable(found[0], len(part)):
            return False
        if i == 0 and header:
            front = found[1] & ~1
            if not dma.writable(front, header):
                return False
        plan.append((at, found[0], part))
    if header:
        dma.write(front, data[:header])
    shift = 32 if queue.advanced else 0
    not_last = _DD if queue.advanced else _DD << 32
    for i, (at, address, part) in enumerate(plan):
        dma.write(address, part)
        first = (words[0] if i == 0 else 0) if queue.advanced else address
        status = words[1] if i == needed - 1 else not_last
        dma.write_back(at, first, status | len(part) << shift)
    return True
