"""Verbs ``flows`` and ``ladder``: which wire each flow took, what LACP said on the wires."""

from __future__ import annotations

import json

import pytest

from bus.ram import TapPacket
from nodes.lan.taps import PORT_IFINDEX
from nodes.slowproto import Lacpdu, PortParams, lacpdu_frame
from orchestrator import verbs
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, drive
from orchestrator.verbs.kernel import spoken
from orchestrator.views import flows, ladder
from orchestrator.views.flows import apart
from tests.nodes.cpu.harness import Box

NICS = ("eth0", "eth1")
MAC = bytes.fromhex("525400000010")


def run(box: Box, *argv: str, **options) -> tuple[int, str, Session]:
    out: list[str] = []
    session = Session(box.machine, out=out.append, err=out.append, **options)
    code = drive(session, verbs.start(session, list(argv)))
    return code, "".join(out), session


def at_port(port: int, frame: bytes, out: bool = True, ms: float = 0) -> TapPacket:
    """As the switch's tap keeps it: what enters the switch left the machine."""
    return TapPacket(round(ms * 1e6), PORT_IFINDEX + port, not out, len(frame), 1, frame)


def udp(mine: int, its: int, out: bool = True, fragment: int = 0) -> bytes:
    me, peer = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    ports = (mine, its) if out else (its, mine)
    header = b"\x45" + bytes(5) + fragment.to_bytes(2, "big") + bytes((64, 17, 0, 0))
    return (
        bytes(12) + b"\x08\x00" + header + (me + peer if out else peer + me)
        + b"".join(port.to_bytes(2, "big") for port in ports) + bytes(22)
    )  # fmt: skip


# ---------------------------------------------------------------- flows


def test_both_directions_are_one_flow_and_the_gateways_copy_counts_for_nothing() -> None:
    packets = [
        at_port(0, udp(4000, 7)), at_port(1, udp(4000, 7, out=False), out=False),
        at_port(2, udp(4000, 7)), at_port(1, udp(4001, 7)),
    ]  # fmt: skip
    found = flows.collected(packets, NICS)
    assert [flow.name for flow in found] == [
        "udp 10.0.0.2 port 4000 -> 7", "udp 10.0.0.2 port 4001 -> 7",
    ]  # fmt: skip
    assert [(flow.out, flow.back) for flow in found] == [
        ({"eth0": 1}, {"eth1": 1}),
        ({"eth1": 1}, {}),
    ]
    counts = flows.figures(found, NICS)
    assert (counts["eth0"], counts["eth1"], counts["back_eth1"], counts["wires"]) == (1, 1, 1, 2)
    assert (counts["udp_apart"], counts["echo_apart"], counts["split"]) == (1, 0, 0)


def test_later_fragments_have_no_ports_and_arp_is_no_flow() -> None:
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    packets = [at_port(0, udp(4000, 7, fragment=185)), at_port(0, arp)]
    assert [flow.name for flow in flows.collected(packets, NICS)] == ["fragment 10.0.0.2"]


def test_a_flow_that_leaves_by_two_nics_is_split() -> None:
    found = flows.collected([at_port(0, udp(1, 7)), at_port(1, udp(1, 7))], NICS)
    assert flows.figures(found, NICS)["split"] == 1


def test_flows_of_several_commands_in_one_table() -> None:
    box = Box()
    code, out, session = run(
        box, "flows", "ping", "-c", "2", "gateway", "+", "udp_send", "-q", "-c", "1", "gateway", "7"
    )
    assert code == 0
    assert out.startswith("flow ")
    figures = session.figures["flows"]
    assert (figures["flows"], figures["eth0"], figures["back_eth0"], figures["eth1"]) == (
        2,
        2,
        2,
        0,
    )
    code, out, _ = run(box, "flows", "ping", "-c", "1", "gateway", json=True)
    assert json.loads(out)["flows"][0]["out"] == {"eth0": 1}


@pytest.mark.parametrize("verb", ["flows", "ladder"])
def test_nothing_to_run_is_said(verb: str) -> None:
    with pytest.raises(BottomhalfError, match="of what"):
        run(Box(), verb)


# ---------------------------------------------------------------- ladder


def pdu(ms: float, state: int, out: bool = True, key: int = 33) -> TapPacket:
    actor = PortParams(65535, MAC, key, 255, 1, state)
    frame = lacpdu_frame(MAC, Lacpdu(actor, PortParams(0, bytes(6), 0, 0, 0, 0)))
    return at_port(0, frame, out, ms)


def test_a_rung_says_what_is_new_and_repetitions_are_counted() -> None:
    packets = [pdu(1, 0x47), pdu(2, 0x47), pdu(3, 0x47), pdu(4, 0x0F), at_port(0, udp(1, 2))]
    lines = ladder.draw(ladder.rungs(packets, NICS, 0), NICS)[3:]
    assert lines[0].split() == ["ms", "eth0", "switch", "state", "key", "heard"]
    assert lines[1] == "      1.0  |--------->|    ATG...F.  33   nobody"
    assert lines[2].endswith("2 more that say the same")
    assert lines[3].endswith("ATGS....  33   nobody        in sync, not defaulted")
    assert max(len(line) for line in lines) <= 79


def test_agreed_is_when_both_ends_collect_and_distribute() -> None:
    found = ladder.rungs([pdu(1, 0x3F), pdu(2, 0x0F, out=False), pdu(9, 0x3F, out=False)], NICS, 0)
    counts = ladder.figures(found, NICS)
    assert counts["eth0_agreed_ms"] == 9
    assert (counts["eth0_out"], counts["eth0_in"], counts["eth0_switch"]) == (1, 2, 0x3F)
    assert "eth1_agreed_ms" not in counts


def test_no_lacp_is_said() -> None:
    code, out, session = run(Box(), "ladder", "sleep", "0.1")
    assert code == 0
    assert out.splitlines() == [
        "no LACPDU on any wire",
        "a bond speaks LACP in mode 802.3ad: bottomhalf up bond-lacp -d",
    ]
    assert session.figures["ladder"]["pdus"] == 0


def test_a_command_may_be_quoted_as_a_whole() -> None:
    assert apart(["ping -c 1 gateway", "+", "arping", "m1"]) == [
        ("ping", "-c", "1", "gateway"),
        ("arping", "m1"),
    ]
    assert spoken(["udp_send 'a b'"]) == ("udp_send", "a b")
    assert spoken(["tcpdump", "icmp or arp"]) == ("tcpdump", "icmp or arp")
    with pytest.raises(BottomhalfError, match="No closing quotation"):
        spoken(["ping 'gateway"])
