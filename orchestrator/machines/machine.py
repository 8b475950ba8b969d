"""A machine as its operator sees it: the same interface over processes and over the simulation.

``pump`` is the only place where time passes: it lets the machine live and collects what it says.
Everything that takes a while (a request, a job, a scenario) is written as a loop around it, so no
thread is needed anywhere.
"""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bus.messages import CPU_MASK_ALL
from bus.ram import Ram
from nodes.machine import MachineSettings

#: Where commands of a guest run: this name takes a CPU's place.
GUEST_PLACE = "guest"
#: How a NIC ended whose card was pulled.
CARD_OUT = "card out"


def signal_name(number: int) -> str:
    """``SIGKILL``; a number without a name says so."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def how_it_ended(signo: int | None, exit_code: int | None) -> str:
    """``SIGKILL``, or ``exit 1``."""
    if signo:
        return signal_name(signo)
    return f"exit {exit_code}" if exit_code is not None else "ended"


class NodeState(NamedTuple):
    """State of one node's process."""

    name: str
    pid: int | None  # None in the simulation
    incarnation: int
    alive: bool
    frozen: bool
    silent: bool  # does not answer heartbeats
    signal: int | None  # that ended it
    exit_code: int | None
    since_ns: int  # clock at the start, or at the end if it is dead
    pulled: bool = False  # a NIC that is dead because its card was pulled out

    @property
    def cause(self) -> str:
        """How it ended, in words."""
        return CARD_OUT if self.pulled else how_it_ended(self.signal, self.exit_code)


@dataclass
class Request:
    """A question to a node, answered some time during ``pump``; ``failed`` says why it is not."""

    node: str
    number: int
    done: bool = False
    ok: bool = False
    value: Any = None
    failed: str = ""


@dataclass
class Job:
    """A program running as a task on a CPU."""

    cpu: str  # where it runs now: a program moves when its CPU goes offline
    number: int
    argv: tuple[str, ...]
    output: list[tuple[int, str]] = field(default_factory=list)  # (stream, text), taken by readers
    exit_code: int | None = None
    early: list[tuple[str, Any]] = field(default_factory=list)  # of its next CPU (see ``desk``)
    failed: str = ""  # the CPU died under it, or there is no such program

    @property
    def done(self) -> bool:
        return self.exit_code is not None or bool(self.failed)

    def take(self) -> list[tuple[int, str]]:
        """Output since the last call."""
        output, self.output = self.output, []
        return output


class Machine(ABC):
    """One running machine."""

    runtime: str  # "processes" or "simulation"
    settings: MachineSettings
    ram: Ram
    #: Does its guest, where it has one, take our commands? Not a guest that somebody else started.
    own_guest = False

    @abstractmethod
    def now_ns(self) -> int:
        """The machine's clock: monotonic, or virtual."""

    @abstractmethod
    def pump(self, until_ns: int, stop: Callable[[], bool] | None = None) -> None:
        """Live until ``until_ns``, or until ``stop()`` is true after something happened."""

    def quiet_until(self) -> int:
        """Nothing can happen before this time; now, if nobody can tell."""
        return self.now_ns()

    @abstractmethod
    def ask(self, node: str, what: str) -> Request:
        """Ask a node for a snapshot."""

    @abstractmethod
    def cable(self, nic: str, inserted: bool) -> Request:
        """Pull or plug the cable at the switch."""

    @abstractmethod
    def fault(
        self, node: str, kind: str, value: int, for_ns: int, on: bool, port: str = ""
    ) -> Request:
        """Break or mend a part of a device, of the switch at one port; see ``Fault``."""

    @abstractmethod
    def spawn(self, cpu: str, argv: tuple[str, ...], cpus_allowed: int = CPU_MASK_ALL) -> Job:
        """Start a program of the emulated machine; ``cpus_allowed`` as in ``Spawn``."""

    @abstractmethod
    def signal(self, job: Job, signo: int) -> None:
        """Send a signal to a job."""

    @abstractmethod
    def kill(self, node: str) -> None:
        """SIGKILL."""

    @abstractmethod
    def pull(self, nic: str) -> None:
        """Pull a card out of its slot while it runs: its process is gone as by ``kill``."""

    @abstractmethod
    def freeze(self, node: str) -> None:
        """SIGSTOP."""

    @abstractmethod
    def thaw(self, node: str) -> None:
        """SIGCONT."""

    @abstractmethod
    def restart(self, node: str) -> None:
        """A new process for a dead node, the next incarnation; returns when it is ready."""

    @abstractmethod
    def state(self, node: str) -> NodeState:
        """State of the node's process."""

    def states(self) -> Mapping[str, NodeState]:
        """States of all nodes."""
        return {name: self.state(name) for name in self.settings.node_names}

    @abstractmethod
    def archived_page(self, node: str, incarnation: int) -> dict[str, int | list[int]] | None:
        """Page that an earlier incarnation left behind, as ``Page.as_dict`` with its schema."""

    @abstractmethod
    def close(self) -> None:
        """End all nodes and leave nothing behind."""

    def wait(self, done: Callable[[], bool], timeout_ms: int) -> bool:
        """Pump until ``done()``; False when ``timeout_ms`` of the machine's time passed first."""
        deadline = self.now_ns() + timeout_ms * 1_000_000
        if not done():
            self.pump(deadline, done)
        return done()
