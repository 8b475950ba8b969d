"""Telling the boot CPU that a pool_workqueue has no work of the colour that is being flushed.

pwq_dec_nr_in_flight notes it, since it may not wait; its callers send the record right behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.workqueue.completion import send

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: The CPU that has the flush state of every workqueue.
HOME = 0
#: Operation (``completion``): a pwq of workqueue ``a`` is done.
PWQ_FLUSHED = 22


def tell_flushed(cpu: Cpu) -> Context:
    """Behind pwq_dec_nr_in_flight."""
    flushed, cpu.wq.flushed = cpu.wq.flushed, []
    for number in flushed:
        yield from send(cpu, HOME, PWQ_FLUSHED, 0, number)
