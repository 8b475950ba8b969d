"""Packets for the transmit offloads, and scapy as the judge of what comes out."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

from tests.nodes.nic.rig import MAC, PEER, Rig

EOP, IFCS, IC, RS, DEXT, VLE, TSE = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x80
ALL = EOP | IFCS | RS | DEXT
IXSM, TXSM = 1, 2
UDP_L4, TCP_L4, SCTP_L4 = 0, 1, 2
ETHER = Ether(src=MAC, dst=PEER)


def rig_with(ring_entries: int = 512, buffer_bytes: int = 1 << 20) -> tuple[Rig, int, int]:
    """(rig, ring, buffers) with the transmitter of queue 0 on."""
    rig = Rig()
    rig.up()
    ring = rig.tx_queue(0, ring_entries)
    rig.write("DMATXCTL", 0x8100_0001)
    return rig, ring, rig.map(buffer_bytes)


def put_context(
    rig: Rig,
    ring: int,
    index: int,
    ip: int,
    l4: int,
    mac: int = 14,
    kind: int = TCP_L4,
    ipv4: bool = True,
    mss: int = 0,
    vlan: int = 0,
    slot: int = 0,
    command: int = DEXT,
) -> None:
    """A context descriptor; lengths in bytes."""
    at = ring // 8 + 2 * index
    rig.ram.words64[at] = ip | mac << 9 | vlan << 16
    rig.ram.words64[at + 1] = (
        ipv4 << 10 | kind << 11 | 2 << 20 | command << 24 | slot << 36 | l4 << 40 | mss << 48
    )


def put_data(
    rig: Rig,
    ring: int,
    index: int,
    buffer: int,
    data: bytes,
    popts: int = 0,
    command: int = ALL,
    payload: int | None = None,
    slot: int = 0,
) -> None:
    """A data descriptor; ``payload`` goes into PAYLEN."""
    rig.ram.bytes[buffer : buffer + len(data)] = data
    high = slot << 4 | popts << 8 | (len(data) if payload is None else payload) << 14
    at = ring // 8 + 2 * index
    rig.ram.words64[at] = buffer
    rig.ram.words64[at + 1] = len(data) | 3 << 20 | command << 24 | high << 32


def rebuilt(frame: bytes) -> bytes:
    """The frame with all lengths and checksums made anew by scapy."""
    packet: Packet = Ether(frame)
    for layer, fields in (
        (IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)),
        (UDP, ("len", "chksum")), (SCTP, ("chksum",)),
    ):  # fmt: skip
        if layer in packet:
            for field in fields:
                delattr(packet[layer], field)
    return bytes(packet)


def partial(packet: Packet, with_length: bool = True) -> bytes:
    """The packet as Linux hands it down: the pseudo header's sum in the transport checksum."""
    data = bytearray(bytes(packet))
    inner = packet[IP] if IP in packet else packet[IPv6]
    l4 = next(packet[kind] for kind in (TCP, UDP) if kind in packet)
    length = len(bytes(l4))
    if IP in packet:
        addresses = bytes(inner)[12:20]
        offset = 14 + len(bytes(inner)) - length
    else:
        addresses = bytes(inner)[8:40]
        offset = 14 + len(bytes(inner)) - length
    offset += 4 * (bytes(packet)[12:14] == b"\x81\x00")
    protocol = 6 if TCP in packet else 17
    total = sum(int.from_bytes(addresses[i : i + 2], "big") for i in range(0, len(addresses), 2))
    total += protocol + (length if with_length else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    at = offset + (16 if protocol == 6 else 6)
    data[at : at + 2] = total.to_bytes(2, "big")
    return bytes(data)
