"""The figures that the project promises, and whether this run kept them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Target(NamedTuple):
    """A figure by its key, and what it must not pass or must reach."""

    key: str
    limit: float
    at_most: bool
    what: str

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


TARGETS = (
    Target("rtt_ratio_pinned", 2.5, True, "round trip / bare lap, on one core"),
    Target("rtt_ratio_free", 1.7, True, "round trip / bare lap, on all cores"),
    Target("flood_ratio", 0.12, False, "pings / bare laps a second, flooding"),
    Target("cpu_us_per_ping", 55, True, "us of CPU processes for a ping of it"),
    Target("two_cpus_ratio", 1.6, False, "pings a second, two CPUs / one"),
)


def verdicts(figures: Mapping[str, float]) -> dict[str, dict[str, float | bool]]:
    """By key: the figure, its limit, whether it is met."""
    return {
        t.key: {"value": figures[t.key], "limit": t.limit, "met": t.met(figures[t.key])}
        for t in TARGETS
    }


def table(figures: Mapping[str, float], targets: Sequence[Target] = TARGETS) -> str:
    """A line for each target, at most 79 columns."""
    lines = [f"{'figure':<17} {'measured':>8} {'target':<8} {'':<7}what it is"]
    for target in targets:
        value = figures[target.key]
        sign = "<=" if target.at_most else ">="
        said = "met" if target.met(value) else "MISSED"
        lines.append(
            f"{target.key:<17} {value:8.3g} {sign} {target.limit:<5g} {said:<7}{target.what}"
        )
    return "\n".join(lines)
