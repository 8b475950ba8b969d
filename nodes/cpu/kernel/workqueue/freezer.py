"""Freezing and thawing workqueues, for suspend: WQ_FREEZABLE ones get a max_active of 0.

New works then wait as inactive ones, and those that are active finish; *busy* says whether some
still do. Freezing is known to every CPU when ``freeze_workqueues_begin`` returns. Behaviour
``freezing_flag``: a flag of each *pool* (POOL_FREEZING), or one for *all*.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.workqueue.alloc import WQ_FREEZABLE, pwq_adjust_max_active
from nodes.cpu.kernel.workqueue.completion import ask_each, operation
from nodes.cpu.kernel.workqueue.pool import POOL_FREEZING

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Operations (``completion``).
SET_FREEZING, FREEZING_BUSY = 50, 51


def freeze_workqueues_begin(cpu: Cpu) -> Context:
    """From now on freezable workqueues start nothing."""
    if cpu.wq.freezing:
        warn_once(cpu, "kernel/workqueue.c")
    yield from ask_each(cpu, SET_FREEZING, 1)


def freeze_workqueues_busy(cpu: Cpu) -> Context:
    """True while works of freezable workqueues run."""
    if not cpu.wq.freezing:
        warn_once(cpu, "kernel/workqueue.c")
    return any((yield from ask_each(cpu, FREEZING_BUSY)))


def thaw_workqueues(cpu: Cpu) -> Context:
    """Start what has been waiting."""
    if cpu.wq.freezing:
        yield from ask_each(cpu, SET_FREEZING, 0)


@operation(SET_FREEZING)
def _set_freezing(cpu: Cpu, _key: int, freezing: int, _b: int, _c: int) -> int | None:
    cpu.wq.freezing = bool(freezing)
    if cpu.params.freezing_flag == "pool":
        for pool in cpu.wq.pools.values():
            pool.flags = pool.flags & ~POOL_FREEZING | (POOL_FREEZING if freezing else 0)
    for wq in cpu.wq.workqueues.values():
        for pwq in wq.pwqs.values():
            pwq_adjust_max_active(cpu, pwq)
    return 0


@operation(FREEZING_BUSY)
def _freezing_busy(cpu: Cpu, _key: int, _a: int, _b: int, _c: int) -> int | None:
    wqs = cpu.wq.workqueues.values()
    freezable = (wq for wq in wqs if wq.flags & WQ_FREEZABLE)
    return any(pwq.nr_active for wq in freezable for pwq in wq.pwqs.values())
