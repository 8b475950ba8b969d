"""The pieces of a guest that need no QEMU: archive, modules, network, channel, slot, clocks."""

from __future__ import annotations

import base64
import lzma
import os
import socket
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bus import vfio_user
from nodes.machine import BondSettings, MachineSettings
from orchestrator.configuration import config, tomlfile
from orchestrator.errors import BottomhalfError
from orchestrator.guest import aptroot, cache, fetch, network, play, qemu, slots
from orchestrator.guest.channel import Channel
from orchestrator.guest.clock import Clocks
from orchestrator.guest.cpio import Archive
from orchestrator.guest.modules import Modules
from orchestrator.machines.processes import ProcessMachine
from orchestrator.scenarios import scenario
from orchestrator.verbs import guest as verb
from orchestrator.verbs import parse


def _settings(bond: bool = True) -> MachineSettings:
    settings = config.load(config.DEFAULT_MACHINE)._replace(guest=True)
    return settings if bond else settings._replace(bond=None)


# ---------------------------------------------------------------- the archive


def _read_newc(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Names with mode and data, by the format's own description."""
    found = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        body = (at + 110 + name_size + 3) // 4 * 4
        at = (body + size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, data[body : body + size])


def test_an_archive_holds_files_links_and_the_folders_above_them() -> None:
    archive = Archive()
    archive.file("init", b"#!/bin/sh\n", 0o755)
    archive.file("lib/modules/6.1/a.ko", b"123")
    archive.link("bin/ls", "busybox")
    found = _read_newc(archive.pack())
    assert found["init"] == (0o100755, b"#!/bin/sh\n")
    assert found["lib/modules/6.1/a.ko"][1] == b"123"
    assert found["bin/ls"] == (0o120777, b"busybox")
    assert found["lib"][0] == found["lib/modules"][0] == 0o040755
    assert list(found).index("lib") < list(found).index("lib/modules/6.1/a.ko")


# ---------------------------------------------------------------- modules


def _module(folder: Path, name: str, depends: str = "", suffix: str = ".ko") -> None:
    data = f"\0alias=net-{name}\0depends={depends}\0name={name}\0vermagic=6.1.0 SMP \0".encode()
    folder.mkdir(exist_ok=True)
    packed = lzma.compress(data) if suffix.endswith(".xz") else data
    (folder / f"{name.replace('_', '-')}{suffix}").write_bytes(packed)


def test_modules_are_loaded_after_what_they_need(tmp_path: Path) -> None:
    _module(tmp_path / "m", "top", "middle,low")
    _module(tmp_path / "m", "middle", "low_one", ".ko.xz")
    _module(tmp_path / "m", "low_one")
    _module(tmp_path / "m", "low")
    modules = Modules([tmp_path / "m"])
    assert modules.order(["top"]) == ["low_one", "middle", "low", "top"]
    assert "top.ko: low.ko middle.ko low_one.ko" in modules.dep_file(["top"])
    assert modules.alias_file(["low"]) == "alias net-low low\n"
    assert modules.release("middle") == "6.1.0"


def test_the_first_folder_has_the_drivers_own_build(tmp_path: Path) -> None:
    _module(tmp_path / "mine", "ixgbe", "mdio")
    _module(tmp_path / "debian", "ixgbe")
    _module(tmp_path / "debian", "mdio")
    assert Modules([tmp_path / "mine", tmp_path / "debian"]).order(["ixgbe"]) == ["mdio", "ixgbe"]


def test_what_is_part_of_the_kernel_is_not_loaded(tmp_path: Path) -> None:
    _module(tmp_path / "m", "ixgbe", "mdio")
    (tmp_path / "m/modules.builtin").write_text("kernel/drivers/net/mdio.ko\n")
    assert Modules([tmp_path / "m"]).order(["ixgbe"]) == ["ixgbe"]


def test_a_module_that_is_missing_is_named_with_who_needs_it(tmp_path: Path) -> None:
    _module(tmp_path / "m", "ixgbe", "mdio")
    with pytest.raises(BottomhalfError, match=r"no module mdio \(needed by ixgbe\)"):
        Modules([tmp_path / "m"]).order(["ixgbe"])


# ---------------------------------------------------------------- network


def test_the_shell_takes_what_the_network_is_told() -> None:
    for settings in (_settings(), _settings(bond=False)):
        for script in (
            network.start(settings),
            network.add_card(settings, "eth1"),
            network.remove_card(settings, "eth0"),
        ):
            subprocess.run(["sh", "-n", "-c", script], check=True)


def test_bonding_gets_its_options_by_their_own_names_before_its_slaves() -> None:
    bond = BondSettings(
        slaves=("eth0", "eth1"), mode="802.3ad", lacp_rate="fast", primary="eth1",
        arp_ip_target=("192.168.1.1", "192.168.1.2"),
    )  # fmt: skip
    lines = network.start(_settings()._replace(bond=bond)).splitlines()
    options = "/sys/class/net/bond0/bonding/"
    order = [
        lines.index("ip link add bond0 type bond"),
        lines.index(f"echo 802.3ad >{options}mode"),
        lines.index(f"echo fast >{options}lacp_rate"),
        lines.index("ip link set eth0 master bond0"),
        lines.index(f"echo eth1 >{options}primary"),
    ]
    assert order == sorted(order)
    assert f"echo +192.168.1.2 >{options}arp_ip_target" in lines


# ---------------------------------------------------------------- QEMU


def _plan(tmp_path: Path, **more: object) -> qemu.GuestPlan:
    plan = qemu.GuestPlan(fetch.Qemu(("qemu",)), tmp_path / "vmlinuz", b"", "6.1.0")
    return plan._replace(**more)


def test_nics_sit_behind_the_root_ports_of_the_emulated_machine(tmp_path: Path) -> None:
    words = qemu.command(_plan(tmp_path), _settings().nics, qemu.Descriptors(7, 8))
    ports = [word for word in words if word.startswith("pcie-root-port")]
    assert [port.split(",")[3] for port in ports] == ["addr=1c.0", "addr=1c.1"]
    devices = [word for word in words if "vfio-user-pci" in word]
    assert ['"eth0.slot"' in devices[0], '"eth1.slot"' in devices[1]] == [True, True]
    assert "memory-backend-memfd,id=ram,size=512M,share=on" in words
    assert "-gdb" not in words


def test_a_debugger_is_waited_for(tmp_path: Path) -> None:
    words = qemu.command(
        _plan(tmp_path, gdb=True, append="nokaslr"), _settings().nics, qemu.Descriptors(7, 8)
    )
    assert "-S" in words
    assert words[words.index("-gdb") + 1] == "chardev:gdb"
    assert words[words.index("-append") + 1].endswith(" nokaslr")


def test_without_virtio_commands_come_by_the_second_serial_line(tmp_path: Path) -> None:
    words = qemu.command(_plan(tmp_path, channel=False), _settings().nics, qemu.Descriptors(7, 8))
    assert "chardev:commands" in words
    assert "virtio-serial-pci,id=serial,bus=pcie.0,addr=3" not in words


# ---------------------------------------------------------------- commands


def test_commands_wait_until_the_guest_is_ready_and_their_output_comes_by_stream() -> None:
    ours, theirs = socket.socketpair()
    booted: list[bool] = []
    channel = Channel(ours, lambda: booted.append(True))
    job = channel.spawn("guest", ("echo", "a b"))
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    theirs.sendall(b"hello\n")
    channel.receive()
    assert booted == [True]
    channel.open()
    verb_, number, text = theirs.recv(1000).split()
    assert (verb_, number) == (b"run", b"1")
    assert base64.b64decode(text) == b"echo 'a b'"
    theirs.sendall(b"out 1 first\nerr 1 sec")
    channel.receive()
    theirs.sendall(b"ond\nexit 1 3\n")
    channel.receive()
    assert job.take() == [(1, "first\n"), (2, "second\n")]
    assert job.exit_code == 3
    late = channel.spawn("guest", ("true",))
    channel.lose("it has powered off")
    assert late.failed == channel.spawn("guest", ("x",)).failed == "it has powered off"
    channel.close()
    theirs.close()


# ---------------------------------------------------------------- a slot without a card


def test_an_empty_slot_reads_all_ones_and_takes_writes() -> None:
    read = struct.pack("<QII", 8, 0, 4)
    answer = slots._answer_of_none(vfio_user.REGION_READ, read)
    assert answer == read + b"\xff" * 4
    write = struct.pack("<QII", 8, 7, 2)
    assert slots._answer_of_none(vfio_user.REGION_WRITE, write + b"ab") == write
    assert slots._answer_of_none(vfio_user.SET_IRQS, b"...") == b""


def test_a_connection_is_handed_over_before_anything_was_said_on_it() -> None:
    server = vfio_user.Server(vfio_user.Card((4096,), (1,)), lambda line: None)
    server.receive(vfio_user.command(0, vfio_user.ADOPT, posted=True), [5])
    assert server.requests == [vfio_user.Adopt(5)]
    assert not server.output
    assert not server.unused


def test_half_a_record_is_no_record() -> None:
    whole = vfio_user.command(3, vfio_user.DEVICE_RESET)
    assert [m.number for m in slots._messages(whole * 2)] == [3, 3]
    with pytest.raises(ValueError):
        slots._messages(whole + whole[:7])


def _posted(offset: int) -> bytes:
    """The write of a register, as QEMU posts it."""
    body = struct.pack("<QIII", offset, 0, 4, 1)
    return vfio_user.command(offset & 0xFFFF, vfio_user.REGION_WRITE, body, posted=True)


@pytest.mark.parametrize("cut", range(1, 36))
def test_the_stream_of_a_card_that_died_in_a_message_is_taken_up_at_the_next(cut: int) -> None:
    read = vfio_user.command(9, vfio_user.REGION_READ, struct.pack("<QII", 8, 0, 4))
    stream = _posted(0x6018)[cut:] + _posted(0x808) + read + _posted(8)[:cut]
    skipped, found, rest = slots._find(stream)
    assert skipped == 36 - cut
    assert [m.name for m in found] == [vfio_user.REGION_WRITE, vfio_user.REGION_READ]
    assert rest == _posted(8)[:cut]


def test_a_slot_answers_behind_half_a_message_and_the_next_card_begins_with_a_whole_one(
    tmp_path: Path,
) -> None:
    ours, qemus = socket.socketpair()
    machine = SimpleNamespace(
        rundir=SimpleNamespace(path=tmp_path, socket_path=lambda name: str(tmp_path / name)),
        watch_fd=lambda fd, call: None,
        unwatch_fd=lambda fd: None,
    )
    slot = slots.Slot("eth0", cast(ProcessMachine, machine))
    slot._qemu = ours
    slot._empty()
    read = vfio_user.command(9, vfio_user.REGION_READ, struct.pack("<QII", 8, 0, 4))
    qemus.sendall(_posted(0x6018)[20:])
    slot._answer()  # the other half alone tells nothing yet
    qemus.sendall(read + _posted(0x808)[:7])
    slot._answer()
    assert qemus.recv(100)[-4:] == b"\xff" * 4
    assert "had read half a message: 16 bytes" in (tmp_path / "eth0.log").read_text()
    qemus.sendall(_posted(0x808)[7:])
    slot.hand_over()  # there is no card; but nothing of a message is left for one
    assert (slot._rest, slot._answering) == (b"", True)
    slot.close()
    qemus.close()


def test_what_is_no_message_is_kept_until_more_comes() -> None:
    assert slots._find(b"\xff" * 100) == (0, [], b"\xff" * 100)


# ---------------------------------------------------------------- a scenario's ping


def test_the_times_of_lost_requests_lie_between_those_of_their_neighbours() -> None:
    text = (
        "[100.002000] 64 bytes from gateway (192.168.1.1): icmp_seq=1 ttl=64 time=2.00 ms\n"
        "[100.402000] 64 bytes from gateway (192.168.1.1): icmp_seq=5 ttl=64 time=2.00 ms\n"
        "[100.403000] 64 bytes from gateway (192.168.1.1): icmp_seq=5 ttl=64 time=3.00 ms (DUP!)\n"
        "\n--- gateway ping statistics ---\n6 packets transmitted, 2 received, 66% packet loss\n"
    )
    times = play.ping_times(text, Clocks(-100_000_000_000, 0))
    assert [round(sent / 1e6) for sent in times.sent] == [0, 100, 200, 300, 400, 500]
    assert sorted(times.received) == [1, 5]
    assert times.duplicates == 1


def test_the_kernels_lines_are_read_with_level_and_time() -> None:
    text = (
        "<3>[   12.000100] ixgbe 0000:02:00.0: Adapter removed\n"
        "<12>[   13.000000] bottomhalf: the time is 1700000000.1\n"
    )
    (line,) = play.log_lines(text)
    assert (line.level, line.time_ns) == (3, 12_000_100_000)


def test_a_scenario_that_expects_what_nobody_measures_is_refused() -> None:
    loaded = scenario.load("failover")
    play.check(loaded)
    step = loaded.steps[0]
    asked = step.expect[0]._replace(quantity="irqs(eth0)", text="irqs(eth0) >= 1")
    with pytest.raises(BottomhalfError, match="not measured in a guest"):
        play.check(loaded._replace(steps=(step._replace(expect=(asked,)),)))


# ---------------------------------------------------------------- what is missing is said


def test_without_apt_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(BottomhalfError) as caught:
        fetch.everything()
    assert "no apt-get here" in caught.value.what
    assert "vfio-user-pci in PATH" in caught.value.hint
    assert caught.value.code == 2


def test_a_partial_fetch_is_never_taken_for_a_whole_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(aptroot, "mirror", lambda: "file:/nowhere")

    def broken(work: Path, *_: object) -> str:
        (work / "tree").mkdir()
        raise BottomhalfError("guest: the network went away")

    monkeypatch.setattr(fetch, "_get_kernel", broken)
    with pytest.raises(BottomhalfError):
        fetch._fetch(fetch.KERNEL, fetch.Teller())
    assert cache.newest(fetch.KERNEL) is None
    assert list((tmp_path / "bottomhalf").iterdir()) == []


def test_the_newest_of_what_was_fetched_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for age, name in enumerate(("qemu-11.1.3", "qemu-11.1.2", "kernel-6.1.176")):
        (tmp_path / "bottomhalf" / name).mkdir(parents=True)
        os.utime(tmp_path / "bottomhalf" / name, (100 - age, 100 - age))
    found = cache.newest("qemu")
    assert found is not None
    assert found.name == "qemu-11.1.3"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kernel", "vmlinuz"], "a kernel needs its own modules"),
        (["--modules", "/no/such/folder"], "no such folder"),
        (["--nics", "9"], "a number from 1 to 8"),
        (["--smp", "two"], "a number from 1 to 16"),
    ],
)
def test_slips_are_said_before_anything_is_started(words: list[str], said: str) -> None:
    values = ("--kernel", "--modules", "--nics", "--smp", "--bond")
    given = parse("guest", words, (), values)
    with pytest.raises(BottomhalfError, match=said):  # noqa: PT012  (whichever looks first)
        verb.check_files(given)
        verb._settings(given, "guest")


def test_a_guest_has_the_nics_and_the_bond_that_it_was_given() -> None:
    given = parse("guest", ["--nics", "3", "--bond", "mode=1"], (), ("--nics", "--bond", "--smp"))
    settings = verb._settings(given, "g")
    assert settings.node_names == ("eth0", "eth1", "eth2", "lan")
    assert settings.bond is not None
    assert settings.bond.slaves == ("eth0", "eth1", "eth2")
    assert verb._settings(parse("guest", []), "g").bond is None
    assert tomlfile.bundled("machines")  # the file was not changed by that
