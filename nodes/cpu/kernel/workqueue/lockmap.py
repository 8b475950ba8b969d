"""Lockdep maps of works and workqueues: what tells a flush that can never end, before it hangs.

A work runs "holding" its own map and its workqueue's, and who flushes one takes it for a moment. So
a work that flushes itself, or its own workqueue, is a recursion, and a task that flushes a work
while it holds a mutex that the work takes is a circular dependency. (2.6.24 and later.)

A map has a class of its own, taken from a table in RAM when it is first used, so that all CPUs know
it by the same one. There are ``LOCK_MAPS``; what comes later is not validated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.locks.lock import Lock

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.alloc import Workqueue
    from nodes.cpu.kernel.workqueue.work import Work

#: Lock numbers and classes of the kernel that nothing else uses.
_FIRST_CLASS = 32 - words.LOCK_MAPS
_WORKQUEUE = 1 << 32


class LockMap(Lock):
    """struct lockdep_map: a class without a lock."""

    __slots__ = ()
    wait_type = 0


def work_map(cpu: Cpu, work: Work) -> LockMap | None:
    """work->lockdep_map."""
    prefix = "(work_completion)" if cpu.params.log_format == "6.1" else ""
    return _map(cpu, work.number + 1, f"{prefix}({work.name})") if work.number >= 0 else None


def workqueue_map(cpu: Cpu, wq: Workqueue) -> LockMap | None:
    """wq->lockdep_map."""
    prefix = "(wq_completion)" if cpu.params.log_format == "6.1" else ""
    return _map(cpu, _WORKQUEUE | wq.id, prefix + wq.name)


def _map(cpu: Cpu, owner: int, name: str) -> LockMap | None:
    atomics = cpu.ram.atomics
    for at in range(words.LOCK_MAPS):
        if atomics.cmpxchg(words.LOCK_MAP + at, 0, owner) in (0, owner):
            return LockMap(_FIRST_CLASS + at, name)
    return None


def lock_map_acquire(cpu: Cpu, lock: LockMap | None) -> None:
    if lock is not None and cpu.lockdep is not None:
        cpu.lockdep.acquire(lock)


def lock_map_release(cpu: Cpu, lock: LockMap | None) -> None:
    if lock is not None and cpu.lockdep is not None:
        cpu.lockdep.release(lock)


def check_map(cpu: Cpu, lock: LockMap | None) -> None:
    """Taken and let go: could this wait?"""
    lock_map_acquire(cpu, lock)
    lock_map_release(cpu, lock)
