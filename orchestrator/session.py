"""What a running verb has: a machine, a place to write to, the signals it got.

A verb is a generator. It never waits by itself: it yields a ``Wait`` and whoever drives it lets
the machine live until then. So the same verb runs in a shell against a machine of another process,
inside a scenario and in the simulation, and several run side by side.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import NamedTuple

from bus.messages import CPU_MASK_ALL
from orchestrator.errors import hint_line
from orchestrator.machines.machine import Job, Machine, Request

#: How far ``drive`` pumps at once when a verb waits for an event without a deadline.
PUMP_NS = 1_000_000_000
#: How far time goes at once, whatever the slices, while nothing can happen.
QUIET_NS = 250_000_000
#: A node that does not answer within this time of the machine is hung (frozen, or a fault of ours).
ANSWER_TIMEOUT_MS = 3000
#: Whether a wait has become hopeless is looked at so often.
LOOK_NS = 250_000_000
#: Width of what is no terminal.
ENDLESS = 1000


class Wait(NamedTuple):
    """Resume me at ``until_ns`` of the machine's clock, or as soon as ``ready()``."""

    until_ns: int | None = None
    ready: Callable[[], bool] | None = None


#: A verb at work; its value is the exit code.
Steps = Generator[Wait, None, int]


def stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def terminal_width() -> int:
    """Columns of the terminal that stdout is; a pipe has no end."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else ENDLESS


@dataclass
class Session:
    """One command line at work on one machine."""

    machine: Machine
    out: Callable[[str], None] = stdout
    err: Callable[[str], None] = stderr
    json: bool = False
    terminal: bool = False  # hints of kernel-layer commands are shown only there
    cpu: str = "cpu0"  # where programs of the emulated machine run
    cpus_allowed: int = CPU_MASK_ALL  # where they may go when that CPU goes offline
    signals: list[int] = field(default_factory=list)  # sent to the verb, oldest first
    tick: Callable[[], None] | None = None  # called while time passes
    on: str = ""  # ``--on NAME `` if the person had to say it: commands that we print repeat it
    cwd: str = "/"  # of the emulated machine, where names that begin with no slash are looked up
    pump_ns: int = PUMP_NS  # between two calls of ``tick`` at the most
    width: int = ENDLESS  # columns of the terminal; a pipe has as many as it takes
    #: what a verb measured, by its name: quantities of steps (``taps.frames``)
    figures: dict[str, dict[str, int]] = field(default_factory=dict)

    def hint(self, text: str) -> None:
        """A word of ours beside a kernel-layer command's own output."""
        if self.terminal:
            self.err(hint_line(text))

    def did(self, text: str, mend: str = "", **facts: str | int | None) -> None:
        """What was done to the machine, and the command that undoes it; an object a line for
        programs."""
        mend = f"bottomhalf {self.on}{mend}" if mend else ""
        if self.json:
            self.out(json.dumps(facts | {"mend": mend or None}) + "\n")
        else:
            self.out(f"{text}\n")
            if mend:
                self.out(f"  mend: {mend}\n")

    def remark(self, text: str) -> None:
        """A line for people only."""
        if not self.json:
            self.out(f"{text}\n")

    # -- waiting, for use with ``yield from``

    def sleep(self, duration_ns: int) -> Generator[Wait, None, None]:
        """Let ``duration_ns`` of the machine's time pass, or until a signal comes."""
        until = self.machine.now_ns() + duration_ns
        while self.machine.now_ns() < until and not self.signals:
            yield Wait(until, lambda: bool(self.signals))

    def until(self, done: Callable[[], bool], timeout_ms: int) -> Generator[Wait, None, bool]:
        """Wait for ``done()``; False when the time passed first."""
        deadline = self.machine.now_ns() + timeout_ms * 1_000_000
        while not done():
            if self.machine.now_ns() >= deadline:
                return False
            yield Wait(deadline, done)
        return True

    def answer(self, request: Request) -> Generator[Wait, None, Request]:
        """Wait for the answer to a request; one that never comes is marked ``failed``."""
        answered = yield from self.until(lambda: request.done, ANSWER_TIMEOUT_MS)
        if not answered:
            request.done = True
            request.failed = f"{request.node} does not answer"
        return request

    def program(
        self,
        argv: tuple[str, ...],
        cpu: str | None = None,
        show: bool = True,
        hopeless: Callable[[], str] | None = None,
    ) -> Generator[Wait, None, Job]:
        """Run a program of the emulated machine to its end; signals go to it. ``hopeless`` (of
        one that waits for other CPUs) says in words why it will not end: then nobody waits for it
        any more."""
        if cpu is None:
            job = self.machine.spawn(self.cpu, argv, self.cpus_allowed)
        else:
            job = self.machine.spawn(cpu, argv)
        ready = _ready(job, self.signals)
        give_up_ns: int | None = None
        while True:
            if show:
                for stream, text in job.take():
                    (self.out if stream == 1 else self.err)(text)
            if job.done:
                return job
            while self.signals:
                number = self.signals.pop(0)
                self.machine.signal(job, number)
                if number != signal.SIGQUIT and give_up_ns is None:  # ping goes on after that one
                    give_up_ns = self.machine.now_ns() + ANSWER_TIMEOUT_MS * 1_000_000
            if give_up_ns is not None and self.machine.now_ns() >= give_up_ns:
                job.failed = f"{job.cpu} does not answer"
                if hopeless is not None:
                    job.failed = "waits for another CPU where no signal reaches it (D state)"
                return job
            until_ns = give_up_ns
            if hopeless is not None:
                job.failed = hopeless()
                if job.failed:
                    return job
                look_ns = self.machine.now_ns() + LOOK_NS
                until_ns = look_ns if give_up_ns is None else min(give_up_ns, look_ns)
            yield Wait(until_ns, ready)


def _ready(job: Job, signals: list[int]) -> Callable[[], bool]:
    return lambda: bool(job.output) or job.done or bool(signals)


def slice_end(machine: Machine, slice_ns: int) -> int:
    """Where the slice of time that begins now ends; slices in which nothing can happen are
    taken together with the one after them."""
    now = machine.now_ns()
    slices = -(-min(machine.quiet_until() - now, QUIET_NS) // slice_ns)
    return now + slice_ns * max(1, slices)


def drive(session: Session, steps: Steps) -> int:
    """Run one verb to its end; its exit code."""
    machine = session.machine
    while True:
        try:
            wait = next(steps)
        except StopIteration as end:
            code: int = end.value
            return code
        until = slice_end(machine, session.pump_ns)
        if wait.until_ns is not None:
            until = min(until, wait.until_ns)
        machine.pump(until, wait.ready)
        if session.tick is not None:
            session.tick()
