"""ip link, addr, neigh and monitor: texts of a real iproute2, and what they change."""

from __future__ import annotations

import re

import pytest

from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.timer import msleep
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box

HERE = "e1000e-smp2/"


def alike(text: str) -> list[str]:
    """Lines without what differs between that machine and ours: addresses, numbers, the queueing
    discipline of a port, and the blanks in front of numbers."""
    text = re.sub(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC", text)
    text = re.sub(r"192\.(0\.2|168\.1)\.", "NET.", text)
    text = re.sub(r"qdisc (fq_codel|mq|pfifo_fast)", "qdisc PORT", text)
    text = re.sub(r" permaddr MAC", "", text)
    return [re.sub(r" +\d+", " N", line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("command", "file"),
    [(("link",), "after20/ip-s-link.txt"), (("addr",), "after20/ip-addr.txt")],
)
def test_devices_are_listed_as_by_iproute2(command: tuple[str, ...], file: str) -> None:
    box = Box(primary="eth0")
    box.ping("-c", "1")
    box.live(2000)
    words = ("-s", *command) if command == ("link",) else command
    ours = box.run("ip", *words).out
    assert alike(ours) == alike(captured(HERE + file))


def test_the_columns_of_counters_grow_with_the_numbers() -> None:
    box = Box(primary="eth0")
    box.ping("-q", "-f", "-c", "300")
    lines = box.run("ip", "-s", "link", "show", "eth0").lines
    received = lines[2:4]
    stats = box.proc("/proc/net/dev")
    row = next(line for line in stats.splitlines() if line.startswith("  eth0")).split()
    assert received[0] == "    RX:  bytes packets errors dropped  missed   mcast           "
    assert received[1].split()[:2] == row[1:3]
    assert received[1].index(row[2]) + len(row[2]) == received[0].index("packets") + len("packets")


def test_a_route_and_a_neighbour_read_as_on_a_real_machine() -> None:
    box = Box()
    box.ping("-c", "1")
    ours = box.run("ip", "route").out + box.run("ip", "neigh").out
    assert alike(ours) == alike(captured(HERE + "static/ip-route-rule-neigh.txt"))


@pytest.mark.parametrize("era", ERAS)
def test_a_device_without_carrier_says_so(era: str) -> None:
    box = Box(era, primary="eth0")
    box.cable("eth1", inserted=False)
    box.live(1500)
    (line,) = [line for line in box.run("ip", "link", "show", "eth1").lines if "eth1:" in line]
    assert "<NO-CARRIER,BROADCAST,MULTICAST,SLAVE,UP>" in line
    qdisc = "pfifo_fast" if era == "2.6.18" else "mq"
    assert f"qdisc {qdisc} master bond0 state DOWN" in line
    box.run("ip", "link", "set", "eth1", "down")
    line = box.run("ip", "link", "show", "dev", "eth1").lines[0]
    assert "<BROADCAST,MULTICAST,SLAVE>" in line
    assert f"qdisc {qdisc} master bond0 state DOWN" in line
    assert box.run("ip", "link", "show", "eth7").err == 'Device "eth7" does not exist.\n'


@pytest.mark.parametrize("era", ERAS)
def test_a_permanent_neighbour_needs_no_arp_and_hears_none(era: str) -> None:
    box = Box(era)
    mac = "02:00:00:00:00:01"
    assert box.run("ip", "neigh", "add", GATEWAY, "lladdr", mac, "dev", "bond0").code == 0
    tap = box.capture("bond0", "-p")
    assert box.ping("-c", "1").code == 0
    assert tap.kinds()["arp-request"] == 0
    assert box.run("ip", "neigh").out == f"{GATEWAY} dev bond0 lladdr {mac} PERMANENT \n"
    assert " 0x6 " in box.proc("/proc/net/arp")
    again = box.run("ip", "neigh", "add", GATEWAY, "lladdr", mac, "dev", "bond0")
    assert (again.code, again.err) == (2, "RTNETLINK answers: File exists\n")
    wrong = "02:00:00:00:00:77"
    box.run("ip", "neigh", "replace", GATEWAY, "lladdr", wrong, "dev", "bond0")
    assert box.ping("-c", "1", "-W", "0.1").code == 1
    box.run("ip", "neigh", "flush", "all")
    assert wrong in box.run("ip", "neigh").out  # it is permanent
    assert box.run("ip", "neigh", "del", GATEWAY, "dev", "bond0").code == 0
    assert box.run("ip", "neigh").out == ""
    assert box.ping("-c", "1").code == 0


def test_flushed_and_failed_neighbours() -> None:
    box = Box()
    box.ping("-c", "1")
    box.ping("-c", "1", to="192.168.1.77")
    lines = box.run("ip", "neigh").lines
    assert lines[1] == "192.168.1.77 dev bond0 FAILED "
    job = box.start("ping", "-c", "1", "192.168.1.78")
    box.live(50)
    assert box.run("ip", "neigh", "show", "192.168.1.78").out == (
        "192.168.1.78 dev bond0 INCOMPLETE \n"
    )
    box.run("ip", "neigh", "flush", "dev", "bond0")
    assert box.run("ip", "neigh").out == ""
    assert "Destination Host Unreachable" in box.end(job).out
    box.live(5)
    box.ping("-c", "1", cpu="cpu1")  # another CPU forgot it too
    assert "REACHABLE" in box.run("ip", "neigh").out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("neigh", "add", "1.2.3", "dev", "bond0"), "inet address is expected"),
        (("neigh", "add", GATEWAY), "Device and destination are required"),
        (("neigh", "add", GATEWAY, "lladdr", "x", "dev", "bond0"), '"x" is invalid lladdr.'),
        (("neigh", "del", "192.168.1.9", "dev", "bond0"), "No such file or directory"),
        (("neigh", "xyz"), 'Command "xyz" is unknown'),
        (("monitor", "route"), 'Argument "route" is unknown'),
    ],
)
def test_refusals(words: tuple[str, ...], text: str) -> None:
    assert text in Box().run("ip", *words).err


@pytest.mark.conformance("N5.1")
def test_linkwatch_of_2_6_18_speaks_once_a_second_while_bonding_polls() -> None:
    box = Box("2.6.18", miimon=20, primary="eth0")
    box.live(3000)
    job = box.start("ip", "monitor", "link")
    box.live(1500)
    cpu: Cpu = box.machine.simulation.node("cpu0").cpu  # type: ignore[assignment]
    dev = cpu.net.by_name["eth0"]

    def flaps() -> Context:
        for _ in range(2):
            for change in (device.carrier_off, device.carrier_on):
                yield from change(cpu, dev)
                yield from msleep(cpu, 200)

    began = box.now_s
    kthread_run(cpu, "flaps", flaps())
    box.run("sleep", "0.9")
    bonding = [line for line in box.said(began) if "link status" in line and "eth0" in line]
    assert ["down" in line for line in bonding] == [True, False, True, False]
    box.live(2000)
    told = [line for line in box.interrupt(job).lines if ": eth0:" in line]
    assert len(told) == 2  # the first change, and a second later what had become of it
    assert ["NO-CARRIER" in line for line in told] == [True, False]


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_later_kernels_tell_of_a_carrier_that_comes_at_once(era: str) -> None:
    box = Box(era, miimon=20, primary="eth0")
    box.live(3000)
    job = box.start("ip", "monitor", "link")
    box.cable("eth1", inserted=False)
    box.live(1500)
    box.cable("eth1", inserted=True)
    box.live(300)
    lines = [line for line in box.interrupt(job).lines if ": eth1:" in line]
    assert ["NO-CARRIER" in line for line in lines] == [True, False]
    assert lines[-1].startswith(
        "3: eth1: <BROADCAST,MULTICAST,SLAVE,UP,LOWER_UP> mtu 1500 qdisc mq"
    )
