"""The scheduler: shares by nice value, wake-ups, preemption, sleeping and ending."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nodes.cpu.kernel.percpu import SCHEDULE, USER, Context, Cpu
from nodes.cpu.kernel.sched import (
    SIGINT,
    TASK_DEAD,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Task,
    cond_resched,
    kthread_create,
    send_signal,
    wake_up_process,
)
from nodes.cpu.page import CPU_SCHEMA
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu

#: Weights of the nice values used here (kernel/sched/core.c).
WEIGHT = {-5: 3121, 0: 1024, 5: 335, 19: 15}


def spin(_cpu: Cpu) -> Context:
    while True:
        yield USER


def shares(bench: BareCpu, tasks: list[Task], duration_ns: int) -> list[float]:
    before = [task.runtime_ns for task in tasks]
    bench.run_for(duration_ns)
    gained = [task.runtime_ns - old for task, old in zip(tasks, before, strict=True)]
    return [gain / duration_ns for gain in gained]


@pytest.mark.parametrize("nices", [(0, 0), (0, 5), (-5, 0), (0, 0, 5)])
def test_cpu_shares_follow_the_weights(nices: tuple[int, ...]) -> None:
    bench = BareCpu()
    tasks = [bench.task(spin(bench.cpu), f"spin{n}", nice) for n, nice in enumerate(nices)]
    total = sum(WEIGHT[nice] for nice in nices)
    expected = [WEIGHT[nice] / total for nice in nices]
    assert shares(bench, tasks, SECOND // 2) == pytest.approx(expected, abs=0.04)


def test_each_nice_step_is_a_quarter_of_the_weight() -> None:
    weights = [Task(BareCpu().cpu, "t", None, nice).weight for nice in range(-20, 20)]
    assert {nice: weights[nice + 20] for nice in WEIGHT} == WEIGHT
    for heavy, light in pairwise(weights):
        assert heavy / light == pytest.approx(1.25, abs=0.08)


def test_nice_19_gets_its_crumbs_and_does_not_starve() -> None:
    bench = BareCpu("2.6.18")
    nice, other = bench.task(spin(bench.cpu), "nice", 19), bench.task(spin(bench.cpu), "other")
    got = shares(bench, [nice, other], SECOND)
    assert got[0] == pytest.approx(15 / 1039, abs=0.006)
    assert got[0] > 0


def test_a_task_in_the_kernel_is_not_preempted_before_it_gives_way() -> None:
    bench, order = BareCpu(), []

    def in_kernel(cpu: Cpu) -> Context:
        end = cpu.now() + 20 * MS
        while cpu.now() < end:
            yield
        order.append("leaves the kernel")
        yield USER

    def other(_cpu: Cpu) -> Context:
        order.append("other runs")
        yield USER

    bench.task(in_kernel(bench.cpu))
    bench.step(3)
    bench.task(other(bench.cpu), nice=-20)
    bench.settle()
    assert order == ["leaves the kernel", "other runs"]


def test_a_task_in_user_mode_is_preempted_by_one_that_waited_longer() -> None:
    bench, order = BareCpu(), []

    def sleeper(cpu: Cpu) -> Context:
        cpu.current.state = TASK_INTERRUPTIBLE
        yield SCHEDULE
        order.append(cpu.now())
        yield USER

    asleep = bench.task(sleeper(bench.cpu), "sleeper")
    bench.settle()
    bench.task(spin(bench.cpu), "spin")
    bench.run_for(50 * MS)
    woken = bench.ns
    assert wake_up_process(bench.cpu, asleep)
    bench.run_for(MS)
    assert order
    assert order[0] - woken < 10_000


def test_a_fresh_wake_up_does_not_preempt_within_the_granularity() -> None:
    bench, order = BareCpu(), []

    def other(_cpu: Cpu) -> Context:
        order.append("other")
        yield USER

    bench.task(spin(bench.cpu), "spin")
    bench.step(4)
    bench.task(other(bench.cpu), "other")
    bench.step(20)
    assert order == []  # less than the wake-up granularity behind
    bench.run_for(20 * MS)
    assert order == ["other"]


def test_cond_resched_gives_way_only_when_somebody_should_run() -> None:
    bench, order = BareCpu(), []

    def polite(cpu: Cpu) -> Context:
        for n in range(6):
            order.append(f"polite {n}")
            yield from cond_resched(cpu)
            yield

    def other(_cpu: Cpu) -> Context:
        order.append("other")
        yield

    switches = bench["ctxt"]
    bench.task(polite(bench.cpu))
    bench.step(2)
    assert bench["ctxt"] - switches == 1
    bench.task(other(bench.cpu), nice=-20)
    bench.cpu.need_resched = True
    bench.settle()
    assert order[:4] == ["polite 0", "polite 1", "polite 2", "other"]
    assert order[-1] == "polite 5"


def test_a_wake_up_between_setting_the_state_and_schedule_is_not_lost() -> None:
    bench, order = BareCpu(), []

    def waiter(cpu: Cpu) -> Context:
        cpu.current.state = TASK_INTERRUPTIBLE
        yield  # the wake-up comes here
        yield SCHEDULE
        order.append("awake")

    task = bench.task(waiter(bench.cpu))
    bench.run_until(lambda: task.state == TASK_INTERRUPTIBLE)
    assert wake_up_process(bench.cpu, task)
    bench.settle()
    assert order == ["awake"]


def test_a_signal_ends_an_interruptible_sleep_only() -> None:
    bench, order = BareCpu(), []

    def waiter(cpu: Cpu, state: int) -> Context:
        cpu.current.state = state
        yield SCHEDULE
        order.append(state)

    tasks = [
        bench.task(waiter(bench.cpu, state)) for state in (TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE)
    ]
    bench.settle()
    for task in tasks:
        send_signal(bench.cpu, task, SIGINT)
    bench.settle()
    assert order == [TASK_INTERRUPTIBLE]
    assert tasks[1].signals
    assert wake_up_process(bench.cpu, tasks[1])
    bench.settle()
    assert order == [TASK_INTERRUPTIBLE, TASK_UNINTERRUPTIBLE]


def test_a_pending_signal_keeps_an_interruptible_task_from_sleeping() -> None:
    bench, order = BareCpu(), []

    def waiter(cpu: Cpu) -> Context:
        send_signal(cpu, cpu.current, SIGINT)
        cpu.current.state = TASK_INTERRUPTIBLE
        yield SCHEDULE
        order.append("went on")

    bench.task(waiter(bench.cpu))
    bench.settle()
    assert order == ["went on"]


def test_waking_a_runnable_or_dead_task_does_nothing() -> None:
    bench = BareCpu()
    task = bench.task(spin(bench.cpu))
    assert not wake_up_process(bench.cpu, task)

    def short(_cpu: Cpu) -> Context:
        yield

    dead = bench.task(short(bench.cpu), nice=-20)
    bench.run_until(lambda: dead.state == TASK_DEAD)
    assert not wake_up_process(bench.cpu, dead)
    assert dead.pid not in bench.cpu.rq.all


def test_a_created_thread_waits_to_be_woken() -> None:
    bench, order = BareCpu(), []

    def short(_cpu: Cpu) -> Context:
        order.append("runs")
        yield

    task = kthread_create(bench.cpu, "later", short(bench.cpu))
    bench.settle()
    assert order == []
    wake_up_process(bench.cpu, task)
    bench.settle()
    assert order == ["runs"]


@pytest.mark.parametrize("era", ERAS)
def test_the_page_shows_who_runs_and_how_many_want_to(era: str) -> None:
    bench = BareCpu(era)
    tasks = [bench.task(spin(bench.cpu), f"spin{n}") for n in range(3)]
    bench.run_for(60 * MS)
    assert bench["nr_running"] == 3
    assert bench["current_pid"] in [task.pid for task in tasks]
    assert all(task.state == TASK_RUNNING for task in tasks)
    assert bench.page.words[CPU_SCHEMA.index("task_ns")] == pytest.approx(60 * MS, rel=0.1)


def test_a_sleeper_does_not_hoard_the_time_it_slept() -> None:
    bench = BareCpu()

    def waiter(cpu: Cpu) -> Context:
        cpu.current.state = TASK_INTERRUPTIBLE
        yield SCHEDULE
        yield from spin(cpu)

    slept = bench.task(waiter(bench.cpu), "slept")
    bench.settle()
    other = bench.task(spin(bench.cpu), "other")
    bench.run_for(300 * MS)
    wake_up_process(bench.cpu, slept)
    got = shares(bench, [slept, other], 200 * MS)
    assert got == pytest.approx([0.5, 0.5], abs=0.06)
