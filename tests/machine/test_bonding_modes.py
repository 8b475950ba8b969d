"""The seven modes of the bond on real processes: over and back, with the books balanced."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import ChannelSettings, LacpSettings, LanSettings, MachineSettings
from orchestrator import ledger
from orchestrator.machines.machine import Job
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.ready import wait_until_ready
from tests.machine.settings import bonded_pair
from tests.machine.writing import places_with_writer

GUARD_MS = 60_000
SIGINT = 2
UP, DOWN = 1, 3  # words of bond_slave_link: 1 + BOND_LINK_


def text(job: Job) -> str:
    return "".join(piece for _, piece in job.take())


CHANNEL = ChannelSettings("po1", ("eth0", "eth1"), "lacp", LacpSettings(rate="fast"))


def settings_of(mode: str) -> MachineSettings:
    """The bonded pair in this mode; 802.3ad with a switch that speaks LACP."""
    settings = bonded_pair(f"mode-{mode.replace('.', '')[-4:]}-{os.getpid()}")
    assert settings.bond is not None
    bond = settings.bond._replace(mode=mode, miimon=50, lacp_rate="fast")
    lan = LanSettings(channels=(CHANNEL,)) if mode == "802.3ad" else LanSettings()
    return settings._replace(bond=bond, lan=lan)


@pytest.mark.processes
@pytest.mark.parametrize(
    "mode",
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
     "balance-alb"],
)  # fmt: skip
def test_a_mode_fails_over_and_back_with_the_books_balanced(mode: str) -> None:
    settings = settings_of(mode)
    machine = ProcessMachine(settings, places_with_writer(settings))
    try:
        page = machine.ram.page("cpu0", CPU_SCHEMA)
        assert wait_until_ready(machine)
        job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.02", "192.168.1.1"))
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
