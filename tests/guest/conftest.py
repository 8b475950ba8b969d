"""One guest for all tests that need a real kernel: it boots once, in 10 to 30 s.

They run only when asked for (``-m guest``, ``make guest-test``), because they take minutes and
fetch 125 MB the first time; where QEMU or the kernel cannot be had, they skip and say why.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.lan.page import LAN_SCHEMA
from nodes.machine import LAN
from orchestrator.errors import BottomhalfError
from orchestrator.guest import fetch
from orchestrator.machines import running
from orchestrator.machines.rundir import RUN_DIR_VARIABLE

TIMEOUT_S = 240


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "guest" in config.getoption("markexpr", ""):
        return
    skip = pytest.mark.skip(reason="boots a real kernel for minutes: make guest-test")
    for item in items:
        if "guest" in item.keywords and item.get_closest_marker("guest"):
            item.add_marker(skip)


class Guest:
    """A running guest, by way of the command line."""

    def __init__(self, base: Path) -> None:
        self._environment = {**os.environ, RUN_DIR_VARIABLE: str(base)}

    def bh(self, *words: str, code: int | None = 0) -> str:
        """A command of ours: its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=self._environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        if code is not None:
            assert done.returncode == code, (
                f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command of ours that goes on."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=self._environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def sh(self, line: str, code: int | None = 0) -> str:
        """A line for the guest's shell: what it printed."""
        return self.bh("guest", "exec", line, code=code)

    def lan_counts(self, port: int) -> tuple[int, int]:
        """Frames that the switch took from a port and gave to it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(RUN_DIR_VARIABLE, self._environment[RUN_DIR_VARIABLE])
            with running.connect(None) as machine:
                page = machine.ram.page(LAN, LAN_SCHEMA)
                taken, given = (
                    sum(page.run(name)[3 * port : 3 * port + 3])
                    for name in ("frames_in", "frames_out")
                )
        return taken, given


@pytest.fixture(scope="session")
def cached() -> fetch.Fetched:
    """QEMU, kernel and tools; the test is skipped where they cannot be had."""
    try:
        return fetch.everything()
    except BottomhalfError as error:
        pytest.skip(f"{error.what} ({error.hint})")


@pytest.fixture(scope="session")
def guest(cached: fetch.Fetched, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A guest of two CPUs whose bond0 has two NICs of ours."""
    found = Guest(tmp_path_factory.mktemp("run"))
    found.bh("guest", "-d", "--bond", "mode=active-backup miimon=100")
    try:
        yield found
    finally:
        found.bh("down", code=None)
