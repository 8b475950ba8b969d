"""What a CPU has in hand when it goes offline, and where each of it ends up.

Loaded on a CPU (``taskset -c 1 insmod cpu_offline``), the module leaves there

* a timer and a delayed work, both due after ``ms``;
* four works on a workqueue that runs one at a time: the first sleeps for ``hold_ms``, so that it is
  in hand when the CPU goes, the others wait behind it;
* a tasklet that schedules itself again and again until it finds itself on another CPU. The first
  work schedules it when it ends (or it would spin all the time), and it gives up after ``spin_ms``.

Each says in the log where it ran, whoever's CPU that is then, and how many jiffies before or after
its time; so ``early`` and ``late``::

    cpu_offline: tasklet_cpu=0 tasklet_ran=41
    cpu_offline: timer_cpu=0 timer_early=0 timer_late=0
    cpu_offline: work_cpu=0 work_worker=kworker/1:1 work_early=0

``rmmod``, which needs the CPU back, queues the delayed work there once more, without a delay
(``back_cpu``, ``back_worker``), and says how many of the four works ran and which of them elsewhere
(``works=4 moved=w1,w2,w3``).
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.jiffies import msecs_to_jiffies, signed_difference
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.tasklet import tasklet_init, tasklet_kill, tasklet_schedule
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.timer_shared import del_timer_sync, mod_timer, shared_timer_setup
from nodes.cpu.kernel.workqueue import (
    INIT_DELAYED_WORK,
    INIT_WORK,
    Workqueue,
    alloc_workqueue,
    cancel_delayed_work_sync,
    destroy_workqueue,
    flush_delayed_work,
    flush_work,
    queue_delayed_work_on,
    queue_work_on,
)
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "cpu_offline"
WORKS = 4
TIMER, TASKLET = 30, 42  # known to every CPU
WORK, DELAYED = words.CPU_OFFLINE_WORK, words.CPU_OFFLINE_WORK + WORKS
#: Atomic words: the CPU that has it all; jiffies when timer and work are due; how often the tasklet
#: ran; works that ran, and bit n: work n did so elsewhere; the CPU is back.
HOME, DUE, RUNS, DONE, MOVED, BACK = range(words.LAB_MODULES + 10, words.LAB_MODULES + 16)
#: How long the works behind the first take.
SHORT_MS = 1
MS = 1_000_000


class Left:
    """One CPU's view of what the module left behind."""

    def __init__(self, cpu: Cpu, params: Values) -> None:
        self.params = params
        self.timer = shared_timer_setup(cpu, self.lab_timer, TIMER, name="lab_timer")
        self.tasklet = tasklet_init(cpu, self.lab_tasklet, TASKLET, "lab_tasklet")
        self.dwork = INIT_DELAYED_WORK(cpu, DELAYED, "lab_work", self.lab_work)
        self.works = [
            INIT_WORK(cpu, WORK + n, f"lab_w{n}", lambda cpu, n=n: self.lab_w(cpu, n))  # type: ignore[misc]
            for n in range(WORKS)
        ]
        self.queue: Workqueue | None = None
        self.began_ns = 0  # when the tasklet was scheduled

    def lab_timer(self, cpu: Cpu) -> None:
        off = signed_difference(cpu.jiffies(), cpu.ram.atomics.load(DUE))
        early, late = max(0, -off), max(0, off)
        report(cpu, NAME, timer_cpu=cpu.number, timer_early=early, timer_late=late)

    def lab_tasklet(self, cpu: Cpu) -> None:
        """Again, until it is somewhere else."""
        atomics = cpu.ram.atomics
        atomics.add(RUNS, 1)
        if cpu.number == atomics.load(HOME) and cpu.now() - self.began_ns < self.spin_ns:
            tasklet_schedule(cpu, self.tasklet)
        else:
            report(cpu, NAME, tasklet_cpu=cpu.number, tasklet_ran=atomics.load(RUNS))

    @property
    def spin_ns(self) -> int:
        spin_ms: int = self.params["spin_ms"]
        return spin_ms * MS

    def lab_work(self, cpu: Cpu) -> Context:
        """The delayed one."""
        yield
        worker = cpu.current.comm
        if cpu.ram.atomics.load(BACK):
            report(cpu, NAME, back_cpu=cpu.number, back_worker=worker)
            return
        early = max(0, -signed_difference(cpu.jiffies(), cpu.ram.atomics.load(DUE)))
        report(cpu, NAME, work_cpu=cpu.number, work_worker=worker, work_early=early)

    def lab_w(self, cpu: Cpu, number: int) -> Context:
        """One of four; the first is long."""
        atomics = cpu.ram.atomics
        printk(cpu, f"{NAME}: w{number} on CPU {cpu.number}, in {cpu.current.comm}")
        if cpu.number != atomics.load(HOME):
            atomics.add(MOVED, 1 << number)
        yield from msleep(cpu, SHORT_MS if number else self.params["hold_ms"])
        if not number:
            self.began_ns = cpu.now()
            tasklet_schedule(cpu, self.tasklet)
        atomics.add(DONE, 1)


def on_each_cpu(cpu: Cpu, params: Values) -> None:
    """Timer, tasklet and works may run anywhere."""
    cpu.module_data[NAME] = Left(cpu, params)


def leave(cpu: Cpu) -> Context:
    """Once more on the CPU that is back; then nothing is left anywhere."""
    left: Left = cpu.module_data[NAME]
    yield from cancel_delayed_work_sync(cpu, left.dwork)
    yield from del_timer_sync(cpu, left.timer)
    for work in left.works:
        yield from flush_work(cpu, work)
    yield from tasklet_kill(cpu, left.tasklet)
    atomics = cpu.ram.atomics
    atomics.store(BACK, 1)
    yield from queue_delayed_work_on(cpu, cpu.number, cpu.wq.system_wq, left.dwork, 0)
    yield from flush_delayed_work(cpu, left.dwork)
    if left.queue is not None:
        yield from destroy_workqueue(cpu, left.queue)
    moved = [f"w{n}" for n in range(WORKS) if atomics.load(MOVED) >> n & 1]
    report(cpu, NAME, works=atomics.load(DONE), moved=",".join(moved) or "none")


@module(
    NAME,
    params={
        "ms": (1500, "until the timer and the delayed work are due"),
        "hold_ms": (200, "how long the first of the four works takes"),
        "spin_ms": (500, "the tasklet gives up after so long"),
    },
    exit=leave,
    on_each_cpu=on_each_cpu,
)
def init(cpu: Cpu, params: Values) -> Context:
    """Leave a timer, a tasklet and works on this CPU, and log where they run."""
    if not all(1 <= params[key] <= 60_000 for key in ("ms", "hold_ms", "spin_ms")):
        return -EINVAL
    left: Left = cpu.module_data[NAME]
    atomics, delay = cpu.ram.atomics, msecs_to_jiffies(cpu, params["ms"])
    for word in (RUNS, DONE, MOVED, BACK):
        atomics.store(word, 0)
    atomics.store(HOME, cpu.number)
    left.queue = yield from alloc_workqueue(cpu, NAME, 0, 1)
    due = cpu.jiffies() + delay
    atomics.store(DUE, due)
    mod_timer(cpu, left.timer, due)
    yield from queue_delayed_work_on(cpu, cpu.number, cpu.wq.system_wq, left.dwork, delay)
    for work in left.works:
        yield from queue_work_on(cpu, cpu.number, left.queue, work)
    return 0
