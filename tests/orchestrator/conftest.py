"""Fixtures for the tests of what people type and read."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import NamedTuple

import pytest
from fake_machine import FakeMachine

from orchestrator import verbs
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def simulated() -> SimulatedMachine:
    """The machine of the default configuration in virtual time, up."""
    machine = SimulatedMachine(config.load()._replace(name="m1"), seed=7)
    assert wait_until_ready(machine)
    return machine


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def say(machine: FakeMachine) -> Callable[..., Said]:
    """Run one command line on the fake machine, as a shell would."""

    def run(line: str, **options: object) -> Said:
        out: list[str] = []
        err: list[str] = []
        session = Session(machine, out=out.append, err=err.append, **options)  # type: ignore[arg-type]
        try:
            code = drive(session, verbs.start(session, shlex.split(line)))
        except BottomhalfError as error:
            err.append(error.text(session.terminal))
            code = error.code
        return Said(code, "".join(out), "".join(err))

    return run
