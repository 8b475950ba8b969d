"""The timer wheels: placing, and every firing rule against plain models of the real ones."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.cpu.kernel.jiffies import initial_jiffies
from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.cpu.kernel.timer import Timer, TimerBases
from nodes.cpu.kernel.wheel import calc_wheel_index, lvl_start, wheel_depth
from nodes.cpu.page import CPU_SCHEMA
from tests.nodes.cpu.wheel_models import ClassicModel, ModernModel

NAMES = "abcdefgh"


class Jiffies:
    """As much of a CPU as timer bases need: jiffies that the test sets."""

    number = 0
    trace_mask = 0
    preempt_count = 0x100
    irqs_on = True

    def __init__(self, era: str, hz: int, at: int) -> None:
        overrides = (("hz", str(hz)), ("timer_slack", "none"))
        self.params = with_overrides(PRESETS[era], overrides)
        self.words = [0] * CPU_SCHEMA.words
        self.at = at

    def jiffies(self) -> int:
        return self.at


class Both:
    """Real bases and a model that are told the same."""

    def __init__(self, era: str, hz: int = 1000) -> None:
        start = initial_jiffies(hz)
        self.cpu: Any = Jiffies(era, hz, start)
        self.bases = TimerBases(self.cpu)
        modern = era == "6.1"
        self.model: Any = ModernModel(start, wheel_depth(hz)) if modern else ClassicModel(start)
        self.timers = {name: Timer(self._callback(name)) for name in NAMES}
        self.real: list[tuple[str, int]] = []
        self.modelled: list[tuple[str, int]] = []
        #: What a timer's callback does: (kind, name, delay).
        self.scripts: dict[str, tuple[str, str, int]] = {}

    def _callback(self, name: str) -> Any:
        def function(_cpu: object) -> None:
            self.real.append((name, self.cpu.at))
            kind, other, delay = self.scripts.get(name, ("none", "", 0))
            if kind == "mod":
                self.bases.mod_timer(self.timers[other], self.cpu.at + delay)
            elif kind == "del":
                self.bases.del_timer(self.timers[other])

        return function

    def _model_fires(self, name: str) -> None:
        self.modelled.append((name, self.cpu.at))
        kind, other, delay = self.scripts.get(name, ("none", "", 0))
        if kind == "mod":
            self.model.mod(other, self.cpu.at + delay, self.cpu.at)
        elif kind == "del":
            self.model.delete(other)

    def mod(self, name: str, delay: int) -> None:
        expires = self.cpu.at + delay
        real = self.bases.mod_timer(self.timers[name], expires)
        assert real == self.model.mod(name, expires, self.cpu.at)

    def delete(self, name: str) -> None:
        assert self.bases.del_timer(self.timers[name]) == self.model.delete(name)

    def idle(self) -> None:
        assert self.bases.standard.next_event() == self.model.idle()

    def run(self, jiffies: int) -> None:
        """Time passes; then the TIMER softirq runs."""
        self.cpu.at += jiffies
        list(self.bases.run_timer_softirq())
        self.model.run(self.cpu.at, self._model_fires)
        assert self.real == self.modelled
        assert self.bases.standard.clk == self.model.clk
        assert self.model.pending() == [n for n, timer in self.timers.items() if timer.pending()]


NEAR = st.integers(-5, 80)
DELAYS = {
    "2.6.18": st.one_of(NEAR, st.integers(200, 600), st.integers(16_000, 17_000)),
    "6.1": st.one_of(
        NEAR, st.integers(60, 600), st.integers(4_000, 40_000), st.integers(0, 1_100_000_000)
    ),
}
STEPS = {
    "2.6.18": st.one_of(st.integers(0, 3), st.integers(0, 300), st.integers(0, 17_000)),
    "6.1": st.one_of(
        st.integers(0, 3), st.integers(0, 600), st.integers(0, 40_000), st.integers(0, 300_000_000)
    ),
}


def sequences(era: str) -> Any:
    name, delay = st.sampled_from(NAMES), DELAYS[era]
    return st.lists(
        st.one_of(
            st.tuples(st.just("mod"), name, delay),
            st.tuples(st.just("mod"), name, delay),
            st.tuples(st.just("delete"), name),
            st.tuples(st.just("script"), name, st.sampled_from(["mod", "del"]), name, delay),
            st.tuples(st.just("idle")),
            st.tuples(st.just("pass"), STEPS[era]),
            st.tuples(st.just("run"), STEPS[era]),
        ),
        max_size=40,
    )


def play(both: Both, sequence: list[tuple[Any, ...]]) -> None:
    for kind, *arguments in sequence:
        if kind == "script":
            name, what, other, delay = arguments
            # from a callback only into the future: else one would fire for ever in one jiffy
            both.scripts[name] = (what, other, max(1, delay))
        elif kind == "pass":  # time goes on and nobody looks: the base's clock lags
            both.cpu.at += arguments[0]
        else:
            getattr(both, kind)(*arguments)
    both.scripts.clear()
    both.run(20_000)


@settings(deadline=None, max_examples=150)
@given(sequences("2.6.18"))
def test_the_cascading_wheel_does_what_the_plain_model_does(sequence: list[Any]) -> None:
    play(Both("2.6.18"), sequence)


@settings(deadline=None, max_examples=300)
@given(sequences("6.1"), st.sampled_from([100, 250, 1000]))
def test_the_hierarchical_wheel_does_what_the_plain_model_does(
    sequence: list[Any], hz: int
) -> None:
    play(Both("6.1", hz), sequence)


@pytest.mark.parametrize("era", ["2.6.18", "6.1"])
def test_a_long_life_of_many_timers(era: str) -> None:
    """Dense traffic, so that slots and buckets are shared and cascades meet late arrivals."""
    rng, both = random.Random(7), Both(era)
    for _ in range(6_000):
        name = rng.choice(NAMES)
        roll = rng.random()
        if roll < 0.6:
            both.mod(name, rng.choice([rng.randrange(12), rng.randrange(600), 256, 512, 17_000]))
        elif roll < 0.7:
            both.delete(name)
        elif roll < 0.75:
            both.idle()
        else:
            both.run(rng.choice([1, 1, 1, 5, 64, 300]))
    assert len(both.real) > 500


# ---------------------------------------------------------------- far away


@pytest.mark.parametrize("delay", [2**14 - 1, 2**14, 2**20 - 1, 2**20, 2**20 + 12345])
def test_the_cascading_wheel_is_exact_however_far(delay: int) -> None:
    both = Both("3.10")
    both.cpu.at += 77
    timer = both.timers["a"]
    list(both.bases.run_timer_softirq())
    both.bases.mod_timer(timer, both.cpu.at + delay)
    expires = timer.expires
    both.cpu.at = expires - 1
    list(both.bases.run_timer_softirq())
    assert both.real == []
    both.cpu.at += 1
    list(both.bases.run_timer_softirq())
    assert both.real == [("a", expires)]


def test_the_cascading_wheel_keeps_what_is_too_far_for_it() -> None:
    both = Both("2.6.18")
    timer = both.timers["a"]
    both.bases.mod_timer(timer, both.cpu.at + 2**33)
    assert timer.index == (both.cpu.at + 2**32 - 1) >> 26 & 63  # as far as tv5 goes
    assert timer.pending()


def test_what_comes_down_a_cascade_runs_after_what_lay_there_already() -> None:
    both = Both("2.6.18")
    both.run(0)
    late = 300
    both.mod("a", late)  # tv2
    both.mod("b", late)
    both.run(100)
    both.mod("c", late - 100)  # tv1, before the cascade
    both.run(300)
    assert [name for name, _ in both.real] == ["c", "a", "b"]


@pytest.mark.conformance("K4.3-1")
@pytest.mark.parametrize(
    ("expires", "fires"), [(10, 11), (62, 63), (63, 64), (100, 104), (1000, 1024)]
)
def test_the_modern_wheel_fires_at_the_end_of_the_bucket(expires: int, fires: int) -> None:
    assert calc_wheel_index(expires, 0)[1] == fires


@pytest.mark.parametrize(
    ("delta", "level"),
    [(0, 0), (62, 0), (63, 1), (503, 1), (504, 2), (4031, 2), (4032, 3), (32255, 3), (32256, 4),
     (258048, 5), (2064384, 6), (16515072, 7), (132120575, 7), (132120576, 8)],
)  # fmt: skip
def test_levels_of_the_modern_wheel(delta: int, level: int) -> None:
    index, end = calc_wheel_index(delta, 0)
    assert index // 64 == level
    assert 0 < end - delta <= 8**level  # late by one granularity at the most, never early


@pytest.mark.parametrize(
    ("expires", "timeout", "idx"),
    [(4294906716, 25, 29), (4294908002, 1250, 162), (4294907000, 248, 80), (4294906758, 0, 7),
     (4294908456, 25, 41), (4294908450, 1, 35)],
)  # fmt: skip
def test_buckets_that_a_real_kernel_chose(expires: int, timeout: int, idx: int) -> None:
    """timer_start lines of a 6.1 kernel at HZ=250; the first one fired at 4294906717."""
    index, end = calc_wheel_index(expires, expires - timeout)
    assert index == idx
    if idx == 29:
        assert end == 4294906717


@pytest.mark.parametrize(
    ("hz", "cutoff", "longest"), [(1000, 1056964608, 1040187392), (100, 132120576, 130023424)]
)
def test_the_modern_wheel_ends_at_its_cutoff(hz: int, cutoff: int, longest: int) -> None:
    depth = wheel_depth(hz)
    assert lvl_start(depth) == cutoff
    below, at = calc_wheel_index(cutoff - 1, 0, depth), calc_wheel_index(cutoff, 0, depth)
    assert at == calc_wheel_index(10 * cutoff, 0, depth)
    assert at[1] == longest + 8 ** (depth - 1)  # the end of the bucket of the longest timeout
    assert below[0] // 64 == at[0] // 64 == depth - 1


def test_an_expiry_in_the_past_goes_into_the_present_bucket_of_the_modern_wheel() -> None:
    assert calc_wheel_index(490, 500) == (500 % 64, 500)


def test_moving_a_timer_within_its_bucket_only_changes_its_expiry() -> None:
    both = Both("6.1")
    both.mod("a", 65)
    both.mod("b", 66)
    place = both.timers["a"].index
    both.mod("a", 67)  # would come to the head if it were moved
    assert both.timers["a"].index == place
    both.run(100)
    assert [name for name, _ in both.real] == ["b", "a"]


def test_the_modern_base_forwards_its_clock_before_a_timer_goes_in() -> None:
    both = Both("6.1")
    both.cpu.at += 1_000  # idle: nobody turned the wheel
    both.mod("a", 20)
    assert both.bases.standard.clk == both.cpu.at
    both.run(21)
    assert both.real == [("a", both.cpu.at)]  # level 0: not as coarse as from a lagging clock
