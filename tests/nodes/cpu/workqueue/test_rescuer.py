"""Rescuers, when no worker can be made; and workqueues that are frozen."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.workqueue import (
    WQ_FREEZABLE,
    WQ_MEM_RECLAIM,
    alloc_workqueue,
    destroy_workqueue,
    flush_workqueue,
    freeze_workqueues_begin,
    freeze_workqueues_busy,
    queue_work,
    queue_work_on,
    thaw_workqueues,
)
from tests.nodes.cpu.harness import MS
from tests.nodes.cpu.workqueue.works import Gate, Works, here, sleeps

CMWQ = ("3.10", "6.1")


@pytest.fixture(params=CMWQ)
def works(request: pytest.FixtureRequest) -> Works:
    return Works(request.param)


def new(works: Works, name: str, flags: int = 0, max_active: int = 0) -> Any:
    wq = works.do(0, alloc_workqueue(works.cpus[0], name, flags, max_active))
    works.live(1)
    return wq


def put(works: Works, target: int, wq: Any, *some: Any) -> None:
    """CPU 0 queues each on ``target``."""
    zero = works.cpus[0]
    for work in some:
        assert works.do(0, queue_work_on(zero, target, wq, work[0])) is True


def without_memory(works: Works, number: int) -> list[str]:
    """No worker can be made on that CPU: all it has are held up. Names of the works that hold."""
    cpu = works.cpus[number]
    cpu.wq.may_create_worker = lambda _pool: False
    gates = [works.work(f"gate{n}", Gate()) for n in range(cpu.wq.pool.nr_idle)]
    put(works, number, works.cpus[0].wq.system_wq, *gates)
    works.live(3)
    assert cpu.wq.pool.nr_idle == 0 or cpu.wq.pool.manager is not None
    return [gate[0].name for gate in gates]


def test_a_mem_reclaim_workqueue_has_a_rescuer_of_its_name(works: Works) -> None:
    wq = new(works, "q", WQ_MEM_RECLAIM)
    new(works, "plain")
    for cpu in works.cpus:
        nices = {task.comm: task.nice for task in cpu.rq.all.values()}
        assert nices["q"] == -20
        assert "plain" not in nices
    works.do(0, destroy_workqueue(works.cpus[0], wq))
    works.live(1)
    assert all(task.comm != "q" for cpu in works.cpus for task in cpu.rq.all.values())


@pytest.mark.parametrize("target", [0, 1])
def test_the_rescuer_runs_the_works_of_its_queue_in_order_and_no_others(
    works: Works, target: int
) -> None:
    rescued, other = new(works, "q", WQ_MEM_RECLAIM), new(works, "other")
    without_memory(works, target)
    a, x, b = works.work("a", sleeps(5)), works.work("x"), works.work("b", sleeps(5))
    put(works, target, rescued, a)
    put(works, target, other, x)
    put(works, target, rescued, b)
    queued = works.bench.zero.ns
    works.live(60)
    assert works.order("ends") == ["a", "b"]
    assert {works.at(name, "begins").comm for name in "ab"} == {"q"}
    assert works.at("b", "begins").ns >= works.at("a", "ends").ns
    hz_ms = 1000 // works.cpus[0].params.hz
    assert works.at("a", "begins").ns - queued < (10 + 3 * hz_ms) * MS
    cpu = works.cpus[target]
    stats = here(cpu, rescued).pwqs[cpu.wq.pool.id].stats
    assert (stats.mayday > 0, stats.rescued) == (True, 2)
    assert cpu.wq.pool.nr_running == 0
    cpu.wq.may_create_worker = lambda _pool: True
    works.live(1100)  # the manager tries again after a second
    assert works.order("ends") == ["a", "b", "x"]


def test_maydays_are_repeated_every_100_ms(works: Works) -> None:
    wq, cpu = new(works, "q", WQ_MEM_RECLAIM), works.cpus[1]
    without_memory(works, 1)
    put(works, 1, works.cpus[0].wq.system_wq, works.work("x"))  # the manager is needed for it
    works.live(30)
    put(works, 1, wq, works.work("a"))
    queued = works.bench.zero.ns
    works.live(300)
    waited = works.at("a", "begins").ns - queued
    assert 40 * MS < waited < 115 * MS
    assert here(cpu, wq).pwqs[cpu.wq.pool.id].stats.mayday == 1


def test_what_a_rescued_work_queues_is_rescued_too(works: Works) -> None:
    """6.1: at once, by the rescuer itself; 3.10: at the next mayday."""
    wq = new(works, "q", WQ_MEM_RECLAIM, 1)
    without_memory(works, 1)
    b = works.work("b")

    def chains(cpu: Cpu) -> Context:
        yield from queue_work(cpu, here(cpu, wq), b[cpu.number])

    put(works, 1, wq, works.work("a", chains))
    works.live(200)
    assert works.order("ends") == ["a", "b"]
    gap = works.at("b", "begins").ns - works.at("a", "ends").ns
    assert (gap < 5 * MS) == (works.cpus[0].params.rescuer == "again")


def test_a_flush_of_what_is_rescued_ends(works: Works) -> None:
    wq = new(works, "q", WQ_MEM_RECLAIM, 1)
    without_memory(works, 1)
    put(works, 1, wq, works.work("a", sleeps(2)), works.work("b", sleeps(2)))
    works.do(0, flush_workqueue(works.cpus[0], wq))
    assert works.order("ends") == ["a", "b"]


def test_frozen_workqueues_finish_what_is_active_and_start_nothing(works: Works) -> None:
    zero = works.cpus[0]
    wq, plain = new(works, "q", WQ_FREEZABLE), new(works, "plain")
    gate = Gate()
    running, late, other = works.work("a", gate), works.work("b"), works.work("c")
    put(works, 1, wq, running)
    works.live(3)
    works.do(0, freeze_workqueues_begin(zero))
    put(works, 1, wq, late)
    put(works, 1, plain, other)
    works.live(10)
    assert works.order() == ["a", "c"]
    assert works.do(0, freeze_workqueues_busy(zero)) is True
    gate.opened = True
    works.live(10)
    assert works.do(0, freeze_workqueues_busy(zero)) is False
    assert works.order("ends") == ["c", "a"]
    works.do(0, thaw_workqueues(zero))
    works.live(5)
    assert works.order("ends") == ["c", "a", "b"]


def test_a_workqueue_made_while_frozen_is_frozen(works: Works) -> None:
    zero = works.cpus[0]
    works.do(0, freeze_workqueues_begin(zero))
    wq = new(works, "q", WQ_FREEZABLE)
    put(works, 1, wq, works.work("a"))
    works.live(5)
    assert works.events == []
    works.do(0, thaw_workqueues(zero))
    works.live(5)
    assert works.order("ends") == ["a"]
