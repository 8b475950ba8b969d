"""Writer of pcapng files (draft-ietf-opsawg-pcapng), to a file or a stream.

What the classic format has no place for is here: several interfaces by name, each packet's
direction (``epb_flags``), nanoseconds, and at the end what each interface counted, with a comment.
All interfaces of a file have one link type and one snap length: libpcap reads no others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import BinaryIO, NamedTuple

from bus.ram import TapPacket
from orchestrator.captures.pcap import (
    LINKTYPE_ETHERNET,
    LINKTYPE_LINUX_SLL2,
    SNAPLEN,
    packet_type,
    sll2_header,
)

SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION, INTERFACE_STATISTICS, ENHANCED_PACKET = 1, 5, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D
OPT_COMMENT, OPT_END = 1, 0
SHB_HARDWARE, SHB_OS, SHB_USERAPPL = 2, 3, 4
IF_NAME, IF_DESCRIPTION, IF_TSRESOL, IF_FILTER = 2, 3, 9, 11
EPB_FLAGS = 2
ISB_IFRECV, ISB_IFDROP = 4, 5
NANOSECONDS = b"\x09"
INBOUND, OUTBOUND = 1, 2
#: Reception types of epb_flags by ``skb->pkt_type``: host, broadcast, multicast, other host.
_RECEPTION = {0: 1, 1: 3, 2: 2, 3: 4, 4: 0}


class Interface(NamedTuple):
    """One interface of a file."""

    name: str
    filter: str = ""
    description: str = ""


class PcapngWriter:
    """Appends packets; ``epoch_ns`` is what the machine's clock zero is in the time of day."""

    def __init__(
        self,
        file: BinaryIO,
        interfaces: Sequence[Interface],
        epoch_ns: int = 0,
        linktype: int = LINKTYPE_ETHERNET,
        system: str = "",
    ) -> None:
        self._file = file
        self._epoch_ns = epoch_ns
        self._cooked = linktype == LINKTYPE_LINUX_SLL2
        self._interfaces = len(interfaces)
        self.packets = 0
        head = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)
        named = [(SHB_OS, system.encode())] if system else []
        self._block(SECTION_HEADER, head, [*named, (SHB_USERAPPL, b"bottomhalf tcpdump")])
        for one in interfaces:
            options = [(IF_NAME, one.name.encode()), (IF_TSRESOL, NANOSECONDS)]
            if one.description:
                options.append((IF_DESCRIPTION, one.description.encode()))
            if one.filter:
                options.append((IF_FILTER, b"\0" + one.filter.encode()))
            self._block(INTERFACE_DESCRIPTION, struct.pack("<HHI", linktype, 0, SNAPLEN), options)

    def write(self, packet: TapPacket, interface: int = 0) -> None:
        """One packet as this interface saw it."""
        data, length = packet.data, packet.length
        if self._cooked:
            data = sll2_header(packet) + data[14:]
            length += 20 - 14
        time_ns = packet.time_ns + self._epoch_ns
        head = struct.pack(
            "<IIIII", interface, time_ns >> 32, time_ns & 0xFFFF_FFFF, len(data), length
        )
        flags = OUTBOUND if packet.outgoing else INBOUND
        flags |= _RECEPTION[packet_type(packet)] << 2
        self._block(ENHANCED_PACKET, head + _padded(data), [(EPB_FLAGS, struct.pack("<I", flags))])
        self.packets += 1

    def end(
        self, time_ns: int, received: Sequence[int], dropped: int = 0, comment: str = ""
    ) -> None:
        """What each interface counted, and a word on the whole."""
        time_ns += self._epoch_ns
        for number in range(self._interfaces):
            head = struct.pack("<III", number, time_ns >> 32, time_ns & 0xFFFF_FFFF)
            options = [
                (ISB_IFRECV, struct.pack("<Q", received[number])),
                (ISB_IFDROP, struct.pack("<Q", dropped)),
            ]
            if comment:
                options.insert(0, (OPT_COMMENT, comment.encode()))
            self._block(INTERFACE_STATISTICS, head, options)

    def flush(self) -> None:
        self._file.flush()

    def _block(self, kind: int, body: bytes, options: Iterable[tuple[int, bytes]]) -> None:
        for code, value in options:
            body += struct.pack("<HH", code, len(value)) + _padded(value)
        body += struct.pack("<HH", OPT_END, 0)
        total = len(body) + 12
        self._file.write(struct.pack("<II", kind, total) + body + struct.pack("<I", total))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
