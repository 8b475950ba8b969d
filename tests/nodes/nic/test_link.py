"""Link: light, negotiation time, LSC, laser; what the switch is told."""

from __future__ import annotations

import pytest

from bus.messages import LinkState, PeerBack, PeerLost
from nodes.nic.link import LOCK_NS, NEGOTIATION_NS
from tests.nodes.nic.rig import MS, Rig

UP = 0x70000080


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.enable()
    return rig


def to_lan(said: list[tuple[str, object]]) -> list[object]:
    return [m for peer, m in said if peer == "lan"]


def test_link_comes_up_by_itself_after_power_on(rig: Rig) -> None:
    assert rig.read("LINKS") == 0
    rig.give()
    rig.advance(NEGOTIATION_NS)
    assert rig.read("LINKS") == UP
    assert rig.read("EICS") == 1 << 20


def test_no_light_no_link(rig: Rig) -> None:
    rig.give(("lan", LinkState(0, 10000)))
    rig.advance(100 * MS)
    assert rig.read("LINKS") == 0
    assert rig.read("EICS") == 0


@pytest.mark.conformance("H7.6-3")
def test_each_change_of_light_is_a_cause(rig: Rig) -> None:
    rig.link()
    rig.give(("lan", LinkState(0, 10000)))
    assert rig.read("LINKS") == 0
    assert rig.read("EICS") == 1 << 20
    rig.write("EICR", 1 << 20)
    rig.give(("lan", LinkState(1, 10000)))
    assert rig.read("LINKS") == 0
    rig.advance(LOCK_NS)
    assert rig.read("LINKS") == UP
    assert rig.read("EICS") == 1 << 20
    assert rig.page["link_changes"] == 3


@pytest.mark.conformance("H7.6-1")
@pytest.mark.conformance("H7.6-2")
def test_restarting_negotiation_drops_the_link_for_a_while(rig: Rig) -> None:
    rig.link()
    autoc = rig.read("AUTOC")
    rig.write("AUTOC", autoc ^ 0x8000 | 0x1000)
    assert rig.read("AUTOC") == autoc ^ 0x8000
    assert rig.read("ANLP1") & 0xF0000
    assert rig.read("LINKS") == 0
    rig.advance(NEGOTIATION_NS)
    assert rig.read("LINKS") == UP


def test_plain_write_of_autoc_leaves_the_link_alone(rig: Rig) -> None:
    rig.link()
    rig.write("AUTOC", rig.read("AUTOC"))
    assert rig.read("LINKS") == UP


def test_port_reset_keeps_the_link_and_link_reset_drops_it(rig: Rig) -> None:
    rig.link()
    rig.write("CTRL", 1 << 26)
    assert rig.read("LINKS") == UP
    rig.write("CTRL", 1 << 3)
    assert rig.read("LINKS") == 0
    rig.advance(NEGOTIATION_NS)
    assert rig.read("LINKS") == UP


def test_link_change_interrupts_by_the_other_vector() -> None:
    rig = Rig()
    rig.up()
    assert rig.vectors(rig.give(("lan", LinkState(0, 10000)))) == [2]


def test_switch_is_told_of_the_laser_when_it_comes_and_when_it_changes(rig: Rig) -> None:
    rig.node.outbox.clear()
    assert to_lan(rig.give(("lan", PeerBack(2)))) == [LinkState(1, 10000)]
    esdp = rig.read("ESDP")
    assert to_lan(rig.write("ESDP", esdp | 8)) == [LinkState(0, 10000)]
    assert to_lan(rig.write("ESDP", esdp | 8)) == []
    assert to_lan(rig.write("ESDP", esdp)) == [LinkState(1, 10000)]


def test_laser_off_does_not_touch_our_own_link(rig: Rig) -> None:
    rig.link()
    rig.write("ESDP", rig.read("ESDP") | 8)
    assert rig.read("LINKS") == UP


def test_dead_switch_is_a_dark_fibre(rig: Rig) -> None:
    rig.link()
    rig.give(("lan", PeerLost(1)))
    assert rig.read("LINKS") == 0
    rig.give(("lan", PeerBack(2)), ("lan", LinkState(1, 10000)))
    rig.advance(LOCK_NS)
    assert rig.read("LINKS") == UP


def test_light_from_anybody_but_the_switch_is_ignored(rig: Rig) -> None:
    rig.link()
    rig.give(("cpu0", LinkState(0, 10000)))
    assert rig.read("LINKS") == UP
    assert rig.page["unexpected"] == 1


def test_forced_link_needs_no_light(rig: Rig) -> None:
    rig.give(("lan", LinkState(0, 10000)))
    rig.write("AUTOC", rig.read("AUTOC") | 1)
    assert rig.read("LINKS") == UP
