"""Random interleavings of interrupts, raises, locks, sleeps and switches on one or two CPUs.

A rig is one machine of CPUs without devices, booted once. An interleaving draws a few tasks, each a
short random program, and then lets chance choose at every instruction boundary: which CPU goes on,
whether a vector or an NMI arrives. When everything has come to rest the rules are checked, and some
are checked at every boundary:

* the core's own rules of contexts (``nodes.cpu.invariants``): no softirq nests, no vector on
  itself;
* a softirq that is pending in plain task context has a runnable ksoftirqd: it is never forgotten;
* ``__do_softirq`` passes at most ten times, and whatever was raised has run in the end;
* a lock has one holder, and a tasklet runs on one CPU at a time, once after it was scheduled last;
* every sleeper that was woken has gone on;
* preempt counts, interrupt flags and the list of levels are back where they were.

``python -m tests.nodes.cpu.interleavings 1000000`` runs a million (``make soak``).
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bus.messages import IcrWrite, Interrupt
from bus.ram import Ram
from nodes.cpu import lapic
from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.irqflags import (
    local_irq_restore,
    local_irq_save,
    preempt_disable,
    preempt_enable,
)
from nodes.cpu.kernel.locks.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_bh,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_bh,
    spin_unlock_irqrestore,
)
from nodes.cpu.kernel.percpu import (
    INTERRUPT_MASK,
    LEVEL_SOFTIRQ,
    SCHEDULE,
    USER,
    Context,
    Cpu,
)
from nodes.cpu.kernel.sched import (
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    Task,
    wake_up_process,
)
from nodes.cpu.kernel.softirq import (
    MAX_SOFTIRQ_RESTART,
    local_bh_disable,
    local_bh_enable,
    raise_softirq_irqoff,
)
from nodes.cpu.kernel.tasklet import tasklet_init, tasklet_schedule
from tests.nodes.cpu.harness import ERAS, START_NS, STEP_NS, BareCpu

SOFTIRQS = (2, 4)  # two numbers that nobody else uses on a machine without devices
VECTORS = (0x31, 0x52, 0x83)  # three priority classes
TASKLETS = 2
RERAISES_MAX = 25
TASKLETS_MAX = 20  # schedules by one CPU in one interleaving: some are made by themselves
BOUNDARIES_MAX = 60_000


class Shared:
    """What the CPUs of a rig share: two locks and two tasklets, and who is at them."""

    def __init__(self) -> None:
        #: taken by tasks and softirqs (``bh``), or by hard interrupts as well (``irq``)
        self.locks = {"bh": Spinlock(40, "bh"), "irq": Spinlock(41, "irq")}
        self.holder: dict[str, Side | None] = dict.fromkeys(self.locks)
        self.runs_on: list[Side | None] = [None] * TASKLETS
        self.scheduled = [0] * TASKLETS
        self.served = [0] * TASKLETS


class Waiter:
    """A task that waits for a condition, and whether it was made true."""

    def __init__(self) -> None:
        self.condition = False
        self.done = False
        self.task: Task


class Side:
    """One CPU of the rig and what happens on it."""

    def __init__(self, bench: BareCpu, rng: random.Random, shared: Shared) -> None:
        self.bench = bench
        self.shared = shared
        self.tasklets = [
            tasklet_init(bench.cpu, self.tasklet(n), n, f"tasklet{n}") for n in range(TASKLETS)
        ]
        self.cpu: Cpu = bench.cpu
        self.rng = rng
        self.waiters: list[Waiter] = []
        self.unfinished = 0
        self.raised: dict[int, int] = dict.fromkeys(SOFTIRQS, 0)
        self.ran: dict[int, int] = dict.fromkeys(SOFTIRQS, 0)
        self.reraises = 0
        self.budget = 0
        self.restarts_before = 0
        for number in SOFTIRQS:
            bench.softirq(number, self.action(number))
        for vector in VECTORS:
            bench.irq(vector, lambda _irq, _dev: self.handler())

    # -- what runs

    def action(self, number: int) -> Callable[[Cpu], Context]:
        def run(cpu: Cpu) -> Context:
            self.ran[number] = self.raised[number]  # all raises so far are served by this run
            assert cpu.in_serving_softirq()
            for _ in range(self.rng.randrange(4)):
                yield
                self.anywhere()
            if self.rng.random() < 0.3:
                yield from self.hold(self.rng.choice(("bh", "irq")))
            if self.reraises < RERAISES_MAX and self.rng.random() < 0.3:
                self.reraises += 1
                self.raise_it(self.rng.choice(SOFTIRQS))

        return run

    def handler(self) -> Context:
        assert self.cpu.in_irq()
        for _ in range(self.rng.randrange(3)):
            yield
            self.anywhere()
        if self.rng.random() < 0.3:
            yield from self.hold("irq")
        return IRQ_HANDLED

    def tasklet(self, number: int) -> Callable[[Cpu], Context]:
        shared = self.shared

        def run(cpu: Cpu) -> Context:
            assert shared.runs_on[number] is None, f"tasklet {number} runs on two CPUs"
            shared.runs_on[number] = self
            shared.served[number] = shared.scheduled[number]
            assert cpu.in_serving_softirq()
            for _ in range(self.rng.randrange(4)):
                yield
                self.anywhere()
            shared.runs_on[number] = None

        return run

    def hold(self, name: str) -> Context:
        """Take a lock in the way that this context needs, keep it a little, release it."""
        cpu, lock, holder = self.cpu, self.shared.locks[name], self.shared.holder
        flags = False
        plain = name == "bh" and cpu.in_serving_softirq()
        if name == "irq":
            flags = yield from spin_lock_irqsave(cpu, lock)
        elif plain:
            yield from spin_lock(cpu, lock)
        else:
            yield from spin_lock_bh(cpu, lock)
        assert holder[name] is None, f"two holders of {name}"
        holder[name] = self
        for _ in range(self.rng.randrange(4)):
            yield
            self.anywhere()
        holder[name] = None
        if name == "irq":
            yield from spin_unlock_irqrestore(cpu, lock, flags)
        elif plain:
            yield from spin_unlock(cpu, lock)
        else:
            yield from spin_unlock_bh(cpu, lock)

    def anywhere(self) -> None:
        """Something that any context may do."""
        choice = self.rng.random()
        if choice < 0.35:
            self.raise_it(self.rng.choice(SOFTIRQS))
        elif choice < 0.55:
            number = self.rng.randrange(TASKLETS)
            if self.budget:
                self.budget -= 1
                self.shared.scheduled[number] += 1
                tasklet_schedule(self.cpu, self.tasklets[number])
        elif choice < 0.8 and self.waiters:
            waiter = self.rng.choice(self.waiters)
            waiter.condition = True
            wake_up_process(self.cpu, waiter.task)

    def raise_it(self, number: int) -> None:
        """raise_softirq: from any context."""
        flags = local_irq_save(self.cpu)
        self.raised[number] += 1
        raise_softirq_irqoff(self.cpu, number)
        local_irq_restore(self.cpu, flags)

    def program(self, length: int) -> Context:
        """A task: random operations, properly nested."""
        for _ in range(length):
            yield from self.operation(0)
        self.unfinished -= 1

    def operation(self, depth: int) -> Context:
        cpu, rng = self.cpu, self.rng
        kind = rng.choice(
            ("work", "user", "irq", "bh", "preempt", "raise", "lock", "lock", "sleep", "give")
        )
        if kind == "work":
            for _ in range(rng.randrange(1, 5)):
                yield
        elif kind == "raise":
            self.raise_it(rng.choice(SOFTIRQS))
            yield
        elif kind == "irq":
            flags = local_irq_save(cpu)
            yield from self.inner(depth, sleeping=False)
            local_irq_restore(cpu, flags)
            yield
        elif kind == "bh" and cpu.irqs_on:
            local_bh_disable(cpu)
            yield from self.inner(depth, sleeping=False)
            yield from local_bh_enable(cpu)
        elif kind == "lock":
            yield from self.hold(rng.choice(("bh", "irq")) if cpu.irqs_on else "irq")
        elif kind == "preempt":
            preempt_disable(cpu)
            yield from self.inner(depth, sleeping=False)
            yield from preempt_enable(cpu)
        elif depth == 0 and kind == "user":
            yield USER
        elif depth == 0 and kind == "sleep":
            yield from nanosleep(cpu, rng.randrange(1, 8) * 1_000_000)
        elif depth == 0:
            yield SCHEDULE

    def inner(self, depth: int, *, sleeping: bool) -> Context:
        for _ in range(self.rng.randrange(1, 4)):
            if depth < 3:
                yield from self.operation(depth + 1)
            yield

    def wait(self, waiter: Waiter) -> Context:
        """wait_event: the state is set before the condition is looked at."""
        while not waiter.condition:
            self.cpu.current.state = TASK_INTERRUPTIBLE
            yield
            if waiter.condition:
                self.cpu.current.state = TASK_RUNNING
                break
            yield SCHEDULE
        waiter.done = True

    # -- one interleaving

    def begin(self, tasks: int, length: int) -> None:
        self.reraises = 0
        self.budget = TASKLETS_MAX
        self.waiters = []
        for n in range(self.rng.randrange(3)):
            waiter = Waiter()
            waiter.task = self.bench.task(self.wait(waiter), f"waiter{n}")
            self.waiters.append(waiter)
        self.unfinished = tasks
        for n in range(tasks):
            self.bench.task(self.program(length), f"task{n}", nice=self.rng.choice((0, 0, 10, -5)))

    def check_boundary(self) -> None:
        cpu, softirq = self.cpu, self.cpu.softirq
        if softirq.pending and cpu.irqs_on and not cpu.preempt_count & INTERRUPT_MASK:
            thread = softirq.ksoftirqd
            assert thread is not None
            assert thread.state == TASK_RUNNING, "a softirq is pending and nobody will run it"
        restarts = self.bench["softirq_restarts"]
        if LEVEL_SOFTIRQ not in cpu.levels:
            self.restarts_before = restarts
        passes = 1 + restarts - self.restarts_before
        assert passes <= MAX_SOFTIRQ_RESTART, f"__do_softirq made {passes} passes"

    def check_end(self) -> None:
        cpu = self.cpu
        assert self.unfinished == 0
        assert cpu.preempt_count == 0
        assert cpu.irqs_on
        assert not cpu.levels
        assert not cpu.stack
        assert cpu.lapic.irr == cpu.lapic.isr == 0
        assert cpu.softirq.pending == 0
        assert self.ran == self.raised, "a raise was not served"
        for waiter in self.waiters:
            assert waiter.done == waiter.condition, "a wake-up was lost"

    def at_rest(self) -> bool:
        cpu = self.cpu
        return (
            self.unfinished == 0
            and cpu.current is cpu.idle
            and not cpu.stack
            and not cpu.rq.runnable
            and not cpu.lapic.irr
            and not cpu.softirq.pending
        )


class Rig:
    """CPUs that share RAM and a clock; IPIs are carried by hand."""

    def __init__(self, era: str, cpus: int) -> None:
        self.rng = random.Random(0)
        settings = BareCpu(era, cpus=cpus, boot=False).settings
        self.ram = Ram.anonymous(settings.layout())
        benches = [BareCpu(era, number=n, cpus=cpus, ram=self.ram, boot=False) for n in range(cpus)]
        self.ns = START_NS
        self.benches = benches
        self.sides: list[Side] = []
        boot = benches[0]
        for _ in range(200_000):
            self.step(self.rng.randrange(cpus))
            if all(b.cpu.programs.may_run for b in benches) and all(
                b.wake is None for b in benches
            ):
                break
        assert boot.cpu.programs.may_run, "the rig does not boot"
        self.shared = Shared()
        self.sides = [Side(bench, self.rng, self.shared) for bench in benches]

    def step(self, number: int, *inbox: tuple[str, Any]) -> None:
        """One boundary of one CPU; what it sends arrives before anybody's next one."""
        bench = self.benches[number]
        bench.ns = self.ns
        wake = bench.turn(*inbox, budget=1)
        self.ns = max(bench.ns, self.ns + STEP_NS // 2)
        for message in bench.outbox.pop("apic", ()) if bench.outbox else ():
            if isinstance(message, IcrWrite):
                low = message.icr & 0xFFFF_FFFF
                target = message.icr >> 56
                arrived = Interrupt(low & 0xFF, low >> 8 & 7, 0)
                self.benches[target].node.turn([("apic", arrived)], 0)
                self.benches[target].wake = self.ns
        if wake and all(b.wake is None or b.wake > self.ns for b in self.benches):
            self.ns = min(b.wake for b in self.benches if b.wake is not None)

    def interleave(self, seed: int) -> None:
        """One random interleaving; AssertionError names what broke."""
        rng = self.rng
        rng.seed(seed)
        for side in self.sides:
            side.begin(tasks=rng.randrange(1, 3), length=rng.randrange(2, 7))
        arrivals = rng.randrange(12)
        for _ in range(BOUNDARIES_MAX):
            number = rng.randrange(len(self.sides))
            inbox: list[tuple[str, Any]] = []
            if arrivals and rng.random() < 0.2:
                arrivals -= 1
                if rng.random() < 0.1:
                    inbox.append(("apic", Interrupt(0, lapic.NMI, 0)))
                else:
                    inbox.append(("apic", Interrupt(rng.choice(VECTORS), 0, 0)))
            self.step(number, *inbox)
            self.sides[number].check_boundary()
            if not arrivals and all(side.at_rest() for side in self.sides):
                break
        else:
            raise AssertionError("it never comes to rest")
        for side in self.sides:
            side.check_end()
        assert self.shared.served == self.shared.scheduled, "a tasklet did not run"
        for side in self.sides:  # those that nobody woke
            for waiter in side.waiters:
                waiter.condition = True
                wake_up_process(side.cpu, waiter.task)
        while any(not w.done for side in self.sides for w in side.waiters):
            self.step(rng.randrange(len(self.sides)))


def run(era: str, cpus: int, first: int, count: int) -> int:
    """``count`` interleavings with seeds from ``first``; returns how many passed."""
    rig = Rig(era, cpus)
    for side in rig.sides:
        side.cpu.nmi_handlers.append(lambda _cpu: True)
    for seed in range(first, first + count):
        try:
            rig.interleave(seed)
        except AssertionError as error:
            raise AssertionError(
                f"era {era}, {cpus} CPUs, seeds {first} to {seed}: {error}"
            ) from error
    return count


def main(total: int) -> int:
    """Spread ``total`` interleavings over eras, one and two CPUs, and this computer's cores."""
    chunk = 2000
    jobs = [
        (ERAS[n % 3], 1 + n // 3 % 2, 1_000_000 + n * chunk, chunk)
        for n in range(-(-total // chunk))
    ]
    done = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for count in pool.map(run, *zip(*jobs, strict=True)):
            done += count
            print(f"\r{done} of {len(jobs) * chunk} interleavings", end="", flush=True)
    print(": every rule held")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
