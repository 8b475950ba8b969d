"""The soft lockup detector: who kept the CPU, after how long, said how often."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.percpu import USER, Context, Cpu, Pause
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu

LOCKUP = {
    "2.6.18": "BUG: soft lockup detected on CPU#0!",
    "3.10": "BUG: soft lockup - CPU#0 stuck for 2",
    "6.1": "watchdog: BUG: soft lockup - CPU#0 stuck for 2",
}


def spin(cpu: Cpu, duration_ns: int) -> Context:
    """Kernel code that never calls schedule(); interrupts come through."""
    end = cpu.now() + duration_ns
    while cpu.now() < end:
        yield Pause(min(end, cpu.now() + 10 * MS))


def crunch(cpu: Cpu, duration_ns: int) -> Context:
    """A user program that only computes."""
    end = cpu.now() + duration_ns
    while cpu.now() < end:
        yield USER
        yield Pause(min(end, cpu.now() + 10 * MS))


def said(bench: BareCpu) -> list[str]:
    return [line for line in bench.log() if "soft lockup" in line]


@pytest.mark.parametrize("era", ERAS)
def test_a_task_that_never_schedules_is_reported_with_its_stack(era: str) -> None:
    bench = BareCpu(era)
    limit_s = 10 if era == "2.6.18" else 20
    task = bench.task(spin(bench.cpu, 60 * SECOND), "hog")
    bench.run_for((limit_s - 1) * SECOND)
    assert said(bench) == []
    bench.run_for(6 * SECOND)
    assert len(said(bench)) == 1
    assert said(bench)[0].startswith(LOCKUP[era])
    if era != "2.6.18":
        assert said(bench)[0].endswith(f"s! [hog:{task.pid}]")
    assert " spin" in bench.log()


@pytest.mark.parametrize(("era", "times"), [("2.6.18", 1), ("3.10", 1), ("6.1", 2)])
def test_the_same_lockup_is_said_again_only_in_the_last_era(era: str, times: int) -> None:
    bench = BareCpu(era)
    bench.task(spin(bench.cpu, 60 * SECOND), "hog")
    bench.run_for(55 * SECOND)
    assert len(said(bench)) == times


def test_watchdog_thresh_sets_the_limit() -> None:
    bench = BareCpu(overrides=(("watchdog_thresh", "1"),))
    bench.task(spin(bench.cpu, 10 * SECOND), "hog")
    bench.run_for(3 * SECOND)
    assert said(bench)[0].startswith("watchdog: BUG: soft lockup - CPU#0 stuck for 2s! [hog:")


@pytest.mark.parametrize("era", ERAS)
def test_a_busy_user_program_is_no_lockup_and_neither_is_a_long_idle_time(era: str) -> None:
    bench = BareCpu(era)
    bench.run_for(100 * SECOND)
    bench.task(crunch(bench.cpu, 40 * SECOND))
    bench.run_for(30 * SECOND)  # the limit is 20 s
    assert said(bench) == []


def test_an_idle_cpu_is_not_woken_by_its_watchdog() -> None:
    bench = BareCpu()
    assert bench.wake is None
    bench.run_for(100 * SECOND)
    assert bench.wake is None
