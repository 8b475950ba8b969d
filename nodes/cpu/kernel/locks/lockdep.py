"""The lock validator, after kernel/locking/lockdep.c: it reports a deadlock before it can happen.

``acquire`` is called before the lock is waited for. It marks how the lock's class is used (in or
with hard interrupts, softirqs: on), checks the class against itself and against all classes that
were ever held with it, and adds "next was taken while previous was held" to the graph of classes:

* *inconsistent lock state*: one class, taken in an interrupt and held with that interrupt enabled;
* *safe -> unsafe*: a class used in an interrupt is held while one is taken that is not safe there;
* *irq lock inversion*: a class changes its use, and its place in the graph forbids that;
* *circular* (A before B, B before A) and *recursive locking* (A inside A).

After one report it is switched off on all CPUs, as ``debug_locks`` is. Usage and graph lie in
atomic words that all CPUs share: what one CPU did is held against what another does. Call paths
stay in the process that took them: a report says ``(on CPU1)`` where the path is another CPU's.
Left out: RECLAIM_FS, chain caches, lock statistics, nesting annotations, raw lock nesting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.bug import call_trace
from nodes.cpu.kernel.locks import lockdep_report as report
from nodes.cpu.kernel.locks.lock import (
    CLASSES,
    Lock,
)
from nodes.cpu.kernel.percpu import LEVEL_SOFTIRQ

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

READ, ENABLED, SOFTIRQ = 1, 2, 4
#: Usage states are the sums of these: 0 IN-HARDIRQ-W .. 7 SOFTIRQ-ON-R.
STATES = 8
PATH_NAMES_MAX = 40


class LockClass:
    """What this CPU knows of a class: its name and the call paths of its own first uses."""

    def __init__(self, key: int, name: str, wait_type: int) -> None:
        self.key = key
        self.name = name
        self.wait_type = wait_type
        self.paths: dict[int, list[str]] = {}  # by usage state
        self.first_use: list[str] = []
        self.ops = 0


class HeldLock:
    """struct held_lock."""

    def __init__(
        self,
        lock: Lock,
        cls: LockClass,
        path: list[str],
        context: int,
        *,
        read: bool,
        trylock: bool,
    ) -> None:
        self.lock = lock
        self.cls = cls
        self.path = path
        self.context = context  # 2 hardirq + 1 softirq
        self.read = read
        self.trylock = trylock


def exclusive(state: int) -> tuple[int, ...]:
    """States that one class must not have beside ``state``; reading against reading is allowed."""
    other = (state ^ ENABLED) & ~READ
    return (other,) if state & READ else (other, other | READ)


class Lockdep:
    """The validator as one CPU sees it."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.classes: dict[int, LockClass] = {}
        self.edges: dict[tuple[int, int], list[str]] = {}  # paths of this CPU's own dependencies
        self._held: dict[int, list[HeldLock]] = {}  # by pid; an interrupt's are its victim's
        self._atomics = cpu.ram.atomics

    # -- what the reports look at

    def held(self) -> list[HeldLock]:
        """Locks of the current task, those of interrupts on top of it included."""
        return self._held.setdefault(self.cpu.current.pid, [])

    def in_softirq(self) -> bool:
        """A softirq is being served (2.6.18's preempt count would not tell it from BH off)."""
        return LEVEL_SOFTIRQ in self.cpu.levels

    def seen_on(self, key: int, state: int) -> int | None:
        """CPU that first used the class so; None: nobody has."""
        value = self._atomics.load(words.LOCK_USAGE + key) >> 8 * state & 0xFF
        return value - 1 if value else None

    def name(self, key: int) -> str:
        cls = self.classes.get(key)
        return cls.name if cls is not None else f"lock {key}"

    # -- events

    def on(self) -> bool:
        """debug_locks."""
        return not self._atomics.load(words.DEBUG_LOCKS_OFF)

    def turn_off(self) -> bool:
        """debug_locks_off: True for the one who may report."""
        return not self._atomics.test_and_set(words.DEBUG_LOCKS_OFF)

    def acquire(self, lock: Lock, *, trylock: bool = False, read: bool = False) -> None:
        """The lock is about to be waited for (or, with ``trylock``, has just been taken)."""
        if not self.on() or not lock.validated:
            return
        cpu, held = self.cpu, self.held()
        cls = self.classes.get(lock.key)
        if cls is None:
            cls = self.classes[lock.key] = LockClass(lock.key, lock.name, lock.wait_type)
        cls.ops += 1
        path = self.path()
        context = 2 * cpu.in_irq() + self.in_softirq()
        this = HeldLock(lock, cls, path, context, read=read, trylock=trylock)
        if not self._mark_usage(this):
            return
        cls.first_use = cls.first_use or path
        if not trylock and not self._check_deadlock(this, held):
            return
        if not trylock and not self._check_previous(this, held):
            return
        held.append(this)

    def release(self, lock: Lock) -> None:
        """The lock is about to be free."""
        if not lock.validated:
            return
        held = self.held()
        for at in range(len(held) - 1, -1, -1):
            if held[at].lock.word == lock.word:
                del held[at]
                if not held:
                    del self._held[self.cpu.current.pid]
                return
        if self.on() and self.turn_off():
            report.bad_unlock(self, lock)

    def hardirqs_on(self) -> None:
        """Interrupts are about to be enabled: whatever is held is held with them on."""
        if not self.on():
            return
        softirqs_on = not self.cpu.in_softirq()
        for this in self.held():
            if not self._mark(this, ENABLED | this.read):
                return
            if softirqs_on and not self._mark(this, SOFTIRQ | ENABLED | this.read):
                return

    def softirqs_on(self) -> None:
        """Bottom halves were enabled, with interrupts on."""
        if not self.on():
            return
        for this in self.held():
            if not self._mark(this, SOFTIRQ | ENABLED | this.read):
                return

    def path(self) -> list[str]:
        """The calls that led here, innermost first, through all contexts of this CPU."""
        names = [name for names in call_trace(self.cpu) for name in names]
        return names[:PATH_NAMES_MAX]

    # -- usage states

    def _mark_usage(self, this: HeldLock) -> bool:
        cpu, read = self.cpu, int(this.read)
        states = []
        if not this.trylock:
            if cpu.in_irq():
                states.append(read)
            if self.in_softirq():
                states.append(SOFTIRQ | read)
        if cpu.irqs_on:
            states.append(ENABLED | read)
            if not cpu.in_softirq():
                states.append(SOFTIRQ | ENABLED | read)
        return all(self._mark(this, state) for state in states)

    def _mark(self, this: HeldLock, state: int) -> bool:
        """mark_lock: False if that was reported."""
        cls = this.cls
        if state in cls.paths:
            return True
        cls.paths[state] = self.path()
        word, atomics = words.LOCK_USAGE + cls.key, self._atomics
        while not (value := atomics.load(word)) >> 8 * state & 0xFF:
            atomics.cmpxchg(word, value, value | self.cpu.number + 1 << 8 * state)
        for other in exclusive(state):
            if self.seen_on(cls.key, other) is not None:
                if self.turn_off():
                    report.usage_bug(self, this, other, state)
                return False
        return self._check_chain(this, state)

    def _check_chain(self, this: HeldLock, state: int) -> bool:
        """check_usage_forwards, for a use in the interrupt, or backwards, for one with it on."""
        forwards = not state & ENABLED
        parents = self._reachable(this.cls.key, forwards)
        for key in parents:
            for other in exclusive(state):
                if key != this.cls.key and self.seen_on(key, other) is not None:
                    if self.turn_off():
                        chain = self._chain(parents, key)
                        report.irq_inversion(self, this, chain, state, forwards=forwards)
                    return False
        return True

    # -- dependencies

    def _check_deadlock(self, this: HeldLock, held: list[HeldLock]) -> bool:
        for previous in held:
            if previous.cls is this.cls and not (this.read and previous.read):
                if self.turn_off():
                    report.recursion(self, this, previous)
                return False
        return True

    def _check_previous(self, this: HeldLock, held: list[HeldLock]) -> bool:
        """check_prevs_add: the last held lock, and those under it that were only tried."""
        context = this.context
        for previous in reversed(held):
            if previous.context != context:
                break
            if not self._add(previous, this):
                return False
            if not previous.trylock:
                break
        return True

    def _add(self, previous: HeldLock, this: HeldLock) -> bool:
        """check_prev_add: may ``this`` be taken while ``previous`` is held?"""
        before, after = previous.cls.key, this.cls.key
        if before == after:
            return True
        if (before, after) in self.edges:
            return True
        forward = self._reachable(after, True)
        if before in forward:
            if self.turn_off():
                report.circular(self, this, previous, self._chain(forward, before))
            return False
        backward = self._reachable(before, False)
        for irq in (0, SOFTIRQ):
            for used, enabled in ((0, ENABLED), (0, ENABLED | READ), (READ, ENABLED)):
                safe = [k for k in backward if self.seen_on(k, irq | used) is not None]
                unsafe = [k for k in forward if self.seen_on(k, irq | enabled) is not None]
                if safe and unsafe:
                    if self.turn_off():
                        chains = (
                            self._chain(backward, safe[0])[::-1],
                            self._chain(forward, unsafe[0]),
                        )
                        states = (irq | used, irq | enabled)
                        report.bad_dependency(self, this, previous, chains, states)
                    return False
        self.edges[before, after] = this.path
        self._atomics.test_and_set(words.LOCK_DEPENDENCY + before, 1 << after)
        return True

    def _reachable(self, start: int, forwards: bool) -> dict[int, int]:
        """Classes taken after (or held before) ``start``, nearest first, each with its parent."""
        load = self._atomics.load
        after = [load(words.LOCK_DEPENDENCY + key) for key in range(CLASSES)]
        parents, queue = {start: start}, [start]
        for key in queue:
            for other in range(CLASSES):
                linked = after[key] >> other if forwards else after[other] >> key
                if linked & 1 and other not in parents:
                    parents[other] = key
                    queue.append(other)
        return parents

    @staticmethod
    def _chain(parents: dict[int, int], end: int) -> list[int]:
        """Classes from where the search began to ``end``."""
        chain = [end]
        while parents[chain[-1]] != chain[-1]:
            chain.append(parents[chain[-1]])
        return chain[::-1]
