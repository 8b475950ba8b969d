"""Writer of pcap files (the classic format: libpcap's savefile(5)), to a file or a stream.

Link types: Ethernet, and LINUX_SLL2 for captures on ``any`` (which interface, which direction).
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from bus.ram import TapPacket
from nodes.cpu.kernel.net.netdevice import LOOPBACK_IFINDEX

MAGIC_US = 0xA1B2C3D4
MAGIC_NS = 0xA1B23C4D
LINKTYPE_ETHERNET = 1
LINKTYPE_LINUX_SLL2 = 276
SNAPLEN = 262144

_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_PACKET_HOST, _PACKET_BROADCAST, _PACKET_MULTICAST = 0, 1, 2
_PACKET_OTHERHOST, _PACKET_OUTGOING = 3, 4


class PcapWriter:
    """Appends packets; ``epoch_ns`` is what the machine's clock zero is in the time of day."""

    def __init__(
        self,
        file: BinaryIO,
        epoch_ns: int = 0,
        linktype: int = LINKTYPE_ETHERNET,
        nanoseconds: bool = False,
    ) -> None:
        self._file = file
        self._epoch_ns = epoch_ns
        self._cooked = linktype == LINKTYPE_LINUX_SLL2
        self._unit_ns = 1 if nanoseconds else 1000
        self.packets = 0
        magic = MAGIC_NS if nanoseconds else MAGIC_US
        file.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, SNAPLEN, linktype))

    def write(self, packet: TapPacket) -> None:
        """One packet, with the length that it had on the wire."""
        data, length = packet.data, packet.length
        if self._cooked:
            data = sll2_header(packet) + data[14:]
            length += 20 - 14
        time_ns = packet.time_ns + self._epoch_ns
        self._file.write(
            struct.pack(
                "<IIII",
                time_ns // 1_000_000_000,
                time_ns % 1_000_000_000 // self._unit_ns,
                len(data),
                length,
            )
        )
        self._file.write(data)
        self.packets += 1

    def flush(self) -> None:
        self._file.flush()


def sll2_header(packet: TapPacket) -> bytes:
    """``struct sll2_header``: what a cooked capture keeps of the link layer."""
    frame = packet.data
    return struct.pack(
        ">2sHIHBB8s",
        frame[12:14],
        0,
        packet.ifindex,
        _ARPHRD_LOOPBACK if packet.ifindex == LOOPBACK_IFINDEX else _ARPHRD_ETHER,
        packet_type(packet),
        6,
        frame[6:12],
    )


def packet_type(packet: TapPacket) -> int:
    """``skb->pkt_type``."""
    if packet.outgoing:
        return _PACKET_OUTGOING
    if packet.other_host:
        return _PACKET_OTHERHOST
    if packet.data[:6] == b"\xff" * 6:
        return _PACKET_BROADCAST
    return _PACKET_MULTICAST if packet.data[0] & 1 else _PACKET_HOST
