"""``lab list|show|run|sheet``: the labs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.errors import EXPECTATION_FAILED, INTERRUPTED, OK, BottomhalfError, did_you_mean
from orchestrator.verbs import Options as Given
from orchestrator.verbs import parse, usage
from orchestrator.verbs.scenarios import machine_for, seed_of

if TYPE_CHECKING:
    from orchestrator.cli import Options
    from orchestrator.labs.file import Lab
    from orchestrator.labs.guestlab import GuestLab
    from orchestrator.labs.performance import Performance
    from orchestrator.machines.machine import Machine

_FLAGS = ("--json", "--simulate", "--processes", "--answers")
_VALUES = ("--era", "--seed", "--set", "--before", "--step", "--from", "--compare")
_ACTIONS = ("list", "show", "run", "sheet")
_TERMINAL_WIDTH_MAX = 100


def lab(options: Options, argv: Sequence[str]) -> int:
    """One of the four."""
    given = parse("lab", _with_step_value(argv), _FLAGS, _VALUES)
    action = given.words[0] if given.words else "list"
    if action not in _ACTIONS:
        meant = did_you_mean(action, _ACTIONS)
        raise BottomhalfError(f"lab cannot `{action}`{meant}", usage("lab"))
    as_json = options.json or "--json" in given.flags
    if action == "list":
        if len(given.words) > 1:
            meant = f"bottomhalf lab show {given.words[1]}"
            raise BottomhalfError("lab list shows all labs and takes no name", meant)
        return _list(as_json)
    if len(given.words) > 2:
        raise BottomhalfError(f"{action} one lab at a time, not `{given.words[2]}`", usage("lab"))
    if len(given.words) < 2:
        raise BottomhalfError(
            f"{action} which lab?",
            f"bottomhalf lab list          shows them; the first: bottomhalf lab {action} one-ping",
        )
    from orchestrator.labs import guestlab  # noqa: PLC0415

    if given.words[1] in guestlab.bundled():
        return _with_guest(action, given, as_json)
    if action == "show":
        return _show(_load(given), as_json)
    if action == "sheet":
        return _sheet(given, as_json)
    return _run(given, as_json)


def _with_guest(action: str, given: Given, as_json: bool) -> int:
    """A lab that a real kernel plays too."""
    from orchestrator.labs import guestlab  # noqa: PLC0415
    from orchestrator.verbs import guestlabs  # noqa: PLC0415

    if action == "show":
        return _show(guestlab.load(given.words[1]), as_json)
    return (guestlabs.sheet if action == "sheet" else guestlabs.run)(given, as_json)


def _with_step_value(argv: Sequence[str]) -> list[str]:
    """``--step`` may stand without its number."""
    words = list(argv)
    if "--step" in words:
        at = words.index("--step")
        if at + 1 == len(words) or not words[at + 1].isdecimal():
            words[at] = "--step="
    return words


def _load(given: Given, seed: int | None = None, era: str | None = None) -> Lab:
    from orchestrator.labs import file  # noqa: PLC0415

    return file.load(
        given.words[1],
        era=era or given.value("--era"),
        seed=seed,
        settings=given.values.get("--set", []),
        before=given.values.get("--before", []),
    )


# ---------------------------------------------------------------- list, show, sheet


def _list(as_json: bool) -> int:
    from orchestrator.labs import file, guestlab  # noqa: PLC0415

    labs: list[Lab | GuestLab] = [file.load(name) for name in file.bundled()]
    labs += [guestlab.load(name) for name in guestlab.bundled()]
    labs.sort(key=lambda one: one.place)
    if as_json:
        rows = [
            {
                "name": one.name, "title": one.title, "level": one.level, "minutes": one.minutes,
                "path": one.path, "eras": list(one.eras),
            }
            for one in labs
        ]  # fmt: skip
        print(json.dumps(rows))
        return OK
    for path in file.PATHS:
        rows_of = [one for one in labs if one.path == path]
        if not rows_of:
            continue
        print(f"{path}'s path")
        for one in rows_of:
            print(f"  {one.title}")
            print(
                f"      bottomhalf lab run {one.name:<26} {one.level}, {one.minutes} min, "
                f"era {', '.join(one.eras)}"
            )
    return OK


def _show(one: Lab | GuestLab, as_json: bool) -> int:
    from orchestrator.labs import page  # noqa: PLC0415

    text = page.read(one)
    if as_json:
        print(json.dumps({"lab": one.name, "page": str(one.page), "text": text}))
        return OK
    from rich.console import Console  # noqa: PLC0415

    from orchestrator.labs.showing import Page  # noqa: PLC0415

    width = min(shutil.get_terminal_size().columns, _TERMINAL_WIDTH_MAX)
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(Page(page.for_terminal(text)), crop=False)
    shown = capture.get()
    if not console.is_terminal:  # rich fills lines up with blanks
        shown = "".join(f"{line.rstrip()}\n" for line in shown.splitlines())
    sys.stdout.write(shown)
    return OK


def _sheet(given: Given, as_json: bool) -> int:
    from orchestrator.labs import questions  # noqa: PLC0415

    seed = seed_of(given.value("--seed"), simulate=False)
    one = _load(given, seed)
    seed = one.seed if seed is None else seed
    pairs: list[tuple[str, str]] = []
    if "--answers" in given.flags:
        performance = _perform(one, seed, None)
        pairs = performance.answers()
    if as_json:
        value: dict[str, Any] = {
            "lab": one.name, "title": one.title, "seed": seed, "draws": dict(one.draws),
            "era": one.scenario.machine.era, "questions": [q.ask for q in one.questions],
        }  # fmt: skip
        if pairs:
            value["answers"] = [answer for _, answer in pairs]
        print(json.dumps(value))
        return OK
    sys.stdout.write(questions.sheet(one, seed))
    if pairs:
        sys.stdout.write("\n" + questions.with_answers(pairs))
    return OK


# ---------------------------------------------------------------- run


def _compare(given: Given, as_json: bool) -> int:
    """The lab in several eras; simulated unless --processes is said."""
    from orchestrator.labs import compare  # noqa: PLC0415
    from orchestrator.labs.output import opening  # noqa: PLC0415

    seed = seed_of(given.value("--seed"), simulate=False)
    columns: list[compare.Column] = []
    asked = [word.strip() for word in (given.value("--compare") or "").split(",")]
    for era, one in [(era, _load(given, seed, era)) for era in asked]:  # all, before any runs
        if "--processes" not in given.flags:
            seed = one.seed if seed is None else seed
        if not columns and not as_json:
            _say(opening(one, "processes" if seed is None else "simulation", seed).split("\n\n")[0])
            _say("\n\n")
        columns.append(compare.Column(era, _perform(one, seed, None)))
    if as_json:
        print(json.dumps(compare.as_json(columns)))
    else:
        _say("\n".join(compare.table(columns)) + "\n")
    passed = all(column.performance.passed for column in columns)
    return OK if passed else EXPECTATION_FAILED


def _run(given: Given, as_json: bool) -> int:
    if "--compare" in given.values:
        return _compare(given, as_json)
    stepping = "--step" in given.values
    if "--from" in given.values and not stepping:
        raise BottomhalfError("--from is where --step begins", "lab run NAME --step --from 120")
    simulate = stepping or "--simulate" in given.flags
    if "--processes" in given.flags and (simulate or "--seed" in given.values):
        raise BottomhalfError("--processes has no seed and no steps", "lab run NAME --processes")
    seed = seed_of(given.value("--seed"), simulate=False)
    one = _load(given, seed)
    if simulate or (one.scenario.runtime == "simulation" and "--processes" not in given.flags):
        seed = one.seed if seed is None else seed
    if stepping:
        assert seed is not None
        return _step(one, seed, given)
    from orchestrator.labs import output  # noqa: PLC0415
    from orchestrator.labs.performance import as_json as result  # noqa: PLC0415

    if not as_json:
        _say(output.opening(one, "processes" if seed is None else "simulation", seed))
    performance = _perform(one, seed, None if as_json else _say)
    if as_json:
        value = result(performance)
        if "--answers" in given.flags:
            value["answers"] = [answer for _, answer in performance.answers()]
        print(json.dumps(value))
    else:
        _picture(output.picture(performance))
        _say("\n".join(output.ending(performance, "--answers" in given.flags)) + "\n")
    if performance.played.cut_short == "interrupted":
        return INTERRUPTED
    return OK if performance.passed else EXPECTATION_FAILED


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _picture(lines: Sequence[str]) -> None:
    _say("\n")
    if not sys.stdout.isatty():
        _say("\n".join(lines) + "\n")
        return
    from rich.console import Console  # noqa: PLC0415

    from orchestrator.labs.timeline import coloured  # noqa: PLC0415

    console = Console(highlight=False)
    for line in lines:
        console.print(coloured(line) if line.startswith("  cpu") else line, markup=False)


def _perform(
    one: Lab,
    seed: int | None,
    write: Callable[[str], None] | None,
    prepare: Callable[[Machine], None] | None = None,
) -> Performance:
    from orchestrator.labs.performance import perform  # noqa: PLC0415

    machine = machine_for(one.scenario, seed)
    try:
        return perform(machine, one, seed, write, prepare)
    finally:
        machine.close()


def _step(one: Lab, seed: int, given: Given) -> int:
    """The run under the microscope: keys on a terminal, else so many lines."""
    from orchestrator.labs import stepping  # noqa: PLC0415
    from orchestrator.labs.microscope import Microscope  # noqa: PLC0415
    from orchestrator.machines.simulated import SimulatedMachine  # noqa: PLC0415

    scope = Microscope()

    def prepare(machine: Machine) -> None:
        assert isinstance(machine, SimulatedMachine)
        scope.attach(machine)

    performance = _perform(one, seed, None, prepare)
    scope.detach()
    stepper = stepping.Stepper(scope, one, performance.zero_ns, performance.begin_ns)
    at = given.value("--from")
    if at is not None:
        if not at.isdecimal():
            raise BottomhalfError(f"--from {at}: the number of a step is needed", "--from 120")
        stepper.number = min(int(at), stepper.last)
    count = given.value("--step")
    if count or not (sys.stdin.isatty() and sys.stdout.isatty()):
        stepping.print_steps(stepper, int(count or stepping.DEFAULT_STEPS), _say)
    else:
        stepping.interactive(stepper)
    if scope.overflowed:
        sys.stderr.write(f"bottomhalf: only the first {len(scope.moments)} steps were kept\n")
    return OK
