"""The distribution of failover gaps: its bound by era, its arithmetic, its chart."""

from __future__ import annotations

import json

import pytest

from benchmarks import failover
from benchmarks.failover import Case, bound_of, density, draw, figures, gap_ms, percentile

ERAS = ("2.6.18", "3.10", "6.1")


@pytest.mark.parametrize(
    ("era", "miimon_ms", "period_ms"),
    [
        ("2.6.18", 10, 10),
        ("3.10", 10, 10),
        ("6.1", 10, 16),  # 3 jiffies of 4 ms, and one because the wheel never fires early
        ("6.1", 100, 104),
        ("6.1", 252, 284),  # 63 jiffies: the second level, whose steps are 8
        ("3.10", 252, 252),
    ],
)
def test_the_monitors_period_is_made_of_jiffies(era: str, miimon_ms: int, period_ms: int) -> None:
    assert bound_of(Case(era, miimon_ms)).period_ms == period_ms


def test_downdelay_adds_whole_looks() -> None:
    at_once, later = bound_of(Case("3.10", 50)), bound_of(Case("3.10", 50, 170))
    assert (at_once.looks, later.looks) == (1, 4)
    assert later.ms - at_once.ms == 150


def test_a_gap_is_between_replies_and_needs_a_lost_request() -> None:
    ms = failover.MS
    assert gap_ms([0, 1, 2], [1 * ms, 9 * ms, 10 * ms]) == 0
    assert gap_ms([0] * 5, [1 * ms, 2 * ms, 0, 0, 7 * ms]) == 5
    assert gap_ms([], []) == 0


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile(range(1, 201), 99) == 198
    assert percentile([7.0], 99) == 7.0


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("miimon_ms", [10, 50])
def test_a_pulled_cable_costs_no_more_than_the_bound(era: str, miimon_ms: int) -> None:
    case = Case(era, miimon_ms)
    gaps = [failover.fail_over(case, seed) for seed in range(2)]
    assert gaps[0] != gaps[1]
    assert all(0 <= gap <= bound_of(case).ms for gap in gaps)


def test_downdelay_is_waited_for() -> None:
    case = Case("6.1", 50, 100)
    assert 112 <= failover.fail_over(case, 1) <= bound_of(case).ms


def test_the_chart_fits_a_terminal_and_says_who_passed_the_bound() -> None:
    rows = [figures(Case("6.1", 100), [1.0, 50.0, 104.0]), figures(Case("3.10", 100), [500.0])]
    lines = draw(rows).splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 79 for line in lines)
    assert lines[1].endswith(" met")
    assert lines[2].endswith(" PASSED")


def test_the_densest_column_is_the_darkest() -> None:
    assert density([0.5, 1.5, 1.5], 4.0, 4) == "=@  "
    assert density([9.0], 4.0, 4) == "   @"


def test_it_runs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert failover.main(["--seeds=3", "--miimon=10", "--era=3.10", "--jobs=1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["seeds"] == len(row["gaps_ms"]) == 3
    assert row["met"] is True
    assert row["gaps_ms"] == sorted(failover.fail_over(Case("3.10", 10), n) for n in range(3))


@pytest.mark.parametrize("word", ["--era=5.4", "--seeds=0", "--miimon=x", "--downdelay=-1"])
def test_wrong_usage_is_one_clear_line(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        failover.main([word])
    assert ended.value.code == 2
    assert word.partition("=")[0] in capsys.readouterr().err
