"""Header split: which bytes go to which buffer, and how the descriptor tells."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from tests.nodes.nic.rig import MAC, PEER, Rig, frame

TCP_SPLIT, UDP_SPLIT, IPV4_SPLIT, IPV6_SPLIT, L2_SPLIT = 1 << 4, 1 << 5, 1 << 8, 1 << 9, 1 << 12
SPLIT, ALWAYS = 2, 5
SPH, HBO = 1 << 31, 1 << 23
BODY = bytes(i % 255 for i in range(1000))
ETHER = Ether(src=PEER, dst=MAC)
TCP4 = ETHER / IP(dst="10.0.0.2") / TCP() / BODY


def received(
    packet: Packet | bytes, psrtype: int, kind: int = SPLIT, units: int = 4, strip: bool = False
) -> tuple[bytes, bytes, list[int]]:
    """(header buffer, packet buffer, descriptor); ``units`` of 64 bytes is the header buffer."""
    rig = Rig()
    rig.up()
    ring, buffers = rig.rx_queue(0, 64, 0x10000002 | kind << 25 | units << 8, fill=False)
    if strip:
        rig.write("RXDCTL", 0x42000000)
    header = rig.map(4096)
    rig.ram.words64[ring // 8 + 1] = header
    rig.write("PSRTYPE", psrtype)
    rig.write("RDT", 8)
    rig.wire(bytes(packet))
    dwords = rig.dwords(ring, 0)
    assert dwords[2] & 3 == 3
    told = dwords[0] >> 21 & 0x3FF
    front = bytes(rig.ram.bytes[header : header + units * 64])
    back = bytes(rig.ram.bytes[buffers : buffers + (dwords[3] & 0xFFFF)])
    return front[:told], back, dwords


@pytest.mark.parametrize(
    ("packet", "psrtype", "size"),
    [
        (TCP4, TCP_SPLIT, 54),
        (TCP4, TCP_SPLIT | IPV4_SPLIT, 54),
        (TCP4, UDP_SPLIT | IPV4_SPLIT, 34),
        (TCP4, L2_SPLIT, 14),
        (ETHER / IP(dst="10.0.0.2") / UDP() / BODY, UDP_SPLIT, 42),
        (ETHER / IPv6(dst="fe80::2") / TCP(options=[("MSS", 9)]) / BODY, TCP_SPLIT, 78),
        (ETHER / IPv6(dst="fe80::2") / UDP() / BODY, IPV6_SPLIT, 54),
        (ETHER / IP(dst="10.0.0.2", flags="MF") / TCP() / BODY, TCP_SPLIT | IPV4_SPLIT, 34),
        (ETHER / Dot1Q(vlan=3) / IP(dst="10.0.0.2") / TCP() / BODY, TCP_SPLIT, 58),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [SPLIT, ALWAYS])
def test_packet_is_cut_behind_the_chosen_header(
    packet: Packet, psrtype: int, size: int, kind: int
) -> None:
    data = bytes(packet)
    front, back, dwords = received(packet, psrtype, kind)
    assert (front, back) == (data[:size], data[size:])
    assert dwords[0] & SPH
    assert not dwords[2] & HBO


def test_stripped_tag_does_not_move_the_cut() -> None:
    packet = ETHER / Dot1Q(vlan=3) / IP(dst="10.0.0.2") / TCP() / BODY
    front, back, _ = received(packet, TCP_SPLIT, strip=True)
    data = bytes(packet)
    assert (front, back) == (data[:12] + data[16:58], data[58:])


def test_packet_without_such_a_header_is_not_cut() -> None:
    data = frame(300)
    assert received(data, TCP_SPLIT)[:2] == (b"", data)
    assert received(data, 0)[:2] == (b"", data)


def test_header_longer_than_its_buffer() -> None:
    packet = ETHER / IPv6(dst="fe80::2") / TCP() / BODY  # 74 bytes of headers
    data = bytes(packet)
    _, back, dwords = received(packet, TCP_SPLIT, SPLIT, units=1)
    assert back == data
    assert dwords[0] >> 21 == 1 << 10 | 74
    assert dwords[2] & HBO
    front, back, dwords = received(packet, TCP_SPLIT, ALWAYS, units=1)
    assert (front, back) == (data[:64], data[64:])
    assert dwords[0] >> 21 == 1 << 10 | 74
    assert dwords[2] & HBO


def test_always_split_fills_the_header_buffer_with_what_it_does_not_know() -> None:
    data = frame(300)
    front, back, dwords = received(data, TCP_SPLIT, ALWAYS, units=2)
    assert (front, back) == (data[:128], data[128:])
    assert not dwords[0] & SPH
    front, back, dwords = received(frame(100), TCP_SPLIT, ALWAYS, units=2)
    assert (front, back) == (frame(100), b"")
    assert dwords[3] & 0xFFFF == 0


def test_packet_with_an_error_is_not_cut() -> None:
    rig = Rig()
    rig.up()
    rig.write("FCTRL", 1 << 1 | 1 << 9)  # SBP, UPE
    ring, _ = rig.rx_queue(0, 64, 0x14000402, fill=False)
    rig.write("PSRTYPE", L2_SPLIT)
    rig.ram.words64[ring // 8 + 1] = rig.ram.words64[ring // 8 + 3] = rig.map(4096)
    rig.write("RDT", 8)
    rig.wire(frame(40), frame(60))
    assert [rig.dwords(ring, i)[3] & 0xFFFF for i in range(2)] == [40, 46]


def test_header_buffer_outside_the_windows_is_refused() -> None:
    rig = Rig()
    rig.up()
    ring, _ = rig.rx_queue(0, 64, 0x14000402, fill=False)
    rig.write("PSRTYPE", TCP_SPLIT)
    rig.ram.words64[ring // 8 + 1] = rig.ram.layout.logs & ~1
    rig.write("RDT", 8)
    rig.wire(bytes(TCP4))
    assert sum(rig.page.run("rx_drop_dma")) == 1
    assert rig.read("RDH") == 0


def test_rest_of_a_split_jumbo_frame_goes_on_in_the_next_buffers() -> None:
    rig = Rig()
    rig.up()
    ring, buffers = rig.rx_queue(0, 64, 0x14000402, fill=False)
    rig.write("HLREG0", rig.read("HLREG0") | 4)
    rig.write("MAXFRS", 9732 << 16)
    rig.write("PSRTYPE", TCP_SPLIT)
    header = rig.map(4096)
    rig.ram.words64[ring // 8 + 1] = header
    rig.write("RDT", 8)
    data = bytes(ETHER / IP(dst="10.0.0.2") / TCP() / (BODY * 5))
    rig.wire(data)
    assert bytes(rig.ram.bytes[header : header + 54]) == data[:54]
    assert bytes(rig.ram.bytes[buffers : buffers + 5000]) == data[54:]
    assert [rig.dwords(ring, i)[3] & 0xFFFF for i in range(3)] == [2048, 2048, 904]
    assert [rig.dwords(ring, i)[0] >> 21 & 0x3FF for i in range(3)] == [54, 0, 0]
