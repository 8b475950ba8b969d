"""Timers that several CPUs arm and delete: kernel/timer.c's locking of a timer to its base.

In Linux a timer is on one CPU's base at a time, whoever arms it takes it to his own, and a lock
holds it meanwhile. Here each CPU has an object of its own for the timer, under one number, and a
word in RAM says what is true: pending or not, running or not, on whose base, and which arming
(generation) counts. An entry on a CPU's wheel whose generation is not the word's is a husk: another
CPU has armed or deleted the timer since, and nothing happens when the husk expires.

* ``mod_timer`` moves the timer to the calling CPU, unless its callback is running elsewhere right
  now: then it stays there, and that CPU arms it when the callback has returned (REARM).
* ``add_timer_on`` and ``timers_dead_cpu`` arm on another CPU: by a record and an IPI.
* ``del_timer_sync`` waits for a callback on any CPU; called from that callback it never returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.bug import bug, warn
from nodes.cpu.kernel.percpu import Context, Pause
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.timer import SPIN_NS, TIMER_IRQSAFE, Timer

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PENDING, RUNNING, REARM = 1, 2, 4
_CPU_SHIFT, _GENERATION_SHIFT = 8, 16

#: Record (smp): put timer ``record[1]`` on your base, if it is still to be there.
ARM_TIMER = 21

_SOURCE = "kernel/timer.c"


def _word(generation: int, number: int, bits: int) -> int:
    return (generation << _GENERATION_SHIFT | number << _CPU_SHIFT | bits) & (1 << 64) - 1


def pending_on(state: int) -> int | None:
    """The CPU on whose base a timer with this word is pending; None if it is not."""
    return state >> _CPU_SHIFT & 0xFF if state & PENDING else None


class SharedTimer:
    """One CPU's view of a timer that all know by its number."""

    def __init__(
        self,
        cpu: Cpu,
        function: Callable[[Cpu], Context | None],
        number: int,
        flags: int,
        name: str,
    ) -> None:
        self.number = number
        self.word = words.TIMER + 2 * number  # its state, then the requested expiry
        self.function = function
        self.generation = 0  # of the entry on this CPU's wheel
        self.entry = Timer(self._expire, flags, name)
        self._cpu = cpu
        #: Told when it is armed on this CPU (True), and when it goes off or is deleted (False).
        self.watch: Callable[[SharedTimer, bool], None] | None = None

    def _expire(self, cpu: Cpu) -> Context:
        """The entry's callback: the timer's, if this entry still counts."""
        atomics = cpu.ram.atomics
        while True:
            state = atomics.load(self.word)
            mine = _word(self.generation, cpu.number, PENDING)
            if state != mine:
                return  # a husk
            if atomics.cmpxchg(self.word, state, mine ^ PENDING ^ RUNNING) == state:
                break
        if self.watch is not None:
            self.watch(self, False)
        context = self.function(cpu)
        if context is not None:
            yield from context
        while True:
            state = atomics.load(self.word)
            if atomics.cmpxchg(self.word, state, state & ~(RUNNING | REARM)) == state:
                break
        if state & REARM:
            self.arm_here(state)

    def arm_here(self, state: int) -> None:
        """The word says that it belongs on this CPU's wheel: put it there."""
        self.generation = state >> _GENERATION_SHIFT
        expires = self._cpu.ram.atomics.load(self.word + 1)
        self._cpu.timers.mod_timer_pinned(self.entry, expires)
        if self.watch is not None:
            self.watch(self, True)


def shared_timer_setup(
    cpu: Cpu,
    function: Callable[[Cpu], Context | None],
    number: int,
    flags: int = 0,
    name: str = "",
) -> SharedTimer:
    """On each CPU that deals with the timer; ValueError if there is no such number."""
    if words.TIMER + 2 * number not in words.PLACES["timers"]:
        raise ValueError(f"shared timers are 0 to {len(words.PLACES['timers']) // 2 - 1}")
    timer = SharedTimer(cpu, function, number, flags, name or function.__name__)
    cpu.timers.init_timer(timer.entry)
    cpu.timers.shared[number] = timer
    return timer


def timer_pending(cpu: Cpu, timer: SharedTimer) -> bool:
    return bool(cpu.ram.atomics.load(timer.word) & PENDING)


def mod_timer(cpu: Cpu, timer: SharedTimer, expires: int) -> bool:
    """Arm (or re-arm) for jiffy ``expires``; True if it was pending, wherever."""
    atomics = cpu.ram.atomics
    while True:
        state = atomics.load(timer.word)
        generation, base = (state >> _GENERATION_SHIFT) + 1, state >> _CPU_SHIFT & 0xFF
        if state & RUNNING and base != cpu.number:
            atomics.store(timer.word + 1, expires)
            new = _word(generation, base, PENDING | RUNNING | REARM)
        else:
            new = _word(generation, cpu.number, PENDING | state & RUNNING)
        if atomics.cmpxchg(timer.word, state, new) == state:
            break
    if not new & REARM:
        timer.generation = generation
        cpu.timers.mod_timer(timer.entry, expires)
        if timer.watch is not None:
            timer.watch(timer, True)
    return bool(state & PENDING)


def add_timer_on(cpu: Cpu, timer: SharedTimer, number: int, expires: int) -> Context:
    """Arm an inactive timer on CPU ``number``, exactly; BUG if it is pending."""
    if timer_pending(cpu, timer):
        raise bug(cpu, _SOURCE)
    yield from _arm_on(cpu, timer, number, expires)


def _arm_on(cpu: Cpu, timer: SharedTimer, number: int, expires: int) -> Context:
    atomics = cpu.ram.atomics
    atomics.store(timer.word + 1, expires)
    while True:
        state = atomics.load(timer.word)
        base = state >> _CPU_SHIFT & 0xFF if state & RUNNING else number
        generation = (state >> _GENERATION_SHIFT) + 1
        new = _word(generation, base, PENDING | REARM | state & RUNNING)
        if atomics.cmpxchg(timer.word, state, new) == state:
            break
    if new & RUNNING:
        return  # the CPU that runs it arms it
    if number == cpu.number:
        arm_if_wanted(cpu, timer)
    else:
        yield from call_function_single(cpu, number, [ARM_TIMER, timer.number])


def arm_if_wanted(cpu: Cpu, timer: SharedTimer) -> None:
    """Put it on this CPU's wheel, unless somebody was faster or its callback runs."""
    atomics = cpu.ram.atomics
    while True:
        state = atomics.load(timer.word)
        base = state >> _CPU_SHIFT & 0xFF
        if state & (REARM | RUNNING) != REARM or base != cpu.number:
            return
        if atomics.cmpxchg(timer.word, state, state & ~REARM) == state:
            timer.arm_here(state)
            return


@remote_function(ARM_TIMER)
def _arm_timer(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    timer = cpu.timers.shared.get(record[1])
    if timer is not None:
        arm_if_wanted(cpu, timer)
    return None


def _delete(cpu: Cpu, timer: SharedTimer, *, sync: bool) -> int:
    atomics = cpu.ram.atomics
    while True:
        state = atomics.load(timer.word)
        if sync and state & RUNNING:
            return -1
        if not state & PENDING:
            return 0
        base = state >> _CPU_SHIFT & 0xFF
        new = _word((state >> _GENERATION_SHIFT) + 1, base, state & RUNNING)
        if atomics.cmpxchg(timer.word, state, new) == state:
            break
    if base == cpu.number:
        cpu.timers.del_timer(timer.entry)
        if timer.watch is not None:
            timer.watch(timer, False)
    return 1


def del_timer(cpu: Cpu, timer: SharedTimer) -> bool:
    """Disarm; True if it was pending. Does not wait for a callback that runs."""
    return bool(_delete(cpu, timer, sync=False))


def try_to_del_timer_sync(cpu: Cpu, timer: SharedTimer) -> int:
    """As ``del_timer``, or -1, and nothing done, if the callback is running on any CPU."""
    return _delete(cpu, timer, sync=True)


def del_timer_sync(cpu: Cpu, timer: SharedTimer) -> Context:
    """Disarm, and wait until its callback runs nowhere."""
    if cpu.in_irq() and not timer.entry.flags & TIMER_IRQSAFE:
        warn(cpu, _SOURCE)
    while (was := try_to_del_timer_sync(cpu, timer)) < 0:
        yield Pause(cpu.now() + SPIN_NS)
    return was


def timers_dead_cpu(cpu: Cpu, survivor: int) -> Context:
    """Give this CPU's shared timers, as it goes offline, to CPU ``survivor``, in the order of the
    wheel; there they are placed anew. Returns how many stay behind: those of this CPU alone, whose
    code and data other CPUs do not know. They are on its wheel when it comes back, if late."""
    entries = cpu.timers.pending_timers()
    known = {timer.entry.number: timer for timer in cpu.timers.shared.values()}
    left = 0
    for entry in entries:
        timer = known.get(entry.number)
        if timer is None:
            left += 1
            continue
        cpu.timers.del_timer(entry)
        here = _word(timer.generation, cpu.number, PENDING)
        if cpu.ram.atomics.load(timer.word) == here:
            yield from _arm_on(cpu, timer, survivor, entry.expires)
    return left
