"""Waiting for another CPU to release a call_single_data, after kernel/smp.c.

The wait is a spin: it ends when the other CPU has done its part, or never. Behaviour
``csdlock_debug``: *off*, an endless wait is silent, and only the soft lockup watchdog sees it; *on*
(CONFIG_CSD_LOCK_WAIT_DEBUG, 5.10 and later, a boot option in 6.1) the waiter reports the other CPU
after ``csd_lock_timeout`` ms, again after each further one, and sends the IPI once more.

Left out: the backtrace that it asks of the other CPU by NMI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.bug import dump_stack
from nodes.cpu.kernel.ipi import send_ipi
from nodes.cpu.kernel.percpu import Context, Pause
from nodes.cpu.kernel.printk import KERN_ALERT, printk
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: A CPU that waits looks again after this long.
CSD_RETRY_NS = 50_000

_CUR_CSD = CPU_SCHEMA.index("cur_csd")


def csd_record(cpu: Cpu, source: int, function: int) -> None:
    """csd_lock_record: which call this CPU runs now; function 0: none."""
    cpu.words[_CUR_CSD] = source << 32 | function


def csd_lock_wait(
    cpu: Cpu, target: int, names: Callable[[int], str], function: int, locked: Callable[[], bool]
) -> Context:
    """Spin while ``locked()``: CPU ``target`` has not done its part of call ``function``."""
    timeout_ns = cpu.params.csd_lock_timeout * 1_000_000
    debug = cpu.params.csdlock_debug == "on" and timeout_ns > 0
    began = said = cpu.now()
    bug = 0
    while locked():
        now = cpu.now()
        if debug and now - said > timeout_ns:
            first = not bug
            bug = bug or cpu.ram.atomics.add(words.CSD_BUG_COUNT, 1)
            _too_long(cpu, target, bug, first, now - began, names, function)
            said = now
        yield Pause(now + CSD_RETRY_NS)
    if bug:
        _alert(
            cpu,
            f"csd: CSD lock (#{bug}) got unstuck on CPU#{cpu.number:02d}, "
            f"CPU#{target:02d} released the lock.",
        )


def _too_long(
    cpu: Cpu,
    target: int,
    bug: int,
    first: bool,
    waiting_ns: int,
    names: Callable[[int], str],
    function: int,
) -> None:
    """csd_lock_wait_toolong."""
    current: int = cpu.ram.page(f"cpu{target}", CPU_SCHEMA).words[_CUR_CSD]
    _alert(
        cpu,
        f"csd: {'Detected' if first else 'Continued'} non-responsive CSD lock (#{bug}) on "
        f"CPU#{cpu.number}, waiting {waiting_ns} ns for CPU#{target:02d} {names(function)}(0x0).",
    )
    if current not in (0, cpu.number << 32 | function):
        handling = f"handling prior {names(current & 0xFFFF_FFFF)}(0x0) request"
    else:
        handling = "handling this request" if current else "unresponsive"
    _alert(cpu, f"\tcsd: CSD lock (#{bug}) {handling}.")
    if not current:
        _alert(
            cpu,
            f"csd: Re-sending CSD lock (#{bug}) IPI from CPU#{cpu.number:02d} to CPU#{target:02d}",
        )
        send_ipi(cpu, target, cpu.params.call_function_single_vector)
    dump_stack(cpu)


def _alert(cpu: Cpu, text: str) -> None:
    printk(cpu, text, KERN_ALERT)
