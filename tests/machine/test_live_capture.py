"""Captures on a machine of processes: live pcapng through a pipe, columns, and verbs around it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP
from scapy.utils import rdpcap

ROOT = Path(__file__).parents[2]
GUARD_S = 60

pytestmark = pytest.mark.processes


class Machine:
    """A machine that runs, and command lines on it."""

    def __init__(self, place: Path) -> None:
        self.environment = os.environ | {
            "BOTTOMHALF_RUN_DIR": str(place / "run"),
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(place / "state"),
        }

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator.cli", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words), env=self.environment, capture_output=True, text=True, check=False,
            timeout=GUARD_S,
        )  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv(*words), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    one = Machine(tmp_path_factory.mktemp("capture"))
    up = one.run("up", "-d")
    assert up.returncode == 0, up.stderr
    assert one.run("ping", "-c", "1", "gateway").returncode == 0
    yield one
    assert one.run("down").returncode == 0


def listening(capture: subprocess.Popen[bytes]) -> None:
    assert capture.stderr is not None
    while b"listening on" not in (line := capture.stderr.readline()):
        assert line, "it ended before it listened"


def test_pcapng_comes_through_a_pipe_while_it_is_captured(machine: Machine, tmp_path: Path) -> None:
    capture = machine.start("tcpdump", "-i", "bond0", "-i", "eth0", "-w", "-", "icmp")
    try:
        listening(capture)
        assert capture.stdout is not None
        head = capture.stdout.read(4)  # Wireshark begins to draw with these
        assert machine.run("ping", "-c", "3", "-i", "0.1", "gateway").returncode == 0
        live = capture.stdout.read1()  # before it is ended
        assert len(live) > 28
        capture.send_signal(signal.SIGINT)
        rest, err = capture.communicate(timeout=GUARD_S)
    finally:
        if capture.poll() is None:
            capture.kill()
    assert capture.returncode == 0
    path = tmp_path / "live.pcapng"
    path.write_bytes(head + live + rest)
    packets = rdpcap(str(path))
    assert len(packets) == 12
    assert all(ICMP in packet for packet in packets)
    assert b"12 packets captured\n" in err
    if shutil.which("tcpdump"):
        done = subprocess.run(
            ["tcpdump", "-nn", "-r", str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.count("ICMP echo") == 12


def test_a_reader_that_goes_away_ends_the_capture(machine: Machine) -> None:
    capture = machine.start("tcpdump", "-i", "any", "-w", "-")
    listening(capture)
    assert capture.stdout is not None
    assert capture.stderr is not None
    capture.stdout.close()
    assert machine.run("ping", "-c", "3", "-i", "0.2", "gateway").returncode == 0
    try:
        assert capture.wait(timeout=GUARD_S) == 0
    finally:
        capture.stderr.close()
        if capture.poll() is None:
            capture.kill()


def test_a_column_for_each_device_and_the_reasons(machine: Machine) -> None:
    said = machine.run("taps", "ping", "-c", "2", "-i", "0.2", "gateway")
    assert said.returncode == 0
    assert "NOT AS THE RULE SAYS" not in said.stdout
    assert said.stdout.count("out eth0  Out     Out     -       Out 2x") == 2
    assert said.stdout.count("in eth0   In      In      -       In 2x") == 2


def test_a_file_is_read_without_a_machine(tmp_path: Path) -> None:
    nowhere = Machine(tmp_path)
    path = ROOT / "tests/data/real-linux/virtio-mq-smp2/tcpdump-5pings-eth0.pcap"
    said = nowhere.run("tcpdump", "-r", str(path), "-c", "2")
    assert said.returncode == 0
    assert said.stdout.count("ICMP echo") == 2
