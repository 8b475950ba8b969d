"""Where a CPU's time went, as /proc/stat counts it: kernel/sched/cputime.c.

Each tick is charged whole to what it interrupted: a hard interrupt below the timer's, else a
softirq, else the task in user or kernel mode, else idleness. Behaviour ``softirq_time``: 2.6.18
calls it softirq time whenever bottom halves are off (*bh-off-too*), later only while a softirq runs
(*serving*). A tick in kernel mode also goes to the current task's stime, whoever that is: to
ksoftirqd when it runs softirqs. With ``irq_time_accounting`` (CONFIG_IRQ_TIME_ACCOUNTING) time in
interrupts is measured and the tick pays for what is left; ksoftirqd is charged as before.

A CPU without work has no tick; its idle time is measured. Left out: steal, guest and iowait time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import HARDIRQ_OFFSET
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Columns of /proc/stat in the page's words ``cpustat``.
CPUTIME_USER, CPUTIME_NICE, CPUTIME_SYSTEM, CPUTIME_IDLE = 0, 1, 2, 3
CPUTIME_IOWAIT, CPUTIME_IRQ, CPUTIME_SOFTIRQ, CPUTIME_STEAL = 4, 5, 6, 7

_CPUSTAT = CPU_SCHEMA.index("cpustat")
_IDLE_SINCE = CPU_SCHEMA.index("idle_since_ns")
_HARDIRQ_NS = CPU_SCHEMA.index("hardirq_ns")
_SOFTIRQ_NS = CPU_SCHEMA.index("softirq_ns")


class CpuTime:
    """Accounting state of one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._tick_ns = 1_000_000_000 // cpu.params.hz
        self._bh_off_too = cpu.params.softirq_time == "bh-off-too"
        self._measured = cpu.params.irq_time_accounting != 0
        self._hardirq_seen = self._softirq_seen = 0

    def account_process_tick(self) -> None:
        """From the tick, inside the timer's interrupt."""
        cpu = self._cpu
        left = self._tick_ns
        if self._measured:
            left -= self._account_measured()
            if left <= 0:
                return
        column = self._column()
        cpu.words[_CPUSTAT + column] += left
        task = cpu.current
        if task is cpu.idle:
            return
        if column in (CPUTIME_USER, CPUTIME_NICE):
            task.utime_ns += left
        else:
            task.stime_ns += left

    def _column(self) -> int:
        cpu = self._cpu
        if cpu.preempt_count & cpu.hardirq_mask > HARDIRQ_OFFSET:
            return CPUTIME_IRQ
        if cpu.in_softirq() if self._bh_off_too else cpu.in_serving_softirq():
            return CPUTIME_SOFTIRQ
        task = cpu.current
        if task.user and len(cpu.stack) == 1:
            return CPUTIME_NICE if task.nice > 0 else CPUTIME_USER
        return CPUTIME_IDLE if task is cpu.idle else CPUTIME_SYSTEM

    def _account_measured(self) -> int:
        """irqtime_tick_accounted: time in interrupts since the last tick, ns."""
        cpu = self._cpu
        words = cpu.words
        hardirq, softirq = words[_HARDIRQ_NS], words[_SOFTIRQ_NS]
        irq_ns, softirq_ns = hardirq - self._hardirq_seen, softirq - self._softirq_seen
        self._hardirq_seen, self._softirq_seen = hardirq, softirq
        if cpu.current is cpu.softirq.ksoftirqd:
            softirq_ns = 0  # a task's time: the tick charges it
        words[_CPUSTAT + CPUTIME_IRQ] += irq_ns
        words[_CPUSTAT + CPUTIME_SOFTIRQ] += softirq_ns
        return irq_ns + softirq_ns

    def enter_idle(self) -> None:
        """The tick stops: from here on idle time is measured."""
        self._cpu.words[_IDLE_SINCE] = self._cpu.uptime_ns() + 1

    def leave_idle(self) -> None:
        words = self._cpu.words
        if words[_IDLE_SINCE]:
            words[_CPUSTAT + CPUTIME_IDLE] += self._cpu.uptime_ns() + 1 - words[_IDLE_SINCE]
            words[_IDLE_SINCE] = 0
