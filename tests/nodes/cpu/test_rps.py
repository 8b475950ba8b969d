"""Receive packet steering: frames of a queue are received on other CPUs."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from nodes.cpu.kernel.net.rps import flow_hash
from tests.nodes.cpu.harness import Box
from tests.nodes.cpu.wire import PEER, US, Wire, counters

FILE = "/sys/class/net/eth0/queues/rx-{}/rps_cpus"


def steered(era: str, mask: str, cpus: int = 4) -> Box:
    box = Box(era, cpus=cpus, primary="eth0")
    box.ping("-c", "1")
    for queue in range(cpus):
        assert box.run("write", FILE.format(queue), mask).code == 0
    return box


def processed(box: Box) -> list[int]:
    return [page.run("softnet")[0] for page in box.pages.values()]


def ipis(box: Box) -> list[int]:
    return [page.run("softnet")[4] for page in box.pages.values()]


def flow(port: int) -> IP:
    return IP(src=PEER, dst=US) / UDP(sport=port, dport=7) / Raw(b"x")


@pytest.mark.conformance("N7.3")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_flow_is_received_on_one_cpu_of_the_mask(era: str) -> None:
    box = steered(era, "c")
    wire = Wire(box)
    targets = []
    for port in (5000, 5000, 5001, 5002, 5003, 5004, 5004):
        before, told = processed(box), ipis(box)
        polled = [page.run("rx_polled")[0] for page in box.pages.values()]
        wire.arrive(flow(port), ms=2)
        here = [b - a for a, b in zip(before, processed(box), strict=True)]
        assert sorted(here) == [0, 0, 0, 2]  # as eth0's, and as bond0's
        targets.append(here.index(2))
        got = [b - a for a, b in zip(told, ipis(box), strict=True)]
        after = [page.run("rx_polled")[0] for page in box.pages.values()]
        taken = [b - a for a, b in zip(polled, after, strict=True)].index(1)
        assert got == [int(n == targets[-1] != taken) for n in range(4)]
    assert set(targets) == {2, 3}
    assert targets[0] == targets[1]
    assert targets[5] == targets[6]
    assert counters(box)["Udp NoPorts"] == 7


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_pings_go_on_through_a_steered_queue(era: str) -> None:
    box = steered(era, "8")
    before = processed(box)
    ran = box.ping("-c", "10", "-i", "0.01")
    assert ran.code == 0
    assert [b - a for a, b in zip(before, processed(box), strict=True)] == [0, 0, 0, 20]


def test_a_cpu_that_steers_to_itself_sends_no_ipi() -> None:
    box = steered("6.1", "1", cpus=1)
    before = ipis(box)
    assert box.ping("-c", "3", "-i", "0.01").code == 0
    assert ipis(box) == before


def test_the_backlog_of_the_target_is_limited() -> None:
    box = steered("6.1", "2", cpus=2)
    box.run("write", "/proc/sys/net/core/netdev_max_backlog", "0")
    before = box.drops().get(("eth0", "CPU_BACKLOG"), [0, 0, 0])[0]
    wire = Wire(box)
    wire.arrive(flow(1))
    dropped = box.drops()[("eth0", "CPU_BACKLOG")][0] - before
    assert dropped == 1
    assert box.pages["cpu1"].run("softnet")[1] >= 1


def test_masks_are_shown_and_refused_as_by_the_kernel() -> None:
    box = Box("6.1", cpus=4)
    assert box.proc(FILE.format(0)) == "0\n"
    assert box.run("write", FILE.format(0), "a\n").code == 0
    assert box.proc(FILE.format(0)) == "a\n"
    assert "Invalid argument" in box.run("write", FILE.format(0), "x").err
    assert "Value too large" in box.run("write", FILE.format(0), "1ff").err
    assert box.run("write", FILE.format(0), "0").code == 0
    assert box.proc(FILE.format(0)) == "0\n"


def test_2_6_18_has_no_queues_in_sysfs() -> None:
    with pytest.raises(FileNotFoundError):
        Box("2.6.18").proc(FILE.format(0))


def test_ports_count_only_where_there_are_some() -> None:
    def frame(packet: IP) -> bytes:
        return bytes(12) + b"\x08\x00" + bytes(packet)

    assert flow_hash(frame(flow(1))) != flow_hash(frame(flow(2)))
    first = IP(src=PEER, dst=US, proto=17, flags="MF") / Raw(b"\0\1\0\7" + bytes(12))
    rest = IP(src=PEER, dst=US, proto=17, frag=2) / Raw(b"\0\2\0\7" + bytes(12))
    assert flow_hash(frame(first)) == flow_hash(frame(rest))
