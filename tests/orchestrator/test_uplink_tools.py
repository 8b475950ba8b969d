"""Real programs of a real kernel and those of the emulated machine, over the TAP uplink: ping,
arping, tcpdump and UDP, both ways."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nodes.cpu.page import CPU_SCHEMA
from nodes.lan.page import GATEWAY_PORT, LAN_SCHEMA
from nodes.ledger import REQUEST
from orchestrator.ledger import settled
from orchestrator.machines.processes import ProcessMachine
from orchestrator.scenarios.play import ping_times
from tests.orchestrator.uplinks import Program, needs, needs_root, run_there, uplinked

pytestmark = [pytest.mark.processes, needs_root]

EMULATED, REAL = "192.168.1.10", "192.168.1.1"
BOND_MAC, REAL_MAC = "52:54:00:00:00:10", "02:00:00:00:00:01"
MS = 1_000_000
#: So long that a failover costs both sides many packets.
MIIMON_MS = 300

#: Both ends of a UDP test in the manner of iperf3, each a program of this host: numbered datagrams
#: to an echo server, which counts them; the client counts what came back. It lets a bounded number
#: be under way, so that a busy host makes it slow and overflows no socket.
UDP_CLIENT = """
import select, socket, struct, sys
count, window = int(sys.argv[1]), int(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("192.168.1.10", 7))
came, sent = [], 0
while len(came) < count:
    if sent < count and sent - len(came) < window:
        sock.send(struct.pack("!Q", sent) + bytes(992))
        sent += 1
    elif select.select([sock], [], [], 60)[0]:
        came.append(struct.unpack_from("!Q", sock.recv(2000))[0])
    else:
        break
print("lost", count - len(set(came)), "disordered", sum(a > b for a, b in zip(came, came[1:])))
"""
UDP_SERVER = """
import socket, struct, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("192.168.1.1", 7))
print("ready", flush=True)
came = []
while len(came) < int(sys.argv[1]):
    data, peer = sock.recvfrom(2000)
    came.append(struct.unpack_from("!Q", data)[0])
    sock.sendto(data, peer)
print("came", len(set(came)), "disordered", sum(a > b for a, b in zip(came, came[1:])))
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessMachine]:
    """One machine for all that break nothing; the failover comes last."""
    with uplinked(tmp_path_factory.mktemp("uplink"), MIIMON_MS) as machine:
        yield machine


def emulated(machine: ProcessMachine, *argv: str) -> tuple[int | None, str]:
    job = machine.spawn("cpu0", argv)
    assert machine.wait(lambda: job.done, 60_000)
    return job.exit_code, "".join(text for _, text in job.take())


@needs("ping")
def test_a_thousand_pings_each_way_at_once_and_none_is_lost(machine: ProcessMachine) -> None:
    job = machine.spawn("cpu0", ("ping", "-q", "-c", "1000", "-i", "0.003", REAL))
    code, said = run_there(machine, "ping", "-q", "-c", "1000", "-i", "0.003", EMULATED)
    assert "1000 packets transmitted, 1000 received, 0% packet loss" in said
    assert code == 0
    assert machine.wait(lambda: job.done, 60_000)
    mine = "".join(text for _, text in job.take())
    assert "1000 packets transmitted, 1000 received, 0% packet loss" in mine
    ledger = settled(machine)
    assert ledger.balanced, ledger.text()
    book = ledger.as_json()["packets"]["requests"]
    assert book["sources"]["from outside"] == 1000
    assert book["ends"]["to outside"] == 1000


@needs("arping")
def test_arping_of_both_sides_finds_the_other_in_the_same_words(machine: ProcessMachine) -> None:
    code, real = run_there(machine, "arping", "-c", "1", EMULATED)
    mine_code, mine = emulated(machine, "arping", "-c", "1", REAL)
    times = re.compile(r"\d+\.\d{3}ms")
    assert times.sub("Tms", real) == (
        f"ARPING {EMULATED} from {REAL} tap0\n"
        f"Unicast reply from {EMULATED} [{BOND_MAC.upper()}]  Tms\n"
        "Sent 1 probes (1 broadcast(s))\nReceived 1 response(s)\n"
    )
    swapped = times.sub("Tms", mine).replace(EMULATED, "A").replace(REAL, EMULATED)
    swapped = swapped.replace("A ", f"{REAL} ").replace("bond0", "tap0")
    assert swapped.replace(REAL_MAC.upper(), BOND_MAC.upper()) == times.sub("Tms", real)
    assert (code, mine_code) == (0, 0)


@needs("arping")
def test_each_side_detects_the_others_address_as_a_duplicate(machine: ProcessMachine) -> None:
    code, real = run_there(machine, "arping", "-D", "-I", "tap0", "-w", "3", EMULATED)
    mine_code, mine = emulated(machine, "arping", "-D", "-w", "3", REAL)
    for said, mac in ((real, BOND_MAC), (mine, REAL_MAC)):
        assert "from 0.0.0.0 " in said
        assert f"[{mac.upper()}]" in said
        assert said.endswith("Sent 1 probes (1 broadcast(s))\nReceived 1 response(s)\n")
    assert (code, mine_code) == (1, 1)


def test_a_thousand_datagrams_each_way_come_back_in_order(machine: ProcessMachine) -> None:
    server = machine.spawn("cpu1", ("udp_echo", "7"))
    assert machine.wait(lambda: bool(server.output), 60_000)
    assert run_there(machine, sys.executable, "-c", UDP_CLIENT, "1000", "32") == (
        0, "lost 0 disordered 0\n",
    )  # fmt: skip
    machine.signal(server, signal.SIGINT)
    assert machine.wait(lambda: server.done, 60_000)
    assert server.take()[-1][1] == "1000 datagrams sent back\n"
    with Program(machine, sys.executable, "-c", UDP_SERVER, "1000") as there:
        there.until("ready")
        options = ("-q", "-c", "1000", "-i", "0", "-s", "1000", "-w", "60")  # one after the other
        assert emulated(machine, "udp_send", *options, REAL, "7") == (
            0, "1000 sent, 1000 received, 0 lost\n",
        )  # fmt: skip
        assert there.rest() == "came 1000 disordered 0\n"


# ---------------------------------------------------------------- a failover


INTERVAL_NS = 10 * MS
#: In the switch's ``frames_in``: echo requests from the uplink.
IN_REQUESTS = GATEWAY_PORT * 3 + REQUEST
#: Of 30; iputils sends less often while nothing comes back, and a busy host does so too.
LOST_MIN = 8


class Echo(NamedTuple):
    """One request: when it was sent (time of day in ns), and its round trip; None: lost."""

    sent_ns: int
    trip_ns: int | None
    who: str


def real_echoes(capture: str) -> list[Echo]:
    """The real ping's, as tcpdump saw them at the TAP device, which is where they begin and end."""

    def times(way: str) -> dict[int, int]:
        pattern = rf"^(\d+)\.(\d{{9}}) .* {way}, id \d+, seq (\d+),"
        return {int(n): int(s + ns) for s, ns, n in re.findall(pattern, capture, re.MULTILINE)}

    sent = times(f"{REAL} > {EMULATED}: ICMP echo request")
    came = times(f"{EMULATED} > {REAL}: ICMP echo reply")
    return [Echo(ns, came[n] - ns if n in came else None, "real") for n, ns in sent.items()]


def emulated_echoes(machine: ProcessMachine) -> list[Echo]:
    times = ping_times(machine, "cpu0")
    of_day = time.time_ns() - machine.now_ns()
    return [
        Echo(ns + of_day, times.received[n] - ns if n in times.received else None, "emulated")
        for n, ns in enumerate(times.sent, 1)
    ]


def awaited(echoes: list[Echo]) -> list[Echo]:
    """Without the last ones that have no reply: ping was ended before it could come."""
    while echoes and echoes[-1].trip_ns is None:
        echoes = echoes[:-1]
    return echoes


def look_until(machine: ProcessMachine, true: Callable[[], bool]) -> None:
    """Look at memory, which wakes nobody, every millisecond."""
    deadline = machine.now_ns() + 60_000 * MS
    while not true():
        assert machine.now_ns() < deadline
        machine.pump(machine.now_ns() + MS)


@needs("ping")
@needs("tcpdump")
def test_in_a_failover_both_sides_lose_the_same_packets(
    machine: ProcessMachine, tmp_path: Path
) -> None:
    """Two pings at one rate, one from each side. Between the first lost request of either side and
    the last lost one of either side no request of either side was sent and answered, but for what
    was on the wire when the cable was pulled: one that was sent within a round trip of it."""
    file = str(tmp_path / "tap0.pcap")
    page = machine.ram.page("cpu0", CPU_SCHEMA)
    lan = machine.ram.page("lan", LAN_SCHEMA)
    options = ("--immediate-mode", "--nano", "-w", file)
    with Program(machine, "tcpdump", "-i", "tap0", *options, "arp or icmp") as capture:
        capture.until("listening on")
        with Program(machine, "ping", "-q", "-i", "0.01", EMULATED) as real:
            taken = lan.run("frames_in")[IN_REQUESTS] + 10
            look_until(machine, lambda: lan.run("frames_in")[IN_REQUESTS] >= taken)
            job = machine.spawn("cpu0", ("ping", "-q", "-i", "0.01", REAL))
            machine.pump(machine.now_ns() + 100 * MS)
            looks = page["bond_next_mii_ns"]  # after a look of the monitor the next is far away
            look_until(machine, lambda: page["bond_next_mii_ns"] != looks)
            machine.cable("eth0", False)
            machine.pump(machine.now_ns() + (MIIMON_MS + 300) * MS)
            real.rest(signal.SIGINT)
        machine.signal(job, signal.SIGINT)
        assert machine.wait(lambda: job.done, 60_000)
        assert "\n0 packets dropped by kernel" in capture.rest(signal.SIGINT)
    read = ("tcpdump", "-n", "-e", "-tt", "--nano", "-r", file)
    captured = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    echoes = sorted(awaited(real_echoes(captured)) + awaited(emulated_echoes(machine)))
    lost = [n for n, echo in enumerate(echoes) if echo.trip_ns is None]
    first, last = echoes[lost[0]].sent_ns, echoes[lost[-1]].sent_ns
    trip_ns = next(e.trip_ns for e in reversed(echoes[: lost[0]]) if e.trip_ns is not None)
    during = [e for e in echoes if first + trip_ns < e.sent_ns < last]
    assert [e for e in during if e.trip_ns is not None and e.sent_ns + e.trip_ns < last] == []
    for who in ("real", "emulated"):
        assert sum(e.who == who and e.trip_ns is None for e in during) >= LOST_MIN
    # the namespace's tcpdump saw the bond announce itself, after the last loss
    announced = rf"{BOND_MAC} > ff:ff:ff:ff:ff:ff, .*who-has {EMULATED} .*tell {EMULATED},"
    gratuitous = re.findall(rf"^(\d+)\.(\d{{9}}) {announced}", captured, re.MULTILINE)
    assert gratuitous
    assert int("".join(gratuitous[-1])) > last - INTERVAL_NS
    assert lan.run("link")[GATEWAY_PORT] == 1
    ledger = settled(machine)
    assert ledger.balanced, ledger.text()
