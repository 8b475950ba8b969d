"""flush_workqueue: wait for all that was queued, by colours, after kernel/workqueue.c.

Each work takes the colour that is the workqueue's ``work_color`` when it is queued; a flush takes
that colour for itself and moves ``work_color`` on. A pool_workqueue counts its works in flight by
colour, and one that is asked to (``flush_color``) says when its works of that colour are done::

    flush_workqueue   the next colour is free: it is ours, and work_color moves on
                        nobody flushes: first_flusher, and all pwqs are armed with our colour
                        else: wait in flusher_queue
                      it is not (next == flush_color): wait in flusher_overflow, without a colour
    last pwq is done  the first flusher and all of its colour are complete; flush_color moves on;
                      who is in overflow gets a colour, one for all; the next flusher is the first

In Linux the flushers' own tasks do that under wq->mutex. Here these fields of workqueue_struct are
the boot CPU's, which never goes away: a flusher asks it and sleeps (``completion``), and it asks
the host of each pool to arm. Nothing blocks there: each host tells when its pwq has nothing of the
colour any more, at once if it never had. A host learns of a new ``work_color`` by the same record:
what is queued on another CPU in the microseconds that it takes counts as queued before the flush.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.locks.might_sleep import might_sleep
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.timer import timer_setup
from nodes.cpu.kernel.workqueue import keventd_flush
from nodes.cpu.kernel.workqueue.completion import ask, complete, fence, operation, send
from nodes.cpu.kernel.workqueue.flush import check_flush_dependency
from nodes.cpu.kernel.workqueue.flushtip import HOME, PWQ_FLUSHED
from nodes.cpu.kernel.workqueue.lockmap import check_map, workqueue_map
from nodes.cpu.kernel.workqueue.pool import PoolWorkqueue, host_of

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.alloc import Workqueue

#: Operations (``completion``).
FLUSH_WORKQUEUE, FLUSH_PWQ = 20, 21
#: "Leave it as it is", of a colour. FLUSH_PWQ packs two colours plus one into a word.
KEEP = -1
_SHIFT = 8
_SOURCE = "kernel/workqueue.c"


class Flusher:
    """struct wq_flusher."""

    def __init__(self, key: int) -> None:
        self.key = key  # its completion
        self.flush_color = KEEP


def flush_workqueue(cpu: Cpu, wq: Workqueue) -> Context:
    """Sleep until all works that are queued now have finished."""
    might_sleep(cpu, _SOURCE)
    if cpu.wq.keventd is not None:
        yield from keventd_flush.flush_workqueue(cpu, wq)
        return
    if cpu.lockdep is not None:
        check_map(cpu, workqueue_map(cpu, wq))
    check_flush_dependency(cpu, wq, None)
    yield from fence(cpu)
    yield from ask(cpu, HOME, FLUSH_WORKQUEUE, wq.id)


# -- on the boot CPU


def work_next_color(cpu: Cpu, color: int) -> int:
    return (color + 1) % cpu.params.work_nr_colors


@operation(FLUSH_WORKQUEUE)
def _flush_workqueue(cpu: Cpu, key: int, number: int, _b: int, _c: int) -> Context:
    """flush_workqueue up to where it sleeps."""
    wq, this = cpu.wq.workqueues[number], Flusher(key)
    next_color = work_next_color(cpu, wq.work_color)
    if next_color == wq.flush_color:
        wq.flusher_overflow.append(this)  # the colour space is full: wait for one
        return
    this.flush_color, wq.work_color = wq.work_color, next_color
    if wq.first_flusher is not None:
        wq.flusher_queue.append(this)
        yield from _flush_workqueue_prep_pwqs(cpu, wq, KEEP, wq.work_color)
        return
    wq.first_flusher = this
    if not (yield from _flush_workqueue_prep_pwqs(cpu, wq, this.flush_color, wq.work_color)):
        yield from _cascade(cpu, wq)


def _flush_workqueue_prep_pwqs(
    cpu: Cpu, wq: Workqueue, flush_color: int, work_color: int
) -> Context:
    """False if a colour was to be flushed and nothing has it, as far as is known at once."""
    arming = int(flush_color != KEEP)
    colors = flush_color + 1 | work_color + 1 << _SHIFT
    wq.nr_pwqs_to_flush += arming  # until all were asked
    for pool, host in _pools(cpu, wq):
        if host == cpu.number and pool in wq.pwqs:
            wq.nr_pwqs_to_flush += _arm(cpu, wq.pwqs[pool], flush_color, work_color)
        else:
            wq.nr_pwqs_to_flush += arming
            yield from send(cpu, host, FLUSH_PWQ, 0, wq.id, colors, pool)
    wq.nr_pwqs_to_flush -= arming
    return not arming or wq.nr_pwqs_to_flush > 0


def _pools(cpu: Cpu, wq: Workqueue) -> Iterator[tuple[int, int]]:
    """(pool, host) of each pwq of the workqueue, but for CPUs that never came up."""
    cpus, seen = cpu.machine.cpus, -1
    for node in range(cpus):
        pool = wq.pool_for(cpus, node)
        up = node in cpu.online_cpus or cpu.ram.atomics.load(words.POOL_HOST + node)
        if up and pool != seen:
            yield pool, host_of(cpu, pool)
            seen = pool


def _cascade(cpu: Cpu, wq: Workqueue) -> Context:
    """What the first flusher does when it wakes, before it returns."""
    first = wq.first_flusher
    while first is not None:
        yield from complete(cpu, first.key)
        wq.first_flusher = first = None
        while wq.flusher_queue and wq.flusher_queue[0].flush_color == wq.flush_color:
            yield from complete(cpu, wq.flusher_queue.pop(0).key)
        wq.flush_color = work_next_color(cpu, wq.flush_color)
        if wq.flusher_overflow:
            # one colour is free: all that waited for it share it
            for flusher in wq.flusher_overflow:
                flusher.flush_color = wq.work_color
            wq.work_color = work_next_color(cpu, wq.work_color)
            wq.flusher_queue += wq.flusher_overflow
            wq.flusher_overflow = []
            yield from _flush_workqueue_prep_pwqs(cpu, wq, KEEP, wq.work_color)
        if not wq.flusher_queue:
            if wq.flush_color != wq.work_color:
                warn_once(cpu, _SOURCE)
            return
        first = wq.first_flusher = wq.flusher_queue.pop(0)
        if (yield from _flush_workqueue_prep_pwqs(cpu, wq, wq.flush_color, KEEP)):
            return


@operation(PWQ_FLUSHED)
def _pwq_flushed(cpu: Cpu, _key: int, number: int, _b: int, _c: int) -> Context:
    """The last one wakes the first flusher."""
    wq = cpu.wq.workqueues[number]
    wq.nr_pwqs_to_flush -= 1
    if not wq.nr_pwqs_to_flush:
        yield from _cascade(cpu, wq)


# -- on the host of a pool


def _arm(cpu: Cpu, pwq: PoolWorkqueue, flush_color: int, work_color: int) -> bool:
    """True if the pwq has works of ``flush_color``: it will tell when they are done."""
    armed = False
    if flush_color != KEEP:
        if pwq.flush_color != KEEP:
            warn_once(cpu, _SOURCE)
        if pwq.nr_in_flight[flush_color]:
            pwq.flush_color = flush_color
            armed = True
    if work_color != KEEP:
        pwq.work_color = work_color
    return armed


@operation(FLUSH_PWQ)
def _flush_pwq(cpu: Cpu, _key: int, number: int, colors: int, pool: int) -> Context:
    host, wq = host_of(cpu, pool), cpu.wq.workqueues.get(number)
    if host != cpu.number:
        yield from send(cpu, host, FLUSH_PWQ, 0, number, colors, pool)  # it moved: follow it
        return
    if pool not in cpu.wq.pools:
        _look_again(cpu, number, colors, pool)  # it is on its way to this CPU
        return
    flush_color, work_color = (colors & 0xFF) - 1, (colors >> _SHIFT & 0xFF) - 1
    pwq = wq.pwqs.get(pool) if wq is not None else None
    armed = pwq is not None and _arm(cpu, pwq, flush_color, work_color)
    if flush_color != KEEP and not armed:
        yield from send(cpu, HOME, PWQ_FLUSHED, 0, number)


def _look_again(cpu: Cpu, number: int, colors: int, pool: int) -> None:
    timer = timer_setup(
        cpu, lambda cpu: send(cpu, cpu.number, FLUSH_PWQ, 0, number, colors, pool), 0, "flush_pwq"
    )
    cpu.timers.mod_timer(timer, cpu.jiffies() + 1)
