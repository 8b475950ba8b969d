"""struct worker_pool and struct pool_workqueue, and the questions asked of them.

A pool is known by its number, which every CPU computes: 2 for each CPU (normal and highpri), then 2
unbound ones for each CPU, because a CPU is a NUMA node of its own here. Its state is with the CPU
that hosts it (``host_of``): its own, or while that is offline the one that adopted it. Being on
that CPU between two instruction boundaries is holding pool->lock.

Left out: attrs other than nice; refcounts of pools (they live as long as the machine).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel import words
from nodes.cpu.kernel.sched import wake_up_process
from nodes.cpu.kernel.workqueue.events import trace_workqueue_activate_work
from nodes.cpu.kernel.workqueue.work import (
    WORK_STRUCT_INACTIVE,
    WORK_STRUCT_LINKED,
    Work,
    get_work_color,
    get_work_pool_id,
    get_work_wq_id,
    pwq_id,
    set_work_data,
    work_data,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.timer import Timer
    from nodes.cpu.kernel.workqueue.alloc import Workqueue
    from nodes.cpu.kernel.workqueue.worker import Worker

POOL_MANAGE_WORKERS = POOL_MANAGER_ACTIVE = 1 << 0  # 3.10, 6.1
POOL_DISASSOCIATED = 1 << 2
POOL_FREEZING = 1 << 3  # 3.10

#: too_many_workers: 1/4 of the busy may be idle, and 2 more.
MAX_IDLE_WORKERS_RATIO = 4
HIGHPRI_NICE_LEVEL = -20
WORK_NR_COLORS_MAX = 16


class PoolStats:
    """Of one pool_workqueue: what wq_monitor prints."""

    __slots__ = (
        "cm_wakeup", "completed", "cpu_intensive", "cpu_time_ns", "mayday", "repatriated",
        "rescued", "started",
    )  # fmt: skip

    def __init__(self) -> None:
        self.started = self.completed = self.cpu_time_ns = 0
        self.cpu_intensive = 0  # runs that kept the CPU for 10 ms and more
        self.cm_wakeup = 0  # a work slept, and another worker was woken for that
        self.repatriated = 0  # workers brought back to the pool's CPUs
        self.mayday = self.rescued = 0


class PoolWorkqueue:
    """struct pool_workqueue: a workqueue's part in one pool."""

    __slots__ = (
        "flush_color", "inactive_works", "max_active", "mayday", "nr_active", "nr_in_flight",
        "pool", "refcnt", "stats", "work_color", "wq",
    )  # fmt: skip

    def __init__(self, pool: WorkerPool, wq: Workqueue) -> None:
        self.pool = pool
        self.wq = wq
        self.work_color = wq.work_color
        self.flush_color = -1
        self.refcnt = 1
        self.nr_in_flight = [0] * WORK_NR_COLORS_MAX
        self.nr_active = 0
        self.max_active = wq.saved_max_active
        self.inactive_works: deque[Work] = deque()  # until 5.15: delayed_works
        self.mayday = False  # on wq->maydays
        self.stats = PoolStats()

    @property
    def id(self) -> int:
        return pwq_id(self.wq.id, self.pool.id)


class WorkerPool:
    """struct worker_pool. The *last* of ``idle_list`` became idle last and is taken first."""

    __slots__ = (
        "busy_hash", "flags", "id", "idle_list", "idle_timer", "manager", "mayday_timer", "moved",
        "nice", "node", "nr_running", "unbound", "unknown", "watchdog_ts", "worker_ids", "workers",
        "worklist",
    )  # fmt: skip

    def __init__(self, number: int, cpus: int) -> None:
        where = pool_place(number, cpus)
        self.id = number
        self.node = where.node
        self.unbound = where.unbound
        self.nice = HIGHPRI_NICE_LEVEL if where.highpri else 0
        self.flags = POOL_DISASSOCIATED
        self.worklist: deque[Work] = deque()
        self.workers: list[Worker] = []
        self.idle_list: list[Worker] = []
        self.busy_hash: dict[int, list[Worker]] = {}  # by number of the work
        self.manager: Worker | None = None
        self.worker_ids: list[int] = []  # in use
        self.nr_running = 0
        self.moved = False  # another CPU has its state: ``hotplug``
        self.unknown: list[int] = []  # works that are due and that its host does not know
        self.watchdog_ts = 0
        self.idle_timer: Timer
        self.mayday_timer: Timer

    @property
    def nr_workers(self) -> int:
        return len(self.workers)

    @property
    def nr_idle(self) -> int:
        return len(self.idle_list)

    @property
    def cpu(self) -> int:
        """-1: unbound."""
        return -1 if self.unbound else self.node


# -- numbers


class Place(NamedTuple):
    """What a pool's number says."""

    node: int
    highpri: bool
    unbound: bool


def pool_id(node: int, *, highpri: bool, unbound: bool, cpus: int) -> int:
    return (2 * cpus if unbound else 0) + 2 * node + highpri


def pool_place(number: int, cpus: int) -> Place:
    return Place(number % (2 * cpus) // 2, bool(number & 1), number >= 2 * cpus)


def host_of(cpu: Cpu, pool: int) -> int:
    """The CPU that has the pool's state; what it says holds until the next boundary."""
    node: int = pool % (2 * cpu.machine.cpus) // 2
    adopter = cpu.ram.atomics.load(words.POOL_HOST + node)
    return adopter - 1 if adopter else node


# -- policy


def need_more_worker(pool: WorkerPool) -> bool:
    """Works wait, and nobody is running."""
    return pool.nr_running == 0 and bool(pool.worklist)


def may_start_working(pool: WorkerPool) -> bool:
    return bool(pool.idle_list)


def keep_working(pool: WorkerPool) -> bool:
    """The caller itself is the 1."""
    return pool.nr_running <= 1 and bool(pool.worklist)


def need_to_create_worker(pool: WorkerPool) -> bool:
    return need_more_worker(pool) and not pool.idle_list


def need_to_manage_workers(pool: WorkerPool) -> bool:
    """3.10."""
    return need_to_create_worker(pool) or bool(pool.flags & POOL_MANAGE_WORKERS)


def too_many_workers(cpu: Cpu, pool: WorkerPool) -> bool:
    if cpu.params.idle_workers_end == "managed" and not pool.idle_list:
        return False
    nr_idle = pool.nr_idle + (pool.manager is not None)
    nr_busy = pool.nr_workers - nr_idle
    return nr_idle > 2 and (nr_idle - 2) * MAX_IDLE_WORKERS_RATIO >= nr_busy


def wake_up_worker(cpu: Cpu, pool: WorkerPool) -> bool:
    """Wake the most recently idle worker; True if there is one."""
    if not pool.idle_list:
        return False
    task = pool.idle_list[-1].task
    assert task is not None
    wake_up_process(cpu, task)
    return True


def find_worker_executing_work(pool: WorkerPool, work: Work) -> Worker | None:
    """Same work, same function: what has another function by now is another work."""
    for worker in pool.busy_hash.get(work.number, ()):
        if worker.current_func == work.function:
            return worker
    return None


# -- works of a pool_workqueue


def get_work_pwq(cpu: Cpu, work: Work) -> PoolWorkqueue:
    """Of a queued work whose pool is hosted here."""
    data = work_data(cpu, work)
    return cpu.wq.workqueues[get_work_wq_id(data)].pwqs[get_work_pool_id(data)]


def move_linked_works(cpu: Cpu, source: deque[Work], target: deque[Work], at: int = 0) -> None:
    """The work at ``at`` and those that it is LINKED to (barriers), to the end of ``target``."""
    while True:
        work = source[at]
        del source[at]
        target.append(work)
        if not work_data(cpu, work) & WORK_STRUCT_LINKED:
            return


def pwq_activate_inactive_work(cpu: Cpu, pwq: PoolWorkqueue, work: Work) -> None:
    """To the worklist, with its barriers."""
    trace_workqueue_activate_work(cpu, work)
    pool = pwq.pool
    if not pool.worklist:
        pool.watchdog_ts = cpu.jiffies()
    at = 0 if pwq.inactive_works[0] is work else pwq.inactive_works.index(work)
    move_linked_works(cpu, pwq.inactive_works, pool.worklist, at)
    set_work_data(cpu, work, work_data(cpu, work) & ~WORK_STRUCT_INACTIVE)
    pwq.nr_active += 1
    cpu.wq.rows.inactive(pool.id, -1)
    cpu.wq.rows.pool(pool)


def pwq_activate_first_inactive(cpu: Cpu, pwq: PoolWorkqueue) -> None:
    pwq_activate_inactive_work(cpu, pwq, pwq.inactive_works[0])


def pwq_dec_nr_in_flight(cpu: Cpu, pwq: PoolWorkqueue, data: int) -> None:
    """A work is done, or taken off: make room for an inactive one, and tell who flushes."""
    color = get_work_color(data)
    if color == cpu.params.work_no_color:
        pwq.refcnt -= 1
        return
    if not data & WORK_STRUCT_INACTIVE:
        pwq.nr_active -= 1
        if pwq.inactive_works and pwq.nr_active < pwq.max_active:
            pwq_activate_first_inactive(cpu, pwq)
    pwq.nr_in_flight[color] -= 1
    pwq.refcnt -= 1
    if pwq.flush_color == color and not pwq.nr_in_flight[color]:
        pwq.flush_color = -1
        cpu.wq.flushed.append(pwq.wq.id)  # flusher.tell_flushed
