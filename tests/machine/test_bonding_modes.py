"""Modes of the bond on real processes: over and back, with the books balanced."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from nodes.cpu.page import CPU_SCHEMA
from orchestrator import ledger
from orchestrator.machine import Job
from orchestrator.processes import ProcessMachine
from orchestrator.ready import wait_until_ready
from tests.machine.settings import bonded_pair
from tests.machine.writing import places_with_writer

GUARD_MS = 60_000
SIGINT = 2
UP, DOWN = 1, 3  # words of bond_slave_link: 1 + BOND_LINK_


def text(job: Job) -> str:
    return "".join(piece for _, piece in job.take())


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["balance-rr", "balance-xor", "broadcast"])
def test_a_mode_fails_over_and_back_with_the_books_balanced(mode: str) -> None:
    settings = bonded_pair(f"mode-{mode[-2:]}-{os.getpid()}")
    assert settings.bond is not None
    settings = settings._replace(bond=settings.bond._replace(mode=mode, miimon=50))
    machine = ProcessMachine(settings, places_with_writer(settings))
    try:
        page = machine.ram.page("cpu0", CPU_SCHEMA)
        assert wait_until_ready(machine)
        job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.01", "192.168.1.1"))
        links: Callable[[], list[int]] = lambda: page.run("bond_slave_link")[:2]  # noqa: E731
        assert machine.wait(lambda: page["ping_received"] > 20, GUARD_MS)
        for nic in (0,) if mode == "broadcast" else (0, 1):
            plugged = machine.cable(f"eth{nic}", False)
            assert machine.wait(lambda plugged=plugged: plugged.done, GUARD_MS)
            assert machine.wait(lambda nic=nic: links()[nic] == DOWN, GUARD_MS)
            before = page["ping_received"]
            assert machine.wait(lambda before=before: page["ping_received"] > before + 20, GUARD_MS)
            plugged = machine.cable(f"eth{nic}", True)
            assert machine.wait(lambda: links() == [UP, UP], GUARD_MS)
        machine.signal(job, SIGINT)
        assert machine.wait(lambda: job.done, GUARD_MS)
        assert "packets transmitted" in text(job)
        books = ledger.settled(machine)
        assert books.balanced, books.text()
    finally:
        machine.close()
