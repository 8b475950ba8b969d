"""Timers: the two wheels, high-resolution timers, the tick and its absence."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nodes.cpu.kernel.hrtimer import HrTimer, nanosleep
from nodes.cpu.kernel.jiffies import initial_jiffies, msecs_to_jiffies
from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.sched import SIGINT, send_signal
from nodes.cpu.kernel.timer import (
    Timer,
    msleep,
)
from nodes.cpu.kernel.wheel import calc_wheel_index
from tests.nodes.cpu.harness import ERAS, MS, SECOND, START_NS, BareCpu

WHEELS = {"cascading": "3.10", "hierarchical": "6.1"}


def ticks(cpu: Cpu) -> int:
    """jiffies since power-on."""
    return cpu.jiffies() - initial_jiffies(cpu.params.hz)


def arm(bench: BareCpu, delay: int, fired: list[object], name: object = None) -> Timer:
    """A timer ``delay`` jiffies from now; notes (name or) the jiffy when it ran."""

    def function(cpu: Cpu) -> None:
        fired.append(ticks(cpu) if name is None else name)

    timer = Timer(function)
    bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + delay)
    return timer


def at_jiffy(bench: BareCpu, jiffy: int) -> None:
    """Run until ``jiffy`` ticks after power-on."""
    bench.run_for(START_NS + jiffy * (SECOND // bench.cpu.params.hz) - bench.ns)
    assert ticks(bench.cpu) == jiffy


# ---------------------------------------------------------------- the wheel


@pytest.mark.conformance("K4.2-1")
@pytest.mark.parametrize("delay", [1, 7, 255, 256, 300, 16384, 20000])
def test_the_cascading_wheel_fires_in_the_jiffy_that_was_asked_for(delay: int) -> None:
    bench, fired = BareCpu("2.6.18"), []
    at_jiffy(bench, 40)
    arm(bench, delay, fired)
    at_jiffy(bench, 40 + delay - 1)
    bench.run_for(SECOND // 1000 - 1000)
    assert fired == []
    bench.run_for(3000)
    assert fired == [40 + delay]


@pytest.mark.conformance("K4.2-2")
def test_an_expired_timer_waits_for_the_next_tick_on_the_cascading_wheel() -> None:
    bench, fired = BareCpu("3.10"), []
    at_jiffy(bench, 40)
    arm(bench, -5, fired)
    assert fired == []
    bench.run_for(2 * MS)
    assert fired == [41]


@pytest.mark.parametrize("delay", [1, 10, 62, 63, 100, 505])
def test_the_modern_wheel_is_never_early(delay: int) -> None:
    bench, fired = BareCpu("6.1"), []
    at_jiffy(bench, 37)
    arm(bench, delay, fired)
    bench.run_for(1000 * 4 * MS)
    start = initial_jiffies(250)
    assert fired == [calc_wheel_index(start + 37 + delay, start + 37)[1] - start]
    assert fired[0] > 37 + delay


@pytest.mark.conformance("K4.2-3")
def test_timers_of_one_jiffy_run_in_the_order_of_arming_on_the_cascading_wheel() -> None:
    bench, order = BareCpu("3.10"), []
    at_jiffy(bench, 40)
    for name in "abc":
        arm(bench, 20, order, name)
    bench.run_for(100 * MS)
    assert order == ["a", "b", "c"]


def test_timers_of_one_bucket_run_last_in_first_out_on_the_modern_wheel() -> None:
    bench, order = BareCpu("6.1"), []
    at_jiffy(bench, 40)
    for name, delay in (("a", 65), ("b", 70), ("c", 68)):
        arm(bench, delay, order, name)
    bench.run_for(SECOND)
    assert order == ["c", "b", "a"]


def test_the_coarser_level_of_one_jiffy_runs_first() -> None:
    bench, order = BareCpu("6.1"), []
    at_jiffy(bench, 64)
    arm(bench, 71, order, "level 1")  # 135 -> 136
    at_jiffy(bench, 120)
    arm(bench, 15, order, "level 0")  # 135 -> 136
    bench.run_for(SECOND)
    assert order == ["level 1", "level 0"]


@pytest.mark.conformance("K4.2-4")
@pytest.mark.parametrize("era", ERAS)
def test_callbacks_run_in_softirq_context_with_interrupts_on(era: str) -> None:
    bench, seen = BareCpu(era), []

    def function(cpu: Cpu) -> None:
        seen.append((cpu.in_serving_softirq(), cpu.in_irq(), cpu.irqs_on))

    bench.cpu.timers.mod_timer(Timer(function), bench.cpu.jiffies() + 3)
    bench.run_for(50 * MS)
    assert seen == [(True, False, True)]


@pytest.mark.parametrize("era", ERAS)
def test_mod_timer_says_whether_it_was_pending_and_moves_it(era: str) -> None:
    bench, fired = BareCpu(era), []
    timer = arm(bench, 5, fired)
    assert timer.pending()
    assert bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + 30)
    bench.run_for(SECOND)
    assert len(fired) == 1
    assert fired[0] >= 30
    assert not timer.pending()
    assert not bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + 1)


@pytest.mark.parametrize("era", ERAS)
def test_a_deleted_timer_does_not_run(era: str) -> None:
    bench, fired = BareCpu(era), []
    timer = arm(bench, 5, fired)
    assert bench.cpu.timers.del_timer(timer)
    assert not bench.cpu.timers.del_timer(timer)
    bench.run_for(SECOND)
    assert fired == []


@pytest.mark.parametrize("era", ERAS)
def test_a_callback_may_arm_its_own_timer_again(era: str) -> None:
    bench, fired = BareCpu(era), []

    def function(cpu: Cpu) -> None:
        fired.append(cpu.jiffies())
        if len(fired) < 3:
            cpu.timers.mod_timer(timer, cpu.jiffies() + 10)

    timer = Timer(function)
    bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + 10)
    bench.run_for(SECOND)
    assert len(fired) == 3
    assert all(b - a in (10, 11) for a, b in pairwise(fired))


# ---------------------------------------------------------------- high resolution


def test_hrtimers_fire_in_the_hard_interrupt_at_their_nanosecond_in_order() -> None:
    bench, fired = BareCpu(), []

    def note(name: str) -> HrTimer:
        return HrTimer(lambda cpu: fired.append((name, cpu.now(), cpu.in_irq())))

    base = bench.ns + 10 * MS
    for name, offset in (("late", 500_000), ("early", 0), ("middle", 123_456)):
        bench.cpu.timers.hrtimer_start(note(name), base + offset)
    bench.run_for(20 * MS)
    assert [name for name, _, _ in fired] == ["early", "middle", "late"]
    assert [at - base for _, at, _ in fired] == pytest.approx([0, 123_456, 500_000], abs=1000)
    assert all(at >= base for _, at, _ in fired)
    assert all(hard for _, _, hard in fired)


def test_a_cancelled_hrtimer_does_not_fire() -> None:
    bench, fired = BareCpu(), []
    timer = HrTimer(lambda cpu: fired.append(1))
    bench.cpu.timers.hrtimer_start(timer, bench.ns + MS)
    assert bench.cpu.timers.hrtimer_cancel(timer)
    assert not bench.cpu.timers.hrtimer_cancel(timer)
    bench.run_for(10 * MS)
    assert fired == []


# ---------------------------------------------------------------- sleeping and the tick


@pytest.mark.parametrize(
    ("era", "ms", "jiffies"), [("3.10", 1, 2), ("3.10", 50, 51), ("6.1", 1, 2)]
)
def test_msleep_waits_its_jiffies_and_one_more(era: str, ms: int, jiffies: int) -> None:
    bench, woke = BareCpu(era), []

    def task(cpu: Cpu) -> Context:
        yield from msleep(cpu, ms)
        woke.append(ticks(cpu))

    at_jiffy(bench, 100)
    bench.task(task(bench.cpu))
    bench.run_for(SECOND)
    late = 1 if era == "6.1" else 0  # the modern wheel adds the rest of the bucket
    assert woke == [100 + jiffies + late]


def test_nanosleep_is_exact_and_ends_by_a_signal() -> None:
    bench, woke = BareCpu(), []

    def task(cpu: Cpu) -> Context:
        yield from nanosleep(cpu, 1_234_567)
        woke.append(cpu.now())
        yield from nanosleep(cpu, SECOND)
        woke.append(cpu.now())

    began = bench.ns
    sleeper = bench.task(task(bench.cpu))
    bench.run_for(10 * MS)
    assert woke[0] - began == pytest.approx(1_234_567, abs=3000)
    sent = bench.ns
    send_signal(bench.cpu, sleeper, SIGINT)
    bench.run_for(MS)
    assert woke[1] - sent < 3000
    bench.settle()
    assert bench.wake is None  # its timer is gone too


def test_milliseconds_become_jiffies_rounded_up() -> None:
    assert [msecs_to_jiffies(BareCpu("6.1").cpu, ms) for ms in (0, 1, 4, 5, 100)] == [
        0,
        1,
        1,
        2,
        25,
    ]
    assert [msecs_to_jiffies(BareCpu("3.10").cpu, ms) for ms in (1, 100)] == [1, 100]


@pytest.mark.parametrize("era", ERAS)
def test_an_idle_cpu_without_timers_is_never_woken(era: str) -> None:
    bench = BareCpu(era)
    bench.settle()
    assert bench.wake is None
    boundaries = bench["boundaries"]
    bench.run_for(100 * SECOND)
    assert bench["boundaries"] == boundaries


@pytest.mark.parametrize("era", ERAS)
def test_an_idle_cpu_sleeps_until_its_next_timer(era: str) -> None:
    bench, fired = BareCpu(era), []
    arm(bench, 200, fired)
    bench.settle()
    interrupts = bench["lapic_timer"]
    bench.run_for(SECOND)
    assert len(fired) == 1
    assert bench["lapic_timer"] - interrupts == 1


@pytest.mark.parametrize(("era", "hz"), [("2.6.18", 1000), ("3.10", 1000), ("6.1", 250)])
def test_a_busy_cpu_ticks_at_hz(era: str, hz: int) -> None:
    bench = BareCpu(era)
    assert bench.cpu.params.hz == hz

    def busy(cpu: Cpu) -> Context:
        end = cpu.now() + 100 * MS
        while cpu.now() < end:
            yield USER

    before = bench["lapic_timer"]
    bench.task(busy(bench.cpu))
    bench.settle()
    assert bench["lapic_timer"] - before == pytest.approx(hz / 10, abs=1)


def test_the_local_timer_is_counted_in_loc() -> None:
    bench, fired = BareCpu(), []
    arm(bench, 3, fired)
    bench.run_for(SECOND)
    loc = bench.page.run("arch_irqs")[1]
    assert loc == bench["lapic_timer"] == bench["vectors_taken"]
