"""RSS: Microsoft's verification vectors, queue choice, what is not hashed."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    HAO,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from tests.nodes.nic.rig import MAC, PEER, Rig

KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)
OLD_IXGBE_KEY = bytes.fromhex(
    "3dd791e26cec05180db3942aec2b4fa57caf49ea3dad14e2beaa55b8ea673e6a174d36140d20ed3b"
)
V4 = [
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
]
V6 = [
    ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    (
        "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024,
        0x4B61E985, 0x02D1FEEF,
    ),
]  # fmt: skip
ALL_FIELDS = 1 << 16 | 1 << 17 | 1 << 20 | 1 << 21


def rig_with(
    queues: int = 4, mrqc: int = 1 | ALL_FIELDS, key: bytes = KEY
) -> tuple[Rig, list[int]]:
    rig = Rig(cpus=4)
    rig.up(queues=queues)
    rings = [rig.rx_queue(q, entries=64)[0] for q in range(queues)]
    for i in range(10):
        rig.write("RSSRK", int.from_bytes(key[4 * i : 4 * i + 4], "little"), i)
    for i in range(32):
        rig.write("RETA", sum((4 * i + k) % queues << 8 * k for k in range(4)), i)
    rig.write("RXCSUM", 1 << 13)
    rig.write("MRQC", mrqc)
    return rig, rings


def where(rig: Rig, rings: list[int]) -> tuple[int, int, int]:
    """(queue, hash, type) of the only frame received."""
    found = []
    for queue, ring in enumerate(rings):
        dwords = rig.dwords(ring, 0)
        if dwords[2] & 1:
            found.append((queue, dwords[1], dwords[0] & 0xF))
    assert len(found) == 1
    return found[0]


@pytest.mark.conformance("H10-1")
@pytest.mark.parametrize("vector", V4)
def test_ipv4_vectors(vector: tuple[str, int, str, int, int, int]) -> None:
    source, sport, target, dport, pair, ports = vector
    head = Ether(src=PEER, dst=MAC) / IP(src=source, dst=target)
    rig, rings = rig_with()
    rig.wire(bytes(head / UDP(sport=sport, dport=dport) / (b"x" * 40)))
    assert where(rig, rings) == ((pair & 127) % 4, pair, 2)
    rig, rings = rig_with()
    rig.wire(bytes(head / TCP(sport=sport, dport=dport) / (b"x" * 40)))
    assert where(rig, rings) == ((ports & 127) % 4, ports, 1)


@pytest.mark.conformance("H10-1")
@pytest.mark.parametrize("vector", V6)
def test_ipv6_vectors(vector: tuple[str, int, str, int, int, int]) -> None:
    source, sport, target, dport, pair, ports = vector
    head = Ether(src=PEER, dst=MAC) / IPv6(src=source, dst=target)
    rig, rings = rig_with()
    rig.wire(bytes(head / UDP(sport=sport, dport=dport) / (b"x" * 40)))
    assert where(rig, rings) == ((pair & 127) % 4, pair, 5)
    rig, rings = rig_with()
    rig.wire(bytes(head / TCP(sport=sport, dport=dport) / (b"x" * 40)))
    assert where(rig, rings) == ((ports & 127) % 4, ports, 3)


@pytest.mark.parametrize(
    ("key", "source", "target", "expected"),
    [
        (OLD_IXGBE_KEY, "192.168.1.1", "192.168.1.10", 0x573579F3),
        (KEY, "192.168.1.1", "192.168.1.10", 0x636A35F7),
        (OLD_IXGBE_KEY, "10.0.0.2", "10.0.0.1", 0xC0BEBA6D),
        (KEY, "10.0.0.1", "10.0.0.2", 0x02B7C9B1),
    ],
)
def test_echo_is_hashed_over_the_address_pair(
    key: bytes, source: str, target: str, expected: int
) -> None:
    rig, rings = rig_with(key=key)
    rig.wire(
        bytes(Ether(src=PEER, dst=MAC) / IP(src=source, dst=target) / ICMP(type=0) / (b"x" * 40))
    )
    assert where(rig, rings) == ((expected & 127) % 4, expected, 2)


def test_tcp_with_only_the_address_field_enabled_reports_type_2() -> None:
    rig, rings = rig_with(mrqc=1 | 1 << 17)
    source, sport, target, dport, pair, _ = V4[0]
    rig.wire(
        bytes(
            Ether(src=PEER, dst=MAC)
            / IP(src=source, dst=target)
            / TCP(sport=sport, dport=dport)
            / (b"x" * 40)
        )
    )
    assert where(rig, rings) == ((pair & 127) % 4, pair, 2)


UDP4, TCP6_EXT, IP6_EXT, UDP6, UDP6_EXT = 1 << 22, 1 << 18, 1 << 19, 1 << 23, 1 << 24


@pytest.mark.parametrize("vector", V4)
def test_udp_is_hashed_over_its_ports_when_the_field_says_so(
    vector: tuple[str, int, str, int, int, int],
) -> None:
    source, sport, target, dport, pair, ports = vector
    head = Ether(src=PEER, dst=MAC) / IP(src=source, dst=target)
    packet = head / UDP(sport=sport, dport=dport) / (b"x" * 40)
    rig, rings = rig_with(mrqc=1 | ALL_FIELDS | UDP4)
    rig.wire(bytes(packet))
    assert where(rig, rings) == ((ports & 127) % 4, ports, 7)
    packet[IP].flags = "MF"
    rig, rings = rig_with(mrqc=1 | ALL_FIELDS | UDP4)
    rig.wire(bytes(packet))
    assert where(rig, rings) == ((pair & 127) % 4, pair, 2)


def hashed6(
    mrqc: int, extensions: Packet | None, l4: Packet, inside: bool = False
) -> tuple[int, int]:
    """(hash, type); ``inside``: the vector's addresses stand in extensions, not in the header."""
    source, _, target, _, _, _ = V6[0]
    outer = IPv6(src="fe80::5", dst="fe80::6") if inside else IPv6(src=source, dst=target)
    head = Ether(src=PEER, dst=MAC) / outer
    if inside:
        head = head / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\x02\x02"), HAO(hoa=source)])
        head = head / IPv6ExtHdrRouting(type=2, addresses=[target], segleft=1)
    elif extensions is not None:
        head = head / extensions
    rig, rings = rig_with(mrqc=1 | mrqc)
    rig.wire(bytes(head / l4 / (b"x" * 40)))
    return where(rig, rings)[1:]


@pytest.mark.parametrize("extensions", [None, IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt()])
@pytest.mark.parametrize(
    ("l4", "plain", "extended", "types"),
    [(TCP, 1 << 21, TCP6_EXT, (3, 6)), (UDP, UDP6, UDP6_EXT, (8, 9))],
)
def test_ipv6_ports_behind_extensions(
    extensions: Packet | None,
    l4: type[Packet],
    plain: int,
    extended: int,
    types: tuple[int, int],
) -> None:
    _, sport, _, dport, pair, ports = V6[0]
    packet = l4(sport=sport, dport=dport)
    assert hashed6(plain, extensions, packet) == (ports, types[0])
    assert hashed6(plain | extended, extensions, packet) == (ports, types[0])
    assert hashed6(extended, extensions, packet) == (ports, types[1])
    assert hashed6(1 << 20, extensions, packet) == (pair, 5)
    assert hashed6(IP6_EXT, extensions, packet) == (pair, 4)
    assert hashed6(0, extensions, packet) == (0, 0)


def test_home_address_and_routing_header_are_what_the_extension_fields_hash() -> None:
    _, sport, _, dport, pair, ports = V6[0]
    tcp = TCP(sport=sport, dport=dport)
    everything = 1 << 20 | 1 << 21 | TCP6_EXT | IP6_EXT
    assert hashed6(everything, None, tcp, inside=True) == (ports, 6)
    assert hashed6(1 << 20 | IP6_EXT, None, tcp, inside=True) == (pair, 4)
    assert hashed6(1 << 20, None, tcp, inside=True)[1] == 5


def test_ipv6_fragment_is_hashed_over_the_address_pair() -> None:
    pair = V6[0][4]
    fragment = IPv6ExtHdrFragment(m=1)
    assert hashed6(ALL_FIELDS, fragment, TCP()) == (pair, 5)


def test_tagged_packet_is_hashed_like_an_untagged_one() -> None:
    source, sport, target, dport, _, ports = V4[3]
    rig, rings = rig_with()
    rig.wire(
        bytes(
            Ether(src=PEER, dst=MAC) / Dot1Q(vlan=7) / IP(src=source, dst=target)
            / TCP(sport=sport, dport=dport) / (b"x" * 40)
        )
    )  # fmt: skip
    assert where(rig, rings) == ((ports & 127) % 4, ports, 1)


def test_fragment_falls_back_to_the_address_pair() -> None:
    rig, rings = rig_with()
    source, sport, target, dport, pair, _ = V4[1]
    rig.wire(
        bytes(
            Ether(src=PEER, dst=MAC) / IP(src=source, dst=target, flags="MF")
            / TCP(sport=sport, dport=dport) / (b"x" * 40)
        )
    )  # fmt: skip
    assert where(rig, rings) == ((pair & 127) % 4, pair, 2)


@pytest.mark.conformance("H10-2")
def test_arp_goes_to_queue_0_without_a_hash() -> None:
    rig, rings = rig_with()
    rig.wire(bytes(Ether(src=PEER, dst=b"\xff" * 6) / ARP()).ljust(60, b"\0"))
    assert where(rig, rings) == (0, 0, 0)


@pytest.mark.conformance("H10-3")
def test_without_mrqe_everything_goes_to_queue_0() -> None:
    rig, rings = rig_with(mrqc=ALL_FIELDS)
    rig.wire(bytes(Ether(src=PEER, dst=MAC) / IP(src=V4[0][0], dst=V4[0][2]) / UDP() / (b"x" * 40)))
    assert where(rig, rings) == (0, 0, 0)


@pytest.mark.conformance("H10-4")
def test_changed_redirection_moves_the_next_packet_only() -> None:
    rig, rings = rig_with()
    packet = bytes(Ether(src=PEER, dst=MAC) / IP(src=V4[0][0], dst=V4[0][2]) / UDP() / (b"x" * 40))
    first = (V4[0][4] & 127) % 4
    rig.wire(packet)
    for i in range(32):
        rig.write("RETA", 0x01010101 * ((first + 1) % 4), i)
    rig.wire(packet)
    assert rig.dwords(rings[first], 0)[2] & 1
    assert not rig.dwords(rings[first], 1)[2] & 1
    assert rig.dwords(rings[(first + 1) % 4], 0)[2] & 1


@pytest.mark.conformance("H17.3-2")
def test_redirection_entry_is_the_byte_as_written_and_its_low_nibble() -> None:
    rig, rings = rig_with()
    number = V4[0][4] & 127
    rig.write("RETA", 0x33221100, number >> 2)
    rig.wire(bytes(Ether(src=PEER, dst=MAC) / IP(src=V4[0][0], dst=V4[0][2]) / UDP() / (b"x" * 40)))
    assert where(rig, rings)[0] == number & 3


def test_hash_is_left_out_of_the_descriptor_without_pcsd() -> None:
    rig, rings = rig_with()
    rig.write("RXCSUM", 0)
    rig.wire(bytes(Ether(src=PEER, dst=MAC) / IP(src=V4[0][0], dst=V4[0][2]) / UDP() / (b"x" * 40)))
    assert where(rig, rings)[1] == 1  # the IP identification of scapy's packets


def test_interrupts_follow_the_queue() -> None:
    """Eight addresses reach both of two queues, and vector n serves queue n."""
    rig, rings = rig_with(queues=2)
    used: dict[int, int] = {}
    for host in range(1, 9):
        packet = bytes(
            Ether(src=PEER, dst=MAC) / IP(src=f"192.168.1.{host}", dst="192.168.1.10")
            / ICMP(type=0) / (b"x" * 40)
        )  # fmt: skip
        (vector,) = rig.vectors(rig.wire(packet))
        assert rig.dwords(rings[vector], used.get(vector, 0))[2] & 1
        used[vector] = used.get(vector, 0) + 1
        rig.write("EIMS_EX", 3)
    assert sorted(used) == [0, 1]
    assert sum(used.values()) == 8
