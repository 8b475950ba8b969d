"""nr_running, NOT_RUNNING flags, and the questions that decide about workers."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.workqueue import queue_work, worker_clr_flags, worker_set_flags
from nodes.cpu.kernel.workqueue.pool import (
    WorkerPool,
    keep_working,
    need_more_worker,
    pool_id,
    pool_place,
    too_many_workers,
)
from nodes.cpu.kernel.workqueue.work import (
    WORK_OFFQ_POOL_NONE,
    WORK_STRUCT_NO_POOL,
    get_work_pool_id,
    work_data,
)
from nodes.cpu.kernel.workqueue.worker import (
    WORKER_CPU_INTENSIVE,
    WORKER_PREP,
    WORKER_REBOUND,
    WORKER_UNBOUND,
    Worker,
)
from tests.nodes.cpu.harness import BareCpu
from tests.nodes.cpu.workqueue.bench import CMWQ, Log


def pool_of(idle: int, busy: int) -> WorkerPool:
    pool = WorkerPool(0, 1)
    pool.workers = [Worker(pool, number) for number in range(idle + busy)]
    pool.idle_list = pool.workers[:idle]
    return pool


@pytest.mark.conformance("K5.2-1")
@pytest.mark.parametrize("era", CMWQ)
@pytest.mark.parametrize(
    ("idle", "busy", "too_many"),
    [(3, 0, True), (2, 0, False), (3, 5, False), (3, 4, True), (4, 8, True), (4, 9, False)],
)
def test_a_quarter_of_the_busy_may_be_idle_and_two_more(
    era: str, idle: int, busy: int, too_many: bool
) -> None:
    assert too_many_workers(BareCpu(era).cpu, pool_of(idle, busy)) is too_many


def test_a_manager_counts_as_idle() -> None:
    pool = pool_of(2, 1)
    cpu = BareCpu().cpu
    assert not too_many_workers(cpu, pool)
    pool.manager = pool.workers[2]
    assert too_many_workers(cpu, pool)


@pytest.mark.conformance("K5.2-2")
@pytest.mark.parametrize("era", CMWQ)
def test_workers_of_an_unbound_pool_never_count(era: str) -> None:
    bench = BareCpu(era)
    log, seen = Log(bench), []
    pool = bench.cpu.wq.pools[pool_id(0, highpri=False, unbound=True, cpus=1)]

    def look(_cpu: Cpu) -> Context:
        seen.append((pool.nr_running, need_more_worker(pool), bool(pool.worklist)))
        yield

    for name in "ab":
        work = log.work(name, look)
        bench.task(queue_work(bench.cpu, bench.cpu.wq.system_unbound_wq, work))
    bench.settle()
    assert len(seen) == 2
    assert all(running == 0 and more == waits for running, more, waits in seen)
    assert set(log.workers) <= {"kworker/u2:0", "kworker/u2:1", "kworker/u2:2"}


@pytest.mark.conformance("K5.3-1")
def test_clearing_one_of_two_flags_does_not_count() -> None:
    cpu, pool = BareCpu().cpu, WorkerPool(0, 1)
    worker = Worker(pool, 0)
    worker.flags = 0
    pool.nr_running = 1
    worker_set_flags(cpu, worker, WORKER_CPU_INTENSIVE)
    assert pool.nr_running == 0
    worker_set_flags(cpu, worker, WORKER_UNBOUND)
    assert pool.nr_running == 0
    worker_clr_flags(worker, WORKER_UNBOUND)
    assert pool.nr_running == 0
    worker_clr_flags(worker, WORKER_UNBOUND)  # it is clear already
    assert pool.nr_running == 0
    worker_clr_flags(worker, WORKER_CPU_INTENSIVE)
    assert pool.nr_running == 1
    worker.flags = WORKER_PREP | WORKER_REBOUND
    worker_clr_flags(worker, WORKER_PREP | WORKER_REBOUND)
    assert pool.nr_running == 2


def test_the_one_who_asks_is_the_one_that_runs() -> None:
    pool = pool_of(0, 0)
    bench = BareCpu()
    work = Log(bench).work("a")
    pool.worklist.append(work)
    assert need_more_worker(pool)
    pool.nr_running = 1
    assert keep_working(pool)
    assert not need_more_worker(pool)
    pool.nr_running = 2
    assert not keep_working(pool)


def test_pools_have_their_numbers_by_rule() -> None:
    cpus = 3
    numbers = [
        pool_id(node, highpri=highpri, unbound=unbound, cpus=cpus)
        for unbound in (False, True)
        for node in range(cpus)
        for highpri in (False, True)
    ]
    assert numbers == list(range(4 * cpus))
    places = [pool_place(number, cpus) for number in numbers]
    assert [place.node for place in places] == [0, 0, 1, 1, 2, 2] * 2
    assert [place.unbound for place in places] == [False] * 6 + [True] * 6


def test_a_work_that_never_ran_has_no_pool() -> None:
    bench = BareCpu()
    work = Log(bench).work("a")
    assert work_data(bench.cpu, work) == WORK_STRUCT_NO_POOL
    assert get_work_pool_id(work_data(bench.cpu, work)) == WORK_OFFQ_POOL_NONE
