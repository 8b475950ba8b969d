"""try_to_grab_pending: take PENDING of a work, wherever it is; and what cancels without waiting.

A timer is deleted through its shared word, and an idle work's PENDING is one atomic word: neither
needs another CPU. A work that is on another CPU's list is taken off by that CPU: it is asked by a
record and answers by one (``remote``), so the caller must be a task, or at least have interrupts
on. In Linux the caller would take the other pool's lock.
"""

from __future__ import annotations

from errno import EAGAIN, ENOENT
from typing import TYPE_CHECKING

from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.percpu import Context, Pause
from nodes.cpu.kernel.smp import remote_function
from nodes.cpu.kernel.timer_shared import del_timer
from nodes.cpu.kernel.workqueue import keventd_flush
from nodes.cpu.kernel.workqueue.flushtip import tell_flushed
from nodes.cpu.kernel.workqueue.pool import (
    PoolWorkqueue,
    get_work_pwq,
    host_of,
    pwq_activate_inactive_work,
    pwq_dec_nr_in_flight,
)
from nodes.cpu.kernel.workqueue.remote import answer, ask
from nodes.cpu.kernel.workqueue.work import (
    WORK_STRUCT_INACTIVE,
    WORK_STRUCT_PWQ,
    DelayedWork,
    Work,
    get_work_pool_id,
    set_work_pool_and_clear_pending,
    set_work_pool_and_keep_pending,
    test_and_set_pending,
    work_data,
    work_is_canceling,
    work_named,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Record: take work 1 off your pool 2, and answer ticket 3.
GRAB_WORK = 121
#: Where Linux spins with cpu_relax.
GRAB_RETRY_NS, GRAB_RETRIES = 2_000, 20


def try_to_grab_pending_once(cpu: Cpu, work: Work) -> Context:
    """1: stolen from timer or list; 0: it was idle; in both cases the caller has PENDING now.
    -EAGAIN: it is just being queued or run; -ENOENT: somebody is cancelling it."""
    if isinstance(work, DelayedWork) and del_timer(cpu, work.timer):
        return 1
    if not test_and_set_pending(cpu, work):
        return 0
    data = work_data(cpu, work)
    if work_is_canceling(data):
        return -ENOENT
    if not data & WORK_STRUCT_PWQ:
        return -EAGAIN
    pool = get_work_pool_id(data)
    host = host_of(cpu, pool)
    if host == cpu.number:
        taken = _take_off(cpu, work, pool)
        if cpu.wq.flushed:
            yield from tell_flushed(cpu)
        return taken
    stolen: int = yield from ask(cpu, host, [GRAB_WORK, work.number, pool])
    return 1 if stolen else -EAGAIN


def try_to_grab_pending(cpu: Cpu, work: Work) -> Context:
    """Until it is not -EAGAIN any more.

    Where Linux has interrupts off for an instant, here a task of this CPU may have PENDING and wait
    for another CPU's answer, or the work is in a record that this CPU has yet to take. So a task
    sleeps meanwhile. What cannot sleep would wait for ever: it leaves the work to whoever has it
    in hand (-ENOENT), as if that one had come later; a softirq tries some times before."""
    retries = GRAB_RETRIES if cpu.irqs_on else 0
    while (grabbed := (yield from try_to_grab_pending_once(cpu, work))) == -EAGAIN:
        if cpu.preemptible() and cpu.current is not cpu.idle:
            yield from nanosleep(cpu, GRAB_RETRY_NS)
        elif not retries:
            return -ENOENT
        else:
            retries -= 1
            yield Pause(cpu.now() + GRAB_RETRY_NS)
    return grabbed


def _take_off(cpu: Cpu, work: Work, pool: int) -> int:
    """Off the list of a pool that is hosted here."""
    data = work_data(cpu, work)
    if not data & WORK_STRUCT_PWQ or get_work_pool_id(data) != pool or pool not in cpu.wq.pools:
        return -EAGAIN
    pwq = get_work_pwq(cpu, work)
    if data & WORK_STRUCT_INACTIVE:
        queued = next(w for w in pwq.inactive_works if w.number == work.number)
        pwq_activate_inactive_work(cpu, pwq, queued)  # its barriers must not stay inactive
    _unlink(cpu, pwq, work)
    pwq_dec_nr_in_flight(cpu, pwq, data & ~WORK_STRUCT_INACTIVE)
    set_work_pool_and_keep_pending(cpu, work, pool)
    return 1


def _unlink(cpu: Cpu, pwq: PoolWorkqueue, work: Work) -> None:
    """list_del_init: it is on the worklist, or on the private list of a worker."""
    pool = pwq.pool
    scheduled = (worker.scheduled for worker in cpu.wq.all_workers(pool))
    for entries in (pool.worklist, pool.unknown, *scheduled):
        for at, entry in enumerate(entries):
            if entry.number == work.number:
                del entries[at]
                cpu.wq.rows.pool(pool)
                if entries is pool.unknown:
                    cpu.wq.unpark()  # its barriers wait for nothing any more
                return


@remote_function(GRAB_WORK)
def _grab_work(cpu: Cpu, source: int, record: list[int]) -> Context:
    stolen = 0
    if host_of(cpu, record[2]) == cpu.number:
        stolen = int(_take_off(cpu, work_named(cpu, record[1]), record[2]) > 0)
        if cpu.wq.flushed:
            yield from tell_flushed(cpu)
    yield from answer(cpu, source, record[3], stolen)


def cancel_delayed_work(cpu: Cpu, dwork: DelayedWork) -> Context:
    """Off its timer or list; True if it was pending. Does not wait: its function may be running."""
    if cpu.wq.keventd is not None:
        return (yield from keventd_flush.cancel_delayed_work(cpu, dwork))
    return (yield from cancel_work(cpu, dwork))


def cancel_work(cpu: Cpu, work: Work) -> Context:
    """6.1: as cancel_delayed_work, for any work."""
    if cpu.wq.keventd is not None:
        return (yield from keventd_flush.cancel_work(cpu, work))
    grabbed: int = yield from try_to_grab_pending(cpu, work)
    if grabbed < 0:
        return False
    set_work_pool_and_clear_pending(cpu, work, get_work_pool_id(work_data(cpu, work)))
    return bool(grabbed)
