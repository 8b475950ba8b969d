"""Which lock is needed, tried out: each way to protect a count against each of its other users.

A task of this CPU changes a count: loads it, waits, stores it plus one. Meanwhile somebody else
does the same: a softirq or a hard interrupt of this CPU, or a task, a softirq or a hard interrupt
of another CPU. What becomes of it is a table: ``ok`` (both updates are there), ``lost`` (one
is not), ``dead`` (an interrupt wants the lock that its own CPU holds)::

    lock_contexts: percpu_softirq=local_bh_disable ... shared_hardirq=spin_lock_irqsave

That line names the weakest way that is safe, for data of one CPU and for data that all CPUs share.
The module notes a deadlock instead of running into it (``conntable`` does run into it), and its
locks are left out of lockdep, which would stop at the first wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.hrtimer import HrTimer
from nodes.cpu.kernel.irqflags import local_irq_restore, local_irq_save
from nodes.cpu.kernel.locks.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_bh,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_bh,
    spin_unlock_irqrestore,
)
from nodes.cpu.kernel.percpu import Context, Pause
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable
from nodes.cpu.kernel.tasklet import tasklet_init, tasklet_schedule
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "lock_contexts"
#: From the weakest on: what comes later forbids more.
WAYS = (
    "none",
    "local_bh_disable",
    "local_irq_save",
    "spin_lock",
    "spin_lock_bh",
    "spin_lock_irqsave",
)
HERE = ("softirq", "hardirq")
THERE = ("task", "softirq", "hardirq")
OK, LOST, DEADLOCK = "ok", "lost", "dead"
_SHORT = {"task": "task", "softirq": "soft", "hardirq": "hard"}
Call = Callable[["Cpu"], Context]

#: Record: change the count from context ``record[1]`` (of THERE), task's way ``record[2]``.
OTHER_RECORD = 83
LOCK = 48
TASKLET = 40  # known to every CPU
#: Atomic words: the count; the other user has come to the section; it is through.
COUNT, TRIED, DONE = range(words.LAB_MODULES + 4, words.LAB_MODULES + 7)
LOOK_NS = 50_000
#: How long the section lasts if nobody comes, and how long somebody may be on the way.
SECTION_NS, PATIENCE_NS = 3_000_000, 2_000_000_000
OVERLAP_NS = 200_000


def new_lock() -> Spinlock:
    lock = Spinlock(LOCK, "count_lock")
    lock.validated = False
    return lock


def takes_spinlock(way: str) -> bool:
    return way.startswith("spin_lock")


def enter(cpu: Cpu, way: str, lock: Spinlock) -> Context:
    """Begin a critical section in one of the ways; returns the flags for ``leave``."""
    flags = False
    if way == "local_bh_disable":
        local_bh_disable(cpu)
    elif way == "local_irq_save":
        flags = local_irq_save(cpu)
    elif way == "spin_lock":
        yield from spin_lock(cpu, lock)
    elif way == "spin_lock_bh":
        yield from spin_lock_bh(cpu, lock)
    elif way == "spin_lock_irqsave":
        flags = yield from spin_lock_irqsave(cpu, lock)
    return flags


def leave(cpu: Cpu, way: str, lock: Spinlock, flags: bool) -> Context:
    if way == "local_bh_disable":
        yield from local_bh_enable(cpu)
    elif way == "local_irq_save":
        local_irq_restore(cpu, flags)
    elif way == "spin_lock":
        yield from spin_unlock(cpu, lock)
    elif way == "spin_lock_bh":
        yield from spin_unlock_bh(cpu, lock)
    elif way == "spin_lock_irqsave":
        yield from spin_unlock_irqrestore(cpu, lock, flags)


# ---------------------------------------------------------------- the other user


class Here:
    """An interrupt of this CPU: it finds the lock free, or held by whom it interrupted."""

    def __init__(self, cpu: Cpu, way: str, who: str) -> None:
        self.locks = takes_spinlock(way)
        self.lock = new_lock()
        self.who = who
        self.deadlock = False
        self.timer = HrTimer(self.interrupt, NAME)
        self.tasklet = tasklet_init(cpu, self.user, TASKLET, NAME)

    def call(self, cpu: Cpu) -> Context:
        cpu.timers.hrtimer_start(self.timer, cpu.now() + OVERLAP_NS)
        yield

    def interrupt(self, cpu: Cpu) -> None:
        if self.who == "hardirq":
            self.user(cpu)
        else:
            tasklet_schedule(cpu, self.tasklet)

    def user(self, cpu: Cpu) -> None:
        """Nothing interrupts this: the lock would be taken and freed in one go."""
        atomics = cpu.ram.atomics
        atomics.store(TRIED, 1)
        if self.locks and self.lock.holder(cpu) is not None:
            self.deadlock = True
        else:
            atomics.add(COUNT, 1)
        atomics.store(DONE, 1)


def user_there(cpu: Cpu, way: str) -> Context:
    """On the other CPU, where spinning ends when the first one is through."""
    atomics, lock = cpu.ram.atomics, new_lock()
    atomics.store(TRIED, 1)
    flags = yield from enter(cpu, way, lock)
    count = atomics.load(COUNT)
    yield
    atomics.store(COUNT, count + 1)
    yield from leave(cpu, way, lock, flags)
    atomics.store(DONE, 1)


def interrupt_there(cpu: Cpu, locks: bool) -> Context:
    """As ``user_there``, in an interrupt."""
    return user_there(cpu, "spin_lock" if locks else "none")


@remote_function(OTHER_RECORD)
def _other_record(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    who, way = THERE[record[1]], WAYS[record[2]]
    if who == "task":
        kthread_run(cpu, NAME, user_there(cpu, way))
        return None
    user = interrupt_there(cpu, takes_spinlock(way))
    if who == "hardirq":
        return user
    tasklet = tasklet_init(cpu, lambda _cpu: user, TASKLET, NAME)
    tasklet_schedule(cpu, tasklet)
    return None


# ---------------------------------------------------------------- the task


def section(cpu: Cpu, way: str, call: Call, wait_for: int, limit_ns: int) -> Context:
    """The task's own update; in the middle of it ``call`` calls the other user, who comes or has
    to wait."""
    atomics, lock = cpu.ram.atomics, new_lock()
    flags = yield from enter(cpu, way, lock)
    count = atomics.load(COUNT)
    yield from call(cpu)
    give_up = cpu.now() + limit_ns
    while not atomics.load(wait_for) and cpu.now() < give_up:
        yield Pause(cpu.now() + LOOK_NS)
    if atomics.load(TRIED):
        end = cpu.now() + OVERLAP_NS
        while cpu.now() < end:
            yield Pause(end)
    atomics.store(COUNT, count + 1)
    yield from leave(cpu, way, lock, flags)


def _reset(cpu: Cpu) -> None:
    for word in (COUNT, TRIED, DONE):
        cpu.ram.atomics.store(word, 0)


def _outcome(cpu: Cpu) -> Context:
    """When both are through."""
    while not cpu.ram.atomics.load(DONE):
        yield from msleep(cpu, 1)
    return OK if cpu.ram.atomics.load(COUNT) == 2 else LOST


def try_here(cpu: Cpu, way: str, who: str) -> Context:
    """Against an interrupt of this CPU."""
    _reset(cpu)
    other = Here(cpu, way, who)
    yield from section(cpu, way, other.call, TRIED, SECTION_NS)
    outcome = yield from _outcome(cpu)
    return DEADLOCK if other.deadlock else outcome


def try_there(cpu: Cpu, way: str, who: str, target: int) -> Context:
    """Against another CPU; a spinlock makes it wait, so that there is nothing to wait for."""
    _reset(cpu)
    record = [OTHER_RECORD, THERE.index(who), WAYS.index(way)]
    wait_for = TRIED if takes_spinlock(way) else DONE
    yield from section(
        cpu, way, lambda cpu: call_function_single(cpu, target, record), wait_for, PATIENCE_NS
    )
    outcome: str = yield from _outcome(cpu)
    return outcome


@module(NAME)
def init(cpu: Cpu, params: Values) -> Context:
    """Try every way of protecting a count against every other user."""
    others = [number for number in cpu.online_cpus if number != cpu.number]
    if not others:
        return -EINVAL
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for who in HERE:
        rows[who, "this CPU"] = row = {}
        for way in WAYS:
            row[way] = yield from try_here(cpu, way, who)
    for who in THERE:
        rows[who, "other CPU"] = row = {}
        for way in WAYS:
            row[way] = yield from try_there(cpu, way, who, others[0])
    _show(cpu, rows)
    report(cpu, NAME, **weakest(rows))
    return 0


def weakest(rows: dict[tuple[str, str], dict[str, str]]) -> dict[str, str]:
    """The first way that is safe, by data and other user."""
    found = {}
    for who in HERE:
        found[f"percpu_{who}"] = _first_safe(rows[who, "this CPU"])
    for who in THERE:
        here = [rows[who, "this CPU"]] if who in HERE else []
        found[f"shared_{who}"] = _first_safe(rows[who, "other CPU"], *here)
    return found


def _first_safe(*rows: dict[str, str]) -> str:
    return next((way for way in WAYS if all(row[way] == OK for row in rows)), "nothing")


def _show(cpu: Cpu, rows: dict[tuple[str, str], dict[str, str]]) -> None:
    printk(cpu, f"{'':18}this CPU    other CPU")
    printk(cpu, f"{'':18}" + "".join(f"{_SHORT[who]:<6}" for who, _ in rows).rstrip())
    for way in WAYS:
        text = "".join(f"{row[way]:<6}" for row in rows.values())
        printk(cpu, f"{way:<18}{text}".rstrip())
