"""Whether a figure keeps what the project promises is said plainly."""

from __future__ import annotations

from benchmarks.targets import TARGETS, table, verdicts

GOOD = {
    "rtt_ratio_pinned": 2.5,
    "rtt_ratio_free": 1.2,
    "flood_ratio": 0.12,
    "cpu_us_per_ping": 54.9,
    "two_cpus_ratio": 1.7,
}
BAD = {
    "rtt_ratio_pinned": 2.51,
    "rtt_ratio_free": 29.045,
    "flood_ratio": 0.119,
    "cpu_us_per_ping": 138.0,
    "two_cpus_ratio": 1.59,
}


def test_each_side_of_each_limit() -> None:
    assert all(row["met"] for row in verdicts(GOOD).values())
    assert not any(row["met"] for row in verdicts(BAD).values())


def test_a_line_for_each_target_within_a_terminal() -> None:
    for figures, word in ((GOOD, "met"), (BAD, "MISSED")):
        lines = table(figures).splitlines()[1:]
        assert len(lines) == len(TARGETS)
        assert all(word in line and len(line) <= 79 for line in lines)
