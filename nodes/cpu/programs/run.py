"""Programs of the emulated machine: user tasks that the orchestrator starts on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bus.messages import TEXT_CHARS_MAX, TaskExit, TaskOutput
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.rcu import call_rcu
from nodes.cpu.kernel.sched import Task, kthread_create, send_signal, wake_up_process
from nodes.machine import CONTROL

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

STDOUT, STDERR = 1, 2
EXIT_NOT_FOUND = 127

#: name -> main(cpu, task, argv), a context that returns the exit code
Main = Callable[["Cpu", "Process", tuple[str, ...]], Context]
PROGRAMS: dict[str, Main] = {}


def program(name: str) -> Callable[[Main], Main]:
    """Register a program."""

    def register(function: Main) -> Main:
        PROGRAMS[name] = function
        return function

    return register


class Process:
    """One running program: its task, its output, and what it wants to show."""

    def __init__(self, cpu: Cpu, request: int) -> None:
        self.cpu = cpu
        self.request = request
        self.task: Task
        self.state: Any = None  # what a snapshot may ask for

    def write(self, text: str, stream: int = STDOUT) -> None:
        """write(2) to the terminal that the orchestrator holds."""
        for at in range(0, len(text), TEXT_CHARS_MAX):
            piece = text[at : at + TEXT_CHARS_MAX]
            self.cpu.post(CONTROL, TaskOutput(self.request, stream, piece))


class Programs:
    """Programs of one CPU: running ones by request, and those that wait for the end of boot."""

    def __init__(self) -> None:
        self.running: dict[int, Process] = {}
        self.waiting: list[tuple[int, tuple[str, ...]]] = []
        self.may_run = False
        self.last_ping: object | None = None  # PingTimes of the last ping


def spawn(cpu: Cpu, request: int, argv: tuple[str, ...]) -> None:
    """Start a program, once the machine has booted."""
    programs = cpu.programs
    if not programs.may_run:
        programs.waiting.append((request, argv))
        return
    process = Process(cpu, request)
    process.task = kthread_create(cpu, argv[0] if argv else "?", _run(cpu, process, argv))
    process.task.request = request
    programs.running[request] = process
    wake_up_process(cpu, process.task)


def start_waiting(cpu: Cpu) -> None:
    programs = cpu.programs
    programs.may_run = True
    waiting, programs.waiting = programs.waiting, []
    for request, argv in waiting:
        spawn(cpu, request, argv)


def signal(cpu: Cpu, request: int, signo: int) -> None:
    """kill(2) for a spawned program."""
    process = cpu.programs.running.get(request)
    if process is not None:
        send_signal(cpu, process.task, signo)
        return
    for waiting in list(cpu.programs.waiting):
        if waiting[0] == request:
            cpu.programs.waiting.remove(waiting)
            cpu.post(CONTROL, TaskExit(request, 128 + signo))


def died(cpu: Cpu, task: Task, signo: int) -> None:
    """An oops ended the task, so its program does not come to its end: tell who waits for it."""
    if task.request is not None and cpu.programs.running.pop(task.request, None) is not None:
        cpu.post(CONTROL, TaskExit(task.request, 128 + signo))


def _run(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    main = PROGRAMS.get(argv[0]) if argv else None
    if main is None:
        process.write(f"{argv[0] if argv else ''}: command not found\n", STDERR)
        code = EXIT_NOT_FOUND
    else:
        code = yield from main(cpu, process, argv)
    cpu.programs.running.pop(process.request, None)
    call_rcu(cpu, delayed_put_task_struct)
    cpu.post(CONTROL, TaskExit(process.request, code))


def delayed_put_task_struct(_cpu: Cpu) -> None:
    """Nobody can still be looking at the task: its memory is free (Python frees it)."""
