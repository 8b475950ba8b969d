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

import operator
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from nodes.machine import MachineSettings
from orchestrator import config, tomlfile, verbs
from orchestrator.errors import BottomhalfError, did_you_mean, words
from orchestrator.tomlfile import TomlFile, duration_ns
from orchestrator.verbs.targets import check as check_target

DEFAULT_SCENARIO = "failover"
STEPS_MAX = 1000

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
#: What can be expected, and its unit.
QUANTITIES = {
    "gap": "ms",
    "lost": "",
    "loss": "%",
    "sent": "",
    "received": "",
    "active": "NIC",
}
_EXPECT = re.compile(r"^\s*([a-z]+)\s*(<=|>=|==|!=|<|>)\s*(\S+)\s*$")
_EXAMPLES = "gap <= 250ms · lost == 0 · loss < 5% · active == eth1"


class Expectation(NamedTuple):
    """``gap <= 250ms``."""

    quantity: str
    relation: str
    limit: float | str
    text: str

    def holds(self, value: float | str | None) -> bool:
        """Does a measured value fulfil it? Nothing measured never does."""
        if value is None:
            return False
        return bool(_OPERATORS[self.relation](value, self.limit))

    def failure(self, value: float | str | None) -> str:
        """``gap 2104 ms, expected <= 250``."""
        unit = QUANTITIES[self.quantity]
        if value is None:
            seen = "without end" if self.quantity == "gap" else "none"
        else:
            seen = _number(value) + (f" {unit}" if unit in ("ms", "%") else "")
        return f"{self.quantity} {seen}, expected {self.relation} {_number(self.limit)}"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


class Step(NamedTuple):
    """One step: at ``at_ns`` after the start do ``argv``."""

    at_ns: int
    argv: tuple[str, ...]
    text: str
    caption: str
    expect: tuple[Expectation, ...]


class Scenario(NamedTuple):
    """A validated scenario with its machine."""

    name: str
    title: str
    machine: MachineSettings
    ping: tuple[str, ...]
    cpu: str
    until_ns: int
    steps: tuple[Step, ...]
    #: what plays it again: a bundled name or a path, and options
    again: str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _allowed(text: str) -> dict[str, Any]:
    return {"allowed": text}


_TIME = _allowed("a time with its unit: 2s, 250ms")


class StepTable(_Strict):
    """[[step]]"""

    at: str = Field(description="when, after the ping's start", json_schema_extra=_TIME)
    do: str = Field(description="a command line", json_schema_extra=_allowed("a command line"))
    expect: str | list[str] = Field(
        [], description="about the phase that begins here", json_schema_extra=_allowed(_EXAMPLES)
    )
    caption: str = Field("", description="what the screen says meanwhile")


class ScenarioFile(_Strict):
    """The top of a scenario's file."""

    title: str = Field("", description="the question that it answers")
    machine: str = Field("bond-pair", description="a bundled machine or a path")
    ping: str = Field("-i 0.01 gateway", description="what runs all the time")
    cpu: str = Field("cpu0", description="where the ping runs")
    until: str = Field(description="its length", json_schema_extra=_TIME)
    step: list[StepTable] = Field([], max_length=STEPS_MAX, description="what is done when")


def load(name: str = DEFAULT_SCENARIO, *, era: str | None = None) -> Scenario:
    """A bundled scenario or a file; the machine's path is relative to the scenario's."""
    file = tomlfile.read("scenarios", name)
    parsed = tomlfile.validate(ScenarioFile, file)
    machine = parsed.machine
    if tomlfile.is_path(machine) and not machine.startswith("/") and tomlfile.is_path(name):
        machine = str(Path(name).parent / machine)
    try:
        settings = config.load(machine, era=era)
    except BottomhalfError as error:
        if error.what.startswith(("no machine ", f"{machine}: No such")):
            raise file.error(("machine",), error.what, error.hint) from None
        raise
    return _scenario(file, parsed, name, settings, f" --era {era}" if era else "")


def _scenario(
    file: TomlFile, parsed: ScenarioFile, given: str, settings: MachineSettings, options: str
) -> Scenario:
    if parsed.cpu not in settings.cpu_names:
        raise file.error(
            ("cpu",),
            f"cpu = {tomlfile.show(parsed.cpu)} is no CPU of {settings.name}"
            + did_you_mean(parsed.cpu, settings.cpu_names),
            f"CPUs are {words(settings.cpu_names)}",
        )
    until = _time(file, ("until",), parsed.until)
    steps = tuple(_step(file, n, row, settings) for n, row in enumerate(parsed.step))
    for number, (step, after) in enumerate(pairwise(steps), 1):
        if after.at_ns < step.at_ns:
            raise file.error(
                ("step", number, "at"),
                f"step {number + 1} comes before step {number}",
                "steps stand in the order of their times",
            )
    if steps and until <= steps[-1].at_ns:
        raise file.error(
            ("until",),
            f'until = "{parsed.until}": the last step begins at {steps[-1].at_ns / 1e9:g} s',
            "leave it some seconds to show its effect",
        )
    return Scenario(
        name=re.sub(r"\.toml$", "", given.rsplit("/", 1)[-1]),
        title=parsed.title,
        machine=settings,
        ping=tuple(_split(file, ("ping",), parsed.ping)),
        cpu=parsed.cpu,
        until_ns=until,
        steps=steps,
        again=shlex.quote(given) + options,
    )


def _step(file: TomlFile, number: int, row: StepTable, settings: MachineSettings) -> Step:
    loc = ("step", number)
    argv = _split(file, (*loc, "do"), row.do)
    if not argv:
        raise file.error((*loc, "do"), "do is empty", 'do = "cable active out"')
    try:
        verb = verbs.lookup(argv[0])
        if not verb.step:
            able = words(v.name for v in verbs.TABLE.values() if v.step)
            raise BottomhalfError(f"`{verb.name}` cannot be a step", f"steps can say {able}")
        if verb.name == "sh" and argv[1:2] != ["-c"]:
            raise BottomhalfError(
                "sh as a step needs its line", "do = \"sh -c 'echo 2 > /proc/irq/34/smp_affinity'\""
            )
        if verb.layer in ("process", "hardware"):
            for word in argv[1:-1] if verb.name == "cable" else argv[1:]:
                check_target(settings, word)
    except BottomhalfError as error:
        raise file.error((*loc, "do"), error.what, error.hint) from None
    expect = [row.expect] if isinstance(row.expect, str) else row.expect
    return Step(
        at_ns=_time(file, (*loc, "at"), row.at),
        argv=tuple(argv),
        text=row.do,
        caption=row.caption,
        expect=tuple(_expectation(file, (*loc, "expect"), e, settings) for e in expect),
    )


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


def _expectation(
    file: TomlFile, loc: tomlfile.Loc, text: str, settings: MachineSettings
) -> Expectation:
    match = _EXPECT.match(text)
    shown = f"expect = {tomlfile.show(text)}"
    if not match:
        raise file.error(loc, f"{shown} is no comparison", _EXAMPLES)
    quantity, relation, limit = match.groups()
    if quantity not in QUANTITIES:
        raise file.error(
            loc,
            f"{shown}: nothing is called `{quantity}`{did_you_mean(quantity, QUANTITIES)}",
            f"{words(QUANTITIES)}, as in {_EXAMPLES}",
        )
    if quantity == "active":
        if limit not in settings.nic_names:
            raise file.error(loc, f"{shown}: no NIC `{limit}`", words(settings.nic_names))
        return Expectation(quantity, relation, limit, text)
    value: float | None = None
    if quantity == "gap":
        gap_ns = duration_ns(limit)
        value = None if gap_ns is None else gap_ns / 1e6
    elif re.fullmatch(r"\d+(\.\d+)?%?", limit) and (quantity == "loss" or limit.isdigit()):
        value = float(limit.rstrip("%"))
    if value is None:
        raise file.error(loc, f"{shown}: {limit} is no {quantity}", _EXAMPLES)
    return Expectation(quantity, relation, value, text)
