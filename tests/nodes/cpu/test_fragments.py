"""Datagrams in fragments: made on the way out, put together on the way in; limits and time."""

from __future__ import annotations

import re

import pytest
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from nodes.cpu.kernel.net.ip_fragment import Frags
from orchestrator import ledger
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box
from tests.nodes.cpu.wire import PEER, US, Wire, counters


def frags(box: Box) -> Frags:
    found: Frags = box.machine.simulation.node("cpu0").cpu.net.frags
    return found


@pytest.mark.conformance("N1.2")
@pytest.mark.parametrize("era", ERAS)
def test_one_byte_too_many_makes_two_fragments_without_df(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    wire = Wire(box)
    box.ping("-c", "1", "-W", "0.2", "-s", "1473")
    first, second = wire.ip()[:2]
    assert [p.flags.DF for p in (first, second)] == [False, False]
    assert first.id == second.id != 0
    assert (first.flags.MF, first.frag, first.len) == (True, 0, 1500)
    assert (second.flags.MF, second.frag, second.len) == (False, 185, 21)
    assert first.proto == second.proto == 1
    assert counters(box)["Ip FragCreates"] == 2
    assert counters(box)["Ip FragOKs"] == 1


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("cpu", ["cpu0", "cpu1"])
def test_a_long_ping_and_its_reply_travel_in_fragments(era: str, cpu: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    wire = Wire(box)
    ran = box.run("ping", "-c", "3", "-i", "0.1", "-s", "4000", GATEWAY, cpu=cpu)
    assert ran.lines[0] == "PING 192.168.1.1 (192.168.1.1) 4000(4028) bytes of data."
    assert [line.split(" time=")[0] for line in ran.lines[1:4]] == [
        f"4008 bytes from 192.168.1.1: icmp_seq={n} ttl=64" for n in (1, 2, 3)
    ]
    assert ran.code == 0
    assert [(p.frag, p.len) for p in wire.ip()[:3]] == [(0, 1500), (185, 1500), (370, 1068)]
    found = counters(box)
    assert found["Ip ReasmOKs"] == 3
    assert found["Ip ReasmReqds"] == 9
    assert found["Ip ReasmFails"] == 0
    assert not frags(box).queues
    assert frags(box).mem == 0


def test_a_datagram_longer_than_a_buffer_reaches_a_socket_of_another_cpu() -> None:
    box = Box()
    box.ping("-c", "1")
    ran = box.run("ping", "-c", "2", "-i", "0.1", "-s", "40000", GATEWAY, cpu="cpu1")
    assert ran.lines[1].startswith("40008 bytes from 192.168.1.1: icmp_seq=1")
    assert ran.code == 0


def datagram(size: int = 3000, ident: int = 7) -> list[IP]:
    """Fragments of a UDP datagram to us."""
    whole = IP(src=PEER, dst=US, id=ident) / UDP(sport=9, dport=4000) / Raw(bytes(size))
    return list(fragment(IP(bytes(whole)), fragsize=1480))


def listening(era: str) -> tuple[Box, Wire]:
    box = Box(era)
    box.ping("-c", "1")
    box.start("udp_echo", "4000")
    box.live(10)
    return box, Wire(box)


def answered(wire: Wire) -> int:
    return sum(p.proto == 17 and p.frag == 0 for p in wire.ip())


@pytest.mark.parametrize("era", ERAS)
def test_the_order_of_fragments_does_not_matter(era: str) -> None:
    _, wire = listening(era)
    for packet in reversed(datagram()):
        wire.arrive(packet)
    assert answered(wire) == 1
    first = next(p for p in wire.ip() if p.proto == 17)
    assert first[UDP].len == 3008


def test_fragments_over_two_slaves_meet() -> None:
    box, wire = listening("6.1")
    pieces = datagram()
    frame = Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:01") / pieces[0]
    frame.dst = wire.mac().hex(":")
    for number in (0, 1):
        cpu = box.machine.simulation.node(f"cpu{number}").cpu
        for dev in cpu.net.devices.values():
            dev.inactive = False  # as with balance-rr
    wire.arrive(frame)
    wire.arrive(pieces[1], "eth1")
    wire.arrive(pieces[2], "eth1")
    assert answered(wire) == 1


@pytest.mark.parametrize("era", ERAS)
def test_what_does_not_come_within_thirty_seconds_is_given_up_and_its_sender_told(era: str) -> None:
    box, wire = listening(era)
    wire.arrive(datagram()[0])
    box.live(29_900)
    assert len(frags(box).queues) == 1
    box.live(2200)  # 6.1's wheel rounds half a minute up
    assert not frags(box).queues
    found = counters(box)
    assert found["Ip ReasmTimeout"] == found["Ip ReasmFails"] == 1
    assert box.drops()[("-", "FRAG_REASM_TIMEOUT")] == [1, 0, 0]
    box.live(50)
    told = [p for p in wire.ip() if p.proto == 1]
    assert [(p[ICMP].type, p[ICMP].code) for p in told] == [(11, 1)]
    assert told[0].dst == PEER
    assert bytes(told[0][ICMP].payload)[:20] == bytes(datagram()[0])[:20]


def test_nobody_is_told_of_a_datagram_without_its_first_fragment() -> None:
    box, wire = listening("6.1")
    wire.arrive(datagram()[1])
    box.live(32_100)
    assert counters(box)["Ip ReasmTimeout"] == 1
    assert [p for p in wire.ip() if p.proto == 1] == []


@pytest.mark.parametrize("era", ERAS)
def test_an_exact_copy_of_a_fragment_changes_nothing(era: str) -> None:
    _, wire = listening(era)
    first, *rest = datagram()
    for packet in (first, first, *rest):
        wire.arrive(packet)
    assert answered(wire) == 1


@pytest.mark.parametrize(("era", "answers"), [("2.6.18", 1), ("3.10", 1), ("6.1", 0)])
def test_overlapping_fragments_are_trimmed_or_end_the_queue(era: str, answers: int) -> None:
    box, wire = listening(era)
    first, second, third = datagram()
    foul = second.copy()
    foul.frag -= 1
    del foul.chksum
    wire.arrive(first)
    wire.arrive(IP(bytes(foul)))
    wire.arrive(second)
    wire.arrive(third)
    assert answered(wire) == answers
    if not answers:
        assert counters(box)["Ip ReasmFails"] >= 1


@pytest.mark.parametrize("era", ERAS)
def test_memory_of_fragments_is_limited(era: str) -> None:
    box, wire = listening(era)
    box.run("write", "/proc/sys/net/ipv4/ipfrag_low_thresh", "12000")
    box.run("write", "/proc/sys/net/ipv4/ipfrag_high_thresh", "20000")
    for ident in range(1, 21):
        wire.arrive(datagram(ident=ident)[0], ms=1)
    assert 12_000 <= frags(box).mem <= 25_000
    assert counters(box)["Ip ReasmFails"] > 0
    idents = [int.from_bytes(key[8:10], "big") for key in frags(box).queues]
    assert idents[-1] == 20 if era != "6.1" else idents[0] == 1  # the oldest go, or the newest


@pytest.mark.parametrize("era", ERAS)
def test_the_gateway_answers_in_fragments_and_the_ledger_follows_the_first_of_each(
    era: str,
) -> None:
    box = Box(era)
    box.ping("-c", "1")
    ran = box.ping("-c", "2", "-i", "0.1", "-W", "0.1", "-s", "4000")
    assert ran.code == 0
    real = captured("e1000e-smp2/ping-c3-s4000.txt").splitlines()
    pattern = r" time=.*|\d+\.\d+\.\d+\.\d+"
    assert re.sub(pattern, "", ran.lines[1]) == re.sub(pattern, "", real[1])
    assert ran.lines[0].split(") ")[1] == real[0].split(") ")[1]
    books = ledger.settled(box.machine)
    assert books.faults == []
    assert books.packets["requests"].ends.get("lan gw_fragment") == 2


def test_a_host_that_sends_nonsense_is_survived() -> None:
    box, wire = listening("6.1")
    for packet in (
        IP(src=PEER, dst=US, id=9, flags="MF", proto=17) / Raw(b"x" * 3),  # no eight bytes
        IP(src=PEER, dst=US, id=9, frag=8191, proto=17) / Raw(b"x" * 1400),  # past 65535
        IP(src=PEER, dst=US, id=9, flags="MF", proto=17) / Raw(b"x" * 8),
        IP(src=PEER, dst=US, id=9, frag=1, proto=17) / Raw(b"x" * 65),  # an end before the end
    ):
        wire.arrive(packet)
    wire.arrive(datagram()[0])
    assert box.ping("-c", "1").code == 0
