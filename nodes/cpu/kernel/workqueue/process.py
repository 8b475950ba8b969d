"""worker_thread and process_one_work: what a kworker does all day.

Behaviour ``wake_next_worker``: whoever begins a work wakes another worker if works wait and nobody
counts as running, always (6.1) or only if its own pool is unbound (3.10).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import dump_stack
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.sched import TASK_IDLE, TASK_INTERRUPTIBLE, task_runtime_ns
from nodes.cpu.kernel.workqueue.events import (
    trace_workqueue_execute_end,
    trace_workqueue_execute_start,
)
from nodes.cpu.kernel.workqueue.flushtip import tell_flushed
from nodes.cpu.kernel.workqueue.hotplug import work_done_elsewhere
from nodes.cpu.kernel.workqueue.lockmap import (
    lock_map_acquire,
    lock_map_release,
    work_map,
    workqueue_map,
)
from nodes.cpu.kernel.workqueue.manage import (
    manage_workers,
    worker_detach,
    worker_enter_idle,
    worker_leave_idle,
)
from nodes.cpu.kernel.workqueue.pool import (
    find_worker_executing_work,
    get_work_pwq,
    keep_working,
    may_start_working,
    move_linked_works,
    need_more_worker,
    need_to_manage_workers,
    pwq_dec_nr_in_flight,
    wake_up_worker,
)
from nodes.cpu.kernel.workqueue.rows import NO_ROW
from nodes.cpu.kernel.workqueue.work import (
    WORK_STRUCT_LINKED,
    Work,
    clear_work_running,
    get_work_color,
    not_known,
    set_work_pool_and_clear_pending,
    set_work_running,
    work_data,
)
from nodes.cpu.kernel.workqueue.worker import (
    WORKER_CPU_INTENSIVE,
    WORKER_DIE,
    WORKER_PREP,
    WORKER_REBOUND,
    WORKER_UNBOUND,
    Worker,
    worker_clr_flags,
    worker_set_flags,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def worker_thread(cpu: Cpu, worker: Worker) -> Context:
    """A kworker of the pool that is hosted here."""
    pool = worker.pool
    managed = cpu.params.idle_workers_end == "managed"
    idle_state = TASK_IDLE if cpu.params.kworker_idle == "idle" else TASK_INTERRUPTIBLE
    while not worker.flags & WORKER_DIE:
        worker_leave_idle(worker)
        cpu.wq.rows.pool(pool)
        while True:
            if need_more_worker(pool):
                if not may_start_working(pool) and (yield from manage_workers(cpu, worker)):
                    continue
                worker_clr_flags(worker, WORKER_PREP | WORKER_REBOUND)
                while True:
                    yield from _next_work(cpu, worker)
                    if not keep_working(pool):
                        break
                worker_set_flags(cpu, worker, WORKER_PREP)
            if not (managed and need_to_manage_workers(pool)):
                break
            if not (yield from manage_workers(cpu, worker)):
                break
        if worker.flags & WORKER_DIE:
            break
        worker_enter_idle(cpu, worker)
        cpu.wq.rows.pool(pool)
        cpu.current.state = idle_state
        yield SCHEDULE
    worker_detach(worker)


def _next_work(cpu: Cpu, worker: Worker) -> Context:
    pool = worker.pool
    pool.watchdog_ts = cpu.jiffies()
    if work_data(cpu, pool.worklist[0]) & WORK_STRUCT_LINKED:
        move_linked_works(cpu, pool.worklist, worker.scheduled)
    else:
        yield from process_one_work(cpu, worker, pool.worklist)
    if worker.scheduled:
        yield from process_scheduled_works(cpu, worker)


def process_scheduled_works(cpu: Cpu, worker: Worker) -> Context:
    while worker.scheduled:
        yield from process_one_work(cpu, worker, worker.scheduled)


def process_one_work(cpu: Cpu, worker: Worker, source: deque[Work]) -> Context:
    """Run the first work of ``source``, unless it runs in this pool already."""
    pool = worker.pool
    work = source[0]
    collision = find_worker_executing_work(pool, work)
    if collision is not None:
        move_linked_works(cpu, source, collision.scheduled)
        cpu.wq.rows.pool(pool)
        return
    if work.function is not_known:
        move_linked_works(cpu, source, pool.unknown)
        return
    pwq = get_work_pwq(cpu, work)
    wq, data = pwq.wq, work_data(cpu, work)
    pool.busy_hash.setdefault(work.number, []).append(worker)
    worker.current_work, worker.current_func, worker.current_pwq = work, work.function, pwq
    worker.current_color = get_work_color(data)
    worker.desc = wq.name
    source.popleft()
    if wq.cpu_intensive:
        worker_set_flags(cpu, worker, WORKER_CPU_INTENSIVE, wakeup=True)
    if need_more_worker(pool) and (
        cpu.params.wake_next_worker == "always" or worker.flags & WORKER_UNBOUND
    ):
        wake_up_worker(cpu, pool)
    began = task_runtime_ns(cpu, cpu.current)
    set_work_running(cpu, work, wq.id, pool.id)
    set_work_pool_and_clear_pending(cpu, work, pool.id)
    yield from _execute(cpu, worker, work, began)
    if wq.cpu_intensive:
        worker_clr_flags(worker, WORKER_CPU_INTENSIVE)
    cpu.wq.rows.end(pool.id, worker.row)
    worker.row = NO_ROW
    if pool.moved:
        clear_work_running(cpu, work, wq.id, pool.id)
        cpu_time_ns = task_runtime_ns(cpu, cpu.current) - began
        yield from work_done_elsewhere(cpu, worker, work, data, cpu_time_ns)
        worker.current_work = worker.current_func = worker.current_pwq = None
        return
    assert worker.current_pwq is not None
    pwq = worker.current_pwq  # the pool may have been away meanwhile
    busy = pool.busy_hash[work.number]
    busy.remove(worker)
    if not busy:
        del pool.busy_hash[work.number]
    worker.current_work = worker.current_func = worker.current_pwq = None
    clear_work_running(cpu, work, wq.id, pool.id)
    pwq_dec_nr_in_flight(cpu, pwq, data)
    if cpu.wq.flushed:
        yield from tell_flushed(cpu)


def _execute(cpu: Cpu, worker: Worker, work: Work, began: int) -> Context:
    """Outside the lock: the function, the tracepoints, the figures."""
    task = cpu.current
    assert worker.current_pwq is not None
    worker.current_pwq.stats.started += 1
    worker.current_at, worker.hog = began, False
    worker.current_since = cpu.now()
    cpu.wq.rows.pool(worker.pool)
    worker.row = cpu.wq.rows.begin(worker.pool.id, task, work, worker.desc, worker.flags)
    trace_workqueue_execute_start(cpu, work)
    if cpu.lockdep is None:
        yield from work.function(cpu)
    else:
        maps = workqueue_map(cpu, worker.current_pwq.wq), work_map(cpu, work)
        for lock in maps:
            lock_map_acquire(cpu, lock)
        yield from work.function(cpu)
        for lock in reversed(maps):
            lock_map_release(cpu, lock)
    trace_workqueue_execute_end(cpu, work)
    ran_ns = task_runtime_ns(cpu, task) - began
    worker.wq_worker_tick()
    if not worker.pool.moved:
        stats = worker.current_pwq.stats
        stats.completed += 1
        stats.cpu_time_ns += ran_ns
    depth = len(cpu.lockdep.held()) if cpu.lockdep is not None else 0
    if cpu.in_atomic() or depth:
        _leaked(cpu, work, depth)
    if cpu.need_resched:
        yield SCHEDULE


def _leaked(cpu: Cpu, work: Work, depth: int) -> None:
    task = cpu.current
    where = f"{task.comm}/{cpu.preempt_count:#010x}/{task.pid}"
    printk(cpu, f"BUG: workqueue leaked lock or atomic: {where}", KERN_ERR)
    printk(cpu, f"     last function: {work.name}", KERN_ERR)
    dump_stack(cpu, KERN_ERR)
