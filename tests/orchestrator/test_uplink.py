"""The TAP uplink: a real kernel behind the switch, in a namespace that ends with the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.machine import LanSettings
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.machines.uplink import PROCESS_NAME
from tests.orchestrator.uplinks import ROOT, needs_root, uplinked

pytestmark = pytest.mark.processes


def namespaces() -> set[str]:
    """All network namespaces that some process is in."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(path))
        except OSError:
            continue
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[ProcessMachine]:
    with uplinked(tmp_path) as machine:
        yield machine


@needs_root
def test_a_switch_that_is_restarted_has_the_same_device(machine: ProcessMachine) -> None:
    machine.kill("lan")
    machine.restart("lan")
    machine.pump(machine.now_ns() + 1_000_000_000)
    job = machine.spawn("cpu0", ("ping", "-q", "-c", "3", "-i", "0.1", "192.168.1.1"))
    assert machine.wait(lambda: job.done, 60_000)
    assert "3 received" in "".join(text for _, text in job.take())


@needs_root
def test_the_hosts_network_is_left_alone_and_nothing_stays(tmp_path: Path) -> None:
    devices = sorted(os.listdir("/sys/class/net"))
    settings = config.load()._replace(name="m1", lan=LanSettings(uplink="tap"))
    machine = ProcessMachine(settings, base=tmp_path)
    try:
        pid = int((machine.rundir.path / "uplink").read_text())
        assert Path(f"/proc/{pid}/comm").read_text().strip() == PROCESS_NAME
        namespace = os.readlink(f"/proc/{pid}/ns/net")
        assert namespace != os.readlink("/proc/self/ns/net")
        assert sorted(os.listdir("/sys/class/net")) == devices
    finally:
        machine.close()
    assert not Path(f"/proc/{pid}").exists()
    assert namespace not in namespaces()
    assert sorted(os.listdir("/sys/class/net")) == devices


@needs_root
def test_it_dies_with_an_owner_that_is_killed_and_the_verb_reaches_it(tmp_path: Path) -> None:
    environment = os.environ | {"BOTTOMHALF_RUN_DIR": str(tmp_path / "r"), "PYTHONPATH": str(ROOT)}
    file = tmp_path / "tap.toml"
    file.write_text('nics = ["eth0"]\n[lan]\nuplink = "tap"\n')

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    said = run("--json", "up", str(file), "-d")
    assert said.returncode == 0, said.stderr
    owner = json.loads(said.stdout)["pid"]
    try:
        pid = int((tmp_path / "r" / "m1" / "uplink").read_text())
        there = run("--on", "uplink", "readlink", "/proc/self/ns/net").stdout.strip()
        assert there == os.readlink(f"/proc/{pid}/ns/net")
        assert run("--on", "uplink", "no-such-program").returncode == 127
    finally:
        os.kill(owner, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    assert run("--on", "uplink", "true").returncode == 2


def test_a_simulation_has_no_tap() -> None:
    with pytest.raises(BottomhalfError, match="needs a machine of processes"):
        SimulatedMachine(config.load()._replace(lan=LanSettings(uplink="tap")))
