"""Queueing: PENDING, which pool, worklist or inactive works; from any CPU.

The CPU that queues takes PENDING and finds the pool. If it hosts that pool it inserts the work;
else it sends the host a record. A work that runs elsewhere for the same workqueue goes where it
runs, so that it is never on two workers at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.workqueue.alloc import WQ_DRAINING, Workqueue
from nodes.cpu.kernel.workqueue.events import (
    trace_workqueue_activate_work,
    trace_workqueue_queue_work,
)
from nodes.cpu.kernel.workqueue.pool import (
    PoolWorkqueue,
    WorkerPool,
    find_worker_executing_work,
    host_of,
    move_linked_works,
    wake_up_worker,
)
from nodes.cpu.kernel.workqueue.work import (
    WORK_STRUCT_COLOR_SHIFT,
    WORK_STRUCT_INACTIVE,
    WORK_STRUCT_PENDING,
    WORK_STRUCT_PWQ,
    WORK_STRUCT_PWQ_SHIFT,
    Work,
    set_work_data,
    set_work_in_transit,
    test_and_set_pending,
    work_running_on,
)
from nodes.cpu.kernel.workqueue.worker import current_wq_worker

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: "Whatever CPU this is": NR_CPUS in Linux.
WORK_CPU_UNBOUND = 0xFFFF
#: Record: a work (word 1) for workqueue 2, asked for CPU 3, goes to pool 4; 5: if it runs there.
QUEUE_WORK = 120


def queue_work_on(cpu: Cpu, target: int, wq: Workqueue, work: Work) -> Context:
    """Queue for CPU ``target``; False if it was pending already."""
    if test_and_set_pending(cpu, work):
        return False
    yield from __queue_work(cpu, target, wq, work)
    return True


def queue_work(cpu: Cpu, wq: Workqueue, work: Work) -> Context:
    """Queue on this CPU; False if it was pending already."""
    if test_and_set_pending(cpu, work):
        return False
    yield from __queue_work(cpu, WORK_CPU_UNBOUND, wq, work)
    return True


def schedule_work(cpu: Cpu, work: Work) -> Context:
    return queue_work(cpu, cpu.wq.system_wq, work)


def schedule_work_on(cpu: Cpu, target: int, work: Work) -> Context:
    return queue_work_on(cpu, target, cpu.wq.system_wq, work)


def __queue_work(cpu: Cpu, req_cpu: int, wq: Workqueue, work: Work) -> Context:
    """The caller has PENDING. Nothing yields unless another CPU has to be told."""
    if wq.flags & WQ_DRAINING and not is_chained_work(cpu, wq):
        warn_once(cpu, "kernel/workqueue.c")
        return  # dropped, and pending for ever
    node = cpu.number if req_cpu == WORK_CPU_UNBOUND else req_cpu
    pool = wq.pool_for(cpu.machine.cpus, node)
    running = None if cpu.wq.keventd is not None else work_running_on(cpu, work, wq.id)
    if running is None or running == pool:
        yield from _to_pool(cpu, req_cpu, wq, work, pool)
    else:
        yield from _to_pool(cpu, req_cpu, wq, work, running, node)


def is_chained_work(cpu: Cpu, wq: Workqueue) -> bool:
    """Is the current task a work of the same workqueue?"""
    worker = current_wq_worker(cpu)
    return worker is not None and worker.current_pwq is not None and worker.current_pwq.wq is wq


def _to_pool(
    cpu: Cpu, req_cpu: int, wq: Workqueue, work: Work, pool: int, instead: int | None = None
) -> Context:
    """Insert, here or by a record. With ``instead`` only if the work does run there: else it goes
    to that CPU's pool."""
    host = host_of(cpu, pool)
    if host != cpu.number:
        set_work_in_transit(cpu, work, pool)
        sticky = 0 if instead is None else instead + 1
        record = [QUEUE_WORK, work.number, wq.id, req_cpu, pool, sticky]
        yield from call_function_single(cpu, host, record)
        return
    pwq = wq.pwqs.get(pool)
    if pwq is None and cpu.wq.keventd is None:
        set_work_in_transit(cpu, work, pool)
        cpu.wq.park([QUEUE_WORK, work.number, wq.id, req_cpu, pool, 0])
        return  # the pool is on its way to this CPU
    if instead is not None and pwq is not None:
        worker = find_worker_executing_work(pwq.pool, work)
        if worker is None or worker.current_pwq is not pwq:
            yield from _to_pool(cpu, req_cpu, wq, work, wq.pool_for(cpu.machine.cpus, instead))
            return
    if cpu.wq.keventd is not None:
        cpu.wq.keventd.queue(cpu, wq, work)
    else:
        assert pwq is not None
        _insert(cpu, req_cpu, pwq, work)


@remote_function(QUEUE_WORK)
def queue_work_record(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    """Another CPU queues on a pool of this one."""
    work, wq = cpu.wq.works.get(record[1]), cpu.wq.workqueues.get(record[2])
    if work is None or wq is None:
        host = host_of(cpu, record[4])
        if host != cpu.number:
            return call_function_single(cpu, host, record[:6])
        cpu.wq.park(record[:6])
        return None
    return _to_pool(cpu, record[3], wq, work, record[4], record[5] - 1 if record[5] else None)


def insert_parked(cpu: Cpu) -> None:
    """Records whose work, workqueue and pool are known here by now."""
    parked, cpu.wq.parked = cpu.wq.parked, []
    for record in parked:
        work, wq = cpu.wq.works.get(record[1]), cpu.wq.workqueues.get(record[2])
        if work is None or wq is None or host_of(cpu, record[4]) != cpu.number:
            cpu.wq.park(record)
        elif cpu.wq.keventd is not None:
            cpu.wq.keventd.queue(cpu, wq, work)
        elif record[4] in wq.pwqs:
            _insert(cpu, record[3], wq.pwqs[record[4]], work)
        else:
            cpu.wq.park(record)


def forward_parked(cpu: Cpu, pools: Container[int], target: int) -> Context:
    """These pools are the target's now: so are the records for them that wait here."""
    mine = [record for record in cpu.wq.parked if record[4] in pools]
    cpu.wq.parked = [record for record in cpu.wq.parked if record[4] not in pools]
    for record in mine:
        yield from call_function_single(cpu, target, record)


def works_known(cpu: Cpu, pool: WorkerPool) -> deque[Work]:
    """Works that the pool brought along unknown, and that INIT_WORK has made known since; with
    their barriers."""
    known: deque[Work] = deque()
    unknown: deque[Work] = deque()
    work: Work | None
    while pool.unknown:
        work = pool.unknown[0]
        if work.number >= 0:  # else a barrier whose work was cancelled
            work = cpu.wq.works.get(work.number)
        if work is not None:
            pool.unknown[0] = work
        move_linked_works(cpu, pool.unknown, unknown if work is None else known)
    pool.unknown = unknown
    return known


def _insert(cpu: Cpu, req_cpu: int, pwq: PoolWorkqueue, work: Work) -> None:
    """The second half of __queue_work, pool->lock held."""
    pool = pwq.pool
    asked = None if req_cpu == WORK_CPU_UNBOUND else req_cpu
    trace_workqueue_queue_work(cpu, work, pwq.wq.name, asked, pool.cpu)
    pwq.nr_in_flight[pwq.work_color] += 1
    flags = pwq.work_color << WORK_STRUCT_COLOR_SHIFT
    if pwq.nr_active < pwq.max_active:
        trace_workqueue_activate_work(cpu, work)
        pwq.nr_active += 1
        if not pool.worklist:
            pool.watchdog_ts = cpu.jiffies()
        insert_work(cpu, pwq, work, pool.worklist, flags)
    else:
        cpu.wq.rows.inactive(pool.id, 1)
        insert_work(cpu, pwq, work, pwq.inactive_works, flags | WORK_STRUCT_INACTIVE)


def insert_work(
    cpu: Cpu, pwq: PoolWorkqueue, work: Work, target: deque[Work], flags: int, at: int | None = None
) -> None:
    """Link it, at the end or at ``at``; wake a worker if none is running."""
    queued = pwq.id << WORK_STRUCT_PWQ_SHIFT | WORK_STRUCT_PWQ | WORK_STRUCT_PENDING
    set_work_data(cpu, work, queued | flags)
    if at is None:
        target.append(work)
    else:
        target.insert(at, work)
    pwq.refcnt += 1
    cpu.wq.rows.queued(pwq.pool)
    if pwq.pool.nr_running == 0:
        wake_up_worker(cpu, pwq.pool)
