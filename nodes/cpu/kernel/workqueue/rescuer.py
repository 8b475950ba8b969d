"""Rescuers: what keeps a WQ_MEM_RECLAIM workqueue going when no worker can be made.

A manager that cannot create a worker (in Linux: because memory is short, and the works that wait
are those that would free some) has a timer: after 10 ms, then every 100 ms, each work that waits
calls its workqueue's rescuer (``send_mayday``), a thread named like the workqueue, nice -20. It
takes all works of that pool_workqueue off the worklist and runs them in order. It is never counted
in nr_running (PREP is never cleared).

Behaviour ``rescuer``: it takes what waits when it comes (*once*), or comes again while the
pool_workqueue still needs it, since works that it ran may have queued or activated more (*again*).

Linux has one rescuer a workqueue, which moves to the CPU in need. Here a thread cannot move, so
there is one on each CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import (
    TASK_IDLE,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    kthread_create,
    wake_up_process,
)
from nodes.cpu.kernel.workqueue.completion import ask_each, complete, operation
from nodes.cpu.kernel.workqueue.pool import (
    PoolWorkqueue,
    get_work_pwq,
    keep_working,
    move_linked_works,
    need_more_worker,
    need_to_create_worker,
    wake_up_worker,
)
from nodes.cpu.kernel.workqueue.process import process_scheduled_works
from nodes.cpu.kernel.workqueue.work import Work
from nodes.cpu.kernel.workqueue.worker import Worker

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.alloc import Workqueue

RESCUER_NICE_LEVEL = -20
#: Operation (``completion``).
END_RESCUER = 60


def create_rescuer(cpu: Cpu, wq: Workqueue) -> None:
    """This CPU's rescuer of a workqueue."""
    worker = wq.rescuer = Worker(cpu.wq.pool, -wq.id)
    worker.rescue_wq = wq
    worker.task = kthread_create(cpu, wq.name, _rescuer_thread(cpu, wq, worker), RESCUER_NICE_LEVEL)
    worker.task.worker = worker
    wake_up_process(cpu, worker.task)


def send_mayday(cpu: Cpu, work: Work) -> None:
    """A work waits on a pool that gets no worker."""
    pwq = get_work_pwq(cpu, work)
    rescuer = pwq.wq.rescuer
    if rescuer is None or rescuer.task is None or pwq.mayday:
        return
    pwq.mayday = True
    pwq.wq.maydays.append(pwq)
    pwq.stats.mayday += 1
    wake_up_process(cpu, rescuer.task)


def _rescuer_thread(cpu: Cpu, wq: Workqueue, rescuer: Worker) -> Context:
    task = cpu.current
    idle_state = TASK_IDLE if cpu.params.kworker_idle == "idle" else TASK_INTERRUPTIBLE
    while True:
        task.state = idle_state
        should_stop = task.should_stop
        while wq.maydays:
            task.state = TASK_RUNNING
            yield from _rescue(cpu, rescuer, wq.maydays.pop(0))
        if should_stop:
            break
        yield SCHEDULE
    task.state = TASK_RUNNING
    task.worker = None
    wq.rescuer = None
    yield from complete(cpu, wq.rescuer_end)


def _rescue(cpu: Cpu, rescuer: Worker, pwq: PoolWorkqueue) -> Context:
    """Run all that the workqueue has on this pool's worklist."""
    pwq.mayday = False
    pool = rescuer.pool = pwq.pool
    at = 0
    while at < len(pool.worklist):
        if get_work_pwq(cpu, pool.worklist[at]) is pwq:
            move_linked_works(cpu, pool.worklist, rescuer.scheduled, at)
            pwq.stats.rescued += 1
        else:
            at += 1
    cpu.wq.rows.pool(pool)
    again = cpu.params.rescuer == "again"
    if rescuer.scheduled:
        yield from process_scheduled_works(cpu, rescuer)
        if again and pwq.nr_active and need_to_create_worker(pool) and not pwq.mayday:
            pwq.mayday = True
            pwq.wq.maydays.append(pwq)
    if need_more_worker(pool) if again else keep_working(pool):
        wake_up_worker(cpu, pool)


def end_rescuers(cpu: Cpu, wq: Workqueue) -> Context:
    """kthread_stop of each CPU's."""
    yield from ask_each(cpu, END_RESCUER, wq.id)


@operation(END_RESCUER)
def _end_rescuer(cpu: Cpu, key: int, number: int, _b: int, _c: int) -> int | None:
    wq = cpu.wq.workqueues.get(number)
    if wq is None or wq.rescuer is None or wq.rescuer.task is None:
        return 0
    wq.rescuer_end = key
    wq.rescuer.task.should_stop = True
    wake_up_process(cpu, wq.rescuer.task)
    return None
