"""Faults of a port and its cable: each kind, both ways, alone and together; the accounts hold."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from bus.faults import HITS, KINDS, PORT, ROW_WORDS, ROWS, parse
from bus.messages import (
    BadFrame,
    Cable,
    EthFrame,
    Fault,
    LinkState,
    PeerBack,
    PeerLost,
    Reply,
    Snapshot,
)
from nodes.lan.cable import FRAMES_MAX, REORDER_NS
from nodes.lan.page import GATEWAY_PORT, IN_DROPS, PORTS
from nodes.ledger import REQUEST
from tests.nodes.harness import MACS, Bench
from tests.nodes.lan.test_node import balanced, bench, dropped, frame

MS = 1_000_000
BROADCAST = b"\xff" * 6
GATEWAY = bytes.fromhex("020000000001")


def fault(lan: Bench, port: str, text: str, for_ns: int = 0) -> None:
    name, equals, value = text.partition("=")
    number = parse(KINDS[name], value if equals else None)
    said = lan.give(("ctl", Fault(1, name, number, for_ns, 1, port)))
    assert ("ctl", Reply(1, 1, msgpack.packb(0))) in said


def clear(lan: Bench, port: str, name: str = "") -> None:
    lan.give(("ctl", Fault(2, name, 0, 0, 0, port)))


def known(nics: int = 2) -> Bench:
    """Two NICs that the switch knows."""
    lan = bench(nics)
    for port in range(nics):
        lan.give((f"eth{port}", EthFrame(frame(MACS[port], BROADCAST))))
    lan.said.clear()
    return lan


def there(lan: Bench, count: int = 1) -> list[tuple[str, Any]]:
    """Frames from eth0 to eth1, each with its number as payload."""
    out = []
    for n in range(count):
        out += lan.give(("eth0", EthFrame(numbered(n))))
        balanced(lan)
    return out


def numbered(n: int) -> bytes:
    return frame(MACS[0], MACS[1])[:14] + n.to_bytes(2, "big") + bytes(44)


def numbers(said: list[tuple[str, Any]]) -> list[int]:
    return [int.from_bytes(m.frame[14:16], "big") for _, m in said]


@pytest.mark.parametrize(
    ("port", "text", "passes"),
    [
        ("eth0", "silent", False),
        ("eth1", "silent", False),
        ("eth0", "silent=rx", True),
        ("eth0", "silent=tx", False),
        ("eth1", "silent=rx", False),
        ("eth0", "one-way=tx", True),
        ("eth0", "one-way=rx", False),
        ("eth1", "one-way=rx", True),
        ("eth1", "one-way=tx", False),
        ("eth0", "loss", False),
        ("eth0", "loss=all,rx", True),
    ],
)
def test_ways_are_the_nics(port: str, text: str, passes: bool) -> None:
    lan = known()
    fault(lan, port, text)
    assert bool(there(lan)) == passes
    reason = f"fault_{text.partition('=')[0].replace('-', '_')}"
    assert dropped(lan, int(port[-1])) == ({} if passes else {reason: 1})


def test_a_silent_cable_keeps_its_light() -> None:
    lan = known()
    fault(lan, "eth0", "silent")
    assert lan.page.run("link")[:2] == [1, 1]
    assert lan.page["link_changes"] == 1
    clear(lan, "eth0")
    assert there(lan)


def test_a_port_that_is_shut_is_dark_both_ways_until_it_is_mended() -> None:
    lan = known()
    said = lan.give(("ctl", Fault(1, "down", 1, 0, 1, "eth0")))
    assert ("eth0", LinkState(0, 10000)) in said
    assert lan.page.run("link")[:2] == [0, 1]
    assert there(lan) == []
    assert dropped(lan, 0) == {"in_drop_port_down": 1}
    said = lan.give(("ctl", Fault(1, "down", 0, 0, 0, "eth0")))
    assert ("eth0", LinkState(1, 10000)) in said
    assert there(lan)


def test_a_share_is_lost_and_the_rest_arrives_in_order() -> None:
    lan = known()
    fault(lan, "eth0", "loss=25%")
    arrived = numbers(there(lan, 400))
    assert arrived == sorted(arrived)
    lost = dropped(lan, 0)["fault_loss"]
    assert lost + len(arrived) == 400
    assert 60 < lost < 140
    assert lan.page.run("faults")[HITS] == lost


def test_a_count_is_used_up_and_the_fast_path_comes_back() -> None:
    lan = known()
    fault(lan, "eth0", "loss=2")
    assert numbers(there(lan, 4)) == [2, 3]
    lan.give()
    assert not lan.node.forwarding.broken
    assert lan.wake is None


def test_delay_and_jitter_keep_the_order() -> None:
    lan = known()
    fault(lan, "eth0", "delay=5ms,tx")
    fault(lan, "eth1", "jitter=2ms")
    began = lan.clock.ns
    assert there(lan, 20) == []
    assert sum(lan.page.run("fault_held")) == 20
    assert lan.advance(5 * MS - 1) == []
    assert numbers(lan.advance(2 * MS + 1)) == list(range(20))
    assert lan.clock.ns - began == 7 * MS
    balanced(lan)
    assert sum(lan.page.run("fault_held")) == 0


def test_delays_add_up() -> None:
    lan = known()
    fault(lan, "eth0", "delay=5ms")
    fault(lan, "eth0", "delay=3ms")
    there(lan)
    assert lan.advance(8 * MS - 1) == []
    assert lan.advance(1)


def test_a_rate_lets_one_frame_after_another_pass() -> None:
    """84 bytes on the wire at 1 Mbit/s are 672 us; of two rates the smaller counts."""
    lan = known()
    fault(lan, "eth0", "rate=1Mbit")
    fault(lan, "eth0", "rate=2Mbit")
    there(lan, 3)
    for number in range(3):
        assert lan.advance(671_999) == []
        assert numbers(lan.advance(1)) == [number]


def test_a_full_cable_loses_by_name() -> None:
    lan = known()
    fault(lan, "eth0", "delay=1s")
    there(lan, FRAMES_MAX + 7)
    assert dropped(lan, 0) == {"fault_full": 7}
    assert len(lan.advance(1000 * MS)) == FRAMES_MAX


def test_what_is_in_the_cable_still_arrives_when_the_fault_is_mended() -> None:
    lan = known()
    fault(lan, "eth0", "delay=5ms")
    there(lan, 2)
    clear(lan, "eth0")
    assert there(lan) == [], "it does not overtake"
    assert len(lan.advance(5 * MS)) == 3
    assert there(lan)


@pytest.mark.parametrize("port", ["eth0", "eth1"])
def test_what_is_in_a_pulled_cable_ends_by_name(port: str) -> None:
    lan = known()
    fault(lan, port, "delay=5ms")
    there(lan, 2)
    lan.give(("ctl", Cable(1, port, 0)))
    assert [m for _, m in lan.advance(5 * MS) if isinstance(m, EthFrame)] == []
    reason = "in_drop_cable_out" if port == "eth0" else "out_drop_no_link"
    assert dropped(lan, int(port[-1])) == {reason: 2}
    balanced(lan)


def test_a_doubled_frame_is_a_source() -> None:
    lan = known()
    fault(lan, "eth0", "dup=1")
    assert numbers(there(lan, 3)) == [0, 0, 1, 2]
    assert sum(lan.page.run("fault_dup")) == 1


def test_a_reordered_frame_is_overtaken_once() -> None:
    lan = known()
    fault(lan, "eth0", "reorder=1")
    assert numbers(there(lan, 4)) == [1, 0, 2, 3]


def test_a_frame_that_nobody_overtakes_arrives_late() -> None:
    lan = known()
    fault(lan, "eth0", "reorder=1")
    assert there(lan) == []
    assert lan.advance(REORDER_NS - 1) == []
    assert numbers(lan.advance(1)) == [0]


def test_a_corrupted_frame_ends_at_the_receiver() -> None:
    lan = known()
    fault(lan, "eth0", "corrupt=1")
    assert there(lan) == []
    assert dropped(lan, 0) == {"fault_fcs": 1}
    fault(lan, "eth1", "corrupt=1")
    ((peer, message),) = there(lan)
    assert peer == "eth1"
    assert message == BadFrame(numbered(0))


def ping() -> bytes:
    return bytes(
        Ether(src=MACS[0], dst=GATEWAY) / IP(src="192.168.1.10", dst="192.168.1.1")
        / ICMP(id=7, seq=1) / (b"x" * 56)
    )  # fmt: skip


def test_the_gateway_has_a_cable_too() -> None:
    lan = known()
    fault(lan, "gateway", "delay=5ms")
    lan.give(("eth0", EthFrame(ping())))
    assert lan.advance(10 * MS - 1) == [], "5 ms there and 5 ms back"
    assert [peer for peer, _ in lan.advance(1)] == ["eth0"]
    balanced(lan)
    fault(lan, "gateway", "corrupt")
    lan.give(("eth0", EthFrame(ping())))
    lan.advance(20 * MS)
    assert lan.page.run("fault_fcs")[3 * GATEWAY_PORT + REQUEST] == 1
    balanced(lan)


def test_the_device_ends_a_fault_with_a_time_by_itself() -> None:
    lan = known()
    fault(lan, "eth0", "silent", for_ns=5 * MS)
    assert there(lan) == []
    lan.advance(5 * MS)
    assert there(lan)
    assert lan.page.run("faults")[0] == 0
    assert lan.wake is None


def test_ports_and_kinds_that_are_not_there_are_refused_in_words() -> None:
    lan = known()
    for message, word in (
        (Fault(1, "silent", 1, 0, 1, "eth9"), "eth9"),
        (Fault(1, "hang", 1, 0, 1, "eth0"), "loss"),
        (Fault(1, "down", 1 | 1 << 62, 0, 1, "eth0"), "which"),
    ):
        ((peer, reply),) = lan.give(("ctl", message))
        assert (peer, reply.ok) == ("ctl", 0)
        assert word in msgpack.unpackb(reply.value)
    lan.give(("eth0", Fault(1, "silent", 1, 0, 1, "eth0")))
    assert lan.page["unexpected"] == 1


KIND_NAMES = [kind.name for kind in KINDS.values() if PORT in kind.targets]
PLACES = ["eth0", "eth1", "gateway"]
#: Any value that the wire lets pass, and likely ones.
VALUES = st.one_of(
    st.integers(1, 2**64 - 1),
    st.sampled_from([1, 2, 3, 1 << 32 | 1, 1 << 32 | 2, 1 << 62 | 1, 2 << 62 | 2 * MS, 5 * MS]),
)
FRAMES = st.sampled_from(
    [ping(), numbered(3), frame(MACS[1], MACS[0]), frame(MACS[0], BROADCAST), b"short"]
)
STEPS = st.one_of(
    st.builds(EthFrame, FRAMES),
    st.builds(
        Fault, st.just(1), st.sampled_from(KIND_NAMES), VALUES,
        st.sampled_from([0, 0, MS, 20 * MS]), st.integers(0, 1), st.sampled_from(PLACES),
    ),
    st.builds(Fault, st.just(1), st.just(""), st.just(0), st.just(0), st.just(0),
              st.sampled_from(PLACES)),
    st.builds(Cable, st.just(1), st.sampled_from(["eth0", "eth1"]), st.integers(0, 1)),
    st.sampled_from([PeerLost(1), PeerBack(1), LinkState(1, 10000), LinkState(0, 10000)]),
    st.integers(1, 30 * MS),
)  # fmt: skip


#: 40 frames at 1 bit/s take 13 hours, and as many delays as a port can have (each 1 hour) are 8.
LONGEST_MS = 48 * 3_600_000


@settings(max_examples=250, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["eth0", "eth1"]), STEPS), max_size=40))
def test_accounts_balance_under_any_faults_at_any_time(steps: list[tuple[str, Any]]) -> None:
    lan = known()
    for sender, step in steps:
        if isinstance(step, int):
            lan.advance(step)
        else:
            lan.give(("ctl" if isinstance(step, Fault | Cable) else sender, step))
        balanced(lan)
        held = lan.page.run("fault_held")
        assert all(count <= 2 * FRAMES_MAX for count in held)
    for port in PLACES:
        clear(lan, port)
    lan.advance(LONGEST_MS * MS)
    balanced(lan)
    assert not any(lan.page.run("fault_held")), "nothing waits for ever"
    assert lan.wake is None


def test_the_same_seed_gives_the_same_run() -> None:
    def run() -> list[int]:
        lan = known()
        for text in ("loss=10%", "dup=10%", "jitter=3ms", "reorder=20%"):
            fault(lan, "eth0", text)
        return numbers(there(lan, 50) + lan.advance(50 * MS))

    assert run() == run()


def test_the_snapshot_names_faults_channels_and_neighbours() -> None:
    lan = known()
    fault(lan, "eth1", "loss=2,rx")
    there(lan)
    ((_, reply),) = lan.give(("ctl", Snapshot(1, "state")))
    state = msgpack.unpackb(reply.value)
    assert state["faults"] == [["eth1", "loss=1,rx", 1]]
    assert (state["channels"], state["neighbours"]) == ([], [])


def test_rows_of_each_port_have_their_place() -> None:
    lan = known()
    fault(lan, "gateway", "silent")
    rows = lan.page.run("faults")
    assert len(rows) == PORTS * ROWS * ROW_WORDS
    assert rows[GATEWAY_PORT * ROWS * ROW_WORDS] == KINDS["silent"].number + 1
    assert set(IN_DROPS) >= {"fault_silent", "fault_loss", "fault_full"}
