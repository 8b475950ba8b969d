"""What lockdep prints, in the words of kernel/locking/lockdep.c of each era (``log_format``).

Code addresses and offsets are left out, because they would be those of some build; a lock's address
is that of its word. Left out too: the history of interrupt flags (``irq event stamp``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import dump_stack
from nodes.cpu.kernel.percpu import SOFTIRQ_MASK
from nodes.cpu.kernel.printk import KERN_WARNING, printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.locks.lock import Lock
    from nodes.cpu.kernel.locks.lockdep import HeldLock, Lockdep

_READ, _ENABLED, _SOFTIRQ = 1, 2, 4
#: Functions that are the lock itself: the place of an acquisition is who called them.
_LOCKING = (
    "spin_lock", "spin_trylock", "spin_lock_bh", "spin_lock_irq", "spin_lock_irqsave",
    "read_lock", "write_lock", "mutex_lock", "mutex_trylock",
)  # fmt: skip


class Printer:
    """Lines into the kernel log, with the few things that eras write differently."""

    def __init__(self, lockdep: Lockdep) -> None:
        self.lockdep = lockdep
        self.cpu = lockdep.cpu
        self.era = self.cpu.params.log_format

    def __call__(self, *lines: str) -> None:
        for line in lines:
            printk(self.cpu, line, KERN_WARNING)

    def headline(self, text: str, rules: tuple[int, int] | None = None) -> None:
        """The frame; ``rules``: lengths of its lines where they differ from the text's."""
        title = f"WARNING: {text}" if self.era == "6.1" else f"[ INFO: {text} ]"
        upper, lower = rules or (len(title), len(title))
        self("", "=" * upper, title)
        if self.era != "2.6.18":
            self(f"{self.cpu.params.release} #1 Not tainted")
        self("-" * lower)

    # -- names

    def state(self, state: int) -> str:
        """IN-HARDIRQ-W .. SOFTIRQ-ON-R."""
        irq = "SOFTIRQ" if state & _SOFTIRQ else "HARDIRQ"
        text = f"{irq}-ON-" if state & _ENABLED else f"IN-{irq}-"
        return (text.lower() if self.era == "2.6.18" else text) + "WR"[state & _READ]

    def irq(self, state: int) -> str:
        """How a message calls the interrupt of a state."""
        if self.era == "2.6.18":
            return "soft" if state & _SOFTIRQ else "hard"
        return "SOFTIRQ" if state & _SOFTIRQ else "HARDIRQ"

    def usage(self, key: int) -> str:
        """{....}: one character a state and access."""
        order = (0, _SOFTIRQ, _READ, _SOFTIRQ | _READ) if self.era == "2.6.18" else (0, 1, 4, 5)
        used, enabled = ("+", "-") if self.era == "2.6.18" else ("-", "+")
        text = ""
        for state in order:
            is_used = self.lockdep.seen_on(key, state) is not None
            is_enabled = self.lockdep.seen_on(key, state | _ENABLED) is not None
            if is_used and is_enabled and not (self.era == "2.6.18" and not state & _READ):
                text += "?"
            else:
                text += used if is_used else enabled if is_enabled else "."
        return text + (".." if self.era == "3.10" else "")  # 3.10 also has RECLAIM_FS

    def name(self, key: int) -> str:
        """`` (name){usage}``, as print_lock_name has it."""
        text = f" ({self.lockdep.name(key)}){{{self.usage(key)}}}"
        if self.era == "6.1":
            cls = self.lockdep.classes.get(key)
            wait = cls.wait_type if cls is not None else 2
            text += f"-{{{wait}:{wait}}}"
        return text

    def lock(self, held: HeldLock) -> str:
        where = next((n for n in held.path if n not in _LOCKING), "?")
        address = f"{held.lock.address(self.cpu):016x}" if self.era == "6.1" else ""
        return f"{address}{self.name(held.cls.key)}, at: {where}"

    def task(self) -> str:
        return f"{self.cpu.current.comm}/{self.cpu.current.pid}"

    def task_state(self) -> str:
        cpu = self.cpu
        count = cpu.preempt_count
        return (
            f"{self.task()} [HC{int(cpu.in_irq())}[{(count & cpu.hardirq_mask) >> 16}]:"
            f"SC{int(self.lockdep.in_softirq())}[{(count & SOFTIRQ_MASK) >> 8}]:"
            f"HE{int(cpu.irqs_on)}:SE{int(not cpu.in_softirq())}]"
        )

    # -- parts

    def path(self, names: list[str] | None, cpu_number: int | None, indent: int = 2) -> None:
        """A call path of this CPU, or whose it is."""
        if names is None:
            names = [f"(on CPU{cpu_number})" if cpu_number is not None else "(on another CPU)"]
        self(*(f"{'':{indent}}{name}" for name in names))

    def used_at(self, key: int, state: int, indent: int = 2) -> None:
        cls = self.lockdep.classes.get(key)
        seen_on = self.lockdep.seen_on(key, state)
        own = seen_on == self.cpu.number and cls is not None
        self.path(cls.paths.get(state) if own and cls is not None else None, seen_on, indent)

    def held_locks(self) -> None:
        held = self.lockdep.held()
        if not held:
            self(f"no locks held by {self.task()}.")
            return
        self(f"{len(held)} lock{'s' if len(held) > 1 else ''} held by {self.task()}:")
        self(*(f" #{n}: {self.lock(one)}" for n, one in enumerate(held)))

    def backtrace(self) -> None:
        self("", "stack backtrace:")
        dump_stack(self.cpu)

    def scenario(
        self, left: tuple[str, ...], title: str = " Possible unsafe locking scenario:"
    ) -> None:
        """What could happen; 2.6.18 does not say."""
        if self.era == "2.6.18":
            return
        self(title, "", *left, "", " *** DEADLOCK ***", "")

    def chain_exists(self, first: int, middle: int, last: int) -> None:
        if self.era != "2.6.18" and middle not in (first, last):
            name = self.lockdep.name
            self("Chain exists of:", f"  {name(first)} --> {name(middle)} --> {name(last)}", "")

    def dependencies(self, chain: list[int]) -> None:
        """print_shortest_lock_dependencies: the classes of a chain, the furthest first."""
        for depth in range(len(chain) - 1, -1, -1):
            key, pad = chain[depth], " " * depth
            cls = self.lockdep.classes.get(key)
            self(f"{pad}->{self.name(key)} ops: {cls.ops if cls is not None else 0} {{")
            for state in (0, 1, 2, 3, 4, 5, 6, 7):
                if self.lockdep.seen_on(key, state) is not None:
                    self(f"{pad}   {self.state(state)} at:")
                    self.used_at(key, state, depth + 20)
            if cls is not None and cls.first_use:
                self(f"{pad}   {'initial-use ' if self.era == '2.6.18' else 'INITIAL USE'} at:")
                self.path(cls.first_use, None, depth + 20)
            self(f"{pad} }}")
            if depth:
                self(f"{pad} ... acquired at:")
                self.path(self.lockdep.edges.get((chain[depth - 1], key)), None, 3)
                self("")


CPUS = ("       CPU0                    CPU1", "       ----                    ----")
ALONE = ("       CPU0", "       ----")
SECOND = " " * 31


def usage_bug(lockdep: Lockdep, this: HeldLock, before: int, now: int) -> None:
    """One class was used in two ways that do not go together."""
    p = Printer(lockdep)
    name, key = this.cls.name, this.cls.key
    p.headline("inconsistent lock state")
    p(f"inconsistent {{{p.state(before)}}} -> {{{p.state(now)}}} usage.")
    p(f"{p.task_state()} takes:", p.lock(this))
    p(f"{{{p.state(before)}}} state was registered at:")
    p.used_at(key, before)
    p("", "other info that might help us debug this:")
    p.scenario((*ALONE, f"  lock({name});", "  <Interrupt>", f"    lock({name});"))
    p.held_locks()
    p.backtrace()


def recursion(lockdep: Lockdep, this: HeldLock, held: HeldLock) -> None:
    """A class is taken inside itself."""
    p = Printer(lockdep)
    name = this.cls.name
    p.headline("possible recursive locking detected")
    p(f"{p.task()} is trying to acquire lock:", p.lock(this))
    p("", "but task is already holding lock:", p.lock(held))
    p("", "other info that might help us debug this:")
    p.scenario((*ALONE, f"  lock({held.cls.name});", f"  lock({name});"))
    if p.era != "2.6.18":
        p(" May be due to missing lock nesting notation", "")
    p.held_locks()
    p.backtrace()


def circular(lockdep: Lockdep, this: HeldLock, held: HeldLock, chain: list[int]) -> None:
    """``chain`` leads from the lock that is wanted to the one that is held."""
    p = Printer(lockdep)
    wanted, got = this.cls, held.cls
    rules = (54, 55) if p.era == "3.10" else None
    p.headline("possible circular locking dependency detected", rules)
    p(f"{p.task()} is trying to acquire lock:", p.lock(this))
    p("", "but task is already holding lock:", p.lock(held))
    p("", "which lock already depends on the new lock.", "")
    p("", "the existing dependency chain (in reverse order) is:")
    for depth in range(len(chain) - 1, -1, -1):
        p("", f"-> #{depth}{p.name(chain[depth])}:")
        if depth:
            p.path(lockdep.edges.get((chain[depth - 1], chain[depth])), None, 7)
        else:
            p.path(this.path, None, 7)
    p("", "other info that might help us debug this:", "")
    parent = chain[-2]
    p.chain_exists(wanted.key, parent, got.key)
    p.scenario(
        (
            *CPUS,
            f"  lock({got.name});",
            f"{SECOND}lock({lockdep.name(parent)});",
            f"{SECOND}lock({got.name});",
            f"  lock({wanted.name});",
        )
    )
    p.held_locks()
    p.backtrace()


def _irq_scenario(p: Printer, safe: int, middle: int, unsafe: int) -> None:
    name = p.lockdep.name
    p.chain_exists(safe, middle, unsafe)
    p.scenario(
        (
            *CPUS,
            f"  lock({name(unsafe)});",
            f"{SECOND}local_irq_disable();",
            f"{SECOND}lock({name(safe)});",
            f"{SECOND}lock({name(middle)});",
            "  <Interrupt>",
            f"    lock({name(safe)});",
        ),
        " Possible interrupt unsafe locking scenario:",
    )


def bad_dependency(
    lockdep: Lockdep,
    this: HeldLock,
    held: HeldLock,
    chains: tuple[list[int], list[int]],
    states: tuple[int, int],
) -> None:
    """``chains``: from the safe class to the held one, from the wanted one to the unsafe class."""
    p = Printer(lockdep)
    back, forth = chains
    safe, unsafe, irq = back[0], forth[-1], p.irq(states[0])
    rules = (53, 53) if p.era == "6.1" else (54, 54)
    p.headline(f"{irq}-safe -> {irq}-unsafe lock order detected", rules)
    p(f"{p.task_state()} is trying to acquire:", p.lock(this))
    p("", "and this task is already holding:", p.lock(held))
    p("which would create a new lock dependency:")
    p(f"{p.name(held.cls.key)} ->{p.name(this.cls.key)}")
    p("", f"but this new dependency connects a {irq}-irq-safe lock:", p.name(safe))
    p("", f"... which became {irq}-irq-safe at:")
    p.used_at(safe, states[0])
    p("", f"to a {irq}-irq-unsafe lock:", p.name(unsafe))
    p("", f"... which became {irq}-irq-unsafe at:", "...")
    p.used_at(unsafe, states[1])
    p("", "other info that might help us debug this:", "")
    _irq_scenario(p, safe, held.cls.key if held.cls.key != safe else this.cls.key, unsafe)
    p.held_locks()
    p("", f"the dependencies between {irq}-irq-safe lock and the holding lock:")
    p.dependencies(back)
    p("", f"the dependencies between the lock to be acquired and {irq}-irq-unsafe lock:")
    p.dependencies(forth)
    p.backtrace()


def irq_inversion(
    lockdep: Lockdep, this: HeldLock, chain: list[int], state: int, *, forwards: bool
) -> None:
    """The lock changed its use; ``chain`` leads from it to the class that this does not suit."""
    p = Printer(lockdep)
    irq, other = p.irq(state), chain[-1]
    old = "irq-" if p.era == "2.6.18" else ""
    p.headline("possible irq lock inversion dependency detected")
    p(f"{p.task()} just changed the state of lock:", p.lock(this))
    if forwards:
        p(f"but this lock took another, {irq}-{old}unsafe lock in the past:")
    else:
        p(f"but this lock was taken by another, {irq}-{old}safe lock in the past:")
    p(p.name(other), "", "")
    p("and interrupts could create inverse lock ordering between them.", "")
    p("", "other info that might help us debug this:")
    if forwards:
        _irq_scenario(p, this.cls.key, chain[1], other)
    else:
        _irq_scenario(p, other, chain[-2], this.cls.key)
    p.held_locks()
    p("", "the shortest dependencies between 2nd lock and 1st lock:")
    p.dependencies(chain if forwards else chain[::-1])
    p.backtrace()


def bad_unlock(lockdep: Lockdep, lock: Lock) -> None:
    """Somebody frees what this task does not hold."""
    p = Printer(lockdep)
    if p.era == "6.1":
        title = "WARNING: bad unlock balance detected!"
    else:
        title = "[ BUG: bad unlock balance detected! ]"
    p("", "=" * len(title), title)
    if p.era != "2.6.18":
        p(f"{p.cpu.params.release} #1 Not tainted")
    p("-" * len(title))
    p(f"{p.task()} is trying to release lock ({lock.name}) at:")
    where = next((n for n in lockdep.path() if n not in ("release", "_release")), "?")
    p(where, "but there are no more locks to release!")
    p("", "other info that might help us debug this:")
    p.held_locks()
    p.backtrace()
