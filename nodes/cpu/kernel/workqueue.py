"""Workqueues of one CPU: the concurrency-managed pool (kernel/workqueue.c) or keventd (2.6.18).

*cmwq*: works wait on the pool's worklist; a worker is woken when none is running, a busy pool keeps
an idle worker in reserve, and a worker that blocks in a work lets the next one start
(``nr_running`` moves only in ``waking_up``, ``sleeping`` and around the PREP flag). *keventd*: one
thread, one work at a time. PENDING is an atomic word in RAM: a work is queued once, from any CPU.
Flushing, cancelling, max_active, unbound pools and rescuers come with the workqueue issue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import (
    TASK_IDLE,
    TASK_INTERRUPTIBLE,
    Task,
    kthread_create,
    kthread_run,
    wake_up_process,
)
from nodes.cpu.kernel.timer import TIMER_IRQSAFE, Timer, timer_setup
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

KEVENTD_NICE = -5

_WORKERS = CPU_SCHEMA.index("wq_workers")
_IDLE = CPU_SCHEMA.index("wq_idle")
_RUNNING = CPU_SCHEMA.index("wq_running")
_WORKLIST = CPU_SCHEMA.index("wq_worklist")
_DELAYED = CPU_SCHEMA.index("wq_delayed")
_EXECUTED = CPU_SCHEMA.index("wq_executed")
_LAST_NS = CPU_SCHEMA.index("wq_last_ns")
_START = TRACEPOINTS["workqueue_execute_start"].number
_END = TRACEPOINTS["workqueue_execute_end"].number
_QUEUE = TRACEPOINTS["workqueue_queue_work"].number
_ACTIVATE = TRACEPOINTS["workqueue_activate_work"].number
_EVENTS = 1 << _START | 1 << _END | 1 << _QUEUE | 1 << _ACTIVATE


class Work:
    """struct work_struct (and delayed_work): ``function(cpu)`` is a context in a kworker."""

    def __init__(self, number: int, name: str, function: Callable[[Cpu], Context]) -> None:
        self.number = number  # its PENDING bit is this atomic word (words.WORK)
        self.name = name
        self.function = function
        self.timer: Timer | None = None


class Worker:
    """struct worker: a task and whether it counts as running."""

    def __init__(self, pool: Workqueues) -> None:
        self._pool = pool
        self.task: Task | None = None
        self.prep = True  # WORKER_PREP: not counted in nr_running
        self.idle = False

    def waking_up(self) -> None:
        """wq_worker_waking_up, called by the scheduler."""
        if not self.prep:
            self._pool.nr_running += 1

    def sleeping(self) -> None:
        """wq_worker_sleeping: blocked inside a work; somebody else may go on."""
        if self.prep:
            return
        pool = self._pool
        pool.nr_running -= 1
        if pool.nr_running == 0 and pool.worklist:
            pool.wake_up_worker()


class Workqueues:
    """The worker pool of one CPU and the works it knows."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self.worklist: deque[Work] = deque()
        self.idle_list: list[Worker] = []  # most recently idle last
        self.workers = 0
        self.nr_running = 0
        self.delayed = 0
        self._next_id = 0
        self._keventd: Task | None = None

    def start(self) -> None:
        """Create the first worker (cmwq) or events/N (keventd)."""
        if self._cpu.params.workqueue == "keventd":
            self._keventd = kthread_run(
                self._cpu, f"events/{self._cpu.number}", self._keventd_thread(), KEVENTD_NICE
            )
        else:
            self._create_worker()

    # -- queueing

    def queue_work(self, work: Work) -> bool:
        """Queue on this CPU; False if it was pending already."""
        if self._cpu.ram.atomics.test_and_set(work.number):
            return False
        self._insert(work)
        return True

    def queue_delayed_work(self, work: Work, delay_jiffies: int) -> bool:
        """Queue after ``delay_jiffies``; False if it was pending already."""
        if self._cpu.ram.atomics.test_and_set(work.number):
            return False
        if delay_jiffies == 0:
            self._insert(work)
            return True
        self.delayed += 1
        flags = TIMER_IRQSAFE if self._keventd is None else 0
        work.timer = timer_setup(
            self._cpu, lambda cpu: self._delayed_work_timer(work), flags, "delayed_work_timer_fn"
        )
        self._cpu.timers.mod_timer(work.timer, self._cpu.jiffies() + delay_jiffies)
        return True

    def cancel_delayed_work(self, work: Work) -> bool:
        """Stop its timer or take it off the list; True if it was pending."""
        if work.timer is not None and self._cpu.timers.del_timer(work.timer):
            self.delayed -= 1
        elif work in self.worklist:
            self.worklist.remove(work)
        else:
            return False
        self._cpu.ram.atomics.release(work.number)
        return True

    def _delayed_work_timer(self, work: Work) -> None:
        self.delayed -= 1
        self._insert(work)

    def _insert(self, work: Work) -> None:
        cpu = self._cpu
        if cpu.trace_mask & _EVENTS:
            cpu.trace(_QUEUE, work.number, cpu.symbol(work.name))
            cpu.trace(_ACTIVATE, work.number)
        self.worklist.append(work)
        if self._keventd is not None:
            wake_up_process(self._cpu, self._keventd)
        elif self.nr_running == 0:
            self.wake_up_worker()

    # -- cmwq

    def wake_up_worker(self) -> None:
        """Wake the most recently idle worker."""
        if self.idle_list:
            task = self.idle_list[-1].task
            assert task is not None
            wake_up_process(self._cpu, task)

    def _create_worker(self) -> None:
        worker = Worker(self)
        name = f"kworker/{self._cpu.number}:{self._next_id}"
        self._next_id += 1
        worker.task = kthread_create(self._cpu, name, self._worker_thread(worker))
        worker.task.worker = worker
        self.workers += 1
        self._enter_idle(worker)
        wake_up_process(self._cpu, worker.task)

    def _enter_idle(self, worker: Worker) -> None:
        worker.idle = True
        self.idle_list.append(worker)

    def _worker_thread(self, worker: Worker) -> Context:
        cpu = self._cpu
        while True:
            if worker.idle:
                worker.idle = False
                self.idle_list.remove(worker)
            while self.worklist and self.nr_running == 0:
                if not self.idle_list:
                    self._create_worker()  # manage_workers: keep one in reserve
                worker.prep = False
                self.nr_running += 1
                while True:
                    yield from self._process_one_work(self.worklist.popleft())
                    if not self.worklist or self.nr_running > 1:
                        break
                worker.prep = True
                self.nr_running -= 1
            self._enter_idle(worker)
            self.show()
            cpu.current.state = TASK_IDLE
            yield SCHEDULE

    def _process_one_work(self, work: Work) -> Context:
        cpu = self._cpu
        cpu.ram.atomics.release(work.number)  # PENDING is cleared before the function runs
        work.timer = None
        cpu.words[_LAST_NS] = cpu.now()
        cpu.page.set_text("wq_last_work", work.name)
        self.show()
        if cpu.trace_mask & _EVENTS:
            cpu.trace(_START, work.number, cpu.symbol(work.name))
        yield from work.function(cpu)
        if cpu.trace_mask & _EVENTS:
            cpu.trace(_END, work.number, cpu.symbol(work.name))
        cpu.words[_EXECUTED] += 1
        if cpu.need_resched:
            yield SCHEDULE

    # -- keventd

    def _keventd_thread(self) -> Context:
        cpu = self._cpu
        while True:
            while self.worklist:
                yield from self._process_one_work(self.worklist.popleft())
            cpu.current.state = TASK_INTERRUPTIBLE
            yield SCHEDULE

    def show(self) -> None:
        """Write the pool's state into the page."""
        words = self._cpu.words
        words[_WORKERS] = self.workers
        words[_IDLE] = len(self.idle_list)
        words[_RUNNING] = max(self.nr_running, 0)
        words[_WORKLIST] = len(self.worklist)
        words[_DELAYED] = self.delayed
