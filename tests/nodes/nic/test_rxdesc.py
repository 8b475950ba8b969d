"""Checksum verdicts, fragments and packet types of receive descriptors."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkData
from scapy.packet import Packet

from tests.nodes.nic.rig import MAC, PEER, Rig

UDPCS, L4CS, IPCS, UDPV = 1 << 4, 1 << 5, 1 << 6, 1 << 10
L4E, IPE = 1 << 30, 1 << 31
VERDICTS = UDPCS | L4CS | IPCS | UDPV | L4E | IPE
ETHER = Ether(src=PEER, dst=MAC)
V4 = IP(src="10.0.0.1", dst="10.0.0.2", id=0x1234)
V6 = IPv6(src="fe80::1", dst="fe80::2")
BODY = bytes(i % 255 for i in range(701))


def rig_with(srrctl: int = 0x12000402) -> tuple[Rig, int]:
    rig = Rig()
    rig.up()
    return rig, rig.rx_queue(0, 64, srrctl)[0]


def descriptor(packet: Packet | bytes, rxcsum: int = 1 << 13) -> list[int]:
    rig, ring = rig_with()
    rig.write("RXCSUM", rxcsum)
    rig.wire(bytes(packet).ljust(60, b"\0"))
    dwords = rig.dwords(ring, 0)
    assert dwords[2] & 3 == 3
    return dwords


def verdict(packet: Packet | bytes) -> int:
    return descriptor(packet)[2] & VERDICTS


def broken(packet: Packet, at: int = -1) -> bytes:
    """The packet with one byte changed, checksums as they were."""
    data = bytearray(bytes(packet))
    data[at] ^= 0x55
    return bytes(data)


PACKETS = [
    (ETHER / V4 / TCP() / BODY, IPCS | L4CS),
    (ETHER / V4 / UDP() / BODY, IPCS | L4CS | UDPCS),
    (ETHER / V4 / SCTP() / SCTPChunkData(data=BODY[:400]), IPCS | L4CS),
    (ETHER / IP(dst="10.0.0.2", options=[IPOption_Router_Alert()]) / TCP() / BODY, IPCS | L4CS),
    (ETHER / V6 / TCP() / BODY, L4CS),
    (ETHER / V6 / UDP() / BODY, L4CS | UDPCS),
    (ETHER / V6 / IPv6ExtHdrHopByHop() / UDP() / BODY, L4CS | UDPCS),
    (ETHER / Dot1Q(vlan=4) / V4 / UDP() / BODY, IPCS | L4CS | UDPCS),
]  # fmt: skip


@pytest.mark.parametrize(("packet", "good"), PACKETS)
def test_transport_sum_is_checked(packet: Packet, good: int) -> None:
    assert verdict(packet) == good
    assert verdict(broken(packet)) == good | L4E


@pytest.mark.parametrize("size", range(6))
def test_padding_does_not_count(size: int) -> None:
    assert verdict(ETHER / V4 / UDP() / BODY[:size]) == IPCS | L4CS | UDPCS
    assert verdict(ETHER / V4 / TCP() / BODY[:size]) == IPCS | L4CS


def test_bytes_behind_the_datagram_do_not_count() -> None:
    inner = bytes(V4 / UDP() / BODY)
    packet = ETHER / IP(src="10.0.0.1", dst="10.0.0.2", proto=17, len=len(inner) + 7)
    assert verdict(packet / inner[20:] / b"further") == IPCS | L4CS | UDPCS


def test_authentication_header_is_stepped_over() -> None:
    plain = bytes(V6 / TCP() / BODY)
    header = bytes((6, 4)) + bytes(22)  # 24 bytes
    packet = ETHER / IPv6(src="fe80::1", dst="fe80::2", nh=51) / (header + plain[40:])
    assert verdict(packet) == L4CS
    assert verdict(broken(packet)) == L4CS | L4E


def test_udp_without_a_sum_is_not_judged() -> None:
    assert verdict(ETHER / V4 / UDP(chksum=0) / BODY) == IPCS


def test_icmp_has_no_transport_sum_that_hardware_knows() -> None:
    assert verdict(ETHER / V4 / ICMP() / BODY) == IPCS


def test_headers_that_do_not_fit_are_not_judged() -> None:
    assert verdict(ETHER / IP(dst="10.0.0.2", len=2000) / TCP() / BODY) == IPCS
    assert verdict(ETHER / IPv6(dst="fe80::2", plen=2000) / TCP() / BODY) == 0
    assert verdict(ETHER / IP(dst="10.0.0.2", ihl=4) / TCP() / BODY) == 0
    assert verdict(ETHER / IP(dst="10.0.0.2", ihl=15, len=60) / bytes(10)) & (L4CS | L4E) == 0


def test_errors_are_counted_once_a_packet() -> None:
    rig, _ = rig_with()
    good = ETHER / V4 / TCP() / BODY
    both = bytearray(broken(good))
    both[24] ^= 1
    rig.wire(bytes(good), broken(good), bytes(both))
    assert rig.read("XEC") == 2
    assert rig.read("GPRC") == 3


def test_legacy_descriptor_has_the_same_verdicts() -> None:
    rig, ring = rig_with(0x10000002)
    packet = ETHER / V4 / UDP() / BODY
    rig.wire(bytes(packet), broken(packet))
    status = [rig.dwords(ring, i)[3] & 0xFFFF for i in range(2)]
    assert status == [0x0073, 0x4073]


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        (ETHER / V4 / TCP() / BODY, 0x110),
        (ETHER / V4 / SCTP() / SCTPChunkData(data=b"1234"), 0x410),
        (ETHER / IP(options=[IPOption_Router_Alert()]) / UDP(), 0x230),
        (ETHER / V6 / TCP(), 0x140),
        (ETHER / V6 / IPv6ExtHdrHopByHop() / UDP(), 0x2C0),
        (ETHER / V6 / IPv6ExtHdrFragment(m=1) / UDP() / BODY[:96], 0x0C0),
        (ETHER / IP(flags="MF") / UDP() / BODY[:96], 0x010),
        (ETHER / IP(proto=50) / BODY, 0x1010),
    ],
)
def test_packet_type(packet: Packet, kind: int) -> None:
    assert descriptor(packet)[0] & 0xFFF0 == kind


def test_without_pcsd_the_ip_identification_stands_in_for_the_hash() -> None:
    assert descriptor(ETHER / V4 / TCP() / BODY, 0)[1] == 0x1234
    assert descriptor(ETHER / V6 / TCP() / BODY, 0)[1] == 0


def test_fragment_sums_add_up_to_the_datagrams_checksum() -> None:
    """What the feature is for: software adds the fragments' sums and the pseudo header."""
    whole = V4 / UDP(sport=5, dport=6) / BODY
    parts = fragment(IP(bytes(whole)), fragsize=200)
    assert len(parts) > 2
    total = 0
    for number, part in enumerate(parts):
        dwords = descriptor(ETHER / part, 1 << 12)
        assert dwords[1] & 0xFFFF == 0x1234
        total += dwords[1] >> 16
        assert dwords[2] & (UDPCS | L4CS | IPCS) == UDPCS | IPCS
        assert bool(dwords[2] & UDPV) == (number == 0)
    total += 0x0A00 + 0x0001 + 0x0A00 + 0x0002 + 17 + len(bytes(whole)) - 20
    assert total % 0xFFFF == 0


def test_fragments_are_left_alone_with_pcsd() -> None:
    part = fragment(V4 / UDP() / BODY, fragsize=200)[0]
    assert descriptor(ETHER / part, 1 << 12 | 1 << 13)[1:2] == [0]
    assert verdict(ETHER / part) == IPCS


def test_legacy_descriptor_has_the_fragment_sum() -> None:
    rig, ring = rig_with(0x10000002)
    rig.write("RXCSUM", 1 << 12)
    part = fragment(V4 / UDP() / BODY, fragsize=200)[1]
    rig.wire(bytes(ETHER / part))
    want = descriptor(ETHER / part, 1 << 12)[1] >> 16
    assert rig.dwords(ring, 0)[2] == want << 16 | 234
