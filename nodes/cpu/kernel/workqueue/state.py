"""cpu.wq: the pools that a CPU hosts, the workqueues and works that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nodes.cpu.kernel.workqueue.alloc import WQ_MEM_RECLAIM, Workqueue, system_workqueues
from nodes.cpu.kernel.workqueue.completion import Completions
from nodes.cpu.kernel.workqueue.flush import Barrier
from nodes.cpu.kernel.workqueue.keventd import Keventd
from nodes.cpu.kernel.workqueue.manage import create_worker, init_worker_pool
from nodes.cpu.kernel.workqueue.pool import (
    POOL_DISASSOCIATED,
    WorkerPool,
    need_more_worker,
    pool_id,
    wake_up_worker,
)
from nodes.cpu.kernel.workqueue.queue import insert_parked
from nodes.cpu.kernel.workqueue.remote import Questions
from nodes.cpu.kernel.workqueue.rescuer import create_rescuer, send_mayday
from nodes.cpu.kernel.workqueue.rows import Rows
from nodes.cpu.kernel.workqueue.work import DelayedWork, Work
from nodes.cpu.kernel.workqueue.worker import Worker

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.sched import Task


class Workqueues:
    """What one CPU has of kernel/workqueue.c."""

    system_wq: Workqueue
    system_highpri_wq: Workqueue
    system_long_wq: Workqueue
    system_unbound_wq: Workqueue
    system_freezable_wq: Workqueue
    system_power_efficient_wq: Workqueue
    system_freezable_power_efficient_wq: Workqueue

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self.works: dict[int, Work] = {}  # by number: INIT_WORK
        self.delayed_works: dict[int, DelayedWork] = {}  # those of them with a timer
        self.workqueues: dict[int, Workqueue] = {}  # by number
        self.pools: dict[int, WorkerPool] = {}  # those that this CPU hosts
        self.away: dict[int, WorkerPool] = {}  # those that another CPU hosts now
        self.arriving: dict[int, bytearray] = {}  # state of pools, as far as it has come
        self.early_done: list[list[int]] = []  # works done elsewhere, of pools on their way here
        self.make_barrier = Barrier  # of which only the key moves with a pool
        self.keventd: Keventd | None = None
        self.questions = Questions()
        self.completions = Completions()
        self.cancel_waitq: list[tuple[int, Task]] = []  # (work, who waits to cancel it)
        self.rows = Rows(cpu)  # of the page
        self.freezing = False
        self.parked: list[list[int]] = []  # records that came too early
        #: False: no worker can be made (no memory); for tests.
        self.may_create_worker: Callable[[WorkerPool], bool] = lambda _pool: True
        #: Workqueues of which a pwq is done with the colour that is being flushed.
        self.flushed: list[int] = []
        #: What calls the rescuers of a pool without a worker.
        self.send_mayday: Callable[[Cpu, Work], None] | None = send_mayday
        self._started = False
        if cpu.params.workqueue == "keventd":
            self.keventd = Keventd()
        else:
            self._own_pools()

    def _own_pools(self) -> None:
        cpu, cpus = self._cpu, self._cpu.machine.cpus
        for unbound in (False, True):
            for highpri in (False, True):
                number = pool_id(cpu.number, highpri=highpri, unbound=unbound, cpus=cpus)
                self.pools[number] = WorkerPool(number, cpus)

    def start(self) -> None:
        """workqueue_init: this CPU is online; the first worker of each pool, or events/N."""
        cpu = self._cpu
        if self.keventd is not None:
            self.keventd.start(cpu)
            return
        for pool in self.pools.values():
            init_worker_pool(cpu, pool)
            if not pool.unbound:
                pool.flags &= ~POOL_DISASSOCIATED
            create_worker(cpu, pool)
            self.rows.add_pool(pool)
        self._started = True
        for wq in list(self.workqueues.values()):
            self.start_rescuer(wq)

    def start_rescuer(self, wq: Workqueue) -> None:
        """A WQ_MEM_RECLAIM workqueue has one on each CPU that is online."""
        needs_one = self._started and wq.flags & WQ_MEM_RECLAIM and self.keventd is None
        if needs_one and wq.rescuer is None:
            create_rescuer(self._cpu, wq)

    @property
    def pool(self) -> WorkerPool:
        """The normal pool of this CPU."""
        number = 2 * self._cpu.number
        return self.pools.get(number) or self.away[number]

    def all_workers(self, pool: WorkerPool) -> Iterator[Worker]:
        """Workers of the pool, and rescuers that work for it."""
        yield from pool.workers
        for wq in self.workqueues.values():
            rescuer = wq.rescuer
            if rescuer is None or rescuer.pool is not pool:
                continue
            if rescuer.current_work is not None or rescuer.scheduled:
                yield rescuer

    def kick(self, pool: WorkerPool) -> None:
        """Wake a worker if one is needed."""
        if need_more_worker(pool):
            wake_up_worker(self._cpu, pool)

    # -- what came too early

    def park(self, record: list[int]) -> None:
        """A work was queued that this CPU has yet to hear of, or its workqueue or pool."""
        self.parked.append(record)

    def unpark(self) -> None:
        """Something became known."""
        if self.parked:
            insert_parked(self._cpu)
        for pool in self.pools.values():
            if pool.unknown:
                due = [number for number in pool.unknown if number in self.works]
                pool.unknown = [number for number in pool.unknown if number not in due]
                pool.worklist.extendleft(self.works[number] for number in reversed(due))
                self.kick(pool)


def workqueue_init_early(cpu: Cpu) -> None:
    """cpu.wq, with the workqueues that every kernel has; works may be queued from here on."""
    cpu.wq = Workqueues(cpu)
    system_workqueues(cpu)
