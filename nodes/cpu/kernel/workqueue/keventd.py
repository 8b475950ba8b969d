"""keventd of 2.6.18: one thread a CPU, one work at a time, in the order of queueing.

Behind the functions of the other eras: PENDING is the same word, delayed works have the same timer.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import TASK_INTERRUPTIBLE, Task, kthread_run, wake_up_process
from nodes.cpu.kernel.workqueue.work import Work
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.alloc import Workqueue

KEVENTD_NICE = -5

_EXECUTED = CPU_SCHEMA.index("wq_executed")
_LAST_NS = CPU_SCHEMA.index("wq_last_ns")


class Keventd:
    """events/N of one CPU."""

    def __init__(self) -> None:
        self.worklist: deque[Work] = deque()
        self.task: Task | None = None

    def start(self, cpu: Cpu) -> None:
        self.task = kthread_run(cpu, f"events/{cpu.number}", self._thread(cpu), KEVENTD_NICE)

    def create(self, cpu: Cpu, wq: Workqueue) -> None:
        """A workqueue was allocated: its works go to this thread."""

    def queue(self, cpu: Cpu, _wq: Workqueue, work: Work) -> None:
        self.worklist.append(work)
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
            cpu.current.state = TASK_INTERRUPTIBLE
            yield SCHEDULE

    def _run_workqueue(self, cpu: Cpu, work: Work) -> Context:
        cpu.ram.atomics.release(work.number)  # PENDING is cleared before the function runs
        cpu.words[_LAST_NS] = cpu.now()
        cpu.page.set_text("wq_last_work", work.name)
        cpu.wq.show()
        yield from work.function(cpu)
        cpu.words[_EXECUTED] += 1
        if cpu.need_resched:
            yield SCHEDULE
