"""What screens are made of: framed boxes of text, sparklines, bars, figures.

A screen is a header line, a sentence, shelves of boxes, and a footer. A *shelf* is one box or two
side by side; a *box* is a title and a function that draws so many lines of so many columns. The
composer gives each shelf the lines it wants, takes lines away from those that can do with fewer
when the terminal is small, and then drops shelves from the bottom up. Everything is ASCII; colour
only repeats what a letter says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text

from orchestrator.errors import plural as plural  # noqa: PLC0414  (a part of what screens are made of)

WIDTH, HEIGHT = 80, 24
HEAT = " .:-=+*#%@"
#: Letter of each context or state with its style; the letter alone says it all.
STYLES = {
    "H": "red",
    "S": "yellow",
    "T": "green",
    ".": "dim",
    "X": "bold red",
    "N": "bold red",  # nmi
    "W": "magenta",  # waits for a register read
    "-": "dim",  # offline
}
FRAME = "dim"
TITLE = "bold"

Line = str | Text
Draw = Callable[[int, int], Sequence[Line]]


class Box(NamedTuple):
    """A framed box: wants ``lines``, can do with ``at_least``; ``grows`` when there is room."""

    title: str
    draw: Draw  # (columns, lines) -> at most that many lines
    lines: int
    at_least: int = 0  # 0: as many as it wants
    grows: bool = False
    note: str = ""  # at the right of the title


class Shelf(NamedTuple):
    """Boxes side by side; ``split`` is the column of the border between two."""

    boxes: tuple[Box, ...]
    split: int = 41


class Frame:
    """A composed screen: lines of exactly ``width`` columns, a rich renderable."""

    def __init__(self, lines: list[Text], width: int) -> None:
        self.lines = lines
        self.width = width

    @property
    def plain(self) -> str:
        """The screen as text, without blanks at line ends."""
        return "\n".join(line.plain.rstrip() for line in self.lines) + "\n"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, line in enumerate(self.lines):
            if number:
                yield Segment.line()
            yield from line.render(console)


def static(lines: Sequence[Line]) -> Draw:
    """A box whose lines do not depend on its size."""
    return lambda columns, height: lines


def compose(
    header: Line,
    sentence: str,
    shelves: Sequence[Shelf],
    footer: Sequence[Line],
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Frame:
    """Put a screen together in exactly ``height`` lines of ``width`` columns."""
    if width < WIDTH:
        shelves = [Shelf((box,)) for shelf in shelves for box in shelf.boxes]
    footer = footer[: max(height - 4, 0)]
    shelves, heights = _fit(shelves, height - 2 - len(footer))
    lines = [fit(header, width), fit(Text(" " + sentence, style="bold"), width)]
    for shelf, inside in zip(shelves, heights, strict=True):
        lines.extend(_shelf(shelf, width, inside))
    if shelves:
        lines.append(fit(Text("+" + "-" * (width - 2) + "+", style=FRAME), width))
    lines.extend([fit("", width)] * (height - len(lines) - len(footer)))
    lines.extend(fit(line, width) for line in footer)
    return Frame(lines[:height], width)


def fit(line: Line, columns: int) -> Text:
    """A line of exactly so many columns: cut, or filled with blanks."""
    text = line.copy() if isinstance(line, Text) else Text(line)
    text.truncate(columns, overflow="crop", pad=True)
    return text


def _fit(shelves: Sequence[Shelf], height: int) -> tuple[list[Shelf], list[int]]:
    """Which shelves are shown, and how many lines are inside each."""
    kept = list(shelves)
    least = [max(box.at_least or box.lines for box in shelf.boxes) for shelf in kept]
    while kept and sum(least) + len(kept) + 1 > height:
        kept.pop()
        least.pop()
    spare = height - sum(least) - len(kept) - 1
    heights = least
    for number, shelf in enumerate(kept):
        more = min(max(box.lines for box in shelf.boxes) - heights[number], spare)
        heights[number] += more
        spare -= more
    growing = [n for n, shelf in enumerate(kept) if any(box.grows for box in shelf.boxes)]
    for turn, number in enumerate(growing):
        share = spare // (len(growing) - turn)
        heights[number] += share
        spare -= share
    return kept, heights


def _shelf(shelf: Shelf, width: int, height: int) -> Iterable[Text]:
    """Top border and the lines of one shelf."""
    split = shelf.split + (width - WIDTH) * shelf.split // WIDTH
    walls = [0, split, width - 1] if len(shelf.boxes) == 2 else [0, width - 1]
    inner = [right - left - 1 for left, right in pairwise(walls)]
    border = Text()
    for box, columns in zip(shelf.boxes, inner, strict=True):
        border.append("+", FRAME).append_text(_title(box, columns))
    yield border.append("+", FRAME)
    drawn = [list(box.draw(c, height)) for box, c in zip(shelf.boxes, inner, strict=True)]
    for row in range(height):
        line = Text()
        for rows, columns in zip(drawn, inner, strict=True):
            line.append("|", FRAME)
            line.append_text(fit(rows[row] if row < len(rows) else "", columns))
        yield line.append("|", FRAME)


def _title(box: Box, columns: int) -> Text:
    if not box.title:
        return Text("-" * columns, style=FRAME)
    note = f" {box.note} ---" if box.note else ""
    title = Text().append("- ", FRAME).append(box.title, TITLE).append(" ", FRAME)
    title.append("-" * max(columns - len(title) - len(note), 0), FRAME)
    return fit(title.append(note, FRAME), columns)


# ---------------------------------------------------------------- pieces


def styled(letters: str) -> Text:
    """Context letters in their colours."""
    text = Text()
    for letter in letters:
        text.append(letter, STYLES.get(letter, ""))
    return text


def two(left: Line, right: Line, columns: int) -> Text:
    """A line with one part at the left and one at the right, which goes first if room is short."""
    right = fit(right, len(right))
    return fit(left, max(columns - len(right), 0)).append_text(right)


def spark(values: Iterable[float], top: float = 0.0) -> str:
    """One character a value, ``top`` (or the largest) as the full one; not 0 is never blank."""
    values = list(values)
    top = top or max(values, default=0.0)
    if top <= 0:
        return " " * len(values)
    last = len(HEAT) - 1
    return "".join(
        HEAT[min(max(round(v / top * last), 1), last)] if v > 0 else HEAT[0] for v in values
    )


def count(value: float) -> str:
    """A count in at most 6 columns."""
    whole = round(value)
    for unit, size in (("", 1), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)):
        if whole < 100_000 * size:
            return f"{whole // size}{unit}"
    return f"{whole // 1_000_000_000_000}T"


def rate(value: float) -> str:
    """A rate: one digit after the point below 10, where it is not whole."""
    if 0 < value < 9.95 and abs(value - round(value)) > 0.05:
        return f"{value:.1f}"
    return count(value)


def duration(ns: float) -> str:
    """A time span as people say it: 64 ms, 2.1 s, 3 min 20 s."""
    ms = ns / 1e6
    if ms < 1:
        return f"{ns / 1e3:.0f} us"
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ns / 1e9
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600} h {int(seconds) // 60 % 60} min"


def uptime(ns: int) -> str:
    """0:12, 2:41:07."""
    seconds = ns // 1_000_000_000
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours}:{minutes:02d}:{seconds % 60:02d}"
    return f"{minutes}:{seconds % 60:02d}"
