"""``lab run|show|sheet`` of a lab that a real kernel plays too (``orchestrator.labs.guestlab``)."""

from __future__ import annotations

import json
import sys
from textwrap import fill

from orchestrator.errors import EXPECTATION_FAILED, OK, BottomhalfError
from orchestrator.verbs import Options as Given
from orchestrator.verbs import parse

#: What a run in real time on a real kernel cannot be asked for.
_NOT_HERE = ("--simulate", "--processes", "--era", "--set", "--before", "--step", "--from",
             "--compare")  # fmt: skip


def run(given: Given, as_json: bool) -> int:
    """Play it twice and compare."""
    from orchestrator.guest import fetch  # noqa: PLC0415
    from orchestrator.labs import guestlab, questions  # noqa: PLC0415
    from orchestrator.verbs import guestrun  # noqa: PLC0415
    from orchestrator.verbs.scenarios import seed_of  # noqa: PLC0415

    lab = guestlab.load(given.words[1])
    for option in _NOT_HERE:
        if option in given.flags or option in given.values:
            raise BottomhalfError(
                f"lab run {lab.name} {option}: half of it is a real kernel, in real time",
                f"bottomhalf run {lab.scenario.name} has that option for the emulated half",
            )
    seed = seed_of(given.value("--seed"), simulate=False)
    seed = lab.seed if seed is None else seed
    fetch.everything()  # what cannot be had is said before anything runs
    if not as_json:
        print(f"{fill(lab.sentence, 79)}\n")
        print(f"emulated machine, virtual time, seed {seed}", flush=True)
    emulated = guestlab.emulate(lab.scenario, seed)
    played = guestrun.play(lab.scenario, parse("guest", []), quiet=as_json)
    sides = guestlab.Sides(emulated, guestlab.of_guest(played))
    answered = guestlab.answers(lab, sides) if "--answers" in given.flags else []
    if as_json:
        value = guestlab.as_json(lab, sides)
        if answered:
            value["answers"] = [answer for _, answer in answered]
        print(json.dumps(value))
        return OK if sides.passed else EXPECTATION_FAILED
    lines = ["", *guestlab.text(lab, sides)]
    if answered:
        lines += ["", *questions.with_answers(answered).rstrip("\n").split("\n")]
    lines += ["", f"{lab.name} {'passed' if sides.passed else 'FAILED'}."]
    lines.append(f"  why it is so: bottomhalf lab show {lab.name}")
    if not answered:
        lines.append(f"  answers: bottomhalf lab run {lab.name} --answers")
    lines.append("  in a guest by hand: bottomhalf guest -d --bond 'mode=active-backup miimon=100'")
    if lab.next:
        lines.append(f"  next: bottomhalf lab run {lab.next}")
    sys.stdout.write("\n".join(lines) + "\n")
    return OK if sides.passed else EXPECTATION_FAILED


def sheet(given: Given, as_json: bool) -> int:
    """What is handed out; answers are a run's."""
    from orchestrator.labs import guestlab, questions  # noqa: PLC0415

    lab = guestlab.load(given.words[1])
    if "--answers" in given.flags:
        raise BottomhalfError(
            f"the answers of {lab.name} are what a run measures",
            f"bottomhalf lab run {lab.name} --answers",
        )
    asked = [question.ask for question in lab.questions]
    if as_json:
        print(json.dumps({"lab": lab.name, "title": lab.title, "questions": asked}))
        return OK
    lines = [lab.title, "", *fill(lab.sentence, 78).split("\n"), "", "steps"]
    lines += [f"  {n}. {step.text}" for n, step in enumerate(lab.scenario.steps, 1)]
    lines += ["", "predict first"]
    for count, ask in enumerate(asked, 1):
        lines += questions.wrapped(ask, count)
    sys.stdout.write("\n".join(lines) + "\n")
    return OK
