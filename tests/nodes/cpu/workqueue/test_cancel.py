"""cancel_work_sync and its relatives, on this CPU's works and on another's."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    alloc_workqueue,
    cancel_delayed_work,
    cancel_delayed_work_sync,
    cancel_work,
    cancel_work_sync,
    flush_workqueue,
    queue_delayed_work,
    queue_work,
    queue_work_on,
    work_busy,
)
from tests.nodes.cpu.harness import MS
from tests.nodes.cpu.workqueue.works import Gate, Works, here, sleeps

CMWQ = ("3.10", "6.1")


@pytest.fixture(params=CMWQ)
def works(request: pytest.FixtureRequest) -> Works:
    return Works(request.param)


def new(works: Works, flags: int = 0, max_active: int = 0) -> Any:
    wq = works.do(0, alloc_workqueue(works.cpus[0], "q", flags, max_active))
    works.live(1)
    return wq


def put(works: Works, target: int, wq: Any, *some: Any) -> None:
    """CPU 0 queues each on ``target``."""
    zero = works.cpus[0]
    for work in some:
        assert works.do(0, queue_work_on(zero, target, wq, work[0])) is True


@pytest.mark.parametrize("target", [0, 1])
def test_an_idle_work_was_not_pending_and_may_be_queued_again(works: Works, target: int) -> None:
    wq, work = new(works), works.work("a")
    assert works.do(0, cancel_work_sync(works.cpus[0], work[0])) is False
    put(works, target, wq, work)
    works.live(3)
    assert works.do(0, cancel_work_sync(works.cpus[0], work[0])) is False
    put(works, target, wq, work)
    works.live(3)
    assert works.order() == ["a", "a"]


@pytest.mark.parametrize("target", [0, 1])
def test_a_running_work_is_waited_for_and_was_not_pending(works: Works, target: int) -> None:
    wq, work = new(works), works.work("a", sleeps(20))
    put(works, target, wq, work)
    works.live(3)
    answer = works.start(0, cancel_work_sync(works.cpus[0], work[0]))
    works.bench.until(lambda: answer.done, 1000 * MS)
    assert answer.value is False
    assert answer.ns >= works.at("a", "ends").ns
    assert works.do(0, work_busy(works.cpus[0], work[0])) == 0


@pytest.mark.parametrize("target", [0, 1])
def test_a_pending_work_is_taken_off_and_never_runs(works: Works, target: int) -> None:
    wq = new(works, 0, 1)
    gate = Gate()
    x, a, b = works.work("x", gate), works.work("a"), works.work("b")
    put(works, target, wq, x, a, b)
    assert works.do(0, cancel_work_sync(works.cpus[0], a[0])) is True  # it was an inactive one
    gate.opened = True
    works.do(0, flush_workqueue(works.cpus[0], wq))
    assert works.order("ends") == ["x", "b"]


def test_right_after_queueing_on_another_cpu_it_is_found(works: Works) -> None:
    zero, wq, work = works.cpus[0], new(works), works.work("a", sleeps(5))

    def task() -> Context:
        yield from queue_work_on(zero, 1, wq, work[0])
        return (yield from cancel_work_sync(zero, work[0]))

    cancelled = works.do(0, task())
    works.live(20)
    assert len(works.order("ends")) == (not cancelled)


@pytest.mark.conformance("K5.6-2")
@pytest.mark.parametrize("target", [0, 1])
def test_a_work_that_queues_itself_without_end_is_stopped(works: Works, target: int) -> None:
    wq, answers = new(works), []

    def again(cpu: Cpu) -> Context:
        yield from msleep(cpu, 5)
        answers.append((yield from queue_work(cpu, here(cpu, wq), work[cpu.number])))

    work = works.work("a", again)
    put(works, target, wq, work)
    works.live(80)
    assert len(answers) > 2
    assert all(answers)
    works.do(0, cancel_work_sync(works.cpus[0], work[0]))
    assert answers[-1] is False  # it found PENDING set: the canceller holds it
    ran = len(works.events)
    works.live(40)
    assert len(works.events) == ran
    put(works, target, wq, work)
    works.live(3)
    assert len(works.events) == ran + 1


def test_while_it_is_cancelled_nobody_queues_it(works: Works) -> None:
    zero, one = works.cpus
    wq, gate = new(works), Gate()
    work = works.work("a", gate)
    put(works, 1, wq, work)
    works.live(3)
    cancel = works.start(0, cancel_work_sync(zero, work[0]))
    works.live(3)
    assert not cancel.done
    assert works.do(1, queue_work(one, here(one, wq), work[1])) is False
    gate.opened = True
    works.bench.until(lambda: cancel.done, 1000 * MS)
    assert works.do(1, queue_work(one, here(one, wq), work[1])) is True


@pytest.mark.parametrize("second", [0, 1])
def test_a_second_canceller_waits_for_the_first(works: Works, second: int) -> None:
    zero = works.cpus[0]
    wq, gate = new(works), Gate()
    work = works.work("a", gate)
    put(works, 1, wq, work)
    works.live(3)
    put(works, 1, wq, work)  # it runs, and is pending
    first = works.start(0, cancel_work_sync(zero, work[0]))
    works.live(3)
    other = works.start(second, cancel_work_sync(works.cpus[second], work[second]))
    works.live(10)
    assert not first.done
    assert not other.done
    gate.opened = True
    works.bench.until(lambda: first.done and other.done, 1000 * MS)
    assert (first.value, other.value) == (True, False)
    assert other.ns >= works.at("a", "ends").ns
    assert works.order() == ["a"]


@pytest.mark.parametrize("target", [0, 1])
def test_cancel_work_does_not_wait(works: Works, target: int) -> None:
    zero = works.cpus[0]
    wq, gate = new(works), Gate()
    work = works.work("a", gate)
    put(works, target, wq, work)
    works.live(3)
    assert works.do(0, cancel_work(zero, work[0])) is False
    put(works, target, wq, work)
    assert works.do(0, cancel_work(zero, work[0])) is True
    assert works.order("ends") == []
    gate.opened = True
    works.live(20)
    assert works.order() == ["a"]


@pytest.mark.parametrize("armed", [0, 1])
def test_a_delayed_work_is_cancelled_on_its_timer(works: Works, armed: int) -> None:
    zero, wq, work = works.cpus[0], new(works), works.delayed_work("a", sleeps(20))
    cpu = works.cpus[armed]
    delay = cpu.params.hz // 10

    def arm() -> None:
        works.do(armed, queue_delayed_work(cpu, here(cpu, wq), work[armed], delay))

    arm()
    assert works.do(0, cancel_delayed_work(zero, work[0])) is True
    arm()
    assert works.do(0, cancel_delayed_work_sync(zero, work[0])) is True
    works.live(200)
    assert works.events == []
    arm()
    works.bench.until(lambda: bool(works.events), 1000 * MS)
    assert works.do(0, cancel_delayed_work(zero, work[0])) is False
    assert works.order("ends") == []
    assert works.do(0, cancel_delayed_work_sync(zero, work[0])) is False
    assert works.order("ends") == ["a"]


def test_cancelling_the_last_work_of_a_colour_completes_the_flush(works: Works) -> None:
    zero = works.cpus[0]
    wq, gate = new(works, 0, 1), Gate()
    x, a, b = works.work("x", gate), works.work("a"), works.work("b", sleeps(50))
    put(works, 1, wq, x, a)
    works.live(3)
    flush = works.start(0, flush_workqueue(zero, wq))
    works.live(3)
    put(works, 1, wq, b)
    gate.opened = True
    assert works.do(0, cancel_work_sync(zero, a[0])) is True
    works.bench.until(lambda: flush.done, 1000 * MS)
    assert works.order("ends") == ["x"]
