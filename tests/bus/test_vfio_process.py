"""A NIC process behind its vfio-user socket, with a client of this test in the place of QEMU."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus import vfio_user as v
from nodes.machine import GatewaySettings, MachineSettings, NicSettings
from nodes.nic.page import NIC_SCHEMA
from orchestrator.machines.processes import ProcessMachine
from tests.bus.conftest import assert_nothing_is_left, unique_name
from tests.bus.vfio_client import Client, RefusedError, fired
from tests.nodes.nic.rig import KEYS

pytestmark = pytest.mark.processes

MAC = bytes.fromhex("525400000010")
BAR0, CONFIG = 0, 7
MIB = 1 << 20


def settings(name: str) -> MachineSettings:
    nics = (NicSettings("eth0", 0, MAC),)
    return MachineSettings(name, "6.1", 1, nics, None, GatewaySettings(), guest=True)


@pytest.fixture(scope="module")
def machine() -> Iterator[ProcessMachine]:
    running = ProcessMachine(settings(unique_name()))
    yield running
    running.close()
    assert_nothing_is_left(running)


@pytest.fixture
def client(machine: ProcessMachine) -> Iterator[Client]:
    with connect(machine) as made:
        yield made


def connect(machine: ProcessMachine) -> Client:
    return Client.agreed(str(machine.rundir.path / "eth0.vfio"))


def log(machine: ProcessMachine) -> list[str]:
    return Path(machine.rundir.path / "eth0.log").read_text().splitlines()


def counters(machine: ProcessMachine, *names: str) -> list[int]:
    page = machine.ram.page("eth0", NIC_SCHEMA)
    return [sum(page.run(name)) for name in names]


def reg(client: Client, name: str, index: int = 0) -> int:
    return client.read(BAR0, KEYS[name][index])


def put(client: Client, name: str, value: int, index: int = 0) -> None:
    client.post_write(BAR0, KEYS[name][index], value)


def enable(client: Client) -> None:
    """As a monitor does: a reset, BARs somewhere, memory decode and bus mastering."""
    client.ask(v.DEVICE_RESET)
    client.write(CONFIG, 4, 6, 2)


def eeprom(client: Client, word: int) -> int:
    put(client, "EERD", word << 2 | 1)
    while not (value := reg(client, "EERD")) & 2:
        pass
    return value >> 16


def test_the_nodes_of_such_a_machine_are_its_nics_and_the_lan(machine: ProcessMachine) -> None:
    assert list(machine.states()) == ["eth0", "lan"]
    assert all(state.alive for state in machine.states().values())


def test_a_client_sees_the_card(client: Client) -> None:
    info = struct.unpack("<IIII", client.ask(v.GET_INFO, struct.pack("<IIII", 16, 0, 0, 0)))
    assert info == (16, 3, 9, 5)
    whole = client.ask(v.REGION_READ, struct.pack("<QII", 0, CONFIG, 4096))[16:]
    assert whole[:4] == bytes.fromhex("8680fb10")
    assert client.read(CONFIG, 0, 2) == 0x8086
    assert client.read(CONFIG, 3, 1) == 0x10
    enable(client)
    total = sum(eeprom(client, word) for word in range(0x40))
    for pointer in range(3, 0xF):  # sections, each with its length first
        begin = eeprom(client, pointer)
        if begin not in (0, 0xFFFF):
            length = eeprom(client, begin)
            total += sum(eeprom(client, begin + 1 + n) for n in range(length))
    assert total & 0xFFFF == 0xBABA
    assert reg(client, "RAL") | (reg(client, "RAH") & 0xFFFF) << 32 == int.from_bytes(MAC, "little")


def test_bar_reads_are_all_ones_until_memory_decode_is_on(client: Client) -> None:
    assert reg(client, "STATUS") == 0xFFFFFFFF
    enable(client)
    assert reg(client, "STATUS") != 0xFFFFFFFF
    assert client.read(BAR0, KEYS["STATUS"][0] + 2, 1) == 8  # STATUS.GIO, bit 19


def test_a_reset_puts_registers_back(client: Client) -> None:
    enable(client)
    put(client, "FCTRL", 0x402)
    assert reg(client, "FCTRL") == 0x402
    put(client, "CTRL", 1 << 26)
    assert reg(client, "FCTRL") == 0
    put(client, "FCTRL", 0x402)
    enable(client)
    assert reg(client, "FCTRL") == 0


def test_a_cause_fires_the_eventfd_of_its_vector(client: Client) -> None:
    enable(client)
    client.write(CONFIG, 0x72, 0x8000, 2)  # MSI-X
    first, second = client.arm(v.MSIX, 2)
    put(client, "GPIE", 0xC0000036)
    put(client, "EIMS_EX", 3)
    put(client, "EICS_EX", 2)
    assert fired(second) == 1
    assert not fired(first, 0)


def test_a_vector_without_an_eventfd_is_pending_until_it_has_one(
    machine: ProcessMachine, client: Client
) -> None:
    before = counters(machine, "msi_raised", "msi_out", "msi_masked_pba")
    enable(client)
    client.write(CONFIG, 0x72, 0x8000, 2)
    put(client, "GPIE", 0xC0000036)
    put(client, "EIMS_EX", 1)
    put(client, "EICS_EX", 1)
    assert client.read(4, 0x2000) == 1  # the pending bit array
    (fd,) = client.arm(v.MSIX)
    assert fired(fd) == 1
    assert client.read(4, 0x2000) == 0
    after = counters(machine, "msi_raised", "msi_out", "msi_masked_pba")
    assert after == [count + 1 for count in before]


def test_a_level_that_stands_signals_again_when_it_is_unmasked(client: Client) -> None:
    enable(client)
    (fd,) = client.arm(v.INTX)
    put(client, "EIMS", 1 << 20)
    put(client, "EICS", 1 << 20)
    assert fired(fd) == 1
    assert not fired(fd, 0)  # automasked
    client.irqs(0x11, v.INTX, 0, 1)
    assert fired(fd) == 1
    assert reg(client, "EICR") & 1 << 20  # reading clears
    client.irqs(0x11, v.INTX, 0, 1)
    assert not fired(fd, 0)


def test_without_msi_x_mode_one_msi_says_it_all(client: Client) -> None:
    enable(client)
    (fd,) = client.arm(v.MSI)
    put(client, "EIMS", 1 << 20)
    put(client, "EICS", 1 << 20)
    assert reg(client, "EIMS") == 1 << 20
    assert not fired(fd, 0)  # MSI is off
    assert reg(client, "EICR") & 1 << 20
    client.write(CONFIG, 0x52, 1, 2)
    put(client, "EICS", 1 << 20)
    assert fired(fd) == 1


def test_an_eventfd_ends_the_interrupt_as_the_command_does(client: Client) -> None:
    enable(client)
    (fd,) = client.arm(v.INTX)
    end = os.eventfd(0)
    client.eventfds.append(end)
    client.irqs(0x14, v.INTX, 0, 1, [end])
    put(client, "EIMS", 1 << 20)
    put(client, "EICS", 1 << 20)
    assert fired(fd) == 1
    os.eventfd_write(end, 1)
    assert fired(fd) == 1
    assert reg(client, "EICR") & 1 << 20
    client.irqs(0x14, v.INTX, 0, 1)
    os.eventfd_write(end, 1)
    assert reg(client, "STATUS") != 0xFFFFFFFF
    assert not fired(fd, 0)


ARP = (
    b"\xff" * 6 + MAC + bytes.fromhex("0806000108000604 0001") + MAC
    + bytes([192, 168, 1, 10]) + bytes(6) + bytes([192, 168, 1, 1])
)  # fmt: skip
TX_RING, RX_RING, TX_BUFFER, RX_BUFFER = 0x1000, 0x2000, 0x3000, 0x4000


def rings(client: Client) -> None:
    """One ring of each kind, 8 descriptors, with all that traffic needs."""
    for name, value in (
        ("TDBAL", TX_RING), ("TDLEN", 128), ("DMATXCTL", 1), ("TXDCTL", 1 << 25),
        ("RDBAL", RX_RING), ("RDLEN", 128), ("SRRCTL", 0x02000402), ("RXDCTL", 1 << 25),
        ("FCTRL", 0x400), ("RXCTRL", 1), ("HLREG0", 0xC01),
    ):  # fmt: skip
        put(client, name, value)
    for n in range(8):
        struct.pack_into("<QQ", client.memory, RX_RING + 16 * n, RX_BUFFER + 2048 * n, 0)
    put(client, "RDT", 7)
    while not reg(client, "LINKS") >> 30 & 1:
        pass


def test_a_frame_out_of_guest_memory_is_answered_into_it(
    machine: ProcessMachine, client: Client
) -> None:
    before = counters(machine, "tx_frames_out", "rx_dma")
    client.map_memory(MIB)
    enable(client)
    client.write(CONFIG, 0x72, 0x8000, 2)
    (fd,) = client.arm(v.MSIX)
    put(client, "GPIE", 0xC0000036)
    put(client, "IVAR", 0x80)  # receive queue 0 to vector 0
    rings(client)
    put(client, "EIMS_EX", 1)
    client.memory[TX_BUFFER : TX_BUFFER + len(ARP)] = ARP
    command = 0x2B300000 | len(ARP) | len(ARP) << 46
    struct.pack_into("<QQ", client.memory, TX_RING, TX_BUFFER, command)
    put(client, "TDT", 1)
    assert fired(fd) == 1
    length = struct.unpack_from("<H", client.memory, RX_RING + 12)[0]
    answer = client.memory[RX_BUFFER : RX_BUFFER + length]
    assert (answer[:6], answer[12:14], answer[20:22]) == (MAC, b"\x08\x06", b"\0\2")
    assert client.memory[TX_RING + 12] & 1  # DD
    assert counters(machine, "tx_frames_out", "rx_dma") == [count + 1 for count in before]


def test_memory_that_was_unmapped_is_out_of_reach(machine: ProcessMachine, client: Client) -> None:
    client.map_memory(MIB)
    enable(client)
    rings(client)
    range_of_it = struct.pack("<IIQQ", 24, 0, 0, MIB)
    assert client.ask(v.DMA_UNMAP, range_of_it) == range_of_it
    (before,) = counters(machine, "dma_refused")
    put(client, "TDT", 1)
    assert reg(client, "TDH") == 0
    assert counters(machine, "dma_refused") > [before]
    with pytest.raises(RefusedError):
        client.ask(v.DMA_UNMAP, range_of_it)


def test_the_next_guest_finds_the_card_new(machine: ProcessMachine, client: Client) -> None:
    client.map_memory(MIB)
    enable(client)
    put(client, "FCTRL", 0x402)
    assert reg(client, "FCTRL") == 0x402
    client.socket.close()
    with connect(machine) as following:
        assert following.read(CONFIG, 4, 2) == 0
        enable(following)
        assert reg(following, "FCTRL") == 0
        following.map_memory(MIB)  # the same range again


def test_a_second_client_is_refused_while_the_first_is_there(
    machine: ProcessMachine, client: Client
) -> None:
    with Client(str(machine.rundir.path / "eth0.vfio")) as second:
        assert second.gone()
    assert client.read(CONFIG, 0) == 0x10FB8086


def test_a_killed_nic_refuses_and_a_restarted_one_listens_anew(
    machine: ProcessMachine, client: Client
) -> None:
    machine.kill("eth0")
    assert client.gone()
    with pytest.raises(ConnectionRefusedError):
        connect(machine)
    machine.restart("eth0")
    with connect(machine) as following:
        assert following.read(CONFIG, 0) == 0x10FB8086


@pytest.mark.parametrize(
    ("rubbish", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a message of"),
        (struct.pack("<HHIII", 1, v.REGION_READ, 16, 0, 0), "before VERSION"),
        (struct.pack("<HHIII", 1, v.VERSION, 16, 1, 0), "a reply"),
        (struct.pack("<HHIII", 1, v.VERSION, 4, 0, 0), "a message of 4 bytes"),
    ],
)
def test_rubbish_is_disconnected_with_one_line(
    machine: ProcessMachine, rubbish: bytes, why: str
) -> None:
    said = len(log(machine))
    with Client(str(machine.rundir.path / "eth0.vfio")) as stranger:
        stranger.socket.sendall(rubbish)
        assert stranger.gone()
    lines = log(machine)[said:]
    assert len(lines) == 1
    assert why in lines[0]
    with connect(machine) as client:
        assert client.read(CONFIG, 0) == 0x10FB8086


def test_descriptors_that_nobody_asked_for_are_closed(
    machine: ProcessMachine, client: Client
) -> None:
    pid = machine.state("eth0").pid
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(10):
        with pytest.raises(RefusedError):
            client.ask(v.GET_INFO, b"", [0, 1, 2])
    assert len(os.listdir(f"/proc/{pid}/fd")) == before
