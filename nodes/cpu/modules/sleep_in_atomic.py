"""What happens if one sleeps where one may not? Five places, tried one after the other.

In each place a task sleeps for ``ms``: by ``how=msleep``, or by ``how=mutex_lock`` on a mutex that
another task holds for so long.

* ``spin_lock``: with a spinlock held. Another CPU that wants the lock spins until the sleeper has
  had its sleep and gives it back (``spun_ms``);
* ``bh_off``: with bottom halves off. The CPU goes on with bottom halves on (``softirqs_inside``:
  how many ran inside the section that was to keep them out);
* ``irq_off``: with interrupts off. They are on when it comes back (``irqs_after``);
* ``tasklet``, ``timer``: in a softirq. Whoever was interrupted sleeps too (``victim_ms``).

The module reads what its CPU has written into the kernel log meanwhile::

    sleep_in_atomic: how=msleep spin_lock=schedule bh_off=schedule irq_off=nothing ...

``schedule`` is "scheduling while atomic", ``might_sleep`` "sleeping function called from invalid
context". The latter comes once a second at most, so the module waits before each place.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.delay import mdelay
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.locks.mutex import Mutex, mutex_lock, mutex_unlock
from nodes.cpu.kernel.locks.spinlock import Spinlock, spin_lock, spin_unlock
from nodes.cpu.kernel.percpu import Context, Pause
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable
from nodes.cpu.kernel.tasklet import tasklet_init, tasklet_schedule
from nodes.cpu.kernel.timer import msleep, timer_setup
from nodes.cpu.modules import Values, module, report
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "sleep_in_atomic"
HOW = ("msleep", "mutex_lock")
#: Record: take the spinlock on another CPU, and tell how long it took.
SPINNER_RECORD = 84
LOCK, MUTEX, TASKLET = 50, 51, 41
#: Atomic words: the other CPU has begun to wait (1) and is through (2); for how long, in ns.
SPINNER, SPUN_NS = words.LAB_MODULES + 7, words.LAB_MODULES + 8
RATE_LIMIT_MS = 1010

_SOFTIRQS = CPU_SCHEMA.index("softirqs")
MESSAGES = {
    "schedule": "BUG: scheduling while atomic",
    "might_sleep": "BUG: sleeping function called from invalid context",
}


class Trial:
    """One run of the module: how to sleep, and what was seen."""

    def __init__(self, cpu: Cpu, how: str, ms: int) -> None:
        self.how = how
        self.ms = ms
        self.lock = Spinlock(LOCK, "lab_lock")
        self.mutex = Mutex(MUTEX, "lab_mutex")
        self.tasklet = tasklet_init(cpu, self.lab_tasklet, TASKLET, "lab_tasklet")
        self.timer = timer_setup(cpu, self.lab_timer, name="lab_timer")
        self.count = 0  # preempt_count at the call
        self.going = False  # it is about to sleep
        self.slept = False  # the sleep is over
        self.over = False  # and so is what was around it
        self.figures: dict[str, int] = {}

    # -- the sleep

    def wrong_sleep(self, cpu: Cpu) -> Context:
        """What is wrong everywhere below."""
        self.count = cpu.preempt_count
        self.going = True
        if self.how == "msleep":
            yield from msleep(cpu, self.ms)
        else:
            yield from mutex_lock(cpu, self.mutex)
            yield from mutex_unlock(cpu, self.mutex)
        self.slept = True

    def holder(self, cpu: Cpu) -> Context:
        """Another task, which may sleep: it holds the mutex meanwhile."""
        yield from mutex_lock(cpu, self.mutex)
        while not self.going:
            yield from msleep(cpu, 1)
        yield from msleep(cpu, self.ms)
        yield from mutex_unlock(cpu, self.mutex)

    # -- the places

    def under_spin_lock(self, cpu: Cpu) -> Context:
        """While another CPU wants the lock."""
        atomics = cpu.ram.atomics
        yield from spin_lock(cpu, self.lock)
        others = [number for number in cpu.online_cpus if number != cpu.number]
        if others:
            atomics.store(SPINNER, 0)
            yield from call_function_single(cpu, others[0], [SPINNER_RECORD])
            while not atomics.load(SPINNER):
                yield Pause(cpu.now() + 50_000)
        yield from self.wrong_sleep(cpu)
        yield from spin_unlock(cpu, self.lock)
        while others and atomics.load(SPINNER) < 2:
            yield from msleep(cpu, 1)
        if others:
            self.figures["spun_ms"] = atomics.load(SPUN_NS) // 1_000_000

    def with_bh_off(self, cpu: Cpu) -> Context:
        local_bh_disable(cpu)
        before = _softirqs(cpu)
        yield from self.wrong_sleep(cpu)
        self.figures["softirqs_inside"] = _softirqs(cpu) - before
        yield from local_bh_enable(cpu)

    def with_irq_off(self, cpu: Cpu) -> Context:
        local_irq_disable(cpu)
        yield from self.wrong_sleep(cpu)
        self.figures["irqs_after"] = int(cpu.irqs_on)
        if not cpu.irqs_on:
            local_irq_enable(cpu)

    def in_tasklet(self, cpu: Cpu) -> Context:
        """The softirq runs in local_bh_enable, on top of this task."""
        local_bh_disable(cpu)
        tasklet_schedule(cpu, self.tasklet)
        began = cpu.now()
        yield from local_bh_enable(cpu)
        self.figures["victim_ms"] = (cpu.now() - began) // 1_000_000

    def lab_tasklet(self, cpu: Cpu) -> Context:
        yield from self.wrong_sleep(cpu)

    def in_timer(self, cpu: Cpu) -> Context:
        """This task computes; the tick interrupts it, and the timer runs on the way out."""
        cpu.timers.mod_timer(self.timer, cpu.jiffies() + 1)
        while not self.slept:
            yield from mdelay(cpu, 1)

    def lab_timer(self, cpu: Cpu) -> Context:
        yield from self.wrong_sleep(cpu)


#: name -> the place
PLACES: dict[str, Callable[[Trial, Cpu], Context]] = {
    "spin_lock": Trial.under_spin_lock,
    "bh_off": Trial.with_bh_off,
    "irq_off": Trial.with_irq_off,
    "tasklet": Trial.in_tasklet,
    "timer": Trial.in_timer,
}


def _softirqs(cpu: Cpu) -> int:
    """Softirqs that this CPU has run."""
    return sum(cpu.words[_SOFTIRQS : _SOFTIRQS + len(cpu.params.softirq_names)])


def lab_spinner(cpu: Cpu) -> Context:
    """On another CPU: it wants the lock and does not know that its owner sleeps."""
    atomics, lock = cpu.ram.atomics, Spinlock(LOCK, "lab_lock")
    atomics.store(SPINNER, 1)
    began = cpu.now()
    yield from spin_lock(cpu, lock)
    atomics.store(SPUN_NS, cpu.now() - began)
    yield from spin_unlock(cpu, lock)
    atomics.store(SPINNER, 2)


@remote_function(SPINNER_RECORD)
def _spinner_record(cpu: Cpu, _source: int, _record: list[int]) -> None:
    kthread_run(cpu, "spinner", lab_spinner(cpu))


def _said(cpu: Cpu, since: int) -> str:
    """Which of the two messages stand in the log of this CPU from line ``since`` on."""
    texts = [text for _, _, text in cpu.log.lines(since)]
    found = [name for name, head in MESSAGES.items() if any(t.startswith(head) for t in texts)]
    return "+".join(found) or "nothing"


def _sleeper(cpu: Cpu, trial: Trial, place: str) -> Context:
    yield from PLACES[place](trial, cpu)
    trial.over = True


@module(
    NAME,
    params={
        "how": ("msleep", "msleep or mutex_lock"),
        "where": (",".join(PLACES), "places, in this order"),
        "ms": (20, "how long each sleeps"),
    },
)
def init(cpu: Cpu, params: Values) -> Context:
    """Sleep in five places where one may not, and log what is said."""
    how, places, ms = params["how"], str(params["where"]).split(","), params["ms"]
    if how not in HOW or any(place not in PLACES for place in places) or not 1 <= ms <= 10_000:
        return -EINVAL
    trial = Trial(cpu, how, ms)
    said: dict[str, str] = {}
    for place in places:
        trial.going = trial.slept = trial.over = False
        if how == "mutex_lock":
            yield from msleep(cpu, RATE_LIMIT_MS)
            kthread_run(cpu, "holder", trial.holder(cpu))
            while not trial.mutex.owner(cpu):
                yield from msleep(cpu, 1)
        since = cpu.log.count
        kthread_run(cpu, place, _sleeper(cpu, trial, place))
        while not trial.over:
            yield from msleep(cpu, 1)
        said[place] = _said(cpu, since)
        printk(cpu, f"{NAME}: {place}: preempt_count {trial.count:#x}: {said[place]}")
    report(cpu, NAME, how=how, **said, **trial.figures)
    return 0
