"""From trace records to intervals of contexts, and to rows of letters."""

from __future__ import annotations

import itertools

import pytest

from bus.recorder import Record
from nodes.cpu.page import CONTEXTS
from nodes.cpu.trace import TRACEPOINTS
from orchestrator.labs import contexts, timeline
from orchestrator.labs.contexts import Interval


def record(time_ns: int, event: str, context: str, a: int = 0, b: int = 0) -> Record:
    return Record(time_ns, TRACEPOINTS[event].number, CONTEXTS.index(context), a, b)


def letters(records: list[Record], end: int, in_task: bool = False) -> str:
    found = contexts.intervals(records, 0, end, in_task)
    return timeline.row(found, 0, 1000, end // 1000)


def test_an_interrupt_and_its_softirq_over_the_idle_task() -> None:
    found = letters(
        [
            record(2000, "irq_handler_entry", "hardirq", 24),
            record(4000, "irq_handler_exit", "hardirq", 24),
            record(4000, "softirq_entry", "softirq", 3),
            record(7000, "softirq_exit", "softirq", 3),
        ],
        10_000,
    )
    assert found == "..HHSSS..."


def test_an_interrupt_over_a_softirq_over_a_task_returns_to_each() -> None:
    found = letters(
        [
            record(1000, "sched_switch", "task", 0, 7),
            record(2000, "softirq_entry", "softirq", 3),
            record(3000, "irq_handler_entry", "hardirq", 24),
            record(4000, "irq_handler_exit", "hardirq", 24),
            record(6000, "softirq_exit", "softirq", 3),
            record(8000, "sched_switch", "task", 7, 120 << 32),
        ],
        10_000,
    )
    assert found == ".TSHSSTT.."


def test_a_softirq_that_sleeps_leaves_the_cpu_to_others() -> None:
    found = letters(
        [
            record(1000, "sched_switch", "task", 0, 7),
            record(2000, "softirq_entry", "softirq", 0),
            record(3000, "sched_switch", "softirq", 7, 120 << 32),
            record(6000, "sched_switch", "task", 120 << 32, 7),
            record(7000, "softirq_exit", "softirq", 0),
        ],
        9_000,
    )
    assert found == ".TS...TTT"


def test_an_interrupt_whose_end_is_not_recorded_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "_ENDED", frozenset())
    found = contexts.intervals([record(5000, "reschedule_entry", "hardirq")], 0, 9000)
    assert found == [
        Interval(0, 5000, "."),
        Interval(5000, 5000 + contexts.SHORT_NS, "H"),
        Interval(5000 + contexts.SHORT_NS, 9000, "."),
    ]


def test_a_cpu_that_ran_a_task_when_it_began_shows_it() -> None:
    assert letters([], 3000, in_task=True) == "TTT"


def test_intervals_have_no_gaps_and_no_overlaps() -> None:
    found = contexts.intervals(
        [
            record(1, "softirq_entry", "softirq"),
            record(1, "softirq_exit", "softirq"),
            record(2, "irq_handler_entry", "hardirq"),
        ],
        0,
        10,
    )
    assert found[0].begin_ns == 0
    assert found[-1].end_ns == 10
    assert all(a.end_ns == b.begin_ns for a, b in itertools.pairwise(found))


def test_a_killed_cpu_is_dead_from_then_on() -> None:
    found = contexts.with_death([Interval(0, 4000, "T"), Interval(4000, 8000, ".")], 5000)
    assert timeline.row(found, 0, 1000, 8) == "TTTT.XXX"


def test_a_column_shows_the_most_urgent_context_in_it() -> None:
    found = [Interval(0, 900, "T"), Interval(900, 950, "S"), Interval(950, 960, "H")]
    assert timeline.row(found, 0, 1000, 1) == "H"
    assert timeline.row([*found[:2], Interval(950, 2000, ".")], 0, 1000, 2) == "S."


def test_the_scale_is_the_finest_that_fits() -> None:
    assert timeline.scale(64_000) == 1000
    assert timeline.scale(64_001) == 2000
    rows = timeline.draw({"cpu0": [Interval(0, 3_000_000_000, ".")]}, 0, 3_000_000_000)
    assert all(len(row) <= 80 for row in rows)


def test_shares_add_up() -> None:
    found = contexts.shares([Interval(0, 25, "H"), Interval(25, 100, ".")])
    assert found == {"H": 25.0, ".": 75.0}


def test_busy_time_around_a_moment_ends_at_a_pause() -> None:
    cpus = {
        "cpu0": [Interval(0, 10, "."), Interval(10, 20, "H"), Interval(20, 500, ".")],
        "cpu1": [Interval(0, 25, "."), Interval(25, 40, "S"), Interval(40, 300, "."),
                 Interval(300, 310, "T")],
    }  # fmt: skip
    assert contexts.busy(cpus, 12, gap_ns=50) == (10, 40)
    assert contexts.busy(cpus, 12, gap_ns=300) == (10, 310)
