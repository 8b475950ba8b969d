"""balance-rr, active-backup, balance-xor and broadcast: who sends, who receives, over and back."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from bus.messages import EthFrame
from tests.nodes.cpu.bonding.bonded import (
    PROC,
    at_10g,
    bond,
    bond_said,
    ledger,
    plug,
    read,
    write,
)
from tests.nodes.cpu.captures import bonding_lines, captured
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box, Tap, kind

MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast")
REAL = "e1000e-msi-smp2"


def sent_by(box: Box, count: int, *options: str) -> list[str]:
    """For each echo request of a ping, in order, the NIC that sent it."""
    senders: list[tuple[int, str]] = []

    def watch(now: int, sender: str, receiver: str, message: Any) -> None:
        if isinstance(message, EthFrame) and receiver == "lan" and kind(message.frame) == "request":
            senders.append((now, sender))

    box.machine.simulation.watch = watch
    box.ping("-c", str(count), "-i", "0.01", *options)
    return [sender.split("/")[-1] for _, sender in sorted(senders)]


# ---------------------------------------------------------------- over and back


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_fails_over_and_back_and_the_books_balance(era: str, mode: str) -> None:
    box = Box(era, mode=mode)
    box.ping("-c", "1")
    job = box.start("ping", "-i", "0.01", "-q", GATEWAY)
    for nic in ("eth0", "eth1"):
        box.cable(nic, inserted=False)
        box.live(600)
        assert bond(box)["carrier"]
        plug(box, nic)
    ran = box.interrupt(job)
    sent, received = (int(ran.lines[-2].split()[n]) for n in (0, 3))
    assert sent > 500
    assert 0 <= sent - received < 40  # two looks of the monitor at the most
    books = ledger(box)
    assert books.balanced, books.text()
    assert [slave["failures"] for slave in bond(box)["slaves"]] == [1, 1]
    assert [slave["link"] for slave in bond(box)["slaves"]] == [0, 0]


@pytest.mark.parametrize("mode", ["active-backup", "balance-xor", "broadcast"])
def test_the_log_of_a_mode_is_that_of_a_real_kernel(mode: str) -> None:
    box = Box(mode=mode)
    text = captured(f"{REAL}/mode-{mode}/1-dmesg.txt")
    real = [line.split("] ", 1)[1] for line in text.splitlines() if "bond0: " in line]
    assert sorted(bond_said(box)) == sorted(at_10g(real))  # links come up at the same look here
    for name, inserted in (("3-link-loss-eth0", False), ("4-link-on-again-eth0", True)):
        began = box.now_s
        box.cable("eth0", inserted=inserted)
        box.live(2600)
        assert bond_said(box, began) == at_10g(bonding_lines(f"{REAL}/mode-{mode}/{name}.txt"))


@pytest.mark.parametrize("mode", ["active-backup", "balance-xor", "broadcast"])
def test_proc_and_sysfs_of_a_mode_are_those_of_a_real_kernel(mode: str) -> None:
    box = Box(mode=mode)
    text = captured(f"{REAL}/mode-{mode}/1-proc-net-bonding-bond0.txt")
    text = text.replace("v6.1.0-56-amd64", "v6.1.0").replace("1000 Mbps", "10000 Mbps")
    for n in (1, 2):
        text = text.replace(f"52:54:00:00:00:1{n - 1}", f"00:1b:21:00:00:0{n}")
    assert box.proc(PROC) == text
    for line in captured(f"{REAL}/mode-{mode}/1-sysfs-bonding.txt").splitlines():
        path, _, value = line.partition("=")
        if "perm_hwaddr" in path:
            continue
        shown = box.proc(path) if path.startswith("/") else read(box, path) + "\n"
        assert shown == f"{value}\n", path


@pytest.mark.conformance("N3.14")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("mode", MODES)
def test_only_modes_with_a_primary_name_one(era: str, mode: str) -> None:
    text = Box(era, mode=mode).proc(PROC)
    assert text.splitlines()[1] == ""
    assert ("Primary Slave:" in text) == (mode == "active-backup")
    assert ("Currently Active Slave:" in text) == (mode == "active-backup")
    assert ("Transmit Hash Policy: layer2 (0)\n" in text) == (mode == "balance-xor")


# ---------------------------------------------------------------- who sends


@pytest.mark.parametrize("era", ERAS)
def test_round_robin_alternates(era: str) -> None:
    box = Box(era, mode="balance-rr")
    senders = sent_by(box, 10)
    assert Counter(senders) == {"eth0": 5, "eth1": 5}
    assert all(a != b for a, b in pairwise(senders))


@pytest.mark.parametrize(("era", "first"), [("2.6.18", 0), ("3.10", 0), ("6.1", 1)])
def test_the_first_packet_of_round_robin(era: str, first: int) -> None:
    box = Box(era, mode="balance-rr", boot=False)
    order: list[str] = []

    def watch(_now: int, sender: str, receiver: str, message: Any) -> None:
        if isinstance(message, EthFrame) and receiver == "lan":
            order.append(sender.rsplit("/", maxsplit=1)[-1])

    box.machine.simulation.watch = watch
    box.boot()
    box.ping("-c", "1", cpu="cpu0")
    assert order[0] == f"eth{first}"


def test_packets_per_slave() -> None:
    box = Box(mode="balance-rr", packets_per_slave=3)
    senders = sent_by(box, 14)
    runs = "".join(sender[-1] for sender in senders)
    assert "000111000" in runs
    assert write(box, "packets_per_slave", "0").code == 0
    drawn = sent_by(box, 60)
    assert set(drawn) == {"eth0", "eth1"}
    assert any(a == b == c for a, b, c in zip(drawn, drawn[1:], drawn[2:], strict=False))


@pytest.mark.conformance("N3.3")
@pytest.mark.parametrize("era", ERAS)
def test_layer2_gives_one_peer_one_slave(era: str) -> None:
    box = Box(era, mode="balance-xor")
    assert len(set(sent_by(box, 6))) == 1


@pytest.mark.conformance("N3.3")
@pytest.mark.parametrize(("nics", "differ"), [(2, False), (4, True)])
def test_in_6_1_arp_and_ip_of_one_peer_differ_by_their_ethertypes(nics: int, differ: bool) -> None:
    box = Box(mode="balance-xor", nics=nics)
    tap = {f"eth{n}": box.capture(f"eth{n}", "-p") for n in range(nics)}
    box.ping("-c", "2", "-i", "0.01")
    arp, ip = (_transmitters(tap, what) for what in ("arp-request", "request"))
    if not arp:  # its broadcast has another destination: hash by hand
        pytest.skip("no ARP was sent")
    mac = bytes.fromhex("020000000001")
    port = box.machine.simulation.node("cpu0").cpu.net.device("bond0").bonding
    source = bytes.fromhex("001b21000001")

    def index(protocol: bytes) -> int:
        class Frame:
            frame = mac + source + protocol

        return int(port.xmit_hash(box.machine.simulation.node("cpu0").cpu, Frame) % nics)

    assert (index(b"\x08\x06") != index(b"\x08\x00")) == differ
    assert ip == {f"eth{index(b'' + bytes((8, 0)))}"}


def _transmitters(taps: dict[str, Tap], what: str) -> set[str]:
    return {
        name
        for name, tap in taps.items()
        for packet in tap.packets()
        if packet.outgoing and kind(packet.data) == what
    }


def test_broadcast_sends_everything_everywhere_and_answers_come_twice() -> None:
    box = Box(mode="broadcast")
    box.ping("-c", "1")
    senders = sent_by(box, 5)
    assert Counter(senders) == {"eth0": 5, "eth1": 5}
    ran = box.ping("-c", "10", "-i", "0.1")
    assert "10 packets transmitted, 10 received, +9 duplicates" in ran.lines[-2] or (
        "10 packets transmitted, 10 received, +10 duplicates" in ran.lines[-2]
    )
    assert box.total("bond_copies") > 0


@pytest.mark.conformance("N2.11")
def test_2_6_18_round_robin_takes_frames_of_both_slaves() -> None:
    box = Box("2.6.18", mode="balance-rr")
    box.ping("-c", "1")
    tap = box.capture("bond0", "-p")
    frame = b"\xff" * 6 + bytes.fromhex("020000000001") + b"\x08\x06" + bytes(46)
    for nic in ("eth0", "eth1"):
        box.machine.simulation.send(nic, EthFrame(frame), sender="lan")
    box.live(20)
    assert len(tap.packets()) == 2


def test_a_slave_without_a_link_sends_nothing() -> None:
    for mode in MODES:
        box = Box(mode=mode)
        box.cable("eth1", inserted=False)
        box.live(500)
        assert set(sent_by(box, 6)) == {"eth0"}


def test_promiscuity_goes_to_all_slaves_of_a_mode_without_a_primary() -> None:
    for mode, slaves in (("balance-rr", {"eth0", "eth1"}), ("active-backup", {"eth0"})):
        box = Box(mode=mode)
        box.capture("bond0")
        said = {line.split()[1] for line in box.said() if "entered promiscuous" in line}
        assert said == {"bond0", *slaves}


@pytest.mark.conformance("N1.8")
@pytest.mark.parametrize("era", ERAS)
def test_a_bond_that_is_down_has_no_route(era: str) -> None:
    box = Box(era)
    assert box.run("ip", "link", "set", "bond0", "down").code == 0
    ran = box.ping("-c", "1")
    assert ran.err.endswith("connect: Network is unreachable\n")
    assert ran.code == 2
    assert read(box, "slaves").rstrip(" \n\0") == ("" if era == "2.6.18" else "eth0 eth1")
    assert box.run("ip", "link", "set", "bond0", "up").code == 0
    if era != "2.6.18":
        assert box.ping("-c", "1").code == 0
