"""/proc and /sys: what can be read and written, by era, with the kernel's texts and errors."""

from __future__ import annotations

import re

import pytest

from nodes.cpu.kernel import procfs
from nodes.cpu.kernel.files import kstrtoint
from nodes.cpu.kernel.net.handover import BACKLOG_RX
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.softirq import NET_RX_SOFTIRQ, raise_softirq
from nodes.cpu.kernel.sysctl import dointvec
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, BareCpu, Box, Ran

BOND = "/sys/class/net/bond0/bonding/"
CORE = "/proc/sys/net/core/"


@pytest.fixture
def box() -> Box:
    return Box("6.1", miimon=100)


def write(box: Box, path: str, text: str) -> Ran:
    return box.run("write", path, text)


def refused(ran: Ran, why: str) -> bool:
    return (ran.code, ran.err) == (1, f"bash: echo: write error: {why}\n")


# ---------------------------------------------------------------- numbers and lists


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1\n", 1), ("-1\n", -1), ("+7", 7), ("0x1f\n", 31), ("017", 15), ("0", 0),
        ("", None), ("\n", None), ("1 \n", None), (" 1", None), ("1x", None), ("08", None),
        ("1\n\n", None), ("0x", None),
    ],
)  # fmt: skip
def test_kstrtoint_is_strict(text: str, value: int | None) -> None:
    assert kstrtoint(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("300\n", 300), (" 300 400\n", 300), ("-5\n", -5), ("2147483647", 2147483647),
        ("2147483648", None), ("-2147483649", None), ("x\n", None), ("3x\n", None), ("\n", None),
    ],
)  # fmt: skip
def test_dointvec_takes_the_first_number_of_an_int(text: str, value: int | None) -> None:
    assert dointvec(text) == value


# ---------------------------------------------------------------- opening


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/proc/nix", "bash: /proc/nix: No such file or directory\n"),
        ("/sys/class/net/nix/mtu", "bash: /sys/class/net/nix/mtu: No such file or directory\n"),
        ("/sys/class/net/nix", "bash: /sys/class/net/nix: Permission denied\n"),
        ("/tmp/x", "bash: /tmp/x: No such file or directory\n"),
        ("/proc/net", "bash: /proc/net: Is a directory\n"),
        ("/sys/class/net/eth0/address", "bash: /sys/class/net/eth0/address: Permission denied\n"),
        (
            "/proc/sys/kernel/osrelease",
            "bash: /proc/sys/kernel/osrelease: Permission denied\n",
        ),
        ("/proc/interrupts", "bash: echo: write error: Input/output error\n"),
    ],
)
def test_files_that_cannot_be_written(box: Box, path: str, said: str) -> None:
    ran = write(box, path, "1\n")
    assert (ran.code, ran.out, ran.err) == (1, "", said)


def test_2_6_18_has_another_error_for_a_file_without_a_store_function() -> None:
    assert refused(write(Box("2.6.18"), "/proc/interrupts", "1\n"), "Invalid argument")


def test_an_empty_write_is_no_write(box: Box) -> None:
    assert box.run("write", CORE + "netdev_budget").code == 0
    assert box.proc(CORE + "netdev_budget") == "300\n"
    assert box.run("write", "/proc/nix").code == 1  # but it is opened


def test_a_text_may_come_in_pieces(box: Box) -> None:
    assert box.run("write", CORE + "netdev_budget", "12", "3\n").code == 0
    assert box.proc(CORE + "netdev_budget") == "123\n"


# ---------------------------------------------------------------- /proc/sys


@pytest.mark.parametrize("era", ERAS)
def test_sysctl_reaches_every_cpu(era: str) -> None:
    box = Box(era)
    for name, default in (("netdev_budget", 300), ("netdev_max_backlog", 1000), ("dev_weight", 64)):
        assert box.proc(CORE + name) == f"{default}\n"
        assert write(box, CORE + name, "17\n").code == 0
        box.live(1)
        for cpu in ("cpu0", "cpu1"):
            assert box.ask(cpu, "kernel")["sysctl"][f"net/core/{name}"] == 17
    assert refused(write(box, CORE + "netdev_budget", "many\n"), "Invalid argument")
    assert box.proc(CORE + "netdev_budget") == "17\n"


def test_netdev_budget_usecs_is_two_jiffies_and_younger_than_3_10() -> None:
    assert Box("6.1").proc(CORE + "netdev_budget_usecs") == "8000\n"
    with pytest.raises(FileNotFoundError):
        Box("3.10").proc(CORE + "netdev_budget_usecs")


def test_a_budget_of_nothing_squeezes_every_softirq(box: Box) -> None:
    write(box, CORE + "netdev_budget", "0\n")
    box.live(1)
    before = [page.run("softnet")[2] for page in box.pages.values()]
    assert box.ping("-c", "3", "-i", "0.01").code == 0  # 6.1 looks after the poll: it still works
    after = [page.run("softnet")[2] for page in box.pages.values()]
    assert sum(after) - sum(before) >= 3


def test_dev_weight_bounds_what_one_softirq_takes_from_the_backlog() -> None:
    bare = BareCpu()
    cpu = bare.cpu
    cpu.sysctl.dev_weight = 2
    taken: list[int] = []

    def deliver(cpu, skb):  # type: ignore[no-untyped-def]
        taken.append(bare.page.run("softirqs")[NET_RX_SOFTIRQ])
        yield

    cpu.net.deliver = deliver
    for _ in range(5):
        cpu.net.backlog.append((BACKLOG_RX, SkBuff(bytes(60), None, 0, 0), b""))  # type: ignore[arg-type]

    def task():  # type: ignore[no-untyped-def]
        raise_softirq(cpu, NET_RX_SOFTIRQ)
        yield

    bare.task(task())
    bare.settle()
    assert taken == [1, 1, 2, 2, 3]


def test_hostname_can_be_changed(box: Box) -> None:
    assert box.proc("/proc/sys/kernel/hostname") == "m1\n"
    assert write(box, "/proc/sys/kernel/hostname", "router\n").code == 0
    assert box.proc("/proc/sys/kernel/hostname") == "router\n"


# ---------------------------------------------------------------- bonding


def test_options_of_a_bond_as_a_real_kernel_shows_them(box: Box) -> None:
    text = captured("e1000e-smp2/static/sysfs-bonding.txt")
    judged = 0
    for line in text.splitlines():
        path, _, value = line.partition("=")
        if path == "bonding_masters":
            continue
        if "perm_hwaddr" in path:
            value = box.proc(path).strip()
            assert re.fullmatch(r"00:1b:21:00:00:0\d", value)
        shown = box.proc(path if path.startswith("/") else BOND + path)
        assert shown == (f"{value}\n" if value else ""), path
        judged += 1
    ours = [p for p in procfs.paths({"cpu0": box.kernel()}) if "/bonding" in p and "/sys/" in p]
    assert len(ours) == judged


def test_2_6_18_ends_its_lists_with_a_nul() -> None:
    box = Box("2.6.18")
    assert box.proc(BOND + "slaves") == "eth0 eth1 \n\0"
    assert box.proc(BOND + "primary") == "\n\0"
    assert box.proc(BOND + "xmit_hash_policy") == "NA\n"
    with pytest.raises(FileNotFoundError):
        box.proc(BOND + "primary_reselect")
    with pytest.raises(FileNotFoundError):
        box.proc("/sys/class/net/eth0/bonding_slave/state")


def test_active_slave_changes_at_once(box: Box) -> None:
    assert box.proc(BOND + "active_slave") == "eth0\n"
    since = box.now_s
    assert write(box, BOND + "active_slave", "eth1\n").code == 0
    assert box.proc(BOND + "active_slave") == "eth1\n"
    assert box.said(since)[0] == "bond0: (slave eth1): making interface the new active one"
    assert box.ping("-c", "1").code == 0


def test_refused_writes_as_the_capture_has_them(box: Box) -> None:
    since = box.now_s
    assert refused(write(box, BOND + "active_slave", "eth9\n"), "No such device")
    assert refused(write(box, BOND + "miimon", "-1\n"), "Invalid argument")
    assert box.said(since) == [
        "bond0: option active_slave: interface eth9 does not exist!",
        "bond0: option miimon: invalid value (-1)",
        "bond0: option miimon: allowed values 0 - 2147483647",
    ]


def test_a_slave_that_is_down_cannot_become_the_active_one(box: Box) -> None:
    box.cable("eth1", inserted=False)
    box.live(300)
    assert refused(write(box, BOND + "active_slave", "eth1\n"), "Invalid argument")
    assert box.when("Could not set as active slave; either eth1 is down or the link is down")


@pytest.mark.parametrize("era", ["2.6.18", "3.10"])
def test_up_to_3_10_a_wrong_active_slave_is_only_logged(era: str) -> None:
    box = Box(era, miimon=100)
    since = box.now_s
    assert write(box, BOND + "active_slave", "eth9\n").code == 0
    assert box.said(since) == ["bonding: bond0: Unable to set eth9 as active slave."]


def test_delays_are_rounded_to_looks_of_the_monitor(box: Box) -> None:
    since = box.now_s
    for given, kept in (("250", "200"), ("50", "0"), ("99", "0")):
        assert write(box, BOND + "downdelay", f"{given}\n").code == 0
        assert box.proc(BOND + "downdelay") == f"{kept}\n"
    assert box.said(since) == [
        "bond0: down delay (250) is not a multiple of miimon (100), value rounded to 200 ms",
        "bond0: down delay (50) is not a multiple of miimon (100), value rounded to 0 ms",
        "bond0: down delay (99) is not a multiple of miimon (100), value rounded to 0 ms",
    ]


def test_delays_keep_their_looks_when_miimon_changes(box: Box) -> None:
    write(box, BOND + "updelay", "150\n")
    assert box.proc(BOND + "updelay") == "100\n"
    write(box, BOND + "miimon", "0\n")
    assert box.proc(BOND + "updelay") == "0\n"
    since = box.now_s
    assert refused(write(box, BOND + "updelay", "100\n"), "Operation not permitted")
    assert box.said(since) == ["bond0: Unable to set up delay as MII monitoring is disabled"]
    write(box, BOND + "miimon", "100\n")
    assert box.proc(BOND + "updelay") == "100\n"


def test_without_miimon_nobody_notices_and_with_it_somebody_does(box: Box) -> None:
    write(box, BOND + "miimon", "0\n")
    box.cable("eth0", inserted=False)
    box.live(1000)
    assert box.proc(BOND + "active_slave") == "eth0\n"
    write(box, BOND + "miimon", "50\n")
    box.live(60)
    assert box.proc(BOND + "active_slave") == "eth1\n"


@pytest.mark.parametrize("era", ERAS)
def test_a_slave_leaves_and_comes_back(era: str) -> None:
    box = Box(era, miimon=100)
    assert write(box, BOND + "slaves", "-eth1\n").code == 0
    assert box.proc(BOND + "slaves").rstrip(" \n\0") == "eth0"
    with pytest.raises(OSError, match="the device is down"):
        box.proc("/sys/class/net/eth1/carrier")
    assert refused(write(box, BOND + "slaves", "-eth1\n"), "Invalid argument")
    assert write(box, BOND + "slaves", "+eth1\n").code == 0
    assert refused(write(box, BOND + "slaves", "+eth1\n"), "Device or resource busy")
    assert refused(write(box, BOND + "slaves", "eth1\n"), "Operation not permitted")
    assert refused(write(box, BOND + "slaves", "+eth9\n"), "No such device")
    box.live(3000)
    write(box, BOND + "active_slave", "eth1\n")
    assert box.ping("-c", "2", "-i", "0.1").code == 0


# ---------------------------------------------------------------- devices


def test_attributes_of_a_device(box: Box) -> None:
    net = "/sys/class/net/"
    assert box.proc(net + "bond0/flags") == "0x1403\n"  # as the capture of 6.1 has them
    assert box.proc(net + "eth0/flags") == "0x1803\n"
    assert box.proc(net + "eth0/operstate") == "up\n"
    assert box.proc(net + "eth1/address") == box.proc(net + "bond0/address")
    box.cable("eth0", inserted=False)
    box.live(100)
    assert box.proc(net + "eth0/carrier") == "0\n"
    assert box.proc(net + "eth0/operstate") == "down\n"
    row = re.search(r"^ +eth1: +(\d+) +(\d+)", box.proc("/proc/net/dev"), re.MULTILINE)
    assert row is not None
    assert box.proc(net + "eth1/statistics/rx_bytes") == f"{row[1]}\n"
    assert box.proc(net + "eth1/statistics/rx_packets") == f"{row[2]}\n"


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_function_is_removed_and_found_again(era: str) -> None:
    box = Box(era, miimon=100)
    remove = "/sys/bus/pci/devices/0000:01:00.0/remove"
    assert refused(write(box, remove, "yes\n"), "Invalid argument")
    assert write(box, remove, "0\n").code == 0
    assert "eth0" in box.proc("/proc/net/dev")
    assert write(box, remove, "1\n").code == 0
    assert "eth0" not in box.proc("/proc/net/dev")
    assert write(box, remove, "1\n").err == f"bash: {remove}: No such file or directory\n"
    assert box.proc(BOND + "active_slave") == "eth1\n"
    assert write(box, "/sys/bus/pci/rescan", "1\n").code == 0
    assert write(box, BOND + "slaves", "+eth0\n").code == 0
    box.live(3000)
    assert box.proc(BOND + "slaves") == "eth1 eth0\n"
    with pytest.raises(OSError, match="write only"):
        box.proc("/sys/bus/pci/rescan")


@pytest.mark.parametrize("era", ERAS)
def test_a_driver_is_taken_from_a_function_and_given_back(era: str) -> None:
    box = Box(era, miimon=100)
    bind, unbind = (f"/sys/bus/pci/drivers/ixgbe/{name}" for name in ("bind", "unbind"))
    assert refused(write(box, unbind, "0000:07:00.0\n"), "No such device")
    assert refused(write(box, bind, "0000:01:00.0\n"), "No such device")  # it has one
    assert write(box, unbind, "0000:01:00.0").code == 0
    assert "eth0" not in box.proc("/proc/net/dev")
    assert refused(write(box, unbind, "0000:01:00.0\n"), "No such device")
    assert write(box, bind, "0000:01:00.0\n").code == 0
    assert "eth0" in box.proc("/proc/net/dev")
    with pytest.raises(OSError, match="write only"):
        box.proc(bind)


def test_2_6_18_has_no_pci_hot_plug_files_and_no_cpu_masks() -> None:
    paths = procfs.paths({"cpu0": Box("2.6.18").kernel()})
    ends = ("/rescan", "/remove", "cpu/online", "/possible")
    assert not [p for p in paths if p.endswith(ends)]
    assert "/sys/bus/pci/devices/0000:01:00.0/vendor" in paths


def test_every_file_that_is_listed_can_be_read_or_is_write_only() -> None:
    for era in ERAS:
        box = Box(era)
        for path in procfs.paths({"cpu0": box.kernel()}):
            if not path.endswith(("/rescan", "/remove", "bind", "/flush", "/")):
                assert isinstance(box.proc(path), str), path


def test_the_cpus_and_the_time(box: Box) -> None:
    assert box.proc("/sys/devices/system/cpu/online") == "0-1\n"
    assert box.proc("/proc/version") == "Linux version 6.1.0 (bottomhalf)\n"
    assert box.proc("/proc/cpuinfo").count("processor\t: ") == 2
    box.live(1000)
    up, idle = map(float, box.proc("/proc/uptime").split())
    assert up == pytest.approx(box.now_s, abs=0.011)
    assert up < idle <= 2 * up
