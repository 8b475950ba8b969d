"""A NIC's interrupt lines are moved between CPUs while pings run, on real processes."""

from __future__ import annotations

import os

import pytest

from nodes.cpu.page import CPU_SCHEMA
from orchestrator import ledger
from orchestrator.machines.processes import ProcessMachine
from tests.machine.settings import bonded_pair
from tests.machine.writing import places_with_writer

GUARD_MS = 60_000
FIRST_IRQ, LINES = 24, 2  # eth0-TxRx-0 and -1 on a machine with two CPUs
PINGS = 400


@pytest.mark.processes
def test_no_ping_is_lost_while_real_processes_pass_a_line_to_and_fro() -> None:
    settings = bonded_pair(name=f"moving-{os.getpid()}")
    machine = ProcessMachine(settings, places_with_writer(settings))
    try:
        pages = [machine.ram.page(name, CPU_SCHEMA) for name in settings.cpu_names]
        job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.005", "-c", str(PINGS), "192.168.1.1"))
        assert machine.wait(lambda: pages[0]["ping_received"] > 10, GUARD_MS)
        moves = 0
        while not job.done:
            for irq in range(FIRST_IRQ, FIRST_IRQ + LINES):
                argv = ("write_affinity", str(irq), f"{1 + moves % 2}\n")
                writer = machine.spawn("cpu0", argv)
                assert machine.wait(lambda writer=writer: writer.done, GUARD_MS)  # type: ignore[misc]
                assert writer.exit_code == 0
            moves += 1
            machine.wait(lambda: job.done, 40)
        said = "".join(text for _, text in job.take())
        assert f"{PINGS} packets transmitted, {PINGS} received, 0% packet loss" in said
        assert moves > 5
        for irq in range(FIRST_IRQ, FIRST_IRQ + LINES):
            counts = [page.run("irqs")[irq] for page in pages]
            if sum(counts) > PINGS // 2:  # the line that carried them
                assert min(counts) > 10, counts
        book = ledger.settled(machine)
        assert book.balanced, book.text()
        assert sum(page["msi_no_handler"] for page in pages) == 0
    finally:
        machine.close()
