"""Slaves come and go while the bond runs: in every mode, with every line that it costs."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.net.netdevice import IFF_UP
from tests.nodes.cpu.bonding.bonded import PROC, bond, bond_said, ledger, read, refused, write
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box

MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast")


def device(box: Box, name: str) -> Any:
    return box.machine.simulation.node("cpu0").cpu.net.device(name)


@pytest.mark.conformance("N3.1", "N3.2")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("mode", MODES)
def test_a_slave_leaves_and_comes_back_under_a_ping(era: str, mode: str) -> None:
    box = Box(era, mode=mode)
    box.ping("-c", "1")
    job = box.start("ping", "-i", "0.02", "-q", GATEWAY)
    box.live(200)
    mac = device(box, "bond0").dev_addr
    since = box.now_s
    assert write(box, "slaves", "-eth0").code == 0
    eth0 = device(box, "eth0")
    assert not eth0.flags & IFF_UP
    assert eth0.dev_addr == bytes.fromhex("001b21000001")
    assert bond(box)["carrier"]
    assert device(box, "bond0").dev_addr == mac
    new = [line for line in bond_said(box, since) if "new active one" in line]
    assert len(new) == (mode == "active-backup")
    box.live(300)
    assert write(box, "slaves", "+eth0").code == 0
    box.live(3000)
    assert read(box, "slaves").rstrip(" \n\0") == "eth1 eth0"
    assert [slave["link"] for slave in bond(box)["slaves"]] == [0, 0]
    assert device(box, "eth0").dev_addr == device(box, "eth1").dev_addr == mac
    assert len({slave["perm_hwaddr"] for slave in bond(box)["slaves"]}) == 2
    box.interrupt(job)
    assert box.ping("-c", "2", "-i", "0.1").code == 0
    books = ledger(box)
    assert books.balanced, books.text()


@pytest.mark.conformance("N3.1b")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("mode", MODES)
def test_the_last_slave_takes_the_carrier_along_in_silence(era: str, mode: str) -> None:
    box = Box(era, mode=mode)
    for nic in ("eth0", "eth1"):
        since = box.now_s
        assert write(box, "slaves", f"-{nic}").code == 0
    assert not bond(box)["carrier"]
    assert not [line for line in bond_said(box, since) if "without any" in line]
    assert read(box, "slaves").rstrip("\n\0") == ""
    zero = device(box, "bond0").dev_addr == bytes(6)
    assert zero == (era == "2.6.18")


@pytest.mark.parametrize(
    ("mode", "role"),
    [("active-backup", "backup"), ("balance-rr", "active"), ("broadcast", "active")],
)
def test_what_a_new_slave_is_called(mode: str, role: str) -> None:
    article = {"backup": "a", "active": "an"}[role]
    for era in ERAS:
        box = Box(era, mode=mode)
        said = bond_said(box)[0].lower()
        assert f"enslaving {'' if era == '6.1' else 'eth0 '}as {article} {role} interface" in said


@pytest.mark.parametrize(("era", "mtu"), [("2.6.18", 1500), ("3.10", 1400), ("6.1", 1400)])
def test_a_slave_gets_the_bonds_mtu_and_its_own_back(era: str, mtu: int) -> None:
    box = Box(era)
    assert write(box, "slaves", "-eth1").code == 0
    assert box.run("ip", "link", "set", "bond0", "mtu", "1400").code == 0
    assert write(box, "slaves", "+eth1").code == 0
    assert device(box, "eth1").mtu == mtu
    assert write(box, "slaves", "-eth1").code == 0
    assert device(box, "eth1").mtu == 1500


def test_lo_and_the_bond_itself_are_refused_as_by_a_real_kernel() -> None:
    box = Box()
    since = box.now_s
    assert refused(write(box, "slaves", "+lo"), "Operation not permitted")
    assert refused(write(box, "slaves", "+bond0"), "Operation not permitted")
    text = captured("e1000e-msi-smp2/failover/20-refused-settings.txt")
    (real,) = (line.split("] ", 1)[1] for line in text.splitlines() if "(slave lo)" in line)
    assert bond_said(box, since) == [
        real,
        "bond0: (slave lo): Error: Device can not be enslaved while up",
        "bond0: Error: Cannot enslave bond to itself.",
    ]


@pytest.mark.parametrize("era", ERAS)
def test_a_slave_cannot_be_enslaved_again(era: str) -> None:
    """Up to 3.10 that is a pr_debug only."""
    box = Box(era)
    since = box.now_s
    assert refused(write(box, "slaves", "+eth0"), "Device or resource busy")
    new = ["bond0: (slave eth0): Error: Device is in use and cannot be enslaved"]
    assert bond_said(box, since) == (new if era == "6.1" else [])


def test_ip_link_set_master_as_a_real_kernel_does_it() -> None:
    """20-refused-settings: netlink tells who asked, and the log has only the warning."""
    box = Box()
    ip = lambda *words: box.run("ip", "link", "set", *words)  # noqa: E731
    text = captured("e1000e-msi-smp2/failover/20-refused-settings.txt")
    since = box.now_s
    ran = ip("lo", "master", "bond0")
    (real,) = (line for line in text.splitlines() if "enslaved while up" in line)
    assert (ran.code, ran.err) == (2, real + "\n")
    (warning,) = (line.split("] ", 1)[1] for line in text.splitlines() if "(slave lo)" in line)
    assert bond_said(box, since) == [warning]
    assert ip("eth0", "master", "bond0").code == 0  # it is its master already
    assert bond_said(box, since) == [warning]
    box.live(1)
    since = box.now_s
    assert ip("dev", "eth1", "nomaster").code == 0
    assert bond_said(box, since) == ["bond0: (slave eth1): Releasing backup interface"]
    assert read(box, "slaves") == "eth0"
    assert ip("eth1", "nomaster").code == 0
    assert ip("eth1", "up").code == ip("eth1", "up").code == 0
    assert ip("eth1", "master", "bond0").err == real + "\n"
    assert ip("eth1", "down", "master", "bond0").code == 0
    assert read(box, "slaves") == "eth0 eth1"
    box.live(3000)
    assert [slave["link"] for slave in bond(box)["slaves"]] == [0, 0]
    assert ip("eth1", "master", "eth0").err == "RTNETLINK answers: Operation not supported\n"
    assert ip("bond0", "master", "bond0").err == "Error: Cannot enslave bond to itself.\n"
    ran = ip("eth1", "master", "br7")
    assert (ran.code, ran.err) == (
        255, 'Error: argument "br7" is wrong: Device does not exist\n\n'
    )  # fmt: skip
    assert ledger(box).balanced


@pytest.mark.parametrize("era", ["2.6.18", "3.10"])
def test_ip_link_set_master_of_an_older_kernel_has_only_an_errno(era: str) -> None:
    box = Box(era)
    since = box.now_s
    ran = box.run("ip", "link", "set", "lo", "master", "bond0")
    assert (ran.code, ran.err) == (2, "RTNETLINK answers: Operation not permitted\n")
    assert bond_said(box, since)[-1] == (
        "bonding: bond0: lo is up - this may be due to an out of date ifenslave"
    )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("ip addr add 10.0.0.1/8 dev bond0", "addr add"),
        ("ip a flush dev bond0", "a flush"),
        ("ip link add bond1 type bond", "link add"),
        ("ip link del bond0", "link del"),
        ("ip -d link show bond0", "the option -d"),
    ],
)
def test_what_ip_does_not_know_here_is_said_by_name(line: str, what: str) -> None:
    ran = Box().run(*line.split())
    assert (ran.code, ran.err) == (255, f"ip: {what} is not modelled\n")


def test_2_6_18_takes_no_slave_while_it_is_down() -> None:
    for era, why in (("2.6.18", "Operation not permitted"), ("3.10", ""), ("6.1", "")):
        box = Box(era)
        assert write(box, "slaves", "-eth1").code == 0
        assert box.run("ip", "link", "set", "bond0", "down").code == 0
        ran = write(box, "slaves", "+eth1")
        assert refused(ran, why) if why else ran.code == 0


# ---------------------------------------------------------------- /proc by era

_18 = """\
Ethernet Channel Bonding Driver: v3.0.3 (March 23, 2006)

Bonding Mode: {long}
{more}MII Status: up
MII Polling Interval (ms): {miimon}
Up Delay (ms): 0
Down Delay (ms): 0
{arp}
Slave Interface: eth0
MII Status: up
Link Failure Count: {count}
Permanent HW addr: 00:1b:21:00:00:01

Slave Interface: eth1
MII Status: up
Link Failure Count: {count}
Permanent HW addr: 00:1b:21:00:00:02
"""
_310 = """\
Ethernet Channel Bonding Driver: v3.7.1 (April 27, 2011)

Bonding Mode: {long}
{more}MII Status: up
MII Polling Interval (ms): {miimon}
Up Delay (ms): 0
Down Delay (ms): 0
{arp}
Slave Interface: eth0
MII Status: up
Speed: 10000 Mbps
Duplex: full
Link Failure Count: {count}
Permanent HW addr: 00:1b:21:00:00:01
Slave queue ID: 0

Slave Interface: eth1
MII Status: up
Speed: 10000 Mbps
Duplex: full
Link Failure Count: {count}
Permanent HW addr: 00:1b:21:00:00:02
Slave queue ID: 0
"""
_LONG = {
    "balance-rr": ("load balancing (round-robin)", ""),
    "active-backup": (
        "fault-tolerance (active-backup)",
        "Primary Slave: eth0{reselect}\nCurrently Active Slave: eth0\n",
    ),
    "balance-xor": ("load balancing (xor)", "Transmit Hash Policy: layer2 (0)\n"),
    "broadcast": ("fault-tolerance (broadcast)", ""),
}


@pytest.mark.conformance("N3.14")
@pytest.mark.parametrize("arp", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("era", "template"), [("2.6.18", _18), ("3.10", _310)])
def test_proc_of_older_eras(era: str, template: str, mode: str, arp: bool) -> None:
    options: dict[str, Any] = {"mode": mode}
    if mode == "active-backup":
        options["primary"] = "eth0"
    if arp:
        options.update(miimon=0, arp_interval=200, arp_ip_target=("192.168.1.1", "192.168.1.2"))
    box = Box(era, **options)
    box.live(2000)
    long, more = _LONG[mode]
    reselect = "" if era == "2.6.18" else " (primary_reselect always)"
    lines = (
        "ARP Polling Interval (ms): 200\nARP IP target/s (n.n.n.n form): 192.168.1.1, 192.168.1.2\n"
    )
    count = bond(box)["slaves"][0]["failures"]  # 2.6.18 trusts links that are not there yet
    assert box.proc(PROC) == template.format(
        long=long, more=more.format(reselect=reselect), miimon=0 if arp else 100,
        arp=lines if arp else "", count=count,
    )  # fmt: skip
