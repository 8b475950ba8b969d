"""Root ports: what a slot's registers say when its card comes and goes, and when it interrupts."""

from __future__ import annotations

from typing import Any

import pytest

from bus.messages import (
    CfgRead,
    CfgWrite,
    Completion,
    Interrupt,
    PeerBack,
    PeerLost,
    SlotPower,
)
from nodes.apic.node import ApicNode
from nodes.apic.portspace import (
    COMMAND,
    EXPRESS,
    LNKCTL,
    LNKSTA,
    MSI_ADDRESS,
    MSI_CONTROL,
    MSI_DATA,
    MSI_MASK,
    SLTCAP,
    SLTCTL,
    SLTSTA,
)
from nodes.apic.slots import CC, COMMAND_NS, DLLSC, DLLSCE, HPIE, PCC, PDC, PDS, TRAINING_NS
from tests.nodes.harness import Bench, machine

CCIE, PDCE = 1 << 4, 1 << 3
ENABLED = DLLSCE | PDCE | HPIE
LINK = 1 << 13


class Port:
    """The root port of slot 0, as cpu0 sees it; its MSI is vector 0x51 for cpu0."""

    def __init__(self, hotplug: bool = True) -> None:
        plain = machine(2)
        nics = tuple(nic._replace(hotplug=hotplug) for nic in plain.nics)
        settings = plain._replace(nics=nics)
        self.bench = Bench(settings, "apic", lambda around: ApicNode(around, settings))
        self.write(COMMAND, 0x4)
        self.write(MSI_ADDRESS, 0xFEE01004, 4)
        self.write(MSI_DATA, 0x51)
        self.write(MSI_CONTROL, 1)

    def read(self, offset: int, size: int = 2, function: int = 0) -> int:
        ((peer, said),) = self.bench.give(("cpu0", CfgRead(7, offset, size, function)))
        assert peer == "cpu0"
        assert isinstance(said, Completion)
        assert said.tag == 7
        return said.value

    def write(self, offset: int, value: int, size: int = 2) -> list[tuple[str, Any]]:
        """What is said because of it, but the completion."""
        said = self.bench.give(("cpu0", CfgWrite(8, offset, size, value)))
        assert ("cpu0", Completion(8, 0)) in said
        return [row for row in said if row != ("cpu0", Completion(8, 0))]

    def control(self, value: int) -> None:
        """Write SltCtl, wait for the command, and clear its status."""
        self.write(SLTCTL, value)
        self.bench.advance(COMMAND_NS)
        self.write(SLTSTA, CC)

    def out(self) -> list[tuple[str, Any]]:
        return self.bench.give(("eth0", PeerLost(1)))

    def in_(self) -> list[tuple[str, Any]]:
        return self.bench.give(("eth0", PeerBack(2)))


MESSAGE = [("cpu0", Interrupt(0x51, 0, 0))]


def test_a_port_is_a_bridge_with_the_capabilities_of_a_root_port_with_a_slot() -> None:
    port = Port()
    assert port.read(0x0E, 1) == 0x81
    assert port.read(0x0A) == 0x0604
    assert port.read(0x19, 1) == 1  # secondary bus
    seen, at = [], port.read(0x34, 1)
    while at:
        seen.append(port.read(at, 1))
        at = port.read(at + 1, 1)
    assert seen == [0x10, 0x05, 0x01]
    assert port.read(EXPRESS + 2) >> 4 & 0x1F == 0x14  # root port, slot implemented
    assert port.read(EXPRESS + 0xC, 4) >> 20 & 1 == 1  # reports its data link layer
    cap = port.read(SLTCAP, 4)
    assert (cap & 0x7F, cap >> 19) == (0b1111010, 1)
    assert port.read(SLTCAP, 4, function=1) >> 19 == 2


def test_nobody_answers_where_there_is_no_port_nor_at_odd_places() -> None:
    port = Port()
    assert port.read(0, 4, function=2) == 0xFFFFFFFF
    assert port.read(1, 2) == 0xFFFF
    port.write(SLTCTL + 1, 0xFFFF)
    assert port.read(SLTCTL) == 0x01C0
    assert port.bench.give(("eth0", CfgRead(1, 0, 4))) == []
    assert port.bench.page["unexpected"] == 1


def test_at_power_on_cards_are_in_links_are_up_and_nothing_is_pending() -> None:
    port = Port()
    assert port.read(SLTSTA) == PDS
    assert port.read(LNKSTA) & LINK
    assert port.bench.page.run("slots")[:2] == [7, 7]


def test_a_slot_without_hot_plug_has_no_enable_bits() -> None:
    port = Port(hotplug=False)
    port.control(ENABLED)
    assert port.read(SLTCTL) & ENABLED == 0
    assert port.out() == []
    assert port.read(SLTCAP, 4) & 0x60 == 0


@pytest.mark.conformance("A11.3-5")
def test_the_link_going_and_coming_sets_its_bit_each_time() -> None:
    port = Port()
    port.out()
    assert port.read(LNKSTA) & LINK == 0
    assert port.read(SLTSTA) & DLLSC
    port.write(SLTSTA, DLLSC)
    port.in_()
    assert port.read(SLTSTA) & DLLSC == 0  # it trains
    assert port.read(LNKSTA) >> 11 & 1
    port.bench.advance(TRAINING_NS)
    assert port.read(LNKSTA) & LINK
    assert port.read(SLTSTA) & DLLSC


@pytest.mark.conformance("A12.1-1")
def test_presence_and_link_together_are_one_message_and_clearing_both_arms_it_again() -> None:
    port = Port()
    port.control(ENABLED)
    assert port.out() == MESSAGE
    assert port.read(SLTSTA) == PDC | DLLSC
    port.write(SLTSTA, DLLSC)
    assert port.in_() == []  # one event has never been cleared: no message
    port.write(SLTSTA, PDC | DLLSC)
    assert port.read(SLTSTA) == PDS
    assert port.bench.advance(TRAINING_NS) == MESSAGE
    assert port.bench.page.run("port_msi")[0] == 2
    assert port.bench.page.run("msi_in")[-1] == 2


@pytest.mark.conformance("A12.1-3")
def test_without_hpie_there_is_status_and_no_message_until_it_is_set() -> None:
    port = Port()
    port.control(ENABLED & ~HPIE)
    assert port.out() == []
    assert port.read(SLTSTA) == PDC | DLLSC
    assert port.write(SLTCTL, ENABLED) == MESSAGE


@pytest.mark.conformance("A12.1-4")
def test_a_command_is_completed_soon_and_interrupts_if_that_is_enabled() -> None:
    port = Port()
    assert port.write(SLTCTL, HPIE) == []
    assert port.read(SLTSTA) & CC == 0
    assert port.bench.advance(COMMAND_NS) == []
    assert port.read(SLTSTA) & CC
    port.write(SLTSTA, CC)
    port.write(SLTCTL, HPIE | CCIE)
    assert port.bench.advance(COMMAND_NS) == MESSAGE


@pytest.mark.conformance("A12.1-5")
def test_writing_zeros_clears_nothing() -> None:
    port = Port()
    port.out()
    port.write(SLTSTA, 0)
    assert port.read(SLTSTA) == PDC | DLLSC


def test_power_off_takes_link_and_power_and_a_card_that_comes_then_gets_none() -> None:
    port = Port()
    assert port.write(SLTCTL, PCC) == [("eth0", SlotPower(0))]
    assert port.read(SLTSTA) == PDS | DLLSC
    assert port.bench.page.run("slots")[0] == 1
    assert port.out() == []
    assert port.in_() == [("eth0", SlotPower(0))]
    port.bench.advance(2 * TRAINING_NS)
    assert port.read(LNKSTA) & LINK == 0
    assert port.write(SLTCTL, 0) == [("eth0", SlotPower(1))]
    port.bench.advance(TRAINING_NS)
    assert port.read(LNKSTA) & LINK
    assert port.bench.page.run("slots")[0] == 7


def test_a_disabled_link_and_a_bus_reset_are_a_reset_of_the_card() -> None:
    port = Port()
    for offset, bit in ((LNKCTL, 0x10), (0x3E, 0x40)):
        assert port.write(offset, bit) == [("eth0", SlotPower(0))]
        assert port.read(LNKSTA) & LINK == 0
        assert port.write(offset, 0) == [("eth0", SlotPower(1))]
        port.bench.advance(TRAINING_NS)
        assert port.read(LNKSTA) & LINK


def test_a_card_swapped_in_one_breath_is_seen_by_its_link() -> None:
    port = Port()
    port.control(ENABLED)
    said = port.bench.give(("eth0", PeerLost(1)), ("eth0", PeerBack(2)))
    assert said == MESSAGE
    assert port.read(SLTSTA) == PDC | DLLSC | PDS
    assert port.read(LNKSTA) & LINK == 0


def test_a_masked_message_waits_and_one_without_bus_mastering_too() -> None:
    port = Port()
    port.control(ENABLED)
    port.write(MSI_MASK, 1, 4)
    assert port.out() == []
    assert port.read(MSI_MASK + 4, 4) == 1
    port.write(COMMAND, 0)
    assert port.write(MSI_MASK, 0, 4) == []
    assert port.write(COMMAND, 4) == MESSAGE
    assert port.read(MSI_MASK + 4, 4) == 0
