"""The picture of a run: a row of letters for each CPU, a column a slice of time.

A column shows the most urgent context that occurred in it, however short, because on any scale that
fits a terminal an interrupt is shorter than a column. ``share_lines`` say how much it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from orchestrator.dashboards.draw import STYLES
from orchestrator.labs.contexts import URGENCY, Interval, shares

#: Columns of letters: the rest of 80 is for names.
COLUMNS = 64
#: Length of a column, in ns.
SCALES: tuple[int, ...] = tuple(n * 10**e for e in range(2, 10) for n in (1, 2, 5))
LEGEND = (
    ("H", "hardirq"), ("S", "softirq"), ("T", "task"), (".", "idle"), ("N", "NMI"), ("X", "dead"),
)  # fmt: skip


def scale(span_ns: int, columns: int = COLUMNS) -> int:
    """The finest length of a column with which the span fits."""
    return next((s for s in SCALES if s * columns >= span_ns), SCALES[-1])


def row(
    found: Sequence[Interval],
    begin_ns: int,
    column_ns: int,
    columns: int,
    urgency: str = URGENCY,
) -> str:
    """Letters of one CPU, or of one task; the first of ``urgency`` wins a column."""
    letters = [""] * columns
    for interval in found:
        first = max(0, (interval.begin_ns - begin_ns) // column_ns)
        last = min(columns - 1, (interval.end_ns - 1 - begin_ns) // column_ns)
        for column in range(first, last + 1):
            before = letters[column]
            if not before or urgency.index(interval.letter) < urgency.index(before):
                letters[column] = interval.letter
    return "".join(letter or " " for letter in letters)


def length(ns: int) -> str:
    """A time in its handiest unit."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns >= size:
            return f"{ns / size:g} {unit}"
    return f"{ns} ns"


def draw(cpus: Mapping[str, Sequence[Interval]], begin_ns: int, end_ns: int) -> list[str]:
    """A ruler and a row for each CPU."""
    column_ns = scale(max(1, end_ns - begin_ns))
    columns = max(1, min(COLUMNS, -(-(end_ns - begin_ns) // column_ns)))
    lines = [ruler(column_ns, columns)]
    lines += [
        f"  {name:<6} {row(found, begin_ns, column_ns, columns)}".rstrip()
        for name, found in cpus.items()
    ]
    return lines


def ruler(column_ns: int, columns: int, margin: int = 9) -> str:
    """Marks each sixteen columns, with the time since the picture's beginning."""
    marks = [" "] * (columns + 12)
    for column in range(0, columns, 16):
        text = "|" + length(column * column_ns)
        marks[column : column + len(text)] = text
    return f"{'':{margin}}{''.join(marks)}".rstrip()


def share_lines(cpus: Mapping[str, Sequence[Interval]]) -> list[str]:
    """How much of the time each context had."""
    lines = []
    for name, found in cpus.items():
        parts = "  ".join(f"{letter} {share:.2f} %" for letter, share in shares(found).items())
        lines.append(f"  {name:<6} {parts}")
    return lines


def legend(cpus: Mapping[str, Sequence[Interval]]) -> str:
    """What the letters that occur mean."""
    used = {interval.letter for found in cpus.values() for interval in found}
    return "  " + "  ".join(f"{letter} {name}" for letter, name in LEGEND if letter in used)


def coloured(line: str) -> Text:
    """A row as a terminal shows it: colour repeats what the letter says."""
    text = Text(line)
    for at in range(9, len(line)):
        style = STYLES.get(line[at])
        if style is not None:
            text.stylize(style, at, at + 1)
    return text
