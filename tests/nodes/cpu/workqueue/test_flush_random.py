"""Random works on three CPUs, queued, flushed and cancelled from everywhere: nothing is lost, and
whoever flushes has waited for what was queued before."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    WQ_HIGHPRI,
    WQ_MEM_RECLAIM,
    WQ_UNBOUND,
    Work,
    alloc_ordered_workqueue,
    alloc_workqueue,
    cancel_delayed_work_sync,
    cancel_work_sync,
    drain_workqueue,
    flush_delayed_work,
    flush_work,
    flush_workqueue,
    mod_delayed_work,
    queue_delayed_work,
    queue_work_on,
)
from tests.nodes.cpu.harness import MS
from tests.nodes.cpu.workqueue.works import Works, here

CPUS, STEPS = 3, 25
KINDS = (("bound", 0, 0), ("one", 0, 1), ("unbound", WQ_UNBOUND, 0), ("high", WQ_HIGHPRI, 2))


class Storm:
    """Two tasks a CPU that do as the seed says."""

    def __init__(self, era: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.works = Works(era, CPUS)
        self.queued: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.thefts: Counter[str] = Counter()
        self.stealing: Counter[str] = Counter()  # who cancels may have it, and not said so yet
        zero = self.works.cpus[0]
        wqs = [
            self.works.do(0, alloc_workqueue(zero, name, flags | WQ_MEM_RECLAIM, limit))
            for name, flags, limit in KINDS
        ]
        self.wqs = [*wqs, self.works.do(0, alloc_ordered_workqueue(zero, "ordered"))]
        self.works.live(1)
        #: A work has one workqueue: on two it may run twice at once.
        self.named = {
            f"w{n}": (self.works.work(f"w{n}", self._body), self.wqs[n % len(self.wqs)])
            for n in range(8)
        }
        self.delayed = {
            f"d{n}": (self.works.delayed_work(f"d{n}", self._body), self.wqs[n]) for n in range(3)
        }

    def _body(self, cpu: Cpu) -> Context:
        way = self.rng.randrange(4)
        if way == 0:
            yield from msleep(cpu, self.rng.randrange(1, 6))
        elif way == 1:
            end = cpu.now() + self.rng.randrange(3 * MS)
            while cpu.now() < end:
                yield
        elif way == 2:
            yield from self._queue(cpu, self.rng.choice(list(self.named)))

    def _queue(self, cpu: Cpu, name: str) -> Context:
        work, wq = self.named[name]
        target = self.rng.randrange(CPUS)
        if (yield from queue_work_on(cpu, target, here(cpu, wq), work[cpu.number])):
            self.queued[name] += 1

    def _done(self, name: str) -> int:
        ended = sum(event[:2] == (name, "ends") for event in self.works.events)
        return ended + self.cancelled[name]

    def _flushed(self, context: Context, names: list[str]) -> Context:
        """If the instance that flush_work waits for is stolen, it waits for no other."""
        before = {name: (self.queued[name], self.thefts[name]) for name in names}
        yield from context
        for name, (count, thefts) in before.items():
            stolen = self.stealing[name] + self.thefts[name] - thefts
            alone = len(names) == 1 and stolen
            assert alone or self._done(name) + stolen >= count, name

    def _cancel(self, name: str, context: Context) -> Context:
        self.stealing[name] += 1
        if (yield from context):
            self.cancelled[name] += 1
        self.stealing[name] -= 1
        self.thefts[name] += 1

    def _delayed(self, cpu: Cpu, name: str) -> Context:
        work, wq = self.delayed[name]
        mine: Work = work[cpu.number]
        way = self.rng.randrange(5)
        delay = self.rng.randrange(4)
        if way < 2:
            if (yield from queue_delayed_work(cpu, here(cpu, wq), mine, delay)):
                self.queued[name] += 1
        elif way == 2:
            self.stealing[name] += 1
            if not (yield from mod_delayed_work(cpu, here(cpu, wq), mine, delay)):
                self.queued[name] += 1
            self.stealing[name] -= 1
            self.thefts[name] += 1
        elif way == 3:
            yield from self._flushed(flush_delayed_work(cpu, mine), [name])
        else:
            yield from self._cancel(name, cancel_delayed_work_sync(cpu, mine))

    def task(self, cpu: Cpu) -> Context:
        for _ in range(STEPS):
            way = self.rng.randrange(10)
            name = self.rng.choice(list(self.named))
            work, wq = self.named[name]
            if way < 4:
                yield from self._queue(cpu, name)
            elif way == 4:
                yield from self._flushed(flush_work(cpu, work[cpu.number]), [name])
            elif way == 5:
                names = [n for n, (_, its) in self.named.items() if its is wq]
                yield from self._flushed(flush_workqueue(cpu, here(cpu, wq)), names)
            elif way == 6:
                yield from self._cancel(name, cancel_work_sync(cpu, work[cpu.number]))
            elif way == 7:
                yield from msleep(cpu, self.rng.randrange(1, 4))
            else:
                yield from self._delayed(cpu, self.rng.choice(list(self.delayed)))
            yield


@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.parametrize("seed", [0, 1, 8, 18])
def test_a_storm_of_works_flushes_and_cancels(era: str, seed: int) -> None:
    storm = Storm(era, seed)
    works = storm.works
    tasks = [works.start(n % CPUS, storm.task(works.cpus[n % CPUS])) for n in range(2 * CPUS)]
    works.bench.until(lambda: all(task.done for task in tasks), 2_000 * MS)
    works.live(50)
    for wq in storm.wqs:
        works.do(0, drain_workqueue(works.cpus[0], wq))
    for name in (*storm.named, *storm.delayed):
        assert works.most.get(name, 0) <= 1
        assert storm._done(name) == storm.queued[name], name
    for cpu in works.cpus:
        assert cpu.wq.completions.waiting == {}
        for wq in cpu.wq.workqueues.values():
            assert wq.first_flusher is None
            for pwq in wq.pwqs.values():
                assert (pwq.nr_active, sum(pwq.nr_in_flight), pwq.refcnt) == (0, 0, 1)
        assert all(pool.nr_running == 0 for pool in cpu.wq.pools.values())
