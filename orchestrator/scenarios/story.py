"""Who tells a run while it goes on: nobody, time-stamped lines, or the live dashboard."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

from orchestrator.machines.kernellog import LogLine
from orchestrator.machines.machine import Machine
from orchestrator.scenarios.scenario import Scenario


class Story(Protocol):
    """Who tells what happens; every method may do nothing."""

    def begin(self, machine: Machine, scenario: Scenario) -> None:
        """The machine is up, the ping is about to start."""

    def caption(self, at_ns: int, number: int, of: int, text: str) -> None:
        """Step ``number`` of ``of`` begins."""

    def said(self, at_ns: int, text: str) -> None:
        """A step's command printed a line."""

    def log(self, at_ns: int, line: LogLine) -> None:
        """The kernel logged a line."""

    def tick(self, at_ns: int) -> None:
        """Time has passed."""

    def end(self) -> None:
        """No more comes."""


class Silence:
    """The story that tells nothing."""

    def begin(self, machine: Machine, scenario: Scenario) -> None: ...

    def caption(self, at_ns: int, number: int, of: int, text: str) -> None: ...

    def said(self, at_ns: int, text: str) -> None: ...

    def log(self, at_ns: int, line: LogLine) -> None: ...

    def tick(self, at_ns: int) -> None: ...

    def end(self) -> None: ...


class PlainStory:
    """A line for each thing that happens; for pipes and for screens that cannot do more."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def begin(self, machine: Machine, scenario: Scenario) -> None:
        world = "virtual time" if machine.runtime == "simulation" else "real time"
        processes = len(machine.settings.node_names)
        self._write(
            f"{scenario.name}: {scenario.title or 'a scenario'}\n"
            f"{scenario.machine.name}, era {machine.settings.era}, {processes} "
            f"{'nodes' if machine.runtime == 'simulation' else 'processes'}, {world}\n"
            f"[ {0:6.3f}] ping {' '.join(scenario.ping)}\n"
        )

    def caption(self, at_ns: int, number: int, of: int, text: str) -> None:
        self._write(f"[ {at_ns / 1e9:6.3f}] {number} of {of}: {text}\n")

    def said(self, at_ns: int, text: str) -> None:
        self._write(f"[ {at_ns / 1e9:6.3f}]   {text}\n")

    def log(self, at_ns: int, line: LogLine) -> None:
        self._write(f"[ {at_ns / 1e9:6.3f}]   kernel: {line.text}\n")

    def tick(self, at_ns: int) -> None:
        """Lines say enough."""

    def end(self) -> None:
        """Nothing is open."""


class LiveStory:
    """The overview on the terminal, its first line carrying the caption."""

    def __init__(self) -> None:
        self._caption = "replies come over the active NIC"
        self._top: Any = None
        self._entered = False

    def begin(self, machine: Machine, scenario: Scenario) -> None:
        from orchestrator.dashboards.live import Top  # noqa: PLC0415
        from orchestrator.verbs.process import view_of  # noqa: PLC0415

        self._top = Top(view_of(machine), caption=lambda: self._caption)
        self._top.__enter__()
        self._entered = True

    def caption(self, at_ns: int, number: int, of: int, text: str) -> None:
        self._caption = f"{number} of {of}: {text}"

    def said(self, at_ns: int, text: str) -> None:
        if self._top is not None:
            self._top.say(text)

    def log(self, at_ns: int, line: LogLine) -> None:
        """The screen shows the log itself."""

    def tick(self, at_ns: int) -> None:
        if self._entered:
            self._top.step()
            if self._top.outcome is not None:
                raise KeyboardInterrupt

    def end(self) -> None:
        if self._entered:
            self._entered = False
            self._top.__exit__(None, None, None)


def for_terminal() -> bool:
    """Can the live picture be shown here?"""
    return sys.stdin.isatty() and sys.stdout.isatty()
