"""The switch's partner alone: two partners face each other, and what it makes of odd frames."""

from __future__ import annotations

import pytest

from bus.faults import LACP_WRONG
from nodes.lan.lacp import SECOND_NS, WRONG, Partner
from nodes.machine import LacpSettings
from nodes.slowproto import (
    COLLECTING,
    DISTRIBUTING,
    Lacpdu,
    Marker,
    PortParams,
    lacpdu_frame,
    lacpdu_from,
    marker_frame,
    marker_from,
)

OTHER = bytes.fromhex("020000000005")


class Side:
    """One switch of two, with two cables to the other one."""

    def __init__(self, settings: LacpSettings) -> None:
        self.partner = Partner([(0, "eth0"), (1, "eth1")], settings, self)
        self.data = {0: False, 1: False}
        self.sent: list[tuple[int, bytes]] = []
        self.peer: Side | None = None
        self.now_ns = 0

    def mux(self, port: int, collecting: bool, distributing: bool) -> None:
        assert collecting == distributing
        self.data[port] = distributing

    def emit(self, port: int, frame: bytes) -> None:
        self.sent.append((port, frame))


class Pair:
    def __init__(self, here: LacpSettings, there: LacpSettings) -> None:
        self.sides = [Side(here), Side(there._replace(system=OTHER))]
        self.now_ns = 0
        for port in (0, 1):
            self.link(port, True)

    def link(self, port: int, up: bool) -> None:
        for side in self.sides:
            side.partner.link(port, up, self.now_ns)
        self._carry()

    def _carry(self) -> None:
        for side, peer in (self.sides, self.sides[::-1]):
            sent, side.sent = side.sent, []
            for port, frame in sent:
                peer.partner.receive(port, frame, self.now_ns)

    def run(self, seconds: float) -> None:
        end = self.now_ns + round(seconds * SECOND_NS)
        while self.now_ns < end:
            self.now_ns += SECOND_NS // 20
            for side in self.sides:
                due = side.partner.next_ns()
                if due is not None and due <= self.now_ns:
                    side.partner.tick(self.now_ns)
            self._carry()

    def data(self) -> list[bool]:
        return [side.data[port] for side in self.sides for port in (0, 1)]


@pytest.mark.parametrize("activity", ["active", "passive"])
@pytest.mark.parametrize("rate", ["slow", "fast"])
def test_two_switches_aggregate_if_one_of_them_is_active(activity: str, rate: str) -> None:
    pair = Pair(LacpSettings(rate=rate), LacpSettings(activity=activity, rate=rate))
    pair.run(1.9)
    assert pair.data() == [False] * 4
    pair.run(2)
    assert pair.data() == [True] * 4
    pair.run(100)
    assert pair.data() == [True] * 4


def test_two_passive_switches_never_speak() -> None:
    passive = LacpSettings(activity="passive")
    pair = Pair(passive, passive)
    pair.run(100)
    assert pair.data() == [False] * 4


def test_a_link_that_goes_takes_its_member_out_at_once_and_may_come_back() -> None:
    pair = Pair(LacpSettings(), LacpSettings())
    pair.run(5)
    pair.link(1, False)
    assert pair.data() == [True, False, True, False]
    pair.link(1, True)
    pair.run(5)
    assert pair.data() == [True] * 4


def test_a_silent_partner_is_left_after_its_timeout() -> None:
    for rate, seconds in (("fast", 3), ("slow", 90)):
        pair = Pair(LacpSettings(rate=rate), LacpSettings(rate=rate))
        pair.run(35)
        pair.sides[1].partner.speak(0, "silent")
        pair.run(seconds - 31 if rate == "slow" else 1.5)
        assert pair.sides[0].data[0]
        pair.run(40 if rate == "slow" else 2)
        assert not pair.sides[0].data[0]
        assert pair.sides[0].data[1]
        pair.sides[1].partner.speak(0, "")
        pair.run(40)
        assert pair.data() == [True] * 4


def test_members_with_another_key_stay_out_and_take_over_when_they_are_the_last() -> None:
    pair = Pair(LacpSettings(), LacpSettings(keys=(("eth1", 9),)))
    pair.run(5)
    assert pair.sides[0].data == {0: True, 1: False}
    pair.link(0, False)
    pair.run(40)
    assert pair.sides[0].data == {0: False, 1: True}
    pair.link(0, True)
    pair.run(40)
    assert pair.sides[0].data == {0: False, 1: True}  # who is attached stays


def test_garbage_ends_nowhere_and_is_counted() -> None:
    side = Side(LacpSettings())
    side.partner.link(0, True, 0)
    pdu = Lacpdu(PortParams(1, OTHER, 1, 1, 1, 0x47), PortParams(0, bytes(6), 0, 0, 0, 0))
    good = lacpdu_frame(OTHER, pdu)
    bad = [good[:n] for n in range(14, 124)]
    bad += [good[:16] + b"\x09" + good[17:], lacpdu_frame(OTHER, pdu._replace(actor=mine(side)))]
    for frame in bad:
        side.partner.receive(0, frame, 1)
    assert side.partner.snapshot(0)["illegal"] == len(bad)
    assert side.partner.snapshot(0)["rx"] == "expired"
    side.partner.receive(0, good, 1)
    assert side.partner.snapshot(0)["rx"] == "current"
    assert not side.partner.snapshot(0)["wrong"]


def mine(side: Side) -> PortParams:
    return PortParams(32768, side.partner.settings.system, 1, 32768, 1, 0x45)


def test_markers_are_answered_and_responses_are_not() -> None:
    side = Side(LacpSettings())
    side.partner.link(0, True, 0)
    side.sent.clear()
    marker = Marker(1, 9, OTHER, 5)
    side.partner.receive(0, marker_frame(OTHER, marker), 1)
    side.partner.receive(0, marker_frame(OTHER, marker._replace(kind=2)), 1)
    assert [marker_from(frame) for _, frame in side.sent] == [marker._replace(kind=2)]


def test_the_table_of_faults_names_every_way_to_be_wrong() -> None:
    assert tuple(WRONG) == LACP_WRONG


def test_a_partner_out_of_sync_hides_that_it_carries_data() -> None:
    pair = Pair(LacpSettings(), LacpSettings())
    pair.run(5)
    pair.sides[1].partner.speak(0, "out-of-sync")
    pair.run(31)
    assert not pair.sides[0].data[0]
    side = pair.sides[1]
    pair.run(31)
    frames = [frame for port, frame in side.sent if port == 0]
    states = [pdu.actor.port_state for f in frames if (pdu := lacpdu_from(f)) is not None]
    assert not any(state & (COLLECTING | DISTRIBUTING) for state in states)
