"""The soft lockup detector, after kernel/softlockup.c (2.6.18) and kernel/watchdog.c.

A thread of each CPU stamps the time whenever it gets to run; the timer interrupt looks at the stamp
and complains when it is too old: some task has kept the CPU in the kernel and never called
``schedule()``. The thread is the most urgent one (SCHED_FIFO 99), so that a busy CPU alone is no
lockup. Behaviours (``softlockup``): *each-second*, woken by the tick once a
second, fixed limit of 10 s; *once* and *again*, sampled every ``2 * watchdog_thresh / 5`` seconds,
limit ``2 * watchdog_thresh``, said once a lockup or again at each further limit.

Left out: the samples run on the tick, not on an hrtimer of their own, so an idle CPU takes none (it
is not locked up); the hard lockup detector needs a performance counter, and there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import dump_stack
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.printk import KERN_EMERG, printk
from nodes.cpu.kernel.sched import (
    TASK_INTERRUPTIBLE,
    Task,
    kthread_create,
    sched_set_fifo,
    wake_up_process,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

SECOND_NS = 1_000_000_000
OLD_LIMIT_S = 10
WATCHDOG_PRIORITY = 99

#: What says that it is not well, by ``log_format``.
_TEXT = {
    "2.6.18": "BUG: soft lockup detected on CPU#{cpu}!",
    "3.10": "BUG: soft lockup - CPU#{cpu} stuck for {s}s! [{comm}:{pid}]",
    "6.1": "watchdog: BUG: soft lockup - CPU#{cpu} stuck for {s}s! [{comm}:{pid}]",
}
#: Who stamps the time; in 6.1 the stopper thread does it.
_THREAD = {"each-second": "watchdog", "once": "watchdog", "again": "migration"}


class Watchdog:
    """watchdog_touch_ts and its thread, of one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._kind = cpu.params.softlockup
        old = self._kind == "each-second"
        thresh_s = cpu.params.watchdog_thresh
        self.sample_ns = SECOND_NS if old else 2 * thresh_s * SECOND_NS // 5
        self.limit_ns = (OLD_LIMIT_S if old else 2 * thresh_s) * SECOND_NS
        self._touch_ns = self._report_ns = 0
        self._next_ns = 0
        self._warned = False
        self._enabled = False
        self.task: Task | None = None

    def start(self) -> None:
        """The thread, and watchdog_enable."""
        cpu = self._cpu
        self.enable()
        name = f"{_THREAD[self._kind]}/{cpu.number}"
        self.task = kthread_create(cpu, name, self._thread())
        sched_set_fifo(self.task, WATCHDOG_PRIORITY)
        wake_up_process(cpu, self.task)

    def enable(self) -> None:
        """watchdog_enable: the CPU is online."""
        self.touch()
        self._enabled = True

    def disable(self) -> None:
        """watchdog_disable: it takes no samples of a CPU that goes offline."""
        self._enabled = False

    def touch(self) -> None:
        """touch_softlockup_watchdog: from now on it counts anew."""
        self._touch_ns = self._report_ns = self._cpu.now()
        self._warned = False

    def _thread(self) -> Context:
        """watchdog() in 2.6.18 and 3.10, softlockup_fn() in 6.1."""
        while True:
            self.touch()
            self._cpu.current.state = TASK_INTERRUPTIBLE
            yield SCHEDULE

    def leave_idle(self, now_ns: int) -> None:
        """The tick starts again: no sample was taken since it stopped."""
        self._touch_ns = self._report_ns = now_ns
        self._next_ns = now_ns + self.sample_ns
        self._warned = False

    def tick(self, now_ns: int) -> None:
        """From the tick: softlockup_tick or watchdog_timer_fn."""
        if now_ns < self._next_ns or self.task is None or not self._enabled:
            return
        self._next_ns = now_ns + self.sample_ns
        wake_up_process(self._cpu, self.task)
        if now_ns - self._report_ns > self.limit_ns and not self._warned:
            self._complain(now_ns)

    def _complain(self, now_ns: int) -> None:
        cpu, current = self._cpu, self._cpu.current
        stuck_s = (now_ns - self._touch_ns) // SECOND_NS
        text = _TEXT[cpu.params.log_format]
        printk(
            cpu,
            text.format(cpu=cpu.number, s=stuck_s, comm=current.comm, pid=current.pid),
            KERN_EMERG,
        )
        dump_stack(cpu, KERN_EMERG)
        if self._kind == "again":
            self._report_ns = now_ns
        else:
            self._warned = True
