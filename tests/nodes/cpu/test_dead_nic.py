"""A NIC's process dies, hangs and comes back: what the kernel notices by itself, by era."""

from __future__ import annotations

import pytest

from tests.nodes.cpu.captures import kernel_log
from tests.nodes.cpu.harness import ERAS, GATEWAY, MS, Box, gaps_ms
from tests.nodes.cpu.test_failover import bond_said, pinging, to_next_tick

REMOVED = "ixgbe 0000:01:00.0: Adapter removed"


def bring_back(box: Box, nic: str) -> None:
    """What an administrator does: remove, new card, rescan, enslave."""
    assert box.run("pci-remove", nic).code == 0
    box.machine.restart(nic)
    box.live(50)
    assert box.run("pci-rescan", nic).code == 0
    assert box.run("enslave", nic).code == 0
    box.live(500)


# ---------------------------------------------------------------- killed


@pytest.mark.parametrize("wait_ms", [0, 700, 1500])
def test_a_killed_nic_is_found_at_one_service_timer_and_taken_down_at_the_next(
    wait_ms: int,
) -> None:
    box = Box()
    job = pinging(box)
    box.live(wait_ms)
    killed = box.now_s
    box.machine.kill("eth0")
    box.live(4500)
    removed = box.when(REMOVED, killed)
    assert removed - killed <= 2.05
    said = bond_said(box, killed)
    assert said == [
        "bond0: (slave eth0): link status definitely down, disabling slave",
        "bond0: (slave eth1): making interface the new active one",
    ]
    switched = box.when("new active one", killed)
    assert 1.98 <= switched - removed <= 2.12  # a service period, and the monitor's look
    (gap,) = gaps_ms(box.sent_times(), 20)
    assert gap <= (switched - killed) * 1000 + 25
    ran = box.interrupt(job)
    assert "% packet loss" in ran.lines[-2]
    assert (
        box.ping("-c", "3", "-i", "0.1").lines[-2].startswith("3 packets transmitted, 3 received")
    )
    assert "Link Failure Count: 1" in box.proc("/proc/net/bonding/bond0")


def test_an_event_that_comes_while_no_work_runs_is_not_lost() -> None:
    """Whoever else finds the adapter gone has it taken down at once."""
    box = Box()
    killed = box.now_s
    box.machine.kill("eth0")
    box.live(20)
    box.run("ethtool", "-d", "eth0")
    box.live(150)
    removed, switched = box.when(REMOVED, killed), box.when("new active one", killed)
    assert switched - removed <= 0.11


def test_if_events_were_queued_again_the_port_would_go_down_in_the_round_after_at_once() -> None:
    box = Box(overrides=(("service_event", "queued"),))
    killed = box.now_s
    box.machine.kill("eth0")
    box.live(2300)
    assert box.when("new active one", killed) - box.when(REMOVED, killed) <= 0.11


def test_a_full_round_asks_the_firmware_first_and_finds_it_broken_and_the_adapter_gone() -> None:
    box = Box(fast_probe=False)
    killed = box.now_s
    box.machine.kill("eth0")
    box.live(4500)
    assert [line for line in box.said(killed) if "ixgbe" in line] == [
        REMOVED,
        "ixgbe 0000:01:00.0: Warning firmware error detected FWSM: 0xFFFFFFFF",
    ]


def test_a_killed_backup_costs_no_ping() -> None:
    box = Box()
    pinging(box)
    box.machine.kill("eth1")
    box.live(4500)
    times = box.sent_times()
    assert all(times["received"][:-1])
    assert gaps_ms(times, 25) == []  # the driver's five looks hold the CPU for 12 ms, no longer
    assert box.kernel()["bonds"]["bond0"]["slaves"][1]["link"] == 2
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth0"


@pytest.mark.parametrize("era", ["2.6.18", "3.10"])
def test_before_3_14_the_driver_believes_the_ones_and_nobody_notices(era: str) -> None:
    box = Box(era)
    pinging(box)
    killed = box.now_s
    box.machine.kill("eth0")
    box.live(8000)
    assert box.said(killed) == []
    bond = box.kernel()["bonds"]["bond0"]
    assert (bond["active"], bond["slaves"][0]["failures"]) == ("eth0", 0)
    assert box.pages["cpu0"].run("mmio_all_ones")[0] > 0  # it did look
    received = [t for t in box.sent_times()["received"] if t]
    assert (max(received) / 1e9 - 1) - killed < 0.01


@pytest.mark.conformance("A11.3-4")
def test_writes_to_a_dead_nic_vanish_and_are_counted() -> None:
    box = Box(overrides=(("bql", "none"),))  # else one frame in the ring is enough
    box.ping("-c", "1")
    box.machine.kill("eth0")
    box.ping("-c", "3", "-i", "0.1", "-W", "0.1")
    assert sum(page.run("mmio_lost")[0] for page in box.pages.values()) >= 3
    bring_back(box, "eth0")
    box.live(1000)
    assert box.ping("-c", "2", "-i", "0.1").code == 0


# ---------------------------------------------------------------- back again


@pytest.mark.parametrize("era", ERAS)
def test_a_restarted_nic_comes_back_as_backup(era: str) -> None:
    box = Box(era)
    job = pinging(box)
    box.machine.kill("eth0")
    box.live(3000)
    back = box.now_s
    bring_back(box, "eth0")
    bond = box.kernel()["bonds"]["bond0"]
    assert bond["active"] == "eth1"
    assert [slave["name"] for slave in bond["slaves"]] == ["eth1", "eth0"]
    assert [slave["link"] for slave in bond["slaves"]] == [0, 0]
    assert bond["slaves"][1]["failures"] == 0  # a new slave
    assert any("nslaving" in line for line in bond_said(box, back))
    quiet = box.now_s
    box.live(2500)
    assert all(t > 0 for t in box.sent_times()["received"][-200:-5])
    assert box.said(quiet) == []
    assert box.interrupt(job).code == 0


@pytest.mark.parametrize("era", ERAS)
def test_the_nic_that_came_back_carries_the_next_failover(era: str) -> None:
    box = Box(era)
    box.machine.kill("eth0")
    box.live(3000)
    bring_back(box, "eth0")
    box.cable("eth1", inserted=False)
    box.live(500)
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth0"
    assert (
        box.ping("-c", "3", "-i", "0.1").lines[-2].startswith("3 packets transmitted, 3 received")
    )


@pytest.mark.conformance("N3.1")
@pytest.mark.parametrize("era", ERAS)
def test_releasing_the_active_of_two_slaves(era: str) -> None:
    box = Box(era)
    mac = box.kernel()["bonds"]["bond0"]["mac"]
    to_next_tick(box, 5)  # the NIC's reset takes 50 ms: not over the monitor's look
    began = box.now_s
    assert box.run("pci-remove", "eth0").code == 0
    said = bond_said(box, began)
    assert [line for line in said if "new active one" in line] == [said[-1]]
    assert "eth1" in said[-1]
    bond = box.kernel()["bonds"]["bond0"]
    assert (bond["active"], bond["carrier"], bond["mac"]) == ("eth1", True, mac)
    assert not any("any active interface" in line for line in said)
    assert [name for name, _ in box.kernel()["devices"]] == ["lo", "eth1", "bond0"]


@pytest.mark.parametrize(("era", "switched_by"), [("2.6.18", "monitor"), ("6.1", "release")])
def test_the_monitor_waits_for_rtnl_while_a_nic_is_removed(era: str, switched_by: str) -> None:
    box = Box(era)
    to_next_tick(box, 80)
    began = box.now_s
    box.run("pci-remove", "eth0")
    said = bond_said(box, began)
    released = next(n for n, line in enumerate(said) if "eleasing" in line)
    switched = next(n for n, line in enumerate(said) if "new active one" in line)
    assert (switched < released) == (switched_by == "monitor")
    assert any("definitely down" in line for line in said) == (switched_by == "monitor")
    box.live(1)
    later = box.now_s
    box.live(300)
    assert bond_said(box, later) == []
    tick_ns = 4 * MS  # its timer may be late by one
    assert box.pages["cpu0"]["bond_next_mii_ns"] + tick_ns > box.machine.now_ns()  # it looks on


def test_log_of_a_release_is_that_of_a_real_kernel() -> None:
    box = Box()
    began = box.now_s
    box.run("pci-remove", "eth0")
    path = "e1000e-msi-smp2/failover/19-device_del-eth0.txt"
    real = [text for _, text in kernel_log(path) if text.startswith("bond0")]
    assert bond_said(box, began) == [
        text.replace("52:54:00:00:00:10", "00:1b:21:00:00:01") for text in real
    ]


@pytest.mark.conformance("N3.1b")
@pytest.mark.parametrize("era", ERAS)
def test_releasing_the_last_slave_takes_the_carrier_away_silently(era: str) -> None:
    box = Box(era, nics=1)
    to_next_tick(box, 5)
    began = box.now_s
    box.run("pci-remove", "eth0")
    assert len(bond_said(box, began)) == 1
    bond = box.kernel()["bonds"]["bond0"]
    assert (bond["active"], bond["carrier"], bond["slaves"]) == (None, False, [])
    assert (bond["mac"] == bytes(6)) == (era == "2.6.18")
    assert box.ping("-c", "1", "-W", "0.1").code == 1
    box.run("pci-rescan", "eth0")
    box.run("enslave", "eth0")
    box.live(500)
    assert box.kernel()["bonds"]["bond0"]["mac"] == bytes.fromhex("001b21000001")
    assert box.ping("-c", "1").code == 0


def test_only_nics_of_the_machine_can_be_removed() -> None:
    box = Box()
    ran = box.run("pci-remove", "eth5")
    assert (ran.code, ran.err) == (2, "pci-remove: one of eth0 eth1 expected\n")
    ran = box.run("pci-remove", "eth0", cpu="cpu1")
    assert (ran.code, ran.err) == (2, "pci-remove: only the boot CPU holds RTNL\n")


def test_the_bonds_counters_survive_a_released_slave_in_6_1_only() -> None:
    for era, keeps in (("3.10", False), ("6.1", True)):
        box = Box(era)
        box.ping("-c", "5", "-i", "0.1")
        box.live(2500)
        row = dict(box.kernel()["devices"])["bond0"]
        box.run("pci-remove", "eth0")
        after = dict(box.kernel()["devices"])["bond0"]
        assert (after[9] >= row[9]) is keeps


# ---------------------------------------------------------------- frozen


@pytest.mark.parametrize("era", ERAS)
def test_a_frozen_nic_costs_reads_their_timeout_and_blocks_nothing_for_ever(era: str) -> None:
    box = Box(era)
    pinging(box)
    frozen = box.now_s
    box.machine.freeze("eth0")
    box.live(6000)
    page = box.pages["cpu0"]
    assert page.run("mmio_timeouts")[0] >= 1
    assert box.now_s - frozen >= 6
    assert box.ask("cpu0", "state")  # it still answers
    noticed = [line for line in box.said(frozen) if "Adapter removed" in line]
    assert bool(noticed) == (era == "6.1")
    if era == "6.1":
        assert box.kernel()["bonds"]["bond0"]["active"] == "eth1"


def test_a_short_freeze_is_worked_off_and_nothing_is_lost() -> None:
    box = Box()
    box.live(100)
    job = box.start("ping", "-i", "0.01", "-q", GATEWAY)
    box.live(300)
    box.machine.freeze("eth0")
    box.live(200)
    box.machine.thaw("eth0")
    box.live(700)
    ran = box.interrupt(job)
    assert ", 0% packet loss" in ran.lines[-2]
    (gap,) = gaps_ms(box.sent_times(), 20)
    assert gap == pytest.approx(210, abs=20)
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth0"


def test_while_a_read_stalls_the_other_cpu_goes_on() -> None:
    box = Box()
    # A gateway's address whose replies come to cpu1's queue of the NIC that is not frozen.
    box.cable("eth0", inserted=False)
    box.live(500)
    job = box.start("ping", "-i", "0.005", "-q", GATEWAY, cpu="cpu1")
    box.live(200)
    box.machine.freeze("eth0")
    box.live(4500)
    assert box.pages["cpu0"].run("mmio_timeouts")[0] >= 1
    ran = box.interrupt(job)
    assert ", 0% packet loss" in ran.lines[-2]
