"""Spinlocks and their variants, after kernel/locking/spinlock.c and include/linux/rwlock_api_smp.h.

On locking: first interrupts or bottom halves off, then the preempt count (only where the kernel
counts it: ``preempt_count``), then the lock itself; unlocking goes the other way. The word holds
1 + the number of the CPU that has it, so two CPU processes really exclude each other. Who waits
spins: interrupts come in if IF is set, and nothing else happens on this CPU. What is not modelled:
queues of waiters (ticket and MCS locks), so there is no fairness between CPUs.

* a lock that its own CPU holds is waited for, for ever;
* a lock that a killed CPU held stays held;
* ``spin_unlock_irq`` turns interrupts on, whatever they were before;
* ``spin_unlock_bh`` runs pending softirqs, after the lock is free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.irqflags import (
    local_irq_disable,
    local_irq_enable,
    local_irq_restore,
    local_irq_save,
)
from nodes.cpu.kernel.locks.lock import Lock
from nodes.cpu.kernel.percpu import Context, Pause
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: A CPU that spins looks at the word again after an eighth of the time it has waited, within these
#: limits: a deadlock may last for minutes, and nobody is to pay for each of its looks.
SPIN_NS_MIN, SPIN_NS_MAX = 2_000, 1_000_000


class Spinlock(Lock):
    """spinlock_t."""

    __slots__ = ()

    def holder(self, cpu: Cpu) -> int | None:
        """Number of the CPU that holds it."""
        value = cpu.ram.atomics.load(self.word)
        return value - 1 if value else None


def cpu_relax(cpu: Cpu, since_ns: int) -> Pause:
    """The pause between two looks, for who has been waiting since ``since_ns``."""
    now = cpu.now()
    return Pause(now + min(max((now - since_ns) >> 3, SPIN_NS_MIN), SPIN_NS_MAX))


def do_raw_spin_lock(cpu: Cpu, lock: Spinlock) -> Context:
    """Take the word, or spin until it is free."""
    atomics, mine = cpu.ram.atomics, cpu.number + 1
    if atomics.cmpxchg(lock.word, 0, mine):
        since_ns = cpu.now()
        while atomics.cmpxchg(lock.word, 0, mine):
            yield cpu_relax(cpu, since_ns)


def _release(cpu: Cpu, lock: Spinlock) -> None:
    if cpu.lockdep is not None:
        cpu.lockdep.release(lock)
    cpu.ram.atomics.store(lock.word, 0)


def spin_lock(cpu: Cpu, lock: Spinlock) -> Context:
    """For data that no interrupt of this CPU touches."""
    cpu.preempt_count += cpu.preempt_counted
    yield
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock)
    yield from do_raw_spin_lock(cpu, lock)


def spin_unlock(cpu: Cpu, lock: Spinlock) -> Context:
    _release(cpu, lock)
    cpu.preempt_count -= cpu.preempt_counted
    yield


def spin_trylock(cpu: Cpu, lock: Spinlock) -> Context:
    """Returns whether it was free; never waits."""
    cpu.preempt_count += cpu.preempt_counted
    yield
    if cpu.ram.atomics.cmpxchg(lock.word, 0, cpu.number + 1):
        cpu.preempt_count -= cpu.preempt_counted
        return False
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock, trylock=True)
    return True


def spin_lock_bh(cpu: Cpu, lock: Spinlock) -> Context:
    """For data that softirqs touch too."""
    local_bh_disable(cpu)
    cpu.preempt_count += cpu.preempt_counted
    yield
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock)
    yield from do_raw_spin_lock(cpu, lock)


def spin_unlock_bh(cpu: Cpu, lock: Spinlock) -> Context:
    """What was raised meanwhile runs in here."""
    _release(cpu, lock)
    cpu.preempt_count -= cpu.preempt_counted
    yield
    yield from local_bh_enable(cpu)


def spin_lock_irq(cpu: Cpu, lock: Spinlock) -> Context:
    """For data that hard interrupts touch too, where interrupts are known to be on."""
    local_irq_disable(cpu)
    cpu.preempt_count += cpu.preempt_counted
    yield
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock)
    yield from do_raw_spin_lock(cpu, lock)


def spin_unlock_irq(cpu: Cpu, lock: Spinlock) -> Context:
    """Interrupts are on afterwards, also if they were off before the lock was taken."""
    _release(cpu, lock)
    local_irq_enable(cpu)
    cpu.preempt_count -= cpu.preempt_counted
    yield


def spin_lock_irqsave(cpu: Cpu, lock: Spinlock) -> Context:
    """As ``spin_lock_irq``, from anywhere; returns the flags for ``spin_unlock_irqrestore``."""
    flags = local_irq_save(cpu)
    cpu.preempt_count += cpu.preempt_counted
    yield
    if cpu.lockdep is not None:
        cpu.lockdep.acquire(lock)
    yield from do_raw_spin_lock(cpu, lock)
    return flags


def spin_unlock_irqrestore(cpu: Cpu, lock: Spinlock, flags: bool) -> Context:
    _release(cpu, lock)
    local_irq_restore(cpu, flags)
    cpu.preempt_count -= cpu.preempt_counted
    yield
