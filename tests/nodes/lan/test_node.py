"""Switch: learning, ageing, flooding, cables and light, accounts by port and reason."""

from __future__ import annotations

import sys
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether

from bus.messages import (
    Cable,
    EthFrame,
    LinkState,
    MemRead,
    PeerBack,
    PeerLost,
    Reply,
    Snapshot,
)
from bus.recorder import ALL_EVENTS, Recorder
from nodes.lan import trace
from nodes.lan.node import LanNode
from nodes.lan.page import GATEWAY_PORT, GW_DROPS, IN_DROPS, PORTS
from nodes.lan.switch import AGEING_NS
from nodes.ledger import OTHER, REPLY, REQUEST
from tests.nodes.harness import MACS, Bench, machine

GATEWAY = bytes.fromhex("020000000001")
BROADCAST = b"\xff" * 6


def bench(nics: int = 3) -> Bench:
    """All NICs there, lasers on."""
    settings = machine(nics=nics)
    lan = Bench(settings, "lan", lambda around: LanNode(around, settings))
    for name in settings.nic_names:
        assert lan.give((name, PeerBack(1))) == [(name, LinkState(1, 10000))]
        assert lan.give((name, LinkState(1, 10000))) == []
    return lan


def frame(source: bytes, destination: bytes, size: int = 60) -> bytes:
    return (destination + source + b"\x88\xb5").ljust(size, b"\x5a")


def send(lan: Bench, port: int, data: bytes) -> list[str]:
    """Names of the NICs that get the frame, which must arrive unchanged."""
    said = lan.give((f"eth{port}", EthFrame(data)))
    assert all(m == EthFrame(data) for _, m in said)
    return [peer for peer, _ in said]


def balanced(lan: Bench) -> None:
    """The sums that the page promises."""
    page = lan.page
    for kind in range(3):

        def total(name: str, kind: int = kind) -> int:
            return sum(page.run(name)[kind::3])

        sources = ("frames_in", "fault_dup", "slow_sent")
        ends = ("frames_out", "fault_held", "slow_taken", *IN_DROPS)
        taken = sum(total(name) for name in sources) + page.run("flood_copies")[kind]
        assert taken == sum(total(name) for name in ends)
        to_gateway = page.run("frames_out")[3 * GATEWAY_PORT + kind]
        assert to_gateway == page.run("gw_answered")[kind] + sum(
            page.run(name)[kind] for name in GW_DROPS
        )
        assert page.run("frames_in")[3 * GATEWAY_PORT + kind] == page.run("gw_generated")[kind]


def dropped(lan: Bench, port: int) -> dict[str, int]:
    out = {name: sum(lan.page.run(name)[3 * port : 3 * port + 3]) for name in IN_DROPS}
    return {name: count for name, count in out.items() if count}


def test_unknown_address_is_flooded_and_known_one_is_not() -> None:
    lan = bench()
    assert send(lan, 0, frame(MACS[0], MACS[1])) == ["eth1", "eth2"]
    assert send(lan, 1, frame(MACS[1], MACS[0])) == ["eth0"]
    assert send(lan, 0, frame(MACS[0], MACS[1])) == ["eth1"]
    assert lan.page["flooded"] == 1
    assert lan.page["mac_entries"] == 2
    balanced(lan)


def test_broadcast_goes_to_every_other_port() -> None:
    lan = bench()
    assert send(lan, 1, frame(MACS[1], BROADCAST)) == ["eth0", "eth2"]
    assert send(lan, 1, frame(MACS[1], BROADCAST)) == ["eth0", "eth2"]


def test_address_ages_out_after_300_s() -> None:
    lan = bench()
    send(lan, 0, frame(MACS[0], BROADCAST))
    lan.clock.ns += AGEING_NS - 1
    assert send(lan, 1, frame(MACS[1], MACS[0])) == ["eth0"]
    lan.clock.ns += 1
    assert send(lan, 1, frame(MACS[1], MACS[0])) == ["eth0", "eth2"]
    assert lan.page["aged"] == 1


def test_each_frame_makes_its_sender_young_again() -> None:
    lan = bench()
    for _ in range(3):
        send(lan, 0, frame(MACS[0], BROADCAST))
        lan.clock.ns += AGEING_NS - 1
    assert send(lan, 1, frame(MACS[1], MACS[0])) == ["eth0"]


def test_moved_address_is_found_at_its_new_port() -> None:
    """What a gratuitous ARP after a failover is for."""
    lan = bench()
    send(lan, 0, frame(MACS[0], BROADCAST))
    assert send(lan, 2, frame(MACS[2], MACS[0])) == ["eth0"]
    send(lan, 1, frame(MACS[0], BROADCAST))
    assert send(lan, 2, frame(MACS[2], MACS[0])) == ["eth1"]
    assert lan.page["moved"] == 1


def test_moved_address_is_young_at_its_new_port() -> None:
    lan = bench()
    send(lan, 0, frame(MACS[0], BROADCAST))
    lan.clock.ns += AGEING_NS - 1
    send(lan, 1, frame(MACS[0], BROADCAST))
    lan.clock.ns += AGEING_NS - 1
    assert send(lan, 2, frame(MACS[2], MACS[0])) == ["eth1"]


def test_frame_to_the_port_it_came_from_ends() -> None:
    lan = bench()
    send(lan, 0, frame(MACS[0], BROADCAST))
    assert send(lan, 0, frame(MACS[3], MACS[0])) == []
    assert dropped(lan, 0) == {"in_drop_same_port": 1}
    balanced(lan)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(MACS[0], MACS[1])[:59], "in_drop_undersize"),
        (b"", "in_drop_undersize"),
        (frame(b"\x01\x00\x5e\x00\x00\x01", MACS[1]), "in_drop_source"),
        (frame(MACS[0], bytes.fromhex("0180c2000002")), "in_drop_reserved"),
    ],
)
def test_bad_frames_end_by_name(data: bytes, reason: str) -> None:
    lan = bench()
    assert send(lan, 0, data) == []
    assert dropped(lan, 0) == {reason: 1}
    balanced(lan)


# -- cables and light


def cable(lan: Bench, port: str, inserted: int) -> list[tuple[str, Any]]:
    return lan.give(("ctl", Cable(5, port, inserted)))


def test_cable_out_is_dark_and_drops_by_name_and_cable_in_mends_it() -> None:
    lan = bench()
    send(lan, 0, frame(MACS[0], BROADCAST))
    send(lan, 1, frame(MACS[1], BROADCAST))
    said = cable(lan, "eth0", 0)
    assert said == [
        ("eth0", LinkState(0, 10000)),
        ("ctl", Reply(5, 1, msgpack.packb(None))),
    ]
    assert lan.page.run("link")[:3] == [0, 1, 1]
    assert lan.page["flushed"] == 1
    assert send(lan, 0, frame(MACS[0], MACS[1])) == []
    assert dropped(lan, 0) == {"in_drop_cable_out": 1}
    assert send(lan, 1, frame(MACS[1], MACS[0])) == ["eth2"]  # forgotten: flooded, not to eth0
    assert ("eth0", LinkState(1, 10000)) in cable(lan, "eth0", 1)
    assert send(lan, 0, frame(MACS[0], MACS[1])) == ["eth1"]
    balanced(lan)


def test_same_hand_twice_changes_nothing() -> None:
    lan = bench()
    assert [m.ok for _, m in cable(lan, "eth0", 1)] == [1]
    assert lan.page.run("link_changes")[0] == 1


def test_cable_of_an_unknown_port_is_refused_in_words() -> None:
    lan = bench()
    ((peer, reply),) = cable(lan, "eth9", 0)
    assert (peer, reply.ok) == ("ctl", 0)
    assert "eth9" in msgpack.unpackb(reply.value)


def test_laser_off_takes_the_port_down() -> None:
    lan = bench()
    lan.give(("eth0", LinkState(0, 10000)))
    assert lan.page.run("link")[:3] == [0, 1, 1]
    assert send(lan, 0, frame(MACS[0], BROADCAST)) == []
    assert dropped(lan, 0) == {"in_drop_no_light": 1}


def test_dead_nic_has_no_light_and_its_successor_must_shine_itself() -> None:
    lan = bench()
    lan.give(("eth0", PeerLost(1)))
    assert lan.page.run("link")[0] == 0
    assert send(lan, 1, frame(MACS[1], BROADCAST)) == ["eth2"]
    assert lan.give(("eth0", PeerBack(2))) == [("eth0", LinkState(1, 10000))]
    assert lan.page.run("link")[0] == 0
    lan.give(("eth0", LinkState(1, 10000)))
    assert send(lan, 1, frame(MACS[1], BROADCAST)) == ["eth0", "eth2"]


def test_successor_without_a_farewell_must_shine_itself_too() -> None:
    lan = bench()
    lan.give(("eth0", PeerBack(2)))
    assert lan.page.run("link")[0] == 0


def test_light_that_is_told_before_the_way_back_is_there_stays() -> None:
    """Two connections, one each way: a new switch may hear the NIC before it can answer it."""
    settings = machine(nics=1)
    lan = Bench(settings, "lan", lambda around: LanNode(around, settings))
    lan.give(("eth0", LinkState(1, 10000)))
    assert lan.give(("eth0", PeerBack(1))) == [("eth0", LinkState(1, 10000))]
    assert lan.page.run("link")[0] == 1


def test_cable_stays_out_over_a_restart_of_the_nic() -> None:
    lan = bench()
    cable(lan, "eth0", 0)
    lan.give(("eth0", PeerLost(1)))
    assert lan.give(("eth0", PeerBack(2))) == [("eth0", LinkState(0, 10000))]
    lan.give(("eth0", LinkState(1, 10000)))
    assert lan.page.run("link")[0] == 0


# -- gateway behind the switch

REQUEST_FRAME = bytes(
    Ether(src=MACS[0], dst=GATEWAY) / IP(src="192.168.1.10", dst="192.168.1.1")
    / ICMP(id=7, seq=1) / (b"x" * 56)
)  # fmt: skip


def test_ping_through_the_switch() -> None:
    lan = bench()
    arp = bytes(
        Ether(src=MACS[0], dst=BROADCAST)
        / ARP(op=1, hwsrc=MACS[0], psrc="192.168.1.10", pdst="192.168.1.1")
    ).ljust(60, b"\0")
    said = lan.give(("eth0", EthFrame(arp)))
    assert [peer for peer, _ in said] == ["eth1", "eth2", "eth0"]
    ((peer, message),) = lan.give(("eth0", EthFrame(REQUEST_FRAME)))
    assert peer == "eth0"
    assert Ether(message.frame)[ICMP].type == 0
    page = lan.page
    assert page.run("frames_in")[0:3] == [1, 1, 0]
    assert page.run("frames_out")[0:3] == [1, 0, 1]
    assert page.run("gw_answered") == [1, 1, 0]
    assert page.run("gw_generated") == [1, 0, 1]
    balanced(lan)


def test_cable_pulled_between_two_requests_of_one_inbox() -> None:
    lan = bench(nics=1)
    said = lan.give(
        ("eth0", EthFrame(REQUEST_FRAME)), ("ctl", Cable(1, "eth0", 0)),
        ("eth0", EthFrame(REQUEST_FRAME)),
    )  # fmt: skip
    assert [peer for peer, m in said if isinstance(m, EthFrame)] == ["eth0"]
    assert lan.page.run("gw_answered")[REQUEST] == 1
    assert lan.page.run("in_drop_cable_out")[REQUEST] == 1
    balanced(lan)


def test_losses_at_the_hand_over_have_names() -> None:
    lan = bench()
    lan.node.undelivered("eth1", [EthFrame(REQUEST_FRAME), LinkState(1, 10000)], True)
    lan.node.undelivered("eth2", [EthFrame(frame(MACS[0], MACS[1]))], False)
    lan.node.undelivered("ctl", [Reply(1, 1, b"")], True)
    assert lan.page.run("lost_dead")[3 + REQUEST] == 1
    assert lan.page.run("lost_full")[6 + OTHER] == 1
    assert sum(lan.page.run("lost_dead")) + sum(lan.page.run("lost_full")) == 2


def test_table_shows_in_the_page_and_in_the_snapshot() -> None:
    lan = bench()
    send(lan, 1, frame(MACS[1], BROADCAST))
    lan.clock.ns += 2_000_000_000
    send(lan, 0, frame(MACS[0], BROADCAST))
    rows = lan.page.run("macs")
    assert rows[0] == int.from_bytes(MACS[1], "big") | 2 << 48
    assert rows[3] == lan.clock.ns
    ((_, reply),) = lan.give(("ctl", Snapshot(1, "state")))
    state = msgpack.unpackb(reply.value)
    assert state["macs"] == [[MACS[0].hex(":"), "eth0", 0, 0], [MACS[1].hex(":"), "eth1", 2000, 0]]
    assert state["ports"][-1] == ["gateway", True]


def test_full_table_learns_no_more_and_keeps_working() -> None:
    lan = bench()
    for n in range(1100):
        send(lan, 0, frame(b"\x02\x00\x00\x00" + n.to_bytes(2, "big"), BROADCAST))
    assert lan.page["mac_entries"] == 1024
    assert lan.page["table_full"] == 76
    lan.clock.ns += AGEING_NS
    send(lan, 0, frame(MACS[0], BROADCAST))
    assert lan.page["mac_entries"] == 1


def test_rows_of_the_page_are_used_again() -> None:
    lan = bench()
    for n in range(3):
        for k in range(60):
            send(lan, 0, frame(bytes((2, n, 0, 0, 0, k)), BROADCAST))
        lan.clock.ns += AGEING_NS
        lan.give(("ctl", Snapshot(1, "state")))
        assert not any(lan.page.run("macs")[0::2])
    for k in range(64):
        send(lan, 0, frame(bytes((2, 9, 0, 0, 0, k)), BROADCAST))
    assert all(lan.page.run("macs")[0::2])


def test_trace_of_a_ping() -> None:
    lan = bench()
    recorder = Recorder(lan.ram.recorder_words("lan"))
    recorder.mask = ALL_EVENTS
    lan.give(("eth0", EthFrame(REQUEST_FRAME)))
    names = {point.number: point.name for point in trace.TRACEPOINTS.values()}
    records = recorder.read()[0]
    assert [names[r.event] for r in records] == [
        "in", "learn", "flood", "gateway", "in", "learn", "forward",
    ]  # fmt: skip
    assert records[0].a == REQUEST << 32 | 7 << 16 | 1
    assert records[-1].a == REPLY << 32 | 7 << 16 | 1
    assert records[-1].b == GATEWAY_PORT << 16 | 0


@pytest.mark.parametrize(
    ("data", "calls_max"),
    [(REQUEST_FRAME, 25), (frame(MACS[0], MACS[1]), 9), (frame(MACS[0], BROADCAST), 15)],
    ids=["ping", "forward", "flood"],
)
def test_a_frame_costs_no_more_calls_than_it_did_before_there_were_faults(
    data: bytes, calls_max: int
) -> None:
    """24, 8 and 15 Python calls, without a fault, VLANs or channels."""
    lan = bench()
    for port in range(3):
        send(lan, port, frame(MACS[port], BROADCAST))
    lan.give(("eth0", EthFrame(REQUEST_FRAME)))
    calls = 0

    def count(code: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        lan.node.turn([("eth0", EthFrame(data))] * 100, 64)
    finally:
        sys.setprofile(None)
    assert calls <= 100 * calls_max


FRAMES = st.one_of(
    st.binary(max_size=80),
    st.builds(
        frame,
        st.sampled_from(MACS),
        st.sampled_from([*MACS, GATEWAY, BROADCAST, bytes.fromhex("0180c2000000")]),
    ),
    st.just(REQUEST_FRAME),
)
MESSAGES = st.one_of(
    st.builds(EthFrame, FRAMES),
    st.builds(LinkState, st.integers(0, 1), st.just(10000)),
    st.builds(Cable, st.just(1), st.sampled_from(["eth0", "eth1", "x"]), st.integers(0, 1)),
    st.builds(MemRead, st.just(1), st.just(0), st.just(0)),
    st.builds(Snapshot, st.just(1), st.text(max_size=6)),
    st.just(PeerLost(1)),
    st.just(PeerBack(1)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["eth0", "eth1", "eth2", "ctl"]), MESSAGES)))
def test_any_messages_leave_balanced_accounts(messages: list[tuple[str, Any]]) -> None:
    lan = bench()
    said = lan.give(*messages)
    balanced(lan)
    out = lan.page.run("frames_out")
    assert sum(isinstance(m, EthFrame) for _, m in said) == sum(out[: 3 * (PORTS - 1)])
