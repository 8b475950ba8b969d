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

from nodes.lan.page import GATEWAY_PORT, LAN_SCHEMA
from nodes.machine import GatewaySettings, LanSettings
from orchestrator import config
from orchestrator.errors import BottomhalfError
from orchestrator.ledger import settled
from orchestrator.processes import ProcessMachine
from orchestrator.ready import wait_until_ready
from orchestrator.simulated import SimulatedMachine
from orchestrator.uplink import PROCESS_NAME, Namespace

ROOT = Path(__file__).parents[2]
#: An echo client and an ARP listener of the host's own kernel, in a language that is there.
PING = """
import os, socket, struct, sys, time
count = int(sys.argv[1])
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
sock.settimeout(2)
def total(data):
    s = sum(struct.unpack(f"!{len(data) // 2}H", data))
    s = (s >> 16) + (s & 0xFFFF)
    return ~(s + (s >> 16)) & 0xFFFF
got = 0
for n in range(count):
    body = struct.pack("!BBHHH", 8, 0, 0, 77, n) + bytes(56)
    body = body[:2] + struct.pack("!H", total(body)) + body[4:]
    sock.sendto(body, ("192.168.1.10", 0))
    end = time.monotonic() + 2
    while time.monotonic() < end:
        try:
            data = sock.recv(2000)
        except TimeoutError:
            break
        if data[20] == 0 and data[24:28] == struct.pack("!HH", 77, n):
            got += 1
            break
print(got)
"""
ARP_LISTENER = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
sock.settimeout(10)
print("listening", flush=True)
while True:
    frame = sock.recv(2000)
    if frame[28:32] == frame[38:42]:
        print("gratuitous", frame[6:12].hex(":"), flush=True)
        break
"""


def why_not() -> str:
    """Why no namespace can be made here; nothing if one can."""
    if sys.platform != "linux" or not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    try:
        Namespace(GatewaySettings()).close()
    except BottomhalfError as error:
        return error.what
    return ""


pytestmark = pytest.mark.processes
WHY_NOT = why_not()
needs_root = pytest.mark.skipif(bool(WHY_NOT), reason=f"TAP uplink: {WHY_NOT}")


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
    settings = config.load()._replace(name="m1", lan=LanSettings(uplink="tap"))
    machine = ProcessMachine(settings, base=tmp_path)
    try:
        assert wait_until_ready(machine)
        yield machine
    finally:
        machine.close()


def start(machine: ProcessMachine, *words: str) -> subprocess.Popen[str]:
    """A program of this host behind the switch."""
    script = "import sys; from pathlib import Path; from orchestrator import uplink; "
    script += "uplink.run(Path(sys.argv[1]), sys.argv[2:])"
    return subprocess.Popen(
        [sys.executable, "-c", script, str(machine.rundir.path), *words],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(machine: ProcessMachine, process: subprocess.Popen[str]) -> str:
    machine.wait(lambda: process.poll() is not None, 60_000)
    assert process.stdout is not None
    with process.stdout:
        return process.stdout.read()


@needs_root
def test_the_real_kernel_and_the_emulated_one_ping_each_other(machine: ProcessMachine) -> None:
    job = machine.spawn("cpu0", ("ping", "-q", "-c", "20", "-i", "0.02", "192.168.1.1"))
    assert machine.wait(lambda: job.done, 30_000)
    assert "20 received, 0% packet loss" in "".join(text for _, text in job.take())
    assert finish(machine, start(machine, sys.executable, "-c", PING, "300")) == "300\n"
    machine.pump(machine.now_ns() + 300_000_000)
    ledger = settled(machine)
    assert ledger.balanced, ledger.text()
    book = ledger.as_json()["packets"]["requests"]
    assert book["sources"]["from outside"] == 300
    assert book["ends"]["to outside"] >= 20


@needs_root
def test_the_namespace_sees_the_gratuitous_arp_of_a_failover(machine: ProcessMachine) -> None:
    job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.02", "192.168.1.1"))
    machine.pump(machine.now_ns() + 500_000_000)
    listener = start(machine, sys.executable, "-c", ARP_LISTENER)
    assert listener.stdout is not None
    assert listener.stdout.readline() == "listening\n"
    machine.cable("eth0", False)
    assert finish(machine, listener) == "gratuitous 52:54:00:00:00:10\n"
    machine.pump(machine.now_ns() + 500_000_000)
    machine.signal(job, signal.SIGINT)
    assert machine.wait(lambda: job.done, 5000)
    page = machine.ram.page("lan", LAN_SCHEMA)
    assert page.run("link")[GATEWAY_PORT] == 1


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
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    assert run("--on", "uplink", "true").returncode == 2


def test_a_simulation_has_no_tap() -> None:
    with pytest.raises(BottomhalfError, match="needs a machine of processes"):
        SimulatedMachine(config.load()._replace(lan=LanSettings(uplink="tap")))
