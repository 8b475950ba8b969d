"""Port-channels: one logical port of several cables; partners that decide for the members."""

from __future__ import annotations

from typing import Any

import pytest

from bus.messages import Cable, EthFrame, LinkState, PeerBack
from nodes.lan.channel import PARTNERS, Channel
from nodes.lan.node import LanNode
from nodes.lan.page import PORTS
from nodes.machine import ChannelSettings, LanSettings
from tests.nodes.harness import MACS, Bench, machine
from tests.nodes.lan.test_node import balanced, dropped, frame

BROADCAST = b"\xff" * 6
LACPDU = (bytes.fromhex("0180c2000002") + MACS[0] + b"\x88\x09\x01\x01").ljust(124, b"\0")


def switch(mode: str = "static") -> Bench:
    """eth0 and eth1 are po1, eth2 and eth3 are single."""
    channels = (ChannelSettings("po1", ("eth0", "eth1"), mode),)
    settings = machine(nics=4)._replace(lan=LanSettings(channels=channels))
    lan = Bench(settings, "lan", lambda around: LanNode(around, settings))
    for name in settings.nic_names:
        lan.give((name, PeerBack(1)), (name, LinkState(1, 10000)))
    return lan


def send(lan: Bench, port: int, data: bytes) -> list[str]:
    said = lan.give((f"eth{port}", EthFrame(data)))
    balanced(lan)
    return [peer for peer, _ in said]


def test_a_frame_of_one_member_never_leaves_by_another() -> None:
    lan = switch()
    assert send(lan, 0, frame(MACS[0], BROADCAST)) == ["eth2", "eth3"]
    assert send(lan, 1, frame(MACS[1], MACS[0])) == []
    assert dropped(lan, 1) == {"in_drop_same_port": 1}


def test_a_flood_goes_out_of_one_member_alone() -> None:
    lan = switch()
    for last in range(8):
        out = send(lan, 2, frame(bytes((2, 0, 0, 0, 0, last)), BROADCAST))
        assert len([peer for peer in out if peer in ("eth0", "eth1")]) == 1
        assert "eth3" in out


def test_addresses_are_learned_on_the_channel_and_a_hash_chooses_the_member() -> None:
    lan = switch()
    send(lan, 0, frame(MACS[0], BROADCAST))
    send(lan, 1, frame(MACS[0], BROADCAST))
    assert lan.page["moved"] == 0
    assert lan.page.run("macs")[0] >> 48 == PORTS + 1
    used = set()
    for last in range(8):
        source = bytes((2, 0, 0, 0, 0, last))
        out = [send(lan, 2, frame(source, MACS[0])) for _ in range(3)]
        assert out[0] == out[1] == out[2], "a conversation keeps its member"
        used.update(out[0])
    assert used == {"eth0", "eth1"}


def test_the_other_member_takes_all_when_one_loses_its_link() -> None:
    lan = switch()
    send(lan, 0, frame(MACS[0], BROADCAST))
    lan.give(("ctl", Cable(1, "eth0", 0)))
    assert lan.page["flushed"] == 0, "the channel is still there"
    for last in range(4):
        assert send(lan, 2, frame(bytes((2, 0, 0, 0, 0, last)), MACS[0])) == ["eth1"]
    lan.give(("ctl", Cable(2, "eth1", 0)))
    assert lan.page["flushed"] == 1
    assert send(lan, 2, frame(MACS[2], MACS[0])) == ["eth3"]
    lan.give(("ctl", Cable(3, "eth0", 1)))
    assert set(send(lan, 2, frame(MACS[2], BROADCAST))) == {"eth0", "eth3"}


def test_a_static_channel_takes_no_lacpdu() -> None:
    lan = switch()
    assert send(lan, 0, LACPDU) == []
    assert dropped(lan, 0) == {"in_drop_reserved": 1}


class Recorded:
    """A partner that writes down what it hears."""

    def __init__(self, channel: Channel, lan: Any, machine: Any) -> None:
        self.lan = lan
        self.channel = channel
        self.heard: list[Any] = []
        self.due: int | None = None

    def receive(self, port: int, frame: bytes, now_ns: int) -> None:
        self.heard.append((port, frame))

    def link(self, port: int, up: bool, now_ns: int) -> None:
        self.heard.append((port, up))

    def tick(self, now_ns: int) -> None:
        self.heard.append("tick")
        self.due = None
        self.lan.emit(1, LACPDU)

    def next_ns(self) -> int | None:
        return self.due


@pytest.fixture
def partnered(monkeypatch: pytest.MonkeyPatch) -> tuple[Bench, Recorded]:
    made: list[Recorded] = []

    def make(*words: Any) -> Recorded:
        made.append(Recorded(*words))
        return made[0]

    monkeypatch.setitem(PARTNERS, "heard", make)
    return switch("heard"), made[0]


def test_a_partner_hears_of_links_and_lacpdus_and_decides(
    partnered: tuple[Bench, Recorded],
) -> None:
    lan, partner = partnered
    assert partner.heard == [(0, True), (1, True)]
    assert send(lan, 0, LACPDU) == []
    assert partner.heard[-1] == (0, LACPDU)
    assert sum(lan.page.run("slow_taken")) == 1
    assert send(lan, 0, frame(MACS[0], BROADCAST)) == []
    assert dropped(lan, 0) == {"in_drop_not_collecting": 1}
    assert send(lan, 2, frame(MACS[2], BROADCAST)) == ["eth3"], "nobody distributes"
    partner.lan.mux(0, True, False)
    assert send(lan, 0, frame(MACS[0], BROADCAST)) == ["eth2", "eth3"]
    assert send(lan, 2, frame(MACS[2], MACS[0])) == []
    assert dropped(lan, 0)["out_drop_no_link"] == 1
    partner.lan.mux(1, True, True)
    assert send(lan, 2, frame(MACS[2], MACS[0])) == ["eth1"]
    assert lan.page.run("collecting")[:2] == [1, 1]
    assert lan.page.run("distributing")[:2] == [0, 1]


def test_a_partners_timer_wakes_the_switch_and_its_frame_has_an_account(
    partnered: tuple[Bench, Recorded],
) -> None:
    lan, partner = partnered
    partner.due = lan.clock.ns + 1_000_000
    lan.give()
    assert lan.wake == partner.due
    said = lan.advance(2_000_000)
    assert said == [("eth1", EthFrame(LACPDU))]
    assert sum(lan.page.run("slow_sent")) == 1
    balanced(lan)
