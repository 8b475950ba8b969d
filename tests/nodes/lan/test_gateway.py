"""The gateway's answers, built and read by scapy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, IPOption_NOP, fragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from nodes.lan.gateway import (
    ARP_ANSWER,
    ARP_TAKEN,
    ECHO_ANSWER,
    UDP_DISCARD,
    UDP_ECHO,
    Gateway,
)
from nodes.lan.page import GW_DROPS
from nodes.ledger import REPLY, classify

MAC = bytes.fromhex("020000000001")
HOST = "00:1b:21:00:00:01"
GATEWAY = "02:00:00:00:00:01"
ADDRESSES = tuple(f"192.168.1.{n}" for n in range(1, 9))


def gateway() -> Gateway:
    return Gateway(MAC, ADDRESSES)


def padded(packet: Packet) -> bytes:
    return bytes(packet).ljust(60, b"\0")


def answered(packet: Packet) -> Packet:
    reply, kind = gateway().take(padded(packet))
    assert reply is not None
    assert kind in (ARP_ANSWER, ECHO_ANSWER)
    assert len(reply) >= 60
    return Ether(reply)


def checksums_are_right(packet: Packet) -> None:
    """scapy computes them anew: the bytes must not change."""
    again = packet.copy()
    del again[IP].chksum
    del again[ICMP].chksum
    assert bytes(again) == bytes(packet)


@pytest.mark.parametrize("target", ADDRESSES)
@pytest.mark.parametrize("destination", ["ff:ff:ff:ff:ff:ff", GATEWAY])
def test_arp_request_is_answered_for_each_address(target: str, destination: str) -> None:
    reply = answered(
        Ether(src=HOST, dst=destination)
        / ARP(op="who-has", hwsrc=HOST, psrc="192.168.1.10", pdst=target)
    )
    assert (reply.src, reply.dst) == (GATEWAY, HOST)
    arp = reply[ARP]
    assert (arp.op, arp.hwtype, arp.ptype, arp.hwlen, arp.plen) == (2, 1, 0x0800, 6, 4)
    assert (arp.hwsrc, arp.psrc) == (GATEWAY, target)
    assert (arp.hwdst, arp.pdst) == (HOST, "192.168.1.10")


def echo(data: bytes = b"", sequence: int = 1, ident: int = 7, **ip: object) -> Packet:
    head = IP(src="192.168.1.10", dst="192.168.1.3", flags="DF", id=99, **ip)
    return Ether(src=HOST, dst=GATEWAY) / head / ICMP(id=ident, seq=sequence) / Raw(data)


def test_echo_request_is_answered_to_the_byte() -> None:
    data = bytes(range(56))
    reply = answered(echo(data, tos=0x10, ttl=3))
    assert (reply.src, reply.dst) == (GATEWAY, HOST)
    ip, icmp = reply[IP], reply[ICMP]
    assert (ip.src, ip.dst, ip.ttl, ip.tos) == ("192.168.1.3", "192.168.1.10", 64, 0x10)
    assert (ip.flags, ip.frag, ip.ihl, ip.len) == (0, 0, 5, 84)
    assert (icmp.type, icmp.code, icmp.id, icmp.seq) == (0, 0, 7, 1)
    assert bytes(icmp.payload) == data
    checksums_are_right(reply)
    assert classify(bytes(reply)) == REPLY


def test_padding_of_the_request_is_not_part_of_the_answer() -> None:
    reply = answered(echo(b"ab"))
    assert reply[IP].len == 30
    assert bytes(reply)[44:] == bytes(16)
    checksums_are_right(Ether(bytes(reply)[:44]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 255))
def test_every_answer_has_right_checksums(data: bytes, sequence: int, ident: int, tos: int) -> None:
    reply = answered(echo(data, sequence, ident, tos=tos))
    checksums_are_right(Ether(bytes(reply)[: 14 + reply[IP].len]))


def test_answer_checksums_at_the_ends_of_ones_complement() -> None:
    """Sequences that walk the sum through 0 and 0xFFFF."""
    for sequence in (*range(0xF700, 0xF710), *range(0xFFF0, 0x10000), *range(16)):
        for ident in (0, 0x07FF, 0x0800, 0xFFFF):
            reply = answered(echo(b"", sequence, ident))
            checksums_are_right(Ether(bytes(reply)[:42]))


def test_identifications_differ() -> None:
    host = gateway()
    first, second = (host.take(padded(echo()))[0] for _ in range(2))
    assert first is not None
    assert second is not None
    assert Ether(first)[IP].id != Ether(second)[IP].id


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (Ether(src=HOST, dst=HOST) / IP() / ICMP(), "gw_drop_not_mine"),
        (
            Ether(src=HOST, dst=GATEWAY, type=0x88B5) / Raw(b"x"),
            "gw_drop_protocol",
        ),
        (Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0]) / TCP(), "gw_drop_protocol"),
        (
            Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0], options=[IPOption_NOP()]) / ICMP(),
            "gw_drop_protocol",
        ),
        (Ether(src=HOST, dst=GATEWAY) / ARP(op=1, pdst="192.168.1.77"), "gw_drop_arp"),
        (Ether(src=HOST, dst=GATEWAY) / ARP(op=2, pdst=ADDRESSES[0]), "gw_drop_arp"),
        (Ether(src=HOST, dst=GATEWAY) / IP(dst="192.168.1.9") / ICMP(type=3), "gw_drop_address"),
        (
            Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0]) / UDP(dport=7, chksum=1),
            "gw_drop_checksum",
        ),
        (
            Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0], chksum=1) / ICMP(),
            "gw_drop_checksum",
        ),
        (Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0]) / ICMP(chksum=1), "gw_drop_checksum"),
        (Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0], len=500) / ICMP(), "gw_drop_checksum"),
        (Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0]) / ICMP(type=0), "gw_drop_icmp"),
    ],
)
def test_what_is_not_answered_has_a_reason(packet: Packet, reason: str) -> None:
    assert gateway().take(padded(packet)) == (None, reason)


def test_fragments_are_not_reassembled() -> None:
    pieces = fragment(echo(b"x" * 3000), fragsize=1000)
    assert len(pieces) > 2
    for piece in pieces:
        assert gateway().take(padded(piece)) == (None, "gw_drop_fragment")


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=60, max_size=200))
def test_garbage_is_dropped_by_name(frame: bytes) -> None:
    for head in (MAC, b"\xff" * 6):
        reply, outcome = gateway().take(head + frame[6:])
        assert reply is None or len(reply) >= 60
        assert outcome in GW_DROPS or outcome in (ARP_ANSWER, ECHO_ANSWER, UDP_ECHO, UDP_DISCARD)


# -- errors, UDP, neighbours, VLANs

OTHER_HOST = "00:1b:21:00:00:02"


def refused(packet: Packet, reason: str) -> Packet:
    """The ICMP error about a packet that ended by ``reason``."""
    reply, outcome = gateway().take(padded(packet))
    assert outcome == reason
    assert reply is not None
    checksums_are_right(Ether(reply))
    return Ether(reply)


@pytest.mark.parametrize(
    ("target", "ttl", "error"),
    [
        ("192.168.1.9", 64, (3, 1)),
        ("10.0.0.1", 64, (3, 0)),
        ("10.0.0.1", 1, (11, 0)),
    ],
)
def test_what_it_cannot_forward_gets_a_routers_error(
    target: str, ttl: int, error: tuple[int, int]
) -> None:
    packet = Ether(src=HOST, dst=GATEWAY) / IP(src="192.168.1.10", dst=target, ttl=ttl) / ICMP()
    reply = refused(packet, "gw_drop_address")
    assert (reply[ICMP].type, reply[ICMP].code) == error
    assert (reply[IP].src, reply[IP].dst) == ("192.168.1.1", "192.168.1.10")
    assert reply[IPerror].dst == target


def test_udp_to_a_closed_port_is_unreachable() -> None:
    packet = Ether(src=HOST, dst=GATEWAY) / IP(src="192.168.1.10", dst="192.168.1.3")
    reply = refused(packet / UDP(dport=33434) / Raw(b"x" * 2000), "gw_drop_port")
    assert (reply[ICMP].type, reply[ICMP].code) == (3, 3)
    assert reply[IP].src == "192.168.1.3"
    assert len(reply[IP]) == 576


@pytest.mark.parametrize(
    "packet",
    [
        Ether(src=HOST, dst="ff:ff:ff:ff:ff:ff") / IP(src="192.168.1.10", dst="192.168.1.9"),
        Ether(src=HOST, dst=GATEWAY) / IP(src="0.0.0.0", dst="192.168.1.9"),
        Ether(src=HOST, dst=GATEWAY) / IP(src="192.168.1.10", dst="224.0.0.1"),
        Ether(src=HOST, dst=GATEWAY) / IP(src="192.168.1.10", dst="192.168.1.9", frag=7),
    ],
)
def test_no_error_about_what_rfc_1122_forbids(packet: Packet) -> None:
    assert gateway().take(padded(packet / UDP(dport=9)))[0] is None


def test_udp_port_7_sends_back_and_port_9_takes() -> None:
    head = Ether(src=HOST, dst=GATEWAY) / IP(src="192.168.1.10", dst="192.168.1.3")
    reply, outcome = gateway().take(padded(head / UDP(sport=4000, dport=7) / Raw(b"hello")))
    assert outcome == UDP_ECHO
    assert reply is not None
    back = Ether(reply)
    assert (back[UDP].sport, back[UDP].dport, back[IP].dst) == (7, 4000, "192.168.1.10")
    assert bytes(back[UDP].payload)[:5] == b"hello"
    again = back.copy()
    del again[UDP].chksum
    assert Ether(bytes(again))[UDP].chksum == back[UDP].chksum
    assert gateway().take(padded(head / UDP(dport=9) / Raw(b"x"))) == (None, UDP_DISCARD)


def arp(host: str, **words: object) -> bytes:
    return padded(Ether(src=host, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=host, **words))


def test_gratuitous_arp_changes_an_entry_and_makes_none() -> None:
    host = gateway()
    free = arp(OTHER_HOST, op=1, psrc="192.168.1.10", pdst="192.168.1.10")
    assert host.take(free) == (None, "gw_drop_arp")
    assert not host.neighbours
    host.take(arp(HOST, op=1, psrc="192.168.1.10", pdst="192.168.1.1"))
    assert host.take(free) == (None, ARP_TAKEN)
    assert host.moved == 1
    reply, _ = host.take(padded(echo()))
    assert reply is not None
    assert Ether(reply).dst == OTHER_HOST


def test_it_sends_to_the_old_address_until_arp_tells_it() -> None:
    host = gateway()
    host.take(arp(HOST, op=1, psrc="192.168.1.10", pdst="192.168.1.1"))
    moved = echo()
    moved.src = OTHER_HOST
    reply, _ = host.take(padded(moved))
    assert reply is not None
    assert Ether(reply).dst == HOST


def test_reply_is_believed_only_if_it_asked() -> None:
    host = gateway()
    said = arp(HOST, op=2, psrc="192.168.1.10", pdst="192.168.1.1")
    assert host.take(said) == (None, "gw_drop_arp")
    request = Ether(host.ask(bytes((192, 168, 1, 10))))
    assert (request[ARP].op, request[ARP].pdst, request.dst) == (
        1, "192.168.1.10", "ff:ff:ff:ff:ff:ff",
    )  # fmt: skip
    assert host.take(said) == (None, ARP_TAKEN)


def test_it_answers_in_the_vlans_where_it_has_addresses() -> None:
    host = Gateway(MAC, ADDRESSES, [(10, ["192.168.10.1"])])
    ask = Ether(src=HOST, dst=GATEWAY) / Dot1Q(vlan=10)
    ping = ask / IP(src="192.168.10.5", dst="192.168.10.1") / ICMP()
    reply, outcome = host.take(padded(ping))
    assert outcome == ECHO_ANSWER
    assert reply is not None
    assert (Ether(reply)[Dot1Q].vlan, Ether(reply)[ICMP].type) == (10, 0)
    other = Ether(src=HOST, dst=GATEWAY) / Dot1Q(vlan=20) / IP(dst="192.168.10.1") / ICMP()
    assert host.take(padded(other)) == (None, "gw_drop_not_mine")
