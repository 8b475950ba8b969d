"""A lab's page: Markdown with six parts, some of it written by the program.

Blocks between marks are generated (``python -m tools.labs`` rewrites them, a test compares)::

    <!-- box -->                         level, minutes, eras, runtime, seed
    <!-- questions -->                   of the lab's file
    <!-- run: bottomhalf lab run one-ping --seed 7 | contexts, checks -->

each up to ``<!-- end -->``. Behind the ``|`` of a run stand the sections of its output that are
shown (their first words); without it all is shown. Lines of a block marked ``console`` are commands
that are run too; one that says FAILED in its comment is one that must fail. A block marked
``sh real`` belongs to a real box and is not run.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import BottomhalfError
from orchestrator.labs.file import Lab
from orchestrator.labs.questions import wrapped

if TYPE_CHECKING:
    from orchestrator.labs.guestlab import GuestLab

#: Headings behind the title; the title and the box are part one.
PARTS = ("Predict first", "Run it", "Why", "Change one thing", "On a real box")
#: Of a page's prose.
PROSE_COLUMNS = 140
_BLOCK = re.compile(r"(<!-- (box|questions|run:[^>]*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"\n\n+")


class Command(NamedTuple):
    """A command line of a page."""

    argv: tuple[str, ...]
    text: str
    fails: bool


def read(lab: Lab | GuestLab) -> str:
    """The page's text."""
    try:
        return lab.page.read_text(encoding="utf-8")
    except OSError:
        raise BottomhalfError(
            f"lab {lab.name} has no page {lab.page}", f"bottomhalf lab sheet {lab.name}"
        ) from None


def faults(text: str, lab: Lab) -> list[str]:
    """What is missing of the six parts."""
    found = []
    if not text.startswith(f"# {lab.title}\n"):
        found.append(f"its first line is not `# {lab.title}`")
    if "<!-- box -->" not in text.split("\n## ", maxsplit=1)[0]:
        found.append("no box before the first part")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    if tuple(headings) != PARTS:
        found.append(f"parts are {', '.join(headings)}; they should be {', '.join(PARTS)}")
    for part, mark in (("Predict first", "<!-- questions -->"), ("Run it", "<!-- run:")):
        if mark not in _part(text, part):
            found.append(f"{part} has no block `{mark}`")
    if len(commands_in(_part(text, "Change one thing"))) < 4:
        found.append("Change one thing needs three commands and a fault")
    return found


def _part(text: str, heading: str) -> str:
    _, _, rest = text.partition(f"\n## {heading}\n")
    return rest.partition("\n## ")[0]


def generated(text: str, lab: Lab, run: Callable[[tuple[str, ...]], str]) -> str:
    """The page with all its blocks written anew; ``run`` gives the output of a command line."""

    def block(match: re.Match[str]) -> str:
        head, kind, _, end = match.groups()
        if kind == "box":
            return f"{head}{box(lab)}{end}"
        if kind == "questions":
            return f"{head}{question_list(lab)}{end}"
        command, _, chosen = kind.removeprefix("run:").partition("|")
        output = run(tuple(shlex.split(command)[1:]))
        sections = [word.strip() for word in chosen.split(",") if word.strip()]
        shown = _sections(output, sections)
        return f"{head}```\n$ {command.strip()}\n{shown}```\n{end}"

    return _BLOCK.sub(block, text)


def _sections(output: str, wanted: list[str]) -> str:
    if not wanted:
        return output.rstrip("\n") + "\n"
    parts = _SECTION.split(output.strip("\n"))
    kept = [p for p in parts if any(p.lstrip().startswith(word) for word in wanted)]
    return "...\n\n" + "\n\n".join(kept) + "\n"


def box(lab: Lab) -> str:
    """The facts in a table."""
    runtime = lab.scenario.runtime
    other = "`--processes`" if runtime == "simulation" else "`--simulate`"
    return (
        "| level | minutes | eras | root | runtime | seed of this page |\n"
        "|---|---|---|---|---|---|\n"
        f"| {lab.level} | {lab.minutes} | {', '.join(lab.eras)} | no | {runtime} "
        f"(the other: {other}) | {lab.seed} |\n"
    )


def question_list(lab: Lab) -> str:
    """The questions as a list."""
    return "".join(
        f"{textwrap.fill(f'{n}. {question.ask}', PROSE_COLUMNS, subsequent_indent='   ')}\n"
        for n, question in enumerate(lab.questions, 1)
    )


def commands(text: str) -> list[Command]:
    """Every command line that must run: those of console blocks and of generated ones."""
    found = commands_in(text)
    for match in _BLOCK.finditer(text):
        if match[2].startswith("run:"):
            line = match[2].removeprefix("run:").partition("|")[0].strip()
            found.append(Command(tuple(shlex.split(line)), line, False))
    return found


def commands_in(text: str) -> list[Command]:
    """Command lines of the console blocks."""
    found = []
    for block in _CONSOLE.findall(text):
        for line in block.splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            words = shlex.split(line, comments=True)
            comment = line.partition(" # ")[2]
            found.append(Command(tuple(words), line, "FAILED" in comment))
    return found


def for_terminal(text: str) -> str:
    """Without the marks."""
    return re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)


__all__ = ["Command", "commands", "faults", "for_terminal", "generated", "read", "wrapped"]
