"""jiffies: the start, the wrap, comparing, rounding to whole seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.cpu.kernel.jiffies import (
    ULONG_MAX,
    __round_jiffies,
    initial_jiffies,
    jiffy_ns,
    msecs_to_jiffies,
    round_jiffies,
    round_jiffies_relative,
    round_jiffies_up,
    time_after,
    time_after_eq,
    time_before,
    time_before_eq,
)
from nodes.cpu.kernel.timer import Timer
from tests.nodes.cpu.harness import ERAS, SECOND, BareCpu


@pytest.mark.parametrize("era", ERAS)
def test_the_low_half_wraps_five_minutes_after_boot(era: str) -> None:
    bench = BareCpu(era)
    bench.ns = bench.ram.boot_ns
    bench.node.steps = bench.cpu.steps = 0
    assert bench.cpu.jiffies() == 2**32 - 300 * bench.cpu.params.hz
    bench.ns += 300 * SECOND
    assert bench.cpu.jiffies() == 2**32


@pytest.mark.parametrize("era", ERAS)
def test_a_timer_fires_across_that_wrap(era: str) -> None:
    bench, fired = BareCpu(era), []
    bench.run_for(299 * SECOND)

    timer = Timer(lambda cpu: fired.append(cpu.jiffies()))
    bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + 2 * bench.cpu.params.hz)
    bench.run_for(4 * SECOND)
    assert len(fired) == 1
    assert fired[0] >= timer.expires > 2**32


JIFFIES = st.integers(0, ULONG_MAX)


@given(JIFFIES, st.integers(1, 2**63 - 1))
def test_time_after_goes_by_the_signed_difference(a: int, distance: int) -> None:
    later = (a + distance) & ULONG_MAX
    assert time_after(later, a)
    assert not time_after(a, later)
    assert time_before(a, later)
    assert time_after_eq(later, a)
    assert time_before_eq(a, later)


@given(JIFFIES)
def test_equal_jiffies_are_neither_before_nor_after(a: int) -> None:
    assert not time_after(a, a)
    assert not time_before(a, a)
    assert time_after_eq(a, a)
    assert time_before_eq(a, a)


@given(st.integers(0, 10**7), st.sampled_from(ERAS))
def test_the_clock_of_a_jiffy_is_its_first_nanosecond(ticks: int, era: str) -> None:
    cpu = CPUS[era].cpu
    start = jiffy_ns(cpu, initial_jiffies(cpu.params.hz) + ticks)
    hz = cpu.params.hz
    assert (start - cpu.ram.boot_ns) * hz // SECOND == ticks
    assert (start - 1 - cpu.ram.boot_ns) * hz // SECOND == ticks - 1


CPUS = {era: BareCpu(era) for era in ERAS}


def test_milliseconds_round_up_and_less_than_none_is_for_ever() -> None:
    cpu = CPUS["6.1"].cpu
    assert [msecs_to_jiffies(cpu, ms) for ms in (0, 1, 4, 5, 100)] == [0, 1, 1, 2, 25]
    assert msecs_to_jiffies(cpu, -1) == 2**62 - 2


def seconds(bench: BareCpu, jiffy: int) -> int:
    """The jiffy that many whole seconds (of jiffies modulo HZ) after the one given."""
    return jiffy - jiffy % bench.cpu.params.hz


@pytest.mark.parametrize("era", ERAS)
def test_round_jiffies_goes_down_in_the_first_quarter_of_a_second_only(era: str) -> None:
    bench = CPUS[era]
    cpu, hz = bench.cpu, bench.cpu.params.hz
    whole = seconds(bench, cpu.jiffies()) + 10 * hz
    assert round_jiffies(cpu, whole) == whole
    assert round_jiffies(cpu, whole + hz // 4 - 1) == whole
    assert round_jiffies(cpu, whole + hz // 4) == whole + hz
    assert round_jiffies(cpu, whole + hz - 1) == whole + hz
    assert round_jiffies_up(cpu, whole + 1) == whole + hz
    now = cpu.jiffies()
    assert round_jiffies_relative(cpu, whole + 1 - now) == whole - now


def test_each_cpu_rounds_three_jiffies_apart() -> None:
    bench = CPUS["3.10"]
    whole = seconds(bench, bench.cpu.jiffies()) + 10_000
    rounded = [__round_jiffies(bench.cpu, whole + 100, number) for number in range(3)]
    assert rounded == [whole, whole - 3, whole - 6]


def test_what_would_lie_in_the_past_is_left_as_it_was() -> None:
    bench = CPUS["3.10"]
    now = bench.cpu.jiffies()
    past = seconds(bench, now) + 1
    assert past <= now
    assert round_jiffies(bench.cpu, past) == past
