"""What works may do, kept apart from the code that does it: an account of each work.

Every queueing, cancelling and flushing goes through a ``Ledger``, and every run of a work reports
its begin and its end. From these alone the model says

* how often a work must have run: once for each queueing that returned true, less the cancelled;
* what a flush had to wait for: what was running and what was pending when it was called;
* who waits for whom, when nothing moves any more, and whether anybody could go on (``stuck``).

A call that has not returned may have had its effect or not; where that matters the model allows
both. A work is queued on one workqueue only, so its runs come one after the other.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Run:
    """One execution of a work."""

    work: Account
    number: int  # of the work's runs, from 1 on
    pool: Hashable
    over: bool = False


@dataclass(eq=False)
class Ticket:
    """What a call that flushes or cancels has to see the end of."""

    work: Account
    runs: list[Run]  # that were going on
    pending: bool  # an instance was waiting
    may_be_pending: bool  # perhaps
    started: int
    cancelled: int
    begun: int
    moved: int
    quiet: bool  # no queueing was going on

    def over(self) -> bool:
        """Is all of it done? A flush waits behind the instance that was queued last: if that is
        taken away (cancelled, or moved by mod_delayed_work), its barrier runs at once, and an
        earlier run may still go on."""
        work = self.work
        taken = work.cancelled > self.cancelled or work.cancelling
        there = self.may_be_pending or work.begun > self.begun  # queued before the call got to it
        if there and (taken or work.moved > self.moved or work.moving):
            return True
        if any(not run.over for run in self.runs):
            return False
        return not self.pending or any(number > self.started for number in work.ended)


@dataclass(eq=False)
class Account:
    """What was done to one work, and what it did."""

    name: str
    rank: int  # who may wait for whom: for a higher rank only
    wq: str
    limit: int = 0  # of works of this workqueue at once on one pool; 0: none that counts
    delayed: bool = False
    reentrant: bool = False  # 2.6.18: once on each CPU
    queued: int = 0  # calls that returned true
    begun: int = 0  # calls that queue
    calling: int = 0  # of these, not yet returned
    moved: int = 0  # calls of mod_delayed_work
    moving: int = 0  # that have not returned
    cancelled: int = 0
    cancelling: int = 0
    started: int = 0
    began: list[tuple[int, int]] = field(default_factory=list)  # (clock, CPU) of calls going on
    queued_at: tuple[int, int] = (0, 0)  # began, of the last call that returned true
    queued_by: int = 0  # clock when that call returned
    live: list[Run] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)

    def pending(self) -> bool:
        """An instance waits for sure, on a list or for its timer."""
        return not self.cancelling and self.queued - self.cancelled > self.started

    def may_be_pending(self) -> bool:
        return self.queued + self.calling - self.cancelled > self.started

    def settled(self) -> bool:
        return (
            not self.live
            and not self.calling
            and not self.cancelling
            and self.started == self.queued - self.cancelled
        )

    def overtakes(self, other: Account) -> bool:
        """Does a run that starts now belong to a later queueing than the one that ``other`` still
        waits with? Only if every call that can have queued it began when that one was over. Between
        different CPUs nothing is said: the one's record may be on its way yet."""
        if self.delayed or other.delayed or not other.pending() or other.calling:
            return False
        calls = [self.queued_at, *self.began]
        return all(cpu == other.queued_at[1] and clock > other.queued_by for clock, cpu in calls)

    # -- runs

    def start(self, pool: Hashable) -> Run:
        assert self.may_be_pending(), f"{self.name} runs and nobody queued it"
        if not self.reentrant:
            assert not self.live, f"{self.name} runs on two workers at once"
        self.started += 1
        run = Run(self, self.started, pool)
        self.live.append(run)
        return run

    def end(self, run: Run) -> None:
        run.over = True
        self.live.remove(run)
        self.ended.add(run.number)

    # -- calls

    def begin(self, now: int, cpu: int) -> tuple[int, int]:
        """A call that queues begins; what it returns is for ``returned``."""
        self.begun += 1
        self.calling += 1
        self.began.append((now, cpu))
        return now, cpu

    def returned(self, began: tuple[int, int], now: int, *, queued: bool) -> None:
        self.calling -= 1
        self.began.remove(began)
        self.queued += queued
        if queued:
            self.queued_at, self.queued_by = began, now
        assert self.queued - self.cancelled <= self.started + 1 + self.cancelling, (
            f"{self.name} was queued while it was pending"
        )

    def ticket(self, *, pending: bool = True) -> Ticket:
        """For a flush that is called now."""
        return Ticket(
            self, list(self.live), pending and self.pending(), self.may_be_pending(),
            self.started, self.cancelled, self.begun, self.moved - self.moving, not self.calling,
        )  # fmt: skip

    def cancel_returned(self, ticket: Ticket, *, was_pending: bool, waited: bool) -> None:
        self.cancelling -= 1
        self.cancelled += was_pending
        if was_pending:
            assert self.queued + self.calling - self.cancelled >= self.started, (
                f"{self.name} was cancelled though it had run"
            )
        if waited and not self.reentrant:
            assert all(run.over for run in ticket.runs), f"{self.name} runs after cancel_work_sync"
            if ticket.quiet and self.begun == ticket.begun and not self.cancelling:
                assert not self.live, f"{self.name} runs after cancel_work_sync"
                assert self.started == self.queued - self.cancelled, (
                    f"{self.name} is pending after cancel_work_sync"
                )


@dataclass(eq=False)
class Waiter:
    """A task or a run that may be inside a call that waits."""

    name: str
    run: Run | None = None
    tickets: list[Ticket] = field(default_factory=list)
    done: bool = False


def stuck(waiters: list[Waiter], accounts: list[Account], room: dict[str, int]) -> list[str]:
    """Who could go on though nothing moves: names; empty for a deadlock that is Linux's own.

    Everybody who is inside a call is held until what it waits for can end. ``room``: how many works
    of a workqueue may run at once (``Account.limit`` of each pool), 0 for any number.
    """
    blocked = {id(w.run): w for w in waiters if w.run is not None and w.tickets and not w.done}
    held = {id(w): w for w in waiters if w.tickets and not w.done}

    def run_ends(run: Run) -> bool:
        waiter = blocked.get(id(run))
        return run.over or waiter is None or id(waiter) not in held

    def starts(account: Account) -> bool:
        """Can the pending instance get a worker?"""
        if any(not run_ends(run) for run in account.live):
            return False
        limit = room[account.wq]
        others = [run for a in accounts if a.wq == account.wq for run in a.live]
        pools = {run.pool for run in others}
        # on an unknown pool: it can start if it could on each
        return all(
            not limit
            or len([r for r in others if r.pool == pool]) < limit
            or any(run_ends(r) for r in others if r.pool == pool)
            for pool in pools
        )

    def lets_go(ticket: Ticket) -> bool:
        """The call may have come to the work later than its ticket: any run counts, and what is
        pending. A barrier that lost its work is taken by a worker that ends a work."""
        work = ticket.work
        if any(not run_ends(run) for run in work.live):
            return False
        if work.pending() and not starts(work):
            return False
        taken = work.cancelled > ticket.cancelled or work.cancelling or work.moved > ticket.moved
        alike = [run for a in accounts if a.wq == work.wq for run in a.live]
        return not taken or all(run_ends(run) for run in alike)

    def goes_on(waiter: Waiter) -> bool:
        return all(lets_go(ticket) for ticket in waiter.tickets)

    moved = True
    while moved:
        free = [key for key, waiter in held.items() if goes_on(waiter)]
        moved = bool(free)
        for key in free:
            del held[key]
    found = [w.name for w in waiters if not w.done and id(w) not in held]
    found += [f"{a.name} (pending)" for a in accounts if a.pending() and starts(a)]
    return found
