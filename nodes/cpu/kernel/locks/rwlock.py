"""Reader-writer spinlocks, after kernel/locking/spinlock.c: many readers or one writer.

The word counts readers; a writer sets the top bit. Only the plain forms: ``_bh`` and ``_irqsave``
are these with bottom halves or interrupts off around them. A writer's waiting stops no reader, so
an interrupt may read what it interrupted the reading of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.locks.lock import Lock
from nodes.cpu.kernel.locks.spinlock import cpu_relax
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

WRITER = 1 << 63


class RwLock(Lock):
    """rwlock_t."""

    __slots__ = ()


def read_lock(cpu: Cpu, lock: RwLock) -> Context:
    """Share it with other readers."""
    cpu.preempt_count += cpu.preempt_counted
    yield
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock, read=True)
    atomics, since_ns = cpu.ram.atomics, cpu.now()
    while True:
        readers = atomics.load(lock.word)
        if readers < WRITER and atomics.cmpxchg(lock.word, readers, readers + 1) == readers:
            return
        yield cpu_relax(cpu, since_ns)


def read_unlock(cpu: Cpu, lock: RwLock) -> Context:
    if cpu.lockdep is not None:
        cpu.lockdep.release(lock)
    cpu.ram.atomics.add(lock.word, -1)
    cpu.preempt_count -= cpu.preempt_counted
    yield


def write_lock(cpu: Cpu, lock: RwLock) -> Context:
    """Alone."""
    cpu.preempt_count += cpu.preempt_counted
    yield
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock)
    since_ns = cpu.now()
    while cpu.ram.atomics.cmpxchg(lock.word, 0, WRITER):
        yield cpu_relax(cpu, since_ns)


def write_unlock(cpu: Cpu, lock: RwLock) -> Context:
    if cpu.lockdep is not None:
        cpu.lockdep.release(lock)
    cpu.ram.atomics.store(lock.word, 0)
    cpu.preempt_count -= cpu.preempt_counted
    yield
