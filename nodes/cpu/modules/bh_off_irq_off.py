"""What ``local_bh_disable`` and ``local_irq_disable`` hold off, measured.

Four times the module keeps its CPU busy for ``hold_ms``: plainly, with bottom halves off, with
interrupts off, and with preemption off. At the beginning of each an hrtimer is set for 1 ms later,
which is a hard interrupt that schedules a tasklet; a timer of the wheel and a work are queued too.
What did not happen before the end was held off::

    bh_off_irq_off: none=work bh=tasklet,timer,work irq=hardirq,tasklet,timer,work preempt=work

The work waits in every case: the module does not give the CPU away. That is not bottom halves'
doing: a work is a task and could run on any other CPU.
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
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable
from nodes.cpu.kernel.tasklet import tasklet_init, tasklet_schedule
from nodes.cpu.kernel.timer import msleep, timer_setup
from nodes.cpu.kernel.workqueue import Work
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "bh_off_irq_off"
EVENTS = ("hardirq", "tasklet", "timer", "work")


class Watch:
    """What has happened since the last ``arm``, and after which time."""

    def __init__(self, cpu: Cpu) -> None:
        self.at_ns: dict[str, int] = {}
        self.tasklet = tasklet_init(cpu, self.note("tasklet"), name=NAME)
        self.hrtimer = HrTimer(self.interrupt, NAME)
        self.timer = timer_setup(cpu, self.note("timer"), name=NAME)
        self.work = Work(words.MODULE_WORK + cpu.number, NAME, self.work_fn)

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

    def arm(self, cpu: Cpu) -> None:
        self.at_ns.clear()
        cpu.timers.hrtimer_start(self.hrtimer, cpu.now() + 1_000_000)
        cpu.timers.mod_timer(self.timer, cpu.jiffies() + 1)
        cpu.wq.queue_work(self.work)

    def all_done(self) -> bool:
        return len(self.at_ns) == len(EVENTS)


@module(NAME, params={"hold_ms": (30, "how long each of the four keeps the CPU")})
def init(cpu: Cpu, params: Values) -> Context:
    """Hold the CPU in four ways."""
    watch, hold_ms = Watch(cpu), params["hold_ms"]
    held: dict[str, str] = {}
    for way in ("none", "bh", "irq", "preempt"):
        watch.arm(cpu)
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
        while not watch.all_done():
            yield from msleep(cpu, 1)
        late = [name for name in EVENTS if watch.at_ns[name] >= ended]
        held[way] = ",".join(late) or "nothing"
        times = ", ".join(f"{name} {(watch.at_ns[name] - began) / 1e6:.1f} ms" for name in EVENTS)
        printk(cpu, f"{NAME}: {way} off for {hold_ms} ms: {times}")
    report(cpu, NAME, **held)
    return 0
