"""The workqueues before concurrency management, after kernel/workqueue.c of 2.6.18.

A workqueue has one thread a CPU (``events/0``, ``events/1``, ...) or, single-threaded, one on the
first CPU; nice -5. Its ``cpu_workqueue_struct`` counts what was ever queued (``insert_sequence``)
and what has returned (``remove_sequence``)::

    queue_work      PENDING set? no: set it; tail of *this* CPU's list, insert_sequence + 1
    run_workqueue   head off the list; PENDING cleared; function(cpu); remove_sequence + 1

So one work that sleeps holds up all behind it, there is no max_active, and a work that runs on one
CPU and is queued on another runs on both at once. A thread dies with its CPU (CPU_DEAD): what was
queued there is taken over by another, one by one.

``keventd_flush`` has flushing and cancelling. Left out: schedule_on_each_cpu,
execute_in_process_context; freezing (its threads are PF_NOFREEZE).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import dump_stack
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    Task,
    kthread_create,
    wake_up_process,
)
from nodes.cpu.kernel.workqueue.completion import (
    complete,
    init_completion,
    operation,
    send,
    wait_for_completion,
)
from nodes.cpu.kernel.workqueue.events import (
    trace_workqueue_activate_work,
    trace_workqueue_execute_end,
    trace_workqueue_execute_start,
    trace_workqueue_queue_work,
)
from nodes.cpu.kernel.workqueue.queue import QUEUE_WORK, WORK_CPU_UNBOUND
from nodes.cpu.kernel.workqueue.work import (
    WORK_STRUCT_PENDING,
    WORK_STRUCT_PWQ,
    WORK_STRUCT_PWQ_SHIFT,
    Work,
    clear_work_data,
    pwq_id,
    set_work_data,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.alloc import Workqueue

KEVENTD_NICE = -5
#: run_workqueue inside run_workqueue: more than this is complained of.
RUN_DEPTH_MAX = 3
SINGLETHREAD_CPU = 0
#: Operations (``completion``).
FLUSH_CPU_WORKQUEUE, TAKE_OVER_WORK = 1, 2


class CpuWorkqueue:
    """struct cpu_workqueue_struct: what one CPU has of a workqueue."""

    def __init__(self, wq: Workqueue, *, single: bool) -> None:
        self.wq = wq
        self.single = single
        self.insert_sequence = 0  # works ever queued here
        self.remove_sequence = 0  # and returned
        self.worklist: deque[Work] = deque()
        self.work_done: list[tuple[int, int]] = []  # (remove_sequence needed, completion)
        self.thread: Task | None = None
        self.stopper = 0  # completion of who ends the thread
        self.run_depth = 0
        self.running: list[Work] = []  # innermost last: several if the thread flushes its own queue
        self.finished: list[tuple[int, int]] = []  # (work, completion): wait_on_work


class Keventd:
    """This CPU's part of all workqueues, by number; the first one made is keventd_wq."""

    def __init__(self) -> None:
        self.cwqs: dict[int, CpuWorkqueue] = {}
        self.started = False

    def start(self, cpu: Cpu) -> None:
        """The CPU is online: a thread for each workqueue."""
        self.started = True
        for cwq in list(self.cwqs.values()):
            create_workqueue_thread(cpu, cwq)

    def create(self, cpu: Cpu, wq: Workqueue, *, single: bool) -> None:
        """A workqueue was allocated."""
        cwq = self.cwqs[wq.id] = CpuWorkqueue(wq, single=single)
        if self.started:
            create_workqueue_thread(cpu, cwq)

    def queue(self, cpu: Cpu, wq: Workqueue, work: Work) -> None:
        """__queue_work on this CPU; the caller has PENDING."""
        cwq = self.cwqs[wq.id]
        where = pwq_id(wq.id, cpu.number) << WORK_STRUCT_PWQ_SHIFT
        set_work_data(cpu, work, where | WORK_STRUCT_PWQ | WORK_STRUCT_PENDING)  # work->wq_data
        trace_workqueue_queue_work(cpu, work, wq.name, None, cpu.number)
        trace_workqueue_activate_work(cpu, work)
        cwq.worklist.append(work)
        cwq.insert_sequence += 1
        cpu.wq.rows.thread(wq.id, cwq.worklist, idle=not cwq.running)
        if cwq.thread is not None:
            wake_up_process(cpu, cwq.thread)

    @property
    def worklist(self) -> deque[Work]:
        """That of events/N."""
        return next(iter(self.cwqs.values())).worklist

    @property
    def task(self) -> Task | None:
        """events/N."""
        return next(iter(self.cwqs.values())).thread

    def current_work(self, task: Task) -> Work | None:
        """The work that the task runs."""
        for cwq in self.cwqs.values():
            if cwq.thread is task and cwq.running:
                return cwq.running[-1]
        return None


def create_workqueue_thread(cpu: Cpu, cwq: CpuWorkqueue) -> None:
    """NAME/N, or NAME on the first CPU."""
    if cwq.thread is not None or (cwq.single and cpu.number != SINGLETHREAD_CPU):
        return
    name = cwq.wq.name if cwq.single else f"{cwq.wq.name}/{cpu.number}"
    cwq.thread = kthread_create(cpu, name, _worker_thread(cpu, cwq), KEVENTD_NICE)
    cpu.wq.rows.add(cwq.wq.id, cpu.number, KEVENTD_NICE, name=cwq.wq.name)
    wake_up_process(cpu, cwq.thread)


def _worker_thread(cpu: Cpu, cwq: CpuWorkqueue) -> Context:
    task = cpu.current
    while not task.should_stop:
        if cwq.worklist:
            yield from run_workqueue(cpu, cwq)
        cpu.wq.rows.thread(cwq.wq.id, cwq.worklist, idle=True)
        task.state = TASK_INTERRUPTIBLE
        if not cwq.worklist and not task.should_stop:
            yield SCHEDULE
        task.state = TASK_RUNNING
    cwq.thread = None
    cpu.wq.rows.remove(cwq.wq.id)
    yield from complete(cpu, cwq.stopper)


def run_workqueue(cpu: Cpu, cwq: CpuWorkqueue) -> Context:
    """Run all that is queued here."""
    cwq.run_depth += 1
    if cwq.run_depth > RUN_DEPTH_MAX:
        printk(cpu, f"run_workqueue: recursion depth exceeded: {cwq.run_depth}")
        dump_stack(cpu)
    while cwq.worklist:
        work = cwq.worklist.popleft()
        cwq.running.append(work)
        clear_work_data(cpu, work)  # PENDING is cleared before the function runs
        yield from _execute(cpu, cwq, work)
        cwq.running.remove(work)
        cwq.remove_sequence += 1
        if cwq.finished and work not in cwq.running:
            yield from _wake_up_finished(cpu, cwq, work.number)
        if cwq.work_done:
            yield from wake_up_done(cpu, cwq)
        yield SCHEDULE if cpu.need_resched else None
    cwq.run_depth -= 1


def _execute(cpu: Cpu, cwq: CpuWorkqueue, work: Work) -> Context:
    rows, number = cpu.wq.rows, cwq.wq.id
    rows.thread(number, cwq.worklist, idle=False)
    row = rows.begin(number, cpu.current, work, cwq.wq.name)
    trace_workqueue_execute_start(cpu, work)
    yield from work.function(cpu)
    trace_workqueue_execute_end(cpu, work)
    rows.end(number, row)


def wake_up_done(cpu: Cpu, cwq: CpuWorkqueue) -> Context:
    """wake_up(&cwq->work_done)."""
    ready = [key for needed, key in cwq.work_done if needed <= cwq.remove_sequence]
    cwq.work_done = [row for row in cwq.work_done if row[0] > cwq.remove_sequence]
    for key in ready:
        yield from complete(cpu, key)


def _wake_up_finished(cpu: Cpu, cwq: CpuWorkqueue, number: int) -> Context:
    """Who waits for this work alone."""
    ready = [key for work, key in cwq.finished if work == number]
    cwq.finished = [row for row in cwq.finished if row[0] != number]
    for key in ready:
        yield from complete(cpu, key, 1)


# -- CPU_DEAD


def keventd_offline(cpu: Cpu, adopter: int) -> Context:
    """On the CPU that goes, in a task: end its threads (the work that runs is waited for), and hand
    over what is queued, in order, and who waits for it."""
    assert cpu.wq.keventd is not None
    for cwq in list(cpu.wq.keventd.cwqs.values()):
        yield from cleanup_workqueue_thread(cpu, cwq)
        while cwq.worklist:
            work = cwq.worklist.popleft()
            yield from send(cpu, adopter, TAKE_OVER_WORK, 0, cwq.wq.id, work.number, cpu.number)
        for _, key in cwq.work_done:
            yield from send(cpu, adopter, FLUSH_CPU_WORKQUEUE, key, cwq.wq.id)
        cwq.work_done.clear()
        cwq.insert_sequence = cwq.remove_sequence
    cpu.wq.keventd.started = False


def cleanup_workqueue_thread(cpu: Cpu, cwq: CpuWorkqueue) -> Context:
    """kthread_stop: the thread ends before its next work."""
    if cwq.thread is not None:
        completion = init_completion(cpu)
        end_workqueue_thread(cpu, cwq, completion.key)
        yield from wait_for_completion(cpu, completion)


def end_workqueue_thread(cpu: Cpu, cwq: CpuWorkqueue, key: int) -> None:
    """As above; the completion is somebody else's."""
    assert cwq.thread is not None
    cwq.stopper = key
    cwq.thread.should_stop = True
    wake_up_process(cpu, cwq.thread)


def keventd_place(number: int) -> int:
    """The pool by which records name that CPU's threads."""
    return 2 * number


@operation(TAKE_OVER_WORK)
def _take_over_work(cpu: Cpu, _key: int, wq: int, number: int, origin: int) -> int | None:
    assert cpu.wq.keventd is not None
    work = cpu.wq.works.get(number)
    if work is None:  # only the dead CPU knows what it is: it waits here until that is back
        cpu.wq.park([QUEUE_WORK, number, wq, WORK_CPU_UNBOUND, keventd_place(origin), 0])
        return None
    printk(cpu, f"Taking work for {cpu.wq.workqueues[wq].name}")
    cpu.wq.keventd.queue(cpu, cpu.wq.workqueues[wq], work)
    return None
