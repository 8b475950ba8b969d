"""Starting, signalling and ending programs: user tasks that the orchestrator starts on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus.messages import CPU_MASK_ALL, Signal, TaskExit, TaskOutput
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.kernel.sched import Task, kthread_create, send_signal, wake_up_process
from nodes.cpu.programs.migrate import run_to_end
from nodes.cpu.programs.process import (
    PROGRAMS,
    STDERR,
    STDOUT,
    Process,
    Programs,
    program,
    resumable,
)
from nodes.machine import CONTROL, with_lines

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

__all__ = [
    "PROGRAMS",
    "STDERR",
    "STDOUT",
    "Process",
    "Programs",
    "died",
    "program",
    "resumable",
    "signal",
    "spawn",
    "start_waiting",
]

EXIT_NOT_FOUND = 127


def spawn(
    cpu: Cpu,
    request: int,
    argv: tuple[str, ...],
    cpus_allowed: int = CPU_MASK_ALL,
    hosts: tuple[str, ...] = (),
) -> None:
    """Start a program, once the machine has booted; the arguments are those of ``Spawn``."""
    programs = cpu.programs
    if not programs.active:
        text = "taskset: failed to set pid 0's affinity: Invalid argument\n"
        cpu.post(CONTROL, TaskOutput(request, STDERR, text))
        cpu.post(CONTROL, TaskExit(request, 1))
        return
    if not programs.may_run:
        programs.waiting.append((request, argv, cpus_allowed, hosts))
        return
    process = Process(cpu, request, argv[0] if argv else "?", with_lines(cpu.machine.hosts, hosts))
    process.task = kthread_create(
        cpu, process.name, run_to_end(cpu, process, _main(cpu, process, argv))
    )
    process.task.request = request
    process.task.cpus_allowed = cpus_allowed
    programs.running[request] = process
    wake_up_process(cpu, process.task)


def start_waiting(cpu: Cpu) -> None:
    programs = cpu.programs
    programs.may_run = True
    waiting, programs.waiting = programs.waiting, []
    for arguments in waiting:
        spawn(cpu, *arguments)


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
            return
    cpu.post(CONTROL, Signal(request, signo))  # it has ended, or runs elsewhere: back to the sender


def died(cpu: Cpu, task: Task, signo: int) -> None:
    """An oops ended the task, so its program does not come to its end: tell who waits for it."""
    if task.request is not None and cpu.programs.running.pop(task.request, None) is not None:
        cpu.post(CONTROL, TaskExit(task.request, 128 + signo))


def _main(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    """main() of the program: nothing between it and its task, as each frame is passed at each
    boundary."""
    main = PROGRAMS.get(argv[0], _not_found) if argv else _not_found
    return main(cpu, process, argv)


def _not_found(_cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    process.write(f"{argv[0] if argv else ''}: command not found\n", STDERR)
    yield USER
    return EXIT_NOT_FOUND
