"""From the vector to the handler: entry, the edge flow, counting, and what has no handler."""

from __future__ import annotations

import pytest

from bus.messages import Interrupt
from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_MASKED,
    IRQF_SHARED,
    IRQS_PENDING,
)
from nodes.cpu.kernel.irq.flow import irq_free_desc
from nodes.cpu.kernel.irq.manage import remove_action, request_irq
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.softirq import __raise_softirq_irqoff, raise_softirq_irqoff
from nodes.cpu.page import CPU_SCHEMA
from tests.nodes.cpu.harness import BareCpu, handled

_IRQS = CPU_SCHEMA.index("irqs")


def counted(bench: BareCpu, irq: int) -> int:
    value: int = bench.page.words[_IRQS + irq]
    return value


def test_one_vector_runs_its_handler_once_and_is_counted() -> None:
    bench, ran = BareCpu(), []
    bench.irq(0x41, lambda irq, dev: ran.append((irq, dev)) or IRQ_HANDLED)
    bench.vector(0x41)
    bench.settle()
    assert ran == [(0x41, bench)]
    assert counted(bench, 0x41) == 1
    assert bench.cpu.lapic.isr == 0
    assert bench.cpu.preempt_count == 0


def test_a_handler_runs_with_interrupts_off_in_hard_interrupt_context() -> None:
    bench, seen = BareCpu(), []

    def handler(_irq: int, _dev: object) -> int:
        cpu = bench.cpu
        seen.append((cpu.irqs_on, cpu.in_irq(), cpu.in_interrupt(), cpu.preempt_count))
        return IRQ_HANDLED

    bench.irq(0x41, handler)
    bench.vector(0x41)
    bench.settle()
    assert seen == [(False, True, True, 0x10000)]


@pytest.mark.conformance("K1.3-1")
def test_an_unexpected_vector_is_acknowledged_and_reported() -> None:
    bench = BareCpu()
    bench.vector(0x55)
    bench.settle()
    assert bench.cpu.lapic.isr == 0
    assert bench.log()[-1] == "0.85 No irq handler for vector"
    assert bench["msi_no_handler"] == 1
    assert bench["vectors_taken"] == bench["lapic_accepted"]


@pytest.mark.conformance("K1.3-2")
def test_softirqs_are_run_even_when_no_handler_was_found() -> None:
    bench, ran = BareCpu(), []

    def action(_cpu: Cpu) -> Context:
        ran.append("NET_RX")
        yield

    bench.softirq(3, action)
    __raise_softirq_irqoff(bench.cpu, 3)
    bench.vector(0x55)
    bench.settle()
    assert ran == ["NET_RX"]
    assert bench.cpu.preempt_count == 0


@pytest.mark.conformance("K1.6-1", "K1.6-3")
def test_two_arrivals_while_the_handler_runs_are_one_more_run() -> None:
    bench, runs = BareCpu(), []
    desc = bench.irq(0x41)

    def handler(_irq: int, _dev: object) -> Context:
        runs.append(desc.state & IRQD_IRQ_MASKED)
        yield
        yield
        return IRQ_HANDLED

    request_irq(bench.cpu, 0x41, handler, 0, "dev", bench)
    bench.vector(0x41)
    bench.run_until(lambda: len(runs) == 1)
    # As a second CPU would: the line is in progress, so it is marked and left.
    for vector in (0x42, 0x43):
        bench.cpu.irq.vector_irq[vector] = desc
        bench.cpu.lapic.accept(vector)
    bench.cpu.irqs_on = True  # the handler opens the door, as drivers of 2.6 could
    bench.run_until(lambda: bench["vectors_taken"] == 3 and len(bench.cpu.stack) == 1)
    assert len(runs) == 1
    assert desc.istate & IRQS_PENDING
    assert desc.state & IRQD_IRQ_MASKED
    bench.settle()
    assert runs == [0, 0]  # the loop took the mask off before the second run
    assert not desc.istate & IRQS_PENDING
    assert counted(bench, 0x41) == 1


def test_the_same_vector_waits_in_irr_and_comes_again() -> None:
    bench, runs = BareCpu(), []

    def handler(_irq: int, _dev: object) -> Context:
        runs.append(bench.ns)
        yield
        yield
        return IRQ_HANDLED

    bench.irq(0x41, handler)
    bench.vector(0x41)
    bench.run_until(lambda: len(runs) == 1)
    bench.vector(0x41, 0x41, 0x41)
    bench.settle()
    assert len(runs) == 2
    assert counted(bench, 0x41) == 2
    assert bench["lapic_merged"] == 2


def test_a_disabled_line_marks_the_arrival_and_runs_nothing() -> None:
    bench, ran = BareCpu(), []
    desc = bench.irq(0x41, lambda irq, dev: ran.append(irq) or IRQ_HANDLED)
    desc.state |= IRQD_IRQ_DISABLED
    bench.vector(0x41)
    bench.settle()
    assert not ran
    assert desc.istate & IRQS_PENDING
    assert desc.state & IRQD_IRQ_MASKED
    assert counted(bench, 0x41) == 0  # counting comes after the check
    assert bench.cpu.lapic.isr == 0


def test_a_chain_is_run_in_the_order_of_registration() -> None:
    bench, order = BareCpu(), []
    bench.irq(0x41)
    for name in ("first", "second"):

        def handler(_irq: int, _dev: object, name: str = name) -> int:
            order.append(name)
            return IRQ_HANDLED

        assert request_irq(bench.cpu, 0x41, handler, IRQF_SHARED, name, object()) == 0
    bench.vector(0x41)
    bench.settle()
    assert order == ["first", "second"]


@pytest.mark.conformance("K1.7-3")
def test_freeing_the_last_action_disables_and_a_new_request_starts_up() -> None:
    bench = BareCpu()
    desc = bench.irq(0x41, handled)
    assert desc.depth == 0
    remove_action(bench.cpu, desc, bench)
    assert desc.state & IRQD_IRQ_DISABLED
    assert desc.depth == 1
    desc.depth = 3  # disabled a few times more, meanwhile
    assert request_irq(bench.cpu, 0x41, handled, 0, "dev", bench) == 0
    assert not desc.state & IRQD_IRQ_DISABLED
    assert desc.depth == 0


def test_a_freed_line_has_no_handler_for_its_vector() -> None:
    bench = BareCpu()
    desc = bench.irq(0x41, handled)
    remove_action(bench.cpu, desc, bench)
    irq_free_desc(bench.cpu, 0x41)
    bench.vector(0x41)
    bench.settle()
    assert bench["msi_no_handler"] == 1


def test_vectors_are_taken_by_priority_not_by_arrival() -> None:
    bench, order = BareCpu(), []
    for vector in (0x31, 0x45, 0x91):
        bench.irq(vector, lambda irq, dev: order.append(irq) or IRQ_HANDLED)
    bench.vector(0x45, 0x31, 0x91)
    bench.settle()
    assert order == [0x91, 0x45, 0x31]


def test_interrupts_off_keep_a_vector_in_irr() -> None:
    bench, ran = BareCpu(), []
    bench.irq(0x41, lambda irq, dev: ran.append(irq) or IRQ_HANDLED)

    def task(cpu: Cpu) -> Context:
        cpu.irqs_on = False
        for _ in range(5):
            yield
        assert not ran
        cpu.irqs_on = True
        yield

    bench.task(task(bench.cpu))
    bench.run_until(lambda: not bench.cpu.irqs_on)
    bench.vector(0x41)
    bench.settle()
    assert ran == [0x41]


@pytest.mark.conformance("K2.4-1")
def test_the_inner_of_two_nested_interrupts_leaves_softirqs_to_the_outer() -> None:
    bench, order = BareCpu(), []

    def action(_cpu: Cpu) -> Context:
        order.append("softirq")
        yield

    def outer(_irq: int, _dev: object) -> Context:
        order.append("outer")
        bench.cpu.irqs_on = True
        yield
        yield
        bench.cpu.irqs_on = False
        order.append("outer ends")
        return IRQ_HANDLED

    def inner(_irq: int, _dev: object) -> int:
        order.append("inner")
        raise_softirq_irqoff(bench.cpu, 3)
        return IRQ_HANDLED

    bench.softirq(3, action)
    bench.irq(0x41, outer)
    bench.irq(0x51, inner)
    bench.vector(0x41)
    bench.run_until(lambda: "outer" in order)
    bench.vector(0x51)
    bench.settle()
    assert order == ["outer", "inner", "outer ends", "softirq"]
    assert bench["ksoftirqd_wakeups"] == 0


def test_the_time_from_message_to_handler_goes_into_the_histogram() -> None:
    bench = BareCpu()
    bench.irq(0x41, handled)
    bench.vector(0x41)
    bench.ns += 5000
    bench.settle()
    latency = bench.page.run("irq_latency")
    assert sum(latency) == 1
    assert latency[13] == 1  # 4096 .. 8191 ns


@pytest.mark.parametrize(("mode", "field"), [(4, "lapic_other"), (3, "lapic_illegal")])
def test_messages_outside_irr_are_counted_by_name(mode: int, field: str) -> None:
    bench = BareCpu()
    bench.turn(("apic", Interrupt(0x41, mode, 0)))
    assert bench[field] == 1
    assert bench.cpu.lapic.irr == 0


@pytest.mark.conformance("A6.11-1")
def test_a_startup_message_to_a_running_cpu_does_nothing() -> None:
    bench = BareCpu()
    before = bench.log()
    bench.turn(("apic", Interrupt(0x9A, 6, 0)))
    bench.settle()
    assert bench.log() == before
    assert bench["lapic_other"] == 1
