"""Workqueues: the concurrency-managed pool, keventd, PENDING and delayed works."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.workqueue import cancel_delayed_work, schedule_delayed_work, schedule_work
from tests.nodes.cpu.harness import MS, SECOND, BareCpu
from tests.nodes.cpu.workqueue.bench import CMWQ, Log, compute, now, sleep


@pytest.mark.conformance("K5.5-1")
@pytest.mark.parametrize("era", CMWQ)
def test_the_first_worker_makes_a_second_before_it_works(era: str) -> None:
    bench = BareCpu(era)
    log, workers = Log(bench), []
    assert (bench.cpu.wq.pool.nr_workers, len(bench.cpu.wq.pool.idle_list)) == (1, 1)
    work = log.work("a", lambda cpu: iter(workers.append(cpu.wq.pool.nr_workers) or ()))
    now(schedule_work(bench.cpu, work))
    bench.settle()
    assert workers == [2]
    assert log.workers == ["kworker/0:0"]
    assert bench.cpu.wq.pool.nr_workers == 2
    assert len(bench.cpu.wq.pool.idle_list) == 2


@pytest.mark.conformance("K5.3-5", "K5.3-3")
@pytest.mark.parametrize("era", CMWQ)
def test_works_that_compute_run_one_after_the_other_on_one_worker(era: str) -> None:
    bench = BareCpu(era)
    log = Log(bench)
    for name in "abc":
        now(schedule_work(bench.cpu, log.work(name, compute)))
    bench.settle()
    assert log.order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    assert len(set(log.workers)) == 1
    assert log.most == 1


@pytest.mark.conformance("K5.3-3")
def test_a_preempted_worker_still_counts_as_running() -> None:
    bench = BareCpu()
    log = Log(bench)

    def in_user_mode(cpu: Cpu) -> Context:
        end = cpu.now() + 30 * MS
        while cpu.now() < end:
            yield USER

    def rival(cpu: Cpu) -> Context:
        end = cpu.now() + 30 * MS
        while cpu.now() < end:
            yield USER

    now(schedule_work(bench.cpu, log.work("a", in_user_mode)))
    now(schedule_work(bench.cpu, log.work("b", compute)))
    bench.task(rival(bench.cpu), "rival")
    switches = bench["ctxt"]
    bench.run_until(lambda: bench["ctxt"] - switches > 3)  # it has been preempted for a while
    assert bench.cpu.wq.pool.nr_running == 1
    assert log.order == ["a begins"]
    bench.settle()
    assert log.most == 1


@pytest.mark.conformance("K5.3-4", "K5.3-5")
@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_sleeps_lets_the_next_one_start(era: str) -> None:
    bench = BareCpu(era)
    now(schedule_work(bench.cpu, Log(bench).work("x")))
    bench.settle()  # two idle workers now: it is the sleeper that must wake the second
    log = Log(bench)
    for name in "abc":
        now(schedule_work(bench.cpu, log.work(name, sleep)))
    bench.settle()
    assert log.order == ["a begins", "b begins", "c begins"]
    assert log.most == 3
    assert len(set(log.workers)) == 3
    assert bench.cpu.wq.pool.nr_running == 0
    bench.run_for(SECOND)
    assert sorted(log.order[3:]) == ["a ends", "b ends", "c ends"]
    assert bench.cpu.wq.pool.nr_running == 0
    assert len(bench.cpu.wq.pool.idle_list) == bench.cpu.wq.pool.nr_workers == 4


@pytest.mark.conformance("K5.3-2")
def test_waking_an_idle_worker_does_not_count_before_it_begins() -> None:
    bench = BareCpu()
    log = Log(bench)
    now(schedule_work(bench.cpu, log.work("a")))
    assert bench.cpu.wq.pool.nr_running == 0
    bench.run_until(lambda: log.order == ["a begins"])
    assert bench.cpu.wq.pool.nr_running == 1
    bench.settle()
    assert bench.cpu.wq.pool.nr_running == 0


@pytest.mark.conformance("K5.5-2")
def test_the_most_recently_idle_worker_is_taken() -> None:
    bench = BareCpu()
    log = Log(bench)
    for name in "abc":
        now(schedule_work(bench.cpu, log.work(name, sleep)))
    bench.run_for(SECOND)
    last = bench.cpu.wq.pool.idle_list[-1].task
    assert last is not None
    now(schedule_work(bench.cpu, log.work("d")))
    bench.settle()
    assert log.workers[-1] == last.comm


@pytest.mark.conformance("K5.4-1")
@pytest.mark.parametrize("era", ["2.6.18", *CMWQ])
def test_queued_twice_before_it_runs_it_runs_once(era: str) -> None:
    bench = BareCpu(era)
    log = Log(bench)
    work = log.work("a")
    assert now(schedule_work(bench.cpu, work))
    assert not now(schedule_work(bench.cpu, work))
    bench.settle()
    assert log.order == ["a begins", "a ends"]
    assert now(schedule_work(bench.cpu, work))


@pytest.mark.conformance("K5.4-2")
@pytest.mark.parametrize("era", ["2.6.18", *CMWQ])
def test_a_work_may_queue_itself_from_its_function(era: str) -> None:
    bench = BareCpu(era)
    log, answers = Log(bench), []

    def again(cpu: Cpu) -> Context:
        if len(answers) < 2:
            answers.append(now(schedule_work(cpu, work)))
            answers.append(now(schedule_work(cpu, work)))
        yield

    work = log.work("a", again)
    now(schedule_work(bench.cpu, work))
    bench.settle()
    assert answers == [True, False]
    assert log.order == ["a begins", "a ends"] * 2
    assert log.most == 1


@pytest.mark.conformance("K5.4-8")
def test_a_delay_of_zero_queues_at_once() -> None:
    bench = BareCpu()
    log = Log(bench)
    work = log.work("a")
    assert now(schedule_delayed_work(bench.cpu, work, 0))
    assert not work.timer.entry.pending()
    bench.settle()
    assert log.order == ["a begins", "a ends"]


@pytest.mark.parametrize("era", ["2.6.18", *CMWQ])
def test_a_delayed_work_is_pending_on_its_timer_and_then_runs(era: str) -> None:
    bench = BareCpu(era)
    log = Log(bench)
    work = log.work("a")
    delay = bench.cpu.params.hz // 10
    began = bench.ns
    assert now(schedule_delayed_work(bench.cpu, work, delay))
    assert not now(schedule_work(bench.cpu, work))
    assert not now(schedule_delayed_work(bench.cpu, work, 1))
    bench.run_for(99 * MS)
    assert log.order == []
    bench.run_until(lambda: bool(log.order))
    assert bench.ns - began + MS * 5 >= 100 * MS
    bench.settle()
    assert bench.ns - began <= 100 * MS * (1.4 if era == "6.1" else 1.02)
    assert bench["wq_delayed"] == 0


def test_cancelling_stops_the_timer_or_takes_it_off_the_list() -> None:
    bench = BareCpu()
    log = Log(bench)
    a, b, blocker = log.work("a"), log.work("b"), log.work("x", compute)
    now(schedule_delayed_work(bench.cpu, a, 10))
    now(schedule_work(bench.cpu, blocker))
    now(schedule_work(bench.cpu, b))
    bench.run_until(lambda: log.order == ["x begins"])
    assert now(cancel_delayed_work(bench.cpu, a))
    assert now(cancel_delayed_work(bench.cpu, b))
    assert not now(cancel_delayed_work(bench.cpu, blocker))  # it runs already
    bench.run_for(SECOND)
    assert log.order == ["x begins", "x ends"]
    assert now(schedule_work(bench.cpu, a))  # PENDING is free again
    bench.settle()
    assert log.order[-1] == "a ends"


@pytest.mark.conformance("K5.10-1", "K5.10-3")
def test_keventd_runs_one_work_at_a_time_in_order() -> None:
    bench = BareCpu("2.6.18")
    log = Log(bench)
    for name in "abc":
        now(schedule_work(bench.cpu, log.work(name, sleep)))
    bench.settle()
    assert log.order == ["a begins"]  # it sleeps, and so everything waits
    bench.run_for(SECOND)
    assert log.order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    assert set(log.workers) == {"events/0"}
    keventd = next(t for t in bench.cpu.rq.all.values() if t.comm == "events/0")
    assert keventd.nice == -5


def test_the_page_shows_the_pool() -> None:
    bench = BareCpu()
    log = Log(bench)
    executed = bench["wq_executed"]
    for name in "ab":
        now(schedule_work(bench.cpu, log.work(name, compute)))
    bench.run_until(lambda: bench["wq_executed"] == executed + 1)
    bench.settle()
    assert bench["wq_executed"] == executed + 2
    assert (bench["wq_workers"], bench["wq_idle"]) == (2, 2)
    assert bench.page.text("wq_last_work") == "b"
