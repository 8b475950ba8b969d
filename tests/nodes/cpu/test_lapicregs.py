"""Registers of the local APIC, by what software writes and reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.messages import EoiBroadcast, IcrWrite, Interrupt, LocalApicId
from bus.ram import Layout, Ram
from nodes.cpu import lapic as modes
from nodes.cpu.kernel.apic import setup_local_apic
from nodes.cpu.kernel.percpu import Context, Cpu, SoftwareInterrupt
from nodes.cpu.lapic import LocalApic
from nodes.cpu.lapicregs import (
    BUS_NS,
    LVT,
    MASKED,
    MSR_APIC_BASE,
    MSR_TSC_DEADLINE,
    OFFSET,
    REGISTERS,
    RO,
    SELF_IPI,
    LocalApicRegisters,
    MsrError,
)
from nodes.cpu.page import ARCH_IRQS, CPU_SCHEMA
from tests.nodes.cpu.harness import ERAS, BareCpu


class Apic:
    """A local APIC with its registers, a clock and what it sent."""

    def __init__(self, apic_id: int = 0) -> None:
        ram = Ram.anonymous(Layout(("cpu0",), 1, 0, 0))
        self.lapic = LocalApic(ram.page("cpu0", CPU_SCHEMA))
        self.ns = 1000
        self.sent: list[int] = []
        self.told: list[LocalApicId] = []
        self.registers = LocalApicRegisters(
            self.lapic, apic_id, self.sent.append, lambda: self.ns, self.told.append
        )

    def write(self, name: str, value: int) -> None:
        self.registers.write(OFFSET[name], value)

    def read(self, name: str) -> int:
        return self.registers.read(OFFSET[name])

    def enable(self) -> None:
        self.write("SVR", 0x1FF)

    def pass_ns(self, ns: int) -> int:
        """Let time pass; how often the timer came."""
        end, times = self.ns + ns, 0
        while self.lapic.deadline_ns is not None and self.lapic.deadline_ns <= end:
            self.ns = max(self.ns, self.lapic.deadline_ns)
            self.lapic.timer_expired(self.ns)
            times += 1
        self.ns = end
        return times

    def x2(self) -> None:
        self.registers.wrmsr(MSR_APIC_BASE, self.registers.base | 1 << 10)


@pytest.fixture
def apic() -> Apic:
    return Apic()


@pytest.mark.conformance("A6.2-1")
def test_the_version_tells_how_many_local_vectors_there_are(apic: Apic) -> None:
    assert (apic.read("VERSION") >> 16 & 0xFF) + 1 == len(LVT)


@pytest.mark.conformance("A6.2-2")
def test_read_only_registers_do_not_change(apic: Apic) -> None:
    apic.enable()
    apic.lapic.accept(0x41)
    for register in REGISTERS:
        if register.access == RO:
            before = apic.read(register.name)
            apic.write(register.name, ~before & 0xFFFF_FFFF)
            assert apic.read(register.name) == before, register.name
    assert apic.read("IRR2") == 1 << 1


@pytest.mark.conformance("A6.2-3")
def test_x2apic_has_no_dfr_and_its_eoi_takes_zero_only(apic: Apic) -> None:
    apic.x2()
    with pytest.raises(MsrError):
        apic.registers.rdmsr(0x80E)
    with pytest.raises(MsrError):
        apic.registers.wrmsr(0x80B, 1)
    apic.registers.wrmsr(0x80B, 0)
    with pytest.raises(MsrError):
        apic.registers.rdmsr(0x80B)
    with pytest.raises(MsrError):
        apic.registers.wrmsr(0x802, 5)


def test_the_modes_change_only_forward() -> None:
    """xAPIC to x2APIC and off; never from off straight to x2APIC, nor back to xAPIC."""
    apic = Apic(apic_id=0x23)
    apic.x2()
    assert apic.registers.rdmsr(0x80D) == 2 << 16 | 1 << 3
    with pytest.raises(MsrError):
        apic.registers.wrmsr(MSR_APIC_BASE, 0xFEE0_0800)
    apic.registers.wrmsr(MSR_APIC_BASE, 0xFEE0_0000)
    with pytest.raises(MsrError):
        apic.registers.wrmsr(MSR_APIC_BASE, 0xFEE0_0C00)
    with pytest.raises(MsrError):
        apic.registers.wrmsr(MSR_APIC_BASE, 0xFEE0_0400)
    apic.registers.wrmsr(MSR_APIC_BASE, 0xFEE0_0800)
    assert apic.read("SVR") == 0xFF


@pytest.mark.conformance("A6.7-10")
def test_software_disable_drops_messages_and_masks_the_local_vectors(apic: Apic) -> None:
    apic.enable()
    apic.write("LVT_LINT0", 0x700)
    apic.write("SVR", 0x0FF)
    assert not apic.lapic.accept(0x41)
    for name in LVT:
        apic.write(name, 0x41)
        assert apic.read(name) & MASKED, name
    apic.enable()
    assert apic.read("LVT_LINT0") & MASKED, "enabling again does not unmask"


def test_an_nmi_reaches_a_cpu_whose_local_apic_is_disabled() -> None:
    bench, seen = BareCpu(), []
    bench.cpu.nmi_handlers.append(lambda _cpu: seen.append(True) or True)
    bench.cpu.apic.write(OFFSET["SVR"], 0xFF)
    bench.turn(("apic", Interrupt(0x41, modes.FIXED, 0)), ("apic", Interrupt(0, modes.NMI, 0)))
    bench.settle()
    assert seen == [True]
    assert bench["lapic_disabled"] == 1


class TestTimer:
    """Counting modes, in bus clocks of 10 ns."""

    @pytest.mark.conformance("A6.8-1")
    def test_one_shot_comes_once_after_its_count(self, apic: Apic) -> None:
        apic.enable()
        apic.write("TIMER_DIVIDE", 0xB)
        apic.write("LVT_TIMER", 0x40)
        apic.write("TIMER_INITIAL", 1000)
        assert apic.pass_ns(400 * BUS_NS) == 0
        assert apic.read("TIMER_CURRENT") == 600
        assert apic.pass_ns(599 * BUS_NS) == 0
        assert apic.pass_ns(1 * BUS_NS) == 1
        assert apic.lapic.ack() == 0x40
        assert apic.read("TIMER_CURRENT") == 0
        assert apic.pass_ns(5000 * BUS_NS) == 0

    @pytest.mark.conformance("A6.8-2")
    def test_periodic_comes_again_and_unacknowledged_ones_merge(self, apic: Apic) -> None:
        apic.enable()
        apic.write("TIMER_DIVIDE", 0xB)
        apic.write("LVT_TIMER", 0x2_0040)
        apic.write("TIMER_INITIAL", 1000)
        taken = 0
        for _ in range(3):
            apic.pass_ns(1000 * BUS_NS)
            assert apic.lapic.ack() == 0x40
            apic.lapic.eoi()
            taken += 1
        assert taken == 3
        apic.pass_ns(3000 * BUS_NS)
        assert apic.lapic.ack() == 0x40
        apic.lapic.eoi()
        assert not apic.lapic.intr, "three expiries were one request"

    @pytest.mark.conformance("A6.8-3")
    def test_an_initial_count_of_zero_stops_it(self, apic: Apic) -> None:
        apic.enable()
        apic.write("LVT_TIMER", 0x40)
        apic.write("TIMER_INITIAL", 1000)
        apic.write("TIMER_INITIAL", 0)
        assert apic.pass_ns(100_000_000) == 0
        assert not apic.lapic.intr

    @pytest.mark.conformance("A6.8-4")
    def test_in_deadline_mode_the_initial_count_does_nothing(self, apic: Apic) -> None:
        apic.enable()
        apic.write("LVT_TIMER", 0x4_0040)
        apic.write("TIMER_INITIAL", 1000)
        assert apic.read("TIMER_INITIAL") == 0
        assert apic.pass_ns(100_000_000) == 0
        apic.registers.wrmsr(MSR_TSC_DEADLINE, apic.ns + 500)
        assert apic.registers.rdmsr(MSR_TSC_DEADLINE) == apic.ns + 500
        assert apic.pass_ns(499) == 0
        assert apic.pass_ns(1) == 1
        assert apic.registers.rdmsr(MSR_TSC_DEADLINE) == 0

    @pytest.mark.conformance("A6.8-5")
    def test_an_expiry_while_masked_is_lost(self, apic: Apic) -> None:
        apic.enable()
        apic.write("LVT_TIMER", 0x40 | MASKED)
        apic.write("TIMER_INITIAL", 10)
        assert apic.pass_ns(1_000_000) == 1
        apic.write("LVT_TIMER", 0x40)
        assert not apic.lapic.intr

    @given(st.sampled_from((0, 1, 2, 3, 8, 9, 0xA, 0xB)), st.integers(1, 1 << 20))
    def test_the_divider_counts_in_powers_of_two(self, divide: int, count: int) -> None:
        apic = Apic()
        apic.enable()
        apic.write("TIMER_DIVIDE", divide)
        apic.write("LVT_TIMER", 0x40)
        apic.write("TIMER_INITIAL", count)
        factor = 1 if divide == 0xB else 2 << ((divide & 3) | (divide >> 1 & 4))
        assert apic.pass_ns(count * factor * BUS_NS - 1) == 0
        assert apic.pass_ns(1) == 1

    def test_another_divider_rescales_what_is_left(self, apic: Apic) -> None:
        apic.enable()
        apic.write("TIMER_DIVIDE", 0xB)
        apic.write("LVT_TIMER", 0x40)
        apic.write("TIMER_INITIAL", 1000)
        apic.pass_ns(500 * BUS_NS)
        apic.write("TIMER_DIVIDE", 0x0)
        assert apic.read("TIMER_CURRENT") == 500
        assert apic.pass_ns(999 * BUS_NS) == 0
        assert apic.pass_ns(BUS_NS) == 1


@pytest.mark.conformance("A6.9-2")
def test_the_error_register_shows_what_was_latched_at_the_last_write(apic: Apic) -> None:
    apic.enable()
    apic.write("ESR", 0)
    apic.write("ICR_LOW", 0x0F)
    assert apic.read("ESR") == 0
    apic.write("ESR", 0)
    assert apic.read("ESR") == 0x20
    assert apic.read("ESR") == 0x20
    apic.write("ESR", 0)
    assert apic.read("ESR") == 0


@pytest.mark.conformance("A6.9-1")
def test_an_illegal_vector_is_not_sent_and_raises_the_error_interrupt(apic: Apic) -> None:
    apic.enable()
    apic.write("LVT_ERROR", 0xFE)
    apic.write("ICR_LOW", 0x0F)
    assert apic.sent == []
    assert apic.lapic.ack() == 0xFE


@pytest.mark.conformance("A6.11-5")
def test_the_high_half_of_the_command_register_does_not_send(apic: Apic) -> None:
    apic.write("ICR_LOW", 0x41)
    assert apic.sent == [0x41]
    apic.write("ICR_HIGH", 2 << 24)
    assert apic.sent == [0x41]
    apic.write("ICR_LOW", 0x41)
    assert apic.sent == [0x41, 2 << 56 | 0x41]


def test_reserved_offsets_are_an_error_of_their_own(apic: Apic) -> None:
    assert apic.registers.read(0x3F0) == 0
    apic.registers.write(0x040, 1)
    apic.write("ESR", 0)
    assert apic.read("ESR") == 0x80


def test_the_eoi_of_a_level_vector_is_told_to_the_io_apics(apic: Apic) -> None:
    heard: list[int] = []
    apic.lapic.level_eoi = heard.append
    apic.enable()
    apic.lapic.accept(0x41, level=True)
    apic.lapic.accept(0x51)
    assert apic.read("TMR2") == 2
    for _ in range(2):
        apic.lapic.ack()
        apic.write("EOI", 0)
    assert heard == [0x41]


def test_svr_bit_12_keeps_the_eoi_of_a_level_vector_to_itself(apic: Apic) -> None:
    heard: list[int] = []
    apic.lapic.level_eoi = heard.append
    assert apic.read("VERSION") >> 24 & 1
    apic.write("SVR", 0x11FF)
    apic.lapic.accept(0x41, level=True)
    apic.lapic.ack()
    apic.write("EOI", 0)
    assert (heard, apic.lapic.isr) == ([], 0)
    apic.enable()
    apic.lapic.accept(0x41, level=True)
    apic.lapic.ack()
    apic.write("EOI", 0)
    assert heard == [0x41]


def test_the_eoi_of_a_level_vector_is_a_message_to_the_interrupt_controller() -> None:
    bench = BareCpu()
    bench.cpu.lapic.accept(0x41, level=True)
    bench.cpu.lapic.ack()
    bench.cpu.lapic.accept(0x51)
    bench.cpu.lapic.ack()
    bench.cpu.lapic.eoi()
    bench.cpu.lapic.eoi()
    bench.turn()
    assert bench.outbox["apic"] == [EoiBroadcast(0x41)]
    assert bench["eoi_sent"] == 1


def test_what_finds_this_apic_is_told_when_it_is_written_and_new(apic: Apic) -> None:
    apic.enable()
    apic.write("LDR", 2 << 24)
    apic.write("LDR", 2 << 24)
    apic.write("DFR", 0)
    apic.write("SVR", 0xFF)
    assert apic.told == [
        LocalApicId(0, 0, 1, 0, 1),
        LocalApicId(0, 2 << 24, 1, 0, 1),
        LocalApicId(0, 2 << 24, 0, 0, 1),
        LocalApicId(0, 2 << 24, 0, 0, 0),
    ]


def test_x2apic_computes_its_logical_id_and_sends_32_bit_destinations() -> None:
    apic = Apic(0x23)
    apic.enable()
    apic.x2()
    assert apic.told[-1] == LocalApicId(0x23, 2 << 16 | 8, 0, 1, 1)
    apic.registers.wrmsr(0x830, 0x12345 << 32 | 0x41)
    assert apic.sent == [0x12345 << 32 | 0x41]
    assert apic.registers.rdmsr(0x830) == 0x12345 << 32 | 0x41


@pytest.mark.parametrize("mode", [2, 7])
def test_smi_and_extint_find_nobody_who_would_act_on_them(mode: int) -> None:
    bench = BareCpu()
    bench.turn(("apic", Interrupt(0, mode, 0)))
    assert (bench["lapic_in"], bench["lapic_other"], bench.cpu.lapic.irr) == (1, 1, 0)


@pytest.mark.conformance("A6.14-1")
def test_xv6_sets_it_up_without_an_error(apic: Apic) -> None:
    """Its writes, each followed by a read of the ID."""
    for name, value in (
        ("SVR", 0x13F), ("TIMER_DIVIDE", 0xB), ("LVT_TIMER", 0x2_0020),
        ("TIMER_INITIAL", 10_000_000), ("LVT_LINT0", 0x1_0000), ("LVT_LINT1", 0x1_0000),
        ("LVT_PERFMON", 0x1_0000), ("LVT_ERROR", 0x33), ("ESR", 0), ("ESR", 0), ("EOI", 0),
        ("ICR_HIGH", 0), ("ICR_LOW", 0x8_8500), ("TPR", 0),
    ):  # fmt: skip
        apic.write(name, value)
        assert apic.read("ID") == 0
    assert not apic.read("ICR_LOW") & 0x1000
    apic.write("ESR", 0)
    assert apic.read("ESR") == 0
    assert not apic.lapic.intr
    assert apic.pass_ns(10_000_000 * BUS_NS) == 1
    assert apic.lapic.ack() == 0x20


@pytest.mark.conformance("A6.16-1")
@pytest.mark.parametrize("era", ERAS)
def test_linux_sets_it_up_without_an_error(era: str) -> None:
    bench = BareCpu(era)
    apic, lapic = bench.cpu.apic, bench.cpu.lapic
    for vector in (0x41, 0x55, 0x99):  # what firmware left behind
        lapic.accept(vector)
    lapic.ack()
    setup_local_apic(bench.cpu)
    assert lapic.isr == 0
    apic.write(OFFSET["ESR"], 0)
    assert apic.read(OFFSET["ESR"]) == 0
    assert apic.read(OFFSET["SVR"]) == 0x1FF
    assert apic.read(OFFSET["TPR"]) == 0x10
    assert apic.read(OFFSET["LVT_ERROR"]) == 0xFE
    assert apic.read(OFFSET["LVT_LINT0"]) == 0x1_0700
    assert apic.read(OFFSET["LVT_LINT1"]) == 0x400
    assert apic.read(OFFSET["LVT_TIMER"]) == 0x4_0000 | bench.cpu.params.local_timer_vector


@pytest.mark.conformance("A6.16-2")
def test_a_masked_entry_may_hold_vector_zero(apic: Apic) -> None:
    apic.enable()
    apic.write("LVT_ERROR", MASKED)
    apic.write("LVT_TIMER", MASKED)
    apic.write("ESR", 0)
    assert apic.read("ESR") == 0
    apic.write("LVT_TIMER", 0x0F)
    apic.write("ESR", 0)
    assert apic.read("ESR") == 0x40


@pytest.mark.conformance("A6.11-6")
def test_two_self_ipis_before_delivery_are_one_interrupt() -> None:
    bench, ran = BareCpu(), []
    bench.irq(0x40, lambda _irq, _dev: ran.append(1) or 1)
    for _ in range(2):
        bench.cpu.apic.write(OFFSET["ICR_LOW"], 1 << 18 | 0x40)
    bench.settle()
    sent = [m for m in bench.outbox.get("apic", ()) if isinstance(m, IcrWrite)]
    assert [m.icr for m in sent] == [1 << 18 | 0x40] * 2
    bench.vector(0x40, 0x40)  # as the interrupt controller returns them
    bench.settle()
    assert ran == [1]


def test_the_self_ipi_register_of_x2apic_takes_a_vector(apic: Apic) -> None:
    apic.x2()
    apic.registers.wrmsr(SELF_IPI, 0x41)
    assert apic.sent == [1 << 18 | 0x41]
    with pytest.raises(MsrError):
        apic.registers.wrmsr(SELF_IPI, 0x141)


@pytest.mark.parametrize("sent", [True, False])
def test_the_spurious_vector_gets_an_eoi_only_if_it_is_in_service(sent: bool) -> None:
    """A request that goes away before it is taken leaves nothing in service."""
    bench = BareCpu()

    def task(_cpu: Cpu) -> Context:
        bench.cpu.lapic.accept(0x81)
        bench.cpu.lapic.ack()  # something else is in service: an EOI too many would end it
        if sent:
            bench.cpu.lapic.accept(0xFF)
        else:
            yield SoftwareInterrupt(0xFF)
        yield

    bench.task(task(bench.cpu))
    bench.settle()
    assert bench.page.run("arch_irqs")[ARCH_IRQS.index("SPU")] == 1
    assert bench.cpu.lapic.isr == 1 << 0x81
    assert bench.log()[-1].endswith("on CPU#0, should never happen.")


@pytest.mark.conformance("A5-4")
def test_an_error_is_counted_and_reported() -> None:
    bench = BareCpu("6.1")
    bench.turn(("apic", Interrupt(5, modes.FIXED, 0)))
    bench.settle()
    assert bench.page.run("arch_irqs")[ARCH_IRQS.index("ERR")] == 1
    assert bench.log()[-1] == "APIC error on CPU0: 40 : Received illegal vector"


def test_a_command_that_software_writes_itself_is_counted_as_an_ipi() -> None:
    bench = BareCpu()
    before = bench.page["ipi_sent"]
    bench.cpu.apic.write(OFFSET["ICR_LOW"], 1 << 14 | 0x400)
    bench.cpu.apic.write(OFFSET["ICR_LOW"], 0x0F)  # an illegal vector is not sent
    assert bench.page["ipi_sent"] == before + 1
