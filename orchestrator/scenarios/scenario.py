"""A scenario's TOML file: a machine, a ping, and steps that are command lines with expectations.

::

    machine = "bond-pair"
    ping    = "-i 0.01 gateway"
    until   = "14s"

    [[step]]
    at     = "2s"
    do     = "cable active out"
    expect = "gap <= 250ms"

Times count from the start of the ping. A phase begins with each step; an expectation is about the
phase of its step.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from nodes.cpu.kernel.params import PRESETS, Params, with_overrides
from nodes.machine import MachineSettings
from orchestrator import verbs
from orchestrator.configuration import config, tomlfile
from orchestrator.configuration.tables import Table, allowed
from orchestrator.configuration.tomlfile import TomlFile, duration_ns
from orchestrator.errors import BottomhalfError, did_you_mean, listed, words
from orchestrator.scenarios import expect, stepwords
from orchestrator.scenarios.expect import EXAMPLES, Expectation
from orchestrator.scenarios.stepwords import is_program
from orchestrator.verbs.targets import check as check_target

DEFAULT_SCENARIO = "failover"
STEPS_MAX = 1000
#: Before a step without a time of its own: what the one before it started comes to rest.
REST_NS = 1_000_000
PROCESSES: Literal["processes"] = "processes"


class Step(NamedTuple):
    """One step: at ``at_ns`` after the start do ``argv``; ``at_ns`` None: when the one before it
    is done."""

    at_ns: int | None
    argv: tuple[str, ...]
    text: str
    caption: str
    expect: tuple[Expectation, ...]
    cpu: str = ""  # taskset -c N
    background: bool = False  # ... &
    quiet: bool = False
    in_guest: tuple[Expectation, ...] = ()  # of a real kernel, each in the place of its namesakes
    why: str = ""  # ... it is another

    def of_guest(self) -> Step:
        """The step as a real kernel is judged by it."""
        other = {expectation.quantity for expectation in self.in_guest}
        kept = tuple(one for one in self.expect if one.quantity not in other)
        return self._replace(expect=kept + self.in_guest)


class Scenario(NamedTuple):
    """A validated scenario with its machine."""

    name: str
    title: str
    machine: MachineSettings
    ping: tuple[str, ...]  # empty: none
    cpu: str
    until_ns: int
    steps: tuple[Step, ...]
    #: what plays it again: a bundled name or a path, and options
    again: str
    runtime: str = PROCESSES


class _World(NamedTuple):
    """What a step of the file can refer to."""

    settings: MachineSettings
    params: Params
    ping: bool
    steps: int


_TIME = allowed("a time with its unit: 2s, 250ms")


class EraTable(Table):
    """[step.by_era."2.6.18"]"""

    expect: str | list[str] = Field(
        [], description="expected besides, in this era", json_schema_extra=allowed(EXAMPLES)
    )


class RealKernelTable(Table):
    """[step.real_kernel]"""

    expect: str | list[str] = Field(
        description="of a real kernel in a guest: each in the place of those in `expect` about the "
        "same quantity",
        json_schema_extra=allowed(EXAMPLES),
    )
    why: str = Field(
        min_length=1,
        description="the reason why a real kernel needs another bound than the emulated machine",
        json_schema_extra=allowed("a sentence"),
    )


class StepTable(Table):
    """[[step]]"""

    at: str = Field(
        "",
        description="when, after the start; without it: when the step before is done",
        json_schema_extra=_TIME,
    )
    do: str = Field(
        description="a command line; `taskset -c 1` before it, `&` behind it",
        json_schema_extra=allowed("a command line"),
    )
    expect: str | list[str] = Field(
        [],
        description="about the phase that begins here (orchestrator/scenarios/expect.py lists all)",
        json_schema_extra=allowed(EXAMPLES),
    )
    by_era: dict[str, EraTable] = Field(
        {},
        description="expectations of single eras",
        json_schema_extra=allowed('by_era."2.6.18".expect = "..."'),
    )
    real_kernel: RealKernelTable | None = Field(
        None,
        description="what else is expected of a real kernel (bottomhalf guest run), and why",
        json_schema_extra=allowed('real_kernel = { expect = "gap <= 4s", why = "..." }'),
    )
    caption: str = Field("", description="what the screen says meanwhile")
    quiet: bool = Field(False, description="preparation: a lab does not show its events")


class ScenarioFile(Table):
    """The top of a scenario's file."""

    title: str = Field("", description="the question that it answers")
    machine: str = Field("bond-pair", description="a bundled machine or a path")
    ping: str = Field("-i 0.01 gateway", description="what runs all the time; empty: nothing")
    cpu: str = Field("cpu0", description="where the ping and the steps' programs run")
    runtime: Literal["processes", "simulation"] = Field(
        PROCESSES, description="on what it plays when nobody says"
    )
    until: str = Field(
        "",
        description="its length; without it: until the last step is done",
        json_schema_extra=_TIME,
    )
    step: list[StepTable] = Field([], max_length=STEPS_MAX, description="what is done when")


def load(name: str = DEFAULT_SCENARIO, *, era: str | None = None) -> Scenario:
    """A bundled scenario or a file."""
    file = tomlfile.read("scenarios", name)
    parsed = tomlfile.validate(ScenarioFile, file)
    settings = machine_of(file, parsed.machine, name, era)
    return build(file, parsed, name, settings, f" --era {era}" if era else "")


def machine_of(
    file: TomlFile, machine: str, given: str, era: str | None, overrides: Sequence[str] = ()
) -> MachineSettings:
    """The machine that a scenario names; a path is relative to the scenario's."""
    if tomlfile.is_path(machine) and not machine.startswith("/") and tomlfile.is_path(given):
        machine = str(Path(given).parent / machine)
    try:
        return config.load(machine, era=era, overrides=overrides)
    except BottomhalfError as error:
        if error.what.startswith(("no machine ", f"{machine}: No such")):
            raise file.error(("machine",), error.what, error.hint) from None
        raise


def build(
    file: TomlFile, parsed: ScenarioFile, given: str, settings: MachineSettings, options: str
) -> Scenario:
    """The scenario on this machine; every slip in the file gets its message."""
    if parsed.cpu not in settings.cpu_names:
        raise file.error(
            ("cpu",),
            f"cpu = {tomlfile.show(parsed.cpu)} is no CPU of {settings.name}"
            + did_you_mean(parsed.cpu, settings.cpu_names),
            f"CPUs are {words(settings.cpu_names)}",
        )
    params = with_overrides(PRESETS[settings.era], settings.overrides)
    world = _World(settings, params, bool(parsed.ping), len(parsed.step))
    steps = tuple(_step(file, n, row, world) for n, row in enumerate(parsed.step))
    _check_order(file, steps)
    until = _time(file, ("until",), parsed.until) if parsed.until else 0
    last = max((step.at_ns for step in steps if step.at_ns is not None), default=-1)
    if parsed.until and until <= last:
        raise file.error(
            ("until",),
            f'until = "{parsed.until}": the last step begins at {last / 1e9:g} s',
            "leave it some seconds to show its effect",
        )
    return Scenario(
        name=re.sub(r"\.toml$", "", given.rsplit("/", 1)[-1]),
        title=parsed.title,
        machine=settings,
        ping=_ping(file, parsed.ping, settings),
        cpu=parsed.cpu,
        until_ns=until,
        steps=steps,
        again=shlex.quote(given) + options,
        runtime=parsed.runtime,
    )


def _ping(file: TomlFile, text: str, settings: MachineSettings) -> tuple[str, ...]:
    """The words behind ``ping``, which ping itself has looked at; devices it looks for later."""
    words_of = tuple(_split(file, ("ping",), text))
    said = stepwords.complaint(settings, ("ping", *words_of)) if words_of else ""
    if said:
        raise file.error(
            ("ping",), f"ping = {tomlfile.show(text)}: {said}", 'ping = "-i 0.01 gateway"'
        )
    return words_of


def _check_order(file: TomlFile, steps: Sequence[Step]) -> None:
    latest, before = 0, 0
    for number, step in enumerate(steps, 1):
        if step.at_ns is None:
            continue
        if step.at_ns < latest:
            raise file.error(
                ("step", number - 1, "at"),
                f"step {number} comes before step {before}",
                "steps stand in the order of their times",
            )
        latest, before = step.at_ns, number


def _step(file: TomlFile, number: int, row: StepTable, world: _World) -> Step:
    loc = ("step", number)
    argv = _split(file, (*loc, "do"), row.do)
    try:
        argv, cpu, background = command(argv, world.settings)
    except BottomhalfError as error:
        raise file.error((*loc, "do"), error.what, error.hint) from None
    try:
        stepwords.check(world.settings, argv)
    except BottomhalfError as error:
        what = f"step {number + 1}, `{row.do}`: {error.what}"
        raise file.error((*loc, "do"), what, error.hint) from None
    expected = _listed(row.expect)
    for era, besides in row.by_era.items():
        if era not in PRESETS:
            raise file.error((*loc, "by_era", era), f"no era {era}", words(PRESETS))
        if era == world.settings.era:
            expected += _listed(besides.expect)
    other = row.real_kernel
    return Step(
        at_ns=_time(file, (*loc, "at"), row.at) if row.at else None,
        argv=tuple(argv),
        text=row.do,
        caption=row.caption,
        expect=tuple(_expectation(file, (*loc, "expect"), text, world) for text in expected),
        cpu=cpu,
        background=background,
        quiet=row.quiet,
        in_guest=tuple(
            _expectation(file, (*loc, "real_kernel", "expect"), text, world)
            for text in _listed(other.expect if other is not None else [])
        ),
        why=other.why if other is not None else "",
    )


def _listed(expected: str | list[str]) -> list[str]:
    return [expected] if isinstance(expected, str) else list(expected)


def command(argv: Sequence[str], settings: MachineSettings) -> tuple[list[str], str, bool]:
    """A step's words without ``taskset -c N`` and ``&``, the CPU that was named, and whether it
    runs in the background; raises the message for what can be no step."""
    rest, cpu, background = list(argv), "", False
    if rest[:2] == ["taskset", "-c"] and len(rest) > 2:
        cpu, rest = f"cpu{rest[2]}", rest[3:]
        if cpu not in settings.cpu_names:
            raise BottomhalfError(f"no CPU `{cpu}`", f"CPUs are {words(settings.cpu_names)}")
    if rest and rest[-1] == "&":
        rest, background = rest[:-1], True
    if not rest:
        raise BottomhalfError("do is empty", 'do = "cable active out"')
    if rest[0] in verbs.TABLE and not verbs.TABLE[rest[0]].step:
        able = (v.name for v in verbs.TABLE.values() if v.step)
        raise BottomhalfError(f"`{rest[0]}` cannot be a step", listed("steps can say", able))
    if rest[0] == "sh" and rest[1:2] != ["-c"]:
        raise BottomhalfError(
            "sh as a step needs its line", "do = \"sh -c 'echo 2 > /proc/irq/34/smp_affinity'\""
        )
    if rest[0] not in verbs.TABLE and not is_program(rest[0]):
        verbs.lookup(rest[0])
    if background and not is_program(rest[0]):
        raise BottomhalfError(f"`{rest[0]}` cannot run in the background", "ping ... &")
    verb = verbs.TABLE.get(rest[0])
    if verb is not None and verb.name == "fault":
        from orchestrator.verbs.fault import check_words  # noqa: PLC0415

        check_words(settings, rest[1:])
    elif verb is not None and verb.layer in ("process", "hardware"):
        if verb.name in ("cable", "card"):
            from orchestrator.verbs import hardware  # noqa: PLC0415

            hardware.check_words(verb.name, rest[1:])
        targets: dict[str, list[str]] = dict.fromkeys(("cable", "card"), rest[1:-1])
        targets |= dict.fromkeys(("regs", "ring"), rest[1:2])
        for word in targets.get(verb.name, rest[1:]):
            check_target(settings, word)
    return rest, cpu, background


def _split(file: TomlFile, loc: tomlfile.Loc, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise file.error(
            loc, f"{loc[-1]} = {tomlfile.show(text)}: {error}", "as in a shell"
        ) from None


def _time(file: TomlFile, loc: tomlfile.Loc, text: str) -> int:
    value = duration_ns(text)
    if value is None:
        raise file.error(
            loc, f"{loc[-1]} = {tomlfile.show(text)}: allowed is {_TIME['allowed']}", 'at = "2s"'
        )
    return value


def _expectation(file: TomlFile, loc: tomlfile.Loc, text: str, world: _World) -> Expectation:
    settings = world.settings
    try:
        return expect.parse(
            text,
            params=world.params,
            cpus=settings.cpu_names,
            nics=settings.nic_names,
            ping=world.ping,
            steps=world.steps,
        )
    except ValueError as error:
        what, hint = error.args
        raise file.error(loc, f"expect = {tomlfile.show(text)}{what}", hint) from None
