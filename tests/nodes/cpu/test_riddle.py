"""Where a bonded slave's frame meets the taps, by era: the riddle of tcpdump on a slave."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bus.messages import EthFrame
from bus.recorder import ALL_EVENTS, Recorder
from nodes.cpu.trace import TRACEPOINTS
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box, Tap, kind

INTERFACES = ("bond0", "eth0", "eth1", "any")
ORIG_DEV = (("packet_tap", "orig_dev"),)
K = 5


def captured_pings(era: str, overrides: tuple[tuple[str, str], ...] = ()) -> dict[str, Tap]:
    """Captures taken at the same time on every interface during five pings."""
    box = Box(era, overrides=overrides)
    box.ping("-c", "1")  # so that the ARP exchange is over
    box.live(50)
    taps = {name: box.capture(name, "-p") for name in INTERFACES}
    assert box.ping("-c", str(K), "-i", "0.2").code == 0
    box.live(50)
    return taps


#: (requests, replies) that each interface shows.
SEEN = {
    "2.6.18": {"bond0": (K, K), "eth0": (K, 0), "eth1": (0, 0), "any": (2 * K, K)},
    "orig_dev": {"bond0": (K, K), "eth0": (K, K), "eth1": (0, 0), "any": (2 * K, K)},
    "3.10": {"bond0": (K, K), "eth0": (K, K), "eth1": (0, 0), "any": (2 * K, 2 * K)},
    "6.1": {"bond0": (K, K), "eth0": (K, K), "eth1": (0, 0), "any": (2 * K, 2 * K)},
}


def seen(taps: dict[str, Tap]) -> dict[str, tuple[int, int]]:
    return {name: (tap.kinds()["request"], tap.kinds()["reply"]) for name, tap in taps.items()}


@pytest.mark.conformance("N0.1", "N0.3")
@pytest.mark.parametrize("era", ERAS)
def test_who_sees_what_during_five_pings(era: str) -> None:
    assert seen(captured_pings(era)) == SEEN[era]


@pytest.mark.conformance("N0.2")
def test_with_the_original_device_remembered_the_slave_shows_replies_of_the_bond() -> None:
    taps = captured_pings("2.6.18", ORIG_DEV)
    assert seen(taps) == SEEN["orig_dev"]
    box = taps["eth0"]._box
    index = box.ask("cpu0", "state")["ifindexes"]
    for packet in taps["eth0"].packets():
        reply = kind(packet.data) == "reply"
        assert packet.ifindex == index["bond0" if reply else "eth0"]
        assert packet.outgoing != reply


@pytest.mark.conformance("N0.3", "N1.9")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_an_unbound_tap_sees_the_bond_first_going_out_and_the_slave_first_coming_in(
    era: str,
) -> None:
    taps = captured_pings(era)
    index = taps["any"]._box.ask("cpu0", "state")["ifindexes"]
    bond, slave = index["bond0"], index["eth0"]
    packets = taps["any"].packets()
    assert len(packets) == 4 * K
    assert [(p.ifindex, p.outgoing) for p in packets] == [
        (bond, True), (slave, True), (slave, False), (bond, False),
    ] * K  # fmt: skip


@pytest.mark.conformance("N1.9")
@pytest.mark.parametrize("era", ERAS)
def test_both_taps_of_one_pass_have_the_same_stamp_and_passes_follow_in_time(era: str) -> None:
    taps = captured_pings(era)
    index = taps["any"]._box.ask("cpu0", "state")["ifindexes"]

    def stamps(name: str) -> list[int]:
        return [p.time_ns for p in taps[name].packets() if p.outgoing]

    for name in ("bond0", "eth0"):
        of_any = [
            p.time_ns for p in taps["any"].packets() if p.outgoing and p.ifindex == index[name]
        ]
        assert of_any == stamps(name)
    for of_bond, of_slave in zip(stamps("bond0"), stamps("eth0"), strict=True):
        assert of_bond <= of_slave


def test_the_request_on_the_slave_is_the_request_on_the_bond() -> None:
    taps = captured_pings("2.6.18")
    requests = {
        name: [p.data for p in taps[name].packets() if kind(p.data) == "request"]
        for name in ("bond0", "eth0")
    }
    assert requests["bond0"] == requests["eth0"]


# ---------------------------------------------------------------- flooded broadcasts


def flood(box: Box, count: int = 10) -> None:
    """Broadcast frames that the switch sends to both ports (ARP for somebody else)."""
    frame = bytes.fromhex(
        "ffffffffffff 020000000099 0806 0001080006040001 020000000099c0a80163 000000000000c0a80162"
    ).ljust(60, b"\0")
    for _ in range(count):
        for nic in ("eth0", "eth1"):
            box.machine.simulation.send(nic, EthFrame(frame), sender="lan")
        box.live(5)


def net_dev(box: Box) -> dict[str, list[int]]:
    lines = box.proc("/proc/net/dev").splitlines()[2:]
    return {
        line.split(":")[0].strip(): [int(word) for word in line.split(":")[1].split()]
        for line in lines
    }


def flooded(
    era: str, overrides: tuple[tuple[str, str], ...] = ()
) -> tuple[Box, dict[str, int], int, Callable[[str, int], int]]:
    """(machine, frames by tap, softnet total, growth of a column of /proc/net/dev)."""
    box = Box(era, overrides=overrides)
    box.ping("-c", "1")
    box.live(50)
    taps = {name: box.capture(name, "-p") for name in INTERFACES}
    before = net_dev(box)
    processed = sum(page.run("softnet")[0] for page in box.pages.values())
    flood(box)
    after = net_dev(box)
    processed = sum(page.run("softnet")[0] for page in box.pages.values()) - processed
    counts = {name: len(tap.packets()) for name, tap in taps.items()}
    return box, counts, processed, lambda dev, column: after[dev][column] - before[dev][column]


@pytest.mark.conformance("N2.7", "N5.2", "N0.1")
def test_flooded_broadcasts_in_2_6_18() -> None:
    _, counts, processed, grew = flooded("2.6.18")
    assert counts == {"bond0": 10, "eth0": 0, "eth1": 0, "any": 10}
    assert processed == 10
    assert [grew(dev, 1) for dev in ("eth0", "eth1", "bond0")] == [10, 10, 20]


@pytest.mark.conformance("N2.8")
def test_flooded_broadcasts_with_the_original_device_remembered() -> None:
    _, counts, processed, _ = flooded("2.6.18", ORIG_DEV)
    assert counts == {"bond0": 10, "eth0": 10, "eth1": 10, "any": 10}
    assert processed == 20


@pytest.mark.conformance("N2.9")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_flooded_broadcasts_with_the_rx_handler(era: str) -> None:
    _, counts, processed, _ = flooded(era)
    assert counts == {"bond0": 10, "eth0": 10, "eth1": 10, "any": 30}
    assert processed == 30


@pytest.mark.conformance("N2.10")
@pytest.mark.parametrize(("era", "dropped", "nohandler"), [("3.10", 10, 0), ("6.1", 0, 10)])
def test_where_an_inactive_copy_is_counted(era: str, dropped: int, nohandler: int) -> None:
    box, _, _, grew = flooded(era)
    assert grew("eth1", 3) == dropped
    assert grew("eth0", 3) == 0
    slot = 2  # none, eth0, eth1
    assert sum(page.run("rx_nohandler")[slot] for page in box.pages.values()) >= nohandler
    assert sum(page.run("rx_dropped")[slot] for page in box.pages.values()) >= dropped
    assert ("eth1", "BOND_INACTIVE") in box.drops()


@pytest.mark.conformance("N2.5")
@pytest.mark.parametrize(("era", "each"), [("2.6.18", 1), ("3.10", 2), ("6.1", 2)])
def test_a_reply_counts_once_for_each_round_of_receive(era: str, each: int) -> None:
    box = Box(era)
    box.ping("-c", "1")
    box.live(50)
    before = sum(page.run("softnet")[0] for page in box.pages.values())
    box.ping("-c", "7", "-i", "0.1")
    assert sum(page.run("softnet")[0] for page in box.pages.values()) - before == 7 * each


# ---------------------------------------------------------------- batches


@pytest.mark.conformance("N2.6")
@pytest.mark.parametrize(
    ("era", "order"),
    [
        ("6.1", ["tap"] * 6 + ["icmp_rcv"] * 3),
        ("3.10", ["tap", "tap", "icmp_rcv"] * 3),
    ],
)
def test_three_replies_of_one_poll(era: str, order: list[str]) -> None:
    box = Box(era, cpus=1)
    box.ping("-c", "1")
    frames: list[bytes] = []

    def watch(_now: int, _sender: str, receiver: str, message: object) -> None:
        if receiver == "eth0" and isinstance(message, EthFrame):
            frames.append(message.frame)

    box.machine.simulation.watch = watch
    job = box.start("ping", "-c", "2", "-i", "1", GATEWAY)
    box.live(500)
    tap = box.capture("any", "-p")
    recorder = Recorder(box.machine.ram.recorder_words("cpu0"))
    recorder.mask = ALL_EVENTS
    since = recorder.count
    for _ in range(3):  # copies of the first reply, within one interrupt's delay
        box.machine.simulation.send("eth0", EthFrame(frames[-1]), sender="lan")
    box.live(20)
    records, _, lost = recorder.read(since)
    assert not lost
    names = {TRACEPOINTS["tap_receive"].number: "tap", TRACEPOINTS["icmp_rcv"].number: "icmp_rcv"}
    polls = [r for r in records if r.event == TRACEPOINTS["napi_poll"].number]
    assert len([r for r in records if r.event == TRACEPOINTS["rx_clean"].number]) == 3
    assert polls
    assert [names[r.event] for r in records if r.event in names] == order
    assert len(tap.packets()) == 6
    box.end(job)


# ---------------------------------------------------------------- promiscuous mode


@pytest.mark.parametrize("era", ERAS)
def test_a_capture_puts_its_device_and_a_bonds_active_slave_into_promiscuous_mode(
    era: str,
) -> None:
    box = Box(era)
    began = box.now_s
    tap = box.capture("bond0")
    assert box.said(began) == [
        "device bond0 entered promiscuous mode",
        "device eth0 entered promiscuous mode",
    ]
    box.live(1)
    ended = box.now_s
    tap.stop()
    assert box.said(ended) == [
        "device bond0 left promiscuous mode",
        "device eth0 left promiscuous mode",
    ]
    box.live(1)
    quiet = box.now_s
    box.capture("bond0", "-p")
    assert box.said(quiet) == []


def test_promiscuous_mode_follows_the_active_slave() -> None:
    box = Box()
    tap = box.capture("bond0")
    box.live(1)
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live(300)
    lines = [line for line in box.said(began) if "promiscuous" in line]
    assert lines == ["device eth0 left promiscuous mode", "device eth1 entered promiscuous mode"]
    box.live(1)
    ended = box.now_s
    tap.stop()
    assert box.said(ended) == [
        "device bond0 left promiscuous mode",
        "device eth1 left promiscuous mode",
    ]


def test_a_capture_of_a_device_that_is_not_there() -> None:
    ran = Box().run("tcpdump", "-i", "eth7")
    assert (ran.code, ran.err) == (1, "tcpdump: eth7: No such device exists\n")


def test_nothing_is_captured_after_the_end_of_a_session() -> None:
    box = Box()
    tap = box.capture("bond0")
    box.ping("-c", "1")
    count = len(tap.packets())
    tap.stop()
    box.ping("-c", "1")
    assert len(tap.packets()) == count
