"""Workers are made, idle, end, and fail to be made; flags of workqueues; what leaks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nodes.cpu.kernel.irqflags import preempt_disable
from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    WQ_CPU_INTENSIVE,
    WQ_HIGHPRI,
    WQ_UNBOUND,
    queue_work,
    schedule_work,
)
from nodes.cpu.trace import TRACEPOINTS
from tests.nodes.cpu.harness import MS, SECOND, BareCpu
from tests.nodes.cpu.workqueue.bench import CMWQ, Log, compute, now, sleep
from tests.nodes.cpu.workqueue.test_queueing import workqueue


def with_ten_idle(era: str) -> BareCpu:
    bench = BareCpu(era)
    log = Log(bench)
    for name in "abcdefghi":
        now(schedule_work(bench.cpu, log.work(name, sleep)))
    bench.run_for(SECOND)
    pool = bench.cpu.wq.pool
    assert (pool.nr_workers, pool.nr_idle) == (10, 10)
    return bench


def _somebody(cpu: Cpu) -> Context:
    while True:
        yield from msleep(cpu, 1000)


@pytest.mark.conformance("K5.5-3")
@pytest.mark.parametrize("era", CMWQ)
def test_after_300_s_an_idle_pool_has_two_workers(era: str) -> None:
    bench = with_ten_idle(era)
    pool = bench.cpu.wq.pool
    bench.task(_somebody(bench.cpu))  # the timer is deferrable: alone it wakes nobody
    bench.run_for(295 * SECOND)
    assert pool.nr_workers == 10
    bench.run_for(45 * SECOND)  # the wheel of 6.1 is coarse there
    assert (pool.nr_workers, pool.nr_idle) == (2, 2)
    names = [task.comm for task in bench.cpu.rq.all.values() if task.comm.startswith("kworker/0:")]
    assert len(names) == 3  # and the one of the highpri pool
    log = Log(bench)
    for name in "abc":
        now(schedule_work(bench.cpu, log.work(name, sleep)))
    bench.run_for(SECOND)
    assert log.most == 3


@pytest.mark.parametrize("era", CMWQ)
def test_a_busy_pool_keeps_one_worker_idle(era: str) -> None:
    bench = BareCpu(era)
    log = Log(bench)
    for name in "abcde":
        now(schedule_work(bench.cpu, log.work(name, sleep)))
    bench.run_for(2 * MS)
    pool = bench.cpu.wq.pool
    assert len(pool.busy_hash) == 5
    assert (pool.nr_workers, pool.nr_idle) == (6, 1)


@pytest.mark.conformance("K5.5-4")
@pytest.mark.parametrize("era", CMWQ)
def test_a_cpu_intensive_work_does_not_count_and_others_start_beside_it(era: str) -> None:
    bench = BareCpu(era)
    log, wq = Log(bench), workqueue(bench, WQ_CPU_INTENSIVE)
    running = []

    def look(cpu: Cpu) -> Context:
        running.append(cpu.wq.pool.nr_running)
        yield from _giving_way(cpu)

    now(queue_work(bench.cpu, wq, log.work("a", look)))
    now(schedule_work(bench.cpu, log.work("b", compute)))
    bench.settle()
    assert running == [0]
    assert log.order == ["a begins", "b begins", "b ends", "a ends"]
    assert bench.cpu.wq.pool.nr_running == 0


def _giving_way(cpu: Cpu) -> Context:
    end = cpu.now() + 30 * MS
    while cpu.now() < end:
        yield USER


@pytest.mark.parametrize("era", CMWQ)
def test_without_the_flag_the_other_waits(era: str) -> None:
    bench = BareCpu(era)
    log = Log(bench)
    now(schedule_work(bench.cpu, log.work("a", _giving_way)))
    now(schedule_work(bench.cpu, log.work("b", compute)))
    bench.settle()
    assert log.order == ["a begins", "a ends", "b begins", "b ends"]
    stats = bench.cpu.wq.system_wq.pwqs[0].stats
    assert stats.cpu_intensive == 1  # 30 ms in one go
    assert 33 * MS <= stats.cpu_time_ns < 40 * MS


@pytest.mark.conformance("K5.5-5")
@pytest.mark.parametrize("era", CMWQ)
def test_highpri_works_have_a_pool_of_their_own(era: str) -> None:
    bench = BareCpu(era)
    log, wq = Log(bench), workqueue(bench, WQ_HIGHPRI)
    nice = []

    def note(cpu: Cpu) -> Context:
        nice.append((cpu.current.nice, cpu.wq.pools[1].nr_running))
        yield

    now(schedule_work(bench.cpu, log.work("a", _giving_way)))
    bench.run_for(2 * MS)
    assert log.order == ["a begins"]
    now(queue_work(bench.cpu, wq, log.work("b", note)))
    bench.run_for(10 * MS)
    assert log.order == ["a begins", "b begins", "b ends"]
    assert nice == [(-20, 1)]
    assert log.workers[-1].startswith("kworker/0:")
    assert log.workers[-1].endswith("H")
    assert bench.cpu.wq.pool.nr_running == 1


def test_unbound_workers_are_named_after_their_pool() -> None:
    bench = BareCpu()
    log, wq = Log(bench), workqueue(bench, WQ_UNBOUND | WQ_HIGHPRI)
    now(queue_work(bench.cpu, wq, log.work("a")))
    bench.settle()
    assert log.workers == ["kworker/u3:0"]


# ---------------------------------------------------------------- no memory for a worker


@pytest.mark.parametrize("era", CMWQ)
def test_a_manager_that_cannot_create_tries_again_each_second(era: str) -> None:
    bench = BareCpu(era)
    log, maydays = Log(bench), []
    tries = []

    def refuse(_pool: object) -> bool:
        tries.append(bench.ns)
        return len(tries) > 2

    bench.cpu.wq.may_create_worker = refuse
    bench.cpu.wq.send_mayday = lambda _cpu, work: maydays.append((bench.ns, work.name))
    began = bench.ns
    now(schedule_work(bench.cpu, log.work("a")))
    bench.run_for(900 * MS)
    assert log.order == []
    assert 9 * MS <= maydays[0][0] - began < 30 * MS
    gaps = [(b[0] - a[0]) / MS for a, b in pairwise(maydays)]
    assert all(95 <= gap <= 125 for gap in gaps)
    assert {name for _, name in maydays} == {"a"}
    bench.run_for(1300 * MS)
    assert log.order == ["a begins", "a ends"]
    assert len(tries) == 3
    count = len(maydays)
    bench.run_for(SECOND)
    assert len(maydays) == count  # the timer is gone


# ---------------------------------------------------------------- what a work leaves behind


@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_leaks_a_preempt_count_is_named(era: str) -> None:
    bench = BareCpu(era, overrides=(("preempt_count", "on"),))

    def leaks(cpu: Cpu) -> Context:
        preempt_disable(cpu)
        yield

    log = Log(bench)
    work = log.work("a")
    work.function = leaks
    now(schedule_work(bench.cpu, work))
    bench.run_for(MS)
    said = [line for line in bench.log() if line.startswith(("BUG", "     last"))]
    assert said[:2] == [
        "BUG: workqueue leaked lock or atomic: kworker/0:0/0x00000001/"
        + str(next(t.pid for t in bench.cpu.rq.all.values() if t.comm == "kworker/0:0")),
        "     last function: a",
    ]


# ---------------------------------------------------------------- tracepoints


@pytest.mark.conformance("K9.5-2")
@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_waits_for_max_active_is_activated_later(era: str) -> None:
    bench = BareCpu(era)
    log, wq = Log(bench), workqueue(bench, 0, 1)
    names = {
        number: name
        for name in ("queue_work", "activate_work", "execute_start", "execute_end")
        for number in (TRACEPOINTS[f"workqueue_{name}"].number,)
    }
    seen: list[tuple[str, int]] = []
    bench.cpu.trace_mask = sum(1 << number for number in names)
    bench.cpu.recorder.mask = bench.cpu.trace_mask
    bench.cpu.trace = (  # type: ignore[method-assign]
        lambda event, a=0, b=0: (
            seen.append((names[event], a & 0xFFFF_FFFF)) if event in names else None
        )
    )
    a, b = log.work("a"), log.work("b")
    for work in (a, b):
        now(queue_work(bench.cpu, wq, work))
    bench.settle()
    assert seen == [
        ("queue_work", a.number), ("activate_work", a.number), ("queue_work", b.number),
        ("execute_start", a.number), ("execute_end", a.number), ("activate_work", b.number),
        ("execute_start", b.number), ("execute_end", b.number),
    ]  # fmt: skip
