"""A CPU goes offline and comes back under a flood ping of its own, on real processes."""

from __future__ import annotations

import os
import signal

import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import MachineSettings
from orchestrator import ledger
from orchestrator.machine import Job
from orchestrator.processes import ProcessMachine
from tests.machine.settings import bonded_pair
from tests.machine.writing import places_with_writer

GUARD_MS = 60_000
PINGS = 2000
CPU1 = 0b10
FLOOD = ("ping", "-q", "-f", "-c", str(PINGS))


def online(machine: ProcessMachine, value: int) -> None:
    writer = machine.spawn("cpu0", ("cpu_online", "1", str(value)))
    assert machine.wait(lambda: writer.done, GUARD_MS)
    assert writer.exit_code == 0, writer.failed
    assert machine.ram.page("cpu1", CPU_SCHEMA)["online"] == value


def booted(settings: MachineSettings) -> ProcessMachine:
    machine = ProcessMachine(settings, places_with_writer(settings))
    job = machine.spawn("cpu0", ("no-such-program",))
    assert machine.wait(lambda: job.done, GUARD_MS)
    return machine


def text(job: Job) -> str:
    return "".join(piece for _, piece in job.take())


@pytest.mark.processes
@pytest.mark.parametrize("era", ["2.6.18", "3.10", "6.1"])
def test_no_reply_of_a_flood_is_lost_while_its_cpu_goes_and_comes(era: str) -> None:
    settings = bonded_pair(f"goes-{os.getpid()}", era)
    machine = booted(settings)
    try:
        pages = [machine.ram.page(name, CPU_SCHEMA) for name in settings.cpu_names]
        paced = machine.spawn("cpu1", (*FLOOD, "-i", "0.003", "192.168.1.1"), CPU1)
        assert machine.wait(lambda: pages[1]["ping_received"] > 100, GUARD_MS)
        online(machine, 0)
        assert paced.cpu == "cpu0"  # it lasts longer than that
        assert pages[0]["ping_received"] >= 100
        online(machine, 1)
        flood = machine.spawn("cpu1", (*FLOOD, "192.168.1.1"), CPU1)
        assert machine.wait(lambda: pages[1]["ping_received"] > 100, GUARD_MS)
        online(machine, 0)
        online(machine, 1)
        for job in (paced, flood):
            assert machine.wait(lambda job=job: job.done, GUARD_MS)  # type: ignore[misc]
            said = text(job)
            assert f"{PINGS} packets transmitted, {PINGS} received, 0% packet loss" in said
        book = ledger.settled(machine)
        assert book.balanced, book.text()
        assert sum(page.run("delivered")[2] for page in pages) == 2 * PINGS
    finally:
        machine.close()


@pytest.mark.processes
def test_ctrl_c_reaches_a_program_that_has_moved() -> None:
    machine = booted(bonded_pair(f"goes-{os.getpid()}"))
    try:
        job = machine.spawn("cpu1", ("sleep", "1000"))
        online(machine, 0)
        assert job.cpu == "cpu0"
        machine.signal(job, signal.SIGINT)
        assert machine.wait(lambda: job.done, GUARD_MS)
        assert job.exit_code == 130
    finally:
        machine.close()
