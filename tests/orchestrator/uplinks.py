"""A machine whose switch is plugged into a real kernel, and programs of this host there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodes.machine import GatewaySettings, LanSettings
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.uplink import Namespace

ROOT = Path(__file__).parents[2]
_ENTER = (
    "import sys; from pathlib import Path; from orchestrator.machines import uplink; "
    "uplink.run(Path(sys.argv[1]), sys.argv[2:])"
)


def why_not() -> str:
    """Why no namespace can be made here; nothing if one can."""
    if sys.platform != "linux" or not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    try:
        Namespace(GatewaySettings()).close()
    except BottomhalfError as error:
        return error.what
    return ""


WHY_NOT = why_not()
needs_root = pytest.mark.skipif(bool(WHY_NOT), reason=f"TAP uplink: {WHY_NOT}")


def needs(program: str) -> pytest.MarkDecorator:
    """A real program as a judge."""
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"no {program} here (make test-deps)")


@contextmanager
def uplinked(base: Path, miimon: int = 100) -> Iterator[ProcessMachine]:
    """The default machine with a TAP uplink, booted."""
    settings = config.load()._replace(name="m1", lan=LanSettings(uplink="tap"))
    assert settings.bond is not None
    settings = settings._replace(bond=settings.bond._replace(miimon=miimon))
    machine = ProcessMachine(settings, base=base)
    try:
        assert wait_until_ready(machine)
        yield machine
    finally:
        machine.close()


class Program:
    """A program of this host behind the switch; ended with the ``with``."""

    def __init__(self, machine: ProcessMachine, *words: str) -> None:
        self._machine = machine
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ENTER, str(machine.rundir.path), *words],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def until(self, text: str) -> str:
        """The line that holds ``text``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"it ended without `{text}`")

    def rest(self, signo: int | None = None) -> str:
        """What it says until it ends, by itself or by a signal; less than a pipe holds."""
        if signo is not None:
            self.process.send_signal(signo)
        assert self._machine.wait(lambda: self.process.poll() is not None, 60_000)
        assert self.process.stdout is not None
        return self.process.stdout.read()


def run_there(machine: ProcessMachine, *words: str) -> tuple[int, str]:
    """Exit code and output of a program that ends."""
    with Program(machine, *words) as program:
        said = program.rest()
        return program.process.wait(), said
