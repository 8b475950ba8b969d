"""The workqueues of 2.6.18: one thread a CPU, sequences instead of colours, no concurrency."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    cancel_delayed_work,
    cancel_rearming_delayed_work,
    cancel_work_sync,
    create_singlethread_workqueue,
    create_workqueue,
    destroy_workqueue,
    drain_workqueue,
    flush_work,
    flush_workqueue,
    queue_delayed_work,
    queue_work,
    queue_work_on,
    schedule_delayed_work,
    schedule_work,
    show,
    work_busy,
)
from nodes.cpu.kernel.workqueue.keventd import keventd_offline
from tests.nodes.cpu.harness import MS
from tests.nodes.cpu.workqueue.works import Gate, Works, computes, sleeps


@pytest.fixture
def works() -> Works:
    return Works("2.6.18")


def queue(works: Works, number: int, wq: Any, *some: Any) -> None:
    """Queue each on CPU ``number``, in that order."""
    cpu = works.cpus[number]

    def all_of_them() -> Context:
        for work in some:
            assert (yield from queue_work(cpu, wq, work[number]))

    works.do(number, all_of_them())


def threads(cpu: Cpu) -> dict[str, int]:
    return {task.comm: task.nice for task in cpu.rq.all.values()}


def test_a_workqueue_has_a_thread_a_cpu_and_a_single_threaded_one_has_one(works: Works) -> None:
    zero, one = works.cpus
    works.do(1, create_workqueue(one, "lots"))
    works.do(1, create_singlethread_workqueue(one, "alone"))
    works.live(1)
    assert threads(zero)["events/0"] == threads(one)["events/1"] == -5
    assert threads(zero)["lots/0"] == threads(one)["lots/1"] == -5
    assert threads(zero)["alone"] == -5
    assert "alone" not in threads(one)


@pytest.mark.conformance("K5.10-1", "K5.10-3")
def test_a_work_that_sleeps_holds_up_its_cpu_and_no_other(works: Works) -> None:
    wq = works.do(0, create_workqueue(works.cpus[0], "q"))
    a, b, c = works.work("a", sleeps(20)), works.work("b"), works.work("c")
    queue(works, 0, wq, a, b)
    queue(works, 1, wq, c)
    works.live(5)
    assert works.order("begins") == ["a", "c"]
    works.live(40)
    assert works.order("ends") == ["c", "a", "b"]
    assert works.at("b", "begins").ns > works.at("a", "ends").ns


@pytest.mark.conformance("K5.10-3")
def test_there_is_no_max_active_and_the_order_is_that_of_queueing(works: Works) -> None:
    wq = works.do(0, create_workqueue(works.cpus[0], "q"))
    some = [works.work(f"w{n}", sleeps(1)) for n in range(12)]
    queue(works, 0, wq, *some)
    works.live(200)
    assert works.order() == [f"w{n}" for n in range(12)]
    assert {event.comm for event in works.events} == {"q/0"}


@pytest.mark.conformance("K5.10-2")
def test_a_work_that_runs_on_one_cpu_and_is_queued_on_another_runs_on_both(works: Works) -> None:
    wq = works.do(0, create_workqueue(works.cpus[0], "q"))
    work = works.work("a", sleeps(20))
    queue(works, 0, wq, work)
    works.live(3)
    queue(works, 1, wq, work)
    works.live(3)
    assert works.running["a"] == 2
    assert [event.cpu for event in works.events] == [0, 1]


def test_a_single_threaded_workqueue_runs_the_work_once_at_a_time_from_anywhere(
    works: Works,
) -> None:
    wq = works.do(0, create_singlethread_workqueue(works.cpus[0], "q"))
    work = works.work("a", sleeps(10))
    queue(works, 0, wq, work)
    works.live(3)
    queue(works, 1, wq, work)
    works.live(60)
    assert works.most["a"] == 1
    assert [event.cpu for event in works.events] == [0] * 4


def test_a_work_is_queued_once_from_whichever_cpu(works: Works) -> None:
    wq = works.do(0, create_workqueue(works.cpus[0], "q"))
    blocker, work = works.work("x", sleeps(20)), works.work("a")
    queue(works, 0, wq, blocker, work)
    assert works.do(1, queue_work(works.cpus[1], wq, work[1])) is False
    works.live(40)
    assert works.order() == ["x", "a"]


def test_flush_waits_for_what_is_queued_on_all_cpus_and_not_for_more(works: Works) -> None:
    zero = works.cpus[0]
    wq = works.do(0, create_workqueue(zero, "q"))
    a, b, late = (works.work(name, sleeps(ms)) for name, ms in (("a", 20), ("b", 30), ("c", 50)))
    queue(works, 0, wq, a)
    queue(works, 1, wq, b)
    answer = works.start(0, flush_workqueue(zero, wq))
    works.live(5)
    queue(works, 0, wq, late)
    works.bench.until(lambda: answer.done, 1000 * MS)
    assert answer.ns >= works.at("b", "ends").ns
    assert works.order("ends") == ["a", "b"]


def test_a_work_that_flushes_its_own_queue_runs_it_inline(works: Works) -> None:
    zero = works.cpus[0]
    wq = works.do(0, create_workqueue(zero, "q"))

    def flushes(cpu: Cpu) -> Context:
        yield from flush_workqueue(cpu, wq)

    a, b = works.work("a", flushes), works.work("b")
    queue(works, 0, wq, a, b)
    works.live(20)
    assert [(e.work, e.what) for e in works.events] == [
        ("a", "begins"), ("b", "begins"), ("b", "ends"), ("a", "ends"),
    ]  # fmt: skip
    assert works.bench.said("recursion depth") == []


def test_more_than_three_runs_in_one_another_are_complained_of(works: Works) -> None:
    zero = works.cpus[0]
    wq = works.do(0, create_workqueue(zero, "q"))

    def flushes(cpu: Cpu) -> Context:
        yield from flush_workqueue(cpu, wq)

    queue(works, 0, wq, *[works.work(name, flushes) for name in "abcd"])
    works.live(20)
    assert works.bench.said("recursion depth") == [
        "run_workqueue: recursion depth exceeded: 4",
        "run_workqueue: recursion depth exceeded: 5",
    ]
    assert works.order("ends") == ["d", "c", "b", "a"]


def test_cancel_delayed_work_stops_the_timer_and_nothing_else(works: Works) -> None:
    zero = works.cpus[0]
    wq = works.do(0, create_workqueue(zero, "q"))
    gate = Gate()
    blocker, work = works.work("x", gate), works.delayed_work("a")
    queue(works, 0, wq, blocker)
    works.do(0, queue_delayed_work(zero, wq, work[0], 50))
    assert works.do(0, cancel_delayed_work(zero, work[0])) is True
    works.live(100)
    works.do(0, queue_delayed_work(zero, wq, work[0], 1))
    works.live(20)  # it is behind the blocker now
    assert works.do(0, cancel_delayed_work(zero, work[0])) is False
    gate.opened = True
    works.live(20)
    assert works.order("ends") == ["x", "a"]


def test_cancel_delayed_work_reaches_a_timer_on_another_cpu(works: Works) -> None:
    zero, one = works.cpus
    work = works.delayed_work("a")
    works.do(0, schedule_delayed_work(zero, work[0], 50))
    assert works.do(1, cancel_delayed_work(one, work[1])) is True
    works.live(100)
    assert works.events == []
    assert works.do(1, schedule_work(one, work[1])) is True


def test_a_rearming_work_is_stopped_by_cancelling_and_flushing_in_turns(works: Works) -> None:
    zero, one = works.cpus

    def again(cpu: Cpu) -> Context:
        yield from msleep(cpu, 5)
        yield from schedule_delayed_work(cpu, work[cpu.number], 2)

    work = works.delayed_work("a", again)
    works.do(0, schedule_delayed_work(zero, work[0], 1))
    works.live(30)
    assert len(works.events) >= 4
    works.do(1, cancel_rearming_delayed_work(one, work[1]))
    assert works.running["a"] == 0
    ran = len(works.events)
    works.live(50)
    assert len(works.events) == ran


def test_cancel_work_sync_takes_it_off_the_list_and_waits_for_what_runs(works: Works) -> None:
    zero, one = works.cpus
    wq = works.do(0, create_workqueue(zero, "q"))
    blocker, a, b = works.work("x", sleeps(20)), works.work("a"), works.work("b")
    queue(works, 0, wq, blocker, a, b)
    works.live(2)
    assert works.do(1, cancel_work_sync(one, a[1])) is True
    assert works.do(1, work_busy(one, blocker[1])) == 2
    assert works.do(1, cancel_work_sync(one, blocker[1])) is False
    assert works.order("ends")[0] == "x"
    works.live(20)
    assert works.order("ends") == ["x", "b"]


def test_taking_a_work_off_does_not_end_a_flush_early(works: Works) -> None:
    zero, one = works.cpus
    wq = works.do(0, create_workqueue(zero, "q"))
    some = [works.work(name, sleeps(10)) for name in "abc"]
    queue(works, 0, wq, *some[:2])
    flush = works.start(0, flush_workqueue(zero, wq))
    works.live(1)
    queue(works, 0, wq, some[2])
    last = works.start(0, flush_workqueue(zero, wq))
    works.live(1)
    assert works.do(1, cancel_work_sync(one, some[2][1])) is True
    works.bench.until(lambda: flush.done and last.done, 1000 * MS)
    assert min(flush.ns, last.ns) >= works.at("b", "ends").ns


def test_flush_work_waits_for_the_queue_it_is_on(works: Works) -> None:
    zero, one = works.cpus
    wq = works.do(0, create_workqueue(zero, "q"))
    a, b = works.work("a", sleeps(10)), works.work("b", sleeps(10))
    queue(works, 0, wq, a, b)
    works.live(1)
    assert works.do(1, flush_work(one, a[1])) is True  # it runs
    assert works.order("ends") == ["a"]
    queue(works, 0, wq, a)
    assert works.do(1, flush_work(one, a[1])) is True  # it is queued, and with it all before it
    assert works.order("ends") == ["a", "b", "a"]
    assert works.do(1, flush_work(one, a[1])) is False


def test_a_destroyed_workqueue_has_run_everything_and_its_threads_are_gone(works: Works) -> None:
    zero, one = works.cpus
    wq = works.do(0, create_workqueue(zero, "q"))
    queue(works, 0, wq, works.work("a", sleeps(10)))
    queue(works, 1, wq, works.work("b", computes(5)))
    works.do(1, destroy_workqueue(one, wq))
    assert sorted(works.order("ends")) == ["a", "b"]
    works.live(1)
    assert "q/0" not in threads(zero)
    assert "q/1" not in threads(one)


def test_a_work_whose_workqueue_was_destroyed_under_it_is_not_waited_for(works: Works) -> None:
    wq = works.do(0, create_workqueue(works.cpus[0], "q"))
    queue(works, 0, wq, works.work("a", sleeps(5000)), b := works.work("b"))
    works.live(1)
    for cpu in works.cpus:
        del cpu.wq.workqueues[wq.id]
    assert works.do(1, flush_work(works.cpus[1], b[1])) is False


def test_drain_waits_for_works_that_the_drained_ones_queue(works: Works) -> None:
    zero = works.cpus[0]
    wq = works.do(0, create_workqueue(zero, "q"))
    left = [3]

    def again(cpu: Cpu) -> Context:
        yield from msleep(cpu, 2)
        if left[0]:
            left[0] -= 1
            yield from queue_work(cpu, wq, work[cpu.number])

    work = works.work("a", again)
    queue(works, 0, wq, work)
    works.do(1, drain_workqueue(works.cpus[1], wq))
    assert works.order("ends") == ["a"] * 4


def test_a_workqueue_that_is_being_destroyed_can_be_looked_at(works: Works) -> None:
    zero = works.cpus[0]
    wq = works.do(0, create_workqueue(zero, "q"))
    destroyed = works.start(0, destroy_workqueue(zero, wq))
    while not destroyed.done:  # its threads end before the workqueue is forgotten
        rows = {row["name"]: row["pwqs"] for row in show.workqueues(zero)["workqueues"]}
        assert rows["events"]
        works.live(0.002)
    assert "q" not in {row["name"] for row in show.workqueues(zero)["workqueues"]}


def test_works_of_a_cpu_that_goes_are_taken_over_in_order(works: Works) -> None:
    zero, one = works.cpus
    some = [works.work(name) for name in "abc"]

    def queue_and_go() -> Context:
        for work in some:
            yield from schedule_work(one, work[1])
        yield from keventd_offline(one, 0)  # before its thread has run

    works.do(1, queue_and_go())
    works.do(0, flush_workqueue(zero, zero.wq.system_wq))
    assert works.order("ends") == ["a", "b", "c"]
    assert {event.cpu for event in works.events} == {0}
    assert works.bench.said("Taking work") == ["Taking work for events"] * 3
    one.wq.start()
    queue(works, 1, one.wq.system_wq, works.work("d"))
    works.live(5)
    assert works.at("d", "begins").comm == "events/1"


def test_a_thread_that_is_told_to_end_inside_a_work_ends_behind_its_list(works: Works) -> None:
    """kthread_stop is looked at between two runs of the list."""
    zero, one = works.cpus
    wq = works.do(0, create_workqueue(zero, "q"))
    gate = Gate()
    queue(works, 1, wq, works.work("x", gate), works.work("a"))
    works.live(2)
    flush = works.start(0, flush_workqueue(zero, wq))
    gone = works.start(1, keventd_offline(one, 0))
    works.live(10)
    assert not gone.done
    gate.opened = True
    works.bench.until(lambda: gone.done and flush.done, 1000 * MS)
    assert [works.at(name, "ends").cpu for name in "xa"] == [1, 1]
    assert works.bench.said("Taking work") == []


def test_queue_work_on_reaches_the_other_cpu(works: Works) -> None:
    zero, one = works.cpus
    wq = works.do(0, create_workqueue(zero, "q"))
    work = works.work("a")
    assert works.do(0, queue_work_on(zero, 1, wq, work[0])) is True
    works.live(2)
    assert [event.cpu for event in works.events] == [1, 1]
    assert one.number == 1
