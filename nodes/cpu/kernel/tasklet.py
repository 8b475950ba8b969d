"""Tasklets, after kernel/softirq.c: a function that runs soon, in a softirq, on one CPU at a time.

Several CPUs may schedule, disable and kill the same tasklet, so its state (SCHED, RUN) and the
count of its disables are one atomic word in RAM, and each CPU has an object of its own for it,
under the same number: ``tasklet_init`` is called on each CPU that deals with the tasklet. The lists
of what is to be run belong to their CPUs. Behaviours: ``tasklet_order`` (last in first out up to
2.6.25), ``tasklet_wait`` (``tasklet_disable`` and ``tasklet_kill`` spin, or sleep).

Left out: the sleeping wait of 6.1 looks once a jiffy instead of being woken; kernels for one CPU,
which have no RUN bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.bug import bug, warn_once
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Pause
from nodes.cpu.kernel.printk import KERN_NOTICE, printk
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.softirq import (
    HI_SOFTIRQ,
    __raise_softirq_irqoff,
    open_softirq,
    raise_softirq_irqoff,
)
from nodes.cpu.kernel.timer import schedule_timeout_uninterruptible
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Numbers below ``SHARED`` are chosen by whoever defines a tasklet that several CPUs know; each CPU
#: has ``PRIVATE`` more for its own.
SHARED, PRIVATE = words.SHARED_TASKLETS, words.PRIVATE_TASKLETS

TASKLET_STATE_SCHED, TASKLET_STATE_RUN = 1, 2
_DISABLE = 1 << 8  # the count of disables lies above the state

#: Record (smp): append tasklet ``record[1]`` to the list ``record[2]`` (1: high).
TAKEOVER_TASKLET = 20
#: A CPU that waits for a tasklet to end looks again after this long.
SPIN_NS = 2_000

_EVENTS = [
    (TRACEPOINTS[f"{name}_entry"].number, TRACEPOINTS[f"{name}_exit"].number)
    for name in ("tasklet", "tasklet_hi")
]


class Tasklet:
    """struct tasklet_struct as one CPU knows it; ``func(cpu)`` is a context or a plain call."""

    def __init__(self, number: int, func: Callable[[Cpu], Context | None], name: str = "") -> None:
        self.number = number
        self.word = words.TASKLET + number
        self.func = func
        self.name = name or func.__name__


class TaskletState:
    """tasklet_vec and tasklet_hi_vec of one CPU, and the tasklets that it knows."""

    def __init__(self, cpu: Cpu) -> None:
        self.known: dict[int, Tasklet] = {}
        self.vec: tuple[deque[Tasklet], deque[Tasklet]] = (deque(), deque())  # normal, high
        self.softirq = (cpu.softirq.number["TASKLET"], HI_SOFTIRQ)
        self._private = SHARED + cpu.number * PRIVATE
        self._private_end = self._private + PRIVATE

    def new_number(self) -> int:
        """A number for a tasklet of this CPU alone; MemoryError when there are no more."""
        if self._private == self._private_end:
            raise MemoryError("no number is left for a tasklet")
        self._private += 1
        return self._private - 1


def softirq_init(cpu: Cpu) -> None:
    """The two vectors of this CPU."""
    cpu.tasklets = TaskletState(cpu)
    open_softirq(cpu, HI_SOFTIRQ, tasklet_hi_action)
    open_softirq(cpu, cpu.softirq.number["TASKLET"], tasklet_action)


def tasklet_init(
    cpu: Cpu, func: Callable[[Cpu], Context | None], number: int | None = None, name: str = ""
) -> Tasklet:
    """A tasklet, enabled and idle. ``number`` makes it one that every CPU knows under it."""
    if number is None:
        number = cpu.tasklets.new_number()
    elif not 0 <= number < SHARED:
        raise ValueError(f"tasklet numbers are 0 to {SHARED - 1}")
    tasklet = cpu.tasklets.known[number] = Tasklet(number, func, name)
    return tasklet


# ---------------------------------------------------------------- scheduling


def tasklet_schedule(cpu: Cpu, tasklet: Tasklet) -> None:
    """Run it soon on this CPU; nothing to do if it is scheduled already, wherever that is."""
    _schedule(cpu, tasklet, 0)


def tasklet_hi_schedule(cpu: Cpu, tasklet: Tasklet) -> None:
    """The same, before all other softirqs."""
    _schedule(cpu, tasklet, 1)


def _schedule(cpu: Cpu, tasklet: Tasklet, high: int) -> None:
    if cpu.ram.atomics.test_and_set(tasklet.word, TASKLET_STATE_SCHED):
        return
    _enqueue(cpu, tasklet, high)
    raise_softirq_irqoff(cpu, cpu.tasklets.softirq[high])


def _enqueue(cpu: Cpu, tasklet: Tasklet, high: int) -> None:
    vec = cpu.tasklets.vec[high]
    if cpu.params.tasklet_order == "lifo":
        vec.appendleft(tasklet)
    else:
        vec.append(tasklet)


# ---------------------------------------------------------------- running


def tasklet_action(cpu: Cpu) -> Context:
    """The TASKLET softirq."""
    return _action(cpu, 0)


def tasklet_hi_action(cpu: Cpu) -> Context:
    """The HI softirq."""
    return _action(cpu, 1)


def _action(cpu: Cpu, high: int) -> Context:
    """Everything that is on the list now; what cannot run goes back on it."""
    atomics, vec = cpu.ram.atomics, cpu.tasklets.vec[high]
    waiting = list(vec)
    vec.clear()
    yield
    for tasklet in waiting:
        if not atomics.test_and_set(tasklet.word, TASKLET_STATE_RUN):
            if atomics.load(tasklet.word) < _DISABLE:
                yield from _run(cpu, tasklet, high)
                continue
            atomics.clear_bits(tasklet.word, TASKLET_STATE_RUN)
        _enqueue(cpu, tasklet, high)
        __raise_softirq_irqoff(cpu, cpu.tasklets.softirq[high])
        yield


def _run(cpu: Cpu, tasklet: Tasklet, high: int) -> Context:
    """SCHED is cleared before the function, so that it may schedule itself."""
    atomics = cpu.ram.atomics
    if not atomics.clear_bits(tasklet.word, TASKLET_STATE_SCHED) & TASKLET_STATE_SCHED:
        if cpu.params.tasklet_not_sched == "bug":
            raise bug(cpu, "kernel/softirq.c")
        list_name = ("tasklet", "tasklet_hi")[high]
        text = f"tasklet SCHED state not set: {list_name}_action {tasklet.name}"
        warn_once(cpu, "kernel/softirq.c", text)
    else:
        entry, leave = _EVENTS[high]
        traced = cpu.trace_mask >> entry & 1
        name = cpu.symbol(tasklet.name) if traced else 0
        cpu.trace(entry, tasklet.number, name)
        context = tasklet.func(cpu)
        if context is not None:
            yield from context
        cpu.trace(leave, tasklet.number, name)
    yield
    atomics.clear_bits(tasklet.word, TASKLET_STATE_RUN)


# ---------------------------------------------------------------- disabling and killing


def tasklet_disable_nosync(cpu: Cpu, tasklet: Tasklet) -> None:
    """It will not begin any more; it may still be running. Nests."""
    cpu.ram.atomics.add(tasklet.word, _DISABLE)


def tasklet_disable(cpu: Cpu, tasklet: Tasklet) -> Context:
    """... and it does not run when this returns."""
    tasklet_disable_nosync(cpu, tasklet)
    yield from tasklet_unlock_wait(cpu, tasklet)


def tasklet_enable(cpu: Cpu, tasklet: Tasklet) -> None:
    """Take one disable back. If it is scheduled, its CPU is trying all the time."""
    cpu.ram.atomics.add(tasklet.word, -_DISABLE)


def tasklet_unlock_wait(cpu: Cpu, tasklet: Tasklet) -> Context:
    """Wait until it does not run."""
    while cpu.ram.atomics.load(tasklet.word) & TASKLET_STATE_RUN:
        if cpu.params.tasklet_wait == "sleep":
            yield from schedule_timeout_uninterruptible(cpu, 1)
        else:
            yield Pause(cpu.now() + SPIN_NS)


def tasklet_kill(cpu: Cpu, tasklet: Tasklet) -> Context:
    """Wait until it has run for the last time; the caller sees to it that nobody schedules it."""
    atomics = cpu.ram.atomics
    if cpu.in_interrupt():
        printk(cpu, "Attempt to kill tasklet from interrupt", KERN_NOTICE)
    while atomics.test_and_set(tasklet.word, TASKLET_STATE_SCHED):
        while True:
            if cpu.params.tasklet_wait == "sleep":
                yield from schedule_timeout_uninterruptible(cpu, 1)
            else:
                yield SCHEDULE  # yield(): stays runnable
            if not atomics.load(tasklet.word) & TASKLET_STATE_SCHED:
                break
    yield from tasklet_unlock_wait(cpu, tasklet)
    atomics.clear_bits(tasklet.word, TASKLET_STATE_SCHED)


# ---------------------------------------------------------------- a CPU goes offline


def tasklet_kill_immediate(cpu: Cpu, tasklet: Tasklet) -> None:
    """Take a scheduled tasklet off the list of this CPU, which goes offline; SCHED stays set."""
    if cpu.online or not cpu.ram.atomics.load(tasklet.word) & TASKLET_STATE_SCHED:
        raise bug(cpu, "kernel/softirq.c")
    normal = cpu.tasklets.vec[0]
    if tasklet not in normal:
        raise bug(cpu, "kernel/softirq.c")
    normal.remove(tasklet)


def takeover_tasklets(cpu: Cpu, survivor: int) -> Context:
    """Give both lists of this CPU, which goes offline, to CPU ``survivor``.

    In Linux the survivor reaches into the dead CPU's lists; here the dying CPU sends them. A
    tasklet that the survivor does not know cannot run there and is dropped with its number in the
    log."""
    for high, vec in enumerate(cpu.tasklets.vec):
        while vec:
            record = [TAKEOVER_TASKLET, vec.popleft().number, high]
            yield from call_function_single(cpu, survivor, record)


@remote_function(TAKEOVER_TASKLET)
def _take_over(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    tasklet, high = cpu.tasklets.known.get(record[1]), record[2]
    if tasklet is None:
        printk(cpu, f"tasklet {record[1]} of dead CPU {source} is not known here", KERN_NOTICE)
        return None
    cpu.tasklets.vec[high].append(tasklet)
    raise_softirq_irqoff(cpu, cpu.tasklets.softirq[high])
    return None
