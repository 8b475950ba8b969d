"""Packet sockets of one ethertype, and those that send."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.net.af_packet import packet_close, packet_open, packet_sendmsg
from nodes.cpu.kernel.net.taps import ETH_P_ALL
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import kthread_run
from tests.nodes.cpu.harness import ERAS, Box, Tap, kind

ORIG_DEV = (("packet_tap", "orig_dev"),)
ETH_P_IP = 0x0800


class Sockets:
    """Packet sockets that a kernel thread of cpu0 opens."""

    def __init__(self, box: Box) -> None:
        self.box = box
        node: Any = box.machine.simulation.node("cpu0")
        self.cpu: Cpu = node.cpu

    def call(self, context: Context) -> Any:
        got: list[Any] = []

        def thread() -> Context:
            got.append((yield from context))

        kthread_run(self.cpu, "test", thread())
        while not got:
            self.box.run("sleep", "0.001")
        return got[0]

    def open(self, name: str = "any", protocol: int = ETH_P_ALL) -> Tap:
        dev = self.cpu.net.by_name.get(name)
        index = 0 if dev is None else dev.ifindex
        session = self.call(packet_open(self.cpu, index, protocol))
        return Tap(self.box, session, None)  # type: ignore[arg-type]

    def send(self, tap: Tap, name: str, frame: bytes) -> int:
        dev = self.cpu.net.by_name[name]
        code: int = self.call(packet_sendmsg(self.cpu, tap._session, dev, frame))
        return code


FRAME = bytes.fromhex("020000000001 001b21000001 88b5") + bytes(46)


@pytest.mark.conformance("N1.10")
@pytest.mark.parametrize("era", ERAS)
def test_a_sender_never_sees_its_own_frame_others_do(era: str) -> None:
    box = Box(era, primary="eth0")
    sockets = Sockets(box)
    mine, others = sockets.open(), sockets.open()
    bond0, eth0 = sockets.open("bond0"), sockets.open("eth0")
    assert sockets.send(mine, "bond0", FRAME) == 0
    assert mine.packets() == []
    assert len(others.packets()) == 2  # at bond0 and at eth0
    assert [p.data for p in bond0.packets()] == [FRAME]
    assert [p.data for p in eth0.packets()] == [FRAME]
    box.ping("-c", "1")
    assert len(mine.packets()) >= 2


@pytest.mark.conformance("N2.14b")
@pytest.mark.parametrize(
    ("era", "overrides", "packets"),
    [("2.6.18", (), 0), ("2.6.18", ORIG_DEV, 1), ("3.10", (), 1), ("6.1", (), 1)],
)
def test_a_socket_for_ip_alone_on_a_slave_sees_the_bonds_reply_or_nothing(
    era: str, overrides: tuple[tuple[str, str], ...], packets: int
) -> None:
    box = Box(era, primary="eth0", overrides=overrides)
    box.ping("-c", "1")
    sockets = Sockets(box)
    eth0, bond0 = sockets.open("eth0", ETH_P_IP), sockets.open("bond0", ETH_P_IP)
    wild, arp = sockets.open("any", ETH_P_IP), sockets.open("eth0", 0x0806)
    assert box.ping("-c", "1").code == 0
    assert [kind(p.data) for p in eth0.packets()] == ["reply"] * packets
    assert [kind(p.data) for p in bond0.packets()] == ["reply"]
    assert [kind(p.data) for p in wild.packets()] == ["reply"]  # once, and nothing that leaves
    assert arp.packets() == []


@pytest.mark.parametrize("era", ERAS)
def test_a_closed_socket_sees_nothing(era: str) -> None:
    box = Box(era, primary="eth0")
    sockets = Sockets(box)
    tap = sockets.open("bond0", ETH_P_IP)
    sockets.call(packet_close(sockets.cpu, tap._session))
    box.ping("-c", "1")
    assert tap.packets() == []
    assert sockets.cpu.net.ptypes == []


@pytest.mark.parametrize("era", ERAS)
def test_arp_that_another_cpu_hands_over_is_seen_once(era: str) -> None:
    box = Box(era, cpus=4, primary="eth0")
    sockets = Sockets(box)
    tap = sockets.open("any", 0x0806)
    box.ping("-c", "1")
    assert [kind(p.data) for p in tap.packets()] == ["arp-reply"]
