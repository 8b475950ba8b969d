"""The pools of a CPU that goes: adopted, run elsewhere, and back."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    INIT_WORK,
    Work,
    alloc_workqueue,
    cancel_work,
    flush_work,
    queue_work,
    queue_work_on,
    schedule_work,
    schedule_work_on,
    workqueue_offline_cpu,
    workqueue_online_cpu,
)
from nodes.cpu.kernel.workqueue.pool import POOL_DISASSOCIATED
from nodes.cpu.kernel.workqueue.worker import WORKER_NOT_RUNNING, WORKER_REBOUND, WORKER_UNBOUND
from nodes.cpu.trace import TRACEPOINTS
from tests.nodes.cpu.harness import MS
from tests.nodes.cpu.several import Several
from tests.nodes.cpu.workqueue.bench import CMWQ, FIRST_WORK, Body, Log, now, sleep
from tests.nodes.cpu.workqueue.test_queueing import known, result


def goes(pair: Several) -> None:
    result(pair, workqueue_offline_cpu(pair.one.cpu), 1)


def comes_back(pair: Several) -> None:
    result(pair, workqueue_online_cpu(pair.one.cpu), 1)


def nap(ms: int) -> Body:
    def body(cpu: Cpu) -> Context:
        yield from msleep(cpu, ms)

    return body


def busy(ms: int) -> Body:
    def body(cpu: Cpu) -> Context:
        end = cpu.now() + ms * MS
        while cpu.now() < end:
            yield USER

    return body


@pytest.mark.conformance("K5.8-1")
@pytest.mark.parametrize("era", CMWQ)
def test_pending_works_stay_in_their_pool_whose_workers_run_elsewhere(era: str) -> None:
    pair = Several(era, 3)
    log, one = Log(*pair.all), pair.one.cpu
    log.work("x", busy(40))
    for name in "abc":
        log.work(name, sleep)
    for name in "xabc":
        assert now(schedule_work(one, log.view(one, name)))
    pair.live(MS)
    assert log.order == ["x begins"]
    goes(pair)
    pair.live(200 * MS)
    assert log.order[:4] == ["x begins", "a begins", "b begins", "c begins"]
    assert log.workers[0] == "kworker/1:0"
    assert all(name.startswith("kworker/1:") for name in log.workers)
    pool = pair.zero.cpu.wq.pools[2]
    assert pool.flags & POOL_DISASSOCIATED
    tasks = [task.comm for task in pair.zero.cpu.rq.all.values()]
    assert "kworker/1:1" in tasks
    assert pool.nr_running == 0
    assert not one.wq.pools
    stats = pair.zero.cpu.wq.system_wq.pwqs[2].stats
    assert (stats.started, stats.completed) == (4, 4)
    assert "kworker/2:0" not in tasks


@pytest.mark.conformance("K5.8-2")
@pytest.mark.parametrize("era", CMWQ)
def test_what_is_queued_for_an_offline_cpu_runs_elsewhere(era: str) -> None:
    pair = Several(era, 3)
    log, two = Log(*pair.all), pair.all[2].cpu
    for name in "ab":
        log.work(name)
    goes(pair)
    context = schedule_work_on(two, 1, log.view(two, "a"))
    assert result(pair, context, 2)
    pair.live(10 * MS)
    assert log.order == ["a begins", "a ends"]
    assert log.workers[0].startswith("kworker/1:")
    wq = two.wq.system_highpri_wq
    assert result(pair, queue_work_on(two, 1, wq, log.view(two, "b")), 2)
    pair.live(10 * MS)
    assert log.workers[1] in ("kworker/1:0H", "kworker/1:1H")


@pytest.mark.conformance("K5.8-3")
@pytest.mark.parametrize("era", CMWQ)
def test_a_worker_that_was_busy_all_the_time_counts_after_its_batch(era: str) -> None:
    pair = Several(era)
    log, one = Log(*pair.all), pair.one.cpu
    log.work("a", busy(30))
    log.work("b", busy(5))
    now(schedule_work(one, log.view(one, "a")))
    pair.live(MS)
    worker = one.wq.pool.busy_hash[log.view(one, "a").number][0]
    assert (one.wq.pool.nr_running, worker.flags & WORKER_NOT_RUNNING) == (1, 0)
    pair.task(1, workqueue_offline_cpu(one))  # it waits for the worker
    pair.live(5 * MS)
    assert worker.flags & WORKER_UNBOUND
    assert 2 in pair.zero.cpu.wq.pools
    comes_back(pair)  # cpu_down was given up
    assert one.wq.pool.busy_hash[log.view(one, "a").number] == [worker]
    assert worker.flags & WORKER_NOT_RUNNING == WORKER_REBOUND
    assert one.wq.pool.nr_running == 0
    now(schedule_work(one, log.view(one, "b")))
    pair.live(8 * MS)
    assert "b ends" in log.order  # a does not count: b did not have to wait
    assert "a ends" not in log.order
    pair.live(40 * MS)
    assert log.order.count("a ends") == 1
    assert not worker.flags & (WORKER_UNBOUND | WORKER_REBOUND) or worker.flags & 1 << 2
    for name in "ab":
        now(schedule_work(one, log.view(one, name)))
    pair.live(MS)
    assert one.wq.pool.nr_running == 1


@pytest.mark.parametrize("era", CMWQ)
def test_half_done_works_end_where_they_are_and_cpu_down_waits(era: str) -> None:
    pair = Several(era)
    log, one = Log(*pair.all), pair.one.cpu
    log.work("a", nap(50))
    now(schedule_work(one, log.view(one, "a")))
    pair.live(2 * MS)
    done: list[int] = []

    def down() -> Context:
        yield from workqueue_offline_cpu(one)
        done.append(one.now())

    pair.task(1, down())
    pair.live(10 * MS)
    assert not done
    context = schedule_work(pair.zero.cpu, log.view(pair.zero.cpu, "a"))
    assert result(pair, context)  # it runs: it goes to its pool, and waits there
    pair.live(10 * MS)
    assert log.order == ["a begins"]
    pair.live(60 * MS)
    assert done
    assert log.order[:3] == ["a begins", "a ends", "a begins"]
    assert log.most == 1
    pair.live(100 * MS)
    assert log.workers[0] == "kworker/1:0"
    assert log.workers[1] in ("kworker/1:1", "kworker/1:2")  # 0 is taken by the one that ended
    assert not one.wq.away[2].workers


@pytest.mark.parametrize("era", CMWQ)
def test_works_in_a_row_survive_going_and_coming_back_each_runs_once(era: str) -> None:
    pair = Several(era, 3)
    log, one, two = Log(*pair.all), pair.one.cpu, pair.all[2].cpu
    names = [chr(ord("A") + n) for n in range(50)]
    for name in names:
        log.work(name, nap(3))
    wq = known(pair, result(pair, alloc_workqueue(pair.zero.cpu, "rows", 0, 4)))
    for name in names[:30]:
        result(pair, queue_work_on(two, 1, two.wq.workqueues[wq.id], log.view(two, name)), 2)
    goes(pair)
    for name in names[30:]:
        result(pair, queue_work_on(two, 1, two.wq.workqueues[wq.id], log.view(two, name)), 2)
    comes_back(pair)
    pair.live(1000 * MS)
    assert sorted(log.order) == sorted(f"{n} {what}" for n in names for what in ("begins", "ends"))
    assert log.most <= 4
    pwq = one.wq.workqueues[wq.id].pwqs[2]
    assert (pwq.nr_active, sum(pwq.nr_in_flight), pwq.refcnt) == (0, 0, 1)
    assert (pwq.stats.started, pwq.stats.completed) == (50, 50)
    assert sorted(one.wq.pools) == [2, 3, 8, 9]
    assert not [t for t in pair.zero.cpu.rq.all.values() if t.comm.startswith("kworker/1:")]


@pytest.mark.parametrize("era", CMWQ)
def test_a_work_half_done_on_the_adopter_is_not_started_again_at_home(era: str) -> None:
    pair = Several(era)
    log, one = Log(*pair.all), pair.one.cpu
    log.work("a", nap(50))
    goes(pair)
    result(pair, schedule_work_on(pair.zero.cpu, 1, log.view(pair.zero.cpu, "a")))
    pair.live(2 * MS)
    comes_back(pair)
    assert log.order == ["a begins"]
    assert now(schedule_work(one, log.view(one, "a")))
    pair.live(20 * MS)
    assert log.order == ["a begins"]
    pair.live(200 * MS)
    assert log.order == ["a begins", "a ends"] * 2
    assert log.most == 1
    stats = one.wq.system_wq.pwqs[2].stats
    assert (stats.started, stats.completed) == (2, 2)


@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_the_adopter_does_not_know_waits_for_its_cpu(era: str) -> None:
    pair = Several(era)
    log, one, ran = Log(*pair.all), pair.one.cpu, []

    def function(cpu: Cpu) -> Context:
        ran.append(cpu.name)
        yield

    log.work("x", busy(40))
    mine = INIT_WORK(one, FIRST_WORK + 1, "mine", function)
    now(schedule_work(one, log.view(one, "x")))
    now(schedule_work(one, mine))
    pair.live(MS)
    goes(pair)
    pair.live(50 * MS)
    assert ran == []
    assert not now(schedule_work(one, mine))
    comes_back(pair)
    pair.live(10 * MS)
    assert ran == ["cpu1"]


def mine(pair: Several, *cpus: int) -> tuple[list[Work], list[str]]:
    """A work that only these CPUs know; and where it ran."""
    ran: list[str] = []

    def function(cpu: Cpu) -> Context:
        ran.append(cpu.name)
        yield

    return [INIT_WORK(pair.all[n].cpu, FIRST_WORK + 1, "mine", function) for n in cpus], ran


@pytest.mark.parametrize("era", CMWQ)
def test_nor_is_one_lost_that_is_queued_while_its_cpu_is_away(era: str) -> None:
    pair = Several(era)
    (work,), ran = mine(pair, 1)
    goes(pair)
    assert result(pair, schedule_work(pair.one.cpu, work), 1)
    pair.live(10 * MS)
    assert ran == []
    comes_back(pair)
    pair.live(10 * MS)
    assert ran == ["cpu1"]
    assert not any(bench.cpu.wq.parked for bench in pair.all)


@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_the_adopter_does_not_know_can_be_flushed_and_cancelled(era: str) -> None:
    pair = Several(era, 3)
    (here, there), ran = mine(pair, 1, 2)
    one, two = pair.one.cpu, pair.all[2].cpu
    Log(*pair.all).work("x", busy(40))
    now(schedule_work(one, one.wq.delayed_works[FIRST_WORK + ord("x")]))
    now(schedule_work(one, here))
    goes(pair)
    flushed: list[bool] = []

    def flush() -> Context:
        flushed.append((yield from flush_work(two, there)))

    pair.task(2, flush())
    pair.live(60 * MS)
    assert (ran, flushed) == ([], [])
    assert result(pair, cancel_work(two, there), 2)
    pair.live(10 * MS)
    assert (ran, flushed) == ([], [True])
    comes_back(pair)
    pair.live(10 * MS)
    assert ran == []
    pwq = one.wq.system_wq.pwqs[2]
    assert (pwq.nr_active, sum(pwq.nr_in_flight), pwq.refcnt) == (0, 0, 1)


@pytest.mark.parametrize("era", CMWQ)
def test_an_inactive_work_can_be_cancelled_on_the_adopter(era: str) -> None:
    pair = Several(era)
    log, one, zero = Log(*pair.all), pair.one.cpu, pair.zero.cpu
    wq = known(pair, result(pair, alloc_workqueue(zero, "one", 0, 1)))
    for name in "abc":
        log.work(name, nap(30))
        now(queue_work(one, one.wq.workqueues[wq.id], log.view(one, name)))
    pair.live(2 * MS)
    goes(pair)
    assert result(pair, cancel_work(zero, log.view(zero, "c")))
    pair.live(200 * MS)
    assert log.order == [f"{n} {what}" for n in "ab" for what in ("begins", "ends")]


@pytest.mark.parametrize("era", CMWQ)
def test_it_can_go_again(era: str) -> None:
    pair = Several(era)
    log, one = Log(*pair.all), pair.one.cpu
    log.work("a")
    for _ in range(3):
        goes(pair)
        comes_back(pair)
        assert result(pair, schedule_work(one, log.view(one, "a")), 1)
        pair.live(5 * MS)
    assert log.order == ["a begins", "a ends"] * 3
    assert one.wq.pool.nr_running == 0
    assert [worker.id for worker in one.wq.pool.workers] == [0, 1]


@pytest.mark.parametrize(("era", "names"), [("3.10", ["wq_unbind_fn"]), ("6.1", [])])
def test_3_10_takes_the_binding_off_by_a_highpri_work(era: str, names: list[str]) -> None:
    pair = Several(era)
    one = pair.one.cpu
    queued: list[str] = []
    workers: list[str] = []

    def see(event: int, _a: int = 0, b: int = 0) -> None:
        if event == TRACEPOINTS["workqueue_execute_start"].number:
            queued.append(one.symbols[b & 0xFFFFF])
            workers.append(one.current.comm)

    one.recorder.mask = 1 << TRACEPOINTS["workqueue_execute_start"].number
    one.trace = see  # type: ignore[method-assign]
    goes(pair)
    assert queued == names
    assert workers == ["kworker/1:0H"] * len(names)
