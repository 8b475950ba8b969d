"""The connection table: what is in it, and the lock that guards it, by era."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nodes.cpu.kernel import words
from nodes.cpu.kernel.locks.rwlock import WRITER
from nodes.cpu.kernel.net.nf_conntrack import (
    BUCKET_LOCKS,
    ENTRY_WORDS,
    EXPIRES,
    LOCK,
    MAX,
    Conntrack,
    Tuple,
)
from nodes.cpu.kernel.net.protocols import IPPROTO_UDP
from orchestrator.ledger import settled
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box

ME = "192.168.1.10"
ADDRESSES = int.from_bytes(bytes((192, 168, 1, 10, 192, 168, 1, 1)), "big")
FILE = {"2.6.18": "/proc/net/ip_conntrack"} | dict.fromkeys(
    ("3.10", "6.1"), "/proc/net/nf_conntrack"
)
#: What stands around a line, by era: before it and behind it.
FRAME = {
    "2.6.18": ("", "mark=0 use=1"),
    "3.10": ("ipv4     2 ", "mark=0 use=2"),
    "6.1": ("ipv4     2 ", "mark=0 zone=0 use=2"),
}


def tracking(era: str, **more: Any) -> Box:
    box = Box(era, **more)
    assert box.run("insmod", "nf_conntrack").code == 0
    return box


def lines(box: Box, era: str) -> list[str]:
    return box.proc(FILE[era]).splitlines()


@pytest.mark.parametrize("era", ERAS)
def test_the_file_is_there_while_the_module_is(era: str) -> None:
    box = Box(era)
    with pytest.raises(FileNotFoundError):
        box.proc(FILE[era])
    assert box.run("insmod", "nf_conntrack").code == 0
    assert box.proc(FILE[era]) == ""
    assert box.run("rmmod", "nf_conntrack").code == 0
    with pytest.raises(FileNotFoundError):
        box.proc(FILE[era])
    assert box.ping("-c", "1").code == 0


@pytest.mark.parametrize("era", ERAS)
def test_an_echo_is_a_connection_and_2_6_18_forgets_it_with_its_last_reply(era: str) -> None:
    box = tracking(era)
    before, behind = FRAME[era]
    head = rf"{before}icmp     1 29 src={ME} dst={GATEWAY} type=8 code=0 id=(\d+) "
    back = rf"src={GATEWAY} dst={ME} type=0 code=0 id=\1 "
    box.ping("-c", "1")
    box.live(100)
    if era == "2.6.18":
        assert lines(box, era) == []
    else:
        (line,) = lines(box, era)
        assert re.fullmatch(head + back + behind, line)
    nobody = box.start("ping", "-c", "1", "192.168.1.77")
    box.live(1)
    assert not [line for line in lines(box, era) if "1.77" in line and "[UNREPLIED]" not in line]
    box.end(nobody)
    box.live(31_000)
    assert lines(box, era) == []  # 30 s without a packet
    assert settled(box.machine).balanced


@pytest.mark.parametrize(("era", "stream"), [("2.6.18", 179), ("3.10", 179), ("6.1", 119)])
def test_a_udp_connection_with_replies_becomes_a_stream(era: str, stream: int) -> None:
    """At the first packet after a reply, not yet at the reply; in 6.1 only once it has lasted two
    seconds."""
    box = tracking(era)
    before, behind = FRAME[era]
    ports = r"sport=(\d+) dport=7 "
    back = rf"src={GATEWAY} dst={ME} sport=7 dport=\1 "
    job = box.start("udp_send", "-c", "6", "-i", "0.5", GATEWAY, "7")
    box.live(100)
    (line,) = lines(box, era)
    head = rf"{before}udp      17 29 src={ME} dst={GATEWAY} {ports}"
    assert re.fullmatch(head + back + behind, line), line
    assert box.end(job).code == 0
    box.live(100)
    (line,) = lines(box, era)
    head = rf"{before}udp      17 {stream} src={ME} dst={GATEWAY} {ports}"
    assert re.fullmatch(head + back + r"\[ASSURED\] " + behind, line), line
    box.run("udp_send", "-c", "1", "-w", "0.1", GATEWAY, "99")  # refused: no reply of its own
    assert [line for line in lines(box, era) if "dport=99 " in line and "[UNREPLIED] " in line]


@pytest.mark.parametrize("era", ERAS)
def test_a_packet_is_looked_up_once_and_remembers_its_connection(
    era: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entering the table it is looked up a second time, under the lock."""
    looked, lookup = [], Conntrack._lookup
    monkeypatch.setattr(Conntrack, "_lookup", lambda *given: looked.append(1) or lookup(*given))
    box = tracking(era)
    job = box.start("udp_send", "-q", "-c", "3", "-i", "1", GATEWAY, "7")
    box.live(500)
    assert len(looked) == 3  # the first request twice, its reply
    box.live(1000)
    assert len(looked) == 5  # a request, a reply
    assert box.end(job).code == 0
    looked.clear()
    box.ping("-c", "1")
    assert len(looked) == 3


@pytest.mark.parametrize(
    ("era", "said"),
    [
        ("2.6.18", ["ip_conntrack version 2.4 (16 buckets, 128 max)"]),
        ("3.10", ["nf_conntrack version 0.5.0 (16 buckets, 128 max)"]),
        ("6.1", []),
    ],
)
def test_what_the_module_says_does_not_depend_on_its_lock(era: str, said: list[str]) -> None:
    for lock in ("rwlock", "spinlock", "buckets"):
        box = tracking(era, overrides=(("conntrack_lock", lock),))
        assert [text for _, text in box.dmesg() if "conntrack version" in text] == said


@pytest.mark.parametrize("era", ERAS)
def test_what_a_filter_drops_never_enters(era: str) -> None:
    box = tracking(era)
    assert box.run("iptables", "-A", "OUTPUT", "-p", "icmp", "-j", "DROP").code == 0
    box.ping("-c", "1")
    assert lines(box, era) == []


@pytest.mark.parametrize("era", ERAS)
def test_every_cpu_sees_and_changes_the_one_table(era: str) -> None:
    box = tracking(era, cpus=4)
    box.ping("-c", "1")  # who has the gateway's address is known
    known = len(lines(box, era))
    jobs = [
        box.start("udp_send", "-q", "-c", "50", "-i", "0.001", GATEWAY, "7", cpu=f"cpu{n}")
        for n in range(4)
    ]
    assert [box.end(job).code for job in jobs] == [0, 0, 0, 0]
    ports = re.findall(r"sport=(\d+) dport=7 ", box.proc(FILE[era]))
    assert len(ports) == len(set(ports)) == 4
    assert len(lines(box, era)) == known + 4
    assert settled(box.machine).balanced
    assert box.machine.ram.atomics.load(words.LOCK + LOCK) == 0


@pytest.mark.parametrize(
    ("era", "held", "known_waits", "new_waits"),
    [
        ("2.6.18", WRITER, True, True),
        ("2.6.18", 1, True, True),  # a reader: look-ups go on, a new timeout does not
        ("3.10", 1, False, True),  # RCU readers, and a timeout needs no lock
        ("6.1", 1, False, False),  # there is no such lock any more
    ],
)
def test_who_waits_for_the_lock_of_the_table(
    era: str, held: int, known_waits: bool, new_waits: bool
) -> None:
    """Somebody else holds it: does a packet of a known connection wait, does that of a new one?"""
    box = tracking(era)
    known = box.start("udp_send", "-q", "-c", "100", "-i", "0.01", "-w", "1", GATEWAY, "7")
    box.live(50)
    box.machine.ram.atomics.store(words.LOCK + LOCK, held)
    sent = box.pages["cpu0"]["tx_posted"] + box.pages["cpu1"]["tx_posted"]
    box.live(50)
    after = box.pages["cpu0"]["tx_posted"] + box.pages["cpu1"]["tx_posted"]
    assert (after == sent) == known_waits
    if not known_waits:
        new = box.start("udp_send", "-q", "-c", "1", GATEWAY, "7", cpu="cpu1")
        box.live(50)
        assert new.done != new_waits
    box.machine.ram.atomics.store(words.LOCK + LOCK, 0)
    assert box.end(known).code == 0


def test_6_1_has_a_lock_for_each_bucket() -> None:
    """Somebody holds one: connections that belong there wait, all others do not."""
    box = tracking("6.1")
    word = words.LOCK + BUCKET_LOCKS + 3
    seen = set()
    for _ in range(100):
        box.machine.ram.atomics.store(word, 9)
        job = box.start("udp_send", "-q", "-c", "1", GATEWAY, "7")
        box.live(5)
        waited = not job.done
        box.machine.ram.atomics.store(word, 0)
        assert box.end(job).code == 0
        port = int(re.findall(r"sport=(\d+) dport=7 ", box.proc(FILE["6.1"]))[0])
        assert (Tuple(ADDRESSES, IPPROTO_UDP << 48 | port << 16 | 7).bucket == 3) == waited
        seen.add(waited)
        box.machine.ram.atomics.store(place_of(box), 0)
    assert seen == {True, False}


def place_of(box: Box) -> int:
    """The only connection's."""
    load = box.machine.ram.atomics.load
    (place,) = [
        words.CONNTRACK + n * ENTRY_WORDS
        for n in range(MAX)
        if load(words.CONNTRACK + n * ENTRY_WORDS)
    ]
    return place


@pytest.mark.parametrize(
    ("era", "text"),
    [
        ("2.6.18", "ip_conntrack: table full, dropping packet."),
        ("3.10", "nf_conntrack: table full, dropping packet"),
        ("6.1", "nf_conntrack: nf_conntrack: table full, dropping packet"),
    ],
)
def test_a_full_bucket_drops_the_packet_and_says_so(era: str, text: str) -> None:
    box = tracking(era)
    load, store = box.machine.ram.atomics.load, box.machine.ram.atomics.store
    box.run("udp_send", "-q", "-c", "1", GATEWAY, "7")
    soon = load(place_of(box) + EXPIRES)
    for place in range(words.CONNTRACK, words.CONNTRACK + MAX * ENTRY_WORDS, ENTRY_WORDS):
        store(place + EXPIRES, soon)
        store(place, 1)
    job = box.run("udp_send", "-q", "-c", "1", "-w", "0.01", GATEWAY, "7")
    assert "1 lost" in job.out
    assert [said for _, said in box.dmesg() if "table full" in said] == [text]
    assert all(load(words.CONNTRACK + n * ENTRY_WORDS) == 1 for n in range(MAX))
    assert settled(box.machine).balanced
