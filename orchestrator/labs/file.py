"""A lab's TOML file: a scenario with a question, draws, and answers.

::

    title    = "who of the ten runs first?"
    sentence = "A module raises all softirqs at once; watch the order in which they run."
    level    = "beginner"
    minutes  = 10
    path     = "learner"
    place    = 5
    show     = ["softirq"]
    next     = "softirq-storm"

    [set]
    spurious_window = 1000          # behaviours that differ from the era's; --set comes after them

    [draw]
    budget = [32, 64, 128]          # {budget} in steps, expectations and questions

    [[step]]
    do     = "insmod softirq_order n={budget}"
    expect = ['softirq_order.first == "HI"']
    by_era."2.6.18".expect = "softirq_order.n == 6"

    [[question]]
    ask    = "Which one ran first?"
    answer = "{softirq_order.first}: bit 0 of the mask is looked at first."

Everything else (machine, ping, cpu, runtime, until, steps) is a scenario's. Draws depend on the
lab's name and the seed alone.
"""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from nodes.cpu.kernel.params import PRESETS, Params, with_overrides
from orchestrator.configuration import tomlfile
from orchestrator.configuration.eras import STAND_INS
from orchestrator.configuration.tables import Table
from orchestrator.configuration.tomlfile import TomlFile
from orchestrator.errors import BottomhalfError, did_you_mean, words
from orchestrator.labs.eventtable import check_show
from orchestrator.scenarios import expect, scenario
from orchestrator.scenarios.scenario import Scenario, ScenarioFile

PATHS = ("learner", "operator", "driver author")
DEFAULT_ERA = "6.1"
#: Pages lie beside the packages, and so they do when installed.
PAGES = Path(__file__).parent.parent.parent / "docs" / "labs"

_STEP = re.compile(r"(?<=[\w)])@(\d+)")
_DRAWN = re.compile(r"{([a-z]\w*)}")
#: ``{softirq_order.first}``, ``{event(irq_handler_entry,b):#x}``
ASKED = re.compile(r"{([^{}:]+)(?::([^{}]*))?}")


class QuestionTable(Table):
    """[[question]]"""

    ask: str = Field(description="what the reader is asked")
    answer: str = Field(description="text; {quantity} in it is what the run measured")
    by_era: dict[str, str] = Field(
        {},
        description="other answers, by era",
        json_schema_extra={"allowed": 'by_era."2.6.18" = "..."'},
    )


class LabTable(Table):
    """What the file of every lab says of it."""

    title: str = Field(description="the question, ending in ?")
    sentence: str = Field(description="what is going to happen, in one sentence")
    level: Literal["beginner", "intermediate", "advanced"] = Field(description="for whom")
    minutes: int = Field(ge=1, le=120, description="to read, run and change it")
    path: Literal["learner", "operator", "driver author"] = Field(description="whose path")
    place: int = Field(ge=1, le=99, description="its place on the path")


class LabFile(LabTable, ScenarioFile):
    """The top of a lab's file, beside a scenario's keys."""

    eras: list[str] = Field(list(PRESETS), description="in which it can be run")
    ping: str = Field("", description="what runs all the time; empty: nothing")
    set: dict[str, str | int] = Field({}, description="behaviours of the kernel that the lab needs")
    seed: int = Field(7, ge=0, le=2**31, description="of the run that the page shows")
    show: list[str] = Field(
        ["irq", "softirq", "sched"], description="events that are printed: groups or names"
    )
    nodes: list[str] = Field([], description="whose events are printed; empty: everybody's")
    pictures: list[Literal["contexts", "workers", "registers", "gaps"]] = Field(
        ["contexts"],
        min_length=1,
        description="what is drawn: who has each CPU; workers; registers that were touched; how "
        "long the ping had no answer",
    )
    zoom: str = Field(
        "irq_handler_entry",
        description="event (EVENT,cpu1: on that CPU) where the picture is finer",
    )
    zoom_gap_us: int = Field(
        100, ge=1, le=100_000, description="longer pauses end the finer picture"
    )
    look: int = Field(1, ge=1, description="step from which one looks: zoom and --step")
    next: str = Field("", description="the lab that comes after it")
    draw: dict[str, list[int | str]] = Field(
        {},
        description="values of which the seed draws one: {NAME} in steps and questions",
        json_schema_extra={"allowed": "lists: budget = [32, 64, 128]"},
    )
    question: list[QuestionTable] = Field([], max_length=9, description="predict first")


class Question(NamedTuple):
    """One question; the answer's quantities are not filled in."""

    ask: str
    answer: str


class Lab(NamedTuple):
    """A validated lab in one era, with its draws made."""

    name: str
    given: str  # as it was asked for
    scenario: Scenario
    params: Params
    sentence: str
    level: str
    minutes: int
    path: str
    place: int
    eras: tuple[str, ...]
    seed: int
    draws: Mapping[str, int | str]
    show: tuple[str, ...]
    nodes: tuple[str, ...]
    pictures: tuple[str, ...]
    zoom: str
    zoom_gap_us: int
    look: int
    next: str
    questions: tuple[Question, ...]
    page: Path
    #: what names it on a command line, with the options it was loaded with
    again: str

    @property
    def title(self) -> str:
        return self.scenario.title


def bundled() -> list[str]:
    """Names of the bundled labs."""
    return tomlfile.bundled("labs")


def load(
    given: str,
    *,
    era: str | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    before: Sequence[str] = (),
) -> Lab:
    """A bundled lab or a file. ``settings`` are KEY=VALUE: a draw, or a behaviour of the kernel;
    ``before`` are command lines that run ahead of its first step that is not quiet."""
    asked = era
    if era in STAND_INS:
        stand_in = STAND_INS[era]
        era, settings = stand_in.era, [*stand_in.settings, *settings]
    file = tomlfile.read("labs", given)
    name = re.sub(r"\.toml$", "", given.rsplit("/", 1)[-1])
    draws, overrides = _draw(file, name, seed, settings)
    tomlfile.validate(LabFile, file)  # slips in the file as it stands
    at = _insert(file.data, before)
    drawn = TomlFile(file.shown, file.text)
    drawn.options = {("step", at + n, "do"): f"--before '{line}'" for n, line in enumerate(before)}
    drawn.data = _fill(file.data, draws)
    parsed = tomlfile.validate(LabFile, drawn)
    era = _era(file, parsed, name, era)
    overrides = [*(f"{key}={value}" for key, value in parsed.set.items()), *overrides]
    machine = scenario.machine_of(drawn, parsed.machine, given, era, overrides)
    played = scenario.build(drawn, parsed, given, machine, "")
    params = with_overrides(PRESETS[machine.era], machine.overrides)
    _check(file, parsed, bool(before))
    for node in parsed.nodes:
        if node not in machine.node_names:
            raise file.error(("nodes",), f"no node {node}", words(machine.node_names))
    lab = Lab(
        name=name,
        given=given,
        scenario=played,
        params=params,
        sentence=parsed.sentence,
        level=parsed.level,
        minutes=parsed.minutes,
        path=parsed.path,
        place=parsed.place,
        eras=tuple(parsed.eras),
        seed=parsed.seed,
        draws=draws,
        show=tuple(parsed.show),
        nodes=tuple(parsed.nodes),
        pictures=tuple(parsed.pictures),
        zoom=parsed.zoom,
        zoom_gap_us=parsed.zoom_gap_us,
        look=parsed.look + len(before),
        next=parsed.next,
        questions=tuple(
            Question(q.ask, q.by_era.get(asked or era, q.by_era.get(era, q.answer)))
            for q in parsed.question
        ),
        page=_page(given, name),
        again=_again(given, era if era != DEFAULT_ERA else "", settings, before),
    )
    _check_answers(drawn, lab)
    return lab


def _insert(data: dict[str, Any], lines: Sequence[str]) -> int:
    """Put command lines before the first step that is shown, and say where that is; what refers to
    later steps by their numbers goes on to mean them."""
    steps = data.setdefault("step", [])
    loud = (n for n, step in enumerate(steps) if isinstance(step, dict) and not step.get("quiet"))
    at = next(loud, len(steps))
    if lines:
        for row in (*steps, *data.get("question", ())):
            for key in ("expect", "answer", "by_era"):
                if isinstance(row, dict) and key in row:
                    row[key] = _shifted(row[key], at, len(lines))
    steps[at:at] = [{"do": line} for line in lines]
    return at


def _shifted(value: Any, at: int, by: int) -> Any:
    """``quantity@4`` as ``quantity@5``, in every text of a value; steps up to ``at`` stay."""
    if isinstance(value, dict):
        return {key: _shifted(item, at, by) for key, item in value.items()}
    if isinstance(value, list):
        return [_shifted(item, at, by) for item in value]
    if not isinstance(value, str):
        return value
    return _STEP.sub(lambda m: f"@{int(m[1]) + (by if int(m[1]) > at else 0)}", value)


def _again(given: str, era: str, settings: Sequence[str], before: Sequence[str]) -> str:
    words = [given, *(["--era", era] if era else [])]
    for option, values in (("--set", settings), ("--before", before)):
        words += [word for value in values for word in (option, value)]
    return shlex.join(words)


def _page(given: str, name: str) -> Path:
    beside = Path(given).with_suffix(".md")
    return beside if tomlfile.is_path(given) and beside.exists() else PAGES / f"{name}.md"


def _era(file: TomlFile, parsed: LabFile, name: str, era: str | None) -> str:
    for known in parsed.eras:
        if known not in PRESETS:
            raise file.error(("eras",), f"no era {known}", words(PRESETS))
    if era is None:
        return DEFAULT_ERA if DEFAULT_ERA in parsed.eras else parsed.eras[-1]
    if era in PRESETS and era not in parsed.eras:
        raise BottomhalfError(f"{name} is about era {', '.join(parsed.eras)}, not {era}",
                              f"bottomhalf lab run {name} --era {parsed.eras[-1]}")  # fmt: skip
    return era


def _draw(
    file: TomlFile, name: str, seed: int | None, settings: Sequence[str]
) -> tuple[dict[str, int | str], list[str]]:
    """Values of the draws, and the settings that are behaviours of the kernel."""
    table = file.data.get("draw", {})
    if seed is None:
        seed = file.data.get("seed", LabFile.model_fields["seed"].default)
    rng = random.Random(f"{name}/{seed}")
    draws = {
        key: rng.choice(choices) if isinstance(choices, list) and choices else ""
        for key, choices in (table.items() if isinstance(table, dict) else ())
    }
    overrides = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key in draws and equals:
            draws[key] = value
        else:
            overrides.append(setting)
    return draws, overrides


def _fill(value: Any, draws: Mapping[str, int | str]) -> Any:
    """The file's values with {draws} in place."""
    if isinstance(value, dict):
        return {key: _fill(one, draws) for key, one in value.items()}
    if isinstance(value, list):
        return [_fill(one, draws) for one in value]
    if isinstance(value, str):
        return _DRAWN.sub(lambda m: str(draws[m[1]]) if m[1] in draws else m[0], value)
    return value


def _check(file: TomlFile, parsed: LabFile, longer: bool) -> None:
    if not parsed.title.endswith("?"):
        raise file.error(("title",), f"{parsed.title}: a lab's title is a question", "who ... ?")
    if parsed.look > max(1, len(parsed.step)) and not longer:
        raise file.error(("look",), f"look = {parsed.look}: there is no such step", "look = 1")
    for word in (*parsed.show, parsed.zoom.partition(",")[0]):
        if not check_show(word):
            from orchestrator.labs.eventtable import GROUPS  # noqa: PLC0415

            raise file.error(
                ("show",), f"no events `{word}`{did_you_mean(word, GROUPS)}", words(GROUPS)
            )


def _check_answers(file: TomlFile, lab: Lab) -> None:
    """Every quantity in an answer can exist."""
    settings = lab.scenario.machine
    for number, question in enumerate(lab.questions):
        for match in ASKED.finditer(question.answer):
            if match[1] in ("era", "seed"):
                continue
            try:
                expect.check(
                    match[1],
                    params=lab.params,
                    cpus=settings.cpu_names,
                    ping=bool(lab.scenario.ping),
                    steps=len(lab.scenario.steps),
                )
            except ValueError as error:
                what, hint = error.args
                raise file.error(("question", number, "answer"), f"answer{what}", hint) from None
