"""Random works on one to four CPUs, interleaved at random, against the rules of workqueues.

A rig is one machine of CPUs without devices, booted once. A case draws a few works and tasks, each
with a short random program: works compute, sleep, queue themselves and each other again on this CPU
or another, cancel and flush each other; tasks and hard interrupts do so too; CPUs go off and on.
Then chance chooses at each instruction boundary which CPU goes on and which IPI arrives.

At every boundary, for each pool of the CPU that moved:

* ``nr_running`` is the number of runnable workers without a NOT_RUNNING flag (``running``);
* works on the worklist have somebody who is about to take them (``somebody_takes``);
* a pool that works has another worker in reserve.

By the accounts of ``wq_model``: each work runs once for each queueing that succeeded and was not
cancelled, never on two workers at once, never more of a workqueue at once than max_active, in order
where the workqueue is ordered; who flushed or cancelled returns only after. And all comes to rest:
a work waits only for works of a higher rank, so Linux would not deadlock. ``deadlocks`` lets works
wait for whatever they like; what is stuck then must be stuck by the model as well.

``python -m tests.nodes.cpu.wq_interleavings 100000`` runs that many (``make soak``).
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bus.messages import IcrWrite, Interrupt
from bus.node import NOW
from bus.ram import Ram
from nodes.cpu.kernel import words
from nodes.cpu.kernel import workqueue as wqs
from nodes.cpu.kernel.cpuhotplug import cpu_down, cpu_up
from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Cpu
from nodes.cpu.kernel.workqueue.pool import WorkerPool
from nodes.cpu.kernel.workqueue.worker import WORKER_NOT_RUNNING, Worker
from tests.nodes.cpu.harness import ERAS, START_NS, STEP_NS, BareCpu
from tests.nodes.cpu.wq_model import Account, Ticket, Waiter, stuck

VECTOR = 0x52
WORKS_MAX, DRIVERS_MAX = 5, 3
QUEUEINGS_MAX = 14  # by works, in one case: some queue themselves
BOUNDARIES_MAX = 60_000
STUCK_NS = 20_000_000_000
MS = 1_000_000

#: name -> how it is made, and how many of its works may run at once on one pool (0: no limit)
Maker = Callable[[Cpu], Context]
UNLIMITED = 0


def _system(attribute: str) -> Maker:
    def make(cpu: Cpu) -> Context:
        yield
        return getattr(cpu.wq, attribute)

    return make


def _alloc(name: str, flags: int, max_active: int) -> Maker:
    return lambda cpu: wqs.alloc_workqueue(cpu, name, flags, max_active)


#: In the order of rank: a work may wait for works of those below it in this table.
CMWQ: dict[str, tuple[Maker, int]] = {
    "one": (_alloc("one", 0, 1), 1),
    "events": (_system("system_wq"), UNLIMITED),
    "ordered": (lambda cpu: wqs.alloc_ordered_workqueue(cpu, "ordered"), 1),
    "intensive": (_alloc("intensive", wqs.WQ_CPU_INTENSIVE, 0), UNLIMITED),
    "two": (_alloc("two", wqs.WQ_MEM_RECLAIM, 2), 2),
    "unbound": (_system("system_unbound_wq"), UNLIMITED),
    "high": (_system("system_highpri_wq"), UNLIMITED),
}
KEVENTD: dict[str, tuple[Maker, int]] = {
    "single": (lambda cpu: wqs.create_singlethread_workqueue(cpu, "single"), 1),
    "multi": (lambda cpu: wqs.create_workqueue(cpu, "multi"), 1),
    "events": (_system("system_wq"), 1),
}
ORDERED = ("ordered", "single")


class Case:
    """What one case draws."""

    def __init__(self, rng: random.Random, rig: Rig, *, lawful: bool, plug: bool) -> None:
        self.lawful = lawful
        self.budget = QUEUEINGS_MAX
        names = list(rig.workqueues)
        chosen = sorted(rng.randrange(len(names)) for _ in range(rng.randrange(2, WORKS_MAX + 1)))
        self.accounts = [
            Account(
                f"work{i} on {names[at]}", at * 10 + i, names[at], rig.room(names[at]),
                delayed=rng.random() < 0.3, reentrant=rig.keventd and names[at] != "single",
            )
            for i, at in enumerate(chosen)
        ]  # fmt: skip
        self.waiters: list[Waiter] = []
        self.last_worker: dict[str, Worker] = {}
        self.interrupts = rng.randrange(6)
        #: the CPU that goes off and on in this case; tasks are on the others, works everywhere
        self.unplugged = -1
        if plug and len(rig.cpus) > 1 and rng.random() < 0.4:
            self.unplugged = rng.randrange(1, len(rig.cpus))
        self.staying = [n for n in range(len(rig.cpus)) if n != self.unplugged]


class Rig:
    """CPUs that share RAM and a clock; IPIs arrive when chance lets them."""

    def __init__(self, era: str, cpus: int, *, plug: bool = False) -> None:
        self.plug = plug
        self.rng = random.Random(0)
        self.era = era
        settings = BareCpu(era, cpus=cpus, boot=False).settings
        self.ram = Ram.anonymous(settings.layout())
        self.benches = [
            BareCpu(era, number=n, cpus=cpus, ram=self.ram, boot=False) for n in range(cpus)
        ]
        self.cpus = [bench.cpu for bench in self.benches]
        self.ns = START_NS
        self.clock = 0  # boundaries of all CPUs
        self.mail: list[list[Interrupt]] = [[] for _ in range(cpus)]
        self.keventd = self.cpus[0].params.workqueue == "keventd"
        self.back_on_cpu = not self.keventd and self.cpus[0].params.worker_hook == "running"
        #: when those that sleep, or have not run since, were last put on their CPU
        self.asleep_since: dict[Worker, int] = {}
        self.workqueues: dict[str, Any] = {}
        self.limits: dict[str, int] = {}
        self.checking = False
        self.case: Case
        boot = self.cpus[0]
        for _ in range(200_000):
            self.step()
            if len(boot.online_cpus) == cpus and all(b.cpu.programs.may_run for b in self.benches):
                break
        assert boot.programs.may_run, "the rig does not boot"
        self.benches[0].task(self._set_up(), "setup")
        self.benches[0].wake = NOW
        self.run_until(lambda: len(self.workqueues) == len(self._table()))
        self.run_until(self.quiet)
        for i in range(WORKS_MAX):
            for cpu in self.cpus:
                self._make(cpu, i)
        for bench in self.benches:
            bench.irq(VECTOR, self._interrupt(bench.cpu))
        self.checking = True

    def _table(self) -> dict[str, tuple[Maker, int]]:
        return KEVENTD if self.keventd else CMWQ

    def _set_up(self) -> Context:
        for name, (make, limit) in self._table().items():
            self.workqueues[name] = yield from make(self.cpus[0])
            self.limits[name] = limit

    def room(self, name: str) -> int:
        return self.limits[name]

    # -- works

    def _make(self, cpu: Cpu, i: int) -> None:
        """Both kinds under one number would share a data word: a work and a delayed one each."""
        run = self._work(i)
        wqs.INIT_WORK(cpu, words.OTHER_WORK + 2 * i, f"work{i}", run)
        wqs.INIT_DELAYED_WORK(cpu, words.OTHER_WORK + 2 * i + 1, f"dwork{i}", run)

    def work_of(self, cpu: Cpu, account: Account) -> Any:
        i = self.case.accounts.index(account)
        return cpu.wq.works[words.OTHER_WORK + 2 * i + account.delayed]

    def wq_of(self, cpu: Cpu, account: Account) -> Any:
        return self.wq_here(cpu, account.wq)

    def wq_here(self, cpu: Cpu, name: str) -> Any:
        """Each CPU has its own view of a workqueue, under the same number."""
        return cpu.wq.workqueues[self.workqueues[name].id]

    def _work(self, i: int) -> Callable[[Cpu], Context]:
        def function(cpu: Cpu) -> Context:
            case = self.case
            account = case.accounts[i]
            worker = cpu.current.worker
            pool = cpu.number if worker is None else worker.pool.id
            if account.wq in ORDERED:
                for other in case.accounts:
                    assert other.wq != account.wq or not account.overtakes(other), (
                        f"{account.name} overtakes {other.name}"
                    )
            run = account.start(pool)
            self._room_is_kept(case, account)
            if worker is not None:
                self._nobody_else_runs(case, account, worker)
            waiter = Waiter(f"{account.name}, run {run.number}", run)
            case.waiters.append(waiter)
            for _ in range(self.rng.randrange(4)):
                yield from self._work_step(cpu, case, account, waiter)
            waiter.done = True
            account.end(run)

        return function

    def _nobody_else_runs(self, case: Case, account: Account, worker: Worker) -> None:
        """A bound pool starts nothing while another worker counts as running; a work that collided
        with its own earlier run is started by the worker of that run, come what may."""
        again = case.last_worker.get(account.name) is worker
        case.last_worker[account.name] = worker
        if not worker.pool.unbound and not again:
            assert worker.pool.nr_running <= 1, f"{account.name} starts while another work runs"

    def _room_is_kept(self, case: Case, account: Account) -> None:
        limit = self.limits[account.wq]
        if not limit or (self.keventd and not case.lawful):
            return  # 2.6.18's thread that flushes its own queue runs it inside the work
        live = [run for a in case.accounts if a.wq == account.wq for run in a.live]
        for pool in {run.pool for run in live}:
            here = [run for run in live if run.pool == pool]
            assert len(here) <= limit, f"{len(here)} works of {account.wq} at once on pool {pool}"
        if account.wq in ORDERED:
            assert len(live) == 1, f"two works of {account.wq} at once"

    def _work_step(self, cpu: Cpu, case: Case, me: Account, waiter: Waiter) -> Context:
        rng = self.rng
        kind = rng.choice(("compute", "sleep", "sleep", "again", "queue", "queue", "wait", "stop"))
        if kind == "compute":
            for _ in range(rng.randrange(1, 6)):
                yield
        elif kind == "sleep":
            yield from nanosleep(cpu, rng.randrange(1, 5) * MS // 2)
        elif kind in ("again", "queue"):
            if case.budget:
                case.budget -= 1
                yield from self._queue(cpu, me if kind == "again" else rng.choice(case.accounts))
        elif kind == "wait":
            others = [a for a in case.accounts if self._may_wait(case, me, a)]
            if others:
                yield from self._wait(cpu, case, rng.choice(others), waiter, me)
        else:
            yield from self._cancel_lightly(cpu, rng.choice(case.accounts))

    def _may_wait(self, case: Case, me: Account, other: Account) -> bool:
        if not case.lawful:
            return True
        return other.rank > me.rank and (other.wq != me.wq or not self.limits[me.wq])

    # -- what a context calls, with the account of it

    def _queue(self, cpu: Cpu, account: Account) -> Context:
        rng, wq, work = self.rng, self.wq_of(cpu, account), self.work_of(cpu, account)
        target = rng.randrange(len(self.cpus))
        here = rng.random() < 0.5
        began = account.begin(self.clock, cpu.number)
        if not account.delayed:
            if here:
                done = yield from wqs.queue_work(cpu, wq, work)
            else:
                done = yield from wqs.queue_work_on(cpu, target, wq, work)
            account.returned(began, self.clock, queued=done)
            return
        delay = rng.randrange(3)
        if rng.random() < 0.6:
            if here:
                done = yield from wqs.queue_delayed_work(cpu, wq, work, delay)
            else:
                done = yield from wqs.queue_delayed_work_on(cpu, target, wq, work, delay)
            account.returned(began, self.clock, queued=done)
            return
        account.moved += 1
        account.moving += 1
        if here:
            was = yield from wqs.mod_delayed_work(cpu, wq, work, delay)
        else:
            was = yield from wqs.mod_delayed_work_on(cpu, target, wq, work, delay)
        account.moving -= 1
        account.returned(began, self.clock, queued=not was)

    def _cancel_lightly(self, cpu: Cpu, account: Account) -> Context:
        """cancel_delayed_work and 6.1's cancel_work: they do not wait."""
        work = self.work_of(cpu, account)
        cancel = wqs.cancel_delayed_work if account.delayed else wqs.cancel_work
        if not account.delayed and self.era != "6.1":
            yield
            return
        ticket = account.ticket()
        account.cancelling += 1
        was = yield from cancel(cpu, work)
        account.cancel_returned(ticket, was_pending=was, waited=False)

    def _wait(
        self, cpu: Cpu, case: Case, account: Account, waiter: Waiter, me: Account | None
    ) -> Context:
        """Cancel it, flush it, or flush its whole workqueue."""
        kind = self.rng.choice(("cancel", "flush", "flush", "all"))
        work = self.work_of(cpu, account)
        if kind == "all" and me is not None and case.lawful and me.wq == account.wq:
            kind = "flush"
        if kind == "cancel":
            cancel = wqs.cancel_delayed_work_sync if account.delayed else wqs.cancel_work_sync
            ticket = account.ticket()
            waiter.tickets = [Ticket(**{**vars(ticket), "pending": False})]
            account.cancelling += 1
            was = yield from cancel(cpu, work)
            account.cancel_returned(ticket, was_pending=was, waited=True)
        elif kind == "flush":
            waiter.tickets = [account.ticket()]
            flush = wqs.flush_delayed_work if account.delayed else wqs.flush_work
            yield from flush(cpu, work)
        else:
            same = [a for a in case.accounts if a.wq == account.wq]
            waiter.tickets = [a.ticket(pending=not a.delayed) for a in same]
            yield from wqs.flush_workqueue(cpu, self.wq_of(cpu, account))
        if kind != "cancel" and not (self.keventd and account.reentrant):
            for ticket in waiter.tickets:
                assert ticket.over(), f"a {kind} of {ticket.work.name} returned too early"
        waiter.tickets = []

    # -- tasks and interrupts

    def _driver(self, cpu: Cpu, case: Case, waiter: Waiter, length: int) -> Context:
        rng = self.rng
        for _ in range(length):
            kind = rng.choice(("queue", "queue", "queue", "wait", "stop", "sleep", "busy", "give"))
            account = rng.choice(case.accounts)
            if kind == "queue":
                yield from self._queue(cpu, account)
            elif kind == "wait":
                yield from self._wait(cpu, case, account, waiter, None)
            elif kind == "stop":
                yield from self._cancel_lightly(cpu, account)
            elif kind == "sleep":
                yield from nanosleep(cpu, rng.randrange(1, 8) * MS // 2)
            elif kind == "busy":
                busy = yield from wqs.work_busy(cpu, self.work_of(cpu, account))
                assert 0 <= busy <= 3
            else:
                yield SCHEDULE
        waiter.done = True

    def _interrupt(self, cpu: Cpu) -> Callable[[int, object], Context]:
        def handler(_irq: int, _dev: object) -> Context:
            yield from self._queue(cpu, self.rng.choice(self.case.accounts))
            return IRQ_HANDLED

        return handler

    # -- time

    def ready(self) -> list[int]:
        """CPUs that have something to do now."""
        return [
            n
            for n, bench in enumerate(self.benches)
            if self.mail[n] or (bench.wake is not None and bench.wake <= self.ns)
        ]

    def asleep(self) -> bool:
        """Nobody has anything to do, or a timer."""
        return all(bench.wake is None for bench in self.benches) and not any(self.mail)

    def step(self) -> int:
        """One boundary of one CPU; its number."""
        rng, benches = self.rng, self.benches
        ready = self.ready()
        if not ready:
            wakes = [b.wake for b in benches if b.wake is not None]
            assert wakes, "everybody sleeps for ever"
            self.ns = max(self.ns, min(wakes))
            ready = self.ready()
        number = ready[rng.randrange(len(ready))] if len(ready) > 1 else ready[0]
        bench = benches[number]
        bench.ns = self.ns
        self.clock += 1
        inbox: list[tuple[str, Any]] = []
        mail = self.mail[number]
        while mail and rng.random() < 0.7:
            inbox.append(("apic", mail.pop(0)))
        bench.turn(*inbox, budget=1)
        self.ns = max(bench.ns, self.ns + STEP_NS // 2)
        for message in bench.outbox.pop("apic", ()):
            if isinstance(message, IcrWrite):
                self._post(number, message.icr)
        if self.checking:
            self.check_pools(number)
        return number

    def _post(self, sender: int, icr: int) -> None:
        if icr >> 15 & 1 and not icr >> 14 & 1:
            return  # INIT deassert
        arrived = Interrupt(icr & 0xFF, icr >> 8 & 7, icr >> 15 & 1)
        if icr >> 18 & 3 == 3:
            targets = [n for n in range(len(self.benches)) if n != sender]
        elif icr >> 11 & 1:
            targets = [n for n in range(len(self.benches)) if icr >> 56 >> n & 1]
        else:
            targets = [icr >> 56]
        for target in targets:
            self.mail[target].append(arrived)

    def run_until(self, done: Callable[[], bool], limit: int = 200_000) -> None:
        for _ in range(limit):
            if done():
                return
            self.step()
        raise AssertionError("it did not happen")

    # -- rules of a boundary

    def check_pools(self, number: int) -> None:
        cpu = self.cpus[number]
        if self.keventd:
            return
        for pool in cpu.wq.pools.values():
            if not pool.workers:
                continue
            running = self.running(cpu, pool)
            assert pool.nr_running == running, (
                f"pool {pool.id}: nr_running is {pool.nr_running}, {running} workers run"
            )
            # The barrier behind an inactive work that was cancelled is put on the worklist and
            # nobody is woken: in Linux too. The active work that kept it inactive ends some time.
            if any(work.number >= 0 for work in pool.worklist):
                assert self.somebody_takes(cpu, pool), (
                    f"pool {pool.id}: works wait and nobody will take them"
                )

    def running(self, cpu: Cpu, pool: WorkerPool) -> int:
        """Workers that are runnable and have no NOT_RUNNING flag; in 6.1 one that was woken is
        not counted before it is back on its CPU."""
        count = 0
        current, asleep_since = cpu.current, self.asleep_since
        for worker in pool.workers:
            task = worker.task
            if task is None:
                continue  # a guest: its work ends on another CPU
            on = task is current or task.on_rq
            if self.back_on_cpu:
                if not on:
                    asleep_since[worker] = task.started_ns
                on = on and task.started_ns != asleep_since.get(worker, 0)
            count += on and not worker.flags & WORKER_NOT_RUNNING
        return count

    def somebody_takes(self, cpu: Cpu, pool: WorkerPool) -> bool:
        """A worker that is awake and will look at the worklist: one between two works, or one
        that counts as running, for when it is done."""
        for worker in pool.workers:
            task = worker.task
            if task is None:
                continue  # a guest: its work ends on another CPU
            between = worker.current_work is None
            counts = not worker.flags & WORKER_NOT_RUNNING
            if (task is cpu.current or task.on_rq) and (between or counts):
                return True
        return pool.manager is not None

    # -- one case

    def begin(self, seed: int, *, lawful: bool = True) -> Case:
        rng = self.rng
        rng.seed(seed)
        case = self.case = Case(rng, self, lawful=lawful, plug=self.plug)
        for n in range(rng.randrange(1, DRIVERS_MAX + 1)):
            number = rng.choice(case.staying)
            waiter = Waiter(f"task{n}")
            driver = self._driver(self.cpus[number], case, waiter, rng.randrange(2, 9))
            self._start(case, number, driver, waiter)
        if case.unplugged >= 0:
            waiter = Waiter("hot-plug")
            self._start(case, 0, self._hot_plug(self.cpus[0], case, waiter), waiter)
        return case

    def _start(self, case: Case, number: int, gen: Context, waiter: Waiter) -> None:
        case.waiters.append(waiter)
        self.benches[number].task(gen, waiter.name)
        self.benches[number].wake = NOW

    def _hot_plug(self, cpu: Cpu, case: Case, waiter: Waiter) -> Context:
        """Off and on again, while all goes on."""
        for change in (cpu_down, cpu_up):
            yield from nanosleep(cpu, self.rng.randrange(1, 12) * MS // 4)
            error = yield from change(cpu, case.unplugged)
            assert error == 0, f"{change.__name__}({case.unplugged}) = {error}"
        waiter.done = True

    def at_rest(self, case: Case) -> bool:
        return (
            not case.interrupts
            and all(waiter.done for waiter in case.waiters)
            and all(account.settled() for account in case.accounts)
        )

    def interleave(self, seed: int) -> None:
        """One lawful case; AssertionError names what broke."""
        case = self.begin(seed)
        for _ in range(BOUNDARIES_MAX):
            if case.interrupts and (self.asleep() or self.rng.random() < 0.1):
                case.interrupts -= 1
                number = self.rng.choice(case.staying)
                self.mail[number].append(Interrupt(VECTOR, 0, 0))
            self.step()
            if self.at_rest(case) and self.quiet():
                break
        else:
            raise AssertionError("it never comes to rest: " + ", ".join(self.unfinished(case)))
        self.check_end(case)

    def unfinished(self, case: Case) -> list[str]:
        return [w.name for w in case.waiters if not w.done] + [
            f"{a.name} (queued {a.queued}, ran {a.started}, cancelled {a.cancelled})"
            for a in case.accounts
            if not a.settled()
        ]

    def quiet(self) -> bool:
        return not any(self.mail) and all(
            cpu.current is cpu.idle and not cpu.stack and not cpu.rq.runnable for cpu in self.cpus
        )

    def check_end(self, case: Case) -> None:
        for account in case.accounts:
            assert account.settled(), f"{account.name} is not settled"
            number = self.work_of(self.cpus[0], account).number
            assert not self.ram.atomics.load(number) & 1, f"{account.name} is still pending"
        if self.keventd:
            return
        for cpu in self.cpus:
            for pool in cpu.wq.pools.values():
                assert not pool.worklist
                assert not pool.busy_hash
                assert len(pool.idle_list) == len(pool.workers), "a worker neither idles nor works"
            for wq in cpu.wq.workqueues.values():
                for pwq in wq.pwqs.values():
                    assert pwq.nr_active == 0, f"{wq.name}: nr_active is {pwq.nr_active} at rest"
                    assert not pwq.inactive_works
                    assert not any(pwq.nr_in_flight), f"{wq.name}: {pwq.nr_in_flight} in flight"
                    assert pwq.stats.started == pwq.stats.completed

    def deadlock(self, seed: int) -> bool:
        """A case in which works wait for anything. True if it came to rest; if not, the model
        must find nobody who could go on. The rig is spoilt then."""
        case = self.begin(seed, lawful=False)
        case.interrupts = 0
        moved_ns, before = self.ns, -1
        while not self.at_rest(case):
            if not self.asleep():
                self.step()
            now = sum(a.begun + a.started + len(a.ended) for a in case.accounts)
            now += sum(waiter.done for waiter in case.waiters)
            if now != before:
                moved_ns, before = self.ns, now
            if self.asleep() or self.ns - moved_ns > STUCK_NS:
                free = stuck(case.waiters, case.accounts, self.limits)
                assert not free, f"Linux would go on: {', '.join(free)}"
                return False
        return True


def run(era: str, cpus: int, first: int, count: int, plug: bool = False) -> int:
    """``count`` cases with seeds from ``first``; returns how many passed."""
    rig = Rig(era, cpus, plug=plug)
    for seed in range(first, first + count):
        try:
            rig.interleave(seed)
        except Exception as error:
            raise AssertionError(
                f"era {era}, {cpus} CPUs, seeds {first} to {seed}: {error}"
            ) from error
    return count


def deadlocks(era: str, cpus: int, first: int, count: int) -> int:
    """Cases that may deadlock; returns how many did."""
    found = 0
    rig = Rig(era, cpus)
    for seed in range(first, first + count):
        try:
            rested = rig.deadlock(seed)
        except Exception as error:
            raise AssertionError(f"era {era}, {cpus} CPUs, seed {seed}: {error}") from error
        if not rested:
            found += 1
            rig = Rig(era, cpus)
    return found


def main(total: int) -> int:
    """Spread ``total`` cases over eras, one to four CPUs, and this computer's cores."""
    chunk = 500
    jobs = [
        (ERAS[n % 3], 1 + n // 3 % 4, 1_000_000 + n * chunk, chunk, n // 12 % 2 == 1)
        for n in range(-(-total // chunk))
    ]
    done = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for count in pool.map(run, *zip(*jobs, strict=True)):
            done += count
            print(f"\r{done} of {len(jobs) * chunk} cases", end="", flush=True)
    print(": every rule held")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
