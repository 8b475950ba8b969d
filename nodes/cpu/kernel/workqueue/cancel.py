"""cancel_work_sync and cancel_delayed_work_sync: neither pending nor running, nor queued again.

The canceller steals PENDING (``grab``) and marks the word CANCELING: whoever queues the work finds
it pending, a work that queues itself too. Then it waits for the instance that runs, and clears the
word. Two cancellers at once: the second finds CANCELING and waits for the first. Behaviour
``cancel_wait``: by flushing the work, again and again (*flush*), or on a waitqueue that all
cancellers share (*waitqueue*, 3.19 and later). The waitqueue has a list on each CPU and a bit for
each CPU in a word of RAM.
"""

from __future__ import annotations

from errno import ENOENT
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.locks.might_sleep import might_sleep
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Pause
from nodes.cpu.kernel.sched import TASK_RUNNING, TASK_UNINTERRUPTIBLE, wake_up_process
from nodes.cpu.kernel.timer import SPIN_NS
from nodes.cpu.kernel.workqueue import keventd_flush
from nodes.cpu.kernel.workqueue.completion import operation, send
from nodes.cpu.kernel.workqueue.flush import flush_work
from nodes.cpu.kernel.workqueue.grab import try_to_grab_pending
from nodes.cpu.kernel.workqueue.work import (
    DelayedWork,
    Work,
    clear_work_data,
    mark_work_canceling,
    work_data,
    work_is_canceling,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Operation (``completion``): wake who waits to cancel work ``a``.
CANCEL_WAKE = 30


def cancel_work_sync(cpu: Cpu, work: Work) -> Context:
    """True if it was pending (not: if it was running)."""
    might_sleep(cpu, "kernel/workqueue.c")
    if cpu.wq.keventd is not None:
        return (yield from keventd_flush.cancel_work_sync(cpu, work))
    while (grabbed := (yield from try_to_grab_pending(cpu, work))) == -ENOENT:
        yield from _wait_for_canceller(cpu, work)
    mark_work_canceling(cpu, work)
    yield from flush_work(cpu, work)
    clear_work_data(cpu, work)
    if cpu.params.cancel_wait == "waitqueue":
        yield from _wake_up_cancellers(cpu, work)
    return grabbed > 0


def cancel_delayed_work_sync(cpu: Cpu, dwork: DelayedWork) -> Context:
    """The same: a delayed work's timer is looked at first."""
    return cancel_work_sync(cpu, dwork)


def _wait_for_canceller(cpu: Cpu, work: Work) -> Context:
    if cpu.params.cancel_wait == "flush":
        if not (yield from flush_work(cpu, work)):
            yield Pause(cpu.now() + SPIN_NS)
        return
    task, waiters = cpu.current, cpu.wq.cancel_waitq
    waiters.append((work.number, task))
    task.state = TASK_UNINTERRUPTIBLE
    cpu.ram.atomics.test_and_set(words.CANCEL_WAITERS, 1 << cpu.number)
    if work_is_canceling(work_data(cpu, work)):
        yield SCHEDULE
    task.state = TASK_RUNNING
    waiters.remove((work.number, task))
    if not waiters:
        cpu.ram.atomics.clear_bits(words.CANCEL_WAITERS, 1 << cpu.number)


def _wake_up_cancellers(cpu: Cpu, work: Work) -> Context:
    waiting = cpu.ram.atomics.load(words.CANCEL_WAITERS)
    for number in range(waiting.bit_length()):
        if waiting >> number & 1:
            yield from send(cpu, number, CANCEL_WAKE, 0, work.number)


@operation(CANCEL_WAKE)
def _cancel_wake(cpu: Cpu, _key: int, number: int, _b: int, _c: int) -> int | None:
    """cwt_wakefn: only those that wait for this work."""
    for waits_for, task in cpu.wq.cancel_waitq:
        if waits_for == number:
            wake_up_process(cpu, task)
    return None
