"""The scenario's player: starts the ping if there is one, does each step at its time, asks
afterwards what it cost.

It plays on any ``Machine``. Time passes in slices, between which captures are emptied, new kernel
lines are shown and a live picture may be drawn; the machine never waits for any of that.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from bus.recorder import Record
from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.cpu.page import CPU_SCHEMA
from orchestrator import verbs
from orchestrator.errors import OK, BottomhalfError
from orchestrator.machines.counts import Counts
from orchestrator.machines.kernellog import KernelLog, LogLine
from orchestrator.machines.machine import Job, Machine, Request
from orchestrator.scenarios.facts import Facts, Stretch
from orchestrator.scenarios.phases import PingTimes, compute
from orchestrator.scenarios.played import INTERRUPTED, Played
from orchestrator.scenarios.scenario import REST_NS, Scenario, Step
from orchestrator.scenarios.story import Silence, Story
from orchestrator.session import ENDLESS, Session, Steps, Wait, drive, slice_end
from orchestrator.verbs.targets import active_slave

SLICE_NS = {"processes": 16_000_000, "simulation": 250_000_000}
#: After the last request: replies on their way, and edges of the ledger, come to rest.
DRAIN_NS = 300_000_000
_END_TIMEOUT_MS = 5000
#: How long the end waits for the last request's reply, and how often it looks.
_SETTLE_NS, _SETTLE_SLICE_NS = 1_000_000_000, 500_000


@dataclass
class Begun:
    """A phase that has begun, and what its step left behind."""

    name: str
    start_ns: int
    counts: Counts  # when it began
    code: int | None = None  # exit code of the step
    figures: dict[str, dict[str, int]] = field(default_factory=dict)  # of the step's verb


class Player:
    """Plays one scenario on one machine."""

    def __init__(
        self,
        machine: Machine,
        scenario: Scenario,
        story: Story | None = None,
        seed: int | None = None,
        each_slice: Callable[[], None] | None = None,
        slice_ns: int | None = None,
        preempt: Callable[[Record], int | None] | None = None,
    ) -> None:
        self.machine = machine
        self.scenario = scenario
        self.story: Story = story or Silence()
        self.played = Played(scenario, machine.runtime, seed)
        self.log = KernelLog(machine.ram)
        self.lines: list[LogLine] = []
        self._each_slice = each_slice
        self._slice_ns = slice_ns or SLICE_NS.get(machine.runtime, 16_000_000)
        self._preempt = preempt
        self._origin = 0
        self._ended_ns: int | None = None
        self._begun: list[Begun] = []
        self._over: Begun | None = None  # what came behind the last phase
        self._actives: list[str | None] = []
        self._ping: Job | None = None
        self._jobs: list[Job] = []  # in the background
        self._irqs: dict[str, int] = {}
        #: names of interrupts are wanted even if no step expects anything of them
        self.want_irqs = False
        self.width = ENDLESS
        #: called when a step is about to be done
        self.each_step: Callable[[], None] = lambda: None
        #: records of the CPUs that somebody collects while it plays (``facts``)
        self.records: list[tuple[str, Record]] = []

    # -- playing

    def play(self) -> Played:
        """The whole scenario; Ctrl-C cuts it short and what was seen is kept."""
        self._look()
        self.story.begin(self.machine, self.scenario)
        try:
            self._play()
        except KeyboardInterrupt:
            self.played.cut_short = INTERRUPTED
        finally:
            self.story.end()
            self.story = Silence()
        self._gather()
        return self.played

    def _play(self) -> None:
        scenario, machine = self.scenario, self.machine
        self._origin = self.played.origin_ns = machine.now_ns()
        if scenario.ping:
            self._ping = machine.spawn(scenario.cpu, ("ping", "-q", *scenario.ping))
        self._begin_phase(f"ping {' '.join(scenario.ping)}" if scenario.ping else "start")
        for number, step in enumerate(scenario.steps, 1):
            if step.at_ns is None:
                self._live_until(machine.now_ns() + (REST_NS if number > 1 else 0))
            else:
                self._live_until(self._origin + step.at_ns)
            self._actives.append(active_slave(machine))
            self._do(number, step)
        self._live_until(max(self._origin + scenario.until_ns, machine.now_ns() + REST_NS))
        for job in self._jobs:
            self._end_job(job)
        self._end_phases()
        if self._ping is not None:
            self._end_ping()

    def _end_phases(self) -> None:
        """The last phase ends here; what follows only lets things come to rest."""
        self.played.over_ns = self.machine.now_ns()
        self._learn_irqs()
        self._over = Begun("", self.played.over_ns + 1, Counts.of(self.machine))

    def _begin_phase(self, name: str) -> None:
        self._begun.append(Begun(name, self.machine.now_ns(), Counts.of(self.machine)))

    def _do(self, number: int, step: Step) -> None:
        self._learn_irqs()
        self.each_step()
        self.story.caption(self._at(), number, len(self.scenario.steps), step.caption or step.text)
        before = self.machine.states()
        self._begin_phase(step.text)
        lines: list[str] = []
        cpu = step.cpu or self.scenario.cpu
        session = Session(self.machine, out=lines.append, err=lines.append, cpu=cpu)
        session.tick = self._tick
        session.pump_ns = self._slice_ns
        session.width = self.width
        try:
            if step.background:
                self._jobs.append(self.machine.spawn(cpu, step.argv))
            else:
                self._begun[-1].code = drive(session, at_work(session, step))
                self._begun[-1].figures = session.figures
        except BottomhalfError as error:
            lines.append(error.text())
            self.played.cut_short = f"step {number} (`{step.text}`): {error.what}"
        after = self.machine.states()
        self.played.buried += [
            state
            for name, state in before.items()
            if not state.alive and after[name].incarnation != state.incarnation
        ]
        self._tick()
        for line in "".join(lines).splitlines():
            self.story.said(self._at(), line)

    def _learn_irqs(self) -> None:
        """Numbers of the interrupts by name, while they exist; asked for only if somebody wants
        to know."""
        expected = any("irqs(" in e.text for step in self.scenario.steps for e in step.expect)
        if not (self.want_irqs or expected):
            return
        session = Session(self.machine)

        def gather() -> Generator[Wait, None, int]:
            boot = self.machine.settings.cpu_names[0]
            answer = yield from session.answer(self.machine.ask(boot, "kernel"))
            if answer.ok:
                self._irqs |= {name: row[0] for row in answer.value["irqs"] for name in row[3]}
            return OK

        drive(session, gather())

    def _end_job(self, job: Job) -> None:
        if not job.done:
            self.machine.signal(job, signal.SIGINT)
            self.machine.wait(lambda: job.done, _END_TIMEOUT_MS)
        for _, text in job.take():
            for line in text.splitlines():
                self.story.said(self._at(), line)

    def _end_ping(self) -> None:
        ping = self._ping
        assert ping is not None
        if ping.failed:
            self.played.cut_short = self.played.cut_short or f"ping: {ping.failed}"
        elif not ping.done:
            self._let_settle()
            self._ended_ns = self.machine.now_ns()
            self.machine.signal(ping, signal.SIGINT)
            self.machine.wait(lambda: ping.done, _END_TIMEOUT_MS)
        elif ping.exit_code == 2:
            said = "".join(text for stream, text in ping.take() if stream == 2).strip()
            self.played.cut_short = self.played.cut_short or said or "ping ended with 2"

    def _let_settle(self) -> None:
        """End between two pings: SIGINT would count a request under way as lost."""
        page = self.machine.ram.page(self.scenario.cpu, CPU_SCHEMA)
        give_up = self.machine.now_ns() + _SETTLE_NS
        while page["ping_last_reply_ns"] < page["ping_last_sent_ns"]:
            if self.machine.now_ns() >= give_up or not self.machine.state(self.scenario.cpu).alive:
                return
            self._live_until(self.machine.now_ns() + _SETTLE_SLICE_NS)

    # -- time

    def _at(self) -> int:
        return self.machine.now_ns() - self._origin

    def _live_until(self, until_ns: int) -> None:
        machine = self.machine
        while machine.now_ns() < until_ns:
            machine.pump(min(until_ns, slice_end(machine, self._slice_ns)))
            self._tick()

    def _tick(self) -> None:
        self._look()
        if self._ping is not None:
            self._ping.take()  # -q: only its first line
        if self._each_slice is not None:
            self._each_slice()
        self.story.tick(self._at())

    def _look(self) -> None:
        for line in self.log.new():
            self.lines.append(line)
            if self._origin:
                self.story.log(line.time_ns + self.machine.ram.boot_ns - self._origin, line)

    # -- afterwards

    def _gather(self) -> None:
        if not self._begun:
            return
        machine, played = self.machine, self.played
        if not played.over_ns:
            self._end_phases()
        if played.cut_short == INTERRUPTED and self._ping is not None:
            self._end_ping()
        self._actives.append(active_slave(machine))
        self._live_until(machine.now_ns() + DRAIN_NS)
        self._look()
        if self._ping is not None:
            played.times = ping_times(machine, self._ping.cpu).until(self._ended_ns)
        starts = [(begun.name, begun.start_ns) for begun in self._begun]
        played.phases = compute(starts, played.times, self.lines, machine.ram.boot_ns)
        for phase, active in zip(played.phases, self._actives, strict=False):
            phase.active = active
        played.judge(self._measure())

    def _measure(self) -> Facts:
        """Cut counters, log and records into phases."""
        played, machine = self.played, self.machine
        assert self._over is not None
        boot_ns = machine.ram.boot_ns
        following = [*self._begun[1:], self._over]
        for phase, begun, after in zip(played.phases, self._begun, following, strict=True):
            begin, end = begun.start_ns, after.start_ns
            played.stretches.append(
                Stretch(
                    phase,
                    begun.counts,
                    after.counts,
                    [line for line in self.lines if begin <= line.time_ns + boot_ns < end],
                    [row for row in self.records if begin <= row[1].time_ns < end],
                    begun.code,
                    begin,
                    begun.figures,
                )
            )
        settings = machine.settings
        params = with_overrides(PRESETS[settings.era], settings.overrides)
        return Facts(played.stretches, params, self._irqs, self._preempt)


def at_work(session: Session, step: Step) -> Steps:
    """A step's command at work: a verb, or else a program of the machine."""
    if step.argv[0] in verbs.TABLE:
        return verbs.start(session, step.argv)
    return _program(session, step.argv)


def _program(session: Session, argv: tuple[str, ...]) -> Steps:
    job = yield from session.program(argv)
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf ps", code=1)
    assert job.exit_code is not None
    return job.exit_code


def ping_times(machine: Machine, cpu: str) -> PingTimes:
    """Ask the CPU for the times of every request and reply of its last ping."""
    session = Session(machine)
    sent: list[int] = []
    received: dict[int, int] = {}
    duplicates = 0

    def gather() -> Generator[Wait, None, int]:
        nonlocal duplicates
        while True:
            first = len(sent) + 1
            request: Request = yield from session.answer(machine.ask(cpu, f"ping:{first}"))
            if request.failed or not request.ok:
                return 1
            value: dict[str, Any] = request.value
            for number, (left, came) in enumerate(
                zip(value["sent"], value["received"], strict=True), first
            ):
                sent.append(left)
                if came:
                    received[number] = came
            duplicates = value["duplicates"]
            if len(sent) >= value["total"]:
                return 0

    drive(session, gather())
    return PingTimes(tuple(sent), received, duplicates)
