"""A delayed work from its timer to its worker.

``how`` says what is tried, ``delay_ms`` with which delay; each reports times in ms after queueing:

* ``wait``: queue it and sleep until it has run. The timer's softirq puts it on the worklist
  (``delay``: jiffies asked for, ``ran``: after how many it ran);
* ``zero``: a delay of 0. There is no timer, the work is queued at once;
* ``busy``: queue it, then compute for ``compute_ms``. The softirq comes through and queues the work
  in time, but a worker is a task: it gets no CPU before this one gives it up (``late_ms``);
* ``again``: queue it twice (``second``: what the second call returned), move it to double the delay
  (``moved``), run it, queue it once more and cancel it (``cancelled``); ``runs``: how often it ran.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel import words
from nodes.cpu.kernel.delay import mdelay
from nodes.cpu.kernel.jiffies import msecs_to_jiffies
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import (
    INIT_DELAYED_WORK,
    DelayedWork,
    cancel_delayed_work_sync,
    mod_delayed_work,
    queue_delayed_work,
)
from nodes.cpu.modules import Values, module, report
from nodes.cpu.modules.wq_works import FIRST, WORKS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "delayed_work"
#: Number of the work; wq_works has those before it.
NUMBER = FIRST + words.CPUS_MAX * WORKS
MS = 1_000_000


class Trial:
    """What the module keeps on a CPU: its view of the work, and when it ran there."""

    def __init__(self, cpu: Cpu, compute_ms: int) -> None:
        self.compute_ms = compute_ms
        self.dwork: DelayedWork = INIT_DELAYED_WORK(cpu, NUMBER, "lab_work", self.lab_work)
        self.ran_ns: list[int] = []
        self.ran_jiffies: list[int] = []
        self.worker = ""
        self.began_ns = self.began_jiffies = 0

    def lab_work(self, cpu: Cpu) -> Context:
        self.ran_ns.append(cpu.now())
        self.ran_jiffies.append(cpu.jiffies())
        self.worker = cpu.current.comm
        printk(cpu, f"{NAME}: {(cpu.now() - self.began_ns) / MS:.3f} ms: {self.worker} runs it")
        yield

    def queue(self, cpu: Cpu, delay: int) -> Context:
        self.began_ns, self.began_jiffies = cpu.now(), cpu.jiffies()
        queued = yield from queue_delayed_work(cpu, cpu.wq.system_wq, self.dwork, delay)
        return int(queued)

    def until_it_ran(self, cpu: Cpu, ms: int) -> Context:
        """Sleep for about so long, and on if it has not run by then."""
        while not self.ran_ns:
            yield from msleep(cpu, ms + 10)

    def after_ms(self) -> float:
        return round((self.ran_ns[-1] - self.began_ns) / MS, 3)

    # -- what is tried

    def wait(self, cpu: Cpu, delay: int, ms: int) -> Context:
        queued = yield from self.queue(cpu, delay)
        yield from self.until_it_ran(cpu, ms)
        jiffies = self.ran_jiffies[-1] - self.began_jiffies
        return {"queued": queued, "delay": delay, "ran": jiffies, "worker": self.worker}

    def zero(self, cpu: Cpu, _delay: int, _ms: int) -> Context:
        queued = yield from self.queue(cpu, 0)
        yield from self.until_it_ran(cpu, 0)
        return {"queued": queued, "after_ms": self.after_ms()}

    def busy(self, cpu: Cpu, delay: int, ms: int) -> Context:
        yield from self.queue(cpu, delay)
        yield from mdelay(cpu, self.compute_ms)
        inside = len(self.ran_ns)
        yield from self.until_it_ran(cpu, ms)
        late = (self.ran_ns[-1] - self.began_ns) // MS - ms
        return {"ran_meanwhile": inside, "late_ms": late}

    def again(self, cpu: Cpu, delay: int, ms: int) -> Context:
        first = yield from self.queue(cpu, delay)
        second = yield from queue_delayed_work(cpu, cpu.wq.system_wq, self.dwork, delay)
        moved = yield from mod_delayed_work(cpu, cpu.wq.system_wq, self.dwork, 2 * delay)
        yield from self.until_it_ran(cpu, 2 * ms)
        jiffies = self.ran_jiffies[-1] - self.began_jiffies
        yield from self.queue(cpu, delay)
        cancelled = yield from cancel_delayed_work_sync(cpu, self.dwork)
        yield from msleep(cpu, 2 * ms)
        return {
            "first": first,
            "second": int(second),
            "moved": int(moved),
            "delay": delay,
            "ran": jiffies,
            "cancelled": int(cancelled),
            "runs": len(self.ran_ns),
        }


#: how -> what is tried: f(trial, cpu, delay in jiffies, delay in ms)
WAYS: dict[str, Callable[[Trial, Cpu, int, int], Context]] = {
    "wait": Trial.wait,
    "zero": Trial.zero,
    "busy": Trial.busy,
    "again": Trial.again,
}


def on_each_cpu(cpu: Cpu, params: Values) -> None:
    """The timer may fire anywhere."""
    cpu.module_data[NAME] = Trial(cpu, params["compute_ms"])


def leave(cpu: Cpu) -> Context:
    """It must not run when it is gone."""
    yield from cancel_delayed_work_sync(cpu, cpu.module_data[NAME].dwork)


@module(
    NAME,
    params={
        "how": ("wait", ", ".join(WAYS)),
        "delay_ms": (20, "delay of the work"),
        "compute_ms": (40, "with how=busy"),
    },
    exit=leave,
    on_each_cpu=on_each_cpu,
)
def init(cpu: Cpu, params: Values) -> Context:
    """Queue a work with a delay, and log when it runs."""
    how, ms = params["how"], params["delay_ms"]
    if how not in WAYS or not 1 <= ms <= 10_000 or not 1 <= params["compute_ms"] <= 10_000:
        return -EINVAL
    trial: Trial = cpu.module_data[NAME]
    figures: dict[str, Any] = yield from WAYS[how](trial, cpu, msecs_to_jiffies(cpu, ms), ms)
    report(cpu, NAME, how=how, **figures)
    return 0
