"""A program of the emulated machine, as the kernel of its CPU and the orchestrator know it.

A program that can last moves when its CPU goes offline (``programs.migrate``). It cannot be moved
from outside, because a generator does not leave its process; so at a safe point, in user mode with
nothing half done, it calls ``may_move``, which ends it there by ``MovingError`` with its state as
plain values; on the other CPU its function of ``RESUMES`` goes on from them. A program without one
is short: its CPU stays online until it has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bus.messages import TEXT_CHARS_MAX, TaskOutput
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.sched import Task
from nodes.machine import CONTROL

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

STDOUT, STDERR = 1, 2

#: name -> main(cpu, task, argv), a context that returns the exit code
Main = Callable[["Cpu", "Process", tuple[str, ...]], Context]
PROGRAMS: dict[str, Main] = {}
#: name -> resume(cpu, process, state): take the state over at once, and return the rest of main()
Resume = Callable[["Cpu", "Process", Any], Context]
RESUMES: dict[str, Resume] = {}


def program(name: str) -> Callable[[Main], Main]:
    """Register a program."""

    def register(function: Main) -> Main:
        PROGRAMS[name] = function
        return function

    return register


def resumable(name: str) -> Callable[[Resume], Resume]:
    """Register how a program goes on after a move."""

    def register(function: Resume) -> Resume:
        RESUMES[name] = function
        return function

    return register


class MovingError(Exception):
    """The program leaves this CPU with ``state``. ``moved(target)``, if there is one, runs here
    when it has arrived: for what came for it meanwhile."""

    def __init__(self, state: Any, moved: Callable[[int], Context] | None) -> None:
        super().__init__()
        self.state = state
        self.moved = moved


class Process:
    """One running program: its task, its output, what it wants to show, and its /etc/hosts
    (addresses by name)."""

    def __init__(self, cpu: Cpu, request: int, name: str, hosts: dict[str, str]) -> None:
        self.cpu = cpu
        self.request = request
        self.name = name
        self.hosts = hosts
        self.task: Task
        self.state: Any = None  # what a snapshot may ask for

    def may_move(
        self, pack: Callable[[], Any], moved: Callable[[int], Context] | None = None
    ) -> None:
        """A safe point: if the program is to leave its CPU, it does so here, with ``pack()``."""
        if self.task.dest_cpu is not None:
            raise MovingError(pack(), moved)

    def write(self, text: str, stream: int = STDOUT) -> None:
        """write(2) to the terminal that the orchestrator holds."""
        for at in range(0, len(text), TEXT_CHARS_MAX):
            piece = text[at : at + TEXT_CHARS_MAX]
            self.cpu.post(CONTROL, TaskOutput(self.request, stream, piece))


class Programs:
    """Programs of one CPU: running ones by request, and those that wait for the end of boot."""

    def __init__(self) -> None:
        self.running: dict[int, Process] = {}
        self.waiting: list[tuple[int, tuple[str, ...], int, tuple[str, ...]]] = []
        self.may_run = False
        self.arriving: dict[int, bytearray] = {}  # pieces of those that move here, by request
        self.active = True  # cpu_active_mask: programs may be placed here
        self.mover: Task | None = None  # waits until there are none
        self.last_ping: object | None = None  # PingTimes of the last ping
