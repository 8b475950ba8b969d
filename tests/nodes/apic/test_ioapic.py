"""The I/O APIC: its registers, edge and level entries, remote IRR, EOIs, and INTx wires."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import (
    Completion,
    EoiBroadcast,
    Interrupt,
    IntxMessage,
    MemRead,
    MemWrite,
    PeerLost,
)
from nodes.apic.ioapic import LOGICAL, MASKED, REMOTE_IRR, TRIGGER_LEVEL, IoApic
from nodes.apic.page import INTX_ENDS, IOAPIC_DROPS
from tests.nodes.apic.test_node import bench
from tests.nodes.harness import Bench

VECTOR = 0x41


class Pins:
    """An apic on the bench, its I/O APIC programmed as a CPU does it."""

    def __init__(self, cpus: int = 4) -> None:
        self.bench = bench(cpus)

    @property
    def ioapic(self) -> IoApic:
        node: Any = self.bench.node
        ioapic: IoApic = node.ioapic
        return ioapic

    def read(self, register: int) -> int:
        said = self.bench.give(("cpu0", MemWrite(0, 0x00, register)), ("cpu0", MemRead(7, 0, 0x10)))
        ((peer, answer),) = said
        assert (peer, type(answer), answer.tag) == ("cpu0", Completion, 7)
        value: int = answer.value
        return value

    def write(self, register: int, value: int) -> list[Interrupt]:
        said = self.bench.give(
            ("cpu0", MemWrite(0, 0x00, register)), ("cpu0", MemWrite(0, 0x10, value))
        )
        return [message for _, message in said]

    def route(self, pin: int, low: int, cpu: int = 0) -> list[Interrupt]:
        """High half first."""
        self.write(0x11 + 2 * pin, cpu << 24)
        return self.write(0x10 + 2 * pin, low)

    def line(self, pin: int, active: bool) -> list[Interrupt]:
        self.ioapic.set_line(pin, active)
        outbox, self.bench.node.outbox = self.bench.node.outbox, {}
        return [message for queue in outbox.values() for message in queue]

    def pulse(self, pin: int) -> list[Interrupt]:
        return self.line(pin, True) + self.line(pin, False)

    def eoi(self, vector: int = VECTOR) -> list[Interrupt]:
        return [message for _, message in self.bench.give(("cpu0", EoiBroadcast(vector)))]

    def remote_irr(self, pin: int) -> bool:
        return bool(self.read(0x10 + 2 * pin) & REMOTE_IRR)


LEVEL = VECTOR | TRIGGER_LEVEL | 1 << 13
SENT = [Interrupt(VECTOR, 0, 1)]


@pytest.fixture
def pins() -> Pins:
    return Pins()


# -- registers


@pytest.mark.conformance("A7.5-1")
def test_delivery_status_and_remote_irr_cannot_be_written(pins: Pins) -> None:
    pins.write(0x10, 0xFFFF_FFFF)
    assert pins.read(0x10) == 0x1AFFF
    pins.write(0x11, 0xFFFF_FFFF)
    assert pins.read(0x11) == 0xFF00_0000


@pytest.mark.conformance("A7.5-8")
def test_version_says_24_pins_and_an_eoi_register(pins: Pins) -> None:
    assert pins.read(0x01) == 0x00170020
    pins.write(0x01, 0)
    assert pins.read(0x01) == 0x00170020


@pytest.mark.conformance("A7.5-9")
def test_all_entries_are_masked_after_reset(pins: Pins) -> None:
    assert [pins.read(0x10 + 2 * pin) for pin in range(24)] == [0x0001_0000] * 24
    assert [pins.read(0x11 + 2 * pin) for pin in range(24)] == [0] * 24


def test_the_id_has_four_bits_and_the_arbitration_register_copies_it(pins: Pins) -> None:
    pins.write(0x00, 0xFFFF_FFFF)
    assert pins.read(0x00) == pins.read(0x02) == 0x0F00_0000
    pins.write(0x02, 0)
    assert pins.read(0x02) == 0x0F00_0000


def test_what_is_no_register_reads_0_and_takes_nothing(pins: Pins) -> None:
    pins.write(0x40, 0x41)
    assert pins.read(0x40) == pins.read(0x0F) == 0
    said = pins.bench.give(("cpu1", MemRead(1, 0, 0x20)), ("cpu1", MemRead(2, 3, 0x10)))
    assert said == [("cpu1", Completion(1, 0)), ("cpu1", Completion(2, 0xFFFF_FFFF))]
    assert pins.bench.give(("cpu1", MemRead(3, 0, 0x00))) == [("cpu1", Completion(3, 0x0F))]


def test_only_cpus_reach_the_registers(pins: Pins) -> None:
    assert pins.bench.give(("eth0", MemWrite(0, 0, 1)), ("eth0", MemRead(1, 0, 0))) == []
    assert pins.bench.page["unexpected"] == 2


def test_xv6_enables_a_pin_by_the_low_half_first(pins: Pins) -> None:
    """Reset as it does it, then ioapicenable(irq, cpu)."""
    for pin in range(24):
        pins.write(0x10 + 2 * pin, MASKED | 32 + pin)
        pins.write(0x11 + 2 * pin, 0)
    pins.write(0x10 + 2 * 4, 32 + 4)
    pins.write(0x11 + 2 * 4, 1 << 24)
    pins.ioapic.set_line(4, True)
    assert pins.bench.node.outbox == {"cpu1": [Interrupt(36, 0, 0)]}


# -- edge


def test_an_edge_sends_once_for_each_rise(pins: Pins) -> None:
    pins.route(4, VECTOR)
    assert pins.line(4, True) == [Interrupt(VECTOR, 0, 0)]
    assert pins.line(4, True) == []
    assert pins.line(4, False) == []
    assert pins.line(4, True) == [Interrupt(VECTOR, 0, 0)]


def test_an_edge_on_a_masked_pin_is_lost(pins: Pins) -> None:
    pins.route(4, VECTOR | MASKED)
    assert pins.line(4, True) == []
    assert pins.route(4, VECTOR) == []
    assert pins.bench.page["ioapic_masked"] == 1
    pins.line(4, False)
    assert pins.line(4, True) == [Interrupt(VECTOR, 0, 0)]


@pytest.mark.conformance("A7.5-4")
def test_two_pulses_are_two_messages_that_the_local_apic_may_merge(pins: Pins) -> None:
    pins.route(2, VECTOR)
    assert pins.pulse(2) + pins.pulse(2) == [Interrupt(VECTOR, 0, 0)] * 2


@pytest.mark.conformance("A7.5-7")
def test_the_eoi_of_an_edge_entrys_vector_has_no_effect(pins: Pins) -> None:
    pins.route(4, VECTOR)
    pins.line(4, True)
    assert pins.eoi() == []
    assert pins.read(0x18) == VECTOR


# -- level


@pytest.mark.conformance("A7.5-2")
def test_a_level_sends_again_at_each_eoi_while_it_stands(pins: Pins) -> None:
    pins.route(18, LEVEL | MASKED)
    assert pins.line(18, True) == []
    assert pins.route(18, LEVEL) == SENT
    assert pins.remote_irr(18)
    assert pins.line(18, True) == []
    assert pins.eoi() == SENT
    assert pins.remote_irr(18)
    pins.line(18, False)
    assert pins.eoi() == []
    assert not pins.remote_irr(18)


@pytest.mark.conformance("A7.5-3")
def test_a_level_that_falls_before_it_is_taken_has_been_sent(pins: Pins) -> None:
    pins.route(18, LEVEL)
    assert pins.pulse(18) == SENT
    assert pins.remote_irr(18)
    assert pins.eoi() == []


def test_a_level_that_rises_anew_waits_for_the_eoi(pins: Pins) -> None:
    pins.route(18, LEVEL)
    pins.pulse(18)
    assert pins.line(18, True) == []
    assert pins.bench.page["ioapic_held"] == 1
    assert pins.eoi() == SENT


@pytest.mark.conformance("A7.5-5")
def test_an_eoi_of_a_masked_pin_clears_remote_irr_and_unmasking_sends(pins: Pins) -> None:
    pins.route(18, LEVEL)
    pins.line(18, True)
    pins.route(18, LEVEL | MASKED)
    assert pins.remote_irr(18)
    assert pins.eoi() == []
    assert not pins.remote_irr(18)
    assert pins.route(18, LEVEL) == SENT
    pins.line(18, False)
    pins.eoi()
    pins.route(18, LEVEL | MASKED)
    assert pins.route(18, LEVEL) == []


@pytest.mark.conformance("A7.5-6")
def test_an_entry_that_becomes_edge_loses_remote_irr(pins: Pins) -> None:
    pins.route(18, LEVEL)
    pins.line(18, True)
    pins.route(18, VECTOR | MASKED)
    assert not pins.remote_irr(18)
    assert pins.route(18, LEVEL) == SENT


def test_an_entry_with_another_vector_is_not_found_by_the_old_ones_eoi(pins: Pins) -> None:
    pins.route(18, LEVEL)
    pins.line(18, True)
    pins.route(18, LEVEL + 1)
    assert pins.eoi() == []
    assert pins.remote_irr(18)


def test_an_eoi_releases_every_entry_with_its_vector(pins: Pins) -> None:
    for pin in (17, 18):
        pins.route(pin, LEVEL)
        pins.line(pin, True)
    assert pins.eoi() == SENT * 2


def test_the_eoi_register_does_what_a_broadcast_does(pins: Pins) -> None:
    pins.route(18, LEVEL)
    pins.line(18, True)
    assert pins.bench.give(("cpu2", MemWrite(0, 0x40, VECTOR + 1))) == []
    assert pins.bench.give(("cpu2", MemWrite(0, 0x40, VECTOR))) == [("cpu0", SENT[0])]


# -- destinations and modes


def test_an_entry_names_its_cpus_as_a_message_does(pins: Pins) -> None:
    pins.write(0x11 + 2 * 4, 0b0110 << 24)
    pins.write(0x10 + 2 * 4, VECTOR | LOGICAL)
    pins.ioapic.set_line(4, True)
    assert sorted(pins.bench.node.outbox) == ["cpu1", "cpu2"]
    assert pins.bench.page["ioapic_copies"] == 1


def test_lowest_priority_picks_one_and_each_in_turn(pins: Pins) -> None:
    pins.write(0x11 + 2 * 4, 0b0111 << 24)
    pins.write(0x10 + 2 * 4, VECTOR | LOGICAL | 1 << 8)
    for _ in range(9):
        assert len(pins.pulse(4)) == 1
    assert pins.bench.page.run("ioapic_routed")[:4] == [3, 3, 3, 0]


@pytest.mark.parametrize("mode", [2, 4, 5, 7])
def test_what_bypasses_irr_is_an_edge_whatever_the_trigger_bit_says(pins: Pins, mode: int) -> None:
    pins.route(4, TRIGGER_LEVEL | mode << 8)
    assert pins.line(4, True) == [Interrupt(0, mode, 0)]
    assert not pins.remote_irr(4)


def test_a_message_that_nobody_takes_leaves_remote_irr_clear(pins: Pins) -> None:
    pins.route(18, LEVEL, cpu=9)
    pins.route(19, VECTOR | 3 << 8)
    assert pins.line(18, True) + pins.line(19, True) == []
    assert not pins.remote_irr(18)
    assert (pins.bench.page["ioapic_drop_no_target"], pins.bench.page["ioapic_drop_mode"]) == (1, 1)


# -- INTx


def assert_intx(pins: Pins, nic: str, pin: int = 1, up: bool = True) -> list[tuple[str, Any]]:
    return pins.bench.give((nic, IntxMessage(pin, int(up))))


def test_each_slots_inta_has_a_line_of_its_own_and_the_others_follow(pins: Pins) -> None:
    machine = pins.bench.settings
    assert [machine.gsi(0, pin) for pin in (1, 2, 3, 4)] == [16, 17, 18, 19]
    assert [machine.gsi(1, pin) for pin in (1, 2, 3, 4)] == [17, 18, 19, 20]


@pytest.mark.conformance("A1.5-1")
def test_a_line_is_active_while_one_of_its_wires_is(pins: Pins) -> None:
    """eth0's INTB and eth1's INTA meet at pin 17."""
    pins.route(17, LEVEL)
    assert assert_intx(pins, "eth0", 2) == [("cpu0", SENT[0])]
    assert assert_intx(pins, "eth1") == []
    assert assert_intx(pins, "eth0", 2, False) == []
    assert pins.eoi() == SENT
    assert_intx(pins, "eth1", 1, False)
    assert pins.eoi() == []
    page = pins.bench.page
    assert (page["intx_shared"], page["lines"]) == (1, 0)
    assert page.run("intx_in")[:2] == [1, 1]
    assert page.run("intx_deassert_in")[:2] == [1, 1]


def test_two_asserts_in_a_row_are_one(pins: Pins) -> None:
    pins.route(16, LEVEL)
    assert_intx(pins, "eth0")
    assert_intx(pins, "eth0")
    assert assert_intx(pins, "eth0", up=False) == []
    assert pins.eoi() == []
    assert pins.bench.page["intx_repeated"] == 1


def test_a_port_whose_link_is_lost_deasserts_its_wires(pins: Pins) -> None:
    pins.route(16, LEVEL)
    pins.route(17, LEVEL + 1)
    for nic, pin in (("eth0", 1), ("eth0", 2), ("eth1", 1)):
        assert_intx(pins, nic, pin)
    pins.bench.give(("eth0", PeerLost(1)))
    assert pins.bench.page["lines"] == 1 << 17
    assert pins.eoi() == []
    assert pins.eoi(VECTOR + 1) == [Interrupt(VECTOR + 1, 0, 1)]


def test_wires_of_somebody_who_is_no_nic_mean_nothing(pins: Pins) -> None:
    assert assert_intx(pins, "cpu0") == []
    assert pins.bench.page["unexpected"] == 1


def balanced(apic: Bench) -> None:
    page = apic.page
    entered = sum(page.run("intx_in")) + page["ioapic_again"] + page["ioapic_copies"]
    ended = sum(page[name] for name in (*INTX_ENDS, *IOAPIC_DROPS))
    assert entered == ended + sum(page.run("ioapic_routed"))


ENTRIES = st.one_of(st.integers(0, 0xFFFF_FFFF), st.sampled_from([LEVEL, LEVEL | MASKED, VECTOR]))
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(["eth0", "eth1"]),
        st.builds(IntxMessage, st.integers(1, 4), st.integers(0, 1)),
    ),
    st.tuples(st.just("cpu1"), st.builds(EoiBroadcast, st.sampled_from([VECTOR, 0x51]))),
    st.tuples(
        st.just("cpu0"),
        st.builds(MemWrite, st.just(0), st.just(0), st.one_of(st.integers(0x30, 0x37))),
    ),
    st.tuples(st.just("cpu0"), st.builds(MemWrite, st.just(0), st.just(0x10), ENTRIES)),
    st.tuples(st.just("eth0"), st.just(PeerLost(1))),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_accounts_balance_and_no_level_is_forgotten(
    steps: list[tuple[str, Any]],
) -> None:
    """An open level entry whose line stands has sent, or nobody is there whom it could send to."""
    pins = Pins()
    pins.bench.give(*steps)
    balanced(pins.bench)
    page = pins.bench.page
    nobody = page["ioapic_drop_no_target"] + page["ioapic_drop_mode"]
    for pin, entry in enumerate(pins.ioapic.entries):
        open_level = entry & TRIGGER_LEVEL and not entry & MASKED and entry >> 8 & 7 in (0, 1)
        if open_level and pins.ioapic.lines >> pin & 1 and not nobody:
            assert entry & REMOTE_IRR
