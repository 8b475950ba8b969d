"""What becomes of a CPU's pools when it goes offline and comes back.

In Linux the workers of a dying CPU lose their binding and run its works elsewhere: the pool stays
where it is, in memory. Here the pool's state moves, in records, to the CPU that adopts it, which
makes workers for it (``kworker/1:2`` on cpu0) and gets what is queued for it from then on
(``pool.host_of``). A work that is half done stays with its worker, because a generator cannot leave
its process; the new host knows it as a *guest*, a worker without a task: it is in the busy_hash, so
the work is not started a second time, and what waits for that worker waits there. When the worker
is done it tells the host. ``workqueue_offline_cpu`` returns when no such worker is left: that
cpu_down waits for them is the one difference to Linux.

When the CPU is back it asks for its pools. Workers that never went (cpu_down was given up) are
still there: they are REBOUND, and count again when they begin their next batch; works that are half
done on the adopter are guests here until they are done.

A work that the host does not know (no INIT_WORK there) is put aside and comes back with the pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgpack

from bus.ram import BUFFER_BYTES
from nodes.cpu.kernel import words
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import TASK_UNINTERRUPTIBLE, wake_up_process
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.timer import schedule_timeout_uninterruptible
from nodes.cpu.kernel.workqueue.alloc import Workqueue, link_pwqs, pwq_adjust_max_active
from nodes.cpu.kernel.workqueue.flushtip import tell_flushed
from nodes.cpu.kernel.workqueue.keventd import keventd_offline, keventd_place
from nodes.cpu.kernel.workqueue.manage import create_worker, destroy_worker, init_worker_pool
from nodes.cpu.kernel.workqueue.pool import (
    POOL_DISASSOCIATED,
    POOL_FREEZING,
    PoolStats,
    PoolWorkqueue,
    WorkerPool,
    host_of,
    pwq_dec_nr_in_flight,
    wake_up_worker,
)
from nodes.cpu.kernel.workqueue.queue import forward_parked, queue_work_on, works_known
from nodes.cpu.kernel.workqueue.work import INIT_WORK, Work, work_named
from nodes.cpu.kernel.workqueue.worker import (
    WORKER_DIE,
    WORKER_IDLE,
    WORKER_REBOUND,
    WORKER_STARTED,
    WORKER_UNBOUND,
    Worker,
    trace_nr_running,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Records: a piece of pool 1's state (buffer 2, length 3; 4: it is the last); worker 2 of pool 1 is
#: done with work 3, whose data was 4, in 5 ns of CPU time; give CPU 1 its pools back.
MOVE_POOL, WORK_DONE, RETURN_POOLS = 125, 126, 127

_STATS = PoolStats.__slots__


def _pools_of(cpu: Cpu, node: int) -> list[WorkerPool]:
    """Pools of CPU ``node`` that are hosted here."""
    return [pool for pool in cpu.wq.pools.values() if pool.node == node]


def _adopter(cpu: Cpu) -> int:
    """Who has this CPU's pools while it is offline: the lowest other one."""
    return min(number for number in cpu.online_cpus if number != cpu.number)


# ---------------------------------------------------------------- down


def _unbind(cpu: Cpu, adopter: int) -> Context:
    """Behaviour ``wq_unbind``: by a highpri work of the dying CPU (3.10), or directly."""
    if cpu.params.wq_unbind == "direct":
        unbind_workers(cpu)
        yield from hand_over(cpu, cpu.number, adopter)
        return
    waiter, done = cpu.current, []

    def wq_unbind_fn(cpu: Cpu) -> Context:
        unbind_workers(cpu)
        yield from hand_over(cpu, cpu.number, adopter)
        done.append(True)
        wake_up_process(cpu, waiter)

    work = INIT_WORK(cpu, words.UNBIND_WORK + cpu.number, "wq_unbind_fn", wq_unbind_fn)
    yield from queue_work_on(cpu, cpu.number, cpu.wq.system_highpri_wq, work)
    while not done:
        waiter.state = TASK_UNINTERRUPTIBLE
        yield SCHEDULE


def unbind_workers(cpu: Cpu) -> None:
    """From here on nobody counts, and who is idle looks whether works wait."""
    for pool in _pools_of(cpu, cpu.number):
        if pool.unbound:
            continue
        for worker in pool.workers:
            worker.flags |= WORKER_UNBOUND
        pool.flags |= POOL_DISASSOCIATED
        pool.nr_running = 0
        trace_nr_running(cpu, pool)
        wake_up_worker(cpu, pool)


def workqueue_offline_cpu(cpu: Cpu) -> Context:
    """On the dying CPU, in a task: its pools go to the lowest other CPU, half-done works finish."""
    if cpu.wq.keventd is not None:
        yield from keventd_offline(cpu, _adopter(cpu))
        return
    yield from _unbind(cpu, _adopter(cpu))
    while any(pool.busy_hash for pool in cpu.wq.away.values()):
        yield from schedule_timeout_uninterruptible(cpu, 1)


def hand_over(cpu: Cpu, node: int, target: int) -> Context:
    """Send CPU ``node``'s pools to ``target``; what is queued from now on goes there."""
    going = _pools_of(cpu, node)
    states = [_pack(cpu, pool) for pool in going]
    for pool in going:
        _leave(cpu, pool)
    cpu.ram.atomics.store(words.POOL_HOST + node, 0 if target == node else target + 1)
    for pool, state in zip(going, states, strict=True):
        for at in range(0, len(state), BUFFER_BYTES):
            piece = state[at : at + BUFFER_BYTES]
            while (buffer := cpu.handover.put(piece)) is None:
                yield
            last = at + len(piece) == len(state)
            record = [MOVE_POOL, pool.id, buffer, len(piece), last]
            yield from call_function_single(cpu, target, record)
    yield from forward_parked(cpu, [pool.id for pool in going], target)


def _leave(cpu: Cpu, pool: WorkerPool) -> None:
    """The pool's state is elsewhere now; busy workers finish what they do, the others end."""
    for worker in list(cpu.wq.all_workers(pool)):
        worker.scheduled = deque()
        if worker.rescue_wq is not None:
            continue
        if worker.current_work is not None:
            worker.flags |= WORKER_DIE
        elif worker.flags & WORKER_IDLE:
            destroy_worker(cpu, worker)
        else:
            pool.workers.remove(worker)
            pool.worker_ids.remove(worker.id)
            worker.flags |= WORKER_DIE
            if worker.task is not None:
                wake_up_process(cpu, worker.task)
    for guest in [worker for worker in pool.workers if worker.task is None]:
        _forget(pool, guest)
    cpu.timers.del_timer(pool.idle_timer)
    cpu.timers.del_timer(pool.mayday_timer)
    pool.worklist.clear()
    pool.nr_running = 0
    pool.moved = True
    for wq in cpu.wq.workqueues.values():
        wq.pwqs.pop(pool.id, None)
    cpu.wq.rows.remove(pool.id)
    cpu.wq.away[pool.id] = cpu.wq.pools.pop(pool.id)


def _forget(pool: WorkerPool, worker: Worker) -> None:
    """Off the pool: a guest, or a worker that is done after its pool has gone."""
    if worker in pool.workers:  # else a rescuer
        pool.workers.remove(worker)
        pool.worker_ids.remove(worker.id)
    assert worker.current_work is not None
    busy = pool.busy_hash[worker.current_work.number]
    busy.remove(worker)
    if not busy:
        del pool.busy_hash[worker.current_work.number]


def work_done_elsewhere(
    cpu: Cpu, worker: Worker, work: Work, data: int, cpu_time_ns: int
) -> Context:
    """The end of process_one_work for a worker whose pool has moved: its host has the books."""
    pool = worker.pool
    _forget(pool, worker)
    record = [WORK_DONE, pool.id, worker.id, work.number & 0xFFFF_FFFF, data & 0xFF, cpu_time_ns]
    host = host_of(cpu, pool.id)
    if host == cpu.number:
        cpu.wq.early_done.append(record)  # it is on its way back here
        settle(cpu)
        yield from tell_flushed(cpu)
    else:
        yield from call_function_single(cpu, host, record)


@remote_function(WORK_DONE)
def _work_done(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    host = host_of(cpu, record[1])
    if host != cpu.number:
        return call_function_single(cpu, host, record[:6])
    cpu.wq.early_done.append(record[:6])
    settle(cpu)
    return tell_flushed(cpu)


def settle(cpu: Cpu) -> None:
    """Works that are done elsewhere, of pools that have arrived."""
    waiting, cpu.wq.early_done = cpu.wq.early_done, []
    for record in waiting:
        _, number, worker_id, _, data, cpu_time_ns = record
        pool = cpu.wq.pools.get(number)
        if pool is None:
            cpu.wq.early_done.append(record)
            continue
        guest = next((w for w in pool.workers if w.id == worker_id and w.task is None), None)
        if guest is not None:
            _guest_is_done(cpu, pool, guest, data, cpu_time_ns)


def _guest_is_done(cpu: Cpu, pool: WorkerPool, guest: Worker, data: int, cpu_time_ns: int) -> None:
    pwq = guest.current_pwq
    assert pwq is not None
    _forget(pool, guest)
    pool.worklist.extendleft(reversed(guest.scheduled))  # what waited for that worker is next
    pwq.stats.completed += 1
    pwq.stats.cpu_time_ns += cpu_time_ns
    pwq_dec_nr_in_flight(cpu, pwq, data)
    cpu.wq.kick(pool)


# ---------------------------------------------------------------- what moves


def _names(works: Iterable[Work]) -> list[Any]:
    """Works as a record holds them: a number, or a barrier's (completion, data)."""
    return [work.number if work.number >= 0 else (work.key, work.data) for work in works]


def _works(cpu: Cpu, names: Iterable[Any]) -> deque[Work]:
    found: deque[Work] = deque()
    for name in names:
        if isinstance(name, int):
            found.append(work_named(cpu, name))
        else:
            barrier = cpu.wq.make_barrier(name[0])
            barrier.data = name[1]
            found.append(barrier)
    return found


def _pack(cpu: Cpu, pool: WorkerPool) -> bytes:
    for worker in cpu.wq.all_workers(pool):
        if worker.current_work is None:  # between two works
            pool.worklist.extendleft(reversed(worker.scheduled))
    busy = [
        (
            worker.id, _names([worker.current_work])[0], worker.current_pwq.wq.id,
            worker.current_since, worker.current_color, _names(worker.scheduled),
        )
        for worker in cpu.wq.all_workers(pool)
        if worker.current_work is not None and worker.current_pwq is not None
    ]  # fmt: skip
    pwqs = [
        (
            (wq.id, wq.name, wq.flags, wq.saved_max_active, wq.nr_drainers),
            pwq.work_color, pwq.flush_color, pwq.refcnt, pwq.nr_active, pwq.nr_in_flight,
            _names(pwq.inactive_works), [getattr(pwq.stats, name) for name in _STATS],
        )
        for wq in cpu.wq.workqueues.values()
        if (pwq := wq.pwqs.get(pool.id)) is not None
    ]  # fmt: skip
    lists = _names(pool.worklist), _names(pool.unknown)
    data: bytes = msgpack.packb((*lists, cpu.wq.freezing, busy, pwqs))
    return data


# ---------------------------------------------------------------- arriving


@remote_function(MOVE_POOL)
def _move_pool(cpu: Cpu, source: int, record: list[int]) -> Context:
    _, number, buffer, length, last = record[:5]
    pieces = cpu.wq.arriving.setdefault(number, bytearray())
    pieces += cpu.ram.handover(source).take(buffer, length)
    if last:
        _arrive(cpu, number, bytes(cpu.wq.arriving.pop(number)))
        yield from tell_flushed(cpu)


def _arrive(cpu: Cpu, number: int, state: bytes) -> None:
    """This CPU hosts the pool from now on: its own one that is back, or a dead CPU's."""
    worklist, unknown, cpu.wq.freezing, busy, pwqs = msgpack.unpackb(state, use_list=False)
    pool = cpu.wq.away.pop(number, None) or WorkerPool(number, cpu.machine.cpus)
    pool.moved = False
    home = pool.node == cpu.number
    pool.flags |= POOL_DISASSOCIATED
    if home and not pool.unbound:
        pool.flags &= ~POOL_DISASSOCIATED
    freezing = POOL_FREEZING if cpu.wq.freezing and cpu.params.freezing_flag == "pool" else 0
    pool.flags = pool.flags & ~POOL_FREEZING | freezing
    init_worker_pool(cpu, pool)
    cpu.wq.pools[number] = pool
    cpu.wq.rows.add_pool(pool)
    for (wq_id, name, flags, max_active, drainers), *values in pwqs:
        wq = cpu.wq.workqueues.get(wq_id)
        if wq is None:
            wq = cpu.wq.workqueues[wq_id] = Workqueue(wq_id, name, flags, max_active)
            link_pwqs(cpu, wq)
            cpu.wq.start_rescuer(wq)
        wq.flags, wq.saved_max_active, wq.nr_drainers = flags, max_active, drainers
        _unpack_pwq(cpu, PoolWorkqueue(pool, wq), values)
    for wq in cpu.wq.workqueues.values():
        link_pwqs(cpu, wq)
    for values in busy:
        _unpack_worker(cpu, pool, values)
    pool.unknown = _works(cpu, unknown)
    pool.worklist.extend(works_known(cpu, pool))
    pool.worklist.extend(_works(cpu, worklist))
    create_worker(cpu, pool)
    settle(cpu)
    cpu.wq.unpark()
    cpu.wq.kick(pool)
    cpu.wq.rows.pool(pool)


def _unpack_pwq(cpu: Cpu, pwq: PoolWorkqueue, values: Any) -> None:
    pwq.work_color, pwq.flush_color, pwq.refcnt, pwq.nr_active, in_flight, inactive, stats = values
    pwq.nr_in_flight = list(in_flight)
    pwq.inactive_works = _works(cpu, inactive)
    cpu.wq.rows.inactive(pwq.pool.id, len(pwq.inactive_works))
    for name, value in zip(_STATS, stats, strict=True):
        setattr(pwq.stats, name, value)
    pwq.wq.pwqs[pwq.pool.id] = pwq
    pwq_adjust_max_active(cpu, pwq)


def _unpack_worker(cpu: Cpu, pool: WorkerPool, values: Any) -> None:
    """A worker that is busy: one that never left this CPU, or a guest."""
    number, name, wq_id, since, color, scheduled = values
    pwq = cpu.wq.workqueues[wq_id].pwqs[pool.id]
    mine = (w for w in cpu.wq.all_workers(pool) if w.id == number and w.current_work is not None)
    worker = next(mine, None)
    if worker is None:
        (work,) = _works(cpu, [name])
        worker = Worker(pool, number)
        worker.flags = WORKER_STARTED | WORKER_UNBOUND
        worker.current_work, worker.current_func = work, work.function
        worker.current_since, worker.current_color, worker.desc = since, color, pwq.wq.name
        pool.workers.append(worker)
        pool.worker_ids.append(number)
        pool.busy_hash.setdefault(work.number, []).append(worker)
    else:
        worker.flags &= ~WORKER_DIE
    worker.current_pwq = pwq
    worker.scheduled = _works(cpu, scheduled)


# ---------------------------------------------------------------- up


def rebind_workers(cpu: Cpu) -> None:
    """Workers that were busy all the time: UNBOUND becomes REBOUND, which also does not count."""
    for pool in _pools_of(cpu, cpu.number):
        if pool.unbound:
            continue
        pool.flags &= ~POOL_DISASSOCIATED
        for worker in pool.workers:
            if worker.flags & WORKER_UNBOUND and worker.task is not None:
                worker.flags = worker.flags & ~WORKER_UNBOUND | WORKER_REBOUND


def workqueue_online_cpu(cpu: Cpu) -> Context:
    """On the CPU that is back (or that was to go, and stays): its pools come home."""
    if cpu.wq.keventd is not None:
        cpu.wq.keventd.start(cpu)
        yield from call_function_single(cpu, _adopter(cpu), [RETURN_POOLS, cpu.number])
        return
    host = host_of(cpu, cpu.wq.pool.id)
    if host != cpu.number:
        yield from call_function_single(cpu, host, [RETURN_POOLS, cpu.number])
    while any(pool.node == cpu.number for pool in cpu.wq.away.values()):
        yield from schedule_timeout_uninterruptible(cpu, 1)
    rebind_workers(cpu)


@remote_function(RETURN_POOLS)
def _return_pools(cpu: Cpu, _source: int, record: list[int]) -> Context:
    if cpu.wq.keventd is not None:  # no pools, only works that nobody knew here
        return forward_parked(cpu, [keventd_place(record[1])], record[1])
    return hand_over(cpu, record[1], record[1])
