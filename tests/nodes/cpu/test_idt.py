"""``int n``: through the table of gates and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.cpu.idt import (
    GENERAL_PROTECTION,
    INTERRUPT_GATE,
    TRAP_GATE,
    Gate,
    GeneralProtectionError,
    Idt,
    RealModeTable,
    decode_gate,
)
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.percpu import Context, Cpu, SoftwareInterrupt
from nodes.cpu.kernel.sched import TASK_DEAD
from tests.nodes.cpu.harness import BareCpu, handled


def test_real_mode_has_four_bytes_an_entry_from_address_0() -> None:
    table = RealModeTable()
    table.set(0x21, segment=0x1234, offset=0x0056)
    assert table.entry_address(0x21) == 0x84
    assert table.memory[0x84:0x88] == bytes((0x56, 0x00, 0x34, 0x12))
    assert table.handler_address(0x21) == 0x12396
    assert len(table.memory) == 1024


def test_a_gate_of_long_mode_has_sixteen_bytes() -> None:
    """The bytes of Linux's gate for 0x80 with a handler at that address, written out by hand."""
    gate = Gate(0xFFFFFFFF_81E00F10, selector=0x10, type=INTERRUPT_GATE, dpl=3)
    assert gate.encode() == bytes.fromhex("100f 1000 00 ee e081 ffffffff 00000000".replace(" ", ""))
    assert Idt().entry_offset(0x80) == 0x800


@given(
    st.builds(
        Gate,
        st.integers(0, (1 << 64) - 1),
        st.integers(0, 0xFFFF),
        st.integers(0, 7),
        st.sampled_from((INTERRUPT_GATE, TRAP_GATE)),
        st.integers(0, 3),
        st.booleans(),
    )
)
def test_a_gate_survives_its_bytes(gate: Gate) -> None:
    assert decode_gate(gate.encode()) == gate


def test_user_mode_needs_a_gate_that_lets_it_in() -> None:
    table = Idt()
    table.set_gate(0x80, _nothing, dpl=3)
    table.set_gate(0x41, _nothing)
    assert table.look_up(0x80, 3)[0].dpl == 3
    assert table.look_up(0x41, 0)[0].dpl == 0
    with pytest.raises(GeneralProtectionError) as fault:
        table.look_up(0x41, 3)
    assert fault.value.error_code == 0x41 * 8 + 2


def test_a_vector_behind_the_limit_or_without_a_gate_is_a_general_protection_fault() -> None:
    table = Idt()
    table.set_gate(0x41, _nothing)
    table.limit = 0x41 * 16 + 14
    with pytest.raises(GeneralProtectionError):
        table.look_up(0x41, 0)
    with pytest.raises(GeneralProtectionError):
        table.look_up(0x20, 0)
    assert GENERAL_PROTECTION == 13


def _nothing(_cpu: Cpu, _n: int) -> Context:
    yield


def test_int_n_runs_at_once_even_with_interrupts_off_and_hands_back_a_value() -> None:
    bench, seen = BareCpu(), []

    def handler(cpu: Cpu, n: int) -> Context:
        seen.append((n, cpu.irqs_on, cpu.preempt_count, cpu.lapic.isr, cpu.in_interrupt()))
        yield
        return 7

    def task(cpu: Cpu) -> Context:
        local_irq_disable(cpu)
        seen.append((yield SoftwareInterrupt(0x41)))
        seen.append(cpu.irqs_on)
        local_irq_enable(cpu)

    bench.cpu.idt.set_gate(0x41, handler)
    bench.task(task(bench.cpu))
    bench.settle()
    assert seen == [(0x41, False, 0, 0, False), 7, False]
    assert bench["vectors_taken"] == 0


def test_an_interrupt_gate_clears_if_and_a_trap_gate_does_not() -> None:
    bench, seen = BareCpu(), []

    def handler(cpu: Cpu, n: int) -> Context:
        seen.append((n, cpu.irqs_on))
        yield

    def task(cpu: Cpu) -> Context:
        yield SoftwareInterrupt(0x41)
        yield SoftwareInterrupt(0x42)
        seen.append((0, cpu.irqs_on))

    bench.cpu.idt.set_gate(0x41, handler, type=INTERRUPT_GATE)
    bench.cpu.idt.set_gate(0x42, handler, type=TRAP_GATE)
    bench.task(task(bench.cpu))
    bench.settle()
    assert seen == [(0x41, False), (0x42, True), (0, True)]


def test_int_of_a_device_vector_runs_the_device_handler_without_any_interrupt() -> None:
    """Every gate from 0x20 up leads to the interrupt entry; the EOI finds nothing in service."""
    bench = BareCpu()
    bench.irq(0x41, handled)

    def task(_cpu: Cpu) -> Context:
        yield SoftwareInterrupt(0x41)

    bench.task(task(bench.cpu))
    bench.settle()
    assert bench.page.run("irqs")[0x41] == 1
    assert bench["lapic_accepted"] == 0


def test_a_forbidden_int_ends_the_program_and_the_machine_goes_on() -> None:
    bench, after = BareCpu(), []

    def program(_cpu: Cpu) -> Context:
        yield SoftwareInterrupt(0x41, cpl=3)
        after.append("never")

    def other(_cpu: Cpu) -> Context:
        yield
        after.append("other")

    task = bench.task(program(bench.cpu), comm="bad")
    bench.task(other(bench.cpu))
    bench.settle()
    assert after == ["other"]
    assert task.state == TASK_DEAD
    assert bench.log()[-1] == f"traps: bad[{task.pid}] general protection fault error:20a"


def test_int_0x80_from_user_mode_is_a_system_call_that_nobody_knows() -> None:
    bench, seen = BareCpu(), []

    def program(_cpu: Cpu) -> Context:
        seen.append((yield SoftwareInterrupt(0x80, cpl=3)))

    bench.task(program(bench.cpu))
    bench.settle()
    assert seen == [-38]
