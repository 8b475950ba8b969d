"""Sleeping where one must not, after __might_sleep and __schedule_bug of kernel/sched/core.c.

``might_sleep`` stands at the head of functions that may sleep and speaks before they do, where
the kernel counts preemption (``preempt_count``: CONFIG_DEBUG_ATOMIC_SLEEP); ``schedule_bug`` speaks
when somebody really calls ``schedule`` with a count, in every kernel. ``msleep`` and ``nanosleep``
are found by the second only, as in Linux. Without the count a spinlock is invisible to both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import dump_stack
from nodes.cpu.kernel.locks.lockdep_report import Printer
from nodes.cpu.kernel.printk import KERN_ERR, printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def might_sleep(cpu: Cpu, where: str) -> None:
    """``where``: the kernel's file. At most one report a second, none before programs run."""
    if not cpu.preempt_counted:
        return
    if not cpu.preempt_count and cpu.irqs_on and cpu.current is not cpu.idle:
        return
    jiffies = cpu.jiffies()
    last = cpu.might_sleep_jiffies
    if not cpu.programs.may_run or (last is not None and jiffies < last + cpu.params.hz):
        return
    cpu.might_sleep_jiffies = jiffies
    era, task = cpu.params.log_format, cpu.current
    atomic, off = int(cpu.in_atomic()), int(not cpu.irqs_on)
    printk(cpu, f"BUG: sleeping function called from invalid context at {where}", KERN_ERR)
    if era == "2.6.18":
        printk(cpu, f"in_atomic():{atomic}, irqs_disabled():{off}", KERN_ERR)
    else:
        blocks = " non_block: 0," if era == "6.1" else ""
        line = f"in_atomic(): {atomic}, irqs_disabled(): {off},{blocks}"
        printk(cpu, f"{line} pid: {task.pid}, name: {task.comm}", KERN_ERR)
    if era == "6.1":
        printk(cpu, f"preempt_count: {cpu.preempt_count:x}, expected: 0", KERN_ERR)
    _show_held_locks(cpu)
    dump_stack(cpu, KERN_ERR)


def schedule_bug(cpu: Cpu) -> None:
    """schedule() was called with a preempt count."""
    task, count = cpu.current, cpu.preempt_count
    if cpu.params.log_format == "2.6.18":
        text = f"{task.comm}/0x{count:08x}/{task.pid}"
    else:
        text = f"{task.comm}/{task.pid}/0x{count:08x}"
    printk(cpu, f"BUG: scheduling while atomic: {text}", KERN_ERR)
    _show_held_locks(cpu)
    dump_stack(cpu, KERN_ERR)


def _show_held_locks(cpu: Cpu) -> None:
    """debug_show_held_locks: what lockdep knows."""
    if cpu.lockdep is not None and cpu.lockdep.on() and cpu.params.log_format != "2.6.18":
        Printer(cpu.lockdep).held_locks()
