"""A line with a thread: who runs when, and who keeps the line masked meanwhile.

Four trials on lines of this CPU, all with ``request_threaded_irq``:

1. *alone*: a level line with IRQF_ONESHOT; the handler says IRQ_WAKE_THREAD, the thread quiets the
   device after ``work_us``. Meanwhile a user task computes: it is interrupted, and the thread runs
   before it goes on.
2. *shared*: two such users of one line, the second thread takes four times as long; which of them
   unmasks?
3. *wakes*: an edge line; five more interrupts come while the thread runs.
4. *default*: the same request with ``handler=NULL`` and without IRQF_ONESHOT: refused.

::

    threaded_irq: interrupts=1 thread=irq/250-lab_a preempted=user handler=masked in_thread=masked
    after=open first_of_two=masked last_of_two=open handler_runs=6 thread_runs=2 refused=-22

``oneshot=0``: trial 1 without the flag.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ENOSYS
from typing import TYPE_CHECKING

from nodes.cpu.kernel.delay import udelay
from nodes.cpu.kernel.hrtimer import HrTimer
from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQ_WAKE_THREAD,
    IRQF_NO_THREAD,
    IRQF_ONESHOT,
    IRQF_SHARED,
)
from nodes.cpu.kernel.irq.manage import free_irq, request_threaded_irq
from nodes.cpu.kernel.irq.sim import (
    irq_sim_assert,
    irq_sim_create,
    irq_sim_deassert,
    irq_sim_fire,
    irq_sim_line,
    irq_sim_remove,
)
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "threaded_irq"
ALONE, SHARED, EDGE = 250, 251, 252  # irq numbers
MS = 1_000_000
PATIENCE_NS = 5_000_000_000
PULSES = 5


def _mask(cpu: Cpu, irq: int) -> str:
    """The state of the line's pin."""
    return "masked" if irq_sim_line(cpu, irq).masked else "open"


def _until(cpu: Cpu, done: Callable[[], bool]) -> Context:
    """Sleep until ``done()``; False if it takes too long."""
    give_up = cpu.now() + PATIENCE_NS
    while not done():
        if cpu.now() > give_up:
            return False
        yield from msleep(cpu, 1)
    return True


def _soon(cpu: Cpu, raise_line: Callable[[], None]) -> None:
    """A device's interrupt in 1 ms, when the module sleeps."""
    timer = HrTimer(lambda _cpu: raise_line(), f"{NAME}_device")
    cpu.timers.hrtimer_start(timer, cpu.now() + MS)


# ---------------------------------------------------------------- one user


def _alone(cpu: Cpu, work_us: int, oneshot: bool) -> Context:
    """Trial 1: what it found."""
    found: dict[str, object] = {}
    desc = irq_sim_create(cpu, ALONE, "fasteoi")
    line = irq_sim_line(cpu, ALONE)
    stop: list[bool] = []

    def compute() -> Context:
        while not stop:
            yield USER

    user = kthread_run(cpu, "user", compute())

    def lab_interrupt(_irq: int, _dev_id: object) -> int:
        if "handler" not in found:
            found["interrupted"], found["handler"] = cpu.current.comm, _mask(cpu, ALONE)
            printk(cpu, f"{NAME}: handler, over {cpu.current.comm}: line {_mask(cpu, ALONE)}")
        return IRQ_WAKE_THREAD

    def lab_thread_fn(_irq: int, _dev_id: object) -> Context:
        task = cpu.current
        if "thread" not in found:
            found["thread"], found["in_thread"] = task.comm, _mask(cpu, ALONE)
            found["preempted"] = user.comm if user.on_rq else "nobody"
            policy = f"SCHED_FIFO {task.rt_priority}"
            printk(cpu, f"{NAME}: {task.comm} ({policy}): line {_mask(cpu, ALONE)}")
        yield from udelay(cpu, work_us)
        irq_sim_deassert(cpu, ALONE)  # the device is quieted
        return IRQ_HANDLED

    flags = IRQF_ONESHOT if oneshot else 0
    request_threaded_irq(cpu, ALONE, lab_interrupt, lab_thread_fn, flags, "lab_a", "lab_a")
    _soon(cpu, lambda: irq_sim_assert(cpu, ALONE))
    yield from _until(cpu, lambda: "thread" in found and not desc.threads_active)
    stop.append(True)
    found["after"], found["interrupts"] = _mask(cpu, ALONE), line.sent
    printk(cpu, f"{NAME}: thread done: line {_mask(cpu, ALONE)}, {line.sent} interrupts")
    yield from free_irq(cpu, ALONE, "lab_a")
    irq_sim_remove(cpu, ALONE)
    return found


# ---------------------------------------------------------------- two users of one line


def _shared(cpu: Cpu, work_us: int) -> Context:
    """Trial 2: the line's mask after each of the two threads."""
    desc = irq_sim_create(cpu, SHARED, "fasteoi")
    ended: list[str] = []

    def lab_interrupt(_irq: int, _dev_id: object) -> int:
        return IRQ_WAKE_THREAD

    def lab_thread_fn(_irq: int, dev_id: str) -> Context:
        if dev_id == "lab_b":
            yield from msleep(cpu, 4)  # a bus that is slow to answer; the other thread runs
            masks.append(_mask(cpu, SHARED))  # lab_a's has ended
        else:
            irq_sim_deassert(cpu, SHARED)
            yield from udelay(cpu, work_us)
        ended.append(dev_id)
        printk(cpu, f"{NAME}: {cpu.current.comm} ends: line {_mask(cpu, SHARED)}")
        return IRQ_HANDLED

    masks: list[str] = []
    flags = IRQF_SHARED | IRQF_ONESHOT
    for name in ("lab_a", "lab_b"):
        request_threaded_irq(cpu, SHARED, lab_interrupt, lab_thread_fn, flags, name, name)
    _soon(cpu, lambda: irq_sim_assert(cpu, SHARED))
    yield from _until(cpu, lambda: len(ended) == 2 and not desc.threads_active)
    masks.append(_mask(cpu, SHARED))
    printk(cpu, f"{NAME}: both done: line {_mask(cpu, SHARED)}")
    for name in ("lab_a", "lab_b"):
        yield from free_irq(cpu, SHARED, name)
    irq_sim_remove(cpu, SHARED)
    return {"first_of_two": masks[0], "last_of_two": masks[-1]}


# ---------------------------------------------------------------- wakes that collapse


def _wakes(cpu: Cpu) -> Context:
    """Trial 3: runs of the handler and of the thread."""
    desc = irq_sim_create(cpu, EDGE, "edge")
    runs = {"handler_runs": 0, "thread_runs": 0}

    def lab_interrupt(_irq: int, _dev_id: object) -> int:
        runs["handler_runs"] += 1
        return IRQ_WAKE_THREAD

    def lab_thread_fn(_irq: int, _dev_id: object) -> Context:
        runs["thread_runs"] += 1
        give_up = cpu.now() + PATIENCE_NS
        while runs["handler_runs"] <= PULSES and cpu.now() < give_up:
            before = runs["handler_runs"]
            irq_sim_fire(cpu, EDGE)
            while runs["handler_runs"] == before and cpu.now() < give_up:
                yield from udelay(cpu, 1)
        yield
        return IRQ_HANDLED

    request_threaded_irq(cpu, EDGE, lab_interrupt, lab_thread_fn, IRQF_NO_THREAD, "lab_e", "lab_e")
    _soon(cpu, lambda: irq_sim_fire(cpu, EDGE))
    yield from _until(cpu, lambda: runs["handler_runs"] > PULSES and not desc.threads_active)
    text = f"{runs['handler_runs']} times, its thread {runs['thread_runs']} times"
    printk(cpu, f"{NAME}: edge line: handler ran {text}")
    yield from free_irq(cpu, EDGE, "lab_e")
    irq_sim_remove(cpu, EDGE)
    return runs


def _refused(cpu: Cpu) -> int:
    """Trial 4: nobody would keep a level line masked."""

    def lab_thread_fn(_irq: int, _dev_id: object) -> int:
        return IRQ_HANDLED

    irq_sim_create(cpu, ALONE, "fasteoi")
    error = request_threaded_irq(cpu, ALONE, None, lab_thread_fn, 0, "lab_a", "lab_a")
    irq_sim_remove(cpu, ALONE)
    return error


@module(
    NAME,
    params={
        "work_us": (50, "how long the thread works"),
        "oneshot": (1, "0: the first trial without IRQF_ONESHOT"),
    },
)
def init(cpu: Cpu, params: Values) -> Context:
    """Lines with a handler thread: who runs when, who masks the line."""
    if cpu.params.irq_threads == "none":
        printk(cpu, f"{NAME}: this kernel has no request_threaded_irq")
        return -ENOSYS
    alone = yield from _alone(cpu, params["work_us"], bool(params["oneshot"]))
    shared = yield from _shared(cpu, params["work_us"])
    runs = yield from _wakes(cpu)
    report(cpu, NAME, **alone, **shared, **runs, refused=_refused(cpu))
    return 0
