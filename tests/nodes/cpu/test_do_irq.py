"""2.6.18's __do_IRQ, which all its lines go through, and handlers that run with interrupts on."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQF_DISABLED,
    IRQF_SHARED,
    IRQS_PENDING,
)
from nodes.cpu.kernel.irq.manage import disable_irq_nosync
from nodes.cpu.kernel.irq.sim import irq_sim_fire
from nodes.cpu.kernel.irq.x86_chips import PCI_MSIX_18
from tests.nodes.cpu.lines import IRQ, LineBench, Recorder

# ---------------------------------------------------------------- 2.6.18's __do_IRQ


def test_2_6_18_an_msix_entry_is_masked_while_handled_and_keeps_one_message() -> None:
    bench = LineBench("2.6.18")
    handler = Recorder(bench, length=20)
    bench.line(IRQ, chip=PCI_MSIX_18, latch=True)
    bench.request(IRQ, handler)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: handler.runs == 1)
    wire = bench.wire(IRQ)
    assert wire.masked
    irq_sim_fire(bench.cpu, IRQ)
    irq_sim_fire(bench.cpu, IRQ)
    assert wire.latched
    assert len(bench.ipis) == 1
    bench.settle()
    assert len(bench.ipis) == 2
    assert handler.runs == 2
    assert bench.counted(IRQ) == 2
    assert wire.lost == 1


def test_2_6_18_an_msix_entry_is_unmasked_at_the_end_even_if_it_was_disabled() -> None:
    bench = LineBench("2.6.18")
    desc = bench.line(IRQ, chip=PCI_MSIX_18, latch=True)

    def handler(irq: int, _dev: object) -> int:
        disable_irq_nosync(bench.cpu, irq)
        return IRQ_HANDLED

    bench.request(IRQ, handler)
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert desc.state & IRQD_IRQ_DISABLED
    assert not bench.wire(IRQ).masked


def test_2_6_18_an_edge_line_is_not_masked_while_handled_and_does_not_nest() -> None:
    bench = LineBench("2.6.18")
    handler = Recorder(bench, length=60)
    desc = bench.line(IRQ)
    bench.request(IRQ, handler)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: handler.runs == 1)
    assert not bench.wire(IRQ).masked
    taken = bench["vectors_taken"]
    irq_sim_fire(bench.cpu, IRQ)  # EOI was early, interrupts are on: its own vector comes in
    bench.run_until(lambda: bench["vectors_taken"] == taken + 1 and len(bench.cpu.stack) == 1)
    assert handler.runs == 1
    assert not handler.ended
    assert desc.istate & IRQS_PENDING
    bench.settle()
    assert handler.runs == 2
    assert handler.began[1] >= handler.ended[0]
    assert bench.counted(IRQ) == 2


def test_2_6_18_a_level_line_is_ended_after_its_handlers_and_holds_its_class_back() -> None:
    bench, order = LineBench("2.6.18"), []
    level = Recorder(bench, length=200)
    bench.line(IRQ, "fasteoi", vector=0x61)
    bench.request(IRQ, level)
    for irq, vector in ((6, 0x69), (7, 0x51), (8, 0x71)):
        bench.line(irq, vector=vector)
        bench.request(irq, lambda irq, dev: order.append((irq, level.runs, len(level.ended))) or 1)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: level.runs == 1)
    assert bench.cpu.irqs_on
    for irq in (6, 7, 8):
        irq_sim_fire(bench.cpu, irq)
    bench.settle()
    # the higher class nests; the same and the lower wait for the EOI after the handlers
    assert order == [(8, 1, 0), (6, 1, 1), (7, 1, 1)]


FIRST_FLAGS = [
    # era, flags of the first and the second action, interrupts in each
    ("2.6.18", 0, IRQF_DISABLED, [True, True]),
    ("2.6.18", IRQF_DISABLED, 0, [False, False]),
    ("3.10", 0, 0, [False, False]),
    ("6.1", 0, 0, [False, False]),
]


@pytest.mark.parametrize(("era", "first", "second", "expected"), FIRST_FLAGS)
def test_the_first_action_decides_whether_the_chain_runs_with_interrupts_on(
    era: str, first: int, second: int, expected: list[bool]
) -> None:
    bench, seen = LineBench(era), []
    bench.line(IRQ)
    for dev, flags in (("a", first), ("b", second)):
        bench.request(
            IRQ, lambda i, d: seen.append(bench.cpu.irqs_on) or 1, flags | IRQF_SHARED, dev, dev
        )
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert seen == expected


def test_2_6_18_a_second_vector_nests_and_the_line_does_not() -> None:
    bench, order = LineBench("2.6.18"), []
    outer = Recorder(bench, length=200)
    bench.line(IRQ, vector=0x41)
    bench.line(6, vector=0x51)
    bench.request(IRQ, outer)

    def inner(_irq: int, _dev: object) -> int:
        order.append((len(bench.cpu.stack), bench.cpu.preempt_count))
        return IRQ_HANDLED

    bench.request(6, inner)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: outer.runs == 1)
    irq_sim_fire(bench.cpu, 6)
    bench.settle()
    assert order == [(2, 0x20000)]
    assert outer.runs == 1
    assert bench.cpu.preempt_count == 0


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_handler_that_leaves_interrupts_on_is_warned_about_once(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)

    def careless(_irq: int, _dev: object) -> int:
        bench.cpu.irqs_on = True
        return IRQ_HANDLED

    bench.request(IRQ, careless)
    for _ in range(2):
        irq_sim_fire(bench.cpu, IRQ)
        bench.settle()
    said = [line for line in bench.log() if "enabled interrupts" in line]
    assert said == ["irq 5 handler careless enabled interrupts"]
    assert desc.state & IRQD_IRQ_INPROGRESS == 0


def test_2_6_18_says_nothing_of_a_handler_that_enables_interrupts() -> None:
    bench, later = LineBench("2.6.18"), []
    bench.line(IRQ)

    def careless(_irq: int, _dev: object) -> int:
        bench.cpu.irqs_on = True
        return IRQ_HANDLED

    def next_one(_irq: int, _dev: object) -> int:
        later.append(bench.cpu.irqs_on)
        return IRQ_HANDLED

    bench.request(IRQ, careless, IRQF_DISABLED | IRQF_SHARED, "a", "a")
    bench.request(IRQ, next_one, IRQF_DISABLED | IRQF_SHARED, "b", "b")
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert later == [True]  # nobody turned them off again before the end of the chain
    assert not [line for line in bench.log() if "enabled interrupts" in line]
