"""flush_work, flush_workqueue with its colours, draining and destroying, on this and other CPUs."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    WQ_UNBOUND,
    alloc_workqueue,
    destroy_workqueue,
    drain_workqueue,
    flush_delayed_work,
    flush_work,
    flush_workqueue,
    queue_delayed_work,
    queue_work,
    queue_work_on,
    work_busy,
)
from tests.nodes.cpu.harness import MS
from tests.nodes.cpu.workqueue.works import Answer, Gate, Works, computes, here, sleeps

CMWQ = ("3.10", "6.1")
WORK_BUSY_PENDING, WORK_BUSY_RUNNING = 1, 2


@pytest.fixture(params=CMWQ)
def works(request: pytest.FixtureRequest) -> Works:
    return Works(request.param)


def new(works: Works, flags: int = 0, max_active: int = 0, name: str = "q") -> Any:
    wq = works.do(0, alloc_workqueue(works.cpus[0], name, flags, max_active))
    works.live(1)
    return wq


def put(works: Works, target: int, wq: Any, *some: Any, by: int = 0) -> None:
    """CPU ``by`` queues each on ``target``."""
    cpu = works.cpus[by]

    def all_of_them() -> Context:
        for work in some:
            assert (yield from queue_work_on(cpu, target, here(cpu, wq), work[by]))

    works.do(by, all_of_them())


def start_flush(works: Works, number: int, wq: Any) -> Answer:
    cpu = works.cpus[number]
    return works.start(number, flush_workqueue(cpu, here(cpu, wq)))


# -- flush_work


def test_a_work_whose_workqueue_was_destroyed_under_it_is_not_waited_for(works: Works) -> None:
    wq = new(works, 0, 1)
    put(works, 0, wq, works.work("a", sleeps(5000)), b := works.work("b"))
    for cpu in works.cpus:
        del cpu.wq.workqueues[wq.id]
    for cpu in works.cpus:
        assert works.do(cpu.number, flush_work(cpu, b[cpu.number])) is False


@pytest.mark.parametrize("target", [0, 1])
def test_flushing_an_idle_work_is_false_at_once(works: Works, target: int) -> None:
    wq, work = new(works), works.work("a")
    assert works.do(0, flush_work(works.cpus[0], work[0])) is False
    put(works, target, wq, work)
    works.live(5)
    assert works.do(0, flush_work(works.cpus[0], work[0])) is False


@pytest.mark.parametrize("target", [0, 1])
def test_flush_work_waits_for_a_running_instance(works: Works, target: int) -> None:
    wq, work = new(works), works.work("a", sleeps(20))
    put(works, target, wq, work)
    works.live(5)
    answer = works.start(0, flush_work(works.cpus[0], work[0]))
    works.bench.until(lambda: answer.done, 1000 * MS)
    assert answer.value is True
    assert answer.ns >= works.at("a", "ends").ns


@pytest.mark.parametrize("target", [0, 1])
def test_flush_work_right_after_queueing_waits_for_it(works: Works, target: int) -> None:
    wq, work = new(works), works.work("a", sleeps(5))

    def task(cpu: Cpu) -> Context:
        yield from queue_work_on(cpu, target, wq, work[0])
        return (yield from flush_work(cpu, work[0]))

    assert works.do(0, task(works.cpus[0])) is True
    assert works.order("ends") == ["a"]


@pytest.mark.parametrize("target", [0, 1])
def test_flush_work_does_not_wait_for_works_behind_it(works: Works, target: int) -> None:
    wq = new(works)
    a, b, c = (
        works.work("a", computes(3)),
        works.work("b", computes(3)),
        works.work("c", computes(9)),
    )
    put(works, target, wq, a, b, c)
    answer = works.start(0, flush_work(works.cpus[0], b[0]))
    works.bench.until(lambda: answer.done, 1000 * MS)
    assert works.order("ends") == ["a", "b"]


@pytest.mark.parametrize("target", [0, 1])
def test_flush_work_of_one_that_max_active_holds_back(works: Works, target: int) -> None:
    wq = new(works, 0, 1)
    a, b, c = works.work("a", sleeps(3)), works.work("b", sleeps(3)), works.work("c", sleeps(9))
    put(works, target, wq, a, b, c)
    answer = works.start(0, flush_work(works.cpus[0], b[0]))
    works.bench.until(lambda: answer.done, 1000 * MS)
    assert works.order("ends") == ["a", "b"]


def test_several_tasks_flush_one_work(works: Works) -> None:
    wq, work = new(works), works.work("a", sleeps(20))
    blocker = works.work("x", computes(5))
    put(works, 1, wq, blocker, work)
    answers = [works.start(n, flush_work(works.cpus[n], work[n])) for n in (0, 1, 0, 1)]
    works.live(15)
    assert not any(answer.done for answer in answers)
    works.live(20)
    assert [answer.value for answer in answers] == [True] * 4


@pytest.mark.conformance("K5.6-2")
@pytest.mark.parametrize("target", [0, 1])
def test_flush_work_of_one_that_queues_itself_waits_for_one_instance(
    works: Works, target: int
) -> None:
    wq = new(works)

    def again(cpu: Cpu) -> Context:
        yield from queue_work(cpu, here(cpu, wq), work[cpu.number])
        yield from msleep(cpu, 8)

    work = works.work("a", again)
    put(works, target, wq, work)
    works.live(3)
    first = works.start(0, flush_work(works.cpus[0], work[0]))
    works.bench.until(lambda: first.done, 1000 * MS)
    # it was queued again when we asked: the instance that was pending is the one flushed
    assert works.order("ends") == ["a", "a"]
    assert works.most["a"] == 1


@pytest.mark.parametrize("target", [0, 1])
def test_flush_delayed_work_does_not_wait_for_the_timer(works: Works, target: int) -> None:
    wq, work = new(works), works.delayed_work("a", sleeps(2))
    cpu = works.cpus[target]
    works.do(target, queue_delayed_work(cpu, here(cpu, wq), work[target], cpu.params.hz))
    assert works.do(0, flush_delayed_work(works.cpus[0], work[0])) is True
    assert works.order("ends") == ["a"]
    assert works.bench.zero.ns < works.at("a", "ends").ns + 5 * MS
    works.live(1200)
    assert works.order("ends") == ["a"]


def test_work_busy_says_pending_and_running(works: Works) -> None:
    zero, wq = works.cpus[0], new(works)
    gate = Gate()
    work = works.work("a", gate)
    assert works.do(0, work_busy(zero, work[0])) == 0
    put(works, 1, wq, work)
    works.live(5)
    assert works.do(0, work_busy(zero, work[0])) == WORK_BUSY_RUNNING
    put(works, 1, wq, work)
    assert works.do(0, work_busy(zero, work[0])) == WORK_BUSY_PENDING | WORK_BUSY_RUNNING
    gate.opened = True
    works.live(10)
    assert works.do(0, work_busy(zero, work[0])) == 0


# -- flush_workqueue


@pytest.mark.conformance("K5.6-1")
@pytest.mark.parametrize("flags", [0, WQ_UNBOUND])
def test_flush_waits_for_all_cpus_but_not_for_later_works(works: Works, flags: int) -> None:
    zero, wq = works.cpus[0], new(works, flags)

    def more(cpu: Cpu) -> Context:
        yield from msleep(cpu, 5)
        yield from queue_work(cpu, here(cpu, wq), late[cpu.number])
        yield from msleep(cpu, 5)

    a, b, late = works.work("a", sleeps(20)), works.work("b", more), works.work("c", sleeps(100))
    put(works, 0, wq, a)
    put(works, 1, wq, b)
    works.do(0, flush_workqueue(zero, wq))
    assert sorted(works.order("ends")) == ["a", "b"]
    assert works.order() == ["a", "b", "c"]


def test_flush_waits_for_inactive_works_too(works: Works) -> None:
    wq = new(works, 0, 1)
    put(works, 1, wq, *[works.work(name, sleeps(3)) for name in "abc"])
    works.do(0, flush_workqueue(works.cpus[0], wq))
    assert works.order("ends") == ["a", "b", "c"]


def test_flush_of_nothing_returns_at_once(works: Works) -> None:
    wq, other = new(works), new(works, name="other")
    put(works, 1, other, works.work("a", sleeps(50)))
    works.do(0, flush_workqueue(works.cpus[0], wq))
    assert works.order("ends") == []
    colors = works.cpus[0].wq.workqueues[wq.id]
    assert colors.work_color == colors.flush_color == 1


@pytest.mark.conformance("K5.6-4")
@pytest.mark.parametrize("target", [0, 1])
def test_flushers_take_a_colour_each_until_the_colour_space_is_full(
    works: Works, target: int
) -> None:
    wq, gate = new(works), Gate()
    colors = {"3.10": 15, "6.1": 16}[works.cpus[0].params.release.removesuffix(".0")]
    put(works, target, wq, works.work("a", gate))
    works.live(3)
    state = works.cpus[0].wq.workqueues[wq.id]
    answers = []
    for n in range(1, colors):
        answers.append(
            works.start(n % 2, flush_workqueue(works.cpus[n % 2], here(works.cpus[n % 2], wq)))
        )
        works.bench.until(lambda n=n: state.work_color == n, 50 * MS)
    assert len(state.flusher_queue) == colors - 2  # and the first flusher
    for n in range(3):
        answers.append(
            works.start(n % 2, flush_workqueue(works.cpus[n % 2], here(works.cpus[n % 2], wq)))
        )
    works.live(3)
    assert state.work_color == colors - 1
    assert len(state.flusher_overflow) == 3
    assert not any(answer.done for answer in answers)
    late = works.work("b", sleeps(5))
    put(works, target, wq, late)  # of the last colour: the overflowed ones wait for it
    works.live(2)
    gate.opened = True
    works.bench.until(lambda: all(answer.done for answer in answers), 1000 * MS)
    end = works.at("b", "ends").ns
    assert all(answer.ns < end for answer in answers[:-3])
    assert all(answer.ns >= end for answer in answers[-3:])
    assert state.flush_color == state.work_color
    assert state.first_flusher is None
    assert state.flusher_queue == state.flusher_overflow == []


def test_overflowed_flushers_share_one_colour() -> None:
    works = Works("3.10", overrides=(("work_nr_colors", "3"),))
    wq, gate = new(works), Gate()
    put(works, 1, wq, works.work("a", gate))
    works.live(3)
    state = works.cpus[0].wq.workqueues[wq.id]
    answers = [works.start(0, flush_workqueue(works.cpus[0], wq)) for _ in range(6)]
    works.live(3)
    assert len(state.flusher_overflow) == 4
    other = Gate()
    put(works, 1, wq, works.work("b", other))
    works.live(3)
    gate.opened = True
    works.live(10)
    assert [answer.done for answer in answers] == [True, True, False, False, False, False]
    waiting = [state.first_flusher, *state.flusher_queue]
    assert len({flusher.flush_color for flusher in waiting if flusher is not None}) == 1
    other.opened = True
    works.bench.until(lambda: all(answer.done for answer in answers), 1000 * MS)


# -- drain and destroy


def test_drain_lets_the_drained_works_queue_more_and_waits_for_that(works: Works) -> None:
    zero, one = works.cpus
    wq, left = new(works), [3]

    def again(cpu: Cpu) -> Context:
        yield from msleep(cpu, 2)
        if left[0]:
            left[0] -= 1
            assert (yield from queue_work(cpu, here(cpu, wq), work[cpu.number]))

    work = works.work("a", again)
    put(works, 1, wq, work)
    works.do(0, drain_workqueue(zero, wq))
    assert works.order("ends") == ["a"] * 4
    put(works, 0, wq, works.work("b"))  # it is as before
    works.live(5)
    assert works.order("ends")[-1] == "b"
    assert one.number == 1


@pytest.mark.parametrize("by", [0, 1])
def test_what_an_outsider_queues_while_draining_is_dropped_with_one_warning(
    works: Works, by: int
) -> None:
    wq, gate = new(works), Gate()
    a, b, c = works.work("a", gate), works.work("b"), works.work("c")
    put(works, 1, wq, a)
    works.live(3)
    drain = works.start(0, drain_workqueue(works.cpus[0], wq))
    works.live(5)
    cpu = works.cpus[by]
    for work in (b, c):
        assert works.do(by, queue_work(cpu, here(cpu, wq), work[by])) is True
        assert works.do(by, queue_work(cpu, here(cpu, wq), work[by])) is False  # PENDING stays
    assert len(works.bench.said("WARNING")) == 1
    gate.opened = True
    works.bench.until(lambda: drain.done, 1000 * MS)
    works.live(10)
    assert works.order("ends") == ["a"]


def test_drain_says_so_at_its_tenth_try_and_at_each_hundredth(works: Works) -> None:
    wq, left = new(works), [450]

    def again(cpu: Cpu) -> Context:
        if left[0]:
            left[0] -= 1
            yield from queue_work(cpu, here(cpu, wq), work[cpu.number])
        yield from msleep(cpu, 1)

    work = works.work("a", again)
    put(works, 0, wq, work)
    works.do(0, drain_workqueue(works.cpus[0], wq), 60_000)
    assert works.bench.said("isn't complete") == [
        f"workqueue q: drain_workqueue() isn't complete after {n} tries" for n in (10, 100, 200)
    ]


def test_destroy_runs_what_is_left_and_then_it_is_gone(works: Works) -> None:
    zero, one = works.cpus
    wq = new(works, 0, 1)
    put(works, 1, wq, *[works.work(name, sleeps(3)) for name in "ab"])
    works.do(0, destroy_workqueue(zero, wq))
    assert works.order("ends") == ["a", "b"]
    works.live(2)
    for cpu in (zero, one):
        assert wq.id not in cpu.wq.workqueues
