"""net_rx_action: budget, time, squeezes, and NAPI's SCHED bit, with made-up pollers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.cpu.kernel.net.napi import (
    NAPI_STATE_MISSED,
    NAPI_STATE_SCHED,
    Napi,
    napi_complete_done,
    napi_schedule,
)
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.page import CPU_SCHEMA
from tests.nodes.cpu.harness import ERAS, MS, BareCpu

WORD = 3900
SQUEEZE = CPU_SCHEMA.index("softnet") + 2
NET_RX = 3
NET_RX_RUNS = CPU_SCHEMA.index("softirqs") + NET_RX


class Poller:
    """A NAPI instance with ``frames`` waiting; completes when it ran dry, as drivers do."""

    def __init__(
        self,
        bench: BareCpu,
        frames: int,
        *,
        number: int = 0,
        order: list[str] | None = None,
        extra: Callable[[Cpu], Context] | None = None,
        reports: bool = True,
    ) -> None:
        self.frames = frames
        self.polls: list[int] = []
        self.rounds: list[int] = []  # which NET_RX softirq each poll belonged to
        self.napi = Napi(WORD + number, 2 + number, 0, self.poll)
        self.napi.enabled = True
        self._order = order
        self._extra = extra
        self._reports = reports

    def poll(self, cpu: Cpu, napi: Napi, budget: int) -> Context:
        work = min(self.frames, budget)
        self.frames -= work
        self.polls.append(work)
        self.rounds.append(cpu.words[NET_RX_RUNS])
        if self._order is not None:
            self._order.append(napi.ifindex)  # type: ignore[arg-type]
        if self._extra is not None:
            yield from self._extra(cpu)
        yield
        if work < budget:
            napi_complete_done(cpu, napi)
            return work if self._reports else 0
        return budget


def interrupt(bench: BareCpu, *pollers: Poller) -> None:
    def handler(_irq: int, _dev: object) -> int:
        for poller in pollers:
            napi_schedule(bench.cpu, poller.napi)
        return 1

    bench.irq(0x41, handler)
    bench.vector(0x41)


@pytest.mark.conformance("N2.1")
@pytest.mark.parametrize("era", ERAS)
def test_scheduled_twice_it_is_on_the_list_once(era: str) -> None:
    bench = BareCpu(era)
    poller = Poller(bench, 3)
    interrupt(bench, poller, poller)
    bench.settle()
    modern = era == "6.1"
    # 6.1 remembers that it was asked twice and polls once more; before, the second is lost.
    assert poller.polls == ([3, 0] if modern else [3])
    assert bench.ram.atomics.load(WORD) == 0


def test_missed_is_set_only_while_it_is_scheduled() -> None:
    bench = BareCpu()
    poller = Poller(bench, 0)
    napi_schedule(bench.cpu, poller.napi)
    assert bench.ram.atomics.load(WORD) == NAPI_STATE_SCHED
    napi_schedule(bench.cpu, poller.napi)
    assert bench.ram.atomics.load(WORD) == NAPI_STATE_SCHED | NAPI_STATE_MISSED
    assert len(bench.cpu.net.poll_list) == 1


def test_a_disabled_instance_is_not_scheduled() -> None:
    bench = BareCpu()
    poller = Poller(bench, 1)
    poller.napi.enabled = False
    interrupt(bench, poller)
    bench.settle()
    assert poller.polls == []
    assert bench.ram.atomics.load(WORD) == 0


@pytest.mark.conformance("N2.2")
@pytest.mark.parametrize("era", ["3.10"])
def test_a_busy_instance_is_polled_five_times_then_the_budget_is_gone(era: str) -> None:
    bench = BareCpu(era)
    poller = Poller(bench, 1000)
    interrupt(bench, poller)
    bench.settle()
    assert sum(poller.polls) == 1000
    assert poller.rounds.count(1) == 5
    assert bench.page.words[SQUEEZE] == poller.rounds[-1] - 1


@pytest.mark.conformance("N2.3")
@pytest.mark.parametrize(("era", "squeezes"), [("3.10", 0), ("6.1", 1)])
def test_a_budget_used_up_by_the_poll_that_ends_the_work(era: str, squeezes: int) -> None:
    bench = BareCpu(era)
    pollers = [Poller(bench, frames, number=n) for n, frames in enumerate((64, 64, 64, 64, 44))]
    # The first four complete too: each reports exactly its weight once, then nothing.
    for poller in pollers[:4]:

        def poll(cpu: Cpu, napi: Napi, budget: int, poller: Poller = poller) -> Context:
            poller.polls.append(63)
            napi_complete_done(cpu, napi)
            yield
            return 63

        poller.napi.poll = poll

    def last(cpu: Cpu, napi: Napi, budget: int) -> Context:
        pollers[4].polls.append(48)
        napi_complete_done(cpu, napi)
        yield
        return 48

    pollers[4].napi.poll = last
    interrupt(bench, *pollers)
    bench.settle()
    assert sum(sum(p.polls) for p in pollers) == 300
    assert bench.page.words[SQUEEZE] == squeezes
    assert bench.cpu.net.poll_list == []


@pytest.mark.conformance("N2.4")
def test_done_pollers_report_nothing_in_2_6_18_so_they_squeeze_nobody() -> None:
    bench = BareCpu("2.6.18")
    pollers = [Poller(bench, 60, number=n, reports=False) for n in range(8)]
    interrupt(bench, *pollers)
    bench.settle()
    assert [p.polls for p in pollers] == [[60]] * 8
    assert bench.page.words[SQUEEZE] == 0


@pytest.mark.parametrize(("era", "limit_ms"), [("2.6.18", 2), ("3.10", 2), ("6.1", 8)])
def test_the_time_limit_squeezes(era: str, limit_ms: int) -> None:
    bench = BareCpu(era)

    def slow(cpu: Cpu) -> Context:
        end = cpu.now() + MS
        while cpu.now() < end:
            yield

    pollers = [Poller(bench, 1, number=n, extra=slow) for n in range(12)]
    interrupt(bench, *pollers)
    bench.settle()
    rounds = [poller.rounds[0] for poller in pollers]
    assert rounds.count(1) == limit_ms  # one instance a millisecond
    assert bench.page.words[SQUEEZE] == rounds[-1] - 1


def test_what_was_not_served_comes_before_what_was_polled_fully() -> None:
    bench, order = BareCpu(), []
    pollers = [Poller(bench, 64 * 3, number=n, order=order) for n in range(6)]
    interrupt(bench, *pollers)
    bench.settle()
    # Five polls use up 320 of 300; the sixth instance has waited and is first in the next round.
    assert order[:6] == [2, 3, 4, 5, 6, 7]
    assert pollers[5].rounds[0] == 2
    assert all(sum(p.polls) == 192 for p in pollers)


@pytest.mark.parametrize("era", ERAS)
def test_nothing_is_left_scheduled_when_all_is_done(era: str) -> None:
    bench = BareCpu(era)
    pollers = [Poller(bench, 150 * n, number=n) for n in range(5)]
    interrupt(bench, *pollers)
    bench.settle()
    assert [p.frames for p in pollers] == [0] * 5
    assert bench.cpu.net.poll_list == []
    assert bench.cpu.softirq.pending == 0
    assert all(bench.ram.atomics.load(WORD + n) == 0 for n in range(5))
