"""The neighbour state machine on a whole machine: resolving, ageing, probing, failing."""

from __future__ import annotations

import pytest

from bus.messages import EthFrame
from nodes.cpu.kernel.net.neighbour import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    Neighbour,
)
from tests.nodes.cpu.harness import ERAS, GATEWAY, SECOND, BareCpu, Box, Tap, kind

NOBODY = "192.168.1.77"
GATEWAY_MAC = bytes.fromhex("020000000001")


def table(box: Box) -> dict[bytes, Neighbour]:
    entries: dict[bytes, Neighbour] = box.machine.simulation.node("cpu0").cpu.net.neighbours.entries
    return entries


def entry(box: Box, address: str = GATEWAY) -> Neighbour:
    return table(box)[bytes(int(octet) for octet in address.split("."))]


def arp_row(box: Box, address: str) -> list[str]:
    lines = box.proc("/proc/net/arp").splitlines()
    return next(line.split() for line in lines if line.startswith(address + " "))


def asked(tap: Tap) -> list[tuple[float, bytes]]:
    """ARP questions (not announcements): (seconds since the first packet, destination)."""
    packets = [p for p in tap.packets() if not announcement(p.data)]
    return [
        ((p.time_ns - packets[0].time_ns) / 1e9, p.data[:6])
        for p in packets
        if kind(p.data) == "arp-request" and p.outgoing
    ]


def announcement(frame: bytes) -> bool:
    return kind(frame) == "arp-request" and frame[28:32] == frame[38:42]


def arp_reply(sender: bytes, address: bytes) -> EthFrame:
    """An answer to us on the wire."""
    ours = bytes.fromhex("001b21000001")
    body = bytes.fromhex("0806 0001 0800 06 04 0002") + sender + address
    return EthFrame((ours + sender + body + ours + bytes((192, 168, 1, 10))).ljust(60, b"\0"))


@pytest.mark.conformance("N1.6")
@pytest.mark.parametrize("era", ERAS)
def test_flags_and_address_in_proc_by_state(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    assert arp_row(box, GATEWAY)[2:4] == ["0x2", "02:00:00:00:00:01"]
    job = box.start("ping", "-c", "1", NOBODY)
    box.live(500)
    assert arp_row(box, NOBODY)[2:4] == ["0x0", "00:00:00:00:00:00"]  # INCOMPLETE
    box.end(job)
    assert entry(box, NOBODY).state == NUD_FAILED
    assert arp_row(box, NOBODY)[2:4] == ["0x0", "00:00:00:00:00:00"]


@pytest.mark.conformance("N1.3")
@pytest.mark.parametrize("era", ERAS)
def test_three_broadcasts_a_second_apart_then_failed(era: str) -> None:
    box = Box(era)
    tap = box.capture("bond0", "-p")
    box.ping("-c", "1", to=NOBODY)
    times = [time for time, _ in asked(tap)]
    assert times == pytest.approx([0, 1, 2], abs=0.06)
    assert {to for _, to in asked(tap)} == {b"\xff" * 6}
    assert entry(box, NOBODY).state == NUD_FAILED
    box.live(3000)
    assert len(asked(tap)) == 3  # silence


def test_a_failed_neighbour_is_resolved_anew_by_the_next_packet() -> None:
    box = Box()
    box.ping("-c", "1", to=NOBODY)
    tap = box.capture("bond0", "-p")
    box.ping("-c", "1", to=NOBODY)
    assert len(asked(tap)) == 3


@pytest.mark.parametrize(("era", "late_us"), [("2.6.18", 1000), ("3.10", 0), ("6.1", 0)])
def test_the_first_question_leaves_at_once_or_from_a_timer(era: str, late_us: int) -> None:
    box = Box(era)
    tap = box.capture("bond0", "-p")
    box.ping("-c", "1")
    sent = box.sent_times()["sent"][0]
    late = (tap.packets()[0].time_ns - sent) / 1000
    assert late == pytest.approx(late_us, abs=1000) if late_us else late < 20


@pytest.mark.conformance("N1.4")
@pytest.mark.parametrize(
    ("era", "left", "dropped"),
    [("2.6.18", [3, 4, 5], 2), ("3.10", [1, 2, 3, 4, 5], 0), ("6.1", [1, 2, 3, 4, 5], 0)],
)
def test_five_packets_wait_for_a_neighbour(era: str, left: list[int], dropped: int) -> None:
    box = Box(era)
    box.live(500)
    tap = box.capture("bond0", "-p")
    box.machine.freeze("lan")
    job = box.start("ping", "-c", "5", "-l", "5", GATEWAY)
    box.live(40)
    assert len(entry(box).queue) == len(left)
    box.machine.thaw("lan")
    box.live(5)
    requests = [p.data for p in tap.packets() if kind(p.data) == "request"]
    assert [frame[40] << 8 | frame[41] for frame in requests] == left
    drops = box.drops().get(("-", "NEIGH_QUEUEFULL"), [0, 0, 0])
    assert drops == [0, dropped, 0]
    box.interrupt(job)


@pytest.mark.parametrize("era", ERAS)
def test_a_reply_makes_the_gateway_reachable(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    assert entry(box).state == NUD_REACHABLE
    assert entry(box).mac == GATEWAY_MAC


def test_an_unused_neighbour_becomes_stale_after_its_reachable_time() -> None:
    box = Box()
    box.ping("-c", "1")
    reachable_ms = box.machine.simulation.node("cpu0").cpu.net.neighbours.reachable_ns / 1e6
    assert 15_000 <= reachable_ms <= 45_000
    box.live(reachable_ms - 1000)
    assert entry(box).state == NUD_REACHABLE
    box.live(8_000)  # the wheel's buckets are wide that far out
    assert entry(box).state == NUD_STALE
    assert arp_row(box, GATEWAY)[2] == "0x2"


def test_the_reachable_time_follows_the_seed_and_is_drawn_anew_every_five_minutes() -> None:
    def drawn(seed: int) -> list[int]:
        bare = BareCpu(seed=seed)
        found = []
        for minutes in (0, 4, 2, 5):
            bare.ns += minutes * 60 * SECOND
            found.append(bare.cpu.net.neighbours.reachable_ns)
        return found

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert first == again
    assert first[0] == first[1]
    assert len({first[0], first[2], other[0], other[2]}) == 4
    assert first[2] == first[3]  # five minutes to the nanosecond are not over
    values = [value for seed in range(200) for value in drawn(seed)[::2]]
    assert all(15 * SECOND <= value < 45 * SECOND for value in values)
    assert min(values) < 16 * SECOND
    assert max(values) > 44 * SECOND


@pytest.mark.conformance("N1.5")
@pytest.mark.parametrize("era", ERAS)
def test_a_stale_neighbour_is_used_at_once_and_verified_five_seconds_later(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    box.live(60_000)
    assert entry(box).state == NUD_STALE
    tap = box.capture("bond0", "-p")
    box.ping("-c", "1")
    first = tap.packets()[0]
    assert kind(first.data) == "request"
    assert first.data[:6] == GATEWAY_MAC
    assert entry(box).state == NUD_DELAY
    box.live(4_800)
    assert asked(tap) == []
    box.live(1_000)
    ((late, to),) = asked(tap)
    assert late == pytest.approx(5, abs=0.3)
    assert to == GATEWAY_MAC  # unicast
    assert entry(box).state == NUD_REACHABLE


@pytest.mark.conformance("N1.5b")
def test_a_running_ping_keeps_its_neighbour_by_confirmation() -> None:
    box = Box()
    tap = box.capture("bond0", "-p")
    box.run("ping", "-c", "120", "-i", "1", "-q", GATEWAY, ms=130_000)
    assert len(asked(tap)) == 1


@pytest.mark.conformance("N1.5b")
def test_a_neighbour_that_falls_silent_is_probed_three_times_and_fails() -> None:
    box = Box(nics=1, miimon=0)  # the bond keeps its slave, whatever the cable does
    box.ping("-c", "1")
    net = box.machine.simulation.node("cpu0").cpu.net
    box.live(60_000)
    assert entry(box).state == NUD_STALE
    tap = box.capture("bond0", "-p")
    box.machine.freeze("lan")
    job = box.start("ping", "-i", "0.5", "-q", GATEWAY)
    box.live(5_600)
    assert entry(box).state == NUD_PROBE
    box.live(3_500)
    unicast = [time for time, to in asked(tap) if to == GATEWAY_MAC]
    assert len(unicast) == 3
    assert unicast[2] - unicast[0] == pytest.approx(2, abs=0.1)
    broadcast = [time for time, to in asked(tap) if to == b"\xff" * 6]
    assert broadcast  # FAILED, and resolved anew by the next packet
    assert net.neighbours.valid == {}
    box.machine.thaw("lan")
    box.live(3_000)
    box.interrupt(job)


def test_a_question_for_our_address_is_answered_and_teaches_us_the_asker() -> None:
    box = Box()
    tap = box.capture("bond0", "-p")
    asker, address = bytes.fromhex("020000000055"), bytes((192, 168, 1, 55))
    frame = (
        b"\xff" * 6 + asker + bytes.fromhex("0806 0001 0800 06 04 0001") + asker + address
        + bytes(6) + bytes((192, 168, 1, 10))
    ).ljust(60, b"\0")  # fmt: skip
    box.machine.simulation.send("eth0", EthFrame(frame), sender="lan")
    box.live(10)
    answer = tap.packets()[-1]
    assert answer.outgoing
    assert kind(answer.data) == "arp-reply"
    assert answer.data[:6] == asker
    assert answer.data[22:28] == bytes.fromhex("001b21000001")
    assert entry(box, "192.168.1.55").state == NUD_STALE
    assert entry(box, "192.168.1.55").mac == asker


def test_an_unasked_answer_creates_nothing() -> None:
    box = Box()
    answer = arp_reply(bytes.fromhex("020000000055"), bytes((192, 168, 1, 55)))
    box.machine.simulation.send("eth0", answer, sender="lan")
    box.live(10)
    assert bytes((192, 168, 1, 55)) not in table(box)


@pytest.mark.parametrize("era", ERAS)
def test_another_cpu_learns_the_neighbour_and_sends_by_itself(era: str) -> None:
    box = Box(era)
    assert box.ping("-c", "2", "-i", "0.1", cpu="cpu1").code == 0
    valid = box.machine.simulation.node("cpu1").cpu.net.neighbours.valid
    assert valid == {bytes((192, 168, 1, 1)): GATEWAY_MAC}
    before = box.pages["cpu1"].run("tx_posted")[1]
    box.ping("-c", "3", "-i", "0.1", cpu="cpu1")
    assert box.pages["cpu1"].run("tx_posted")[1] - before == 3
