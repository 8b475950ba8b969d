"""What the pools of a CPU write into its page, as the screen of worker pools reads it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu, Pause
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    WQ_CPU_INTENSIVE,
    Workqueue,
    alloc_ordered_workqueue,
    alloc_workqueue,
    cancel_delayed_work,
    create_workqueue,
    queue_work,
    schedule_delayed_work,
    schedule_work,
    show,
)
from orchestrator.dashboards import poolfacts, screens
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.machines.machine import NodeState
from tests.nodes.cpu.harness import MS, SECOND, BareCpu
from tests.nodes.cpu.workqueue.bench import CMWQ, Log, now, sleep


class Seen:
    """A CPU of its own, and the view that looks at its page."""

    def __init__(self, era: str = "6.1") -> None:
        self.bench = BareCpu(era)
        self.cpu = self.bench.cpu
        self.log = Log(self.bench)
        states = {
            name: NodeState(name, None, 1, True, False, False, None, None, 0)
            for name in self.bench.settings.node_names
        }
        self.view = MachineView(
            self.bench.ram, self.bench.settings, lambda: states, lambda: self.bench.ns, virtual=True
        )

    def look(self) -> NodeView:
        self.view.sample(force=True)
        return self.view["cpu0"]

    def run(self, ms: float) -> NodeView:
        self.bench.run_for(int(ms * MS))
        return self.look()

    def pool(self, row: int = 0) -> poolfacts.Pool:
        return poolfacts.pools(self.look())[row]

    def said(self) -> str:
        self.look()
        return screens.sentence_of(self.view, "cpu0:pools")

    def alloc(self, context: Context) -> Workqueue:
        made: list[Workqueue] = []

        def task() -> Context:
            made.append((yield from context))

        self.bench.task(task())
        self.bench.run_until(lambda: bool(made))
        return made[0]


def hog(cpu: Cpu) -> Context:
    """Keeps the CPU for 400 ms."""
    end = cpu.now() + 400 * MS
    while cpu.now() < end:
        yield Pause(end)


@pytest.mark.parametrize("era", CMWQ)
def test_a_cpu_has_two_pools_of_its_own_and_two_unbound_ones(era):
    seen = Seen(era)
    pools = poolfacts.pools(seen.look())
    assert [(p.id, p.cpu, p.nice) for p in pools] == [
        (0, 0, 0), (1, 0, -20), (2, None, 0), (3, None, -20),
    ]  # fmt: skip
    assert [(p.workers, p.idle, p.running, p.worklist) for p in pools] == [(1, 1, 0, 0)] * 4


@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_sleeps_is_seen_asleep_and_the_next_runs(era):
    seen = Seen(era)
    for name, body in (("a", sleep), ("b", hog)):
        now(schedule_work(seen.cpu, seen.log.work(name, body)))
    node = seen.run(5)
    busy = poolfacts.busy(node)
    assert [(w.work, w.state, w.workqueue) for w in busy] == [
        ("a", "S", "events"), ("b", "R", "events"),
    ]  # fmt: skip
    pool = seen.pool()
    assert (pool.workers, pool.idle, pool.running) == (3, 1, 1)
    task = next(w.task for w in seen.cpu.wq.pool.workers if w.task.pid == busy[0].pid)
    assert task.comm == busy[0].comm
    node = seen.run(SECOND // MS)
    assert poolfacts.busy(node) == []
    assert (seen.pool().executed, seen.pool().running, seen.pool().idle) == (2, 0, 3)
    assert node.text("wq_last_work") == "b"


@pytest.mark.parametrize("era", CMWQ)
def test_works_behind_one_that_keeps_the_cpu_are_stalled_on_it(era):
    seen = Seen(era)
    for name in "abc":
        now(schedule_work(seen.cpu, seen.log.work(name, hog)))
    seen.run(350)
    assert seen.said().startswith("Stalled 35")
    assert "2 works wait in the normal pool while a runs, for 35" in seen.said()
    assert seen.pool().next == "b"
    seen.run(100)  # b has begun: that is progress
    assert seen.said() == "Nothing is stalled: 1 work runs, 1 waits."
    seen.run(2000)
    assert (seen.pool().worklist, seen.pool().next, seen.pool().executed) == (0, "", 3)


def test_a_pool_without_memory_for_a_worker_says_what_it_lacks():
    seen = Seen()
    now(schedule_work(seen.cpu, seen.log.work("a", lambda cpu: msleep(cpu, 900))))
    seen.run(5)
    seen.cpu.wq.may_create_worker = lambda pool: False
    for name in "bcd":
        now(schedule_work(seen.cpu, seen.log.work(name, lambda cpu: msleep(cpu, 900))))
    seen.run(400)
    assert "wait in the normal pool for a worker; 2 workers busy" in seen.said()


def test_a_cpu_intensive_work_does_not_count_as_running():
    seen = Seen()
    crypto = seen.alloc(alloc_workqueue(seen.cpu, "crypto", WQ_CPU_INTENSIVE, 0))
    now(queue_work(seen.cpu, crypto, seen.log.work("a", hog)))
    busy = poolfacts.busy(seen.run(5))
    assert [(w.work, w.state, w.workqueue) for w in busy] == [("a", "C", "crypto")]
    assert seen.pool().running == 0


def test_unbound_workers_sleep_and_run_without_counting():
    seen = Seen()
    ordered = seen.alloc(alloc_ordered_workqueue(seen.cpu, "bond0"))
    now(queue_work(seen.cpu, ordered, seen.log.work("a", sleep)))
    now(queue_work(seen.cpu, ordered, seen.log.work("b", hog)))
    node = seen.run(5)
    assert [(w.work, w.state, w.pool) for w in poolfacts.busy(node)] == [("a", "S", 2)]
    assert (seen.pool(2).running, seen.pool(2).inactive) == (0, 1)
    assert seen.said() == "1 work of the unbound pool is held back by max_active."
    node = seen.run(50)
    assert [(w.work, w.state) for w in poolfacts.busy(node)] == [("b", "u")]
    assert seen.pool(2).inactive == 0
    assert "kworker/u2:" in screens.once(seen.view, "cpu0:pools")


@pytest.mark.parametrize("era", ["2.6.18", *CMWQ])
def test_delayed_works_show_the_time_that_is_left(era):
    seen = Seen(era)
    for name, jiffies in (("a", 900), ("b", 100)):
        now(schedule_delayed_work(seen.cpu, seen.log.work(name), jiffies))
    seen.look()
    found = poolfacts.delayed(seen.view, seen.view["cpu0"])
    assert [work.work for work in found] == ["b", "a"]
    jiffy = SECOND // seen.cpu.params.hz
    left = poolfacts.left_ns(seen.view, found[0])
    assert 99 * jiffy <= left <= 101 * jiffy
    assert seen.said().startswith("Nothing to do; the next is b, in ")
    seen.run(150 * jiffy / MS)
    assert [w.work for w in poolfacts.delayed(seen.view, seen.view["cpu0"])] == ["a"]
    assert now(cancel_delayed_work(seen.cpu, seen.log.view(seen.cpu, "a")))
    node = seen.look()
    assert poolfacts.delayed(seen.view, node) == []
    assert node.get("wq_delayed") == 0


def test_more_delayed_works_than_rows_are_counted():
    seen = Seen()
    for name in "abcdefghijkl":
        now(schedule_delayed_work(seen.cpu, seen.log.work(name), 100))
    seen.look()
    text = screens.once(seen.view, "cpu0:pools")
    assert seen.view["cpu0"].get("wq_delayed") == 12
    assert "and 8 more" in text
    seen.run(1000)
    assert seen.view["cpu0"].get("wq_delayed") == 0
    assert seen.pool().executed == 12


def test_more_busy_workers_than_rows_end_as_they_began():
    seen = Seen()
    for name in "abcdefghijklmno":
        now(schedule_work(seen.cpu, seen.log.work(name, sleep)))
    assert len(poolfacts.busy(seen.run(5))) == 10
    assert poolfacts.busy(seen.run(500)) == []
    assert seen.pool().executed == 15


@pytest.mark.parametrize("era", CMWQ)
def test_a_work_that_is_cancelled_waits_no_more(era):
    seen = Seen(era)
    for name, body in (("a", hog), ("b", None)):
        now(schedule_work(seen.cpu, seen.log.work(name, body)))
    seen.run(150)
    assert (seen.pool().worklist, seen.pool().next) == (1, "b")
    assert now(cancel_delayed_work(seen.cpu, seen.log.view(seen.cpu, "b")))
    assert seen.pool().worklist == 0
    assert seen.said().startswith("Nothing is stalled; longest: a, for 15")


def test_a_pool_that_goes_leaves_nothing_to_the_next_one_in_its_row():
    seen = Seen()
    now(schedule_work(seen.cpu, seen.log.work("a")))
    seen.run(5)
    assert seen.pool().executed == 1
    seen.cpu.wq.rows.remove(0)
    assert [pool.id for pool in poolfacts.pools(seen.look())] == [1, 2, 3]
    seen.cpu.wq.rows.add(7, 1, 0)
    assert (seen.pool().id, seen.pool().cpu, seen.pool().executed) == (7, 1, 0)


def test_each_workqueue_of_2_6_18_has_a_row_of_its_own():
    seen = Seen("2.6.18")
    own = seen.alloc(create_workqueue(seen.cpu, "ixgbe"))
    now(queue_work(seen.cpu, own, seen.log.work("a", sleep)))
    node = seen.run(2)
    assert [pool.where for pool in poolfacts.pools(node)] == ["events", "ixgbe"]
    assert [(w.comm, w.work, w.state) for w in poolfacts.busy(node)] == [("ixgbe/0", "a", "S")]
    text = screens.once(seen.view, "cpu0:pools")
    assert "ixgbe            nice -5       -    0    1     0" in text


def test_keventd_is_stalled_behind_a_work_that_sleeps():
    seen = Seen("2.6.18")
    for name, body in (("a", lambda cpu: msleep(cpu, 500)), ("b", None)):
        now(schedule_work(seen.cpu, seen.log.work(name, body)))
    node = seen.run(200)
    (pool,) = poolfacts.pools(node)
    assert (pool.where, pool.nice, pool.worklist) == ("events", -5, 1)
    assert seen.said().endswith("1 work waits in workqueue events behind a, which sleeps.")
    node = seen.run(1000)
    assert poolfacts.pools(node)[0].executed == 2
    assert poolfacts.busy(node) == []


@pytest.mark.parametrize("era", CMWQ)
def test_the_figures_of_the_page_are_those_of_the_snapshot(era):
    """At each boundary, while works sleep, compute and wait for each other."""
    seen = Seen(era)
    for name, body in zip("abcdef", (sleep, None, hog, sleep, None, sleep), strict=True):
        now(schedule_delayed_work(seen.cpu, seen.log.work(name, body), 1 + ord(name) % 3))

    def differences() -> Iterator[str]:
        told = {pool["id"]: pool for pool in show.workqueues(seen.cpu)["pools"]}
        for pool in poolfacts.pools(seen.look()):
            true = told[pool.id]
            if pool.worklist != len(true["worklist"]):
                yield f"worklist {pool.worklist}, is {true['worklist']}"
            if pool.worklist and pool.next != true["worklist"][0]:
                yield f"next {pool.next}, is {true['worklist']}"
        runs = {w["pid"]: w["work"] for p in told.values() for w in p["workers"] if w["work"]}
        shown = {worker.pid: worker.work for worker in poolfacts.busy(seen.view["cpu0"])}
        if shown != runs:
            yield f"busy {shown}, is {runs}"

    found: list[str] = []
    for _ in range(4000):
        seen.bench.step()
        if seen.bench.wake is not None and seen.bench.wake > seen.bench.ns:
            seen.bench.ns = seen.bench.wake
        found += differences()
    assert found == []
    assert len(seen.log.order) == 12
