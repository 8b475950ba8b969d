"""The local APIC alone: acceptance, priority, acknowledge, end of interrupt."""

from __future__ import annotations

import pytest

from bus.ram import Layout, Ram
from nodes.cpu.lapic import SPURIOUS_VECTOR, LocalApic
from nodes.cpu.page import CPU_SCHEMA


@pytest.fixture
def lapic() -> LocalApic:
    ram = Ram.anonymous(Layout(("cpu0",), 1, 0, 0))
    apic = LocalApic(ram.page("cpu0", CPU_SCHEMA))
    apic.enabled = True
    return apic


def bits(value: int) -> list[int]:
    return [vector for vector in range(256) if value >> vector & 1]


def word_bits(apic: LocalApic, field: str) -> list[int]:
    at = CPU_SCHEMA.index(field)
    return bits(sum(apic._words[at + n] << 64 * n for n in range(4)))


#: (what happens, IRR, ISR, PPR, request line); the columns are those of the formal model.
TRACE = [
    (("accept", 0x31), [0x31], [], 0x10, 1),
    (("accept", 0x45), [0x31, 0x45], [], 0x10, 1),
    (("ack", 0x45), [0x31], [0x45], 0x40, 0),
    (("accept", 0x4F), [0x31, 0x4F], [0x45], 0x40, 0),
    (("accept", 0x52), [0x31, 0x4F, 0x52], [0x45], 0x40, 1),
    (("ack", 0x52), [0x31, 0x4F], [0x45, 0x52], 0x50, 0),
    (("eoi", 0x52), [0x31, 0x4F], [0x45], 0x40, 0),
    (("accept", 0x45), [0x31, 0x45, 0x4F], [0x45], 0x40, 0),
    (("lost", 0x45), [0x31, 0x45, 0x4F], [0x45], 0x40, 0),
    (("eoi", 0x45), [0x31, 0x45, 0x4F], [], 0x10, 1),
    (("ack", 0x4F), [0x31, 0x45], [0x4F], 0x40, 0),
    (("eoi", 0x4F), [0x31, 0x45], [], 0x10, 1),
    (("ack", 0x45), [0x31], [0x45], 0x40, 0),
    (("eoi", 0x45), [0x31], [], 0x10, 1),
    (("ack", 0x31), [], [0x31], 0x30, 0),
    (("eoi", 0x31), [], [], 0x10, 0),
    (("accept", 0x1A), [0x1A], [], 0x10, 0),
]


def test_follows_the_formal_model_step_by_step(lapic: LocalApic) -> None:
    for (event, vector), irr, isr, ppr, intr in TRACE:
        if event in ("accept", "lost"):
            assert lapic.accept(vector) is (event == "accept")
        elif event == "ack":
            assert lapic.ack() == vector
        else:
            lapic.eoi()
        assert (bits(lapic.irr), bits(lapic.isr)) == (irr, isr), (event, hex(vector))
        assert (lapic.ppr, int(lapic.intr)) == (ppr, intr), (event, hex(vector))
        assert word_bits(lapic, "irr") == irr
        assert word_bits(lapic, "isr") == isr
    assert lapic._words[CPU_SCHEMA.index("lapic_merged")] == 1


@pytest.mark.conformance("A6.7-1")
def test_two_messages_before_the_acknowledge_are_one_delivery(lapic: LocalApic) -> None:
    assert lapic.accept(0x41)
    assert not lapic.accept(0x41)
    assert lapic.ack() == 0x41
    lapic.eoi()
    assert not lapic.intr
    assert lapic.ack() == SPURIOUS_VECTOR


@pytest.mark.conformance("A6.7-2")
def test_one_more_is_kept_while_in_service_and_a_third_is_lost(lapic: LocalApic) -> None:
    lapic.accept(0x41)
    lapic.ack()
    assert lapic.accept(0x41)
    assert not lapic.accept(0x41)
    assert not lapic.intr
    lapic.eoi()
    assert lapic.ack() == 0x41
    lapic.eoi()
    assert not lapic.intr


@pytest.mark.conformance("A6.7-3")
def test_a_higher_class_interrupts_a_lower_one(lapic: LocalApic) -> None:
    lapic.accept(0x45)
    lapic.ack()
    lapic.accept(0x51)
    assert lapic.intr
    assert lapic.ack() == 0x51


@pytest.mark.conformance("A6.7-4")
def test_the_same_class_waits_for_the_end_of_interrupt(lapic: LocalApic) -> None:
    lapic.accept(0x41)
    lapic.ack()
    lapic.accept(0x4F)
    assert not lapic.intr
    lapic.eoi()
    assert lapic.ack() == 0x4F


@pytest.mark.conformance("A6.7-5")
def test_the_task_priority_blocks_its_own_class_and_below(lapic: LocalApic) -> None:
    lapic.tpr = 0x50
    lapic.accept(0x5F)
    assert not lapic.intr
    lapic.accept(0x60)
    assert lapic.ack() == 0x60


@pytest.mark.conformance("A6.7-6")
@pytest.mark.parametrize(
    ("tpr", "in_service", "ppr"), [(0x50, None, 0x50), (0x35, 0x41, 0x40), (0x45, 0x41, 0x45)]
)
def test_processor_priority(lapic: LocalApic, tpr: int, in_service: int | None, ppr: int) -> None:
    if in_service is not None:
        lapic.accept(in_service)
        lapic.ack()
    lapic.tpr = tpr
    assert lapic.ppr == ppr


@pytest.mark.conformance("A6.7-8")
def test_an_end_of_interrupt_without_service_changes_nothing(lapic: LocalApic) -> None:
    lapic.accept(0x41)
    lapic.eoi()
    assert bits(lapic.irr) == [0x41]
    assert lapic.intr


@pytest.mark.conformance("A6.7-9")
def test_the_end_of_interrupt_goes_by_priority(lapic: LocalApic) -> None:
    lapic.accept(0x41)
    lapic.ack()
    lapic.accept(0x81)
    lapic.ack()
    lapic.eoi()
    assert bits(lapic.isr) == [0x41]


def test_software_disabled_drops_and_counts_fixed_messages(lapic: LocalApic) -> None:
    lapic.enabled = False
    assert not lapic.accept(0x41)
    assert not lapic.irr
    assert lapic._words[CPU_SCHEMA.index("lapic_disabled")] == 1


def test_vectors_below_sixteen_are_refused_and_counted(lapic: LocalApic) -> None:
    assert not lapic.accept(0x0F)
    assert lapic.accept(0x10)
    assert lapic._words[CPU_SCHEMA.index("lapic_illegal")] == 1


def test_init_forgets_what_was_requested(lapic: LocalApic) -> None:
    lapic.accept(0x41)
    lapic.ack()
    lapic.accept(0x91)
    lapic.reset()
    assert (lapic.irr, lapic.isr, lapic.enabled, lapic.intr) == (0, 0, False, False)


@pytest.mark.conformance("A6.7-7")
def test_a_raised_priority_turns_the_acknowledge_into_the_spurious_vector(
    lapic: LocalApic,
) -> None:
    lapic.accept(0x41)
    assert lapic.intr
    lapic.tpr = 0x50
    assert not lapic.intr
    assert lapic.ack() == SPURIOUS_VECTOR
    assert not lapic.isr
    lapic.tpr = 0x10
    assert lapic.ack() == 0x41
