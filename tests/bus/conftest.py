"""Machines of real processes for the tests, and the proof that nothing of them is left."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.machines.processes import ProcessMachine
from tests.bus.toys import settings, toys

_numbers = itertools.count()
Starter = Callable[..., ProcessMachine]


def unique_name() -> str:
    """A machine name that no other test uses, in this or another test process."""
    return f"test-{os.getpid()}-{next(_numbers)}"


def processes_of(directory: Path) -> list[int]:
    """pids of all processes but this one that have anything in ``directory`` open."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            targets = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
        except OSError:
            continue  # it ended while we looked, or is not ours
        if any(target.startswith(str(directory)) for target in targets):
            found.append(int(entry.name))
    return found


def assert_nothing_is_left(machine: ProcessMachine) -> None:
    assert not machine.rundir.path.exists()
    assert processes_of(machine.rundir.path) == []


@pytest.fixture
def start() -> Iterator[Starter]:
    """Start machines of toys; each is closed at the end and must leave nothing behind."""
    machines: list[ProcessMachine] = []

    def starter(special: dict[str, Any] | None = None, **options: Any) -> ProcessMachine:
        made = settings(options.pop("name", None) or unique_name())
        machine = ProcessMachine(made, toys(made, **(special or {})), **options)
        machines.append(machine)
        return machine

    yield starter
    for machine in machines:
        machine.close()
        machine.close()
        assert_nothing_is_left(machine)
