"""Every frame of the machine, judged by scapy: checksums, lengths, addresses, ids by era."""

from __future__ import annotations

from functools import cache

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether

from tests.nodes.cpu.harness import ERAS, Box, kind

PAYLOAD = bytes(range(16, 56))


@cache
def frames(era: str, seed: int = 1) -> list[bytes]:
    """What bond0 shows of the ARP exchange and five pings of several sizes."""
    box = Box(era, seed=seed)
    tap = box.capture("bond0")
    for size in (56, 0, 15, 16, 1472):
        assert box.ping("-c", "1", "-s", str(size), "-t", "61").code == 0
    return [p.data for p in tap.packets()]


def of(era: str, what: str) -> list[Ether]:
    return [Ether(frame) for frame in frames(era) if kind(frame) == what]


def icmp_checksum_is_right(packet: Ether) -> bool:
    again = ICMP(bytes(packet[ICMP]))
    stored, again.chksum = again.chksum, None
    return ICMP(bytes(again)).chksum == stored


def ip_checksum_is_right(packet: Ether) -> bool:
    again = IP(bytes(packet[IP])[:20])
    stored, again.chksum = again.chksum, None
    return IP(bytes(again)).chksum == stored


@pytest.mark.parametrize("era", ERAS)
def test_every_checksum_and_length_is_right(era: str) -> None:
    packets = of(era, "request") + of(era, "reply")
    assert len(packets) == 10
    for packet in packets:
        ip = packet[IP]
        assert ip_checksum_is_right(packet)
        assert icmp_checksum_is_right(packet)
        assert (ip.version, ip.ihl, ip.proto) == (4, 5, 1)
        assert max(60, 14 + ip.len) >= len(bytes(packet)) >= 14 + ip.len


@pytest.mark.conformance("N1.1")
@pytest.mark.parametrize("era", ERAS)
def test_the_first_request_field_by_field(era: str) -> None:
    box = Box(era)
    tap = box.capture("bond0")
    box.ping("-c", "1")
    packet = next(Ether(p.data) for p in tap.packets() if kind(p.data) == "request")
    ip, icmp = packet[IP], packet[ICMP]
    assert (packet.src, packet.dst) == ("00:1b:21:00:00:01", "02:00:00:00:00:01")
    assert (ip.src, ip.dst) == ("192.168.1.10", "192.168.1.1")
    assert (str(ip.flags), ip.frag, ip.ttl, ip.tos, ip.len) == ("DF", 0, 64, 0, 84)
    assert (ip.id == 0) == (era == "2.6.18")
    assert (icmp.type, icmp.code, icmp.seq) == (8, 0, 1)
    assert len(bytes(icmp)) == 64
    assert bytes(icmp)[24:] == PAYLOAD


@pytest.mark.parametrize("era", ERAS)
def test_ids_stand_still_or_change_by_era(era: str) -> None:
    ids = [packet[IP].id for packet in of(era, "request")]
    assert len(set(ids)) == (1 if era == "2.6.18" else 5)


@pytest.mark.parametrize("era", ERAS)
def test_the_time_to_live_is_what_was_asked_for(era: str) -> None:
    assert {packet[IP].ttl for packet in of(era, "request")} == {61}
    assert {packet[IP].ttl for packet in of(era, "reply")} == {64}


@pytest.mark.parametrize("era", ERAS)
def test_a_request_and_its_reply_carry_the_same_id_sequence_and_data(era: str) -> None:
    for request, reply in zip(of(era, "request"), of(era, "reply"), strict=True):
        assert (request[ICMP].id, request[ICMP].seq) == (reply[ICMP].id, reply[ICMP].seq)
        data = bytes(request[ICMP].payload)
        assert bytes(reply[ICMP].payload)[: len(data)] == data


@pytest.mark.parametrize("era", ERAS)
def test_the_arp_exchange(era: str) -> None:
    (request,) = of(era, "arp-request")
    assert (request.dst, request.src) == ("ff:ff:ff:ff:ff:ff", "00:1b:21:00:00:01")
    arp = request[ARP]
    assert (arp.hwtype, arp.ptype, arp.hwlen, arp.plen, arp.op) == (1, 0x0800, 6, 4, 1)
    assert (arp.hwsrc, arp.psrc) == ("00:1b:21:00:00:01", "192.168.1.10")
    assert (arp.hwdst, arp.pdst) == ("00:00:00:00:00:00", "192.168.1.1")
    assert len(bytes(request)) == 42  # the NIC pads, not the stack
    (reply,) = of(era, "arp-reply")
    assert (reply[ARP].psrc, reply[ARP].hwsrc) == ("192.168.1.1", "02:00:00:00:00:01")


@pytest.mark.parametrize("era", ERAS)
def test_sending_is_stamped_with_the_machines_time(era: str) -> None:
    for packet in of(era, "request"):
        data = bytes(packet[ICMP].payload)
        if len(data) >= 16:
            seconds = int.from_bytes(data[:8], "little")
            us = int.from_bytes(data[8:16], "little")
            assert seconds in (0, 1)
            assert us < 1_000_000
