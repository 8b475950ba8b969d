"""What ``lab run`` prints around the events: the sentence before, the picture and checks after."""

from __future__ import annotations

import shlex
from textwrap import fill

from orchestrator.labs import gaps, timeline, workers
from orchestrator.labs.file import Lab
from orchestrator.labs.performance import Performance
from orchestrator.labs.questions import with_answers
from orchestrator.scenarios.played import INTERRUPTED
from orchestrator.views import accesses

#: Fewer accesses in a step are no conversation: a service task passed by.
REGISTERS_MIN = 20


def opening(lab: Lab, runtime: str, seed: int | None) -> str:
    """The sentence, and in which world it happens."""
    machine = lab.scenario.machine
    world = f"virtual time, seed {seed}" if runtime == "simulation" else "real time"
    draws = "".join(f", {key} {value}" for key, value in lab.draws.items())
    where = f"{lab.name}: {machine.name}, era {machine.era}, {world}{draws}"
    return f"{fill(lab.sentence, 79)}\n{where}\n\n"


def picture(performance: Performance) -> list[str]:
    """Workers of each step; the timeline of contexts, coarse and fine, and the shares."""
    lines = []
    for (first, last), pictures in performance.workers.items():
        steps = f"step {first}" if first == last else f"steps {first} to {last}"
        for shown in pictures:
            column = timeline.scale(max(1, shown.end_ns - shown.begin_ns), workers.COLUMNS)
            lines += [
                f"workers of {shown.cpu} in {steps}, from "
                f"{(shown.begin_ns - performance.zero_ns) / 1e3:.2f} us, "
                f"{timeline.length(column)} a column",
                *workers.draw(shown),
                "",
            ]
    if "registers" in performance.lab.pictures:
        lines += _registers(performance)
    if "gaps" in performance.lab.pictures:
        found = gaps.of(performance.lab.scenario.steps, performance.played.phases)
        lines += [*gaps.draw(found), ""]
    if "contexts" in performance.lab.pictures:
        lines += _contexts(performance)
    return lines[:-1] if lines[-1:] == [""] else lines


def _registers(performance: Performance) -> list[str]:
    """Of each step that is not quiet, what the CPUs did to each NIC that the lab is about."""
    lab, lines = performance.lab, []
    for number, step in enumerate(lab.scenario.steps, 1):
        if step.quiet or number >= len(performance.played.stretches):
            continue
        records = performance.played.stretches[number].records
        for nic, name in enumerate(lab.scenario.machine.nic_names):
            found = accesses.of(records, nic) if name in lab.nodes or not lab.nodes else []
            if len(found) >= REGISTERS_MIN:
                lines += [*accesses.draw(name, f"step {number}", found), ""]
    return lines


def _contexts(performance: Performance) -> list[str]:
    origin = performance.zero_ns
    cpus = performance.cpus
    begin, end = performance.begin_ns, performance.end_ns
    column = timeline.scale(max(1, end - begin))
    lines = [
        f"contexts from {(begin - origin) / 1e3:.2f} us, {timeline.length(column)} a column",
        *timeline.draw(cpus, begin, end),
    ]
    if performance.zoom is not None:
        first, last = performance.zoom
        column = timeline.scale(max(1, last - first))
        lines += [
            "",
            f"contexts around the first {performance.lab.zoom}, from "
            f"{(first - origin) / 1e3:.2f} us, {timeline.length(column)} a column",
            *timeline.draw(cpus, first, last),
        ]
    return [*lines, timeline.legend(cpus), "", "share of the time", *timeline.share_lines(cpus)]


def ending(performance: Performance, answers: bool) -> list[str]:
    """Reports, checks, answers, the verdict, what to read next."""
    lab, played = performance.lab, performance.played
    lines: list[str] = []
    reports = played.facts.reports() if played.facts is not None else {}
    if reports:
        lines += ["", "reports"]
        for name, figures in reports.items():
            lines += [f"  {name}.{key} = {value}" for key, value in figures.items()]
    lines += ["", "checks"]
    for verdict in played.verdicts:
        where = f"step {verdict.step}"
        text = verdict.expectation.text if verdict.passed else verdict.text
        lines.append(f"  {'ok' if verdict.passed else 'FAILED':<7} {where}: {text}")
    ledger = performance.ledger
    interrupted = played.cut_short == INTERRUPTED
    if ledger.balanced or not interrupted:  # by Ctrl-C: something may be on its way
        mark = "ok" if ledger.balanced else "FAILED"
        lines.append(f"  {mark:<7} every packet and MSI accounted for")
        lines += [f"          {fault}" for fault in ledger.faults]
    if played.cut_short and not interrupted:
        lines.append(f"  FAILED  cut short: {played.cut_short}")
    if performance.records_lost:
        lines.append(f"  note    {performance.records_lost} trace records were overwritten unread")
    if answers:
        lines += ["", *with_answers(performance.answers()).rstrip("\n").split("\n")]
    name = lab.again
    word = "passed" if performance.passed else "FAILED"
    if interrupted and all(verdict.passed for verdict in played.verdicts):
        word = "was interrupted"
    lines += ["", f"{lab.name} {word}."]
    if not performance.passed and not interrupted and played.seed is not None:
        lines.append(f"  replay: bottomhalf lab run {name} --seed {played.seed}")
    lines.append(f"  why it is so: bottomhalf lab show {shlex.quote(lab.given)}")
    if not answers and lab.questions:
        lines.append(f"  answers: bottomhalf lab run {name} --answers")
    lines.append(f"  step by step: bottomhalf lab run {name} --step")
    if lab.next:
        lines.append(f"  next: bottomhalf lab run {lab.next}")
    return lines
