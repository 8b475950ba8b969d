"""The picture of gaps: a row for each step with a caption, on an axis of decades."""

from __future__ import annotations

from orchestrator.labs import compare, file, gaps
from orchestrator.labs.gaps import Gap
from orchestrator.labs.performance import as_json, perform
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.scenarios import scenario
from orchestrator.scenarios.phases import Phase


def test_a_decade_is_ten_columns_and_a_gap_that_is_there_has_one() -> None:
    rows = [Gap("a", 10, 1), Gap("b", 100, 1), Gap("c", 999.9, 9), Gap("d", 3, 1), Gap("e", 0, 0)]
    assert gaps.draw(rows) == [
        "no reply for                     |10 ms    |100 ms   |",
        "  a                              # 10 ms",
        "  b                              ########## 100 ms",
        "  c                              #################### 999.9 ms",
        "  d                              # 3 ms",
        "  e                              -",
    ]


def test_the_axis_ends_behind_the_longest_and_seconds_are_called_seconds() -> None:
    axis, only = gaps.draw([Gap("long", 25_600.1, 255)])
    assert axis.endswith("|1 s      |10 s     |")
    assert only.endswith("# 25.6 s")
    assert gaps.draw([Gap("short", 20, 1)])[0].endswith("|10 ms    |")
    assert gaps.draw([]) == ["no reply for                     |10 ms    |"]


def test_no_line_is_longer_than_a_terminal_whatever_it_holds() -> None:
    rows = [Gap("x" * 99, ms, 1) for ms in (None, 999_000, 99_999.9, 12_345.6, 999.9, 0.1)]
    lines = gaps.draw(rows)
    assert max(map(len, lines)) <= 79
    assert lines[1].endswith("# never")


def test_rows_are_the_steps_with_a_caption_that_were_played() -> None:
    def step(caption: str, quiet: bool = False) -> scenario.Step:
        return scenario.Step(0, ("ps",), "ps", caption, (), quiet=quiet)

    steps = [step("one"), step(""), step("hidden", quiet=True), step("two"), step("not played")]
    phases = [Phase(str(n), 0.0, lost=n, gap_ms=10.0 * n) for n in range(5)]
    phases[4].gap_ms = None
    assert gaps.of(steps, phases) == [Gap("one", 10.0, 1), Gap("two", None, 4)]
    assert gaps.figures(gaps.of(steps, phases)) == {"one": 10.0, "two": "never"}


def test_a_comparison_and_json_have_the_gaps_too() -> None:
    lab = file.load("updelay", era="2.6.18", seed=7)
    shown = perform(SimulatedMachine(lab.scenario.machine, seed=7), lab, 7)
    table = compare.table([compare.Column("2.6.18", shown)])
    assert any(line.startswith("gap.put back, updelay 3000") for line in table)
    phases = as_json(shown)["phases"]
    assert phases[8]["lost"] == 0
    assert phases[4]["gap_ms"] > 1000
    assert phases[10]["gap_ms"] > 3000
