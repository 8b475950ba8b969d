"""One run of a lab: played, watched, judged; what came of it as one value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from nodes.cpu.page import CPU_SCHEMA
from orchestrator.errors import BottomhalfError
from orchestrator.labs import contexts, eventtable, questions
from orchestrator.labs.contexts import Interval
from orchestrator.labs.file import Lab
from orchestrator.labs.watch import Event, Watch
from orchestrator.labs.workers import Picture
from orchestrator.ledger import Ledger, settled
from orchestrator.machines.kernellog import LogLine
from orchestrator.machines.machine import Machine
from orchestrator.machines.ready import wait_until_ready
from orchestrator.scenarios.play import Player
from orchestrator.scenarios.played import Played
from orchestrator.scenarios.scenario import Scenario
from orchestrator.session import terminal_width

#: The recorders keep 4096 records; between two looks fewer are made.
SLICE_NS = {"processes": 16_000_000, "simulation": 500_000}
#: Lines of events that are printed of one phase.
LINES_MAX = 60


@dataclass
class Performance:
    """What a run has shown."""

    lab: Lab
    played: Played
    ledger: Ledger
    events: list[Event]
    watch: Watch
    cpus: dict[str, list[Interval]]
    zero_ns: int  # where the first step that is not quiet began: times are counted from it
    begin_ns: int  # from where one looks
    end_ns: int
    zoom: tuple[int, int] | None
    workers: dict[tuple[int, int], list[Picture]]  # by the first and the last step
    records_lost: int

    @property
    def passed(self) -> bool:
        return self.played.passed and self.ledger.balanced

    def answers(self) -> list[tuple[str, str]]:
        """Question and answer, with this run's figures."""
        return questions.answered(self.lab, self.played)


class Teller:
    """Prints what happens as it happens, in us after the first step that is not quiet."""

    def __init__(self, write: Callable[[str], None], lab: Lab) -> None:
        self.watch: Watch | None = None
        self._write = write
        self._steps = lab.scenario.steps
        self._machine: Machine | None = None
        self._boot_ns = 0
        self._log: list[LogLine] = []
        self._zero: int | None = None
        self._quiet = True
        self._printed = 0
        self._left_out = 0

    def begin(self, machine: Machine, scenario: Scenario) -> None:
        self._machine = machine
        self._boot_ns = machine.ram.boot_ns
        if scenario.ping:
            self._loud()

    def caption(self, at_ns: int, number: int, of: int, text: str) -> None:
        self._flush()
        self._quiet = self._steps[number - 1].quiet
        if not self._quiet:
            self._loud()
            self._write(f"step {number} of {of}: {text}\n")

    def _loud(self) -> None:
        assert self._machine is not None
        self._quiet = False
        if self._zero is None:
            self._zero = self._machine.now_ns()

    def said(self, at_ns: int, text: str) -> None:
        if not self._quiet:
            self._write(f"  {text}".rstrip() + "\n")

    def log(self, at_ns: int, line: LogLine) -> None:
        if not self._quiet:
            self._log.append(line)

    def tick(self, at_ns: int) -> None:
        """Events come by ``told``."""

    def told(self, events: list[Event]) -> None:
        """Records were collected; they and the log lines are printed in the order of time."""
        assert self.watch is not None
        lines: list[tuple[int, str, str, tuple[str, ...]]] = []
        for line in self._log:
            lines.append((line.time_ns + self._boot_ns, "dmesg", "", (line.text,)))
        self._log.clear()
        for event in events if not self._quiet else ():
            texts = self.watch.texts(event)
            if texts:
                context = eventtable.context_of(event.kind, event.record)
                lines.append((event.time_ns, event.node, context, texts))
        for row in sorted(lines, key=lambda row: row[0]):
            if self._printed + len(row[3]) > LINES_MAX and row[1] != "dmesg":
                self._left_out += 1
                continue
            self._printed += len(row[3])
            self._line(*row)

    def _line(self, time_ns: int, node: str, context: str, texts: Sequence[str]) -> None:
        head = f"{(time_ns - (self._zero or 0)) / 1000:10.2f}  {node:<5} {context:<8}"
        lines = [line for text in texts for line in wrap(text, 79 - len(head))]
        for number, line in enumerate(lines):
            self._write(f"{head if not number else ' ' * len(head)} {line}\n")

    def end(self) -> None:
        self._flush()
        self._quiet = True

    def _flush(self) -> None:
        if self._left_out:
            self._write(f"{'':12}... {self._left_out} more events (--json has them all)\n")
        self._printed = self._left_out = 0


def perform(
    machine: Machine,
    lab: Lab,
    seed: int | None,
    write: Callable[[str], None] | None = None,
    prepare: Callable[[Machine], None] | None = None,
) -> Performance:
    """Play the lab on a machine that was just made; ``write`` gets what happens as it happens.
    ``prepare`` is called when the machine is ready."""
    if not wait_until_ready(machine):
        raise BottomhalfError(
            "the machine's network did not come up", "a fault of ours: bottomhalf doctor", code=3
        )
    teller = Teller(write or (lambda text: None), lab)
    watch = teller.watch = Watch(machine, lab)
    watch.learn()
    if prepare is not None:
        prepare(machine)
    in_task = {
        cpu: bool(machine.ram.page(cpu, CPU_SCHEMA)["current_pid"])
        for cpu in machine.settings.cpu_names
    }

    def look() -> None:
        found = watch.pull()
        player.records += [(e.node, e.record) for e in found if e.kind == "cpu"]
        teller.told(found)

    player = Player(
        machine,
        lab.scenario,
        teller,
        seed,
        look,
        SLICE_NS.get(machine.runtime),
        lambda record: eventtable.preempt_count(record, lab.params),
    )
    player.want_irqs = True
    player.width = terminal_width()
    player.each_step = watch.learn
    try:
        played = player.play()
    finally:
        watch.stop()
    ledger = settled(machine)
    return _performance(machine, lab, played, ledger, watch, in_task)


def _performance(
    machine: Machine,
    lab: Lab,
    played: Played,
    ledger: Ledger,
    watch: Watch,
    in_task: dict[str, bool],
) -> Performance:
    events = [e for e in watch.events if played.origin_ns <= e.time_ns <= played.over_ns]
    cpus = {}
    for cpu in machine.settings.cpu_names:
        records = [e.record for e in watch.events if e.node == cpu and e.time_ns <= played.over_ns]
        found = contexts.intervals(records, played.origin_ns, played.over_ns, in_task[cpu])
        state = machine.state(cpu)
        if not state.alive:
            found = contexts.with_death(found, state.since_ns)
        cpus[cpu] = found
    begins = [stretch.begin_ns for stretch in played.stretches] or [played.origin_ns]
    loud = [n for n, step in enumerate(lab.scenario.steps, 1) if not step.quiet]
    zero = 0 if lab.scenario.ping or not loud else min(loud[0], len(begins) - 1)
    begin = begins[min(lab.look, len(begins) - 1)]
    return Performance(
        lab=lab,
        played=played,
        ledger=ledger,
        events=events,
        watch=watch,
        cpus=cpus,
        zero_ns=begins[zero],
        begin_ns=begin,
        end_ns=played.over_ns,
        zoom=_zoom(lab, events, cpus, begin),
        workers=_workers(lab, played, watch),
        records_lost=watch.lost,
    )


def _workers(lab: Lab, played: Played, watch: Watch) -> dict[tuple[int, int], list[Picture]]:
    """Steps in which modules' works ran; those that no quiet step parts are one picture."""
    if "workers" not in lab.pictures:
        return {}
    begins = [part.begin_ns for part in played.stretches]
    ends = [*begins[1:], played.over_ns]
    loud = [n for n in range(1, len(begins)) if not lab.scenario.steps[n - 1].quiet]
    spans: list[tuple[int, int]] = []
    for number in loud:
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    found = {
        (first, last): watch.worker_pictures(begins[first], ends[last]) for first, last in spans
    }
    return {steps: pictures for steps, pictures in found.items() if pictures}


def _zoom(
    lab: Lab, events: list[Event], cpus: dict[str, list[Interval]], begin_ns: int
) -> tuple[int, int] | None:
    """The busy time around the first event that the lab zooms in on."""
    name, _, node = lab.zoom.partition(",")
    numbers = {kind: table.get(name) for kind, table in eventtable.EVENTS.items()}
    for event in events:
        if node and event.node != node:
            continue
        point = numbers[event.kind]
        if point is not None and event.record.event == point.number and event.time_ns >= begin_ns:
            first, last = contexts.busy(cpus, event.time_ns, lab.zoom_gap_us * 1000)
            margin = max(1_000, (last - first) // 16)
            return first - margin, last + margin
    return None


def as_json(performance: Performance) -> dict[str, Any]:
    """The whole of it for programs; fields are only ever added. Times in us after the first
    step that is not quiet."""
    lab, played = performance.lab, performance.played
    origin = performance.zero_ns
    facts, pings = played.facts, bool(lab.scenario.ping)

    def us(time_ns: int) -> float:
        return (time_ns - origin) / 1000

    return {
        "lab": lab.name,
        "title": lab.title,
        "sentence": lab.sentence,
        "era": lab.scenario.machine.era,
        "runtime": played.runtime,
        "seed": played.seed,
        "draws": dict(lab.draws),
        "passed": performance.passed,
        "cut_short": played.cut_short or None,
        "phases": [
            {
                "name": part.phase.name,
                "start_us": us(part.begin_ns),
                **({"gap_ms": part.phase.gap_ms, "lost": part.phase.lost} if pings else {}),
            }
            for part in played.stretches
        ],
        "checks": [verdict.as_json() for verdict in played.verdicts],
        "reports": facts.reports() if facts is not None else {},
        "contexts": {
            cpu: [[us(i.begin_ns), us(i.end_ns), i.letter] for i in found]
            for cpu, found in performance.cpus.items()
        },
        "shares_percent": {cpu: contexts.shares(found) for cpu, found in performance.cpus.items()},
        "workers": [
            {
                "steps": list(steps),
                "cpu": shown.cpu,
                "works": shown.works,
                "workers": {
                    name: [[us(i.begin_ns), us(i.end_ns), i.letter] for i in found]
                    for name, found in shown.lanes.items()
                },
                "nr_running": {
                    pool: [[us(s.time_ns), s.value] for s in moves]
                    for pool, moves in shown.pools.items()
                },
                "woken_us": [us(at) for at in shown.woken_ns],
            }
            for steps, pictures in performance.workers.items()
            for shown in pictures
        ],
        "events": [
            {
                "us": us(e.time_ns),
                "node": e.node,
                "context": eventtable.context_of(e.kind, e.record),
                "event": eventtable.NAMES[e.kind][e.record.event],
                "a": e.record.a,
                "b": e.record.b,
            }
            for e in performance.events
        ],
        "records_lost": performance.records_lost,
        "ledger": performance.ledger.as_json(),
    }
