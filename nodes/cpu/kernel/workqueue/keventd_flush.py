"""Flushing and cancelling with the workqueues of 2.6.18 (``keventd``).

A flush sleeps, one CPU after the other, until remove_sequence is what insert_sequence was. Called
by the workqueue's own thread that would never be: it runs its list then and there, inside the work
that it is running. ``cancel_delayed_work`` only stops the timer: what has reached a list runs.
``cancel_rearming_delayed_workqueue`` tries that and flushes by turns.

Later functions stand here under their later names, since callers use them in all eras: flush_work
is the flush of the queue on which the work is (what its users wrote in 2.6.18), cancel_work_sync is
EL5's (off its timer or its list; then wait for instances that run), drain_workqueue flushes until
nothing is left, mod_delayed_work cancels and queues.
"""

from __future__ import annotations

from errno import EAGAIN
from typing import TYPE_CHECKING

from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.locks.might_sleep import might_sleep
from nodes.cpu.kernel.percpu import Context, Pause
from nodes.cpu.kernel.tables import publish
from nodes.cpu.kernel.timer import SPIN_NS
from nodes.cpu.kernel.timer_shared import del_timer_sync
from nodes.cpu.kernel.workqueue.completion import ask, ask_each, fence, operation
from nodes.cpu.kernel.workqueue.keventd import (
    FLUSH_CPU_WORKQUEUE,
    SINGLETHREAD_CPU,
    CpuWorkqueue,
    end_workqueue_thread,
    run_workqueue,
    wake_up_done,
)
from nodes.cpu.kernel.workqueue.work import (
    POOL_MASK,
    WORK_STRUCT_PENDING,
    WORK_STRUCT_PWQ,
    DelayedWork,
    Work,
    clear_work_data,
    get_work_pool_id,
    get_work_wq_id,
    test_and_set_pending,
    work_data,
    work_in_transit,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.alloc import Workqueue

#: Operations (``completion``).
GRAB, WAIT_ON_WORK, BUSY, CLEANUP_THREAD = 3, 4, 5, 6
#: BUSY of any work of the workqueue.
ANY_WORK = (1 << 64) - 1
WORK_BUSY_PENDING, WORK_BUSY_RUNNING = 1, 2
_SOURCE = "kernel/workqueue.c"


def _cwq(cpu: Cpu, wq: int) -> CpuWorkqueue:
    assert cpu.wq.keventd is not None
    return cpu.wq.keventd.cwqs[wq]


# -- flushing


def flush_workqueue(cpu: Cpu, wq: Workqueue) -> Context:
    """Sleep until what is queued now has returned."""
    might_sleep(cpu, _SOURCE)
    cwq = _cwq(cpu, wq.id)
    yield from fence(cpu)
    for number in [SINGLETHREAD_CPU] if cwq.single else list(cpu.online_cpus):
        if number == cpu.number and cwq.thread is cpu.current:
            # keventd flushes its own queue: run it by hand, it would wait for itself for ever
            yield from run_workqueue(cpu, cwq)
        else:
            yield from ask(cpu, number, FLUSH_CPU_WORKQUEUE, wq.id)


@operation(FLUSH_CPU_WORKQUEUE)
def _flush_cpu_workqueue(cpu: Cpu, key: int, wq: int, _b: int, _c: int) -> int | None:
    cwq = _cwq(cpu, wq)
    if cwq.remove_sequence >= cwq.insert_sequence:
        return 0
    cwq.work_done.append((cwq.insert_sequence, key))
    return None


def flush_work(cpu: Cpu, work: Work) -> Context:
    """True if there was something to wait for."""
    if work_in_transit(work_data(cpu, work)):
        yield from fence(cpu)
    data = work_data(cpu, work)
    wq = cpu.wq.workqueues.get(get_work_wq_id(data))
    if data & WORK_STRUCT_PENDING and data & WORK_STRUCT_PWQ and wq is not None:  # not destroyed
        yield from flush_workqueue(cpu, wq)
        return True
    return (yield from _wait_on_work(cpu, work))


def drain_workqueue(cpu: Cpu, wq: Workqueue) -> Context:
    """Flush until nothing is left anywhere."""
    while True:
        yield from flush_workqueue(cpu, wq)
        if not any((yield from ask_each(cpu, BUSY, ANY_WORK, wq.id))):
            return


def destroy_workqueue(cpu: Cpu, wq: Workqueue) -> Context:
    """Flush it, end its threads, forget it."""
    yield from flush_workqueue(cpu, wq)
    yield from ask_each(cpu, CLEANUP_THREAD, wq.id)
    yield from publish(cpu, "workqueue", wq.id, None)


@operation(CLEANUP_THREAD)
def _cleanup_workqueue_thread(cpu: Cpu, key: int, wq: int, _b: int, _c: int) -> int | None:
    assert cpu.wq.keventd is not None
    cwq = cpu.wq.keventd.cwqs.pop(wq)
    if cwq.thread is None:
        return 0
    end_workqueue_thread(cpu, cwq, key)
    return None


# -- cancelling


def cancel_delayed_work(cpu: Cpu, dwork: DelayedWork) -> Context:
    """Stop its timer; True if it had not fired. What is on a list already runs."""
    stopped: bool = yield from del_timer_sync(cpu, dwork.timer)
    if stopped:
        clear_work_data(cpu, dwork)
    return bool(stopped)


def cancel_rearming_delayed_workqueue(cpu: Cpu, wq: Workqueue, dwork: DelayedWork) -> Context:
    """Stop a work that arms itself each time. One that does not is waited for without end."""
    while not (yield from cancel_delayed_work(cpu, dwork)):
        yield from flush_workqueue(cpu, wq)


def cancel_rearming_delayed_work(cpu: Cpu, dwork: DelayedWork) -> Context:
    """The same for one that is on keventd's own queue."""
    yield from cancel_rearming_delayed_workqueue(cpu, cpu.wq.system_wq, dwork)


def cancel_work_sync(cpu: Cpu, work: Work) -> Context:
    """EL5's: off its timer or list, and no instance runs any more. True if it was pending."""
    while True:
        taken = yield from _try_to_grab_pending(cpu, work)
        yield from _wait_on_work(cpu, work)
        if taken >= 0:
            break
        yield from nanosleep(cpu, SPIN_NS)  # another canceller has it, perhaps on this CPU
    clear_work_data(cpu, work)
    return taken > 0


def cancel_work(cpu: Cpu, work: Work) -> Context:
    """Off its timer or list; does not wait for what runs."""
    while (taken := (yield from _try_to_grab_pending(cpu, work))) < 0:
        yield Pause(cpu.now() + SPIN_NS)
    clear_work_data(cpu, work)
    return taken > 0


def _try_to_grab_pending(cpu: Cpu, work: Work) -> Context:
    """1: taken off timer or list. 0: it was idle. PENDING is ours in both. -EAGAIN: neither."""
    if isinstance(work, DelayedWork) and (yield from del_timer_sync(cpu, work.timer)):
        return 1
    if not test_and_set_pending(cpu, work):
        return 0
    data = work_data(cpu, work)
    if not data & WORK_STRUCT_PWQ:
        return -EAGAIN
    where = get_work_pool_id(data) & POOL_MASK
    return (yield from ask(cpu, where, GRAB, get_work_wq_id(data), work.number))


@operation(GRAB)
def _grab(cpu: Cpu, _key: int, wq: int, number: int, _c: int) -> Context:
    """Take it off. The sequence closes up behind it, and so does what flushers wait for."""
    cwq = _cwq(cpu, wq)
    for at, work in enumerate(cwq.worklist):
        if work.number == number:
            sequence = cwq.insert_sequence - len(cwq.worklist) + 1 + at
            del cwq.worklist[at]
            cwq.insert_sequence -= 1
            cpu.wq.rows.thread(wq, cwq.worklist, idle=not cwq.running)
            cwq.work_done = [(n - (n >= sequence), key) for n, key in cwq.work_done]
            yield from wake_up_done(cpu, cwq)
            return 1
    return -EAGAIN


def _wait_on_work(cpu: Cpu, work: Work) -> Context:
    """Until it runs on no CPU; True if it did."""
    return any((yield from ask_each(cpu, WAIT_ON_WORK, work.number)))


@operation(WAIT_ON_WORK)
def _wait_on_cpu_work(cpu: Cpu, key: int, number: int, _b: int, _c: int) -> int | None:
    assert cpu.wq.keventd is not None
    for cwq in cpu.wq.keventd.cwqs.values():
        if any(work.number == number for work in cwq.running):
            cwq.finished.append((number, key))
            return None
    return 0


# -- asking


def work_busy(cpu: Cpu, work: Work) -> Context:
    """WORK_BUSY_PENDING and WORK_BUSY_RUNNING."""
    busy = work_data(cpu, work) & WORK_STRUCT_PENDING
    if any((yield from ask_each(cpu, BUSY, work.number))):
        busy |= WORK_BUSY_RUNNING
    return busy


@operation(BUSY)
def _busy(cpu: Cpu, _key: int, number: int, wq: int, _c: int) -> int | None:
    """Does the work run here? ANY_WORK: has the workqueue anything here?"""
    assert cpu.wq.keventd is not None
    if number == ANY_WORK:
        cwq = _cwq(cpu, wq)
        return bool(cwq.worklist or cwq.running)
    cwqs = cpu.wq.keventd.cwqs.values()
    return any(work.number == number for cwq in cwqs for work in cwq.running)
