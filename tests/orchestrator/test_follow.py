"""``follow``: the way of one ping through all nodes, in order, with the era's reasons."""

from __future__ import annotations

import json
import re

import pytest

from bus.recorder import Record, Recorder
from nodes.cpu.kernel.params import PRESETS
from orchestrator import verbs
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive
from orchestrator.views.followtable import CPU_ROWS, NIC_ROWS, TAP_RULES, World, render


def booted(**options) -> SimulatedMachine:
    machine = SimulatedMachine(config.load(**options)._replace(name="m1"), seed=7)
    assert wait_until_ready(machine)
    return machine


def follow(machine: SimulatedMachine, line: str, **options) -> tuple[int, str]:
    out: list[str] = []
    session = Session(machine, out=out.append, err=out.append, **options)
    code = drive(session, verbs.start(session, ["follow", *line.split()]))
    return code, "".join(out)


def steps(machine: SimulatedMachine, line: str) -> list[list[dict[str, object]]]:
    packets: list[list[dict[str, object]]] = json.loads(follow(machine, line, json=True)[1])[
        "packets"
    ]
    return packets


@pytest.fixture
def warm() -> SimulatedMachine:
    """The gateway's address is known."""
    machine = booted()
    follow(machine, "ping -c 1 gateway")
    return machine


def test_one_ping_passes_all_processes_in_the_order_of_the_design(warm: SimulatedMachine):
    (packet,) = steps(warm, "ping -c 1 gateway")
    processes = [step["process"] for step in packet]
    first = {name: processes.index(name) for name in ("cpu0", "eth0", "lan", "apic")}
    assert first["cpu0"] < first["eth0"] < first["lan"]
    text = " / ".join(f"{s['process']} {s['context']}: {s['what']}" for s in packet)
    order = [
        "cpu0 task: ping: sendmsg, ip_output, tap bond0 sees it",
        "bond0 hands it to eth0, tap eth0 sees it",
        "ixgbe writes descriptor",
        "eth0 DMA: reads descriptor",
        "sends it on the wire",
        "lan switch: port 1 -> gateway, which answers",
        "lan switch: gateway -> port 1",
        "eth0 DMA: writes frame to descriptor",
        "eth0 MSI-X: writes 0x",
        "apic -: vector 0x",
        "hardirq: irq ",
        "softirq: NET_RX: ixgbe_poll: descriptor",
        "tap eth0, bond0 takes it, tap bond0, ip_rcv",
        "cpu0 task: ping: recvmsg",
    ]
    at = 0
    for part in order:
        found = text.find(part, at)
        assert found >= 0, f"{part!r} is missing behind {text[:at]!r}"
        at = found


def test_times_never_go_back_and_begin_at_the_sendmsg(warm: SimulatedMachine):
    (packet,) = steps(warm, "ping -c 1 gateway")
    times = [step["time_ns"] for step in packet]
    assert times[0] == 0
    assert times == sorted(times)  # type: ignore[type-var]
    assert str(packet[0]["what"]).startswith("ping: sendmsg")


@pytest.mark.parametrize(
    ("era", "receive", "why"),
    [
        ("6.1", "tap eth0, bond0 takes it, tap bond0, ip_rcv", TAP_RULES["rx_handler"]),
        ("2.6.18", "bond0 takes it, tap bond0, ip_rcv", TAP_RULES["skb_bond"]),
    ],
)
def test_the_riddle_of_tcpdump_on_a_slave_by_era(era: str, receive: str, why: str):
    machine = booted(era=era)
    follow(machine, "ping -c 1 gateway")
    (packet,) = steps(machine, "ping -c 1 gateway")
    (step,) = [s for s in packet if "bond0 takes it" in str(s["what"])]
    what = re.sub(r".*queue \d, ", "", str(step["what"]))
    assert what.startswith(receive)
    assert str(step["why"]).endswith(why)


def test_first_ping_waits_for_arp():
    (packet,) = steps(booted(), "ping -c 1 gateway")
    (step,) = [s for s in packet if "waits for ARP" in str(s["what"])]
    assert step["why"] == "the gateway's address is not known yet"


def test_each_packet_has_its_own_listing(warm: SimulatedMachine):
    packets = steps(warm, "ping -c 3 -i 0.01 gateway")
    assert len(packets) == 3
    for packet in packets:
        assert str(packet[0]["what"]).startswith("ping: sendmsg")
        assert sum("recvmsg" in str(s["what"]) for s in packet) == 1


def test_text_ends_with_what_ping_prints(warm: SimulatedMachine):
    code, text = follow(warm, "ping -c 1 gateway")
    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith("  us   process  context  what happens ")
    assert lines[0].endswith(" why   (virtual time)")
    assert (
        lines[-1].strip().startswith("64 bytes from gateway (192.168.1.1): icmp_seq=1 ttl=64 time=")
    )


def test_a_lost_packet_ends_where_it_is_dropped(warm: SimulatedMachine):
    warm.cable("eth0", False)
    warm.cable("eth1", False)
    warm.pump(warm.now_ns() + 300_000_000)
    code, text = follow(warm, "ping -c 1 -W 1 gateway")
    assert code == 1
    assert "1 packets transmitted, 0 received" in text
    assert "recvmsg" not in text


def test_recorders_are_as_before_afterwards(warm: SimulatedMachine):
    def masks() -> list[int]:
        return [Recorder(warm.ram.recorder_words(n)).mask for n in warm.settings.node_names]

    before = masks()
    follow(warm, "ping -c 1 gateway")
    assert masks() == before


def test_only_ping_can_be_followed(warm: SimulatedMachine):
    with pytest.raises(BottomhalfError, match="follow knows ping alone, not `dmesg`"):
        follow(warm, "dmesg")


def test_rows_name_events_that_exist():
    assert len(CPU_ROWS) > 15
    assert len(NIC_ROWS) > 5  # building the tables looks every name up


@pytest.mark.parametrize(
    ("era", "settings", "flow", "rule"),
    [
        ("2.6.18", {}, "__do_IRQ", "2.6.18: skb->dev was bond0"),
        ("6.1", {}, "handle_edge_irq", "6.1: taps run before"),
        ("6.1", {"packet_tap": "skb_bond"}, "handle_edge_irq", "packet_tap=skb_bond: skb->dev was"),
    ],
)
def test_functions_and_rules_are_those_of_the_era_or_of_what_was_set(
    era: str, settings: dict[str, str], flow: str, rule: str
) -> None:
    world = World(PRESETS[era]._replace(**settings), {}, {}, "bond0", era)
    record = Record(0, 0, 0, 24, 0)
    interrupt, bond = CPU_ROWS["irq_handler_entry"], CPU_ROWS["bond_receive"]
    assert f": {flow}, " in render(interrupt.text, "cpu", record, world)
    assert render(bond.why, "cpu", record, world).startswith(rule)
