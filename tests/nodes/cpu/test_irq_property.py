"""Random lives of a line: arrivals, disable and enable, handlers of any length, in every era.

Whatever happens: the line never runs twice at once, its depth is never negative, and what arrived
is handled once the line is enabled. One exception is 2.6.18's own: its ack masks an edge line that
is PENDING and DISABLED, __do_IRQ then runs the handler all the same and takes PENDING away, and
the next edge meets the mask with nobody to remember it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.cpu.kernel.irq.desc import (
    IRQ_DELAYED_DISABLE,
    IRQ_HANDLED,
    IRQ_WAKE_THREAD,
    IRQF_ONESHOT,
)
from nodes.cpu.kernel.irq.manage import disable_irq_nosync, enable_irq
from nodes.cpu.kernel.irq.sim import irq_sim_assert, irq_sim_deassert, irq_sim_fire
from nodes.cpu.kernel.percpu import Context
from tests.nodes.cpu.lines import LineBench

IRQ = 5
WORLDS: dict[str, tuple[str, dict[str, str]]] = {
    "2.6.18 __do_IRQ": ("2.6.18", {}),
    "2.6.18 flows": ("2.6.18", {"irq_flow": "handlers"}),
    "3.10": ("3.10", {}),
    "6.1": ("6.1", {}),
}
#: (what, how often or how long)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.just(1)),
        st.tuples(st.just("disable"), st.just(1)),
        st.tuples(st.just("enable"), st.just(1)),
        st.tuples(st.just("run"), st.integers(1, 40)),
    ),
    max_size=40,
)
LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=8)


class Life:
    """A line, its handler, and what is known of both."""

    def __init__(self, world: str, flow: str, lengths: list[int], disables: bool) -> None:
        era, overrides = WORLDS[world]
        self.forgets = world == "2.6.18 __do_IRQ"
        self.bench = LineBench(era, overrides=overrides)
        self.desc = self.bench.line(IRQ, flow)
        self.edge = flow == "edge"
        if self.edge:  # else 2.6.18's flows mask at once, and a pulse on a masked pin is lost
            self.desc.settings |= IRQ_DELAYED_DISABLE
        self._lengths = lengths
        self._disables = disables  # does every third run disable its own line?
        self.running = 0
        self.runs = 0
        self.last_began = -1
        self.last_arrival = -1
        self.clock = 0  # order of events, finer than boundaries
        assert self.bench.request(IRQ, self.handler) == 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def handler(self, irq: int, _dev: object) -> Context:
        self.running += 1
        assert self.running == 1, "the line nests"
        self.runs += 1
        self.last_began = self.tick()
        if self._disables and self.runs % 3 == 0:
            disable_irq_nosync(self.bench.cpu, irq)
        for _ in range(self._lengths[self.runs % len(self._lengths)]):
            yield
        if not self.edge:
            irq_sim_deassert(self.bench.cpu, irq)
        self.running -= 1
        return IRQ_HANDLED

    def do(self, what: str, amount: int) -> None:
        cpu = self.bench.cpu
        if what == "arrive":
            lost = self.bench.wire(IRQ).lost
            (irq_sim_fire if self.edge else irq_sim_assert)(cpu, IRQ)
            if not (self.forgets and self.bench.wire(IRQ).lost > lost):
                self.last_arrival = self.tick()
        elif what == "disable":
            disable_irq_nosync(cpu, IRQ)
        elif what == "enable" and self.desc.depth:
            enable_irq(cpu, IRQ)
        elif what == "run":
            self.bench.step(amount)
        assert self.desc.depth >= 0

    def settle(self) -> None:
        """Everything is enabled and over."""
        self._disables = False
        while True:
            self.bench.settle()
            if not self.desc.depth:
                return
            enable_irq(self.bench.cpu, IRQ)


@pytest.mark.parametrize("world", WORLDS)
@given(steps=STEPS, lengths=LENGTHS, disables=st.booleans())
@settings(max_examples=80, deadline=None)
def test_no_edge_is_lost_and_the_line_never_nests(
    world: str, steps: list[tuple[str, int]], lengths: list[int], disables: bool
) -> None:
    life = Life(world, "edge", lengths, disables)
    for what, amount in steps:
        life.do(what, amount)
    life.settle()
    assert life.last_began > life.last_arrival or life.last_arrival < 0
    assert life.running == 0
    assert life.bench.cpu.preempt_count == 0
    assert life.bench.cpu.lapic.isr == 0
    arrivals = sum(what == "arrive" for what, _ in steps)
    assert life.runs <= arrivals


def test_2_6_18_forgets_an_edge_behind_the_mask_of_its_own_ack() -> None:
    """Found by the test above."""
    life = Life("2.6.18 __do_IRQ", "edge", [17], False)
    steps = [("arrive", 1), ("run", 18), ("arrive", 1), ("run", 1), ("arrive", 1), ("disable", 1)]
    for what, amount in [*steps, ("run", 3), ("arrive", 1)]:
        life.do(what, amount)
    life.settle()
    assert life.bench.wire(IRQ).lost == 1
    assert life.runs == 2  # of four arrivals: the third was one with the second


@pytest.mark.parametrize("flow", ["level", "fasteoi"])
@pytest.mark.parametrize("world", WORLDS)
@given(steps=STEPS, lengths=LENGTHS, disables=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_level_is_served_until_it_is_quiet_and_the_line_never_nests(
    world: str, flow: str, steps: list[tuple[str, int]], lengths: list[int], disables: bool
) -> None:
    life = Life(world, flow, lengths, disables)
    for what, amount in steps:
        life.do(what, amount)
    life.settle()
    assert not life.bench.wire(IRQ).asserted
    assert life.running == 0
    assert life.bench.cpu.preempt_count == 0
    assert life.bench.cpu.lapic.isr == 0


@pytest.mark.parametrize("world", ["3.10", "6.1"])
@given(steps=STEPS, lengths=LENGTHS)
@settings(max_examples=40, deadline=None)
def test_a_oneshot_level_is_quiet_after_its_thread_and_unmasked(
    world: str, steps: list[tuple[str, int]], lengths: list[int]
) -> None:
    era, overrides = WORLDS[world]
    bench = LineBench(era, overrides=overrides)
    desc = bench.line(IRQ, "fasteoi")
    running: list[Any] = []

    def thread_fn(irq: int, _dev: object) -> Context:
        assert not running
        running.append(irq)
        for _ in range(lengths[0]):
            yield
        irq_sim_deassert(bench.cpu, irq)
        running.clear()
        return IRQ_HANDLED

    bench.request(IRQ, lambda i, d: IRQ_WAKE_THREAD, IRQF_ONESHOT, thread_fn=thread_fn)
    for what, amount in steps:
        if what == "arrive":
            irq_sim_assert(bench.cpu, IRQ)
        elif what == "disable":
            disable_irq_nosync(bench.cpu, IRQ)
        elif what == "enable" and desc.depth:
            enable_irq(bench.cpu, IRQ)
        else:
            bench.step(amount)
    while desc.depth:
        enable_irq(bench.cpu, IRQ)
    bench.settle()
    assert not bench.wire(IRQ).asserted
    assert not bench.wire(IRQ).masked
    assert desc.threads_oneshot == desc.threads_active == 0
