"""The gateway's answers, built and read by scapy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP, fragment
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from nodes.lan.gateway import ARP_ANSWER, ECHO_ANSWER, Gateway
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
        (Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0]) / UDP(), "gw_drop_protocol"),
        (
            Ether(src=HOST, dst=GATEWAY) / IP(dst=ADDRESSES[0], options=[IPOption_NOP()]) / ICMP(),
            "gw_drop_protocol",
        ),
        (Ether(src=HOST, dst=GATEWAY) / ARP(op=1, pdst="192.168.1.77"), "gw_drop_arp"),
        (Ether(src=HOST, dst=GATEWAY) / ARP(op=2, pdst=ADDRESSES[0]), "gw_drop_arp"),
        (Ether(src=HOST, dst=GATEWAY) / IP(dst="192.168.1.9") / ICMP(), "gw_drop_address"),
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
        assert (reply is None) == isinstance(outcome, str)
