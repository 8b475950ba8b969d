"""struct work_struct and its data word, after include/linux/workqueue.h.

A work is a number that every CPU knows; what there is to run under it, each CPU says by
``INIT_WORK``. Its ``data`` is an atomic word in RAM::

    bit   0   1                   2    3       4..7    8..
    queued    PENDING  DELAYED or INACTIVE  PWQ  LINKED  colour  pool_workqueue: wq << 16 | pool
    not   PENDING  -                   -    -       4: CANCELING, 5..35: last pool, 40: on its way

The RAM holds it XOR WORK_STRUCT_NO_POOL, so that RAM full of zeros holds works that never ran.
Whoever sets PENDING owns the word until the work is queued; then the CPU that hosts the pool does.

A second word says where a work is running: pool + 1 | workqueue << 16, of the pool named last. In
Linux whoever queues takes the last pool's lock and looks into its busy_hash; here that would cost
an IPI each time, so only a work that does still run makes it necessary.

Left out: STATIC (CONFIG_DEBUG_OBJECTS_WORK).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.timer_shared import SharedTimer

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

WORK_STRUCT_PENDING, WORK_STRUCT_INACTIVE, WORK_STRUCT_PWQ, WORK_STRUCT_LINKED = 1, 2, 4, 8
WORK_STRUCT_DELAYED = WORK_STRUCT_INACTIVE  # its name until 5.15
WORK_STRUCT_COLOR_SHIFT, WORK_STRUCT_COLOR_MASK = 4, 0xF0
WORK_STRUCT_PWQ_SHIFT = 8
WORK_OFFQ_CANCELING = 1 << 4
WORK_OFFQ_POOL_SHIFT = 5
WORK_OFFQ_POOL_NONE = (1 << 31) - 1
#: Not in Linux: a record takes it to the pool that the word names.
WORK_OFFQ_IN_TRANSIT = 1 << 40
WORK_STRUCT_NO_POOL = WORK_OFFQ_POOL_NONE << WORK_OFFQ_POOL_SHIFT

#: Pool ids in a pool_workqueue's number.
POOL_BITS, POOL_MASK = 16, 0xFFFF


def not_known(_cpu: Cpu) -> Context:
    """Function of a work that a pool has brought to a CPU where nobody made it known."""
    raise AssertionError("it waits until its CPU is back")


class Work:
    """One CPU's view of a work: ``function(cpu)`` is a context, run by a worker of that CPU."""

    __slots__ = ("data", "function", "key", "name", "number")

    def __init__(self, number: int, name: str, function: Callable[[Cpu], Context]) -> None:
        self.number = number  # of its data word; -1: a work of this CPU alone (a barrier)
        self.name = name
        self.function = function
        self.data = 0  # of a work without a number
        self.key = 0  # of a barrier: the completion that it completes


class DelayedWork(Work):
    """struct delayed_work: a work and a timer that any CPU may arm or delete."""

    __slots__ = ("timer",)

    timer: SharedTimer


def INIT_WORK(cpu: Cpu, number: int, name: str, function: Callable[[Cpu], Context]) -> Work:
    """Make the work known to this CPU. Its data stays: it may be queued on another one."""
    work = Work(number, name, function)
    cpu.wq.works[number] = work
    cpu.wq.unpark()
    return work


def work_named(cpu: Cpu, number: int) -> Work:
    """The work of that number; one without a function if nobody made it known here."""
    return cpu.wq.works.get(number) or Work(number, "?", not_known)


# -- the data word


def work_data(cpu: Cpu, work: Work) -> int:
    """work->data."""
    if work.number < 0:
        return work.data
    return cpu.ram.atomics.load(work.number) ^ WORK_STRUCT_NO_POOL


def set_work_data(cpu: Cpu, work: Work, data: int) -> None:
    """For the owner of the word."""
    if work.number < 0:
        work.data = data
    else:
        cpu.ram.atomics.release(work.number, data ^ WORK_STRUCT_NO_POOL)


def test_and_set_pending(cpu: Cpu, work: Work) -> bool:
    """True if it was pending already; else the caller owns it now."""
    return cpu.ram.atomics.test_and_set(work.number)


def set_work_pool_and_clear_pending(cpu: Cpu, work: Work, pool: int) -> None:
    """Off queue: from here on the work may be queued again."""
    set_work_data(cpu, work, pool << WORK_OFFQ_POOL_SHIFT)


def set_work_pool_and_keep_pending(cpu: Cpu, work: Work, pool: int) -> None:
    set_work_data(cpu, work, pool << WORK_OFFQ_POOL_SHIFT | WORK_STRUCT_PENDING)


def set_work_in_transit(cpu: Cpu, work: Work, pool: int) -> None:
    """It is being sent to that pool's host: who flushes or cancels it looks there."""
    off = pool << WORK_OFFQ_POOL_SHIFT | WORK_OFFQ_IN_TRANSIT | WORK_STRUCT_PENDING
    set_work_data(cpu, work, off)


def mark_work_canceling(cpu: Cpu, work: Work) -> None:
    """PENDING is held, and by a canceller: others wait, or give up."""
    pool = get_work_pool_id(work_data(cpu, work))
    off = pool << WORK_OFFQ_POOL_SHIFT | WORK_OFFQ_CANCELING | WORK_STRUCT_PENDING
    set_work_data(cpu, work, off)


def clear_work_data(cpu: Cpu, work: Work) -> None:
    """No pool, not pending."""
    set_work_data(cpu, work, WORK_STRUCT_NO_POOL)


def work_is_canceling(data: int) -> bool:
    return not data & WORK_STRUCT_PWQ and bool(data & WORK_OFFQ_CANCELING)


def work_in_transit(data: int) -> bool:
    return not data & WORK_STRUCT_PWQ and bool(data & WORK_OFFQ_IN_TRANSIT)


def get_work_color(data: int) -> int:
    return (data & WORK_STRUCT_COLOR_MASK) >> WORK_STRUCT_COLOR_SHIFT


def pwq_id(wq: int, pool: int) -> int:
    """Number of a pool_workqueue, as data words have it."""
    return wq << POOL_BITS | pool


def get_work_wq_id(data: int) -> int:
    """Of a queued work."""
    return data >> WORK_STRUCT_PWQ_SHIFT + POOL_BITS


def get_work_pool_id(data: int) -> int:
    """Where it is queued, else where it ran last, else WORK_OFFQ_POOL_NONE."""
    if data & WORK_STRUCT_PWQ:
        return data >> WORK_STRUCT_PWQ_SHIFT & POOL_MASK
    return data >> WORK_OFFQ_POOL_SHIFT & WORK_OFFQ_POOL_NONE


# -- where it runs


def _running_word(work: Work) -> int:
    return words.WORK_RUNNING + work.number - words.WORK


def set_work_running(cpu: Cpu, work: Work, wq: int, pool: int) -> None:
    """Before PENDING is cleared."""
    if work.number < 0:
        return
    atomics, word = cpu.ram.atomics, _running_word(work)
    if atomics.load(word):
        atomics.store(word, wq << POOL_BITS | pool + 1)  # that run may be ending just now
    else:
        atomics.release(word, wq << POOL_BITS | pool + 1)


def clear_work_running(cpu: Cpu, work: Work, wq: int, pool: int) -> None:
    """Unless it began to run on another pool since."""
    if work.number >= 0:
        cpu.ram.atomics.cmpxchg(_running_word(work), wq << POOL_BITS | pool + 1, 0)


def work_running_on(cpu: Cpu, work: Work, wq: int) -> int | None:
    """The pool on which it runs for this workqueue, as far as the last one to start it is asked."""
    running = cpu.ram.atomics.load(_running_word(work))
    if not running or running >> POOL_BITS != wq:
        return None
    return (running & POOL_MASK) - 1
