"""``bottomhalf --on gateway ping m1``: the host behind the switch pings the machine."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.lan.gateway import Gateway
from nodes.lan.hostping import HostPing, Options
from nodes.lan.page import LAN_SCHEMA
from nodes.ledger import REPLY, REQUEST
from nodes.machine import LAN, BondSettings
from orchestrator import verbs
from orchestrator.cli import _of_host, _where
from orchestrator.configuration import config
from orchestrator.errors import BottomhalfError
from orchestrator.ledger import settled
from orchestrator.machines import running
from orchestrator.machines.ready import wait_until_ready
from orchestrator.machines.rundir import RunningMachine
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive

SECOND = 1_000_000_000


@pytest.fixture
def machine() -> SimulatedMachine:
    machine = SimulatedMachine(config.load()._replace(name="m1"), seed=3)
    assert wait_until_ready(machine)
    return machine


def said(machine: SimulatedMachine, line: str, cpu: str = LAN) -> tuple[int, str]:
    out: list[str] = []
    session = Session(machine, out=out.append, err=out.append, cpu=cpu)
    code = drive(session, verbs.start(session, line.split()))
    return code, "".join(out)


def balanced(machine: SimulatedMachine) -> None:
    ledger = settled(machine)
    assert ledger.balanced, ledger.text()


@pytest.mark.parametrize(
    ("host", "source"), [("m1", "m1 (192.168.1.10)"), ("192.168.1.10", "192.168.1.10")]
)
def test_it_asks_by_arp_and_gets_its_answers(
    machine: SimulatedMachine, host: str, source: str
) -> None:
    code, text = said(machine, f"ping -c 3 -i 0.2 {host}")
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == f"PING {host} (192.168.1.10) 56(84) bytes of data."
    assert lines[1].startswith(f"64 bytes from {source}: icmp_seq=1 ttl=64 time=0.0")
    assert lines[4:7] == [
        "", f"--- {host} ping statistics ---",
        "3 packets transmitted, 3 received, 0% packet loss, time 400ms",
    ]  # fmt: skip
    assert lines[7].startswith("rtt min/avg/max/mdev = 0.0")
    page = machine.ram.page(LAN, LAN_SCHEMA)
    assert page.run("gw_generated")[REQUEST] == page.run("gw_answered")[REPLY] == 3
    balanced(machine)


@pytest.mark.parametrize(("cpu", "to", "at"), [("cpu0", "gateway", "1"), (LAN, "m1", "10")])
def test_both_sides_print_names_as_iputils_does(
    machine: SimulatedMachine, cpu: str, to: str, at: str
) -> None:
    """Of what stands in /etc/hosts; not with -n, and not for who was asked by its address."""
    address = f"192.168.1.{at}"
    code, text = said(machine, f"ping -c 1 -- {to}", cpu)
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == f"PING {to} ({address}) 56(84) bytes of data."
    assert lines[1].startswith(f"64 bytes from {to} ({address}): icmp_seq=1 ttl=64 time=")
    assert lines[3] == f"--- {to} ping statistics ---"
    lines = said(machine, f"ping -nc1 {to}", cpu)[1].splitlines()
    assert lines[0] == f"PING {to} ({address}) 56(84) bytes of data."
    assert lines[1].startswith(f"64 bytes from {address}: icmp_seq=1 ")
    lines = said(machine, f"ping -c1 {address}", cpu)[1].splitlines()
    assert lines[1].startswith(f"64 bytes from {address}: icmp_seq=1 ")
    assert lines[3] == f"--- {address} ping statistics ---"


@pytest.mark.parametrize(
    ("cpu", "to", "who"),
    [("cpu0", "gateway", "m1 (192.168.1.10)"), (LAN, "m1", "gateway (192.168.1.1)")],
)
def test_who_says_that_a_host_is_unreachable_has_a_name_too(
    machine: SimulatedMachine, cpu: str, to: str, who: str
) -> None:
    said(machine, "fault gateway silent", "cpu0")
    code, text = said(machine, f"ping -c 1 {to}", cpu)
    assert code == 1
    assert f"From {who} icmp_seq=1 Destination Host Unreachable\n" in text


def test_numbers_begin_anew_after_16_bits() -> None:
    """It was said of every reply after the 65535th that it came twice."""
    said: list[str] = []
    gateway = Gateway(b"\2\0\0\0\0\1", ("192.168.1.1",))
    gateway.neighbours[bytes((192, 168, 1, 10))] = bytes(6)
    frames: list[bytes] = []
    ping = HostPing(Options(["m1"], {"m1": "192.168.1.10"}), 1, gateway, {}, 0, frames.append,
                    said.append)  # fmt: skip
    for now_ns in range(0, 65539 * SECOND, SECOND):
        ping.tick(now_ns)
        if now_ns != 5 * SECOND:
            reply = frames[-1][14:34] + b"\0" + frames[-1][35:]
            ping.hear(reply, now_ns + 12_344_600)
    ping.finish()
    text = "".join(said)
    assert "DUP" not in text
    assert text.count(" time=12.3 ms\n") == 65538
    assert "65539 packets transmitted, 65538 received" in text


def test_names_do_not_change_what_programs_read(machine: SimulatedMachine) -> None:
    out: list[str] = []
    session = Session(machine, out=out.append, err=out.append, json=True)
    assert drive(session, verbs.start(session, ["ping", "-c", "1", "gateway"])) == 0
    found = json.loads("".join(out))
    assert found["destination"] == "gateway"
    assert [reply["from"] for reply in found["replies"]] == ["192.168.1.1"]


def test_nobody_answers_for_an_address_that_nobody_has(machine: SimulatedMachine) -> None:
    code, text = said(machine, "ping -c 1 192.168.1.77")
    assert code == 1
    assert "From 192.168.1.1 icmp_seq=1 Destination Host Unreachable\n" in text
    assert "1 packets transmitted, 0 received, +1 errors, 100% packet loss" in text
    balanced(machine)


def test_lost_requests_are_counted_and_the_deadline_ends_it(machine: SimulatedMachine) -> None:
    said(machine, "fault gateway loss=3,tx", "cpu0")
    code, text = said(machine, "ping -w 1 -i 0.1 -q m1")
    assert code == 0
    assert "% packet loss" in text
    assert "icmp_seq" not in text
    assert " 0% packet loss" not in text
    balanced(machine)


def test_a_signal_ends_it_with_its_statistics(machine: SimulatedMachine) -> None:
    job = machine.spawn(LAN, ("ping", "-i", "0.1", "m1"))
    machine.pump(machine.now_ns() + SECOND * 95 // 100)
    assert not job.done
    machine.signal(job, signal.SIGINT)
    assert machine.wait(lambda: job.done, 100)
    assert job.exit_code == 0
    assert "10 packets transmitted, 10 received" in "".join(text for _, text in job.take())
    assert machine.ram.page(LAN, LAN_SCHEMA)["gw_pings"] == 0


def test_it_pings_across_a_failover_and_loses_what_the_bond_loses(
    machine: SimulatedMachine,
) -> None:
    job = machine.spawn(LAN, ("ping", "-i", "0.01", "-c", "60", "-W", "0.2", "m1"))
    machine.pump(machine.now_ns() + SECOND // 5)
    said(machine, "cable active out", "cpu0")
    assert machine.wait(lambda: job.done, 5000)
    text = "".join(text for _, text in job.take())
    received = int(text.split(" received")[0].rsplit(" ", 1)[1])
    assert 40 <= received < 60
    balanced(machine)


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("ping", 1, "ping: usage error: Destination address required"),
        ("ping -c x m1", 1, "ping: invalid argument: 'x'"),
        ("ping -c 0 m1", 1, "out of range"),
        ("ping -Z m1", 2, "ping: invalid option -- 'Z'"),
        ("ping -i soon m1", 2, "ping: bad timing interval: soon"),
        ("ping -qc", 2, "ping: option requires an argument -- 'c'"),
        ("ping -- -c", 2, "ping: -c: Name or service not known"),
        ("ping nowhere", 2, "ping: nowhere: Name or service not known"),
    ],
)
def test_slips_get_pings_words(machine: SimulatedMachine, line: str, code: int, text: str) -> None:
    got, out = said(machine, line)
    assert got == code
    assert text in out


def test_the_gateway_has_no_other_program(machine: SimulatedMachine) -> None:
    job = machine.spawn(LAN, ("sleep", "1"))
    assert machine.wait(lambda: job.done, 100)
    assert job.exit_code == 127


@pytest.mark.parametrize(
    ("on", "where"),
    [
        (None, (None, "")),
        ("m2", ("m2", "")),
        ("gateway", (None, "gateway")),
        ("m2/gateway", ("m2", "gateway")),
    ],
)
def test_what_stands_behind_on(on: str | None, where: tuple[str | None, str]) -> None:
    assert _where(on) == where


def test_the_host_runs_ping_alone() -> None:
    with pytest.raises(BottomhalfError, match="the gateway has no `cat`"):
        _of_host("gateway", verbs.TABLE["cat"])


#: What a cable that is pulled, a NIC that is killed, and a port that is silent need to be noticed.
FAILOVERS = {
    "cable": (BondSettings(slaves=("eth0", "eth1"), miimon=100), "cable eth0 out"),
    "kill": (BondSettings(slaves=("eth0", "eth1"), miimon=100), "kill eth0"),
    "silent": (
        BondSettings(
            slaves=("eth0", "eth1"), miimon=0, arp_interval=100, arp_ip_target=("192.168.1.1",)
        ),
        "fault lan:1 silent",
    ),
}


@pytest.mark.parametrize("how", FAILOVERS)
def test_a_failover_costs_both_sides_the_same_packets(how: str) -> None:
    """Both ping at one rate from one moment on: what differs may only be on the wire at the instant
    of the break, or at that of the change-over."""
    bond, command = FAILOVERS[how]
    machine = SimulatedMachine(config.load()._replace(name="m1", bond=bond), seed=3)
    assert wait_until_ready(machine)
    machine.pump(machine.now_ns() + SECOND // 2)
    jobs = [
        machine.spawn("cpu0", ("ping", "-i", "0.01", "192.168.1.1")),
        machine.spawn(LAN, ("ping", "-i", "0.01", "192.168.1.10")),
    ]
    machine.pump(machine.now_ns() + SECOND // 2)
    if bond.miimon:  # long before the monitor looks again
        machine.pump(machine.ram.page("cpu0", CPU_SCHEMA)["bond_next_mii_ns"] + SECOND // 100)
    assert said(machine, command, "cpu0")[0] == 0
    machine.pump(machine.now_ns() + (5 if how == "kill" else 1) * SECOND)
    lost = []
    for job in jobs:
        machine.signal(job, signal.SIGINT)
        assert machine.wait(lambda job=job: job.done, 1000)
        text = "".join(text for _, text in job.take())
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ", text)}
        lost.append(sorted(set(range(1, max(answered))) - answered))
    assert len(lost[0]) > 3
    assert [run == list(range(run[0], run[-1] + 1)) for run in lost] == [True, True]
    assert abs(lost[0][0] - lost[1][0]) <= 1
    assert abs(lost[0][-1] - lost[1][-1]) <= 1
    balanced(machine)


def test_of_several_machines_the_hint_says_how_to_reach_the_host_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [RunningMachine(name, tmp_path / name, 1, "", 0.0) for name in ("m1", "m2")]
    for machine in two:
        machine.directory.mkdir()
        (machine.directory / running.CONTROL_SOCKET).touch()
    monkeypatch.setattr(running, "running_machines", lambda: two)
    with pytest.raises(BottomhalfError) as caught:
        running.find(None, "gateway")
    assert caught.value.hint == "bottomhalf --on m1/gateway ...     running: m1 m2"
