"""Options of a bond while it runs: what is refused in which words, and what a new value does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from nodes.cpu.kernel import procfs
from nodes.cpu.kernel.net.bonding.options import INT_MAX, OPTIONS, parse
from tests.nodes.cpu.bonding.bonded import (
    PROC,
    at_10g,
    bond,
    bond_said,
    plug,
    read,
    refused,
    write,
)
from tests.nodes.cpu.captures import bonding_lines, captured
from tests.nodes.cpu.harness import ERAS, Box, kind

FAILOVERS = "e1000e-msi-smp2/failover"
EINVAL, EPERM = "Invalid argument", "Operation not permitted"
EACCES, ENOTEMPTY, EBUSY = "Permission denied", "Directory not empty", "Device or resource busy"


def down(box: Box) -> None:
    assert box.run("ip", "link", "set", "bond0", "down").code == 0


def empty(box: Box) -> None:
    for nic in ("eth0", "eth1"):
        assert write(box, "slaves", f"-{nic}").code == 0


# ---------------------------------------------------------------- the table


def test_every_option_of_6_1_is_a_file_and_every_file_an_option() -> None:
    folder = "/sys/class/net/bond0/bonding/"
    paths = procfs.paths({"cpu0": Box().kernel()})
    files = {path.removeprefix(folder) for path in paths if path.startswith(folder)}
    only_read = {"ad_actor_key", "ad_aggregator", "ad_num_ports", "ad_partner_key",
                 "ad_partner_mac", "mii_status"}  # fmt: skip
    assert files - only_read == set(OPTIONS)


def test_what_the_table_takes() -> None:
    assert parse(OPTIONS["miimon"], "100\n") == 100
    assert parse(OPTIONS["miimon"], "off") == 0
    assert parse(OPTIONS["miimon"], str(INT_MAX + 1)) is None
    assert parse(OPTIONS["miimon"], "-1") is None
    assert parse(OPTIONS["lp_interval"], "0") is None
    assert parse(OPTIONS["arp_missed_max"], "256") is None
    assert parse(OPTIONS["fail_over_mac"], "2") == parse(OPTIONS["fail_over_mac"], "follow\n")
    assert parse(OPTIONS["fail_over_mac"], "3") is None
    assert parse(OPTIONS["arp_validate"], "default") == "none"
    assert parse(OPTIONS["use_carrier"], "off") == 0
    assert parse(OPTIONS["miimon"], "٣") is None  # a digit, but none of C's


@pytest.mark.parametrize(
    ("option", "text", "why", "lines"),
    [
        ("miimon", "-1", EINVAL,
         ["option miimon: invalid value (-1)", "option miimon: allowed values 0 - 2147483647"]),
        ("miimon", "soon", EINVAL,
         ["option miimon: invalid value (soon)", "option miimon: allowed values 0 - 2147483647"]),
        ("num_grat_arp", "256", EINVAL,
         ["option num_grat_arp: invalid value (256)",
          "option num_grat_arp: allowed values 0 - 255"]),
        ("arp_missed_max", "0", EINVAL,
         ["option arp_missed_max: invalid value (0)",
          "option arp_missed_max: allowed values 1 - 255"]),
        ("lp_interval", "0", EINVAL,
         ["option lp_interval: invalid value (0)",
          "option lp_interval: allowed values 1 - 2147483647"]),
        ("primary_reselect", "never", EINVAL, ["option primary_reselect: invalid value (never)"]),
        ("use_carrier", "2", EINVAL, ["option use_carrier: invalid value (2)"]),
        ("fail_over_mac", "active", ENOTEMPTY,
         ["option fail_over_mac: unable to set because the bond device has slaves"]),
        ("mode", "balance-rr", ENOTEMPTY,
         ["option mode: unable to set because the bond device has slaves"]),
        ("lacp_rate", "fast", EACCES,
         ["option lacp_rate: mode dependency failed, not supported in mode active-backup(1)"]),
        ("packets_per_slave", "2", EACCES,
         ["option packets_per_slave: mode dependency failed, "
          "not supported in mode active-backup(1)"]),
        ("tlb_dynamic_lb", "0", EACCES,
         ["option tlb_dynamic_lb: mode dependency failed, not supported in mode active-backup(1)"]),
        ("ad_select", "count", EBUSY,
         ["option ad_select: unable to set because the bond device is up"]),
        ("arp_ip_target", "192.168.1.1", EPERM,
         ["no command found in arp_ip_targets file - use +<addr> or -<addr>"]),
        ("arp_ip_target", "+10.0.0.256", EPERM, ["invalid ARP target specified"]),
        ("arp_ip_target", "+0.0.0.0", EINVAL,
         ["invalid ARP target 0.0.0.0 specified for addition",
          "option arp_ip_target: invalid value (+0.0.0.0)"]),
        ("arp_ip_target", "-10.0.0.1", EINVAL,
         ["unable to remove nonexistent ARP target 10.0.0.1",
          "option arp_ip_target: invalid value (-10.0.0.1)"]),
        ("active_slave", "eth9", "No such device",
         ["option active_slave: interface eth9 does not exist!"]),
        ("slaves", "eth0", EPERM, ["no command found in slaves file - use +ifname or -ifname"]),
        ("slaves", "+eth9", "No such device", ["option slaves: interface eth9 does not exist!"]),
    ],
)  # fmt: skip
def test_refusals_of_6_1(option: str, text: str, why: str, lines: list[str]) -> None:
    box = Box()
    before = {name: read(box, name) for name in OPTIONS}
    since = box.now_s
    assert refused(write(box, option, text), why)
    assert bond_said(box, since) == [f"bond0: {line}" for line in lines]
    assert {name: read(box, name) for name in OPTIONS} == before


@pytest.mark.parametrize("mode", ["balance-rr", "balance-xor", "broadcast"])
@pytest.mark.parametrize("option", ["primary", "active_slave"])
def test_modes_without_a_primary_refuse_one(mode: str, option: str) -> None:
    box = Box(mode=mode)
    since = box.now_s
    assert refused(write(box, option, "eth1"), EACCES)
    assert (
        f"option {option}: mode dependency failed, not supported in mode {mode}"
        in (bond_said(box, since)[0])
    )


@pytest.mark.parametrize("era", ["2.6.18", "3.10"])
@pytest.mark.parametrize(
    ("option", "text", "why", "line"),
    [
        ("miimon", "-1", EINVAL, "Invalid miimon value -1 not in range 0-2147483647; rejected."),
        ("miimon", "soon", EINVAL, "no miimon value specified."),
        ("use_carrier", "2", EINVAL, "Ignoring invalid use_carrier value 2."),
        ("mode", "balance-rr", EPERM, "unable to update mode of bond0 because interface is up."),
        ("lacp_rate", "fast", EPERM, "Unable to update LACP rate because interface is up."),
        ("arp_ip_target", "10.0.0.1", EPERM,
         "no command found in arp_ip_targets file for bond bond0. Use +<addr> or -<addr>."),
        ("arp_ip_target", "-10.0.0.1", EINVAL,
         "unable to remove nonexistent ARP target 10.0.0.1."),
        ("slaves", "eth0", EPERM,
         "no command found in slaves file for bond bond0. Use +ifname or -ifname."),
        ("xmit_hash_policy", "vlan+srcmac", EINVAL,
         "Ignoring invalid xmit hash policy value vlan+srcmac."),
        ("xmit_hash_policy", "3", EINVAL, "Ignoring invalid xmit hash policy value 3."),
    ],
)  # fmt: skip
def test_refusals_up_to_3_10(era: str, option: str, text: str, why: str, line: str) -> None:
    box = Box(era)
    since = box.now_s
    assert refused(write(box, option, text), why)
    assert bond_said(box, since) == [f"bonding: bond0: {line}"]


@pytest.mark.parametrize(
    ("option", "text", "line"),
    [
        ("miimon", "50", "Setting MII monitoring interval to 50."),
        ("primary", "eth1", "Setting eth1 as primary slave."),
        ("primary_reselect", "failure", "setting primary_reselect to failure (2)."),
        ("arp_ip_target", "+10.0.0.1", "adding ARP target 10.0.0.1."),
        ("resend_igmp", "3", "Setting resend_igmp to 3."),
        ("xmit_hash_policy", "layer3+4", "setting xmit hash policy to layer3+4 (1)."),
    ],
)
def test_3_10_says_what_it_did_and_6_1_does_not(option: str, text: str, line: str) -> None:
    box = Box("3.10")
    since = box.now_s
    assert write(box, option, text).code == 0
    assert bond_said(box, since)[0] == f"bonding: bond0: {line}"
    box = Box()
    since = box.now_s
    assert write(box, option, text).code == 0
    assert [line for line in bond_said(box, since) if "new active" not in line] == []


@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.parametrize(
    ("option", "text", "shown"),
    [
        ("primary_reselect", "better", "better 1"),
        ("primary_reselect", "2", "failure 2"),
        ("num_grat_arp", "7", "7"),
        ("num_unsol_na", "9", "9"),
        ("resend_igmp", "0", "0"),
        ("all_slaves_active", "1", "1"),
        ("min_links", "2", "2"),
        ("use_carrier", "0", "0"),
        ("xmit_hash_policy", "2", "layer2+3 2"),
        ("queue_id", "eth1:2", "eth0:0 eth1:2"),
        ("primary", "eth1", "eth1"),
    ],
)
def test_values_that_may_change_while_it_is_up(
    era: str, option: str, text: str, shown: str
) -> None:
    box = Box(era)
    assert write(box, option, text).code == 0
    assert read(box, option) == shown
    assert read(box, "num_grat_arp") == read(box, "num_unsol_na")


def test_the_log_of_odd_values_is_that_of_a_real_kernel() -> None:
    box = Box()
    began = box.now_s
    for text in ("250", "50", "99"):
        write(box, "downdelay", text)
    write(box, "downdelay", "0")
    assert refused(write(box, "active_slave", "eth9"), "No such device")
    assert refused(write(box, "mode", "active-backup"), ENOTEMPTY)
    assert refused(write(box, "miimon", "-1"), EINVAL)
    assert bond_said(box, began) == bonding_lines(f"{FAILOVERS}/12-odd-delay-values.txt")


def test_refused_and_adjusted_settings_are_logged_as_by_a_real_kernel() -> None:
    """The sysfs part of the capture: from the delay of 150 on."""
    text = captured(f"{FAILOVERS}/20-refused-settings.txt")
    log = [line.split("] ", 1)[1] for line in text.split("## kernel log\n")[1].splitlines()]
    start = next(n for n, line in enumerate(log) if "up delay (150)" in line)
    real = [line for line in at_10g(log[start:]) if line.startswith("bond0: ")]
    box = Box()
    assert write(box, "slaves", "-eth0").code == 0  # there it was taken by another bond
    began = box.now_s
    assert write(box, "updelay", "150").code == 0
    assert read(box, "updelay") == "100"
    assert write(box, "miimon", "0").code == 0
    assert read(box, "updelay") == "0"
    assert write(box, "miimon", "100").code == 0
    assert refused(write(box, "mode", "5"), ENOTEMPTY)
    assert write(box, "slaves", "-eth1").code == 0
    assert read(box, "slaves") == ""
    assert write(box, "slaves", "+eth1").code == 0
    box.live(4000)
    assert bond_said(box, began) == real
    assert "Currently Active Slave: eth1\n" in box.proc(PROC)


# ---------------------------------------------------------------- modes change


@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.parametrize("mode", ["balance-rr", "balance-xor", "broadcast"])
def test_a_bond_gets_another_mode_when_it_is_down_and_empty(era: str, mode: str) -> None:
    box = Box(era)
    empty(box)
    assert refused(write(box, "mode", mode), EBUSY if era == "6.1" else EPERM)
    down(box)
    assert write(box, "mode", mode).code == 0
    assert read(box, "mode").split()[0] == mode
    assert box.run("ip", "link", "set", "bond0", "up").code == 0
    for nic in ("eth0", "eth1"):
        assert write(box, "slaves", f"+{nic}").code == 0
    box.live(3000)
    assert bond(box)["mode"] == mode
    assert box.ping("-c", "2", "-i", "0.1").code == 0


def test_a_mode_without_the_arp_monitor_is_refused_it() -> None:
    box = Box(mode="balance-rr")
    assert refused(write(box, "arp_validate", "bogus"), EINVAL)
    assert refused(write(box, "mode", "bogus"), ENOTEMPTY)


# ---------------------------------------------------------------- the primary


@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.parametrize(
    ("reselect", "after_return"), [("always", "eth0"), ("better", "eth1"), ("failure", "eth1")]
)
def test_when_a_primary_takes_over_again(era: str, reselect: str, after_return: str) -> None:
    box = Box(era, primary="eth0", primary_reselect=reselect)
    assert bond(box)["active"] == "eth0"
    assert f"Primary Slave: eth0 (primary_reselect {reselect})\n" in box.proc(PROC)
    box.cable("eth0", inserted=False)
    box.live(500)
    assert bond(box)["active"] == "eth1"
    plug(box, "eth0")
    assert bond(box)["active"] == after_return
    box.cable("eth1", inserted=False)
    box.live(500)
    assert bond(box)["active"] == "eth0"


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_better_means_faster(era: str) -> None:
    box = Box(era, primary="eth0", primary_reselect="better")
    slaves = box.machine.simulation.node("cpu0").cpu.net.bonds["bond0"].slaves
    box.cable("eth0", inserted=False)
    box.live(500)
    slaves[1].speed = 1000  # what its partner can do
    plug(box, "eth0")
    assert bond(box)["active"] == "eth0"


@pytest.mark.parametrize("era", ERAS)
def test_a_new_primary_takes_over_at_once(era: str) -> None:
    box = Box(era)
    assert write(box, "primary", "eth1").code == 0
    assert bond(box)["active"] == "eth1"
    assert write(box, "primary", "").code == 0
    assert read(box, "primary").strip("\n\0") == ""


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_setting_a_primary_counts_once_whatever_the_reselect_policy(era: str) -> None:
    box = Box(era, primary_reselect="failure")
    assert write(box, "primary", "eth1").code == 0
    assert bond(box)["active"] == "eth1"
    assert write(box, "active_slave", "eth0").code == 0
    box.live(500)
    assert bond(box)["active"] == "eth0"


def test_a_primary_may_be_named_before_it_is_a_slave() -> None:
    box = Box()
    write(box, "slaves", "-eth1")
    assert write(box, "primary", "eth1").code == 0
    assert read(box, "primary") == ""
    write(box, "slaves", "+eth1")
    box.live(3000)
    assert read(box, "primary") == "eth1"
    assert bond(box)["active"] == "eth1"


# ---------------------------------------------------------------- addresses


def addresses(box: Box) -> dict[str, str]:
    names = ("bond0", "eth0", "eth1")
    return {name: box.proc(f"/sys/class/net/{name}/address").strip()[-2:] for name in names}


@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.parametrize(
    ("policy", "before", "after"),
    [
        ("none", ("01", "01", "01"), ("01", "01", "01")),
        ("active", ("01", "01", "02"), ("02", "01", "02")),
        ("follow", ("01", "01", "02"), ("01", "02", "01")),
    ],
)
def test_whose_address_is_whose_after_a_failover(
    era: str, policy: str, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    box = Box(era, fail_over_mac=policy)
    assert tuple(addresses(box).values()) == before
    suffix = "" if policy == "none" else f" (fail_over_mac {policy})"
    assert f"Bonding Mode: fault-tolerance (active-backup){suffix}\n" in box.proc(PROC)
    box.cable("eth0", inserted=False)
    box.live(500)
    assert tuple(addresses(box).values()) == after
    assert box.ping("-c", "3", "-i", "0.1").code == 0
    plug(box, "eth0")
    box.cable("eth1", inserted=False)
    box.live(500)
    assert tuple(addresses(box).values()) == before
    assert box.ping("-c", "3", "-i", "0.1").code == 0


def test_fail_over_mac_active_is_logged_and_shown_as_by_a_real_kernel() -> None:
    box = Box(fail_over_mac="active")
    box.ping("-c", "1")
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live(500)
    assert bond_said(box, began) == bonding_lines(
        f"{FAILOVERS}/16-link-loss-fail_over_mac-active.txt"
    )
    links = captured(f"{FAILOVERS}/16-fail_over_mac-active-links-after.txt")
    real = [line.split()[1][-2:] for line in links.splitlines() if "link/ether" in line]
    ours = addresses(box)
    assert [{"01": "10", "02": "11"}[ours[n]] for n in ("eth0", "eth1", "bond0")] == real


# ---------------------------------------------------------------- announcements, duplicates


@pytest.mark.parametrize(("delay", "apart_ms"), [(0, 104), (300, 312)])
def test_peer_notif_delay_keeps_announcements_apart(delay: int, apart_ms: int) -> None:
    box = Box(num_grat_arp=3, peer_notif_delay=delay)
    box.live(1500)
    assert f"Peer Notification Delay (ms): {delay}\n" in box.proc(PROC)
    tap = box.capture("eth1", "-p")
    box.cable("eth0", inserted=False)
    box.live(1500)
    times = [p.time_ns for p in tap.packets() if kind(p.data) == "arp-request"]
    assert len(times) == 3
    gaps = [(b - a) / 1e6 for a, b in pairwise(times)]
    assert gaps == pytest.approx([apart_ms] * 2, abs=5)


def test_all_slaves_active_lets_duplicates_through() -> None:
    box = Box()
    box.ping("-c", "1")
    state = lambda: [bool(d.inactive) for d in _slaves(box)]  # noqa: E731
    assert state() == [False, True]
    assert write(box, "all_slaves_active", "1").code == 0
    box.live(1)
    assert state() == [False, False]
    assert write(box, "all_slaves_active", "0").code == 0
    box.live(1)
    assert state() == [False, True]


def _slaves(box: Box) -> list[Any]:
    net = box.machine.simulation.node("cpu1").cpu.net
    return [net.device(name) for name in ("eth0", "eth1")]


def test_delays_keep_their_number_of_looks() -> None:
    box = Box(peer_notif_delay=300, updelay=200)
    assert write(box, "miimon", "50").code == 0
    assert (read(box, "peer_notif_delay"), read(box, "updelay")) == ("150", "100")
    assert write(box, "peer_notif_delay", "75").code == 0
    assert read(box, "peer_notif_delay") == "50"
    assert write(box, "miimon", "0").code == 0
    since = box.now_s
    assert refused(write(box, "peer_notif_delay", "100"), EPERM)
    assert bond_said(box, since) == [
        "bond0: Unable to set peer notification delay as MII monitoring is disabled"
    ]
