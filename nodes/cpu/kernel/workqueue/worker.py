"""struct worker, its flags, and nr_running.

``nr_running`` counts the workers of a pool that are runnable and have no NOT_RUNNING flag. It is
moved by four functions, two of them called by the scheduler. Behaviour ``worker_hook``: a worker
counts again when it is woken (*waking-up*, wq_worker_waking_up) or when it is back on its CPU
(*running*, wq_worker_running, 5.3 and later). Each move is a trace record (ours: Linux has none).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.workqueue.pool import (
    PoolWorkqueue,
    WorkerPool,
    need_more_worker,
    wake_up_worker,
)
from nodes.cpu.kernel.workqueue.rows import NO_ROW
from nodes.cpu.kernel.workqueue.work import Work
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.sched import Task
    from nodes.cpu.kernel.workqueue.alloc import Workqueue

WORKER_STARTED, WORKER_DIE, WORKER_IDLE, WORKER_PREP = 1 << 0, 1 << 1, 1 << 2, 1 << 3
WORKER_CPU_INTENSIVE, WORKER_UNBOUND, WORKER_REBOUND = 1 << 6, 1 << 7, 1 << 8
WORKER_NOT_RUNNING = WORKER_PREP | WORKER_CPU_INTENSIVE | WORKER_UNBOUND | WORKER_REBOUND

#: wq.cpu_intensive_thresh_us of later kernels: who keeps the CPU for longer is counted.
CPU_INTENSIVE_NS = 10_000_000


_NR_RUNNING = TRACEPOINTS["worker_pool_nr_running"].number


class Worker:
    """struct worker."""

    __slots__ = (
        "current_at", "current_color", "current_func", "current_pwq", "current_since",
        "current_work", "desc", "flags", "hog", "id", "last_active", "pool", "rescue_wq", "row",
        "scheduled", "sleeping", "task",
    )  # fmt: skip

    def __init__(self, pool: WorkerPool, number: int) -> None:
        self.pool = pool
        self.id = number
        self.task: Task | None = None
        self.flags = WORKER_PREP
        self.sleeping = False
        self.scheduled: deque[Work] = deque()
        self.current_work: Work | None = None
        self.current_func: Callable[[Cpu], Context] | None = None
        self.current_pwq: PoolWorkqueue | None = None
        self.current_color = 0
        self.current_since = 0  # clock when the work began
        self.current_at = 0  # the task's run time then, or when it came back from sleep
        self.hog = False  # this run has been counted as CPU-intensive
        self.last_active = 0  # jiffies
        self.desc = ""  # name of the last workqueue it worked for
        self.rescue_wq: Workqueue | None = None
        self.row = NO_ROW  # of the page, while it runs a work

    # -- called by the scheduler

    def wq_worker_waking_up(self, cpu: Cpu) -> None:
        """3.10: the task becomes runnable."""
        if not self.flags & WORKER_NOT_RUNNING:
            if cpu.number != self.pool.cpu:
                warn_once(cpu, "kernel/workqueue.c")
            add_nr_running(self, 1)
        self._show(cpu, asleep=False)

    def wq_worker_running(self) -> None:
        """6.1: the task is back on its CPU."""
        if self.row != NO_ROW and self.task is not None:
            self._show(self.task.cpu, asleep=False)
        if not self.sleeping:
            return
        if not self.flags & WORKER_NOT_RUNNING:
            add_nr_running(self, 1)
        if self.task is not None:
            self.current_at = self.task.runtime_ns
        self.sleeping = False

    def wq_worker_sleeping(self, cpu: Cpu) -> None:
        """It blocks: somebody else may go on. (6.1 takes the lock and wakes; 3.10 returns whom the
        scheduler is to wake: the same here.)"""
        if self.flags & WORKER_NOT_RUNNING or self.sleeping:
            self._show(cpu, asleep=True)
            return
        self.sleeping = cpu.params.worker_hook == "running"
        pool = self.pool
        add_nr_running(self, -1)
        if need_more_worker(pool) and wake_up_worker(cpu, pool) and self.current_pwq is not None:
            self.current_pwq.stats.cm_wakeup += 1
        self._show(cpu, asleep=True)

    def _show(self, cpu: Cpu, *, asleep: bool) -> None:
        """To the page: does the work that it runs sleep?"""
        if self.row != NO_ROW:
            cpu.wq.rows.asleep(self.row, asleep)
            cpu.wq.rows.pool(self.pool)

    def wq_worker_tick(self) -> None:
        """Count a work that keeps its CPU; what later kernels also do about it is left out."""
        if self.hog or self.flags & WORKER_NOT_RUNNING or self.current_pwq is None:
            return
        assert self.task is not None
        if self.task.runtime_ns - self.current_at >= CPU_INTENSIVE_NS:
            self.hog = True
            self.current_pwq.stats.cpu_intensive += 1


def add_nr_running(worker: Worker, amount: int) -> None:
    """Nobody else moves it while workers are bound."""
    worker.pool.nr_running += amount
    if worker.task is not None:
        trace_nr_running(worker.task.cpu, worker.pool)


def trace_nr_running(cpu: Cpu, pool: WorkerPool) -> None:
    """It has moved."""
    if cpu.trace_mask >> _NR_RUNNING & 1:
        cpu.trace(_NR_RUNNING, pool.id | cpu.number << 32, pool.nr_running)


def worker_set_flags(cpu: Cpu, worker: Worker, flags: int, *, wakeup: bool = False) -> None:
    """Set; if it counted and does no more, nr_running falls, and ``wakeup`` looks who is next."""
    pool = worker.pool
    if flags & WORKER_NOT_RUNNING and not worker.flags & WORKER_NOT_RUNNING:
        add_nr_running(worker, -1)
        worker.flags |= flags
        if wakeup and need_more_worker(pool):
            wake_up_worker(cpu, pool)
    worker.flags |= flags


def worker_clr_flags(worker: Worker, flags: int) -> None:
    """Clear; it counts again only when the last NOT_RUNNING flag goes."""
    before = worker.flags
    worker.flags &= ~flags
    if (
        flags & WORKER_NOT_RUNNING
        and before & WORKER_NOT_RUNNING
        and not worker.flags & WORKER_NOT_RUNNING
    ):
        add_nr_running(worker, 1)


def current_wq_worker(cpu: Cpu) -> Worker | None:
    """The worker that the current task is, in task context."""
    return cpu.current.worker if cpu.in_task() else None


def current_work(cpu: Cpu) -> Work | None:
    """The work that runs in this task."""
    worker = current_wq_worker(cpu)
    return worker.current_work if worker is not None else None
