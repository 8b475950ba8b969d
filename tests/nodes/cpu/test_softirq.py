"""Softirqs: raising, passes, limits, bottom halves off."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.softirq import (
    HI_SOFTIRQ,
    NET_RX_SOFTIRQ,
    NET_TX_SOFTIRQ,
    TIMER_SOFTIRQ,
    __raise_softirq_irqoff,
    local_bh_disable,
    local_bh_enable,
    raise_softirq_irqoff,
)
from nodes.cpu.page import CPU_SCHEMA
from tests.nodes.cpu.harness import ERAS, MS, BareCpu

VECTOR = 0x41


def note(order: list[str], name: str) -> Callable[[Cpu], Context]:
    def action(_cpu: Cpu) -> Context:
        order.append(name)
        yield

    return action


def raise_from_interrupt(bench: BareCpu, *numbers: int) -> None:
    """An interrupt whose handler raises these, in this order."""

    def handler(_irq: int, _dev: object) -> int:
        for number in numbers:
            raise_softirq_irqoff(bench.cpu, number)
        return IRQ_HANDLED

    bench.irq(VECTOR, handler)
    bench.vector(VECTOR)


def raise_again(cpu: Cpu, number: int) -> None:
    """Outside the class, where Python would mangle the name."""
    __raise_softirq_irqoff(cpu, number)


class Again:
    """An action that raises itself again until it has run ``total`` times; notes for whom."""

    def __init__(self, total: int, number: int = NET_RX_SOFTIRQ) -> None:
        self.total = total
        self.number = number
        self.ran_on: list[str] = []
        self.during: Callable[[Cpu], None] = lambda cpu: None

    def __call__(self, cpu: Cpu) -> Context:
        self.ran_on.append(cpu.current.comm.split("/")[0])
        self.during(cpu)
        if len(self.ran_on) < self.total:
            raise_again(cpu, self.number)
        yield


# ---------------------------------------------------------------- raising


@pytest.mark.conformance("K3.2-1")
def test_raised_in_a_hard_interrupt_it_runs_at_its_end_without_ksoftirqd() -> None:
    bench, order = BareCpu(), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.settle()
    assert order == ["NET_RX"]
    assert bench["ksoftirqd_wakeups"] == 0


@pytest.mark.conformance("K3.2-1")
def test_raised_in_a_softirq_it_wakes_nobody() -> None:
    bench, order = BareCpu(), []

    def first(cpu: Cpu) -> Context:
        order.append("NET_TX")
        raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        yield

    bench.softirq(NET_TX_SOFTIRQ, first)
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))
    raise_from_interrupt(bench, NET_TX_SOFTIRQ)
    bench.settle()
    assert order == ["NET_TX", "NET_RX"]
    assert bench["ksoftirqd_wakeups"] == 0


@pytest.mark.conformance("K3.2-1", "K3.5-2")
@pytest.mark.parametrize("era", ERAS)
def test_raised_in_process_context_it_is_ksoftirqds(era: str) -> None:
    bench = BareCpu(era)
    again = Again(1)
    serving: list[tuple[bool, bool]] = []
    again.during = lambda cpu: serving.append((cpu.in_serving_softirq(), cpu.irqs_on))
    bench.softirq(NET_RX_SOFTIRQ, again)

    def task(cpu: Cpu) -> Context:
        cpu.irqs_on = False
        raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        cpu.irqs_on = True
        yield
        assert not again.ran_on  # turning interrupts on runs nothing

    bench.task(task(bench.cpu))
    bench.settle()
    assert again.ran_on == ["ksoftirqd"]
    assert serving == [(True, True)]
    assert bench["ksoftirqd_wakeups"] == 1


@pytest.mark.conformance("K2.3-5")
def test_turning_interrupts_on_runs_no_softirq() -> None:
    bench, order = BareCpu(), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))

    def task(cpu: Cpu) -> Context:
        cpu.irqs_on = False
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        cpu.irqs_on = True
        yield
        yield

    bench.task(task(bench.cpu))
    bench.settle()
    assert order == []
    assert bench.cpu.softirq.pending == 1 << NET_RX_SOFTIRQ


@pytest.mark.conformance("K3.2-2")
def test_five_raises_are_one_invocation() -> None:
    bench, order = BareCpu(), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))
    raise_from_interrupt(bench, *[NET_RX_SOFTIRQ] * 5)
    bench.settle()
    assert order == ["NET_RX"]
    assert bench.page.run("softirqs")[NET_RX_SOFTIRQ] == 1
    assert bench.page.run("softirqs_raised")[NET_RX_SOFTIRQ] == 5


@pytest.mark.conformance("K3.2-3", "K3.4-5")
def test_each_cpu_runs_what_it_raised_and_both_may_run_the_same_one() -> None:
    benches = [BareCpu(number=0), BareCpu(number=0)]
    inside: list[set[int]] = [set()]

    def action_of(which: int) -> Callable[[Cpu], Context]:
        def action(_cpu: Cpu) -> Context:
            for _ in range(3):
                inside[-1].add(which)
                yield

        return action

    for which, bench in enumerate(benches):
        bench.softirq(NET_RX_SOFTIRQ, action_of(which))
        raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    for _ in range(10):
        inside.append(set())
        for bench in benches:
            bench.step()
    assert {0, 1} in inside
    assert [bench.page.run("softirqs")[NET_RX_SOFTIRQ] for bench in benches] == [1, 1]


# ---------------------------------------------------------------- passes


@pytest.mark.conformance("K3.4-1")
@pytest.mark.parametrize("era", ERAS)
def test_a_softirq_that_raises_itself_runs_ten_times_then_ksoftirqd_goes_on(era: str) -> None:
    bench = BareCpu(era)
    again = Again(25)
    bench.softirq(NET_RX_SOFTIRQ, again)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.run_until(lambda: bench["ksoftirqd_wakeups"] == 1)
    assert again.ran_on == ["swapper"] * 10
    assert bench.cpu.softirq.pending == 1 << NET_RX_SOFTIRQ
    bench.settle()
    assert again.ran_on == ["swapper"] * 10 + ["ksoftirqd"] * 15
    assert bench["ksoftirqd_runs"] == 2  # ten, and the rest
    assert bench["softirq_restarts"] == 9 + 9 + 4


@pytest.mark.conformance("K3.4-2")
@pytest.mark.parametrize(("era", "passes"), [("2.6.18", 10), ("3.10", 1), ("6.1", 1)])
def test_need_resched_ends_the_loop_after_one_pass_where_the_era_looks(
    era: str, passes: int
) -> None:
    bench = BareCpu(era)
    again = Again(12)

    def want_cpu(cpu: Cpu) -> None:
        cpu.need_resched = True

    again.during = want_cpu
    bench.softirq(NET_RX_SOFTIRQ, again)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.settle()
    assert again.ran_on.count("swapper") == passes


@pytest.mark.parametrize(("era", "hz"), [("3.10", 1000), ("6.1", 250)])
def test_the_time_limit_ends_the_loop(era: str, hz: int) -> None:
    bench = BareCpu(era)
    again = Again(12)

    def slow(cpu: Cpu) -> Context:
        yield from again(cpu)
        end = cpu.now() + MS * 3 // 2
        while cpu.now() < end:
            yield

    bench.softirq(NET_RX_SOFTIRQ, slow)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.run_until(lambda: bench["ksoftirqd_wakeups"] == 1)
    limit_ms = max(2, 1000 // hz)  # two milliseconds, rounded up to a jiffy
    assert len(again.ran_on) == -(-limit_ms * 2 // 3)


def test_without_a_time_limit_slow_actions_get_their_ten_passes() -> None:
    bench = BareCpu("2.6.18")
    again = Again(12)

    def slow(cpu: Cpu) -> Context:
        yield from again(cpu)
        end = cpu.now() + MS
        while cpu.now() < end:
            yield

    bench.softirq(NET_RX_SOFTIRQ, slow)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.run_until(lambda: bench["ksoftirqd_wakeups"] == 1)
    assert again.ran_on.count("swapper") == 10


@pytest.mark.conformance("K3.4-6")
def test_within_a_pass_the_order_is_by_number() -> None:
    bench, order = BareCpu(), []
    for number in (HI_SOFTIRQ, NET_TX_SOFTIRQ, NET_RX_SOFTIRQ, 6):
        bench.softirq(number, note(order, bench.cpu.params.softirq_names[number]))
    raise_from_interrupt(bench, 6, NET_RX_SOFTIRQ, NET_TX_SOFTIRQ, HI_SOFTIRQ)
    bench.settle()
    assert order == ["HI", "NET_TX", "NET_RX", "TASKLET"]


@pytest.mark.conformance("K3.4-3")
def test_what_an_action_raises_runs_in_the_next_pass_be_it_lower_or_higher() -> None:
    bench, order = BareCpu(), []

    def middle(cpu: Cpu) -> Context:
        order.append("NET_TX")
        if order.count("NET_TX") == 1:
            __raise_softirq_irqoff(cpu, HI_SOFTIRQ)
            __raise_softirq_irqoff(cpu, 6)
        yield

    bench.softirq(HI_SOFTIRQ, note(order, "HI"))
    bench.softirq(NET_TX_SOFTIRQ, middle)
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))
    bench.softirq(6, note(order, "TASKLET"))
    raise_from_interrupt(bench, NET_TX_SOFTIRQ, NET_RX_SOFTIRQ)
    bench.settle()
    assert order == ["NET_TX", "NET_RX", "HI", "TASKLET"]
    assert bench["softirq_restarts"] == 1


@pytest.mark.conformance("K3.4-4", "K3.4-5")
def test_an_interrupt_during_an_action_adds_to_the_next_pass_and_does_not_nest() -> None:
    bench, order = BareCpu(), []

    def long_action(_cpu: Cpu) -> Context:
        order.append("NET_RX begins")
        for _ in range(8):
            yield
        order.append("NET_RX ends")

    def handler(_irq: int, _dev: object) -> int:
        order.append("interrupt")
        raise_softirq_irqoff(bench.cpu, HI_SOFTIRQ)
        return IRQ_HANDLED

    bench.softirq(NET_RX_SOFTIRQ, long_action)
    bench.softirq(HI_SOFTIRQ, note(order, "HI"))
    bench.irq(0x51, handler)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.run_until(lambda: bool(order))
    bench.vector(0x51)
    bench.settle()
    assert order == ["NET_RX begins", "interrupt", "NET_RX ends", "HI"]
    assert bench["ksoftirqd_wakeups"] == 0


@pytest.mark.conformance("K2.4-2")
def test_softirqs_at_the_end_of_an_interrupt_run_on_behalf_of_the_interrupted_task() -> None:
    bench, seen = BareCpu(), []

    def action(cpu: Cpu) -> Context:
        seen.append((cpu.current.comm, cpu.irqs_on, cpu.in_irq(), cpu.in_softirq()))
        yield

    def task(_cpu: Cpu) -> Context:
        for _ in range(20):
            yield

    bench.softirq(NET_RX_SOFTIRQ, action)
    bench.task(task(bench.cpu), "victim")
    bench.step(3)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.settle()
    assert seen == [("victim", True, False, True)]


# ---------------------------------------------------------------- bottom halves off


@pytest.mark.conformance("K2.3-1", "K2.3-2")
@pytest.mark.parametrize("era", ERAS)
def test_bottom_halves_nest_and_the_last_enable_runs_what_waited(era: str) -> None:
    bench, order = BareCpu(era), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))

    def task(cpu: Cpu) -> Context:
        local_bh_disable(cpu)
        local_bh_disable(cpu)
        raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        yield from local_bh_enable(cpu)
        order.append("still off")
        yield from local_bh_enable(cpu)
        order.append(f"on again in {cpu.current.comm}")

    bench.task(task(bench.cpu))
    bench.settle()
    assert order == ["still off", "NET_RX", "on again in test"]
    assert bench["ksoftirqd_wakeups"] == 0
    assert bench.cpu.preempt_count == 0


@pytest.mark.conformance("K2.3-3")
def test_enabling_bottom_halves_inside_a_softirq_does_not_recurse() -> None:
    bench, order = BareCpu(), []

    def action(cpu: Cpu) -> Context:
        order.append("begins")
        if len(order) == 1:
            local_bh_disable(cpu)
            raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
            yield from local_bh_enable(cpu)
        order.append("ends")
        yield

    bench.softirq(NET_RX_SOFTIRQ, action)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.settle()
    assert order == ["begins", "ends", "begins", "ends"]


@pytest.mark.conformance("K2.3-4", "K2.4-1")
def test_bottom_halves_off_hold_softirqs_here_but_not_interrupts_nor_other_cpus() -> None:
    bench, other, order = BareCpu(), BareCpu(), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX here"))
    other.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX there"))

    def task(cpu: Cpu) -> Context:
        local_bh_disable(cpu)
        for _ in range(12):
            yield
        order.append("enable")
        yield from local_bh_enable(cpu)

    bench.task(task(bench.cpu))
    bench.step(3)
    assert bench.cpu.in_softirq()
    assert not bench.cpu.in_serving_softirq()

    def handler(_irq: int, _dev: object) -> int:
        order.append("interrupt")
        raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
        return IRQ_HANDLED

    bench.irq(VECTOR, handler)
    bench.vector(VECTOR)
    bench.step(4)
    raise_from_interrupt(other, NET_RX_SOFTIRQ)
    other.settle()
    bench.settle()
    assert order == ["interrupt", "NET_RX there", "enable", "NET_RX here"]


@pytest.mark.conformance("K7.1-4")
def test_interrupts_off_keep_softirqs_from_starting() -> None:
    bench, order = BareCpu(), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)

    def task(cpu: Cpu) -> Context:
        cpu.irqs_on = False
        for _ in range(5):
            yield
        order.append("on")
        cpu.irqs_on = True
        yield

    bench.cpu.lapic.ack()  # the vector comes later: take it out of IRR for now
    bench.cpu.lapic.eoi()
    bench.task(task(bench.cpu))
    bench.run_until(lambda: not bench.cpu.irqs_on)
    bench.vector(VECTOR)
    bench.settle()
    assert order == ["on", "NET_RX"]


# ---------------------------------------------------------------- preempt_count


BH_OFF = {"2.6.18": 0x100, "3.10": 0x200, "6.1": 0x200}


@pytest.mark.parametrize("era", ERAS)
def test_preempt_count_in_each_context(era: str) -> None:
    bench = BareCpu(era)
    cpu, seen = bench.cpu, {}

    def in_hardirq(_irq: int, _dev: object) -> int:
        seen["hardirq over " + ("softirq" if cpu.in_serving_softirq() else "task")] = (
            cpu.preempt_count
        )
        return IRQ_HANDLED

    def net_rx(_cpu: Cpu) -> Context:
        where = "ksoftirqd" if cpu.current.comm.startswith("ksoftirqd") else seen.pop("from")
        seen[f"softirq from {where}"] = cpu.preempt_count
        cpu.lapic.accept(VECTOR)
        yield
        yield

    def task(cpu: Cpu) -> Context:
        seen["task"] = cpu.preempt_count
        local_bh_disable(cpu)
        seen["bh off"] = cpu.preempt_count
        seen["from"] = "local_bh_enable"
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        yield from local_bh_enable(cpu)
        cpu.lapic.accept(VECTOR)
        yield
        seen["from"] = "irq_exit"
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        cpu.lapic.accept(VECTOR)
        yield
        raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        yield

    bench.irq(VECTOR, in_hardirq)
    bench.softirq(NET_RX_SOFTIRQ, net_rx)
    bench.task(task(cpu))
    bench.settle()
    assert seen == {
        "task": 0,
        "bh off": BH_OFF[era],
        "softirq from local_bh_enable": 0x101,
        "hardirq over task": 0x10000,
        "hardirq over softirq": 0x10100,
        "softirq from irq_exit": 0x100,
        "softirq from ksoftirqd": 0x100,
    }


def test_names_and_number_of_softirqs_by_era() -> None:
    names = {era: BareCpu(era).cpu.params.softirq_names for era in ERAS}
    assert len(names["2.6.18"]) == 6
    assert names["3.10"][5] == "BLOCK_IOPOLL"
    assert names["6.1"][5] == "IRQ_POLL"
    assert names["6.1"][6:] == ("TASKLET", "SCHED", "HRTIMER", "RCU")


@pytest.mark.conformance("K4.1-1")
@pytest.mark.parametrize(("era", "per_second"), [("2.6.18", 1000), ("3.10", 1000), ("6.1", 0)])
def test_the_timer_softirq_of_a_busy_cpu_without_timers(era: str, per_second: int) -> None:
    bench = BareCpu(era)

    def busy(cpu: Cpu) -> Context:
        end = cpu.now() + 200 * MS
        while cpu.now() < end:
            yield USER

    bench.task(busy(bench.cpu))
    counts = CPU_SCHEMA.index("softirqs") + TIMER_SOFTIRQ
    before = bench.page.words[counts]
    bench.settle()
    assert bench.page.words[counts] - before == pytest.approx(per_second / 5, abs=2)
