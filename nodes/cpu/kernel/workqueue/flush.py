"""flush_work and flush_delayed_work: wait for one work, by a barrier behind it.

A barrier is a work that completes whoever waits. It stands right behind the work it waits for, on
whatever list that is (the work is LINKED to it: both go to the same worker), or, if the work runs
already, at the head of what its worker was given to do next. So it runs when that instance is done,
whatever was queued behind it. In 3.10 a barrier has no colour; since 5.15 it has that of its work,
so that a flush of the workqueue waits for it too, and is marked INACTIVE, since it does not count
in nr_active.

The pool that the data word names is asked (``completion``): of a work that is queued that is where
it is, of another where it ran last. A question that finds the work on its way to another pool
follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn
from nodes.cpu.kernel.locks.might_sleep import might_sleep
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.timer import schedule_timeout_uninterruptible
from nodes.cpu.kernel.timer_shared import del_timer_sync
from nodes.cpu.kernel.workqueue import keventd_flush
from nodes.cpu.kernel.workqueue.alloc import WQ_LEGACY, WQ_MEM_RECLAIM, Workqueue
from nodes.cpu.kernel.workqueue.completion import ask, complete, operation, send
from nodes.cpu.kernel.workqueue.delayed import delayed_work_timer_fn
from nodes.cpu.kernel.workqueue.lockmap import check_map, work_map, workqueue_map
from nodes.cpu.kernel.workqueue.pool import (
    PoolWorkqueue,
    find_worker_executing_work,
    host_of,
)
from nodes.cpu.kernel.workqueue.queue import insert_work
from nodes.cpu.kernel.workqueue.work import (
    WORK_OFFQ_POOL_NONE,
    WORK_STRUCT_COLOR_SHIFT,
    WORK_STRUCT_INACTIVE,
    WORK_STRUCT_LINKED,
    WORK_STRUCT_PENDING,
    WORK_STRUCT_PWQ,
    DelayedWork,
    Work,
    get_work_color,
    get_work_pool_id,
    get_work_wq_id,
    set_work_data,
    work_data,
    work_in_transit,
    work_is_canceling,
    work_named,
)
from nodes.cpu.kernel.workqueue.worker import Worker, current_wq_worker

if TYPE_CHECKING:
    from collections import deque

    from nodes.cpu.kernel.percpu import Cpu

WORK_BUSY_PENDING, WORK_BUSY_RUNNING = 1, 2
#: Operations (``completion``).
START_FLUSH_WORK, WORK_RUNNING = 10, 11
#: Answers of START_FLUSH_WORK: nothing to wait for, waited, the pool is on its way to its host.
_IDLE, _WAITED, _AGAIN = 0, 1, 2
_SOURCE = "kernel/workqueue.c"


class Barrier(Work):
    """struct wq_barrier. It is known to one CPU only, and so has its data in itself."""

    __slots__ = ()

    def __init__(self, key: int) -> None:
        super().__init__(-1, "wq_barrier_func", self.wq_barrier_func)
        self.key = key

    def wq_barrier_func(self, cpu: Cpu) -> Context:
        yield from complete(cpu, self.key, _WAITED)


def insert_wq_barrier(
    cpu: Cpu, pwq: PoolWorkqueue, barrier: Barrier, target: Work, worker: Worker | None
) -> None:
    """Behind ``target``, or, if ``worker`` runs it, first of what that does next."""
    entries: deque[Work]
    if worker is not None:
        entries, at, linked, color = worker.scheduled, 0, 0, worker.current_color
    else:
        entries, at = _place(cpu, pwq, target)
        data = work_data(cpu, target)
        linked, color = data & WORK_STRUCT_LINKED, get_work_color(data)
        set_work_data(cpu, target, data | WORK_STRUCT_LINKED)
    if cpu.params.work_no_color >= 0:
        flags = cpu.params.work_no_color << WORK_STRUCT_COLOR_SHIFT
    else:
        pwq.nr_in_flight[color] += 1
        flags = color << WORK_STRUCT_COLOR_SHIFT | WORK_STRUCT_INACTIVE
    insert_work(cpu, pwq, barrier, entries, flags | linked, at)


def _place(cpu: Cpu, pwq: PoolWorkqueue, target: Work) -> tuple[deque[Work], int]:
    """The list on which a queued work is, and the place behind it."""
    pool = pwq.pool
    scheduled = [worker.scheduled for worker in cpu.wq.all_workers(pool)]
    for entries in (pool.worklist, pwq.inactive_works, pool.unknown, *scheduled):
        for at, work in enumerate(entries):
            if work.number == target.number:
                return entries, at + 1
    raise AssertionError(f"{target.name} is queued and on no list")


# -- flush_work


def flush_work(cpu: Cpu, work: Work) -> Context:
    """Wait for the instance that was queued last; False if it was idle."""
    might_sleep(cpu, _SOURCE)
    if cpu.wq.keventd is not None:
        return (yield from keventd_flush.flush_work(cpu, work))
    if cpu.lockdep is not None:
        check_map(cpu, work_map(cpu, work))
    while True:
        pool = get_work_pool_id(work_data(cpu, work))
        if pool == WORK_OFFQ_POOL_NONE:
            return False
        wq = _wq_of(cpu, work)
        check_flush_dependency(cpu, wq, work)
        if cpu.lockdep is not None and wq is not None and _one_by_one(wq):
            check_map(cpu, workqueue_map(cpu, wq))
        answer = yield from ask(cpu, host_of(cpu, pool), START_FLUSH_WORK, work.number, pool)
        if answer != _AGAIN:
            return answer == _WAITED
        yield from schedule_timeout_uninterruptible(cpu, 1)


def _one_by_one(wq: Workqueue) -> bool:
    """Does a work have to wait for all that were queued before it?"""
    return wq.saved_max_active == 1 or wq.rescuer is not None


@operation(START_FLUSH_WORK)
def _start_flush_work(cpu: Cpu, key: int, number: int, pool_id: int, _c: int) -> Context:
    """start_flush_work, on the host of the pool."""
    work = work_named(cpu, number)
    pool = cpu.wq.pools.get(pool_id)
    data = work_data(cpu, work)
    there = get_work_pool_id(data)
    if (
        data & WORK_STRUCT_PENDING
        and there not in (pool_id, WORK_OFFQ_POOL_NONE)
        and not work_is_canceling(data)
    ):
        pool_id, pool = there, cpu.wq.pools.get(there)
    host = host_of(cpu, pool_id)
    if host != cpu.number:
        yield from send(cpu, host, START_FLUSH_WORK, key, number, pool_id)
        return None
    if pool is None or work_in_transit(data):
        return _AGAIN  # either is on its way to this CPU
    if data & WORK_STRUCT_PWQ:
        wq = cpu.wq.workqueues.get(get_work_wq_id(data))
        if wq is None:  # destroyed under it: nobody will run it (Linux reads freed memory here)
            return _IDLE
        insert_wq_barrier(cpu, wq.pwqs[pool_id], Barrier(key), work, None)
        return None
    worker = find_worker_executing_work(pool, work)
    if worker is None or worker.current_pwq is None:
        return _IDLE
    insert_wq_barrier(cpu, worker.current_pwq, Barrier(key), work, worker)
    return None


def flush_delayed_work(cpu: Cpu, dwork: DelayedWork) -> Context:
    """If its timer has not fired, queue it now; then flush_work."""
    if (yield from del_timer_sync(cpu, dwork.timer)):
        yield from delayed_work_timer_fn(cpu, dwork)
    return (yield from flush_work(cpu, dwork))


# -- asking


def work_busy(cpu: Cpu, work: Work) -> Context:
    """WORK_BUSY_PENDING and WORK_BUSY_RUNNING; old when it is read."""
    if cpu.wq.keventd is not None:
        return (yield from keventd_flush.work_busy(cpu, work))
    data = work_data(cpu, work)
    busy, pool = data & WORK_STRUCT_PENDING, get_work_pool_id(data)
    if pool != WORK_OFFQ_POOL_NONE and (
        yield from ask(cpu, host_of(cpu, pool), WORK_RUNNING, work.number, pool)
    ):
        busy |= WORK_BUSY_RUNNING
    return busy


@operation(WORK_RUNNING)
def _work_running(cpu: Cpu, _key: int, number: int, pool_id: int, _c: int) -> int | None:
    pool = cpu.wq.pools.get(pool_id)
    if pool is None:
        return 0
    return find_worker_executing_work(pool, work_named(cpu, number)) is not None


# -- what may not wait for what


def _wq_of(cpu: Cpu, work: Work) -> Workqueue | None:
    """Where it is queued; None if it is not."""
    data = work_data(cpu, work)
    return cpu.wq.workqueues.get(get_work_wq_id(data)) if data & WORK_STRUCT_PWQ else None


def check_flush_dependency(cpu: Cpu, wq: Workqueue | None, work: Work | None) -> None:
    """Behaviour ``flush_dependency`` (4.6 and later): a work that memory reclaim may need must not
    wait for one that may itself wait for memory."""
    if cpu.params.flush_dependency != "checked" or wq is None or wq.flags & WQ_MEM_RECLAIM:
        return
    worker = current_wq_worker(cpu)
    if worker is None or worker.current_pwq is None or worker.current_work is None:
        return
    mine = worker.current_pwq.wq
    if mine.flags & (WQ_MEM_RECLAIM | WQ_LEGACY) != WQ_MEM_RECLAIM:
        return
    place = (_SOURCE, "check_flush_dependency")
    if place not in cpu.warned:
        cpu.warned.append(place)
        name = work.name if work is not None else "0x0"
        text = f"workqueue: WQ_MEM_RECLAIM {mine.name}:{worker.current_work.name} is flushing "
        warn(cpu, _SOURCE, f"{text}!WQ_MEM_RECLAIM {wq.name}:{name}")
