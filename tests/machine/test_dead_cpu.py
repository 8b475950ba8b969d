"""The boot CPU's death is the kernel's death: hardware and LAN go on, its last page answers."""

from __future__ import annotations

import pytest

from bus.ram import LAST_BYTES, Ram
from nodes.cpu.page import CPU_SCHEMA
from orchestrator.machines import procfiles
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive
from tests.machine.settings import bonded_pair

GUARD_MS = 10_000


def _booted() -> SimulatedMachine:
    machine = SimulatedMachine(bonded_pair(), seed=1)
    job = machine.spawn("cpu0", ("ping", "-q", "-c", "3", "-i", "0.01", "192.168.1.1"))
    assert machine.wait(lambda: job.done, GUARD_MS)
    return machine


def _read(machine: SimulatedMachine, path: str) -> tuple[str, str]:
    said: list[str] = []
    found: list[str] = []
    session = Session(machine, err=said.append)

    def read():  # type: ignore[no-untyped-def]
        found.append((yield from procfiles.read(session, path)))
        return 0

    drive(session, read())
    return found[0], "".join(said)


@pytest.mark.parametrize("path", ["/proc/interrupts", "/proc/net/bonding/bond0", "/proc/net/arp"])
def test_a_dead_boot_cpu_answers_from_its_last_page_and_says_so(path: str) -> None:
    machine = _booted()
    alive, said = _read(machine, path)
    assert said == ""
    machine.kill("cpu0")
    dead, said = _read(machine, path)
    assert dead == alive
    assert "cpu0 is dead" in said


def test_a_dead_boot_cpu_ends_its_programs_and_leaves_hardware_alone() -> None:
    machine = _booted()
    job = machine.spawn("cpu0", ("ping", "-i", "0.01", "192.168.1.1"))
    page = machine.ram.page("cpu0", CPU_SCHEMA)
    machine.pump(machine.now_ns() + 100_000_000)
    sent = page["ping_sent"]
    machine.kill("cpu0")
    machine.pump(machine.now_ns() + 500_000_000)
    assert job.failed
    assert page["ping_sent"] == sent
    assert all(machine.state(name).alive for name in ("cpu1", "apic", "eth0", "eth1", "lan"))


def test_last_words_are_whole_or_none() -> None:
    ram = Ram.anonymous(bonded_pair().layout())
    words = ram.last_words()
    assert words.load() is None
    words.store(b"tables")
    assert ram.last_words().load() == b"tables"
    ram.words64[ram.layout.last // 8] += 1  # its writer died while it changed them
    assert words.load() is None
    with pytest.raises(ValueError, match="too many"):
        words.store(bytes(LAST_BYTES))
