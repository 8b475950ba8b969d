"""Workers come and go: create_worker, manage_workers, the idle and the mayday timer.

One worker at a time is the pool's manager: it makes sure that one more is idle before it works
itself, even if creating fails for a while. Behaviour ``idle_workers_end``: workers that have been
idle for 300 s and are too many end by a manager's hand (*managed*: the timer sets MANAGE_WORKERS
and wakes one), or the timer ends them itself (*by-timer*).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.jiffies import time_before
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.sched import kthread_create, wake_up_process
from nodes.cpu.kernel.timer import (
    TIMER_DEFERRABLE,
    schedule_timeout_interruptible,
    timer_setup,
)
from nodes.cpu.kernel.workqueue.pool import (
    POOL_DISASSOCIATED,
    POOL_MANAGE_WORKERS,
    WorkerPool,
    need_to_create_worker,
    too_many_workers,
    wake_up_worker,
)
from nodes.cpu.kernel.workqueue.worker import (
    WORKER_DIE,
    WORKER_IDLE,
    WORKER_STARTED,
    WORKER_UNBOUND,
    Worker,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

IDLE_WORKER_TIMEOUT_S = 300
#: ms after which a manager that cannot create calls the rescuers, then again and again.
MAYDAY_INITIAL_TIMEOUT_MS, MAYDAY_INTERVAL_MS = 10, 100
CREATE_COOLDOWN_S = 1


def init_worker_pool(cpu: Cpu, pool: WorkerPool) -> None:
    """Its timers, on the CPU that hosts it."""
    pool.watchdog_ts = cpu.jiffies()
    pool.idle_timer = timer_setup(
        cpu, lambda cpu: idle_worker_timeout(cpu, pool), TIMER_DEFERRABLE, "idle_worker_timeout"
    )
    pool.mayday_timer = timer_setup(
        cpu, lambda cpu: pool_mayday_timeout(cpu, pool), 0, "pool_mayday_timeout"
    )


# -- idle


def worker_enter_idle(cpu: Cpu, worker: Worker) -> None:
    pool = worker.pool
    worker.flags |= WORKER_IDLE
    worker.last_active = cpu.jiffies()
    pool.idle_list.append(worker)
    if too_many_workers(cpu, pool) and not pool.idle_timer.pending():
        timeout = IDLE_WORKER_TIMEOUT_S * cpu.params.hz
        cpu.timers.mod_timer(pool.idle_timer, cpu.jiffies() + timeout)


def worker_leave_idle(worker: Worker) -> None:
    if worker.flags & WORKER_IDLE:
        worker.flags &= ~WORKER_IDLE
        worker.pool.idle_list.remove(worker)


def idle_worker_timeout(cpu: Cpu, pool: WorkerPool) -> None:
    """The idle timer: is the one that idles longest idle for 300 s?"""
    timeout = IDLE_WORKER_TIMEOUT_S * cpu.params.hz
    managed = cpu.params.idle_workers_end == "managed"
    while too_many_workers(cpu, pool):
        oldest = pool.idle_list[0]
        expires = oldest.last_active + timeout
        if time_before(cpu.jiffies(), expires):
            cpu.timers.mod_timer(pool.idle_timer, expires)
            return
        if managed:
            pool.flags |= POOL_MANAGE_WORKERS
            wake_up_worker(cpu, pool)
            return
        destroy_worker(cpu, oldest)


# -- create and destroy


def create_worker(cpu: Cpu, pool: WorkerPool) -> Worker | None:
    """A new idle worker, awake; None if there is no memory for it (``wq.may_create_worker``)."""
    from nodes.cpu.kernel.workqueue.process import worker_thread  # noqa: PLC0415

    if not cpu.wq.may_create_worker(pool):
        return None
    number = 0
    while number in pool.worker_ids:
        number += 1
    pool.worker_ids.append(number)
    worker = Worker(pool, number)
    name = f"kworker/u{pool.id}:{number}" if pool.unbound else f"kworker/{pool.node}:{number}"
    if not pool.unbound and pool.nice < 0:
        name += "H"
    worker.task = kthread_create(cpu, name, worker_thread(cpu, worker), pool.nice)
    worker.task.worker = worker
    worker.flags |= WORKER_STARTED
    if pool.flags & POOL_DISASSOCIATED:
        worker.flags |= WORKER_UNBOUND
    pool.workers.append(worker)
    worker_enter_idle(cpu, worker)
    wake_up_process(cpu, worker.task)
    return worker


def worker_detach(worker: Worker) -> None:
    """The thread leaves: its task is no worker any more."""
    if worker.task is not None:
        worker.task.worker = None


def destroy_worker(cpu: Cpu, worker: Worker) -> None:
    """Off the pool; the task ends when it runs next."""
    pool = worker.pool
    assert worker.current_work is None
    assert not worker.scheduled
    worker_leave_idle(worker)
    pool.workers.remove(worker)
    pool.worker_ids.remove(worker.id)
    worker.flags |= WORKER_DIE
    if worker.task is not None:
        wake_up_process(cpu, worker.task)


# -- the manager


def manage_workers(cpu: Cpu, worker: Worker) -> Context:
    """True if the caller was the manager, and so has to look at everything again."""
    pool = worker.pool
    if pool.manager is not None:
        return False
    pool.manager = worker
    did = True
    if cpu.params.idle_workers_end == "managed":
        pool.flags &= ~POOL_MANAGE_WORKERS
        did = _maybe_destroy_workers(cpu, pool)
        did = (yield from _maybe_create_worker(cpu, pool)) or did
    else:
        yield from _maybe_create_worker(cpu, pool)
    pool.manager = None
    return did


def _maybe_destroy_workers(cpu: Cpu, pool: WorkerPool) -> bool:
    """3.10: from the one that idles longest on."""
    did = False
    timeout = IDLE_WORKER_TIMEOUT_S * cpu.params.hz
    while too_many_workers(cpu, pool):
        oldest = pool.idle_list[0]
        expires = oldest.last_active + timeout
        if time_before(cpu.jiffies(), expires):
            cpu.timers.mod_timer(pool.idle_timer, expires)
            break
        destroy_worker(cpu, oldest)
        did = True
    return did


def _maybe_create_worker(cpu: Cpu, pool: WorkerPool) -> Context:
    """Until there is an idle worker, or none is needed any more."""
    if not need_to_create_worker(pool):
        return False
    while need_to_create_worker(pool):
        initial = max(1, MAYDAY_INITIAL_TIMEOUT_MS * cpu.params.hz // 1000)
        cpu.timers.mod_timer(pool.mayday_timer, cpu.jiffies() + initial)
        while create_worker(cpu, pool) is None and need_to_create_worker(pool):
            yield from schedule_timeout_interruptible(cpu, CREATE_COOLDOWN_S * cpu.params.hz)
            if not need_to_create_worker(pool):
                break
        cpu.timers.del_timer(pool.mayday_timer)
    return True


def pool_mayday_timeout(cpu: Cpu, pool: WorkerPool) -> None:
    """Still no worker: each work that waits calls its workqueue's rescuer."""
    if need_to_create_worker(pool) and cpu.wq.send_mayday is not None:
        for work in pool.worklist:
            cpu.wq.send_mayday(cpu, work)
    interval = max(1, MAYDAY_INTERVAL_MS * cpu.params.hz // 1000)
    cpu.timers.mod_timer(pool.mayday_timer, cpu.jiffies() + interval)
