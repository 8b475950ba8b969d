"""A machine of processes that probes its NICs with every register access of the real driver."""

from __future__ import annotations

import os

import pytest

from orchestrator.machines.machine import Job
from orchestrator.machines.processes import ProcessMachine
from tests.machine.settings import bonded_pair

GUARD_MS = 60_000


def run(machine: ProcessMachine, *argv: str) -> tuple[Job, str]:
    job = machine.spawn("cpu0", argv)
    assert machine.wait(lambda: job.done, GUARD_MS), f"{argv} does not end"
    return job, "".join(text for _, text in job.take())


@pytest.mark.processes
def test_a_full_probe_in_processes_brings_the_bond_up_and_ethtool_passes() -> None:
    machine = ProcessMachine(bonded_pair(f"full-{os.getpid()}")._replace(fast_probe=False))
    try:
        job, _ = run(machine, "ping", "-c", "1", "192.168.1.1")
        assert job.exit_code == 0
        job, text = run(machine, "ethtool", "-G", "eth0", "rx", "1024", "tx", "256")
        assert (job.exit_code, text) == (0, "")
        job, text = run(machine, "ethtool", "-g", "eth0")
        assert "RX:\t\t1024\n" in text
        assert "TX:\t\t256\n" in text
        job, text = run(machine, "ethtool", "-t", "eth1")
        assert job.exit_code == 0, text
        job, text = run(machine, "ping", "-c", "5", "-i", "0.2", "192.168.1.1")
        assert job.exit_code == 0, text
    finally:
        machine.close()
