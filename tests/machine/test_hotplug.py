"""On real processes: a NIC's process is killed in a slot with hot-plug, and put in again."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import APIC
from orchestrator import ledger
from orchestrator.machines.processes import ProcessMachine
from orchestrator.pages import schema_of
from tests.machine.settings import bonded_pair

GUARD_MS = 60_000
SECOND = 1_000_000_000
SLAVE = 8


def flags(machine: ProcessMachine, nic: int) -> int:
    return machine.ram.page("cpu0", CPU_SCHEMA).run("nic_flags")[nic]


def log(machine: ProcessMachine) -> str:
    return "\n".join(
        text for cpu in range(machine.settings.cpus) for _, _, text in machine.ram.log(cpu).lines()
    )


@pytest.mark.parametrize("era", ["6.1", "3.10"])
def test_kill_9_and_a_new_process_are_a_hot_plug_that_the_kernel_sees_to(era: str) -> None:
    settings = bonded_pair(f"plug-{era}-{os.getpid()}", era)
    nics = tuple(nic._replace(hotplug=True) for nic in settings.nics)
    machine = ProcessMachine(settings._replace(nics=nics))
    try:
        wait = lambda done: machine.wait(done, GUARD_MS)  # noqa: E731
        job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.01", "192.168.1.1"))
        assert wait(lambda: bool(flags(machine, 0) & SLAVE and flags(machine, 1) & SLAVE))
        machine.pump(machine.now_ns() + SECOND)
        pid = machine.state("eth0").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert wait(lambda: flags(machine, 0) == 0), log(machine)
        slots = machine.ram.page(APIC, schema_of(machine.settings, APIC))
        assert wait(lambda: slots.run("slots")[0] == 0), log(machine)  # no card, no link, no power
        machine.restart("eth0")
        assert wait(lambda: bool(flags(machine, 0) & SLAVE)), log(machine)
        machine.pump(machine.now_ns() + SECOND)
        assert slots.run("slots")[0] == 7
        request = machine.cable("eth1", inserted=False)
        assert wait(lambda: request.done)
        machine.pump(machine.now_ns() + SECOND)
        received = machine.ram.page("cpu0", CPU_SCHEMA)["ping_received"]
        machine.pump(machine.now_ns() + SECOND)
        assert machine.ram.page("cpu0", CPU_SCHEMA)["ping_received"] > received  # over the new card
        machine.signal(job, signal.SIGINT)
        assert wait(lambda: job.done)
        books = ledger.settled(machine)
        assert books.balanced, books.text()
        assert "Card present" in log(machine)
        pids = [state.pid for state in machine.states().values()]
    finally:
        machine.close()
    assert not [pid for pid in pids if pid is not None and psutil.pid_exists(pid)]
