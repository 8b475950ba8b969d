"""Non-maskable interrupts: whatever IF says, never over one another, no softirqs behind them."""

from __future__ import annotations

import pytest

from bus.messages import Interrupt
from nodes.cpu import lapic
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.percpu import Context, Cpu
from tests.nodes.cpu.harness import ERAS, BareCpu

#: preempt_count in an NMI over a hard interrupt over a task (K2.2's table).
COUNTS = {"2.6.18": 0x20000, "3.10": 0x04020000, "6.1": 0x00120000}


def send_nmi(bench: BareCpu, count: int = 1) -> None:
    bench.wake = bench.node.turn([("apic", Interrupt(0, lapic.NMI, 0))] * count, 0)


def noting(bench: BareCpu, seen: list[tuple[bool, bool, int]]) -> None:
    def handler(cpu: Cpu) -> bool:
        seen.append((cpu.irqs_on, cpu.in_nmi(), cpu.preempt_count))
        return True

    bench.cpu.nmi_handlers.append(handler)


def busy(cpu: Cpu, boundaries: int = 40) -> Context:
    local_irq_disable(cpu)
    for _ in range(boundaries):
        yield
    local_irq_enable(cpu)


@pytest.mark.parametrize("era", ERAS)
def test_an_nmi_comes_in_with_interrupts_off_and_leaves_them_so(era: str) -> None:
    bench, seen = BareCpu(era), []
    noting(bench, seen)
    bench.task(busy(bench.cpu))
    bench.step(5)
    assert not bench.cpu.irqs_on
    send_nmi(bench)
    bench.step(4)
    assert len(seen) == 1
    assert seen[0][0] is False
    assert seen[0][1] is (era != "2.6.18")  # that kernel has no NMI bits: nmi_enter is irq_enter
    assert not bench.cpu.irqs_on
    assert bench.cpu.preempt_count == 0
    bench.settle()
    assert bench.cpu.irqs_on


@pytest.mark.parametrize("era", ERAS)
def test_preempt_count_of_an_nmi_over_a_hard_interrupt(era: str) -> None:
    bench, seen = BareCpu(era), []
    noting(bench, seen)

    def slow(_irq: int, _dev: object) -> Context:
        send_from_inside.append(True)
        for _ in range(10):
            yield
        return 1

    send_from_inside: list[bool] = []
    bench.irq(0x41, slow)
    bench.vector(0x41)
    bench.run_until(lambda: bool(send_from_inside))
    send_nmi(bench)
    bench.settle()
    assert [count for _, _, count in seen] == [COUNTS[era]]


def test_a_second_nmi_waits_for_the_iret_and_a_third_merges_with_it() -> None:
    bench, seen = BareCpu(), []
    noting(bench, seen)
    bench.task(busy(bench.cpu))
    send_nmi(bench)
    bench.run_until(bench.cpu.in_nmi)
    send_nmi(bench, 2)
    bench.settle()
    assert len(seen) == 2


@pytest.mark.conformance("K2.5-1")
@pytest.mark.parametrize("era", ERAS)
def test_the_end_of_an_nmi_runs_no_softirq(era: str) -> None:
    bench, ran = BareCpu(era), []

    def action(cpu: Cpu) -> Context:
        ran.append(cpu.in_serving_softirq())
        yield

    def handler(_cpu: Cpu) -> bool:
        seen.append(True)
        return True

    seen: list[bool] = []
    bench.cpu.nmi_handlers.append(handler)
    bench.softirq(3, action)

    def task(cpu: Cpu) -> Context:
        local_irq_disable(cpu)
        cpu.softirq.pending |= 1 << 3
        for _ in range(20):
            yield
        left_alone.append(list(ran))
        local_irq_enable(cpu)

    left_alone: list[list[bool]] = []
    bench.task(task(bench.cpu))
    bench.step(3)
    send_nmi(bench)
    bench.settle()
    assert seen == [True]
    assert left_alone == [[]]


def test_an_nmi_that_nobody_wants_is_reported() -> None:
    bench = BareCpu("6.1")
    send_nmi(bench)
    bench.settle()
    assert bench.log()[-2:] == [
        "Uhhuh. NMI received for unknown reason 00 on CPU 0.",
        "Dazed and confused, but trying to continue",
    ]
