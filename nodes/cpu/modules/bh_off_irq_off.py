"""What ``local_bh_disable`` and ``local_irq_disable`` hold off, measured.

Four times the module keeps its CPU busy for ``hold_ms``: plainly, with bottom halves off, with
interrupts off, and with preemption off. At the beginning of each an hrtimer is set for 1 ms later,
which is a hard interrupt that schedules a tasklet; a timer of the wheel and a work are queued too.
Another CPU, if there is one, does the same with a tasklet of its own. What did not happen before
the end was held off::

    bh_off_irq_off: none=work bh=tasklet,timer,work irq=hardirq,tasklet,timer,work preempt=work

The work waits in every case: the module does not give the CPU away. That is not bottom halves'
doing: a work is a task and could run on any other CPU. The other CPU's tasklet (``elsewhere``) is
never held off, because both switches belong to one CPU: ``ran_elsewhere=4`` counts the four times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.delay import mdelay
from nodes.cpu.kernel.hrtimer import HrTimer
from nodes.cpu.kernel.irqflags import (
    local_irq_disable,
    local_irq_enable,
    preempt_disable,
    preempt_enable,
)
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable
from nodes.cpu.kernel.tasklet import tasklet_init, tasklet_schedule
from nodes.cpu.kernel.timer import msleep, timer_setup
from nodes.cpu.kernel.workqueue import INIT_WORK, schedule_work
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "bh_off_irq_off"
#: Atomic word: when the other CPU's tasklet ran; 0: not yet.
ELSEWHERE = words.LAB_MODULES + 9
#: Record (smp): set an hrtimer to ``record[1]`` whose interrupt schedules a tasklet there.
ARM_ELSEWHERE = 110
#: The tasklets here and on the other CPU, by number (below ``tasklet.SHARED``: those that a CPU
#: draws for itself never come back, and a module may be loaded any number of times).
TASKLET_HERE, TASKLET_ELSEWHERE = 59, 60
LATER_NS = 1_000_000
EVENTS = ("hardirq", "tasklet", "timer", "work")
WAYS = {"none": "busy", "bh": "bh off", "irq": "irqs off", "preempt": "preemption off"}


class Watch:
    """What has happened since the last ``arm``, and after which time."""

    def __init__(self, cpu: Cpu) -> None:
        self.at_ns: dict[str, int] = {}
        self.tasklet = tasklet_init(cpu, self.note("tasklet"), TASKLET_HERE, NAME)
        self.hrtimer = HrTimer(self.interrupt, NAME)
        self.timer = timer_setup(cpu, self.note("timer"), name=NAME)
        self.work = INIT_WORK(cpu, words.BH_OFF_IRQ_OFF_WORK + cpu.number, NAME, self.work_fn)
        self.other = next((n for n in cpu.online_cpus if n != cpu.number), None)

    def note(self, name: str) -> Callable[[Cpu], None]:
        def happened(cpu: Cpu) -> None:
            self.at_ns[name] = cpu.now()

        return happened

    def interrupt(self, cpu: Cpu) -> None:
        self.at_ns["hardirq"] = cpu.now()
        tasklet_schedule(cpu, self.tasklet)

    def work_fn(self, cpu: Cpu) -> Context:
        self.at_ns["work"] = cpu.now()
        yield

    def arm(self, cpu: Cpu) -> Context:
        self.at_ns.clear()
        cpu.ram.atomics.store(ELSEWHERE, 0)
        if self.other is not None:
            record = [ARM_ELSEWHERE, cpu.now() + LATER_NS]
            yield from call_function_single(cpu, self.other, record)
        cpu.timers.hrtimer_start(self.hrtimer, cpu.now() + LATER_NS)
        cpu.timers.mod_timer(self.timer, cpu.jiffies() + 1)
        yield from schedule_work(cpu, self.work)

    def all_done(self, cpu: Cpu) -> bool:
        ran = self.other is None or cpu.ram.atomics.load(ELSEWHERE) != 0
        return ran and len(self.at_ns) == len(EVENTS)


@remote_function(ARM_ELSEWHERE)
def _arm_elsewhere(cpu: Cpu, _source: int, record: list[int]) -> None:
    """On the other CPU, in the call-function interrupt."""

    def ran(cpu: Cpu) -> None:
        cpu.ram.atomics.store(ELSEWHERE, cpu.now())

    tasklet = tasklet_init(cpu, ran, TASKLET_ELSEWHERE, NAME)
    timer = HrTimer(lambda cpu: tasklet_schedule(cpu, tasklet), NAME)
    cpu.timers.hrtimer_start(timer, record[1])


@module(NAME, params={"hold_ms": (30, "how long each of the four keeps the CPU")})
def init(cpu: Cpu, params: Values) -> Context:
    """Keep the CPU busy with bottom halves, interrupts, preemption off."""
    watch, hold_ms = Watch(cpu), params["hold_ms"]
    held: dict[str, str] = {}
    ran_elsewhere = 0
    for way in ("none", "bh", "irq", "preempt"):
        yield from watch.arm(cpu)
        began = cpu.now()
        if way == "bh":
            local_bh_disable(cpu)
        elif way == "irq":
            local_irq_disable(cpu)
        elif way == "preempt":
            preempt_disable(cpu)
        yield from mdelay(cpu, hold_ms)
        ended = cpu.now()
        if way == "bh":
            yield from local_bh_enable(cpu)
        elif way == "irq":
            local_irq_enable(cpu)
        elif way == "preempt":
            yield from preempt_enable(cpu)
        while not watch.all_done(cpu):
            yield from msleep(cpu, 1)
        at_ns = dict(watch.at_ns)
        if watch.other is not None:
            at_ns[f"cpu{watch.other}'s tasklet"] = elsewhere = cpu.ram.atomics.load(ELSEWHERE)
            ran_elsewhere += elsewhere < ended
        late = [name for name in EVENTS if at_ns[name] >= ended]
        held[way] = ",".join(late) or "nothing"
        times = ", ".join(f"{name} {(at - began) / 1e6:.1f} ms" for name, at in at_ns.items())
        printk(cpu, f"{NAME}: {WAYS[way]} {hold_ms} ms: {times}")
    report(cpu, NAME, **held, ran_elsewhere=ran_elsewhere)
    return 0
