"""Checksum insertion and VLAN tags on transmit; scapy judges the frames."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet

from nodes.nic.page import TX_DROPS
from tests.nodes.nic.offloads import (
    ALL,
    DEXT,
    EOP,
    ETHER,
    IC,
    IFCS,
    IXSM,
    RS,
    SCTP_L4,
    TCP_L4,
    TXSM,
    UDP_L4,
    VLE,
    partial,
    put_context,
    put_data,
    rebuilt,
    rig_with,
)
from tests.nodes.nic.rig import Rig, frame


def sent(packet: bytes, popts: int, kind: int, ip: int = 20, ipv4: bool = True) -> bytes:
    """The frame that leaves when ``packet`` asks for ``popts``."""
    rig, ring, buffers = rig_with()
    put_context(rig, ring, 0, ip, 0, kind=kind, ipv4=ipv4)
    put_data(rig, ring, 1, buffers, packet, popts)
    (out,) = rig.frames(rig.write("TDT", 2))
    assert rig.drops(TX_DROPS) == {}
    return out


@pytest.mark.parametrize("size", [0, 1, 2, 37, 1000, 1441, 1460])
@pytest.mark.parametrize("kind", [TCP, UDP])
def test_checksums_of_ipv4_are_those_that_scapy_makes(kind: type[Packet], size: int) -> None:
    body = bytes(i % 253 for i in range(size))
    packet = ETHER / IP(src="10.1.2.3", dst="10.4.5.6", chksum=0xDEAD) / kind(dport=5000) / body
    l4 = TCP_L4 if kind is TCP else UDP_L4
    out = sent(partial(packet), IXSM | TXSM, l4)
    assert out[: len(bytes(packet))] == rebuilt(bytes(packet))


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_checksums_of_ipv6_are_those_that_scapy_makes(kind: type[Packet]) -> None:
    packet = ETHER / IPv6(src="fe80::1", dst="fe80::2") / kind(dport=5000) / (b"abc" * 33)
    l4 = TCP_L4 if kind is TCP else UDP_L4
    assert sent(partial(packet), TXSM, l4, ip=40, ipv4=False) == rebuilt(bytes(packet))


def test_transport_header_behind_options_and_extensions() -> None:
    packet = ETHER / IP(dst="10.0.0.1", options=[IPOption_Router_Alert()]) / UDP() / (b"o" * 50)
    assert sent(partial(packet), IXSM | TXSM, UDP_L4, ip=24) == rebuilt(bytes(packet))
    packet = ETHER / IPv6(dst="fe80::2") / IPv6ExtHdrDestOpt() / TCP() / (b"e" * 50)
    assert sent(partial(packet), TXSM, TCP_L4, ip=48, ipv4=False) == rebuilt(bytes(packet))


def test_sctp_gets_its_crc() -> None:
    packet = ETHER / IP(dst="10.0.0.1") / SCTP(chksum=0x01020304) / SCTPChunkData(data=b"d" * 60)
    assert sent(bytes(packet), IXSM | TXSM, SCTP_L4) == rebuilt(bytes(packet))


def test_only_what_is_asked_for_is_inserted() -> None:
    packet = ETHER / IP(dst="10.0.0.1", chksum=1) / UDP(chksum=0x1234) / (b"o" * 50)
    data = bytes(packet)
    assert sent(data, IXSM, UDP_L4)[40:42] == b"\x12\x34"
    assert sent(data, TXSM, UDP_L4)[24:26] == b"\0\1"


def test_udp_sum_of_zero_is_sent_as_ones() -> None:
    packet = ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / bytes(20)
    data = bytearray(partial(packet))
    total = int.from_bytes(rebuilt(bytes(packet))[40:42], "big")
    data[42:44] = total.to_bytes(2, "big")  # the sum of all words becomes FFFF
    assert sent(bytes(data), TXSM, UDP_L4)[40:42] == b"\xff\xff"


def test_contexts_stay_in_their_slots() -> None:
    rig, ring, buffers = rig_with()
    over_udp = ETHER / IP(dst="10.0.0.1") / UDP() / (b"u" * 50)
    over_tcp = ETHER / IP(dst="10.0.0.1", options=[IPOption_Router_Alert()]) / TCP() / (b"t" * 50)
    put_context(rig, ring, 0, 20, 0, kind=UDP_L4, slot=0)
    put_context(rig, ring, 1, 24, 0, kind=TCP_L4, slot=1)
    for i, (packet, slot) in enumerate([(over_tcp, 1), (over_udp, 0), (over_tcp, 1)]):
        put_data(rig, ring, 2 + i, buffers + i * 4096, partial(packet), IXSM | TXSM, slot=slot)
    frames = rig.frames(rig.write("TDT", 5))
    assert frames == [rebuilt(bytes(p)) for p in (over_tcp, over_udp, over_tcp)]


def test_context_is_never_written_back() -> None:
    rig, ring, buffers = rig_with()
    put_context(rig, ring, 0, 20, 0, command=DEXT | RS)
    put_data(rig, ring, 1, buffers, frame())
    rig.write("TDT", 2)
    assert not rig.done(ring, 0)
    assert rig.done(ring, 1)


def test_first_descriptor_of_a_packet_decides() -> None:
    rig, ring, buffers = rig_with()
    packet = ETHER / IP(dst="10.0.0.1") / UDP() / (b"u" * 50)
    data = partial(packet)
    put_context(rig, ring, 0, 20, 0, kind=UDP_L4)
    put_data(rig, ring, 1, buffers, data[:30], IXSM | TXSM, IFCS | DEXT)
    put_data(rig, ring, 2, buffers + 4096, data[30:], 0, EOP | RS | DEXT)
    assert rig.frames(rig.write("TDT", 3)) == [rebuilt(bytes(packet))]


@pytest.mark.parametrize("size", [20, 60, 1500])
def test_tag_of_the_context_is_inserted(size: int) -> None:
    rig, ring, buffers = rig_with()
    data = frame(size)
    put_context(rig, ring, 0, 0, 0, vlan=5 << 13 | 77)
    put_data(rig, ring, 1, buffers, data, 0, ALL | VLE)
    (out,) = rig.frames(rig.write("TDT", 2))
    tagged = Ether(out)[Dot1Q]
    assert (tagged.vlan, tagged.prio, tagged.type) == (77, 5, 0x88B5)
    assert out[:12] + out[16 : size + 4] == data
    assert len(out) == max(60, size + 4)


def test_tag_and_checksums_together_and_the_tag_type() -> None:
    rig, ring, buffers = rig_with()
    rig.write("DMATXCTL", 0x88A8_0001)
    packet = ETHER / IP(dst="10.0.0.1") / TCP() / (b"u" * 50)
    put_context(rig, ring, 0, 20, 0, vlan=9)
    put_data(rig, ring, 1, buffers, partial(packet), IXSM | TXSM, ALL | VLE)
    (out,) = rig.frames(rig.write("TDT", 2))
    assert out[12:16] == b"\x88\xa8\0\x09"
    assert out[:12] + out[16:] == rebuilt(bytes(packet))


def test_checksums_behind_a_tag_in_the_buffer() -> None:
    packet = ETHER / Dot1Q(vlan=3) / IP(dst="10.0.0.1") / TCP() / (b"u" * 50)
    rig, ring, buffers = rig_with()
    put_context(rig, ring, 0, 20, 0, mac=18)
    put_data(rig, ring, 1, buffers, partial(packet), IXSM | TXSM)
    assert rig.frames(rig.write("TDT", 2)) == [rebuilt(bytes(packet))]


def put_legacy(
    rig: Rig, ring: int, buffer: int, data: bytes, command: int, cso: int, css: int, tag: int = 0
) -> None:
    rig.ram.bytes[buffer : buffer + len(data)] = data
    rig.ram.words64[ring // 8] = buffer
    rig.ram.words64[ring // 8 + 1] = len(data) | cso << 16 | command << 24 | css << 40 | tag << 48


def test_legacy_checksum_and_tag() -> None:
    rig, ring, buffers = rig_with()
    packet = ETHER / IP(dst="10.0.0.1") / TCP() / (b"u" * 51)
    put_legacy(rig, ring, buffers, partial(packet), EOP | IFCS | IC | RS | VLE, 50, 34, 1 << 13 | 8)
    (out,) = rig.frames(rig.write("TDT", 1))
    assert out[12:16] == b"\x81\0\x20\x08"
    assert out[:12] + out[16:] == rebuilt(bytes(packet))


@pytest.mark.parametrize(("cso", "css"), [(255, 34), (50, 255)])
def test_legacy_checksum_outside_the_packet_is_not_inserted(cso: int, css: int) -> None:
    rig, ring, buffers = rig_with()
    put_legacy(rig, ring, buffers, frame(100), EOP | IFCS | IC | RS, cso, css)
    assert rig.frames(rig.write("TDT", 1)) == [frame(100)]


@pytest.mark.parametrize(
    ("lengths", "popts", "command"),
    [
        ({"ip": 8, "l4": 0}, IXSM, ALL),
        ({"ip": 400, "l4": 0}, IXSM, ALL),
        ({"ip": 480, "l4": 0}, TXSM, ALL),
        ({"ip": 20, "l4": 0, "kind": 3}, TXSM, ALL),
        ({"ip": 0, "l4": 0, "mac": 0}, TXSM, ALL),
        ({"ip": 20, "l4": 0}, TXSM, ALL & ~IFCS),
        ({"ip": 20, "l4": 0}, 4, ALL),  # IPsec
    ],
)
def test_context_that_does_not_fit_costs_the_packet_only(
    lengths: dict[str, int], popts: int, command: int
) -> None:
    rig, ring, buffers = rig_with()
    put_context(rig, ring, 0, **lengths)
    put_data(rig, ring, 1, buffers, frame(100), popts, command)
    put_data(rig, ring, 2, buffers + 4096, frame(90))
    assert rig.frames(rig.write("TDT", 3)) == [frame(90)]
    assert rig.drops(TX_DROPS) == {"tx_drop_offload": 1}
    assert rig.done(ring, 1)


def test_offload_without_any_context_is_dropped() -> None:
    rig, ring, buffers = rig_with()
    put_data(rig, ring, 0, buffers, frame(100), IXSM)
    assert rig.frames(rig.write("TDT", 1)) == []
    assert rig.drops(TX_DROPS) == {"tx_drop_offload": 1}


def test_contexts_are_forgotten_when_the_queue_starts_anew() -> None:
    rig, ring, buffers = rig_with()
    put_context(rig, ring, 0, 20, 0)
    rig.write("TDT", 1)
    rig.write("TXDCTL", 0)
    rig.write("TXDCTL", 1 << 25)
    packet = ETHER / IP(dst="10.0.0.1") / ICMP()
    put_data(rig, ring, 1, buffers, bytes(packet), IXSM)
    assert rig.frames(rig.write("TDT", 2)) == []
    assert rig.drops(TX_DROPS) == {"tx_drop_offload": 1}


def test_without_txcrcen_the_buffer_brings_the_fcs() -> None:
    rig, ring, buffers = rig_with()
    rig.write("HLREG0", rig.read("HLREG0") & ~1)
    put_data(rig, ring, 0, buffers, frame(100))
    assert rig.frames(rig.write("TDT", 1)) == []
    assert rig.drops(TX_DROPS) == {"tx_drop_fcs": 1}
