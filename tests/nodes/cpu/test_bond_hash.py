"""xmit_hash_policy by era: numbers worked out by hand from the formulas; scapy makes frames."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether

from nodes.cpu.kernel.net.bonding.hash import POLICIES, simple_hash, xmit_hash
from nodes.cpu.kernel.params import PRESETS

BOND = bytes.fromhex("001b21000001")
ETHER = Ether(dst="02:00:00:00:00:44", src="00:1b:21:00:00:02")
PAIR = IP(src="192.168.1.10", dst="192.168.1.1")
BEHAVIOURS = ("bond-mac", "source-mac", "flow")


def _hash(behaviour: str, policy: str, packet: Any) -> int:
    return xmit_hash(behaviour, policy)(bytes(packet), BOND)


def _folded(word: int) -> int:
    word ^= word >> 16
    return word ^ word >> 8


@pytest.mark.conformance("N3.3")
def test_layer2_has_another_source_term_in_each_era() -> None:
    packet = ETHER / PAIR / ICMP()
    assert _hash("bond-mac", "layer2", packet) == 0x44 ^ 0x01
    assert _hash("source-mac", "layer2", packet) == 0x44 ^ 0x02
    assert _hash("flow", "layer2", packet) == 0x44 ^ 0x02 ^ 0x0800
    assert [PRESETS[era].xmit_hash for era in ("2.6.18", "3.10", "6.1")] == list(BEHAVIOURS)


@pytest.mark.conformance("N3.3")
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_layer2_sends_all_to_one_peer_by_one_slave(behaviour: str) -> None:
    packets = [ETHER / IP(src=f"10.0.0.{n}", dst="10.1.0.1") / UDP(sport=n) for n in range(1, 20)]
    assert len({_hash(behaviour, "layer2", p) % 4 for p in packets}) == 1
    forged = Ether(dst=ETHER.dst, src="00:1b:21:00:00:77") / PAIR / UDP()
    same = _hash(behaviour, "layer2", forged) == _hash(behaviour, "layer2", ETHER / PAIR / UDP())
    assert same == (behaviour == "bond-mac")


@pytest.mark.conformance("N3.3")
def test_the_ethertype_parts_arp_from_ip_over_four_slaves_but_not_over_two() -> None:
    sometimes = set()
    for last in range(256):
        ether = Ether(dst=f"02:00:00:00:00:{last:02x}", src=ETHER.src)
        ip = _hash("flow", "layer2", ether / PAIR / ICMP())
        arp = _hash("flow", "layer2", ether / ARP())
        assert ip ^ arp == 6
        assert ip % 2 == arp % 2
        assert ip % 4 != arp % 4
        sometimes.add(ip % 3 == arp % 3)
    assert sometimes == {True, False}


@pytest.mark.parametrize(("behaviour", "source"), [("bond-mac", 0x01), ("source-mac", 0x02)])
def test_old_policies_have_the_low_half_of_the_addresses(behaviour: str, source: int) -> None:
    addresses = (10 ^ 1) | (1 ^ 1) << 8
    ports = 1000 ^ 53
    udp = ETHER / PAIR / UDP(sport=1000, dport=53)
    assert _hash(behaviour, "layer2+3", udp) == addresses ^ 0x44 ^ source
    assert _hash(behaviour, "layer3+4", udp) == addresses ^ ports
    tcp = ETHER / PAIR / TCP(sport=1000, dport=53)
    assert _hash(behaviour, "layer3+4", tcp) == addresses ^ ports
    fragment = ETHER / IP(src=PAIR.src, dst=PAIR.dst, flags="MF") / UDP(sport=1000, dport=53)
    assert _hash(behaviour, "layer3+4", fragment) == addresses
    assert _hash(behaviour, "layer3+4", ETHER / ARP()) == 0x44 ^ source


def test_old_ipv6_term_is_three_words_folded() -> None:
    packet = ETHER / IPv6(src="fd00::a:0:0:1", dst="fd00::b:0:0:2") / UDP(sport=9, dport=8)
    # words 2, 3 and 4 of the XOR as they lie in memory: 0, 00 01 00 00 (a ^ b), 00 00 00 03
    word = 0x0000_0100 ^ 0x0300_0000
    folded = word ^ word >> 24 ^ word >> 16 ^ word >> 8
    assert _hash("source-mac", "layer2+3", packet) == folded ^ 0x44 ^ 0x02
    assert _hash("source-mac", "layer3+4", packet) == folded ^ 9 ^ 8


def test_flow_hash_of_udp() -> None:
    addresses = int.from_bytes(bytes((192, 168, 1, 10)), "little")
    addresses ^= int.from_bytes(bytes((192, 168, 1, 1)), "little")
    ports = int.from_bytes(bytes((1000 >> 8, 1000 & 255, 0, 53)), "little")
    udp = ETHER / PAIR / UDP(sport=1000, dport=53)
    assert _hash("flow", "layer3+4", udp) == _folded(ports ^ addresses) >> 1
    layer2 = 0x44 ^ 0x02 ^ 0x0800
    assert _hash("flow", "layer2+3", udp) == _folded(layer2 ^ addresses)
    assert _hash("flow", "layer3+4", ETHER / ARP()) == 0x44 ^ 0x02 ^ 0x0806


@pytest.mark.conformance("N3.4")
def test_only_the_flow_hash_parts_two_pings() -> None:
    pings = [ETHER / PAIR / ICMP(type=8, id=n) for n in range(1, 9)]
    for behaviour in ("bond-mac", "source-mac"):
        assert len({_hash(behaviour, "layer3+4", ping) for ping in pings}) == 1
    assert {_hash("flow", "layer3+4", ping) % 2 for ping in pings} == {0, 1}
    addresses = int.from_bytes(bytes((0, 0, 0, 11)), "little")
    word = 8 | 0 << 8 | 3 << 16
    assert _hash("flow", "layer3+4", pings[2]) == _folded(word ^ addresses) >> 1
    # an id of 0 counts as 1
    zero = ETHER / PAIR / ICMP(type=8, id=0)
    assert _hash("flow", "layer3+4", zero) == _hash("flow", "layer3+4", pings[0])


def test_an_icmp_error_hashes_like_what_it_complains_of() -> None:
    inner = IPerror(src="10.0.0.1", dst="10.0.0.2") / UDPerror(sport=5, dport=6)
    error = ETHER / PAIR / ICMP(type=3, code=3) / inner
    plain = ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5, dport=6)
    assert _hash("flow", "layer3+4", error) == _hash("flow", "layer3+4", plain)


@pytest.mark.parametrize("gre", [False, True])
def test_encap_policies_look_into_a_tunnel(gre: bool) -> None:
    inner = PAIR / UDP(sport=7, dport=8)
    tunnel = ETHER / IP(src="1.1.1.1", dst="2.2.2.2")
    packet = tunnel / GRE(proto=0x0800) / inner if gre else tunnel / inner
    direct = ETHER / inner
    for encap, plain in (("encap3+4", "layer3+4"), ("encap2+3", "layer2+3")):
        assert _hash("flow", encap, packet) == _hash("flow", plain, direct)
        assert _hash("flow", plain, packet) != _hash("flow", plain, direct)


def test_vlan_and_source_mac() -> None:
    vendor, device = 0x001B21, 0x000002
    tagged = ETHER / Dot1Q(vlan=100) / PAIR / ICMP()
    assert _hash("flow", "vlan+srcmac", tagged) == 100 ^ vendor ^ device
    assert _hash("flow", "vlan+srcmac", ETHER / PAIR) == vendor ^ device


def test_any_frame_has_a_hash() -> None:
    whole = bytes(ETHER / PAIR / ICMP(type=3) / IPerror() / UDPerror())
    for behaviour in BEHAVIOURS:
        for policy in POLICIES:
            for length in range(14, len(whole)):
                value = xmit_hash(behaviour, policy)(whole[:length], BOND)
                assert 0 <= value < 1 << 32


def test_simple_hash_is_the_xor_of_all_bytes() -> None:
    assert simple_hash(bytes((192, 168, 1, 1))) == 192 ^ 168
