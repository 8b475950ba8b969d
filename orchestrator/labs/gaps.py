"""How long the lab's ping had no answer after each step: a row a step, on a logarithmic axis.

A gap is ``phases``' own: from the last reply before the longest run of lost requests to the first
after it, known to the ping's interval. Rows are the steps that have a caption, quiet ones left out;
a lab names its settings there, so that the picture is a table of what each of them costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import NamedTuple

from orchestrator.scenarios.expect import number
from orchestrator.scenarios.phases import Phase
from orchestrator.scenarios.scenario import Step

LABEL, DECADE = 31, 10  # columns
#: The axis begins here, in ms, and has so many decades: up to a minute and a half.
FIRST_MS, DECADES_MAX = 10, 4


class Gap(NamedTuple):
    """A row; ``ms`` 0: nothing was lost, None: no reply came any more."""

    label: str
    ms: float | None
    lost: int


def of(steps: Sequence[Step], phases: Sequence[Phase]) -> list[Gap]:
    """A row for each step that was played and has a caption; phase 0 is the ping's start."""
    return [
        Gap(step.caption, phase.gap_ms, phase.lost)
        for step, phase in zip(steps, phases[1:], strict=False)
        if step.caption and not step.quiet
    ]


def draw(gaps: Sequence[Gap]) -> list[str]:
    """The picture: no line is longer than 79 columns."""
    longest = max((gap.ms or 0 for gap in gaps), default=0)
    width = DECADE * min(DECADES_MAX, max(1, ceil(log10(max(longest, FIRST_MS + 1) / FIRST_MS))))
    ticks = ("10 ms", "100 ms", "1 s", "10 s")[: width // DECADE]
    axis = "".join(f"|{tick:<{DECADE - 1}}" for tick in ticks)
    lines = [f"{'no reply for':<{LABEL + 2}}{axis}|".rstrip()]
    for gap in gaps:
        long = width if gap.ms is None else min(_column(gap.ms), width)
        bar = f"{'#' * long} {_length(gap.ms)}".strip()
        lines.append(f"  {gap.label[: LABEL - 1]:<{LABEL}}{bar}")
    return lines


def _length(ms: float | None) -> str:
    if ms is None:
        return "never"
    return f"{ms / 1000:.3g} s" if ms >= 1000 else f"{number(ms)} ms" if ms else "-"


def _column(ms: float) -> int:
    """Columns up to a time; a gap that is there at all has one."""
    return max(1, round(DECADE * log10(ms / FIRST_MS))) if ms > 0 else 0


def figures(gaps: Sequence[Gap]) -> dict[str, float | str]:
    """For ``--compare``: by caption, in ms."""
    return {gap.label: "never" if gap.ms is None else gap.ms for gap in gaps}
