"""The ledger balances, names each loss, and a hole in the books is a fault."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bus.messages import EthFrame, MsiWrite
from nodes.cpu.page import CPU_SCHEMA
from nodes.lan.page import LAN_SCHEMA
from nodes.ledger import REPLY
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.receive import Receive
from orchestrator.configuration import config
from orchestrator.ledger import Ledger, read, settled
from orchestrator.machines.machine import Machine
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive
from orchestrator.verbs import start

MS = 1_000_000
GUARD_MS = 60_000


def ready(seed: int = 7) -> SimulatedMachine:
    machine = SimulatedMachine(config.load()._replace(name="m1"), seed=seed)
    assert wait_until_ready(machine)
    return machine


def ping(machine: SimulatedMachine, duration_ms: int):
    job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.01", "192.168.1.1"))
    machine.pump(machine.now_ns() + duration_ms * MS)
    return job


def stop(machine: SimulatedMachine, job) -> Ledger:
    machine.signal(job, 2)
    machine.wait(lambda: job.done, 2000)
    return settled(machine)


def test_an_idle_machine_balances():
    assert settled(ready()).balanced


def test_undisturbed_pings_are_answered_and_delivered_and_nothing_else():
    machine = ready()
    ledger = stop(machine, ping(machine, 500))
    sent = ledger.packets["requests"].sources["sent"]
    assert sent in (50, 51)
    assert ledger.packets["requests"].ends == {"answered": sent}
    assert ledger.packets["replies"].ends == {"delivered": sent}
    assert ledger.balanced


def test_cable_out_is_named():
    machine = ready()
    job = ping(machine, 200)
    machine.cable("eth0", False)
    machine.pump(machine.now_ns() + 300 * MS)
    ledger = stop(machine, job)
    assert ledger.balanced
    lost = {k: v for k, v in ledger.packets["requests"].ends.items() if k != "answered"}
    assert lost
    assert not any(name.startswith("lost: killed") for name in lost)


@pytest.mark.slow
@pytest.mark.parametrize("nic", ["eth0", "eth1"])
@pytest.mark.parametrize("instant", range(25))
def test_killed_nic_balances_at_any_instant(nic: str, instant: int):
    machine = ready(seed=instant)
    job = ping(machine, 100)
    # around one exchange: before, inside and after it, to the microsecond
    machine.pump(machine.now_ns() + 10 * MS + instant * 1_300)
    machine.kill(nic)
    machine.pump(machine.now_ns() + 2_600 * MS)
    ledger = stop(machine, job)
    assert ledger.faults == []
    if nic == "eth0":
        assert ledger.packets["requests"].ends["lost: killed eth0"] > 0


def test_a_second_life_is_counted_with_the_first():
    machine = ready()
    job = ping(machine, 100)
    machine.kill("eth1")
    machine.pump(machine.now_ns() + 100 * MS)
    machine.restart("eth1")
    ledger = stop(machine, job)
    assert ledger.faults == []


def test_a_frame_that_vanishes_between_living_nodes_is_a_fault():
    machine = ready()
    page = machine.ram.page("lan", LAN_SCHEMA)
    page.words[LAN_SCHEMA.index("frames_out") + 1] += 1  # to eth0, a request
    ledger = read(machine)
    assert not ledger.balanced
    assert any(fault.startswith("edge lan -> eth0: ") for fault in ledger.faults)


def test_a_drop_that_nobody_counts_is_a_fault():
    machine = ready()
    page = machine.ram.page("eth0", NIC_SCHEMA)
    page.words[NIC_SCHEMA.index("rx_drop_filter") + 2] += 1
    faults = read(machine).faults
    assert any(fault.startswith("edge within eth0 (receive): ") for fault in faults)
    assert "replies: -1 not accounted for" in faults


@pytest.mark.parametrize("killed", [True, False])
def test_a_frame_that_a_nic_took_and_did_not_finish_is_lost_only_if_it_was_killed(
    killed: bool, monkeypatch: pytest.MonkeyPatch
):
    """A SIGKILL may fall between two counters of one turn; here it falls after ``rx_frames_in``."""
    machine = ready()
    job = ping(machine, 100)
    taken = []
    frame = Receive.frame

    def stops(self: Receive, data: bytes, kind: int) -> None:
        if kind != REPLY or taken:
            frame(self, data, kind)
        else:
            taken.append(kind)

    monkeypatch.setattr(Receive, "frame", stops)
    assert machine.wait(lambda: bool(taken), GUARD_MS)
    if killed:
        machine.kill("eth0")
    machine.pump(machine.now_ns() + 100 * MS)
    ledger = stop(machine, job)
    assert [e.difference for e in ledger.edges if e.name == "within eth0 (receive)"] == [0, 0, 1]
    if killed:
        assert ledger.faults == []
        assert ledger.packets["replies"].ends["lost: killed eth0"] >= 1
    else:
        assert any(fault.startswith("edge within eth0 (receive): ") for fault in ledger.faults)


def test_what_a_killed_cpu_had_in_its_hands_is_lost_with_it():
    """A SIGKILL may fall between a poll of several frames and their delivery."""
    machine = ready()
    machine.simulation.budget = 1  # it may fall at any boundary
    for _ in range(5):
        machine.spawn("cpu1", ("ping", "-q", "-f", "-c", "1000", "192.168.1.1"))
    page = machine.ram.page("cpu1", CPU_SCHEMA)

    def holds_a_reply() -> bool:
        taken = sum(page.run("rx_polled")[REPLY::3]) + page.run("handover_in")[REPLY]
        return taken > page.run("delivered")[REPLY] + page.run("handover_out")[REPLY]

    assert machine.wait(holds_a_reply, GUARD_MS)
    machine.kill("cpu1")
    ledger = settled(machine)
    assert ledger.faults == []
    (held,) = [e for e in ledger.edges if e.name == "within cpu1" and e.kind == "reply"]
    assert held.difference > 0
    assert ledger.packets["replies"].ends["lost: killed cpu1"] >= held.difference


def test_an_msi_that_vanishes_is_a_fault():
    machine = ready()
    page = machine.ram.page("eth0", NIC_SCHEMA)
    page["msi_out"] += 1
    faults = read(machine).faults
    assert any(fault.startswith("edge eth0 -> apic: ") for fault in faults)


def test_both_accounts_agree_with_what_crossed_the_simulated_bus():
    """The simulation follows each message; the pages must say the same."""
    machine = SimulatedMachine(config.load()._replace(name="m1"), seed=3)
    crossed = {"frames": 0, "msis": 0}

    def watch(now_ns: int, sender: str, receiver: str, message: object) -> None:
        crossed["frames"] += isinstance(message, EthFrame)
        crossed["msis"] += isinstance(message, MsiWrite)

    machine.simulation.watch = watch
    assert wait_until_ready(machine)
    ledger = stop(machine, ping(machine, 300))
    frames = sum(
        e.taken for e in ledger.edges if e.name in {f"{n} -> lan" for n in ("eth0", "eth1")}
    ) + sum(e.taken for e in ledger.edges if e.name in {f"lan -> {n}" for n in ("eth0", "eth1")})
    msis = sum(e.taken for e in ledger.edges if e.name in ("eth0 -> apic", "eth1 -> apic"))
    assert (frames, msis) == (crossed["frames"], crossed["msis"])


def test_text_and_json_say_the_same():
    machine = ready()
    ledger = stop(machine, ping(machine, 100))
    value = ledger.as_json()
    assert value["balanced"] is True
    sent = value["packets"]["requests"]["sources"]["sent"]
    assert f"requests   {sent} sent = {sent} answered" in ledger.text()
    assert ledger.text().endswith("  balanced")


def active(machine: Machine) -> int:
    return machine.ram.page("cpu0", CPU_SCHEMA)["bond_active"]


@pytest.mark.processes
@pytest.mark.slow
def test_killed_processes_balance_at_five_instants_of_the_real_clock(tmp_path: Path):
    """The active NIC is killed, five times over, each time further into the ping's interval."""
    settings = config.load()._replace(name="ledger")
    with closing(ProcessMachine(settings, base=tmp_path)) as machine:
        assert wait_until_ready(machine)
        job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.01", "192.168.1.1"))
        for instant in range(5):
            before = active(machine)
            nic = settings.nic_names[before - 1]
            machine.pump(machine.now_ns() + 50 * MS + instant * 1_700_000)
            machine.kill(nic)
            assert machine.wait(lambda before=before: active(machine) not in (0, before), GUARD_MS)
            session = Session(machine, out=lambda text: None)
            assert drive(session, start(session, ["restart", nic])) == 0
            assert wait_until_ready(machine)
        machine.signal(job, 2)
        assert machine.wait(lambda: job.done, GUARD_MS)
        ledger = settled(machine)
        assert ledger.faults == []
        lost = ledger.packets["requests"].ends
        assert lost["lost: killed eth0"] > 0
        assert lost["lost: killed eth1"] > 0
