"""From a message or a pin to a CPU's acknowledge: interrupt controller and local APICs together.

The coalescing rules of edge and level interrupts: at most one of a vector in IRR and one in ISR,
and a level that stands comes again after its EOI.
"""

from __future__ import annotations

from typing import Any

import pytest

from bus.messages import EoiBroadcast, IcrWrite, Interrupt, MemWrite, MsiWrite
from bus.ram import Layout, Ram
from nodes.apic.node import ApicNode
from nodes.cpu.lapic import SPURIOUS_VECTOR, LocalApic
from nodes.cpu.page import CPU_SCHEMA
from tests.nodes.harness import Bench, machine

VECTOR = 0x41
LEVEL = VECTOR | 1 << 15
REMOTE_IRR = 1 << 14


class Wired:
    """An interrupt controller and the local APICs of its CPUs; no CPU runs anything."""

    def __init__(self, cpus: int = 2) -> None:
        settings = machine(cpus)
        self.apic = Bench(settings, "apic", lambda around: ApicNode(around, settings))
        names = settings.cpu_names
        ram = Ram.anonymous(Layout(names, cpus, 0, 0))
        self.lapics = {name: LocalApic(ram.page(name, CPU_SCHEMA)) for name in names}
        self.pages = {name: ram.page(name, CPU_SCHEMA) for name in names}
        for name, lapic in self.lapics.items():
            lapic.enable(True)
            lapic.level_eoi = lambda vector, name=name: self.give(name, EoiBroadcast(vector))
        self.cpu = self.lapics["cpu0"]

    def give(self, sender: str, *messages: Any) -> None:
        self._deliver(self.apic.give(*((sender, message) for message in messages)))

    def _deliver(self, said: list[tuple[str, Any]]) -> None:
        for cpu, message in said:
            assert isinstance(message, Interrupt)
            assert message.delivery_mode == 0
            self.lapics[cpu].accept(message.vector, message.trigger_mode == 1)

    def msi(self, vector: int = VECTOR, address: int = 0xFEE00000, nic: str = "eth0") -> None:
        self.give(nic, MsiWrite(address, vector))

    def route(self, pin: int, low: int) -> None:
        self.give("cpu0", MemWrite(0, 0, 0x10 + 2 * pin), MemWrite(0, 0x10, low))

    def line(self, pin: int, active: bool) -> None:
        node: Any = self.apic.node
        node.ioapic.set_line(pin, active)
        outbox, node.outbox = node.outbox, {}
        self._deliver([(cpu, message) for cpu, queue in outbox.items() for message in queue])

    def remote_irr(self, pin: int) -> bool:
        node: Any = self.apic.node
        return bool(node.ioapic.entries[pin] & REMOTE_IRR)

    def taken(self) -> int:
        """Serve what cpu0's local APIC asks for, to the end; how many."""
        served = 0
        while self.cpu.intr:
            assert self.cpu.ack() != SPURIOUS_VECTOR
            served += 1
            self.cpu.eoi()
        return served


@pytest.fixture
def wired() -> Wired:
    return Wired()


@pytest.mark.parametrize("arrivals", [1, 2, 7])
def test_arrivals_before_the_acknowledge_are_one(wired: Wired, arrivals: int) -> None:
    for _ in range(arrivals):
        wired.msi()
    assert wired.taken() == 1


@pytest.mark.parametrize("arrivals", [1, 2, 7])
def test_arrivals_in_service_are_one_more(wired: Wired, arrivals: int) -> None:
    wired.msi()
    wired.cpu.ack()
    for _ in range(arrivals):
        wired.msi()
    assert not wired.cpu.intr
    wired.cpu.eoi()
    assert wired.taken() == 1


def test_two_devices_with_one_vector_are_served_once(wired: Wired) -> None:
    wired.msi(nic="eth0")
    wired.msi(nic="eth1")
    assert wired.taken() == 1
    assert wired.pages["cpu0"]["lapic_merged"] == 1


def test_of_one_class_the_higher_goes_first_and_they_never_nest(wired: Wired) -> None:
    wired.msi(0x42)
    wired.msi(0x4A)
    assert wired.cpu.ack() == 0x4A
    assert not wired.cpu.intr
    wired.cpu.eoi()
    assert wired.cpu.ack() == 0x42


def test_an_ipi_and_a_message_of_one_vector_merge(wired: Wired) -> None:
    wired.msi()
    wired.give("cpu1", IcrWrite(VECTOR))
    assert wired.taken() == 1


def test_a_cpu_that_is_disabled_drops_messages_and_counts_them(wired: Wired) -> None:
    wired.cpu.enable(False)
    wired.msi()
    wired.cpu.enable(True)
    assert wired.taken() == 0
    assert wired.pages["cpu0"]["lapic_disabled"] == 1


@pytest.mark.conformance("A7.5-4")
def test_two_pulses_of_an_edge_pin_are_one_or_two_deliveries(wired: Wired) -> None:
    """Both before the acknowledge; then the second one after it."""
    wired.route(2, VECTOR)
    for _ in range(2):
        wired.line(2, True)
        wired.line(2, False)
    assert wired.taken() == 1
    wired.line(2, True)
    wired.cpu.ack()
    wired.line(2, False)
    wired.line(2, True)
    wired.cpu.eoi()
    assert wired.taken() == 1


@pytest.mark.conformance("A7.5-2")
def test_a_level_is_served_again_until_its_line_falls(wired: Wired) -> None:
    wired.route(18, LEVEL)
    wired.line(18, True)
    for _ in range(3):
        assert wired.cpu.ack() == VECTOR
        assert not wired.cpu.intr
        wired.cpu.eoi()
    wired.cpu.ack()
    wired.line(18, False)
    wired.cpu.eoi()
    assert not wired.cpu.intr
    assert not wired.remote_irr(18)


@pytest.mark.conformance("A7.5-3")
def test_a_level_that_falls_before_the_acknowledge_is_served_once_for_nothing(
    wired: Wired,
) -> None:
    wired.route(18, LEVEL)
    wired.line(18, True)
    wired.line(18, False)
    assert wired.taken() == 1
    assert not wired.remote_irr(18)


def test_tmr_says_how_the_vector_came_last(wired: Wired) -> None:
    """An edge message of the same vector meanwhile: the EOI is not broadcast, the pin is stuck
    until the EOI register is written."""
    wired.route(18, LEVEL)
    wired.line(18, True)
    wired.cpu.ack()
    wired.line(18, False)
    wired.msi()
    wired.cpu.eoi()
    assert wired.remote_irr(18)
    assert wired.taken() == 1
    wired.give("cpu0", MemWrite(0, 0x40, VECTOR))
    assert not wired.remote_irr(18)


def test_without_eoi_broadcast_only_the_eoi_register_ends_a_level(wired: Wired) -> None:
    wired.cpu.suppress_eoi = True
    wired.route(18, LEVEL)
    wired.line(18, True)
    assert wired.taken() == 1
    assert wired.remote_irr(18)
    wired.give("cpu0", MemWrite(0, 0x40, VECTOR))
    assert wired.taken() == 1


def test_a_level_triggered_message_ends_with_a_broadcast_that_no_pin_heeds(wired: Wired) -> None:
    wired.route(4, VECTOR)
    wired.msi(0xC000 | VECTOR)
    assert wired.cpu.tmr >> VECTOR & 1
    assert wired.taken() == 1
    assert wired.apic.page.run("eoi_in")[0] == 1


@pytest.mark.parametrize("delivery", [0x300, 0x600])
def test_reserved_delivery_modes_end_at_the_controller(wired: Wired, delivery: int) -> None:
    wired.msi(VECTOR | delivery)
    assert wired.taken() == 0
    assert wired.apic.page["msi_drop_mode"] == 1


def test_one_of_a_set_gets_a_lowest_priority_message_though_another_is_busy(wired: Wired) -> None:
    wired.msi(0x71)
    wired.cpu.ack()
    wired.give("eth0", MsiWrite(0xFEE0300C, 0x172))
    assert sum(lapic.irr >> 0x72 & 1 for lapic in wired.lapics.values()) == 1
