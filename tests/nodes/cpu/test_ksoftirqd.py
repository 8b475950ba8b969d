"""ksoftirqd: its rounds, its gate, offline and back; threadirqs, leaked counts, warnings, the quiet
vectors."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.ksoftirqd import ksoftirqd_park, ksoftirqd_stop, ksoftirqd_unpark
from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.sched import (
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_PARKED,
    TASK_RUNNING,
    Task,
    wake_up_process,
)
from nodes.cpu.kernel.softirq import (
    NET_RX_SOFTIRQ,
    NET_TX_SOFTIRQ,
    __raise_softirq_irqoff,
    _local_bh_enable,
    local_bh_disable,
    local_bh_enable,
    raise_softirq,
)
from tests.nodes.cpu.harness import ERAS, MS, BareCpu
from tests.nodes.cpu.several import Several
from tests.nodes.cpu.test_softirq import VECTOR, Again, note, raise_from_interrupt


def thread(bench: BareCpu) -> Task:
    task = bench.cpu.softirq.ksoftirqd
    assert task is not None
    return task


# ---------------------------------------------------------------- every vector


@pytest.mark.parametrize("era", ERAS)
def test_every_vector_of_the_era_has_an_action_that_counts(era: str) -> None:
    bench = BareCpu(era)
    names = bench.cpu.params.softirq_names
    before = bench.page.run("softirqs")
    raise_from_interrupt(bench, *range(len(names)))
    bench.settle()
    after = bench.page.run("softirqs")
    ran = [b - a for a, b in zip(before, after, strict=True)]
    assert ran == [1] * len(names) + [0] * (10 - len(names))


def busy(cpu: Cpu, ms: int) -> Context:
    end = cpu.now() + ms * MS
    while cpu.now() < end:
        for _ in range(20):
            yield USER


@pytest.mark.parametrize(("era", "looks"), [("2.6.18", None), ("3.10", 2), ("6.1", 2)])
def test_a_busy_cpu_looks_at_the_others_in_the_sched_softirq(era: str, looks: int | None) -> None:
    pair = Several(era)
    one = pair.one
    before = sum(one.page.run("softirqs")[7:8])
    one.task(busy(one.cpu, 100))
    one.settle()
    found = one.page.run("softirqs")[7] - before
    assert found == 0 if looks is None else looks <= found <= looks + 1


def test_a_cpu_alone_has_nobody_to_look_at() -> None:
    bench = BareCpu("3.10")
    bench.task(busy(bench.cpu, 20))
    bench.settle()
    assert bench.page.run("softirqs")[7] == 0


# ---------------------------------------------------------------- the thread and its gate


@pytest.mark.parametrize(("era", "nice"), [("2.6.18", 19), ("3.10", 0), ("6.1", 0)])
def test_ksoftirqds_nice_value(era: str, nice: int) -> None:
    ksoftirqd = BareCpu(era).cpu.softirq.ksoftirqd
    assert ksoftirqd is not None
    assert (ksoftirqd.comm, ksoftirqd.nice) == ("ksoftirqd/0", nice)


@pytest.mark.conformance("K3.5-1")
def test_ksoftirqd_gives_way_between_two_rounds() -> None:
    bench = BareCpu()
    again = Again(40)
    bench.softirq(NET_RX_SOFTIRQ, again)
    order: list[str] = []

    def rival(_cpu: Cpu) -> Context:
        for _ in range(20):
            order.append(f"rival after {len(again.ran_on)}")
            yield USER

    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.run_until(lambda: len(again.ran_on) == 12)
    assert bench.cpu.current.comm == "ksoftirqd/0"
    bench.task(rival(bench.cpu), "rival", nice=-20)
    bench.cpu.need_resched = True
    bench.run_until(lambda: bool(order))
    # Its round ends after the pass that saw need_resched; it never gave way inside it.
    assert order[0] in ("rival after 12", "rival after 13")
    bench.settle()
    assert len(again.ran_on) == 40


def gate_bench(era: str, overrides: tuple[tuple[str, str], ...] = ()) -> tuple[BareCpu, list[str]]:
    """A CPU whose ksoftirqd is runnable but not running: a task is."""
    bench = BareCpu(era, overrides=overrides)
    ran: list[str] = []

    def action(cpu: Cpu) -> Context:
        ran.append(cpu.current.comm)
        yield

    for number in (NET_RX_SOFTIRQ, bench.cpu.params.softirq_names.index("TASKLET")):
        bench.softirq(number, action)

    def busy(_cpu: Cpu) -> Context:
        for _ in range(40):
            yield

    bench.task(busy(bench.cpu), "busy")
    bench.step(2)
    ksoftirqd = bench.cpu.softirq.ksoftirqd
    assert ksoftirqd is not None
    wake_up_process(bench.cpu, ksoftirqd)
    assert ksoftirqd.state == TASK_RUNNING
    return bench, ran


@pytest.mark.parametrize(
    ("era", "who"), [("2.6.18", "busy"), ("3.10", "busy"), ("6.1", "ksoftirqd/0")]
)
def test_a_runnable_ksoftirqd_gets_the_softirqs_where_the_era_has_the_gate(
    era: str, who: str
) -> None:
    bench, ran = gate_bench(era)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.settle()
    assert ran == [who]


def test_a_pending_tasklet_lifts_the_gate_for_all() -> None:
    bench, ran = gate_bench("6.1")
    raise_from_interrupt(bench, NET_RX_SOFTIRQ, 6)
    bench.settle()
    assert ran == ["busy", "busy"]


def test_the_gate_is_a_behaviour_of_its_own() -> None:
    bench, ran = gate_bench("6.1", (("ksoftirqd_gate", "never"),))
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.settle()
    assert ran == ["busy"]


# ---------------------------------------------------------------- who runs them


def test_before_the_exception_for_tasklets_the_gate_held_all_back() -> None:
    bench, ran = gate_bench("6.1", (("ksoftirqd_gate", "always"),))
    raise_from_interrupt(bench, NET_RX_SOFTIRQ, 6)
    bench.settle()
    assert ran == ["ksoftirqd/0", "ksoftirqd/0"]


@pytest.mark.parametrize(
    ("era", "who"), [("2.6.18", "busy"), ("3.10", "busy"), ("6.1", "ksoftirqd/0")]
)
def test_local_bh_enable_keeps_to_the_gate_too(era: str, who: str) -> None:
    bench, ran = gate_bench(era)

    def enabling(cpu: Cpu) -> Context:
        cpu.current.comm = "busy"
        local_bh_disable(cpu)
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        yield from local_bh_enable(cpu)

    bench.cpu.current.gen = enabling(bench.cpu)
    bench.settle()
    assert ran == [who]


def test_a_ksoftirqd_that_is_to_park_closes_no_gate() -> None:
    bench, ran = gate_bench("6.1")
    bench.cpu.softirq.should_park = True
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.settle()
    assert ran == ["busy"]


def test_with_threadirqs_an_interrupt_only_wakes_ksoftirqd() -> None:
    bench, ran = BareCpu("3.10"), []
    bench.cpu.softirq.force_irqthreads = True

    def action(cpu: Cpu) -> Context:
        ran.append(cpu.current.comm)
        yield

    bench.softirq(NET_RX_SOFTIRQ, action)
    raise_from_interrupt(bench, NET_RX_SOFTIRQ)
    bench.settle()
    assert ran == ["ksoftirqd/0"]


@pytest.mark.conformance("K3.2-1")
@pytest.mark.parametrize("era", ERAS)
def test_raise_softirq_in_a_task_runs_in_ksoftirqd_or_at_the_next_interrupts_end(era: str) -> None:
    bench, ran = BareCpu(era), []

    def action(cpu: Cpu) -> Context:
        ran.append(cpu.current.comm)
        yield

    def task(cpu: Cpu) -> Context:
        raise_softirq(cpu, NET_RX_SOFTIRQ)
        cpu.lapic.accept(VECTOR)
        yield
        yield

    bench.softirq(NET_RX_SOFTIRQ, action)
    bench.irq(VECTOR, lambda _irq, _dev: IRQ_HANDLED)
    bench.task(task(bench.cpu))
    bench.settle()
    # from 4.9 the gate leaves it to the ksoftirqd that was woken
    assert ran == ["test" if bench.cpu.params.ksoftirqd_gate == "never" else "ksoftirqd/0"]


# ---------------------------------------------------------------- leaked counts


@pytest.mark.parametrize("era", ERAS)
def test_an_action_that_leaks_a_preempt_count(era: str) -> None:
    bench, order = BareCpu(era), []

    def leaky(cpu: Cpu) -> Context:
        yield
        cpu.preempt_count += 1

    def look(cpu: Cpu) -> Context:
        order.append(cpu.preempt_count)
        cpu.preempt_count = 0x100  # or the idle task would be left with it
        yield

    bench.softirq(NET_TX_SOFTIRQ, leaky)
    bench.softirq(NET_RX_SOFTIRQ, look)
    raise_from_interrupt(bench, NET_TX_SOFTIRQ, NET_RX_SOFTIRQ)
    bench.settle()
    said = [line for line in bench.log() if line.startswith("huh")]
    if era == "2.6.18":  # nobody looks
        assert order == [0x101]
        assert said == []
    else:
        assert order == [0x100]
        assert said == [
            "huh, entered softirq 2 NET_TX leaky with preempt_count 00000100, exited with 00000101?"
        ]


# ---------------------------------------------------------------- bottom halves: warnings


@pytest.mark.parametrize("era", ERAS)
def test_enabling_bottom_halves_with_interrupts_off_warns_once(era: str) -> None:
    bench, order = BareCpu(era, overrides=(("prove_locking", "on"),)), []  # 6.1 asks lockdep
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))

    def task(cpu: Cpu) -> Context:
        for _ in range(2):
            local_bh_disable(cpu)
            cpu.irqs_on = False
            yield from local_bh_enable(cpu)
            cpu.irqs_on = True
        yield

    bench.task(task(bench.cpu))
    bench.settle()
    assert bench["warnings"] == 1
    assert any("kernel/softirq.c" in line and "local_bh_enable" in line for line in bench.log())


def test_bottom_halves_in_a_hard_interrupt_warn_and_run_nothing() -> None:
    bench, order = BareCpu(), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))

    def handler(_irq: int, _dev: object) -> Context:
        local_bh_disable(bench.cpu)
        __raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
        yield from local_bh_enable(bench.cpu)
        order.append("handler ends")
        return IRQ_HANDLED

    bench.irq(VECTOR, handler)
    bench.vector(VECTOR)
    bench.settle()
    assert order == ["handler ends", "NET_RX"]
    assert bench["warnings"] == 2  # disable and enable are two places


def test_the_quiet_enable_runs_nothing() -> None:
    bench, order = BareCpu(), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))

    def task(cpu: Cpu) -> Context:
        local_bh_disable(cpu)
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        cpu.irqs_on = False
        _local_bh_enable(cpu)
        cpu.irqs_on = True
        order.append("enabled")
        yield

    bench.task(task(bench.cpu))
    bench.settle()
    assert order == ["enabled"]
    assert bench.cpu.preempt_count == 0
    assert bench["warnings"] == 0


# ---------------------------------------------------------------- offline


def test_an_old_ksoftirqd_waits_to_die_when_it_finds_its_cpu_offline() -> None:
    bench, order = BareCpu("2.6.18"), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))
    task = thread(bench)
    bench.cpu.online = False
    raise_softirq(bench.cpu, NET_RX_SOFTIRQ)
    bench.settle()
    assert order == []  # pending, but not its business any more
    assert task.state == TASK_INTERRUPTIBLE
    bench.task(ksoftirqd_stop(bench.cpu))
    bench.settle()
    assert task.state == TASK_DEAD
    assert bench.cpu.softirq.ksoftirqd is None


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_newer_ksoftirqd_parks_and_goes_on_when_unparked(era: str) -> None:
    bench, order = BareCpu(era), []
    bench.softirq(NET_RX_SOFTIRQ, note(order, "NET_RX"))
    task = thread(bench)

    def park(cpu: Cpu) -> Context:
        yield from ksoftirqd_park(cpu)
        order.append("parked")

    bench.task(park(bench.cpu))
    bench.settle()
    assert task.state == TASK_PARKED
    __raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
    bench.settle()
    assert not wake_up_process(bench.cpu, task)
    assert order == ["parked"]
    ksoftirqd_unpark(bench.cpu)
    bench.settle()
    assert order == ["parked", "NET_RX"]
    assert task.state == TASK_INTERRUPTIBLE


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_parking_lets_the_round_that_runs_end(era: str) -> None:
    bench, order = BareCpu(era), []

    def long_action(_cpu: Cpu) -> Context:
        order.append("NET_RX begins")
        for _ in range(30):
            yield
        order.append("NET_RX ends")

    def park(cpu: Cpu) -> Context:
        yield from ksoftirqd_park(cpu)
        order.append("parked")

    bench.softirq(NET_RX_SOFTIRQ, long_action)
    raise_softirq(bench.cpu, NET_RX_SOFTIRQ)
    bench.run_until(lambda: bool(order))
    bench.task(park(bench.cpu))
    bench.settle()
    assert order == ["NET_RX begins", "NET_RX ends", "parked"]
    assert thread(bench).state == TASK_PARKED
