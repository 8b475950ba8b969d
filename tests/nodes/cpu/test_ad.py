"""802.3ad's machines against the switch's partner, on a desk (``tests.nodes.lacp_wire``)."""

from __future__ import annotations

import itertools

import pytest

from nodes.cpu.kernel.net.bonding.ad import AdBond, AdParams, Aggregator, Port
from nodes.cpu.kernel.net.bonding.ad_keys import handle_link_change
from nodes.cpu.kernel.net.bonding.ad_machines import rx_machine
from nodes.cpu.kernel.net.bonding.ad_select import agg_selection_logic, better, unbind_port
from nodes.cpu.kernel.net.bonding.bond_3ad import ad_rules
from nodes.cpu.kernel.params import PRESETS
from nodes.lan.lacp import WRONG
from nodes.machine import LacpSettings
from nodes.slowproto import (
    COLLECTING,
    DISTRIBUTING,
    SLOW_MULTICAST,
    SYNCHRONIZATION,
    TIMEOUT,
    Lacpdu,
    Marker,
    PortParams,
    marker_frame,
    marker_from,
)
from tests.nodes.lacp_wire import BOND_MAC, Wire

ERAS = ("2.6.18", "3.10", "6.1")
SWITCH = LacpSettings().system
UP = "collecting_distributing"


def _all_up(wire: Wire) -> bool:
    return all(state == UP for state in wire.muxed())


@pytest.mark.conformance("N3.12")
@pytest.mark.parametrize("era", ERAS)
def test_ports_wait_two_seconds_and_for_the_selection_timer(era: str) -> None:
    wire = Wire(era)
    first = wire.until(lambda: "attached" in wire.muxed())
    assert 2.0 <= first <= 2.5
    assert wire.until(lambda: UP in wire.muxed()) == pytest.approx(8.0, abs=0.2)
    wire.run(0.5)
    assert _all_up(wire)
    assert wire.active() == [True, True]
    assert wire.ad.has_carrier()
    assert [agg.num_of_ports for agg in wire.ad.aggregators] == [2, 0]


@pytest.mark.conformance("N3.12")
@pytest.mark.parametrize("era", ERAS)
def test_without_the_selection_timer_two_seconds_are_enough(era: str) -> None:
    wire = Wire(era)
    wire.ad.agg_select_timer = 1  # bond_open of later kernels
    assert 2.0 <= wire.until(lambda: _all_up(wire)) <= 4.0


@pytest.mark.conformance("N3.13")
@pytest.mark.parametrize("era", ERAS)
def test_a_partner_that_falls_silent_is_noticed_after_three_seconds(era: str) -> None:
    wire = Wire(era, lacp_rate="fast", settings=LacpSettings(rate="fast"))
    wire.until(lambda: _all_up(wire))
    wire.run(2)
    port = wire.ad.ports[0]
    partner = wire.partners.pop(0)
    wire.partners.clear()
    last = max(t for t, n, _ in wire.from_switch if n == 0)
    expired = wire.until(lambda: port.rx_state == "expired")
    assert expired - last == pytest.approx(3.0, abs=0.11)
    assert not port.partner_oper.port_state & SYNCHRONIZATION
    assert port.mux_state == "attached"  # the MUX ran after RX, in the same tick
    assert not port.active
    assert not port.actor_oper_port_state & (COLLECTING | DISTRIBUTING)
    before = port.aggregator
    defaulted = wire.until(lambda: port.rx_state == "defaulted")
    assert defaulted - expired == pytest.approx(3.0, abs=0.11)
    # SELECTED went off, and the same tick's selection found an aggregator without partner
    assert port.aggregator is not None
    assert not port.aggregator.has_partner
    assert before is not None
    assert partner.distributing(0)  # the switch was only not heard: it does not know yet


@pytest.mark.conformance("N3.14a")
@pytest.mark.parametrize("era", ERAS)
def test_without_any_partner_one_aggregator_carries_traffic(era: str) -> None:
    wire = Wire(era, channels=(None, None), lacp_rate="fast")
    port = wire.ad.ports[0]
    assert wire.until(lambda: port.rx_state == "defaulted") == pytest.approx(3.1, abs=0.11)
    wire.run(10)
    active = wire.ad.active_aggregator()
    assert active is not None
    assert active.partner_system == bytes(6)
    assert wire.active() == [True, False]
    assert wire.ad.has_carrier() == (era != "2.6.18")


def test_states_without_partner_are_what_a_real_6_1_printed() -> None:
    """mode-802.3ad/1-proc-net-bonding-bond0: 79 and 71, partner 0, aggregators 1 and 2."""
    wire = Wire("6.1", channels=(None, None), lacp_rate="fast")
    wire.run(12)
    ports = wire.ad.ports
    assert [port.actor_oper_port_state for port in ports] == [79, 71]
    assert [port.partner_oper.port_state for port in ports] == [0, 0]
    assert [agg.num_of_ports for agg in wire.ad.aggregators] == [1, 1]
    assert ports[0].churn_state == {"actor": "monitoring", "partner": "monitoring"}
    assert ports[0].actor_oper_port_key == 15


def test_a_lost_link_leaves_key_zero_and_another_aggregator_takes_over() -> None:
    """mode-802.3ad/3-link-loss-eth0 and 4-link-on-again-eth0: states 79 and 79, then 71 and 79."""
    wire = Wire("6.1", channels=(None, None), lacp_rate="fast")
    wire.run(12)
    wire.link(0, False)
    assert wire.active()[1]
    wire.run(3)
    ports = wire.ad.ports
    assert [port.actor_oper_port_state for port in ports] == [79, 79]
    assert [port.actor_oper_port_key for port in ports] == [0, 15]
    active = wire.ad.active_aggregator()
    assert active is wire.ad.aggregators[1]
    wire.link(0, True)
    wire.run(8)
    assert [port.actor_oper_port_state for port in ports] == [71, 79]
    assert wire.ad.active_aggregator() is active


@pytest.mark.parametrize("era", ERAS)
def test_a_link_that_fails_and_comes_back_is_negotiated_again(era: str) -> None:
    wire = Wire(era, lacp_rate="fast", settings=LacpSettings(rate="fast"))
    wire.until(lambda: _all_up(wire))
    wire.run(1)
    wire.link(0, False)
    wire.run(1)
    assert wire.active()[1]
    assert wire.ad.has_carrier()
    assert not wire.partners[0].distributing(0)
    wire.link(0, True)
    began = wire.seconds
    wire.run(0.1)
    assert 2.0 <= wire.until(lambda: _all_up(wire) and all(wire.active())) - began <= 5.0
    wire.run(1)
    assert wire.partners[0].distributing(0)
    assert wire.partners[0].distributing(1)


@pytest.mark.parametrize("era", ERAS)
def test_members_with_different_keys_do_not_aggregate(era: str) -> None:
    settings = LacpSettings(keys=(("eth1", 7),))
    wire = Wire(era, settings=settings)
    wire.run(20)
    assert [agg.num_of_ports for agg in wire.ad.aggregators] == [1, 1]
    assert wire.active() == [True, False]
    assert wire.ad.ports[1].mux_state != UP or not wire.ad.ports[1].active
    assert [wire.partners[0].distributing(n) for n in (0, 1)] == [True, False]


@pytest.mark.parametrize("era", ERAS)
def test_two_switches_make_two_aggregators_and_one_is_active(era: str) -> None:
    other = LacpSettings(system=bytes.fromhex("020000000003"))
    wire = Wire(era, channels=(0, 1), second=other)
    wire.run(15)
    assert [agg.num_of_ports for agg in wire.ad.aggregators] == [1, 1]
    assert wire.active() == [True, False]
    wire.link(0, False)
    wire.run(10)
    assert wire.active()[1]
    assert not wire.ad.ports[0].is_enabled


def test_both_passive_say_nothing() -> None:
    wire = Wire("6.1", settings=LacpSettings(activity="passive"), lacp_active="off")
    for port in wire.ad.ports:
        port.set_state(1, False)
    wire.run(15)
    # our machines say what the MUX asks for; the passive switch never begins by itself
    assert all(t >= 0.1 for t, _, _ in wire.from_switch)
    assert all(port.periodic_state == "no_periodic" for port in wire.ad.ports)


@pytest.mark.parametrize("era", ERAS)
def test_a_passive_switch_answers_an_active_bond(era: str) -> None:
    wire = Wire(era, settings=LacpSettings(activity="passive"))
    assert wire.until(lambda: _all_up(wire)) == pytest.approx(8.0, abs=0.3)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("rate", "seconds"), [("slow", 30), ("fast", 1)])
def test_each_end_sends_as_often_as_the_other_asks(era: str, rate: str, seconds: int) -> None:
    wire = Wire(era, lacp_rate=rate, settings=LacpSettings(rate=rate))
    wire.until(lambda: _all_up(wire))
    wire.run(35)
    begin = wire.seconds
    wire.run(120)
    for sent in (wire.from_kernel, wire.from_switch):
        times = [t for t, n, _ in sent if n == 0 and t > begin]
        gaps = {round(b - a, 1) for a, b in itertools.pairwise(times)}
        # the transmit machine looks each 0.3 s only
        assert gaps
        assert all(abs(gap - seconds) <= 0.3 for gap in gaps)


@pytest.mark.parametrize("era", ERAS)
def test_no_more_than_three_pdus_a_second(era: str) -> None:
    wire = Wire(era, settings=LacpSettings(wrong=(("eth0", "restless-key"),)), lacp_rate="fast")
    wire.run(30)
    for sent in (wire.from_kernel, wire.from_switch):
        times = [t for t, n, _ in sent if n == 0]
        assert all(b - a > 0.95 for a, b in zip(times, times[3:], strict=False))


#: What becomes of eth0 (MUX is up? is its slave active?) when its partner is wrong in each way.
OUTCOMES = {
    "silent": False,  # a partner that nobody hears
    "deaf": False,
    "loopback": False,
    "not-yours": False,
    "out-of-sync": False,
    "individual": True,  # an aggregate of one, which is the active one as it came first
    "restless-key": True,  # alone in an aggregate that is made anew with each PDU
    "bad-tlv": True,  # Linux does not look at TLV types
    "short": False,
}


def test_every_way_to_be_wrong_has_an_outcome() -> None:
    assert sorted(OUTCOMES) == sorted(WRONG)


@pytest.mark.parametrize("wrong", sorted(WRONG))
def test_what_a_wrong_partner_does_to_its_port(wrong: str) -> None:
    wire = Wire("6.1", settings=LacpSettings(wrong=(("eth0", wrong),)))
    wire.run(40)
    port, good = wire.ad.ports
    assert (port.mux_state == UP and port.active) == OUTCOMES[wrong], port.mux_state
    if wrong == "loopback":
        assert any("illegal loopback" in line for line in wire.said)
    if not OUTCOMES[wrong]:
        assert good.mux_state == UP
        assert good.active


def test_a_marker_is_answered_by_the_switch() -> None:
    wire = Wire()
    marker = Marker(1, 3, BOND_MAC, 99)
    wire.partners[0].receive(0, marker_frame(BOND_MAC, marker), wire.now_ns)
    _, port, frame = wire.from_switch[-1]
    assert port == 0
    assert frame[:6] == SLOW_MULTICAST
    assert marker_from(frame) == marker._replace(kind=2)


# ---------------------------------------------------------------- the machines alone


def _ad(era: str = "6.1", count: int = 2, **params: object) -> AdBond:
    ad = AdBond(ad_rules(PRESETS[era]), AdParams(**params), BOND_MAC)  # type: ignore[arg-type]
    for n in range(count):
        ad.ports.append(Port(ad, n + 1, f"eth{n}"))
        ad.aggregators.append(Aggregator(n + 1, BOND_MAC))
    return ad


def _aggregate(
    ad: AdBond, index: int, ports: int, speed: int = 10000, partner: bytes = SWITCH
) -> Aggregator:
    agg = ad.aggregators[index]
    for _ in range(ports):
        port = Port(ad, 9, "x")
        port.link_up = port.device_up = True
        handle_link_change(port, True, speed, duplex=True)
        port.aggregator = agg
        agg.lag_ports.append(port)
    agg.actor_oper_aggregator_key = agg.lag_ports[0].actor_oper_port_key if ports else 0
    agg.partner_system = partner
    return agg


@pytest.mark.parametrize(("era", "key"), [("2.6.18", 33), ("3.10", 33), ("6.1", 15)])
def test_the_key_of_a_full_duplex_10g_port(era: str, key: int) -> None:
    ad = _ad(era)
    handle_link_change(ad.ports[0], True, 10000, duplex=True)
    assert ad.ports[0].actor_oper_port_key == key
    handle_link_change(ad.ports[0], False, 0, duplex=False)
    assert ad.ports[0].actor_oper_port_key == 0


def test_stable_keeps_the_active_one_and_bandwidth_and_count_change_it() -> None:
    for policy, winner in (("stable", 0), ("bandwidth", 0), ("count", 1)):
        ad = _ad(ad_select=policy)
        small = _aggregate(ad, 0, 1)  # 1 x 10G
        agg_selection_logic(ad)
        assert small.is_active
        _aggregate(ad, 1, 2, speed=1000)  # 2 x 1G
        agg_selection_logic(ad)
        assert [agg.is_active for agg in ad.aggregators].index(True) == winner, policy
    for policy, winner in (("stable", 0), ("bandwidth", 1), ("count", 1)):
        ad = _ad(ad_select=policy)
        _aggregate(ad, 0, 1)
        agg_selection_logic(ad)
        _aggregate(ad, 1, 2)
        agg_selection_logic(ad)
        assert [agg.is_active for agg in ad.aggregators].index(True) == winner, policy


def test_an_answering_partner_is_better_and_an_individual_one_worse() -> None:
    ad = _ad()
    silent = _aggregate(ad, 0, 2, partner=bytes(6))
    answering = _aggregate(ad, 1, 1)
    for policy in ("stable", "bandwidth", "count"):
        assert better(silent, answering, policy) is answering
        answering.is_individual = True
        assert better(silent, answering, policy) is silent
        answering.is_individual = False
    agg_selection_logic(ad)
    assert answering.is_active


def test_stable_gives_way_when_its_last_port_is_down() -> None:
    ad = _ad()
    first, second = _aggregate(ad, 0, 1), _aggregate(ad, 1, 1)
    agg_selection_logic(ad)
    assert first.is_active
    first.lag_ports[0].is_enabled = False
    agg_selection_logic(ad)
    assert second.is_active
    assert not first.is_active
    assert not first.lag_ports[0].active


@pytest.mark.parametrize(
    ("era", "partner", "attached", "enabled", "carrier"),
    [
        ("2.6.18", bytes(6), 2, 2, False),
        ("2.6.18", SWITCH, 1, 1, True),
        ("3.10", bytes(6), 2, 1, True),  # min_links 2 counts who is attached
        ("3.10", SWITCH, 1, 1, False),
        ("6.1", SWITCH, 2, 1, False),  # whose link is up
        ("6.1", SWITCH, 2, 2, True),
    ],
)
def test_carrier_by_era(
    era: str, partner: bytes, attached: int, enabled: int, carrier: bool
) -> None:
    ad = _ad(era, min_links=2)
    agg = _aggregate(ad, 0, attached, partner=partner)
    for port in agg.lag_ports[enabled:]:
        port.is_enabled = False
    agg.is_active = True
    assert ad.has_carrier() == carrier


def test_churn_after_a_minute_out_of_sync() -> None:
    wire = Wire("6.1", settings=LacpSettings(wrong=(("eth0", "out-of-sync"),)))
    port, good = wire.ad.ports
    wire.run(55)
    assert port.churn_state["partner"] == "monitoring"
    wire.run(15)
    assert port.churn_state["partner"] == "churned"
    assert port.churn_count["partner"] == 1
    assert good.churn_state == {"actor": "none", "partner": "none"}
    assert good.churn_count == {"actor": 0, "partner": 0}


@pytest.mark.parametrize(("era", "bits"), [("3.10", TIMEOUT), ("6.1", TIMEOUT | 1)])
def test_expired_asks_the_partner_for_short_timeouts(era: str, bits: int) -> None:
    ad = _ad(era)
    port = ad.ports[0]
    handle_link_change(port, True, 10000, duplex=True)
    rx_machine(port)
    port.sm_vars &= ~1
    port.partner_oper = port.partner_oper._replace(port_state=SYNCHRONIZATION)
    rx_machine(port)
    assert port.rx_state == "expired"
    assert port.partner_oper.port_state == bits
    assert port.actor_oper_port_state & 0x80


def test_a_pdu_in_our_own_name_is_an_illegal_loopback() -> None:
    ad = _ad()
    port = ad.ports[0]
    handle_link_change(port, True, 10000, duplex=True)
    rx_machine(port)
    port.sm_vars &= ~1
    rx_machine(port)
    mine = port.actor
    rx_machine(port, Lacpdu(mine, PortParams(0, bytes(6), 0, 0, 0, 0)))
    assert "illegal loopback" in ad.lines[-1][0][1]
    assert port.partner_oper.system == bytes(6)


def test_a_released_port_hands_its_aggregator_to_the_others() -> None:
    wire = Wire("6.1")
    wire.until(lambda: _all_up(wire))
    ad = wire.ad
    first, second = ad.ports
    unbind_port(ad, first, ad.aggregators[0])
    assert ad.ports == [second]
    assert second.aggregator is ad.aggregators[0]
    assert ad.aggregators[0].aggregator_identifier == 2
    assert ad.aggregators[0].is_active
    assert ad.aggregators[0].lag_ports == [second]
    assert second.active
    farewell = ad.sends[-1][1]
    assert not farewell.actor.port_state & 0x04
