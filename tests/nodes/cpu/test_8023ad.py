"""802.3ad on a whole machine: bond0 and the switch's port-channel, over cables."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scapy.contrib.lacp import LACP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from bus.faults import LACP_WRONG
from bus.messages import EthFrame, Fault
from nodes.lan.lacp import Partner
from nodes.machine import ChannelSettings, LacpSettings, LanSettings
from nodes.slowproto import Marker, is_slow, marker_frame, marker_from
from orchestrator import ledger
from tests.nodes.cpu.captures import bonding_lines, captured
from tests.nodes.cpu.harness import ERAS, Box, gaps_ms

CAPTURES = "e1000e-msi-smp2/mode-802.3ad"


FAST = LacpSettings(rate="fast")


def _box(era: str, *, lacp: LacpSettings | None = FAST, **more: Any) -> Box:
    channels = ()
    if lacp is not None:
        channels = (ChannelSettings("po1", ("eth0", "eth1"), "lacp", lacp),)
    more = {"lacp_rate": "fast", **more}
    return Box(era, mode="802.3ad", lan=LanSettings(channels=channels), **more)


def _info(box: Box, nic: int) -> dict[str, Any]:
    info: dict[str, Any] = box.kernel()["bonds"]["bond0"]["slaves"][nic]["info"]
    return info


def _muxes(box: Box) -> list[str]:
    return [_info(box, nic)["machines"][2] for nic in (0, 1)]


def _up(box: Box, limit_ms: int = 12_000) -> None:
    for _ in range(limit_ms // 100):
        if _muxes(box) == ["collecting_distributing"] * 2:
            return
        box.live(100)
    raise AssertionError(_muxes(box))


def _partner(box: Box) -> Partner:
    partner: Partner = box.machine.simulation.node("lan").partners[0]  # type: ignore[attr-defined]
    return partner


def _fault(box: Box, nic: str, word: str, *, on: bool = True) -> None:
    lan: Any = box.machine.simulation.node("lan")
    lan._fault("ctl", Fault(1, "lacp", LACP_WRONG.index(word) + 1, 0, int(on), nic))


@pytest.mark.conformance("N3.12")
@pytest.mark.parametrize("era", ERAS)
def test_both_ends_agree_and_frames_pass(era: str) -> None:
    box = _box(era)
    # bond_open comes before the first slave, so the 8 s of bond_3ad_initialize count
    assert box.now_s < 8
    _up(box)
    assert 8.0 <= box.now_s <= 8.6
    bond = box.kernel()["bonds"]["bond0"]
    assert bond["carrier"]
    assert bond["info"]["ad_num_ports"] == 2
    assert bond["info"]["ad_partner_mac"] == LacpSettings().system.hex(":")
    assert [_info(box, n)["ad_actor_oper_port_state"] for n in (0, 1)] == [0x3F, 0x3F]
    assert box.ping("-c", "3").lines[-2].startswith("3 packets transmitted, 3 received")
    assert ledger.settled(box.machine).balanced


@pytest.mark.parametrize("era", ERAS)
def test_failover_and_back(era: str) -> None:
    box = _box(era)
    _up(box)
    ping = box.start("ping", "-q", "-i", "0.01", "192.168.1.1")
    box.live(500)
    for out in (False, True):
        for nic in ("eth0", "eth1"):
            box.cable(nic, inserted=out)
            box.live(500)
            if not out:
                assert box.kernel()["bonds"]["bond0"]["carrier"]
                assert box.kernel()["bonds"]["bond0"]["info"]["ad_num_ports"] >= 1
                box.cable(nic, inserted=True)
                box.live(6_000)
    _up(box)
    box.interrupt(ping)
    assert max(gaps_ms(box.sent_times(), 0)) <= 250
    assert all(box.machine.simulation.node("lan").link[:2])  # type: ignore[attr-defined]
    assert ledger.settled(box.machine).balanced
    assert [s["failures"] for s in box.kernel()["bonds"]["bond0"]["slaves"]] == [1, 1]


@pytest.mark.conformance("N3.13")
@pytest.mark.parametrize("era", ERAS)
def test_a_partner_that_stops_talking_is_left_after_three_seconds(era: str) -> None:
    box = _box(era)
    _up(box)
    box.live(1_000)
    _fault(box, "eth0", "silent")
    began = box.now_s
    while _info(box, 0)["machines"][0] == "current":
        box.live(100)
        assert box.now_s < began + 5
    assert 2.0 <= box.now_s - began <= 3.2  # its last PDU was up to a second ago
    box.live(110)
    assert _muxes(box)[0] == "attached"
    assert box.kernel()["bonds"]["bond0"]["slaves"][0]["backup"]
    box.live(3_000)
    assert _info(box, 0)["machines"][0] == "defaulted"
    box.live(4_000)  # the switch had been heard: it takes its own 3 s to leave the port
    assert box.ping("-c", "3").lines[-2].startswith("3 packets transmitted, 3 received")
    _fault(box, "eth0", "silent", on=False)
    _up(box, 40_000)  # both ends send slowly to somebody whom they do not know
    assert ledger.settled(box.machine).balanced


@pytest.mark.conformance("N3.14a")
@pytest.mark.parametrize("era", ERAS)
def test_a_switch_that_does_not_speak_lacp(era: str) -> None:
    box = _box(era, lacp=None)
    box.live(12_000)
    bond = box.kernel()["bonds"]["bond0"]
    assert bond["carrier"] == (era != "2.6.18")
    text = box.proc("/proc/net/bonding/bond0")
    assert "\tPartner Mac Address: 00:00:00:00:00:00\n" in text
    assert "\tNumber of ports: 1\n" in text
    assert [slave["backup"] for slave in bond["slaves"]] == [False, True]
    if era != "2.6.18":
        assert box.ping("-c", "2").lines[-2].startswith("2 packets transmitted, 2 received")


def test_proc_is_what_a_real_6_1_printed_with_a_switch_that_is_silent() -> None:
    """But for address, speed and key of another NIC."""
    box = _box("6.1", lacp=None)
    box.live(8_000)
    theirs = captured(f"{CAPTURES}/1-proc-net-bonding-bond0.txt")
    for old, new in (
        ("52:54:00:00:00:10", "00:1b:21:00:00:01"),
        ("52:54:00:00:00:11", "00:1b:21:00:00:02"),
        ("Speed: 1000 Mbps", "Speed: 10000 Mbps"),
        ("ctor Key: 9", "ctor Key: 15"),
        ("port key: 9", "port key: 15"),
        ("v6.1.0-56-amd64", "v6.1.0"),
    ):
        theirs = theirs.replace(old, new)
    assert box.proc("/proc/net/bonding/bond0") == theirs


def test_sysfs_is_what_a_real_6_1_printed_with_a_switch_that_is_silent() -> None:
    box = _box("6.1", lacp=None)
    box.live(8_000)
    for line in captured(f"{CAPTURES}/1-sysfs-bonding.txt").splitlines():
        name, _, value = line.partition("=")
        path = name if name.startswith("/") else f"/sys/class/net/bond0/bonding/{name}"
        if name == "ad_actor_key":  # of 1 Gbit/s
            value = "15"
        elif name.endswith("perm_hwaddr"):
            value = value.replace("52:54:00:00:00:1", "00:1b:21:00:00:0")
            value = value[:-1] + str(int(value[-1]) + 1)
        assert box.proc(path).removesuffix("\n") == value, name


@pytest.mark.parametrize("era", ERAS)
def test_a_slave_is_released_and_enslaved_while_frames_pass(era: str) -> None:
    box = _box(era)
    _up(box)
    slaves = "/sys/class/net/bond0/bonding/slaves"
    assert box.run("write", slaves, "-eth0\n").code == 0
    box.live(500)
    bond = box.kernel()["bonds"]["bond0"]
    assert bond["info"]["ad_num_ports"] == 1
    assert bond["info"]["ad_aggregator"] == 2  # the first one went with its slave
    assert box.ping("-c", "2").lines[-2].startswith("2 packets transmitted, 2 received")
    assert box.run("write", slaves, "+eth0\n").code == 0
    box.live(2_600)
    _up(box)
    assert box.kernel()["bonds"]["bond0"]["info"]["ad_num_ports"] == 2
    assert ledger.settled(box.machine).balanced


def test_log_is_what_a_real_6_1_said() -> None:
    box = _box("6.1", lacp=None)
    box.live(1_000)
    log = captured(f"{CAPTURES}/1-dmesg.txt").splitlines()
    theirs = [line.split("] ")[1].replace("1000 M", "10000 M") for line in log if "bond0: " in line]
    # links come up at the same look here
    assert sorted(line for line in box.said() if "bond0: " in line) == sorted(theirs)
    began = box.now_s
    box.cable("eth0", inserted=False)
    box.live(1_000)
    ours = [line for line in box.said(began) if line.startswith("bond0: ")]
    assert ours == bonding_lines(f"{CAPTURES}/3-link-loss-eth0.txt")


def test_2_6_18_has_no_active_aggregator_for_eight_seconds() -> None:
    box = _box("2.6.18")
    text = box.proc("/proc/net/bonding/bond0")
    assert "\n802.3ad info\nLACP rate: fast\nbond bond0 has no active aggregator\n\n" in text
    assert box.proc("/sys/class/net/bond0/bonding/ad_aggregator").rstrip("\0") == "0\n"


PROC = {
    "2.6.18": """\
802.3ad info
LACP rate: fast
Active Aggregator Info:
\tAggregator ID: 1
\tNumber of ports: 2
\tActor Key: 33
\tPartner Key: 1
\tPartner Mac Address: 02:00:00:00:00:02

Slave Interface: eth0
MII Status: up
Link Failure Count: 0
Permanent HW addr: 00:1b:21:00:00:01
Aggregator ID: 1
""",
    "3.10": """\
802.3ad info
LACP rate: fast
Min links: 0
Aggregator selection policy (ad_select): stable
Active Aggregator Info:
\tAggregator ID: 1
\tNumber of ports: 2
\tActor Key: 33
\tPartner Key: 1
\tPartner Mac Address: 02:00:00:00:00:02

Slave Interface: eth0
MII Status: up
Speed: 10000 Mbps
Duplex: full
Link Failure Count: 0
Permanent HW addr: 00:1b:21:00:00:01
Aggregator ID: 1
Slave queue ID: 0
""",
}


@pytest.mark.parametrize("era", sorted(PROC))
def test_proc_of_older_kernels(era: str) -> None:
    box = _box(era)
    _up(box)
    assert f"\n\n{PROC[era]}\nSlave Interface: eth1\n" in box.proc("/proc/net/bonding/bond0")


@pytest.mark.parametrize("era", ERAS)
def test_mismatched_keys_leave_one_port(era: str) -> None:
    box = _box(era, lacp=LacpSettings(rate="fast", keys=(("eth1", 9),)))
    box.live(12_000)
    bond = box.kernel()["bonds"]["bond0"]
    assert bond["info"]["ad_num_ports"] == 1
    assert [slave["backup"] for slave in bond["slaves"]] == [False, True]
    assert box.ping("-c", "2").lines[-2].startswith("2 packets transmitted, 2 received")
    assert ledger.settled(box.machine).balanced


@pytest.mark.parametrize(
    ("era", "ad_select", "ports", "carry"),
    [
        ("2.6.18", "", 2, [False, True, True]),  # chooses when agg_select_timer has run out
        ("3.10", "stable", 1, [False, False, False]),  # eth0's came first, and its partner answers
        ("3.10", "bandwidth", 2, [False, True, True]),
        ("3.10", "count", 2, [False, True, True]),
        ("6.1", "stable", 1, [False, False, False]),
        ("6.1", "bandwidth", 2, [False, True, True]),
    ],
)
def test_stable_stays_with_a_first_port_whose_key_is_wrong_and_carries_nothing(
    era: str, ad_select: str, ports: int, carry: list[bool]
) -> None:
    """The policy asks whether the partner answers, not whether it agrees: so with *stable* the bond
    waits for a port that the switch leaves out, while two good ones stand by."""
    nics = ("eth0", "eth1", "eth2")
    lacp = LacpSettings(rate="fast", keys=(("eth0", 9),))
    channel = ChannelSettings("po1", nics, "lacp", lacp)
    more = {"ad_select": ad_select} if ad_select else {}
    lan = LanSettings(channels=(channel,))
    box = Box(era, nics=3, mode="802.3ad", lan=lan, lacp_rate="fast", **more)
    box.live(15_000)
    bond = box.kernel()["bonds"]["bond0"]
    assert bond["info"]["ad_num_ports"] == ports
    assert [not slave["backup"] for slave in bond["slaves"]] == carry
    got = 2 if any(carry) else 0
    said = box.ping("-c", "2", "-W", "0.3").out
    assert f"2 packets transmitted, {got} received" in said
    assert ledger.settled(box.machine).balanced


@pytest.mark.parametrize("era", ERAS)
def test_a_marker_is_answered_on_the_slave_it_came_by(era: str) -> None:
    box = _box(era)
    _up(box)
    marker = Marker(1, 5, LacpSettings().system, 77)
    seen: list[tuple[str, bytes]] = []

    def watch(_now: int, sender: str, receiver: str, message: Any) -> None:
        if receiver == "lan" and isinstance(message, EthFrame):
            seen.append((sender, message.frame))

    box.machine.simulation.watch = watch
    lan: Any = box.machine.simulation.node("lan")
    lan.forwarding.emit(1, marker_frame(LacpSettings().system, marker))
    _partner(box).members[1].ntt = True
    box.live(1_500)
    answers = [(sender, marker_from(frame)) for sender, frame in seen if marker_from(frame)]
    assert answers == [("eth1", marker._replace(kind=2))]
    assert all(frame[6:12] == bytes((0, 0x1B, 0x21, 0, 0, int(s[3]) + 1)) for s, frame in seen
               if is_slow(frame))  # fmt: skip


def test_lacpdus_on_the_slaves_taps_but_not_on_the_bonds() -> None:
    for era, on_bond in (("2.6.18", True), ("3.10", False), ("6.1", False)):
        box = _box(era)
        _up(box)
        slave, bond = box.capture("eth0"), box.capture("bond0")
        box.live(3_100)
        incoming = [p for p in slave.packets() if is_slow(p.data) and p.data[6] == 2]
        assert bool(incoming) == (not on_bond)
        assert bool([p for p in bond.packets() if is_slow(p.data)]) == on_bond


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_scapy_and_tshark_read_what_is_on_the_wire(tmp_path: Path) -> None:
    box = _box("6.1", boot=False)
    frames: list[bytes] = []

    def watch(_now: int, _sender: str, _receiver: str, message: Any) -> None:
        if isinstance(message, EthFrame) and is_slow(message.frame):
            frames.append(message.frame)

    box.machine.simulation.watch = watch
    box.boot()
    box.live(10_000)
    assert len(frames) > 30
    assert all(Ether(frame)[LACP].actor_length == 20 for frame in frames)
    path = tmp_path / "lacp.pcap"
    wrpcap(str(path), [Ether(frame) for frame in frames])
    text = subprocess.run(
        ["tshark", "-r", str(path), "-V"], check=True, capture_output=True, text=True
    ).stdout
    assert "Malformed" not in text
    assert "Expert Info" not in text


def test_min_links_takes_the_carrier() -> None:
    box = _box("6.1", min_links=2)
    _up(box)
    assert box.kernel()["bonds"]["bond0"]["carrier"]
    box.cable("eth1", inserted=False)
    box.live(500)
    assert not box.kernel()["bonds"]["bond0"]["carrier"]


def test_a_loopback_is_told_in_the_log() -> None:
    box = _box("6.1")
    _up(box)
    _fault(box, "eth1", "loopback")
    box.live(5_000)
    box.when("bond0: (slave eth1): An illegal loopback occurred on slave")
    # such a PDU stops the receive timer and changes nothing else, so the port goes on as it was
    assert _info(box, 1)["machines"] == ["current", "fast", "collecting_distributing"]


@pytest.mark.conformance("N3.4")
@pytest.mark.parametrize("era", ERAS)
def test_two_pings_over_layer3_and_4(era: str) -> None:
    box = _box(era, xmit_hash_policy="layer3+4")
    _up(box)
    used = set()
    for _ in range(6):
        taps = [box.capture(f"eth{n}") for n in (0, 1)]
        box.ping("-c", "1")
        used |= {n for n, tap in enumerate(taps) if tap.kinds()["request"]}
        for tap in taps:
            tap.stop()
    assert (len(used) == 2) == (era == "6.1")
