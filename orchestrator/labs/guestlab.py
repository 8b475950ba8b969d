"""A lab that is played twice: by the emulated machine and by a real kernel (``configs/guestlabs``).

Its file names a scenario instead of having steps. The emulated machine plays it in virtual time, a
guest (``orchestrator.guest``) plays the same file in real time; what they showed stands side by
side: each step's cost, the kernels' lines, what differs in the bond's file.

Quantities of its answers are ``{real.gap@1}`` and ``{emulated.gap@1}``: what a phase measures, of
step 1; and ``{real.after(TEXT)@3}``: ms from the beginning of step 3 to the first kernel line with
TEXT.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher, ndiff
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from orchestrator.configuration import tomlfile
from orchestrator.configuration.tables import Table
from orchestrator.errors import BottomhalfError
from orchestrator.labs.file import ASKED, PAGES, LabTable, Question
from orchestrator.scenarios import scenario
from orchestrator.scenarios.expect import OF_PING, number
from orchestrator.scenarios.phases import Phase
from orchestrator.scenarios.played import Verdict
from orchestrator.scenarios.scenario import Scenario

if TYPE_CHECKING:
    from orchestrator.guest.play import GuestPlayed

KIND = "guestlabs"
EMULATED, REAL = "emulated", "real"
#: Of the kernel log, what a story about bonds is told by.
OF_INTEREST = ("bond", "ixgbe", "eth")
_ASKED = re.compile(r"^(real|emulated)\.(?:(\w+)|after\(([^()]+)\))@(\d+)$")


class QuestionTable(Table):
    """[[question]]"""

    ask: str = Field(description="what the reader is asked")
    answer: str = Field(description="text; {real.gap@1} in it is what the run measured")


class GuestLabFile(LabTable):
    """The whole file."""

    scenario: str = Field(description="what both play: a bundled name")
    seed: int = Field(7, ge=0, le=2**31, description="of the emulated run")
    next: str = Field("", description="the lab that comes after it")
    question: list[QuestionTable] = Field([], max_length=9, description="predict first")


class GuestLab(NamedTuple):
    """A validated lab."""

    name: str
    title: str
    sentence: str
    level: str
    minutes: int
    path: str
    place: int
    scenario: Scenario
    seed: int
    next: str
    questions: tuple[Question, ...]

    @property
    def eras(self) -> tuple[str, ...]:
        return (self.scenario.machine.era,)

    @property
    def page(self) -> Path:
        return PAGES / f"{self.name}.md"


def bundled() -> list[str]:
    """Names of the bundled ones."""
    return tomlfile.bundled(KIND)


def load(name: str) -> GuestLab:
    """A bundled lab."""
    file = tomlfile.read(KIND, name)
    parsed = tomlfile.validate(GuestLabFile, file)
    played = scenario.load(parsed.scenario)
    for row, question in enumerate(parsed.question):
        for match in ASKED.finditer(question.answer):
            if not _known(match[1], len(played.steps)):
                raise file.error(
                    ("question", row, "answer"), f"answer: `{match[1]}` names nothing",
                    "{real.gap@1} {emulated.lost@3} {real.after(TEXT)@3}",
                )  # fmt: skip
    return GuestLab(
        name, parsed.title, parsed.sentence, parsed.level, parsed.minutes, parsed.path,
        parsed.place, played, parsed.seed, parsed.next,
        tuple(Question(one.ask, one.answer) for one in parsed.question),
    )  # fmt: skip


def _known(text: str, steps: int) -> bool:
    found = _ASKED.match(text)
    return (
        found is not None
        and int(found[4]) <= steps
        and (found[2] is None or found[2] in (*OF_PING, "active"))
    )


# ---------------------------------------------------------------- what the two have shown


@dataclass
class Side:
    """One kernel's run."""

    phases: Sequence[Phase]
    log: Sequence[tuple[int, str]]  # ns since the start, the line
    bond: str
    verdicts: Sequence[Verdict]
    cut_short: str = ""

    @property
    def passed(self) -> bool:
        return not self.cut_short and all(verdict.passed for verdict in self.verdicts)

    def after(self, text: str, step: int) -> float | None:
        """ms from the beginning of a step to the first line with ``text``."""
        begin = self.phases[step].start_ms
        for at_ns, line in self.log:
            if text in line and at_ns / 1e6 >= begin:
                return round(at_ns / 1e6 - begin, 1)
        return None


class Sides(NamedTuple):
    """Both."""

    emulated: Side
    real: Side

    @property
    def passed(self) -> bool:
        return self.emulated.passed and self.real.passed


def of_guest(played: GuestPlayed) -> Side:
    """What a guest has shown."""
    log = [(at, line.text) for at, line in played.log]
    return Side(played.phases, log, played.bond, played.verdicts, played.cut_short)


def emulate(loaded: Scenario, seed: int) -> Side:
    """Play it on the emulated machine, in virtual time."""
    from orchestrator import verbs  # noqa: PLC0415
    from orchestrator.machines.ready import wait_until_ready  # noqa: PLC0415
    from orchestrator.machines.simulated import SimulatedMachine  # noqa: PLC0415
    from orchestrator.scenarios.play import Player  # noqa: PLC0415
    from orchestrator.session import Session, drive  # noqa: PLC0415

    machine = SimulatedMachine(loaded.machine._replace(name="m1"), seed=seed)
    try:
        if not wait_until_ready(machine):
            raise BottomhalfError(
                "the machine's network did not come up", "a fault of ours: bottomhalf doctor", 3
            )
        player = Player(machine, loaded, None, seed)
        played = player.play()
        bond: list[str] = []
        if loaded.machine.bond is not None:
            session = Session(machine, out=bond.append, err=bond.append, cpu=loaded.cpu)
            path = f"/proc/net/bonding/{loaded.machine.bond.name}"
            drive(session, verbs.start(session, ["cat", path]))
        origin = played.origin_ns - machine.ram.boot_ns
        log = [(line.time_ns - origin, line.text) for line in player.lines]
    finally:
        machine.close()
    since = [(at, text) for at, text in log if at >= 0]
    return Side(played.phases, since, "".join(bond), played.verdicts, played.cut_short)


# ---------------------------------------------------------------- what is printed


def answers(lab: GuestLab, sides: Sides | None) -> list[tuple[str, str]]:
    """Each question with its answer, the run's figures filled in."""

    def figure(match: re.Match[str]) -> str:
        found = _ASKED.match(match[1])
        assert found is not None
        if sides is None:
            return "..."
        side = sides.real if found[1] == REAL else sides.emulated
        step = int(found[4])
        if step >= len(side.phases):
            return "(not measured)"
        value = side.phases[step].measure(found[2]) if found[2] else side.after(found[3], step)
        return "(not measured)" if value is None else number(value)

    return [(one.ask, ASKED.sub(figure, one.answer)) for one in lab.questions]


def text(lab: GuestLab, sides: Sides) -> list[str]:
    """The comparison."""
    lines = [
        f"{'step':<26}{'emulated: lost, gap ms':>24}  {'real: lost, gap ms':>24}",
        *(_step_line(lab, sides, n) for n in range(1, len(lab.scenario.steps) + 1)),
        "",
        "emulated      real  the kernel's line (seconds of the scenario)",
    ]
    for emulated, real, line in log_rows(sides):
        head = f"{_at(emulated):>8}  {_at(real):>8}  "
        parts = wrap(line, 79 - len(head)) or [""]
        lines += [f"{head if not n else ' ' * len(head)}{part}" for n, part in enumerate(parts)]
    lines += ["", "the bond's file at the end"]
    lines += [f"  {line}" for line in bond_differences(sides)] or ["  is the same in both"]
    lines += ["", "checks"]
    for name, side in zip((EMULATED, REAL), sides, strict=True):
        for verdict in side.verdicts:
            said = verdict.expectation.text if verdict.passed else verdict.text
            mark = "ok" if verdict.passed else "FAILED"
            lines.append(f"  {mark:<7} {name}, step {verdict.step}: {said}")
        if side.cut_short:
            lines.append(f"  FAILED  {name} was cut short: {side.cut_short}")
    for count, step in enumerate(lab.scenario.steps, 1):
        if step.why:
            lines += wrap(f"step {count}, real: {step.why}", 75, initial_indent="  ",
                          subsequent_indent="    ")  # fmt: skip
    return lines


def _step_line(lab: GuestLab, sides: Sides, step: int) -> str:
    cells = []
    for side in sides:
        if step < len(side.phases):
            phase = side.phases[step]
            gap = "no end" if phase.gap_ms is None else f"{phase.gap_ms:.1f}"
            cells.append(f"{phase.lost}, {gap}")
        else:
            cells.append("not played")
    return f"{lab.scenario.steps[step - 1].text:<26}{cells[0]:>24}  {cells[1]:>24}"


def _at(at_ns: int | None) -> str:
    return "" if at_ns is None else f"{at_ns / 1e9:.3f}"


def log_rows(sides: Sides) -> list[tuple[int | None, int | None, str]]:
    """Both logs as one: when each kernel said the line, or None."""
    ours, theirs = ([row for row in side.log if interesting(row[1])] for side in sides)
    matcher = SequenceMatcher(None, [t for _, t in ours], [t for _, t in theirs], autojunk=False)
    rows: list[tuple[int | None, int | None, str]] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            rows += [(ours[a + n][0], theirs[c + n][0], ours[a + n][1]) for n in range(b - a)]
            continue
        rows += [(at, None, line) for at, line in ours[a:b]]
        rows += [(None, at, line) for at, line in theirs[c:d]]
    return rows


def interesting(line: str) -> bool:
    return any(word in line for word in OF_INTEREST)


def bond_differences(sides: Sides) -> list[str]:
    """Lines of the bond's file that only one of them has."""
    names = {"- ": f"{EMULATED}: ", "+ ": f"{REAL}: "}
    ours, theirs = (side.bond.strip().splitlines() for side in sides)
    return [names[line[:2]] + line[2:] for line in ndiff(ours, theirs) if line[:2] in names]


def as_json(lab: GuestLab, sides: Sides) -> dict[str, Any]:
    """For programs; fields are only ever added."""
    return {
        "lab": lab.name, "title": lab.title, "scenario": lab.scenario.name, "seed": lab.seed,
        "passed": sides.passed,
        **{name: _side_json(side) for name, side in zip((EMULATED, REAL), sides, strict=True)},
        "bond_differences": bond_differences(sides),
    }  # fmt: skip


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "passed": side.passed,
        "cut_short": side.cut_short or None,
        "phases": [phase.as_json() for phase in side.phases],
        "checks": [verdict.as_json() for verdict in side.verdicts],
        "log": [{"at_ms": round(at / 1e6, 1), "line": line} for at, line in side.log],
        "bond": side.bond,
    }
