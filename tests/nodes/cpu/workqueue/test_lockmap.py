"""A work that waits for itself, and what lockdep says of it."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.locks.mutex import Mutex, mutex_lock, mutex_unlock
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import TASK_UNINTERRUPTIBLE
from nodes.cpu.kernel.workqueue import (
    alloc_workqueue,
    current_work,
    flush_work,
    flush_workqueue,
    queue_work,
)
from tests.nodes.cpu.duo import ON
from tests.nodes.cpu.workqueue.works import Works, here

CMWQ = ("3.10", "6.1")


def flushes_itself(cpu: Cpu) -> Context:
    work = current_work(cpu)
    assert work is not None
    yield from flush_work(cpu, work)


def new(works: Works) -> Any:
    wq = works.do(0, alloc_workqueue(works.cpus[0], "q"))
    works.live(1)
    return wq


def run(works: Works, number: int, wq: Any, work: Any) -> None:
    cpu = works.cpus[number]
    works.do(number, queue_work(cpu, here(cpu, wq), work[number]))
    works.live(50)


@pytest.mark.conformance("K5.6-3")
@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_flushes_itself_never_ends(era: str) -> None:
    works = Works(era)
    wq, work = new(works), works.work("a", flushes_itself)
    run(works, 1, wq, work)
    works.live(2000)
    assert works.order() == ["a"]
    assert works.order("ends") == []
    stuck = next(w for w in works.cpus[1].wq.pool.workers if w.current_work is work[1])
    assert stuck.task is not None
    assert stuck.task.state == TASK_UNINTERRUPTIBLE
    other = works.work("b")
    run(works, 1, wq, other)  # the pool goes on without that worker
    assert works.order("ends") == ["b"]


@pytest.mark.conformance("K5.6-3")
@pytest.mark.parametrize("era", CMWQ)
def test_lockdep_reports_it(era: str) -> None:
    works = Works(era, overrides=ON)
    wq, work = new(works), works.work("a", flushes_itself)
    run(works, 1, wq, works.work("x"))
    assert works.bench.said("possible recursive") == []
    run(works, 1, wq, work)
    assert len(works.bench.said("possible recursive locking detected")) == 1
    name = {"3.10": "(a)", "6.1": "(work_completion)(a)"}[era]
    said = works.bench.said()
    at = next(n for n, line in enumerate(said) if "is trying to acquire lock" in line)
    assert f" ({name})" in said[at + 1]
    assert works.bench.said("flush_work")


@pytest.mark.parametrize("era", CMWQ)
def test_lockdep_reports_a_work_that_flushes_its_own_workqueue(era: str) -> None:
    works = Works(era, overrides=ON)
    wq = new(works)

    def flushes(cpu: Cpu) -> Context:
        yield from flush_workqueue(cpu, here(cpu, wq))

    run(works, 0, wq, works.work("a", flushes))
    name = {"3.10": "q", "6.1": "(wq_completion)q"}[era]
    assert [line.strip() for line in works.bench.said(f"lock({name})")] == [f"lock({name});"] * 2
    assert works.order("ends") == []


def test_lockdep_reports_flushing_under_a_lock_that_the_work_takes() -> None:
    works = Works("6.1", overrides=ON)
    wq, mutex = new(works), Mutex(40, "m")

    def locks(cpu: Cpu) -> Context:
        yield from mutex_lock(cpu, mutex)
        yield from mutex_unlock(cpu, mutex)

    work, cpu = works.work("a", locks), works.cpus[0]
    run(works, 0, wq, work)

    def flushes_under_it() -> Context:
        yield from mutex_lock(cpu, mutex)
        yield from flush_work(cpu, work[0])  # idle: it could have been worse
        yield from mutex_unlock(cpu, mutex)

    works.do(0, flushes_under_it())
    assert len(works.bench.said("possible circular locking dependency detected")) == 1


@pytest.mark.parametrize("era", CMWQ)
def test_lockdep_says_nothing_of_works_that_flush_others(era: str) -> None:
    works = Works(era, overrides=ON)
    wq = new(works)
    other = works.work("b")

    def flushes(cpu: Cpu) -> Context:
        yield from queue_work(cpu, here(cpu, wq), other[cpu.number])
        yield from flush_work(cpu, other[cpu.number])

    run(works, 1, wq, works.work("a", flushes))
    assert works.order("ends") == ["b", "a"]
    assert works.bench.said("WARNING") == works.bench.said("INFO:") == []
    assert works.bench.said("leaked lock") == []
