"""The mutex: a lock whose waiters sleep, after kernel/locking/mutex.c without its spinning on a
running owner and without hand-off to the first waiter (a woken task tries again).

The word holds the owner's pid. Waiters of each CPU stand in a list of that CPU; a second word tells
by a bit for each CPU who has any, and an unlock wakes the first of each: its own at once, another
CPU's by a reschedule IPI with a record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.locks.lock import Lock
from nodes.cpu.kernel.locks.might_sleep import might_sleep
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.sched import TASK_RUNNING, TASK_UNINTERRUPTIBLE, wake_up_process
from nodes.cpu.kernel.smp import queue_remote_wakeup, remote_function

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

MUTEX_WAKE = 60
_SOURCE = {
    "2.6.18": "kernel/mutex.c",
    "3.10": "kernel/mutex.c",
    "6.1": "kernel/locking/mutex.c",
}


class Mutex(Lock):
    """struct mutex."""

    __slots__ = ()
    wait_type = 3

    def owner(self, cpu: Cpu) -> int:
        """Pid of the owner; 0: it is free."""
        return cpu.ram.atomics.load(self.word)


def mutex_lock(cpu: Cpu, lock: Mutex) -> Context:
    """Sleep until it is ours."""
    might_sleep(cpu, _SOURCE[cpu.params.log_format])
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock)
    task, atomics = cpu.current, cpu.ram.atomics
    yield
    if not atomics.cmpxchg(lock.word, 0, task.pid):
        return
    waiters = cpu.mutex_waiters.setdefault(lock.number, [])
    waiters.append(task)
    while True:
        task.state = TASK_UNINTERRUPTIBLE
        # first tell, then look again: an unlock in between has either been seen or wakes us
        atomics.test_and_set(words.MUTEX_WAITERS + lock.number, 1 << cpu.number)
        if not atomics.cmpxchg(lock.word, 0, task.pid):
            break
        yield SCHEDULE
    task.state = TASK_RUNNING
    waiters.remove(task)
    if not waiters:
        atomics.clear_bits(words.MUTEX_WAITERS + lock.number, 1 << cpu.number)


def mutex_trylock(cpu: Cpu, lock: Mutex) -> bool:
    if cpu.ram.atomics.cmpxchg(lock.word, 0, cpu.current.pid):
        return False
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock, trylock=True)
    return True


def mutex_unlock(cpu: Cpu, lock: Mutex) -> Context:
    """Free it and wake who waits."""
    if cpu.lockdep is not None:
        cpu.lockdep.release(lock)
    atomics = cpu.ram.atomics
    atomics.store(lock.word, 0)
    waiting = atomics.load(words.MUTEX_WAITERS + lock.number)
    number = 0
    while waiting:
        if waiting & 1:
            if number == cpu.number:
                _wake_first(cpu, lock.number)
            else:
                yield from queue_remote_wakeup(cpu, number, [MUTEX_WAKE, lock.number])
        waiting >>= 1
        number += 1
    yield


def _wake_first(cpu: Cpu, number: int) -> None:
    waiters = cpu.mutex_waiters.get(number)
    if waiters:
        wake_up_process(cpu, waiters[0])


@remote_function(MUTEX_WAKE)
def _remote_wake(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    _wake_first(cpu, record[1])
    return None
