"""The modes that a real 6.1 was recorded in: each event's log and /proc, four pings by packet."""

from __future__ import annotations

import re
from typing import Any

import pytest

from orchestrator.captures.packettext import Detail, describe
from tests.nodes.cpu.bonding.bonded import PROC, at_10g, bond_said
from tests.nodes.cpu.captures import ROOT, bonding_lines, captured
from tests.nodes.cpu.harness import Box
from tests.orchestrator.test_taps import lines

REAL = "e1000e-msi-smp2"
TAPS = ("bond0", "eth0", "eth1")
MODES = ("active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb")
#: What names the recorded machine and its slower NICs.
OURS = (
    ("52:54:00:00:00:10", "00:1b:21:00:00:01"),
    ("52:54:00:00:00:11", "00:1b:21:00:00:02"),
    ("Speed: 1000 Mbps", "Speed: 10000 Mbps"),
    ("ctor Key: 9", "ctor Key: 15"),
    ("port key: 9", "port key: 15"),
    ("v6.1.0-56-amd64", "v6.1.0"),
)


def machine(mode: str) -> Box:
    more: dict[str, Any] = {"lacp_rate": "fast"} if mode == "802.3ad" else {}
    box = Box(mode=mode, **more)
    box.live(10_000)
    box.ping("-c", "1")
    box.live(100)
    return box


def section(path: str, title: str) -> str:
    """A part of a failover's capture, as this machine would say it."""
    found = re.search(rf"\n## {re.escape(title)}\n(.*?)\n+(?=## |$)", captured(path), re.DOTALL)
    text = found[1].strip() if found else ""
    for real, ours in OURS:
        text = text.replace(real, ours)
    return text


@pytest.mark.parametrize("mode", MODES)
def test_over_and_back_as_a_real_6_1(mode: str) -> None:
    box = machine(mode)
    events = sorted(path.name for path in (ROOT / REAL / f"mode-{mode}").glob("[3456]-link*.txt"))
    assert len(events) >= 2
    for name in events:
        path = f"{REAL}/mode-{mode}/{name}"
        assert box.proc(PROC).strip() == section(path, "/proc/net/bonding/bond0 before"), name
        began = box.now_s
        box.cable(name[-8:-4], inserted="on-again" in name)
        box.live(4600)
        assert bond_said(box, began) == at_10g(bonding_lines(path)), name
        assert box.proc(PROC).strip() == section(path, "/proc/net/bonding/bond0 after"), name


def theirs(mode: str) -> dict[str, list[str]]:
    """Lines by tap, without the gateway's own look whether we are still there."""
    text = captured(f"{REAL}/mode-{mode}/2-tcpdump-4pings.txt").split("== ping\n")[0]
    parts = re.split(r"== tcpdump .* -i (\S+)\n", text)
    return {
        dev: [line for line in lines(shown) if "ARP" not in line]
        for dev, shown in zip(parts[1::2], parts[2::2], strict=True)
    }


@pytest.mark.parametrize("mode", MODES)
def test_four_pings_packet_by_packet_as_a_real_6_1(mode: str) -> None:
    box = machine(mode)
    taps = {dev: box.capture(dev, "-p") for dev in TAPS}
    box.live(2300)
    box.ping("-c", "4", "-i", "0.3")
    box.live(100)
    ours = {
        dev: lines("\n".join(f"00:00:00 {describe(p.data, p.length, Detail(link=True))}"
                             for p in tap.packets()))
        for dev, tap in taps.items()
    }  # fmt: skip
    real = theirs(mode)
    if mode == "balance-xor":  # the addresses' last octets are others, and so is the slave
        real["eth0"], real["eth1"] = real["eth1"], real["eth0"]
    if mode == "balance-tlb":  # the load moved there, so that eth1 sent two of the requests
        ours, real = together(ours), together(real)
    assert ours == real


def together(seen: dict[str, list[str]]) -> dict[str, list[str]]:
    """The bond's lines as they came; those of its slaves as if they were one, and of their learning
    packets, one a second, only the text."""
    found = [re.sub(r"(00:1b:21|52:54:00):00:00:\d\d", "US", line)
             for line in seen["eth0"] + seen["eth1"]]  # fmt: skip
    learning = {line for line in found if "Loopback" in line}
    return {
        "bond0": seen["bond0"],
        "learning": sorted(learning),
        "slaves": sorted(line for line in found if line not in learning),
    }
