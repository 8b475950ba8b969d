"""The bond in active-backup: cables out and in, delays, log lines, announcements, by era."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from orchestrator.machines.machine import Job
from tests.nodes.cpu.captures import bonding_lines, kernel_log
from tests.nodes.cpu.harness import ERAS, GATEWAY, START_NS, Box, gaps_ms, kind

FAILOVERS = "e1000e-msi-smp2/failover"


def pinging(box: Box) -> Job:
    """A hundred pings a second, so that a gap is known to 10 ms."""
    job = box.start("ping", "-i", "0.01", "-q", GATEWAY)
    box.live(400)
    return job


def bond_said(box: Box, since_s: float) -> list[str]:
    return [text for text in box.said(since_s) if text.startswith(("bond0: ", "bonding: "))]


def at_10g(lines: list[str]) -> list[str]:
    return [line.replace("1000 Mbps", "10000 Mbps") for line in lines]


def plug(box: Box, nic: str) -> None:
    """The driver masks the link interrupt while it has no link and looks at its service timer,
    which may be 2 s away, before it looks every 100 ms."""
    box.cable(nic, inserted=True)
    box.live(2500)


def to_next_tick(box: Box, after_ms: float) -> None:
    """Move to ``after_ms`` behind the MII monitor's next look."""
    next_ns = box.pages["cpu0"]["bond_next_mii_ns"]
    box.machine.pump(next_ns + int(after_ms * 1e6))


# ---------------------------------------------------------------- without delays


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("phase_ms", [5, 25, 50, 75, 95])
def test_a_pulled_cable_costs_at_most_the_monitors_interval_and_a_bit(
    era: str, phase_ms: int
) -> None:
    box = Box(era)
    pinging(box)
    to_next_tick(box, phase_ms)
    box.cable("eth0", inserted=False)
    box.live(1000)
    gaps = gaps_ms(box.sent_times(), 15)
    assert len(gaps) == 1 or (not gaps and phase_ms == 95)  # a few ms before the next look
    assert all(gap <= 100 + 10 + 20 + 8 for gap in gaps)  # look, ping interval, a tick or two
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth1"


@pytest.mark.conformance("N3.7")
@pytest.mark.parametrize(
    ("era", "lines"),
    [
        (
            "2.6.18",
            [
                "ixgbe 0000:01:00.0: eth0: NIC Link is Down",
                "bonding: bond0: link status definitely down for interface eth0, disabling it",
                "bonding: bond0: making interface eth1 the new active one.",
            ],
        ),
        (
            "3.10",
            [
                "ixgbe 0000:01:00.0 eth0: NIC Link is Down",
                "bonding: bond0: link status definitely down for interface eth0, disabling it",
                "bonding: bond0: making interface eth1 the new active one.",
            ],
        ),
        (
            "6.1",
            [
                "ixgbe 0000:01:00.0 eth0: NIC Link is Down",
                "bond0: (slave eth0): link status definitely down, disabling slave",
                "bond0: (slave eth1): making interface the new active one",
            ],
        ),
    ],
)
def test_log_of_a_failover(era: str, lines: list[str]) -> None:
    box = Box(era)
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live(500)
    assert box.said(began) == lines


def test_log_of_a_failover_is_that_of_a_real_kernel() -> None:
    box = Box()
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live(500)
    assert bond_said(box, began) == bonding_lines(f"{FAILOVERS}/03-link-loss-eth0.txt")
    began = box.now_s
    plug(box, "eth0")
    path = f"{FAILOVERS}/04-link-on-again-eth0-no-primary.txt"
    assert bond_said(box, began) == at_10g(bonding_lines(path))
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth1"  # no primary: it stays


@pytest.mark.parametrize(
    ("era", "gone", "back"),
    [
        ("2.6.18", "eth0 down, eth1 down, none", "eth0 up, eth1 up, eth0 active, carrier"),
        ("3.10", "eth0 down, none, eth1 down",
         "eth0 up, eth0 active, carrier, eth1 up"),
        ("6.1", "eth0 down, eth1 down, none", "eth0 up, eth1 up, eth0 active, carrier"),
    ],
)  # fmt: skip
def test_order_of_the_log_when_one_look_finds_both_links_gone_or_back(
    era: str, gone: str, back: str
) -> None:
    """3.10's bond_miimon_commit selects inside its loop, 6.1's (do_failover) behind it."""
    box = Box(era, miimon=3000)
    for inserted, lines in ((False, gone), (True, back)):
        box.live(3000)
        began = box.now_s
        for nic in ("eth0", "eth1"):
            box.cable(nic, inserted=inserted)
        box.live(6500)
        said = []
        for text in bond_said(box, began):
            nic = (re.findall(r"eth\d", text) or [""])[0]
            words = {"definitely down": "down", "definitely up": "up", "new active": "active",
                     "without any": "none", "interface up!": "carrier"}  # fmt: skip
            (word,) = (word for part, word in words.items() if part in text)
            said.append(f"{nic} {word}".strip())
        assert ", ".join(said) == lines


def test_log_when_both_links_go_and_one_comes_back_is_that_of_a_real_kernel() -> None:
    box = Box()
    box.cable("eth1", inserted=False)
    box.live(500)
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live(500)
    assert bond_said(box, began) == bonding_lines(f"{FAILOVERS}/13-both-links-lost.txt")
    assert box.kernel()["bonds"]["bond0"]["active"] is None
    assert not box.kernel()["bonds"]["bond0"]["carrier"]
    began = box.now_s
    plug(box, "eth1")
    path = f"{FAILOVERS}/14-eth1-link-on-after-both-lost.txt"
    assert bond_said(box, began) == at_10g(bonding_lines(path))
    assert box.ping("-c", "1").code == 0


@pytest.mark.conformance("N3.7")
@pytest.mark.parametrize("era", ["2.6.18", "3.10"])
def test_the_first_link_after_boot_takes_the_carrier_line_along(era: str) -> None:
    box = Box(era)
    lines = [line for line in bond_said(box, 0) if "enslaving" not in line]
    of_eth0 = [line for line in lines if "eth1" not in line]
    up = "link status definitely up for interface eth0"
    assert of_eth0[0].startswith(f"bonding: bond0: {up}")
    assert of_eth0[1:] == [
        "bonding: bond0: making interface eth0 the new active one.",
        "bonding: bond0: first active interface up!",
    ]


def test_without_any_slave_up_packets_end_by_name() -> None:
    box = Box()
    box.ping("-c", "1")
    for nic in ("eth0", "eth1"):
        box.cable(nic, inserted=False)
    box.live(500)
    ran = box.ping("-c", "3", "-i", "0.1", "-W", "0.5")
    assert ran.lines[-2].startswith("3 packets transmitted, 0 received")
    assert box.drops()["-", "BOND_NO_SLAVE"] == [0, 3, 0]


def test_a_primary_takes_over_again_as_soon_as_it_is_up() -> None:
    box = Box(primary="eth1")
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth1"
    box.cable("eth1", inserted=False)
    box.live(500)
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth0"
    plug(box, "eth1")
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth1"
    assert "Primary Slave: eth1 (primary_reselect always)" in box.proc("/proc/net/bonding/bond0")


def test_after_a_failover_the_files_say_so() -> None:
    box = Box()
    box.cable("eth0", inserted=False)
    box.live(500)
    text = box.proc("/proc/net/bonding/bond0")
    assert "Currently Active Slave: eth1\nMII Status: up\n" in text
    assert (
        "Slave Interface: eth0\nMII Status: down\nSpeed: Unknown\nDuplex: Unknown\n"
        "Link Failure Count: 1\n"
    ) in text
    assert "Slave Interface: eth1\nMII Status: up\nSpeed: 10000 Mbps\n" in text


# ---------------------------------------------------------------- delays


@pytest.mark.conformance("N3.5", "N3.6")
@pytest.mark.parametrize(
    ("era", "counts"), [("2.6.18", [1, 1, 1]), ("3.10", [0, 0, 1]), ("6.1", [0, 0, 1])]
)
def test_downdelay_of_two_and_a_half_ticks(era: str, counts: list[int]) -> None:
    box = Box(era, downdelay=250)
    assert "Down Delay (ms): 200" in box.proc("/proc/net/bonding/bond0")
    to_next_tick(box, 5)
    began = box.now_s
    box.cable("eth0", inserted=False)
    seen = []
    for _ in range(3):
        to_next_tick(box, 10)
        bond = box.kernel()["bonds"]["bond0"]
        seen.append((bond["slaves"][0]["failures"], bond["active"]))
    assert [count for count, _ in seen] == counts
    assert [active for _, active in seen] == ["eth0", "eth0", "eth1"]
    start, down, new = bond_said(box, began)
    assert "disabling it in 200 ms" in start
    assert "active interface" in start
    assert "definitely down" in down
    assert "new active one" in new
    ticks = [box.when(text, began) for text in (start, down)]
    assert ticks[1] - ticks[0] == pytest.approx(0.2, abs=0.02)


@pytest.mark.conformance("N3.6", "N3.5")
@pytest.mark.parametrize(("era", "failures"), [("2.6.18", 1), ("3.10", 0), ("6.1", 0)])
def test_a_flap_shorter_than_downdelay(era: str, failures: int) -> None:
    box = Box(era, downdelay=5000)
    to_next_tick(box, 5)
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live(400)
    assert box.kernel()["bonds"]["bond0"]["slaves"][0]["link"] == 1  # going down
    plug(box, "eth0")
    bond = box.kernel()["bonds"]["bond0"]
    assert bond["slaves"][0]["failures"] == failures
    assert (bond["active"], bond["slaves"][0]["link"]) == ("eth0", 0)
    assert "link status up again after" in bond_said(box, began)[1]


def test_log_of_a_flap_is_that_of_a_real_kernel() -> None:
    box = Box(downdelay=1000)
    path = f"{FAILOVERS}/11-link-flap-300ms-downdelay-1000.txt"
    log = kernel_log(path)
    down, up = (time for time, text in log if "NIC Link" in text)
    first = next(time for time, text in log if "disabling it in" in text)
    # Just before the service timer, so that the driver looks often from then on; and as long before
    # the monitor's look as there.
    box.machine.pump(START_NS + int(2.15e9))
    to_next_tick(box, -(first - down) * 1000)
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live((up - down) * 1000)
    box.cable("eth0", inserted=True)
    box.live(500)
    assert box.when("NIC Link is Up", began) - began == pytest.approx(up - down, abs=0.11)
    # Our driver sees the link up to 100 ms later, so it may take one more look.
    expected = at_10g(bonding_lines(path))
    said = bond_said(box, began)
    assert [said[0], said[2]] == [expected[0], expected[2]]
    assert said[1] in (expected[1], expected[1].replace("800", "900"))


@pytest.mark.parametrize(
    ("name", "settings", "inserted"),
    [
        ("09-link-loss-downdelay-400", {"downdelay": 400}, False),
        ("10-link-on-updelay-600", {"updelay": 600}, True),
    ],
)
def test_log_with_delays_is_that_of_a_real_kernel(
    name: str, settings: dict[str, int], inserted: bool
) -> None:
    path = f"{FAILOVERS}/{name}.txt"
    box = Box(**settings)
    box.live(1000)  # over the first updelay
    if inserted:
        box.cable("eth0", inserted=False)
        box.live(500)
    began = box.now_s
    box.cable("eth0", inserted=inserted)
    box.live(3500)
    assert bond_said(box, began) == at_10g(bonding_lines(path))
    real = [time for time, text in kernel_log(path) if text.startswith("bond0")]
    ours = [time for time, text in box.dmesg() if time >= began and text.startswith("bond0")]
    assert ours[1] - ours[0] == pytest.approx(real[1] - real[0], abs=0.04)


@pytest.mark.conformance("N3.8")
@pytest.mark.parametrize(("era", "waits_ms"), [("2.6.18", 5000), ("3.10", 0), ("6.1", 0)])
def test_updelay_without_any_active_slave(era: str, waits_ms: int) -> None:
    box = Box(era, updelay=5000, boot=False)
    box.live(8000)
    link = box.when("NIC Link is Up")
    active = box.when("new active one")
    assert active - link == pytest.approx(waits_ms / 1000, abs=0.15)
    enabling = [line for line in box.said() if "enabling it in" in line]
    assert f"enabling it in {5000 if era == '2.6.18' else 0} ms" in enabling[0]
    # The other one waits its full time: there is an active slave by then.
    definitely = [time for time, line in box.dmesg() if "definitely up" in line]
    tick = 0.104 if era == "6.1" else 0.1  # the modern wheel rounds up
    assert definitely[1] - definitely[0] == pytest.approx(
        50 * tick if not waits_ms else 0, abs=0.01
    )


def test_a_slave_that_fails_again_on_its_way_back_is_committed_down_in_6_1() -> None:
    for era, lines, failures in (("3.10", 2, 1), ("6.1", 3, 2)):
        box = Box(era, updelay=5000)
        box.live(7000)
        box.cable("eth1", inserted=False)
        box.live(500)
        began = box.now_s
        plug(box, "eth1")
        box.cable("eth1", inserted=False)
        box.live(500)
        said = bond_said(box, began)
        assert "enabling it in 5000 ms" in said[0]
        assert "link status down again after" in said[1]
        assert len(said) == lines
        assert box.kernel()["bonds"]["bond0"]["slaves"][1]["failures"] == failures


# ---------------------------------------------------------------- announcements


@pytest.mark.conformance("N3.9")
@pytest.mark.parametrize("era", ERAS)
def test_who_sees_which_gratuitous_arp(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    box.live(500)
    taps = {name: box.capture(name, "-p") for name in ("bond0", "eth0", "eth1")}
    box.cable("eth0", inserted=False)
    box.live(500)
    frames = {
        name: [p.data for p in tap.packets() if kind(p.data).startswith("arp")]
        for name, tap in taps.items()
    }
    on_slave = era == "2.6.18"
    assert {name: len(found) for name, found in frames.items()} == {
        "bond0": 0 if on_slave else 1,
        "eth0": 0,
        "eth1": 1,
    }
    frame = frames["eth1"][0]
    mac, address = bytes.fromhex("001b21000001"), bytes((192, 168, 1, 10))
    assert kind(frame) == ("arp-reply" if on_slave else "arp-request")
    assert frame[:6] == b"\xff" * 6
    assert frame[6:12] == frame[22:28] == mac
    assert frame[28:32] == frame[38:42] == address


@pytest.mark.parametrize(("count", "era"), [(0, "6.1"), (1, "6.1"), (3, "6.1"), (3, "3.10")])
def test_as_many_announcements_as_were_asked_for_one_a_tick(count: int, era: str) -> None:
    box = Box(era, num_grat_arp=count)
    box.live(1000)
    tap = box.capture("eth1", "-p")
    box.cable("eth0", inserted=False)
    box.live(1000)
    times = [p.time_ns - START_NS for p in tap.packets() if kind(p.data) == "arp-request"]
    assert len(times) == count
    assert [(b - a) / 1e6 for a, b in pairwise(times)] == pytest.approx(
        [104 if era == "6.1" else 100] * max(0, count - 1), abs=1
    )


@pytest.mark.conformance("N3.10")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_the_announcement_waits_for_linkwatch_on_the_new_active_slave(era: str) -> None:
    box = Box(era)
    box.live(500)
    tap = box.capture("eth1", "-p")
    net = box.machine.simulation.node("cpu0").cpu.net
    to_next_tick(box, 5)
    box.cable("eth0", inserted=False)
    box.live(10)  # linkwatch has seen to eth0
    net.linkwatch.pending.append(net.device("eth1"))
    box.live(250)
    assert box.kernel()["bonds"]["bond0"]["active"] == "eth1"
    assert tap.kinds()["arp-request"] == 0
    net.linkwatch.pending.clear()
    box.live(110)
    assert tap.kinds()["arp-request"] == 1


def test_the_announcement_moves_the_address_in_the_switch() -> None:
    box = Box()
    box.ping("-c", "1")
    mac = "00:1b:21:00:00:01"

    def port() -> str:
        return next(row[1] for row in box.ask("lan", "state")["macs"] if row[0] == mac)

    assert port() == "eth0"
    box.cable("eth0", inserted=False)
    box.live(500)
    assert port() == "eth1"


# ---------------------------------------------------------------- addresses and counters


@pytest.mark.conformance("N3.2")
@pytest.mark.parametrize("era", ERAS)
def test_slaves_share_the_bonds_address_and_remember_their_own(era: str) -> None:
    box = Box(era)
    net = box.machine.simulation.node("cpu0").cpu.net
    mac = bytes.fromhex("001b21000001")
    assert {dev.dev_addr for dev in net.devices.values() if dev.name != "lo"} == {mac}
    slaves = box.kernel()["bonds"]["bond0"]["slaves"]
    assert [s["perm_hwaddr"] for s in slaves] == [mac, bytes.fromhex("001b21000002")]


def net_dev(box: Box) -> dict[str, list[int]]:
    rows = [line.split(":") for line in box.proc("/proc/net/dev").splitlines()[2:]]
    return {name.strip(): [int(word) for word in rest.split()] for name, rest in rows}


@pytest.mark.conformance("N5.3")
@pytest.mark.parametrize("era", ERAS)
def test_the_bonds_transmit_row_is_the_sum_of_its_slaves(era: str) -> None:
    box = Box(era)
    box.ping("-c", "3", "-i", "0.1")
    box.live(50)
    box.cable("eth0", inserted=False)
    box.live(500)
    box.ping("-c", "4", "-i", "0.1")
    box.live(2500)  # completions are counted when the ring is cleaned
    rows = net_dev(box)
    assert rows["bond0"][8:] == [
        a + b for a, b in zip(rows["eth0"][8:], rows["eth1"][8:], strict=True)
    ]
    assert rows["eth0"][9] == 5  # the boot's announcement, an ARP request, three echo requests
    assert rows["eth1"][9] == 5  # an announcement and four
