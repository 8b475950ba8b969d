"""UDP and fragments through bond0, and what goes through lo, on real processes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from orchestrator import ledger
from orchestrator.machines.machine import Job
from orchestrator.machines.processes import ProcessMachine
from tests.machine.settings import bonded_pair

GUARD_MS = 60_000
GATEWAY = "192.168.1.1"


def run(machine: ProcessMachine, cpu: str, *argv: str) -> tuple[Job, list[str]]:
    job = machine.spawn(cpu, argv)
    assert machine.wait(lambda: job.done, GUARD_MS)
    return job, "".join(piece for _, piece in job.take()).splitlines()


def udp_sockets(machine: ProcessMachine) -> Any:
    request = machine.ask("cpu0", "kernel")
    assert machine.wait(lambda: request.done, GUARD_MS)
    return request.value["udp_sockets"]


@pytest.mark.processes
def test_datagrams_and_long_pings_cross_the_bond() -> None:
    settings = bonded_pair(f"datagrams-{os.getpid()}")
    machine = ProcessMachine(settings)
    try:
        job, lines = run(machine, "cpu1", "udp_send", "-q", "-c", "50", "-i", "0", GATEWAY, "7")
        assert (job.exit_code, lines[-1]) == (0, "50 sent, 50 received, 0 lost")
        job, lines = run(machine, "cpu0", "udp_send", GATEWAY, "99")
        assert lines[0] == "udp_send: recv: Connection refused"
        for cpu in ("cpu0", "cpu1"):
            job, lines = run(machine, cpu, "ping", "-c", "5", "-i", "0.01", "-s", "4000", GATEWAY)
            assert job.exit_code == 0
            assert lines[1].startswith("4008 bytes from 192.168.1.1: icmp_seq=1 ttl=64 time=")
            assert "5 packets transmitted, 5 received, 0% packet loss" in "\n".join(lines)
            job, lines = run(machine, cpu, "ping", "-c", "5", "-i", "0.01", settings.name)
            assert lines[1].startswith("64 bytes from m1 (192.168.1.10): icmp_seq=1 ")
            assert "5 packets transmitted, 5 received, 0% packet loss" in "\n".join(lines)
        machine.spawn("cpu1", ("udp_echo", "7"))  # through lo, and to the CPU of its program
        while not udp_sockets(machine):
            pass
        job, lines = run(machine, "cpu0", "udp_send", "-c", "3", "-s", "30000", "127.0.0.1", "7")
        assert (job.exit_code, lines[-1]) == (0, "3 sent, 3 received, 0 lost")
        assert ledger.settled(machine).faults == []
    finally:
        machine.close()
