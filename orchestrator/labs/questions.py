"""Questions of a lab: a sheet to hand out, and the answers that a run gives."""

from __future__ import annotations

import re
from textwrap import wrap

from orchestrator.labs.file import ASKED, Lab
from orchestrator.scenarios.expect import Value, number
from orchestrator.scenarios.played import Played

_WIDTH = 78


def answered(lab: Lab, played: Played) -> list[tuple[str, str]]:
    """Each question with its answer, the run's figures filled in."""
    return [(question.ask, _filled(question.answer, lab, played)) for question in lab.questions]


def _filled(text: str, lab: Lab, played: Played) -> str:
    def figure(match: re.Match[str]) -> str:
        name, form = match[1], match[2] or ""
        value: Value | None
        if name == "era":
            value = lab.scenario.machine.era
        elif name == "seed":
            value = played.seed
        else:
            value = played.facts.value(name) if played.facts is not None else None
        if value is None:
            return "(not measured)"
        try:
            return format(value, form) if form else number(value)
        except ValueError:
            return number(value)

    return ASKED.sub(figure, text)


def sheet(lab: Lab, seed: int) -> str:
    """What is handed out: no answers."""
    draws = "".join(f", {key} {value}" for key, value in lab.draws.items())
    lines = [
        f"{lab.title}",
        f"{lab.name}: {lab.level}, {lab.minutes} min, era {lab.scenario.machine.era}, "
        f"seed {seed}{draws}",
        "",
        *wrap(lab.sentence, _WIDTH),
        "",
        "steps",
        *(f"  {n}. {step.text}" for n, step in enumerate(lab.scenario.steps, 1)),
        "",
        "predict first",
    ]
    for count, question in enumerate(lab.questions, 1):
        lines += wrapped(question.ask, count)
    return "\n".join(lines) + "\n"


def with_answers(pairs: list[tuple[str, str]]) -> str:
    """Questions and what the run says to them."""
    lines = ["answers"]
    for count, (ask, answer) in enumerate(pairs, 1):
        lines += wrapped(ask, count)
        lines += [f"     {line}" for line in wrap(answer, _WIDTH - 5)]
    return "\n".join(lines) + "\n"


def wrapped(text: str, count: int) -> list[str]:
    """``  1. text`` over as many lines as it takes."""
    lines = wrap(text, _WIDTH - 5)
    return [f"  {count}. {lines[0]}", *(f"     {line}" for line in lines[1:])]
