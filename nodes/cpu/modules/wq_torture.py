"""Many works across all CPUs, each counted: do all run, and none twice?

On each CPU a long work (``events_long``) queues a share of the ``works``, by turns

* on its own CPU, on another one, on an unbound workqueue, on a highpri one (kinds 0 to 3),
* and delayed by one to three jiffies (kind 4).

A work runs on whatever CPU it was queued for, computes a little, now and then sleeps, and counts
itself in an atomic word: runs in the upper half, those that go on now in the lower. When all of its
share is queued, the long work flushes what it queued and compares each work's runs with how often
it was queued. The CPU that loaded the module reports the sums::

    wq_torture: cpus=2 queued=100000 ran=100000 lost=0 twice=0 at_once=0 refused=812 barriers=3

``lost`` and ``twice``: runs that are missing or too many, work by work; ``at_once``: runs that
began while the same work was running (2.6.18 does that, on two CPUs); ``refused``: queueings of
works that were still pending, which count for nothing; ``barriers``: flushes that had to wait, each
by a work of its own behind the flushed one. The workqueues are the module's own
(``torture``, ``torture_unbound``, ``torture_highpri``), so that ``bottomhalf wq`` shows their
totals, works and barriers; they stay until rmmod. In 2.6.18 there is neither unbound nor highpri:
those kinds queue locally.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel import words
from nodes.cpu.kernel import workqueue as wqs
from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "wq_torture"
WORKS_MAX = 10_000_000
#: Different works, shared out to the CPUs.
SLOTS = words.WQ_TORTURE_WORKS
KINDS = 5
LOCAL, REMOTE, UNBOUND, HIGHPRI, DELAYED = range(KINDS)
BATCH = 32
PAUSE_NS, POLL_NS = 50_000, 1_000_000
#: Of a work's word: its completed runs, and below them the runs that go on.
RUNS_SHIFT = 32
_RUNNING = (1 << RUNS_SHIFT) - 1

#: Words of the module, behind those of the works: the sums, then three workqueues.
_SUMS = ("finished", "queued", "ran", "lost", "twice", "at_once", "refused", "barriers")
_SUM = {name: words.WQ_TORTURE + SLOTS + at for at, name in enumerate(_SUMS)}
_STARTER = words.WQ_TORTURE_WORK + SLOTS
_WQ = words.WQ_TORTURE + SLOTS + len(_SUMS)


def _word(slot: int) -> int:
    return words.WQ_TORTURE + slot


def _on_each_cpu(cpu: Cpu, values: Values) -> None:
    """Every work may run on every CPU."""
    for slot in range(SLOTS):
        init = wqs.INIT_DELAYED_WORK if _kind(cpu, slot) == DELAYED else wqs.INIT_WORK
        init(cpu, words.WQ_TORTURE_WORK + slot, NAME, _function(slot))
    for number in range(cpu.machine.cpus):
        wqs.INIT_WORK(cpu, _STARTER + number, "wq_torture_share", _share(values["works"]))


def _kind(cpu: Cpu, slot: int) -> int:
    return slot // cpu.machine.cpus % KINDS


def _function(slot: int) -> Callable[[Cpu], Context]:
    word = _word(slot)

    def wq_torture_work(cpu: Cpu) -> Context:
        atomics = cpu.ram.atomics
        if atomics.add(word, 1) & _RUNNING != 1:
            atomics.add(_SUM["at_once"], 1)
        yield
        if slot % 7 == 0:
            yield from nanosleep(cpu, PAUSE_NS)
        atomics.add(word, (1 << RUNS_SHIFT) - 1)

    return wq_torture_work


def _share(works: int) -> Callable[[Cpu], Context]:
    def wq_torture_share(cpu: Cpu) -> Context:
        online = cpu.online_cpus
        at = online.index(cpu.number)
        yield from _Share(cpu, works // len(online) + (at < works % len(online))).run()

    return wq_torture_share


class _Share:
    """What one CPU queues."""

    def __init__(self, cpu: Cpu, count: int) -> None:
        self.cpu = cpu
        self.count = count
        self.bound, self.unbound, self.highpri = _queues(cpu)
        self.slots = list(range(cpu.number, SLOTS, cpu.machine.cpus))
        self.others = [n for n in cpu.online_cpus if n != cpu.number] or [cpu.number]
        self.queued = dict.fromkeys(self.slots, 0)

    def run(self) -> Context:
        cpu, atomics = self.cpu, self.cpu.ram.atomics
        refused = done = at = 0
        while done < self.count:
            slot = self.slots[at % len(self.slots)]
            at += 1
            queued = yield from self._queue(slot, at)
            self.queued[slot] += queued
            done += queued
            refused += not queued
            if at % BATCH == 0 or not queued:
                yield from nanosleep(cpu, PAUSE_NS)
            elif cpu.need_resched:
                yield SCHEDULE
        barriers = yield from self._flush()
        ran = {slot: atomics.load(_word(slot)) >> RUNS_SHIFT for slot in self.slots}
        for name, value in (
            ("queued", done),
            ("refused", refused),
            ("barriers", barriers),
            ("ran", sum(ran.values())),
            ("lost", sum(max(0, self.queued[s] - ran[s]) for s in self.slots)),
            ("twice", sum(max(0, ran[s] - self.queued[s]) for s in self.slots)),
            ("finished", 1),
        ):
            atomics.add(_SUM[name], value)

    def _queue(self, slot: int, turn: int) -> Context:
        cpu, kind = self.cpu, _kind(self.cpu, slot)
        work = cpu.wq.works[words.WQ_TORTURE_WORK + slot]
        if kind == DELAYED:
            assert isinstance(work, wqs.DelayedWork)
            return wqs.queue_delayed_work(cpu, self.bound, work, 1 + turn % 3)
        if kind == REMOTE:
            target = self.others[turn % len(self.others)]
            return wqs.queue_work_on(cpu, target, self.bound, work)
        queue = {UNBOUND: self.unbound, HIGHPRI: self.highpri}.get(kind, self.bound)
        return wqs.queue_work(cpu, queue, work)

    def _flush(self) -> Context:
        """Nothing of this CPU's works is left when it returns how many it had to wait for."""
        cpu, barriers = self.cpu, 0
        for slot in self.slots:
            work = cpu.wq.works[words.WQ_TORTURE_WORK + slot]
            if isinstance(work, wqs.DelayedWork):
                barriers += yield from wqs.flush_delayed_work(cpu, work)
            else:
                barriers += yield from wqs.flush_work(cpu, work)
        return barriers


# -- the module


def _queues(cpu: Cpu) -> list[Any]:
    """Bound, unbound, highpri, as this CPU has them."""
    return [cpu.wq.workqueues[cpu.ram.atomics.load(_WQ + n)] for n in range(3)]


def _alloc(cpu: Cpu) -> Context:
    """Three workqueues, or three times the same one."""
    if cpu.params.workqueue == "keventd":
        queues = [(yield from wqs.create_workqueue(cpu, "torture"))] * 3
    else:
        queues = []
        for name, flags in (("", 0), ("_unbound", wqs.WQ_UNBOUND), ("_highpri", wqs.WQ_HIGHPRI)):
            queues.append((yield from wqs.alloc_workqueue(cpu, f"torture{name}", flags)))
    for at, queue in enumerate(queues):
        cpu.ram.atomics.store(_WQ + at, queue.id)


def _exit(cpu: Cpu) -> Context:
    for queue in {queue.id: queue for queue in _queues(cpu)}.values():
        yield from wqs.destroy_workqueue(cpu, queue)


@module(
    NAME,
    params={"works": (1000, "queueings on all CPUs together")},
    exit=_exit,
    on_each_cpu=_on_each_cpu,
)
def init(cpu: Cpu, params: Values) -> Context:
    """Queue many works across all CPUs: does each run, and none twice?"""
    if not 1 <= params["works"] <= WORKS_MAX:
        return -EINVAL
    atomics, online = cpu.ram.atomics, list(cpu.online_cpus)
    for word in range(words.WQ_TORTURE, _WQ):
        atomics.store(word, 0)
    yield from _alloc(cpu)
    for number in online:
        starter = cpu.wq.works[_STARTER + number]
        yield from wqs.queue_work_on(cpu, number, cpu.wq.system_long_wq, starter)
    while atomics.load(_SUM["finished"]) < len(online):
        yield from nanosleep(cpu, POLL_NS)
    sums = {name: atomics.load(word) for name, word in _SUM.items() if name != "finished"}
    report(cpu, NAME, cpus=len(online), **sums)
    return 0
