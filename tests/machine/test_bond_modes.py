"""Modes 4, 5 and 6 fail over and back between real processes, with balanced books."""

from __future__ import annotations

import os

import pytest

from nodes.machine import ChannelSettings, LacpSettings, LanSettings
from orchestrator import ledger
from orchestrator.processes import ProcessMachine
from tests.machine.settings import bonded_pair

MS = 1_000_000
LAN = LanSettings(
    channels=(ChannelSettings("po1", ("eth0", "eth1"), "lacp", LacpSettings(rate="fast")),)
)


def _carries(machine: ProcessMachine) -> bool:
    """Both slaves collect and distribute (8 s after boot: bond_3ad_initialize)."""
    request = machine.ask("cpu0", "kernel")
    if not machine.wait(lambda: request.done, 1_000) or not request.ok:
        return False
    slaves = request.value["bonds"].get("bond0", {}).get("slaves", ())
    muxes = [slave["info"]["machines"][2] for slave in slaves if "machines" in slave["info"]]
    return muxes == ["collecting_distributing"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["802.3ad", "balance-tlb", "balance-alb"])
def test_failover_and_back_between_processes(mode: str) -> None:
    settings = bonded_pair(name=f"modes-{os.getpid()}-{mode.replace('.', '')}", cpus=1)
    assert settings.bond is not None
    bond = settings.bond._replace(mode=mode, lacp_rate="fast")
    lan = LAN if mode == "802.3ad" else LanSettings()
    machine = ProcessMachine(settings._replace(bond=bond, lan=lan))
    try:
        if mode == "802.3ad":
            end_ns = machine.now_ns() + 30_000 * MS
            while not _carries(machine):
                assert machine.now_ns() < end_ns, "LACP does not settle"
                machine.pump(machine.now_ns() + 100 * MS)
        else:
            machine.pump(machine.now_ns() + 1_500 * MS)
        job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.01", "192.168.1.1"))
        machine.pump(machine.now_ns() + 500 * MS)
        for inserted in (False, True):
            machine.cable("eth0", inserted)
            machine.pump(machine.now_ns() + 1_000 * MS)
        machine.signal(job, 2)
        assert machine.wait(lambda: job.done, 30_000)
        out = "".join(text for _, text in job.take())
        sent, received = (int(word.split()[0]) for word in out.splitlines()[-2].split(", ")[:2])
        assert sent > 100
        assert received >= sent - 40
        book = ledger.settled(machine)
        assert book.balanced, book.text()
    finally:
        machine.close()
