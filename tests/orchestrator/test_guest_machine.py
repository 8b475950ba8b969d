"""A machine whose CPUs are a guest's: which verbs work on it, and what the others say."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pytest

from nodes.machine import GatewaySettings, MachineSettings, NicSettings
from orchestrator import ledger, verbs
from orchestrator.configuration import config, configtext
from orchestrator.configuration.tomlfile import TomlFile
from orchestrator.errors import BottomhalfError
from orchestrator.machines.processes import ProcessMachine
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive
from tests.bus.conftest import assert_nothing_is_left, unique_name
from tests.bus.test_vfio_process import (
    ARP,
    BAR0,
    CONFIG,
    TX_BUFFER,
    TX_RING,
    enable,
    put,
    reg,
    rings,
)
from tests.bus.vfio_client import Client, fired

MAC = bytes.fromhex("525400000010")


def settings(name: str) -> MachineSettings:
    nics = tuple(NicSettings(f"eth{n}", n, MAC[:-1] + bytes([0x10 + n])) for n in range(2))
    return MachineSettings(name, "6.1", 2, nics, None, GatewaySettings(), guest=True)


@pytest.fixture(scope="module")
def machine() -> Iterator[ProcessMachine]:
    running = ProcessMachine(settings(unique_name()))
    yield running
    running.close()
    assert_nothing_is_left(running)


def say(machine: ProcessMachine, line: str) -> str:
    """Output of a verb."""
    out: list[str] = []
    session = Session(machine, out.append, out.append, cpu="")
    assert drive(session, verbs.start(session, line.split())) == 0
    return "".join(out)


def test_a_file_may_say_so_and_is_written_back() -> None:
    file = TomlFile("g.toml", "guest = true")
    made = config.build(file, "g")
    assert made.guest
    assert made.node_names == ("eth0", "eth1", "lan")
    assert "guest = true" in configtext.to_toml(made)


def test_it_cannot_be_simulated() -> None:
    with pytest.raises(BottomhalfError, match="cannot be simulated"):
        SimulatedMachine(settings("g"))


@pytest.mark.processes
@pytest.mark.parametrize("line", ["ping gateway", "cat /proc/interrupts", "drops ping gateway",
                                  "ethtool eth0", "sh", "wq"])  # fmt: skip
def test_verbs_that_need_our_kernel_say_that_it_is_the_guests(
    machine: ProcessMachine, line: str
) -> None:
    with pytest.raises(BottomhalfError, match="works on our kernel"):
        say(machine, line)


@pytest.mark.processes
def test_taps_are_those_of_the_switch(machine: ProcessMachine) -> None:
    assert say(machine, "tcpdump -D").startswith("1.lan:1 (switch port of eth0)\n")
    with pytest.raises(BottomhalfError, match="eth0 is a device of"):
        say(machine, "tcpdump -i eth0")


@pytest.mark.processes
def test_hands_and_signals_reach_the_nics(machine: ProcessMachine) -> None:
    assert "fault lose-msi" in say(machine, "fault eth0 lose-msi=1") + say(machine, "fault list")
    assert say(machine, "fault clear") == "eth0: mended lose-msi=1\n"
    assert "cable of eth1 is out" in say(machine, "cable eth1 out")
    say(machine, "cable eth1 in")
    say(machine, "kill eth1")
    assert "eth1's process is dead" in say(machine, "top --once")
    assert "must connect to it anew" in say(machine, "restart eth1")
    say(machine, "card eth1 out")
    assert "must connect to it anew: eth1.vfio" in say(machine, "card eth1 in")


@pytest.mark.processes
def test_the_books_balance_with_a_guest_and_it_is_seen_on_the_screens(
    machine: ProcessMachine,
) -> None:
    assert "No guest is connected" in say(machine, "top --once")
    with Client.agreed(str(machine.rundir.path / "eth0.vfio")) as client:
        client.map_memory(1 << 20)
        enable(client)
        client.write(CONFIG, 0x72, 0x8000, 2)
        (fd,) = client.arm(2)
        put(client, "GPIE", 0xC0000036)
        put(client, "IVAR", 0x80)
        rings(client)
        put(client, "EIMS_EX", 1)
        client.memory[TX_BUFFER : TX_BUFFER + len(ARP)] = ARP
        command = 0x2B300000 | len(ARP) | len(ARP) << 46
        struct.pack_into("<QQ", client.memory, TX_RING, TX_BUFFER, command)
        client.post_write(BAR0, 0x6018, 1)
        assert fired(fd) == 1
        assert reg(client, "TDH") == 1
        books = ledger.settled(machine)
        assert books.balanced, books.text()
        assert books.interrupts.sources["MSIs"] == books.interrupts.ends["told the guest"] == 1
        assert "A guest's kernel drives eth0" in say(machine, "top --once")
        assert "sent 1" in say(machine, "top eth0 --once")
        assert json.loads(say(machine, "regs eth0 TDH --json"))
