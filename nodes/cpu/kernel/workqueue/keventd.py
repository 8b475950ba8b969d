"""keventd of 2.6.18: one thread a CPU, one work at a time, in the order of queueing.

Behind the functions of the other eras: PENDING is the same word, delayed works have the same timer.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import TASK_INTERRUPTIBLE, Task, kthread_run, wake_up_process
from nodes.cpu.kernel.workqueue.work import Work

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.alloc import Workqueue

KEVENTD_NICE = -5

#: Number of the workqueue.
_EVENTS = 1


class Keventd:
    """events/N of one CPU."""

    def __init__(self) -> None:
        self.worklist: deque[Work] = deque()
        self.task: Task | None = None
        self.running = False

    def start(self, cpu: Cpu) -> None:
        self.task = kthread_run(cpu, f"events/{cpu.number}", self._thread(cpu), KEVENTD_NICE)
        cpu.wq.rows.add(_EVENTS, cpu.number, KEVENTD_NICE, name="events")

    def create(self, cpu: Cpu, wq: Workqueue) -> None:
        """A workqueue was allocated: its works go to this thread."""

    def queue(self, cpu: Cpu, _wq: Workqueue, work: Work) -> None:
        self.worklist.append(work)
        cpu.wq.rows.thread(_EVENTS, self.worklist, idle=not self.running)
        if self.task is not None:
            wake_up_process(cpu, self.task)

    def take_off(self, cpu: Cpu, work: Work) -> int:
        """Linux of this era has nothing that takes a work off its list; here it stops a work whose
        device goes (flush_scheduled_work)."""
        if work not in self.worklist:
            return 0
        self.worklist.remove(work)
        return 1

    def _thread(self, cpu: Cpu) -> Context:
        while True:
            while self.worklist:
                yield from self._run_workqueue(cpu, self.worklist.popleft())
            cpu.wq.rows.thread(_EVENTS, self.worklist, idle=True)
            cpu.current.state = TASK_INTERRUPTIBLE
            yield SCHEDULE

    def _run_workqueue(self, cpu: Cpu, work: Work) -> Context:
        cpu.ram.atomics.release(work.number)  # PENDING is cleared before the function runs
        rows = cpu.wq.rows
        self.running = True
        rows.thread(_EVENTS, self.worklist, idle=False)
        row = rows.begin(_EVENTS, cpu.current, work, "events")
        yield from work.function(cpu)
        self.running = False
        rows.end(_EVENTS, row)
        if cpu.need_resched:
            yield SCHEDULE
