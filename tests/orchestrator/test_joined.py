"""Two machines on one LAN, in virtual time: a cable between their switches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import verbs
from orchestrator.configuration import config, lanconfig
from orchestrator.ledger import settled
from orchestrator.machines.joined import Together
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive

ROOT = Path(__file__).parents[2]
MS = 1_000_000


def two(seed: int = 5) -> tuple[SimulatedMachine, SimulatedMachine]:
    first = SimulatedMachine(config.load()._replace(name="m1"), seed=seed)
    settings = lanconfig.joined(config.load()._replace(name="m2", hostname="m2"), "m1")
    second = SimulatedMachine(settings, seed=seed)
    Together(first).join(second)
    assert wait_until_ready(first)
    assert wait_until_ready(second)
    return first, second


def ping(machine: SimulatedMachine, host: str, words: str = "-c 5 -i 0.1") -> str:
    job = machine.spawn("cpu0", ("ping", "-q", *words.split(), host))
    assert machine.wait(lambda: job.done, 60_000)
    return "".join(text for _, text in job.take())


def did(machine: SimulatedMachine, line: str) -> str:
    out: list[str] = []
    session = Session(machine, out=out.append, err=out.append)
    drive(session, verbs.start(session, line.split()))
    return "".join(out)


def balanced(*machines: SimulatedMachine) -> None:
    for machine in machines:
        machine.pump(machine.now_ns() + 500 * MS)
    for machine in machines:
        ledger = settled(machine)
        assert ledger.balanced, f"{machine.settings.name}\n{ledger.text()}"


def test_machines_that_join_have_addresses_of_their_own() -> None:
    first = config.load()._replace(name="m1")
    second = lanconfig.joined(config.load()._replace(name="m2"), "m1")
    assert second.bond is not None
    assert second.bond.address == "192.168.1.12/24"
    assert not {nic.mac for nic in first.nics} & {nic.mac for nic in second.nics}


def test_both_ping_each_other_and_the_gateway() -> None:
    first, second = two()
    assert "5 received" in ping(first, "192.168.1.12")
    assert "5 received" in ping(second, "192.168.1.10")
    assert "5 received" in ping(second, "192.168.1.1")
    assert first.now_ns() == second.now_ns()
    balanced(first, second)
    book = settled(second).as_json()["packets"]["requests"]
    assert book["ends"]["to outside"] == 10
    assert book["sources"]["from outside"] == 5


def test_each_fails_over_by_itself() -> None:
    first, second = two()
    ping(first, "192.168.1.12")
    did(first, "cable active out")
    first.pump(first.now_ns() + 400 * MS)
    assert "5 received" in ping(first, "192.168.1.12")
    did(second, "cable active out")
    first.pump(first.now_ns() + 400 * MS)
    assert "5 received" in ping(first, "192.168.1.12")
    balanced(first, second)


def test_the_hosts_screen_names_the_guest_and_a_dead_switch_is_dark() -> None:
    first, second = two()
    ping(first, "192.168.1.12")
    assert "m2      up" in did(first, "top lan --once")
    assert "uplink  up" in did(second, "top lan --once")
    did(second, "kill lan")
    first.pump(first.now_ns() + 10 * MS)
    assert "m2      DOWN" in did(first, "top lan --once")
    assert "0 received" in ping(first, "192.168.1.12", "-c 2 -i 0.1 -W 0.1")
    did(second, "restart lan")
    first.pump(first.now_ns() + 1000 * MS)
    assert "5 received" in ping(first, "192.168.1.12")


def test_the_name_of_the_other_machine_stays_in_what_ping_prints() -> None:
    """As with a line in /etc/hosts; a ping that moves to another CPU takes the name along."""
    first, second = two()
    job = first.spawn("cpu1", ("ping", "-c", "4", "-i", "0.1", "m2"))
    first.pump(first.now_ns() + 150 * MS)
    did(first, "chcpu -d 1")
    assert first.wait(lambda: job.done, 60_000)
    assert job.cpu == "cpu0"
    lines = "".join(text for _, text in job.take()).splitlines()
    assert lines[0] == "PING m2 (192.168.1.12) 56(84) bytes of data."
    for number, line in enumerate(lines[1:5], 1):
        assert line.startswith(f"64 bytes from m2 (192.168.1.12): icmp_seq={number} ttl=64 ")
    assert lines[6] == "--- m2 ping statistics ---"
    text = did(first, "follow ping -n -c 1 m2")
    assert "64 bytes from 192.168.1.12: icmp_seq=1" in text
    assert "64 bytes from m2 (192.168.1.12): icmp_seq=1" in did(first, "follow ping -c 1 m2")
    assert did(first, "arping -c 1 m2").startswith("ARPING 192.168.1.12 from 192.168.1.10 bond0\n")
    assert did(second, "udp_send -w 0.1 m1 9") == (
        "udp_send: recv: Connection refused\n1 sent, 0 received, 1 lost\n"
    )
    assert did(first, "ping m3") == "ping: m3: Name or service not known\n"


def test_the_same_seeds_give_the_same_run() -> None:
    def run() -> list[str]:
        first, second = two(seed=9)
        texts = [ping(first, "192.168.1.12"), ping(second, "192.168.1.10")]
        return [*texts, settled(first).text(), settled(second).text()]

    assert run() == run()


# ---------------------------------------------------------------- processes


@pytest.mark.processes
def test_a_second_machine_of_processes_joins_and_finds_a_restarted_switch(tmp_path: Path) -> None:
    environment = os.environ | {"BOTTOMHALF_RUN_DIR": str(tmp_path / "r"), "PYTHONPATH": str(ROOT)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def pings(*words: str) -> bool:
        ping = ("ping", "-c", "2", "-i", "0.1", "-W", "1")  # not 10 s where no reply comes yet
        return any("2 received" in run(*words[:-1], *ping, words[-1]).stdout for _ in range(60))

    assert "is running" in run("up", "-d", "--name", "m2", "--lan", "m1").stderr
    assert run("up", "-d").returncode == 0
    try:
        said = run("up", "-d", "--name", "m2", "--lan", "m1")
        assert "192.168.1.12/24 on the LAN of m1" in said.stdout
        assert pings("--on", "m1", "m2")
        assert pings("--on", "m2", "m1")
        assert pings("--on", "m2", "gateway")
        assert pings("--on", "m1/gateway", "m2")
        for on in ("m1", "m1/gateway"):
            lines = run("--on", on, "ping", "-c", "1", "m2").stdout.splitlines()
            assert lines[0] == "PING m2 (192.168.1.12) 56(84) bytes of data."
            assert lines[1].startswith("64 bytes from m2 (192.168.1.12): icmp_seq=1 ttl=64 ")
        assert run("--on", "m1", "kill", "lan").returncode == 0
        assert run("--on", "m1", "restart", "lan").returncode == 0
        assert pings("--on", "m2", "m1")
        assert run("down", "m2").returncode == 0
        assert "m2      DOWN" in run("top", "lan", "--once").stdout
        assert pings("--on", "m1", "gateway")
    finally:
        run("down", "m2")
        run("down", "m1")
