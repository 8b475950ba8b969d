"""Queueing here and on other CPUs: max_active, pools, the one place where a work runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    WQ_UNBOUND,
    Workqueue,
    alloc_ordered_workqueue,
    alloc_workqueue,
    cancel_work,
    mod_delayed_work,
    mod_delayed_work_on,
    queue_delayed_work_on,
    queue_work,
    queue_work_on,
    schedule_delayed_work,
    schedule_delayed_work_on,
    schedule_work,
    workqueue_set_max_active,
)
from nodes.cpu.kernel.workqueue.work import WORK_STRUCT_INACTIVE, work_data
from tests.nodes.cpu.harness import MS, SECOND, BareCpu
from tests.nodes.cpu.several import Several
from tests.nodes.cpu.workqueue.bench import CMWQ, Log, compute, now, sleep


def result(bench: BareCpu | Several, context: Context, number: int = 0) -> Any:
    """What a task gets out of ``context``."""
    answers: list[Any] = []

    def task() -> Context:
        answers.append((yield from context))

    if isinstance(bench, Several):
        bench.task(number, task())
        bench.until(lambda: bool(answers))
    else:
        bench.task(task())
        bench.run_until(lambda: bool(answers))
    return answers[0]


def workqueue(bench: BareCpu | Several, *args: Any) -> Workqueue:
    cpu = bench.zero.cpu if isinstance(bench, Several) else bench.cpu
    return known(bench, result(bench, alloc_workqueue(cpu, "test", *args)))


def known(bench: BareCpu | Several, wq: Workqueue) -> Workqueue:
    """Every CPU has taken the record."""
    if isinstance(bench, Several):
        bench.until(lambda: all(wq.id in b.cpu.wq.workqueues for b in bench.all))
    return wq


def pair_log(era: str) -> tuple[Several, Log]:
    pair = Several(era)
    return pair, Log(*pair.all)


# ---------------------------------------------------------------- max_active


@pytest.mark.conformance("K5.4-7")
@pytest.mark.parametrize("era", CMWQ)
def test_queued_works_count_for_max_active_and_the_next_starts_when_one_ends(era: str) -> None:
    bench = BareCpu(era)
    log, wq = Log(bench), workqueue(bench, 0, 2)
    pwq = wq.pwqs[0]
    works = [log.work("a", sleep), log.work("b", lambda cpu: msleep(cpu, 80)), log.work("c")]
    for work in works:
        assert now(queue_work(bench.cpu, wq, work))
    assert (pwq.nr_active, len(pwq.pool.worklist), len(pwq.inactive_works)) == (2, 2, 1)
    assert work_data(bench.cpu, works[2]) & WORK_STRUCT_INACTIVE
    bench.run_for(10 * MS)
    assert log.order == ["a begins", "b begins"]  # both sleep
    bench.run_until(lambda: "c begins" in log.order)
    assert log.order == ["a begins", "b begins", "a ends", "c begins"]
    bench.run_for(SECOND)
    assert (pwq.nr_active, sum(pwq.nr_in_flight), pwq.refcnt) == (0, 0, 1)


@pytest.mark.parametrize("era", CMWQ)
def test_a_higher_max_active_starts_what_waits(era: str) -> None:
    bench = BareCpu(era)
    log, wq = Log(bench), workqueue(bench, 0, 1)
    for name in "abc":
        now(queue_work(bench.cpu, wq, log.work(name, sleep)))
    bench.run_for(2 * MS)
    assert log.order == ["a begins"]
    result(bench, workqueue_set_max_active(bench.cpu, wq, 3))
    bench.run_for(2 * MS)
    assert log.order == ["a begins", "b begins", "c begins"]


@pytest.mark.conformance("K5.4-6")
@pytest.mark.parametrize("era", CMWQ)
def test_max_active_is_counted_on_each_cpu(era: str) -> None:
    pair, log = pair_log(era)
    zero, one = (bench.cpu for bench in pair.all)
    wq = workqueue(pair, 0, 1)
    theirs = one.wq.workqueues[wq.id]
    for name in "abcd":
        log.work(name, sleep)
    for name in "ab":
        assert now(queue_work(zero, wq, log.view(zero, name)))
    for name in "cd":
        assert now(queue_work(one, theirs, log.view(one, name)))
    pair.live(10 * MS)
    assert sorted(log.order) == ["a begins", "c begins"]
    pair.live(200 * MS)
    for first, second in ("ab", "cd"):
        assert log.order.index(f"{first} ends") < log.order.index(f"{second} begins")
    assert log.most == 2


@pytest.mark.conformance("K5.4-6")
@pytest.mark.parametrize("era", CMWQ)
def test_an_ordered_workqueue_runs_one_work_in_the_machine(era: str) -> None:
    pair, log = pair_log(era)
    zero, one = (bench.cpu for bench in pair.all)
    wq = known(pair, result(pair, alloc_ordered_workqueue(zero, "ordered")))
    theirs = one.wq.workqueues[wq.id]
    for name in "abcd":
        log.work(name, sleep)
    for name, cpu, queue in (("a", one, theirs), ("b", zero, wq), ("c", one, theirs)):
        result(pair, queue_work(cpu, queue, log.view(cpu, name)), cpu.number)
        pair.live(MS)
    pair.live(300 * MS)
    assert log.order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    assert {name[:10] for name in log.workers} == {"kworker/u4"}


@pytest.mark.parametrize(("era", "most"), [("3.10", 2), ("6.1", 1)])
def test_unbound_with_one_active_is_ordered_from_4_13_on(era: str, most: int) -> None:
    pair, log = pair_log(era)
    wq = workqueue(pair, WQ_UNBOUND, 1)
    for name in "ab":
        log.work(name, sleep)
    for number, name in enumerate("ab"):
        cpu = pair.all[number].cpu
        context = queue_work(cpu, cpu.wq.workqueues[wq.id], log.view(cpu, name))
        result(pair, context, number)
    pair.live(200 * MS)
    assert log.most == most
    assert len(log.order) == 4


# ---------------------------------------------------------------- never on two workers


@pytest.mark.conformance("K5.4-3")
@pytest.mark.parametrize("era", CMWQ)
def test_queued_elsewhere_while_it_runs_it_runs_there_again(era: str) -> None:
    pair, log = pair_log(era)
    zero, one = (bench.cpu for bench in pair.all)
    log.work("a", sleep)
    assert now(schedule_work(zero, log.view(zero, "a")))
    pair.live(2 * MS)
    assert log.order == ["a begins"]
    assert result(pair, schedule_work(one, log.view(one, "a")), 1)
    assert not now(schedule_work(one, log.view(one, "a")))
    pair.live(200 * MS)
    assert log.order == ["a begins", "a ends"] * 2
    assert log.most == 1
    assert {name[:10] for name in log.workers} == {"kworker/0:"}
    assert now(schedule_work(one, log.view(one, "a")))  # it does not run: it need not go there
    pair.live(200 * MS)
    assert log.workers[-1].startswith("kworker/1:")


@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_ends_on_its_way_there_goes_where_it_was_queued(era: str) -> None:
    pair, log = pair_log(era)
    zero, one = (bench.cpu for bench in pair.all)
    log.work("a", compute)
    now(schedule_work(zero, log.view(zero, "a")))
    pair.live(MS)
    pair.task(1, schedule_work(one, log.view(one, "a")))
    pair.one.run_until(lambda: "apic" in pair.one.outbox)  # the IPI has not been delivered
    pair.zero.run_until(lambda: "a ends" in log.order)
    pair.one.ns = pair.zero.ns
    pair.live(50 * MS)
    assert log.order == ["a begins", "a ends"] * 2
    assert log.most == 1


@pytest.mark.conformance("K5.4-4")
@pytest.mark.parametrize("era", CMWQ)
@pytest.mark.parametrize("same_pool", [True, False])
def test_another_workqueue_waits_only_in_the_same_pool(era: str, same_pool: bool) -> None:
    bench = BareCpu(era)
    log = Log(bench)
    other = workqueue(bench, 0 if same_pool else WQ_UNBOUND, 0)
    work = log.work("a", sleep)
    now(schedule_work(bench.cpu, work))
    bench.run_for(2 * MS)
    assert now(queue_work(bench.cpu, other, work))
    bench.run_for(SECOND)
    assert log.order.count("a begins") == 2
    assert log.most == (1 if same_pool else 2)


@pytest.mark.conformance("K5.4-5")
@pytest.mark.parametrize("era", CMWQ)
def test_a_work_with_another_function_does_not_wait_for_the_old_one(era: str) -> None:
    bench = BareCpu(era)
    log = Log(bench)
    work = log.work("a", sleep)
    now(schedule_work(bench.cpu, work))
    bench.run_for(2 * MS)
    log.work("a", sleep)
    work.function = log.view(bench.cpu, "a").function
    assert now(schedule_work(bench.cpu, work))
    bench.run_for(2 * MS)
    assert log.order == ["a begins", "a begins"]
    bench.run_for(SECOND)
    assert log.most == 2


# ---------------------------------------------------------------- queue_work_on


@pytest.mark.parametrize("era", ["2.6.18", *CMWQ])
def test_a_work_runs_on_the_cpu_that_is_asked_for(era: str) -> None:
    pair, log = pair_log(era)
    zero = pair.zero.cpu
    log.work("a")
    assert result(pair, queue_work_on(zero, 1, zero.wq.system_wq, log.view(zero, "a")))
    pair.live(50 * MS)
    assert log.order == ["a begins", "a ends"]
    assert log.workers[0].startswith(("kworker/1:", "events/1"))
    assert now(schedule_work(zero, log.view(zero, "a")))


@pytest.mark.parametrize("era", ["2.6.18", *CMWQ])
def test_a_delayed_work_for_another_cpu_has_its_timer_there(era: str) -> None:
    pair, log = pair_log(era)
    zero, one = (bench.cpu for bench in pair.all)
    log.work("a")
    delay = zero.params.hz // 20
    context = schedule_delayed_work_on(zero, 1, log.view(zero, "a"), delay)
    assert result(pair, context)
    pair.live(MS)
    assert log.view(one, "a").timer.entry.pending()
    assert not log.view(zero, "a").timer.entry.pending()
    pair.live(100 * MS)
    assert log.workers[0].startswith(("kworker/1:", "events/1"))


@pytest.mark.parametrize("era", CMWQ)
def test_a_record_that_comes_before_the_work_is_known_waits(era: str) -> None:
    pair = Several(era)
    log, zero = Log(pair.zero), pair.zero.cpu
    work = log.work("a")
    assert result(pair, queue_work_on(zero, 1, zero.wq.system_wq, work))
    pair.live(10 * MS)
    assert log.order == []
    log.benches = (pair.one,)
    log.work("a")
    pair.one.wake = 0
    pair.live(10 * MS)
    assert log.order == ["a begins", "a ends"]


# ---------------------------------------------------------------- mod_delayed_work and cancel


def _on_timer(pair: Several, log: Log) -> None:
    cpu = pair.zero.cpu
    now(schedule_delayed_work(cpu, log.view(cpu, "a"), cpu.params.hz * 10))


def _on_worklist(pair: Several, log: Log) -> None:
    cpu = pair.zero.cpu
    now(schedule_work(cpu, log.view(cpu, "x")))
    now(schedule_work(cpu, log.view(cpu, "a")))
    pair.live(MS)


@pytest.mark.parametrize("era", CMWQ)
@pytest.mark.parametrize("place", [_on_timer, _on_worklist])
@pytest.mark.parametrize("number", [0, 1])
def test_mod_delayed_work_steals_it_wherever_it_is(
    era: str, place: Callable[[Several, Log], None], number: int
) -> None:
    pair, log = pair_log(era)
    log.work("a")
    log.work("x", lambda cpu: _hold(cpu, 30))
    place(pair, log)
    cpu = pair.all[number].cpu
    context = mod_delayed_work(cpu, cpu.wq.system_wq, log.view(cpu, "a"), cpu.params.hz // 10)
    assert result(pair, context, number)
    pair.live(40 * MS)
    assert "a begins" not in log.order
    pair.live(150 * MS)
    assert log.order.count("a begins") == 1
    assert log.workers[-1].startswith(f"kworker/{number}:")


def _hold(cpu: Cpu, ms: int) -> Context:
    end = cpu.now() + ms * MS
    while cpu.now() < end:
        yield


@pytest.mark.parametrize("era", CMWQ)
def test_mod_delayed_work_of_an_idle_work_queues_it_and_says_so(era: str) -> None:
    pair, log = pair_log(era)
    zero = pair.zero.cpu
    work = log.work("a")
    assert not result(pair, mod_delayed_work_on(zero, 1, zero.wq.system_wq, work, 0))
    pair.live(10 * MS)
    assert log.workers[0].startswith("kworker/1:")


@pytest.mark.parametrize("era", CMWQ)
def test_cancel_takes_an_inactive_work_off_and_keeps_the_counts(era: str) -> None:
    bench = BareCpu(era)
    log, wq = Log(bench), workqueue(bench, 0, 1)
    pwq = wq.pwqs[0]
    a, b, c = (log.work(name, sleep) for name in "abc")
    for work in (a, b, c):
        now(queue_work(bench.cpu, wq, work))
    assert result(bench, cancel_work(bench.cpu, b))
    assert (pwq.nr_active, sum(pwq.nr_in_flight), len(pwq.inactive_works)) == (1, 2, 1)
    bench.run_for(SECOND)
    assert log.order == ["a begins", "a ends", "c begins", "c ends"]
    assert not result(bench, cancel_work(bench.cpu, b))
    assert (pwq.nr_active, sum(pwq.nr_in_flight), pwq.refcnt) == (0, 0, 1)


@pytest.mark.parametrize("era", CMWQ)
def test_cancel_takes_a_work_off_another_cpus_list(era: str) -> None:
    pair, log = pair_log(era)
    log.work("a")
    log.work("x", lambda cpu: _hold(cpu, 30))
    _on_worklist(pair, log)
    one = pair.one.cpu
    assert result(pair, cancel_work(one, log.view(one, "a")), 1)
    pair.live(100 * MS)
    assert log.order == ["x begins", "x ends"]
    assert now(schedule_work(one, log.view(one, "a")))


@pytest.mark.parametrize("era", CMWQ)
def test_a_delayed_work_with_a_cpu_asked_for_is_queued_there_from_any_timer(era: str) -> None:
    pair, log = pair_log(era)
    zero = pair.zero.cpu
    log.work("a")
    context = queue_delayed_work_on(zero, 1, zero.wq.system_unbound_wq, log.view(zero, "a"), 2)
    assert result(pair, context)
    pair.live(100 * MS)
    assert log.workers[0].startswith("kworker/u6:")
