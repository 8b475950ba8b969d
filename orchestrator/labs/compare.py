"""``lab run NAME --compare ERA,ERA,...``: the same lab in several eras, its figures in one table.

An era is a preset, or one of the ``STAND_INS``: kernels without a preset of their own that differ
from one in a behaviour that a lab is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator.configuration.eras import STAND_INS
from orchestrator.labs import gaps
from orchestrator.labs.performance import Performance
from orchestrator.scenarios.expect import Value, number


class Column(NamedTuple):
    """One era's run."""

    era: str
    performance: Performance

    @property
    def figures(self) -> Mapping[str, Mapping[str, Value]]:
        lab, played = self.performance.lab, self.performance.played
        found = dict(played.facts.figures()) if played.facts is not None else {}
        if "gaps" in lab.pictures:
            found["gap"] = gaps.figures(gaps.of(lab.scenario.steps, played.phases))
        return found


def table(columns: Sequence[Column]) -> list[str]:
    """A row for each figure that any of the runs has."""
    names = list(
        dict.fromkeys(
            (group, key)
            for column in columns
            for group, values in column.figures.items()
            for key in values
        )
    )
    labels = [f"{group}.{key}" for group, key in names]
    left = max([len("figure"), *(len(label) for label in labels)])
    widths = [max(7, len(column.era) + 1) for column in columns]
    lines = [_line("figure", [_marked(column.era) for column in columns], left, widths)]
    for label, (group, key) in zip(labels, names, strict=True):
        cells = []
        for column in columns:
            value = column.figures.get(group, {}).get(key)
            cells.append("-" if value is None else number(value))
        lines.append(_line(label, cells, left, widths))
    passed = ["ok" if column.performance.passed else "FAILED" for column in columns]
    lines.append(_line("checks", passed, left, widths))
    return lines + [note for column in columns for note in _note(column.era)]


def _line(label: str, cells: Sequence[str], left: int, widths: Sequence[int]) -> str:
    shown = "".join(f"  {cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{label:<{left}}{shown}".rstrip()


def _marked(era: str) -> str:
    return f"{era}*" if era in STAND_INS else era


def _note(era: str) -> list[str]:
    stand_in = STAND_INS.get(era)
    return [] if stand_in is None else [f"* {era}: {stand_in.note}"]


def as_json(columns: Sequence[Column]) -> dict[str, object]:
    """For programs."""
    return {
        column.era: {"passed": column.performance.passed, "figures": column.figures}
        for column in columns
    }
