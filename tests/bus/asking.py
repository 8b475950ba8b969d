"""Short forms for talking to a machine of toys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.machines.machine import Job
from orchestrator.machines.processes import ProcessMachine

#: For what takes milliseconds; only a fault makes a test wait that long.
GUARD_MS = 30_000


def ask(machine: ProcessMachine, node: str, what: str) -> Any:
    request = machine.ask(node, what)
    assert machine.wait(lambda: request.done, GUARD_MS), f"{node} does not answer"
    assert request.ok, request.failed
    return request.value


def command(machine: ProcessMachine, node: str, *argv: str) -> Job:
    job = machine.spawn(node, argv)
    assert machine.wait(lambda: job.done, GUARD_MS), f"{node} does not finish {argv}"
    assert not job.failed, job.failed
    return job


def until(machine: ProcessMachine, done: Callable[[], bool]) -> None:
    """Pump until ``done``, which may itself ask nodes."""
    deadline = machine.now_ns() + GUARD_MS * 1_000_000
    while not done():
        assert machine.now_ns() < deadline, "the event does not come"
        machine.pump(machine.now_ns() + 1_000_000)


def writes(machine: ProcessMachine, node: str) -> list[int]:
    """Values of the MemWrites that ``node`` heard."""
    return [entry[2][2] for entry in ask(machine, node, "heard") if entry[1] == "MemWrite"]
