"""A scenario on a guest: the same file, the same steps, a real kernel.

Steps of the process and hardware layer go to our processes, those of the kernel layer run in the
guest, and so does the ping (iputils', ``-D``); what it printed is read when it has ended, so that
reading costs nothing while it runs. Phases, gaps and the line that ended one are computed as for an
emulated machine.

Left out: what a guest's page would have to count. A scenario may expect what its ping tells (gap,
lost, loss, sent, received, rtt), ``active``, ``exit``, and what the kernel log has.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.errors import EXPECTATION_FAILED, BottomhalfError
from orchestrator.guest import clock
from orchestrator.guest.clock import Clocks
from orchestrator.guest.machine import GuestMachine
from orchestrator.machines.kernellog import LogLine
from orchestrator.machines.machine import GUEST_PLACE, Job
from orchestrator.scenarios.expect import QUANTITIES, Expectation, Reference, take_apart
from orchestrator.scenarios.phases import Phase, PingTimes, compute
from orchestrator.scenarios.play import at_work
from orchestrator.scenarios.played import Verdict
from orchestrator.scenarios.scenario import REST_NS, Scenario, Step
from orchestrator.session import Session, drive
from orchestrator.verbs.targets import active_slave

BOOT_TIMEOUT_MS = 180_000
_COMMAND_TIMEOUT_MS = 60_000
_PING_FILE = "/run/ping"
#: What ping's last requests have for their replies, the guest being busy.
_LAST_REPLIES_NS = 1_000_000_000
_REPLY = re.compile(
    r"^\[(\d+\.\d+)\] \d+ bytes from .*icmp_seq=(\d+) .*time=([\d.]+) ms( \(DUP!\))?"
)
_SENT = re.compile(r"^(\d+) packets transmitted", re.MULTILINE)
_LOG_LINE = re.compile(r"^<(\d+)>\[\s*(\d+)\.(\d{6})\] (.*)$")
_LEVELS = 7


@dataclass
class GuestPlayed:
    """What a run has shown."""

    scenario: Scenario
    times: PingTimes = field(default_factory=lambda: PingTimes((), {}))
    phases: list[Phase] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    #: the kernel's log since the run began: ns since then, and the line
    log: list[tuple[int, LogLine]] = field(default_factory=list)
    bond: str = ""  # /proc/net/bonding/..., at the end
    cut_short: str = ""

    @property
    def passed(self) -> bool:
        return not self.cut_short and all(verdict.passed for verdict in self.verdicts)


def check(scenario: Scenario) -> None:
    """Raise the message for an expectation that nobody could measure here."""
    for number, step in enumerate(scenario.steps, 1):
        for expectation in step.of_guest().expect:
            found = take_apart(expectation.quantity)
            known = found is not None and found.arguments is None and not found.key
            name = found.name if found is not None else ""
            if (
                not known
                or name not in (*QUANTITIES, "dmesg")
                or isinstance(expectation.limit, Reference)
            ):
                raise BottomhalfError(
                    f"{scenario.name} step {number}: `{expectation.text}` is not measured in a "
                    "guest",
                    "gap lost loss sent received rtt active exit dmesg are",
                )


class GuestPlayer:
    """Plays one scenario on one guest. ``say`` takes (ns since the start, a line)."""

    def __init__(
        self, machine: GuestMachine, scenario: Scenario, say: Callable[[int, str], None]
    ) -> None:
        self.machine = machine
        self.scenario = scenario
        self.played = GuestPlayed(scenario)
        self._say = say
        self._origin = 0
        self._starts: list[tuple[str, int]] = []
        self._actives: list[str | None] = []
        self._codes: list[int | None] = []

    def play(self) -> GuestPlayed:
        """The whole scenario."""
        self._command("true", BOOT_TIMEOUT_MS)  # it has booted
        clocks = clock.compare(self.machine)
        self._origin = self.machine.now_ns()
        ping = self._start_ping()
        self._begin(f"ping {' '.join(self.scenario.ping)}" if ping else "start")
        for number, step in enumerate(self.scenario.steps, 1):
            rest = self.machine.now_ns() + (REST_NS if number > 1 else 0)
            self._live_until(rest if step.at_ns is None else self._origin + step.at_ns)
            self._actives.append(active_slave(self.machine))
            self._do(number, step)
            if self.played.cut_short:
                break
        now = self.machine.now_ns()
        self._live_until(max(self._origin + self.scenario.until_ns, now + REST_NS))
        self._actives.append(active_slave(self.machine))
        self._gather(clocks, ping)
        return self.played

    # -- playing

    def _start_ping(self) -> Job | None:
        if not self.scenario.ping:
            return None
        words = " ".join(self.scenario.ping)
        line = f"exec ping -D {words} >{_PING_FILE} 2>&1"
        return self.machine.spawn(GUEST_PLACE, ("sh", "-c", line))

    def _begin(self, name: str) -> None:
        self._starts.append((name, self.machine.now_ns()))
        self._codes.append(None)

    def _do(self, number: int, step: Step) -> None:
        at = self.machine.now_ns() - self._origin
        self._say(at, f"{number} of {len(self.scenario.steps)}: {step.caption or step.text}")
        self._begin(step.text)
        lines: list[str] = []
        session = Session(self.machine, out=lines.append, err=lines.append, cpu=GUEST_PLACE)
        try:
            self._codes[-1] = drive(session, at_work(session, step))
        except BottomhalfError as error:
            lines.append(error.text())
            self.played.cut_short = f"step {number} (`{step.text}`): {error.what}"
        for line in "".join(lines).splitlines():
            self._say(self.machine.now_ns() - self._origin, line)

    def _live_until(self, until_ns: int) -> None:
        self.machine.pump(until_ns, lambda: self.machine.over)
        if self.machine.over:
            self._command("true")  # says why

    def _command(self, line: str, timeout_ms: int = _COMMAND_TIMEOUT_MS) -> str:
        """Run a line in the guest: what it printed."""
        job = self.machine.spawn(GUEST_PLACE, ("sh", "-c", line))
        if not self.machine.wait(lambda: job.done, timeout_ms) or job.failed:
            raise BottomhalfError(
                job.failed or f"the guest does not answer within {timeout_ms // 1000} s",
                "bottomhalf guest --console shows how far it gets", EXPECTATION_FAILED,
            )  # fmt: skip
        return "".join(text for _, text in job.take())

    # -- afterwards

    def _gather(self, clocks: Clocks, ping: Job | None) -> None:
        played = self.played
        ended = self.machine.now_ns()
        if ping is not None:
            self._live_until(ended + _LAST_REPLIES_NS)
            self.machine.signal(ping, signal.SIGINT)
            self.machine.wait(lambda: ping.done, _COMMAND_TIMEOUT_MS)
            played.times = ping_times(self._command(f"cat {_PING_FILE}"), clocks).until(ended)
        # As if our clock were the kernel's: then phases need no second one.
        log = log_lines(self._command("dmesg -r"))
        placed = [line._replace(time_ns=clocks.since_boot(line.time_ns)) for line in log]
        played.log = [
            (there.time_ns - self._origin, line)
            for line, there in zip(log, placed, strict=True)
            if there.time_ns >= self._origin
        ]
        played.phases = compute(self._starts, played.times, placed, 0)
        for phase, active in zip(played.phases, self._actives, strict=False):
            phase.active = active
            phase.cause = _stamped_by_guest(phase.cause, placed, log)
        bond = self.scenario.machine.bond
        if bond is not None:
            played.bond = self._command(f"cat /proc/net/bonding/{bond.name}")
        self._judge(placed)

    def _judge(self, log: Sequence[LogLine]) -> None:
        ends = [start for _, start in self._starts[1:]] + [self.machine.now_ns()]
        for number, step in enumerate(self.scenario.steps[: len(self._starts) - 1], 1):
            phase, begin, end = self.played.phases[number], self._starts[number][1], ends[number]
            text = "\n".join(line.text for line in log if begin <= line.time_ns < end)
            for expectation in step.of_guest().expect:
                value = self._value(expectation, phase, text, self._codes[number])
                passed = expectation.holds(value)
                self.played.verdicts.append(
                    Verdict(number, expectation, value, passed, phase.cause)
                )

    @staticmethod
    def _value(
        expectation: Expectation, phase: Phase, log: str, code: int | None
    ) -> int | float | str | None:
        if expectation.quantity == "dmesg":
            return log
        return code if expectation.quantity == "exit" else phase.measure(expectation.quantity)


def _stamped_by_guest(cause: str, placed: Sequence[LogLine], log: Sequence[LogLine]) -> str:
    """The line that ended a gap, with the time that the guest's kernel gave it."""
    for there, line in zip(placed, log, strict=True):
        if cause and there.stamped() == cause:
            return line.stamped()
    return cause


def ping_times(text: str, clocks: Clocks) -> PingTimes:
    """Requests and replies from what ``ping -D`` printed. It tells when a reply came and how long
    that took; a request that was lost left between its neighbours."""
    received: dict[int, int] = {}
    sent: dict[int, int] = {}
    duplicates = 0
    for line in text.splitlines():
        found = _REPLY.match(line)
        if found is None:
            continue
        number = int(found[2])
        if found[4]:
            duplicates += 1
            continue
        received[number] = clocks.of_day(float(found[1]))
        sent[number] = received[number] - int(float(found[3]) * 1e6)
    total = _SENT.search(text)
    count = int(total[1]) if total else max(sent, default=0)
    return PingTimes(_filled(sent, count), received, duplicates)


def _filled(sent: dict[int, int], count: int) -> tuple[int, ...]:
    """Times of all requests from 1 on, those that are not known spread evenly."""
    known = sorted(sent)
    if not known:
        return ()
    first, last = known[0], known[-1]
    mean = (sent[last] - sent[first]) // (last - first) if last > first else 0
    times = []
    before = first
    for number in range(1, count + 1):
        if number in sent:
            before = number
            times.append(sent[number])
            continue
        after = next((n for n in known if n > number), 0) if number < last else 0
        if after and before < number:
            step = (sent[after] - sent[before]) / (after - before)
            times.append(sent[before] + int(step * (number - before)))
        else:
            anchor = first if number < first else last
            times.append(sent[anchor] + mean * (number - anchor))
    return tuple(times)


def log_lines(text: str) -> list[LogLine]:
    """Lines of ``dmesg -r`` that are the kernel's own."""
    found = []
    for line in text.splitlines():
        match = _LOG_LINE.match(line)
        if match is not None and not clock.is_mark(match[4]):
            level, seconds, micros, said = match.groups()
            time_ns = int(seconds) * 1_000_000_000 + int(micros) * 1000
            found.append(LogLine(time_ns, int(level) & _LEVELS, said))
    return found
