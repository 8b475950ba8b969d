"""The ping program: options, errors, exit codes, duplicates, who gets which reply."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from bus.messages import EthFrame
from nodes.checksum import checksum
from nodes.cpu.kernel.net.socket import RawSocket
from orchestrator import ledger
from tests.nodes.cpu.harness import ERAS, GATEWAY, MS, Box, kind

NOBODY = "192.168.1.77"


@pytest.fixture(scope="module")
def shared() -> Box:
    """A machine that several tests ping from, one after the other."""
    return Box()


# ---------------------------------------------------------------- options and errors


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (
            ("-c", "0", GATEWAY),
            "ping: invalid argument: '0': out of range: 1 <= value <= 9223372036854775807",
        ),
        (("-c", "x", GATEWAY), "ping: invalid argument: 'x'"),
        (
            ("-s", "-1", GATEWAY),
            "ping: invalid argument: '-1': out of range: 0 <= value <= 2147483647",
        ),
        (("-t", "256", GATEWAY), "ping: invalid argument: '256': out of range: 0 <= value <= 255"),
        (("-i", "fast", GATEWAY), "ping: bad timing interval: fast"),
        (("-i", "-1", GATEWAY), "ping: bad timing interval: -1"),
        (("-i", "1_0", GATEWAY), "ping: bad timing interval: 1_0"),
        (("nohost",), "ping: nohost: Name or service not known"),
        ((), "ping: usage error: Destination address required"),
        (("-y", GATEWAY), "ping: invalid option -- 'y'"),
        ((GATEWAY, "-c"), "ping: option requires an argument -- 'c'"),
    ],
)  # fmt: skip
def test_what_ping_says_about_a_wrong_command_line(
    shared: Box, argv: tuple[str, ...], error: str
) -> None:
    ran = shared.run("ping", *argv)
    assert ran.err.splitlines()[0] == error
    out_of_range = "range" in error or error.endswith("'x'") or "Destination address" in error
    assert (ran.code, ran.out) == (1 if out_of_range else 2, "")  # as iputils 20221126 does


def test_options_may_be_written_together_and_with_their_value(shared: Box) -> None:
    ran = shared.run("ping", "-qc2", "-i0.01", GATEWAY)
    assert ran.lines[-2].startswith("2 packets transmitted, 2 received, 0% packet loss")


def test_names_of_the_hosts_file(shared: Box) -> None:
    ran = shared.run("ping", "-c", "1", "gateway")
    assert ran.lines[0] == "PING gateway (192.168.1.1) 56(84) bytes of data."
    assert ran.lines[1].startswith("64 bytes from gateway (192.168.1.1): icmp_seq=1 ")
    assert "--- gateway ping statistics ---" in ran.lines


def test_words_behind_two_dashes_are_no_options(shared: Box) -> None:
    for argv in (("-c", "1", "--", "gateway"), ("gateway", "-c", "1", "--")):
        assert shared.run("ping", *argv).code == 0
    assert shared.run("ping", "--", "-c").err == "ping: -c: Name or service not known\n"


def test_the_interval_is_kept(shared: Box) -> None:
    shared.ping("-c", "50", "-i", "0.02", "-q")
    sent = shared.sent_times()["sent"]
    gaps = [b - a for a, b in pairwise(sent)]
    assert all(abs(gap - 20 * MS) < MS for gap in gaps)


def test_a_deadline_ends_the_run(shared: Box) -> None:
    before = shared.now_s
    ran = shared.ping("-w", "2", "-i", "0.5")
    assert shared.now_s - before == pytest.approx(2, abs=0.01)
    assert ran.lines[-2].startswith("4 packets transmitted, 4 received")
    assert ran.code == 0


def test_a_deadline_with_too_few_replies_is_a_failure(shared: Box) -> None:
    assert shared.ping("-w", "1", "-c", "9", "-i", "0.5").code == 1
    assert shared.ping("-w", "9", "-c", "2", "-i", "0.5").code == 0


def test_waiting_for_the_last_reply(shared: Box) -> None:
    before = shared.now_s
    ran = shared.ping("-c", "1", "-W", "0.3", to=NOBODY)
    assert shared.now_s - before == pytest.approx(0.3, abs=0.01)
    assert ran.code == 1


def test_small_packets_have_no_time(shared: Box) -> None:
    ran = shared.ping("-c", "1", "-s", "8")
    assert ran.lines[1] == "16 bytes from 192.168.1.1: icmp_seq=1 ttl=64"
    assert ran.out.endswith("time 0ms\n\n")


def test_dots_of_a_flood(shared: Box) -> None:
    ran = shared.ping("-f", "-c", "4")
    assert ran.lines[1] == ".\b \b" * 4


def test_a_flood_without_replies_is_a_hundred_a_second() -> None:
    box = Box()
    ran = box.ping("-f", "-w", "1", to=NOBODY)
    assert ran.lines[1].count(".") == pytest.approx(100, abs=2)


def test_adaptive_pings_follow_the_round_trip(shared: Box) -> None:
    ran = shared.ping("-A", "-c", "10", "-q")
    assert re.search(r"ipg/ewma \d+\.\d{3}/\d+\.\d{3} ms$", ran.out)


def test_time_stamps_are_the_machines_clock(shared: Box) -> None:
    before = shared.now_s
    ran = shared.ping("-c", "1", "-D")
    stamp = re.match(r"\[(\d+\.\d{6})\] 64 bytes from", ran.lines[1])
    assert stamp
    assert float(stamp.group(1)) == pytest.approx(before, abs=0.001)


def test_time_stamps_and_the_packets_timeval_are_the_time_of_day() -> None:
    box = Box()
    noon_s = 1_795_000_000
    box.machine.ram.power_on(box.machine.ram.boot_ns, noon_s * 10**9)
    tap = box.capture("bond0")
    ran = box.ping("-c", "1", "-D")
    stamp = re.match(r"\[(\d+)\.\d{6}\] 64 bytes from .* time=0\.\d+ ms$", ran.lines[1])
    assert stamp
    assert 0 <= int(stamp[1]) - noon_s < 10
    (request,) = (p.data for p in tap.packets() if kind(p.data) == "request")
    assert 0 <= int.from_bytes(request[42:50], "little") - noon_s < 10


def test_outstanding_replies_are_reported_on_demand(shared: Box) -> None:
    ran = shared.ping("-O", "-c", "3", "-W", "0.2", "-i", "0.1", to=NOBODY)
    assert ran.lines[1:3] == ["no answer yet for icmp_seq=1", "no answer yet for icmp_seq=2"]


def test_a_network_without_a_route_is_unreachable() -> None:
    box = Box(nics=0, bonded=False)
    ran = box.ping("-c", "1")
    assert ran.err == "ping: connect: Network is unreachable\n"
    assert ran.code == 2


def test_interrupted_it_prints_its_statistics(shared: Box) -> None:
    job = shared.start("ping", "-i", "0.1", GATEWAY)
    shared.live(450)
    ran = shared.interrupt(job)
    assert ran.lines[-2].startswith("5 packets transmitted, 5 received, 0% packet loss")
    assert ran.code == 0


def test_sigquit_prints_a_status_line_and_goes_on(shared: Box) -> None:
    job = shared.start("ping", "-i", "0.1", "-c", "5", GATEWAY)
    shared.live(250)
    shared.machine.signal(job, 3)
    ran = shared.end(job)
    assert re.match(r"\r\d/\d packets, 0% loss", ran.err)
    assert ran.lines[-2].startswith("5 packets transmitted, 5 received")


def test_a_program_that_does_not_exist(shared: Box) -> None:
    ran = shared.run("traceroute", GATEWAY)
    assert (ran.code, ran.err) == (127, "traceroute: command not found\n")


# ---------------------------------------------------------------- unreachable


@pytest.mark.conformance("N6.1", "N1.3")
@pytest.mark.parametrize("era", ERAS)
def test_a_dead_host_on_the_link_is_reported_by_our_own_address(era: str) -> None:
    box = Box(era)
    tap = box.capture("bond0")
    ran = box.ping("-c", "3", to=NOBODY)
    assert ran.lines[1:4] == [
        f"From 192.168.1.10 icmp_seq={n} Destination Host Unreachable" for n in (1, 2, 3)
    ]
    assert re.fullmatch(
        r"3 packets transmitted, 0 received, \+3 errors, 100% packet loss, time 20\d\dms",
        ran.lines[-2],
    )
    assert ran.lines[-1] == "pipe 3"
    assert ran.code == 1
    packets = tap.packets()
    assert [kind(p.data) for p in packets] == ["arp-request"] * 3  # and no echo ever left
    assert all(p.data[:6] == b"\xff" * 6 for p in packets)
    gaps = [(b.time_ns - a.time_ns) / 1e9 for a, b in pairwise(packets)]
    assert gaps == pytest.approx([1, 1], abs=0.03)
    assert box.drops()["-", "NEIGH_FAILED"] == [0, 3, 0]


# ---------------------------------------------------------------- replies


class Replies:
    """Echo replies on their way to a NIC, to be sent again or changed."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.frames: list[bytes] = []

        def watch(_now: int, _sender: str, receiver: str, message: object) -> None:
            if (
                isinstance(message, EthFrame)
                and receiver == "eth0"
                and kind(message.frame) == "reply"
            ):
                self.frames.append(message.frame)

        box.machine.simulation.watch = watch

    def inject(self, frame: bytes, nic: str = "eth0") -> None:
        """As if it came off the wire."""
        self.box.machine.simulation.send(nic, EthFrame(frame), sender="lan")
        self.box.live(5)


@pytest.mark.conformance("N6.2")
def test_a_second_reply_is_a_duplicate() -> None:
    box = Box()
    replies = Replies(box)
    job = box.start("ping", "-c", "2", GATEWAY)
    box.live(500)
    replies.inject(replies.frames[0])
    ran = box.end(job)
    assert ran.lines[1].startswith("64 bytes from 192.168.1.1: icmp_seq=1 ttl=64 time=")
    assert ran.lines[2].startswith("64 bytes from 192.168.1.1: icmp_seq=1 ttl=64 time=")
    assert ran.lines[2].endswith(" ms (DUP!)")
    assert ran.lines[-2].startswith(
        "2 packets transmitted, 2 received, +1 duplicates, 0% packet loss"
    )


@pytest.mark.conformance("N2.12")
def test_a_reply_with_a_bad_checksum_reaches_the_raw_socket_and_is_called_so() -> None:
    box = Box()
    replies = Replies(box)
    job = box.start("ping", "-c", "2", "-w", "3", GATEWAY)
    box.live(500)
    good = replies.frames[0]
    replies.inject(good[:-1] + bytes((good[-1] ^ 0xFF,)))
    ran = box.end(job)
    assert ran.lines[2].endswith("(BAD CHECKSUM!)")
    assert ran.lines[-2].startswith("2 packets transmitted, 2 received")


@pytest.mark.conformance("N2.13")
def test_two_pings_each_get_every_reply_until_they_filter_and_take_their_own() -> None:
    """A raw socket gets a copy of everything; ping asks for a filter when it has seen the first
    reply to another."""
    box = Box()
    jobs = [box.start("ping", "-c", "5", "-i", "0.1", GATEWAY) for _ in range(2)]
    for job in jobs:
        assert box.end(job).lines[-2].startswith("5 packets transmitted, 5 received, 0% packet")
    pages = box.pages.values()
    assert sum(page.run("delivered")[2] for page in pages) == 10
    duplicates = sum(page.run("sock_dups")[2] for page in pages)
    assert duplicates == 2  # the first reply of each


def stale_socket(box: Box, ident: int, number: int) -> None:
    """A socket of the other CPU has been closed; what tells CPU ``number`` is still on its way."""
    node: Any = box.machine.simulation.node(f"cpu{number}")
    node.cpu.net.raw_sockets[0xDEAD] = RawSocket(1 - number, ident, 0, 0, False)


@pytest.mark.parametrize("number", [0, 1])  # one of them polls the queue
def test_a_copy_for_a_socket_that_has_closed_is_no_end_of_the_packet(number: int) -> None:
    box = Box()
    stale_socket(box, 0xDEAD, number)
    ran = box.ping("-c", "3", "-i", "0.1")
    assert ran.lines[-2].startswith("3 packets transmitted, 3 received, 0% packet loss")
    assert ledger.settled(box.machine).faults == []
    assert ("-", "NO_SOCKET") not in box.drops()


@pytest.mark.parametrize("number", [0, 1])
def test_the_packet_itself_ends_at_a_socket_that_has_closed(number: int) -> None:
    box = Box()
    replies = Replies(box)
    box.ping("-c", "1", cpu="cpu1")
    ident = int.from_bytes(replies.frames[0][38:40], "big")
    stale_socket(box, ident, number)
    replies.inject(replies.frames[0])
    box.live(10)
    assert box.drops()["-", "NO_SOCKET"] == [0, 0, 1]


@pytest.mark.conformance("N2.14")
def test_a_socket_bound_to_a_slave_never_receives_through_the_bond() -> None:
    box = Box()
    box.ping("-c", "1")
    tap = box.capture("eth0")
    ran = box.ping("-c", "2", "-I", "eth0", "-W", "0.5", "-i", "0.1")
    assert ran.lines[0] == (
        "PING 192.168.1.1 (192.168.1.1) from 192.168.1.10 eth0: 56(84) bytes of data."
    )
    assert ran.lines[-2].startswith("2 packets transmitted, 0 received, 100% packet loss")
    assert ran.code == 1
    assert tap.kinds() == {"request": 2, "reply": 2}  # they did come
    assert box.drops()["-", "NO_SOCKET"] == [0, 0, 2]
    assert box.ping("-c", "2", "-I", "bond0", "-i", "0.1").code == 0


@pytest.mark.conformance("N0.4")
@pytest.mark.parametrize("era", ERAS)
def test_the_socket_gets_one_copy_of_each_reply(era: str) -> None:
    box = Box(era)
    ran = box.ping("-c", "5", "-i", "0.1")
    assert len([line for line in ran.lines if "icmp_seq=" in line]) == 5
    assert box.total("ping_duplicates") == 0
    assert sum(page.run("delivered")[2] for page in box.pages.values()) == 5


@pytest.mark.conformance("K7.4-1")
@pytest.mark.parametrize("era", ERAS)
def test_hooks_on_the_way_out_run_in_the_process_and_on_the_way_in_in_a_softirq(era: str) -> None:
    box = Box(era)
    before = {cpu: box.ask(cpu, "state")["hooks"] for cpu in box.pages}
    box.ping("-c", "5", "-i", "0.1")
    passed = [[0, 0, 0, 0] for _ in range(5)]
    for cpu, old in before.items():
        for hook, counts in enumerate(box.ask(cpu, "state")["hooks"]):
            for n in range(4):
                passed[hook][n] += counts[n] - old[hook][n]
    pre_routing, local_in, forward, local_out, post_routing = passed
    assert local_out == post_routing == [5, 0, 0, 0]
    assert pre_routing == local_in == [0, 0, 5, 0]
    assert forward == [0, 0, 0, 0]


def echo_request_to_us(box: Box) -> bytes:
    """A frame in which the gateway pings 192.168.1.10."""
    message = b"\x08\0\0\0\x12\x34\0\x01" + bytes(range(56))
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    head = (
        b"\x45\x10\x00\x54\0\x07\0\0\x40\x01\0\0"
        + bytes((192, 168, 1, 1))
        + bytes((192, 168, 1, 10))
    )
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    mac = box.kernel()["bonds"]["bond0"]["mac"]
    return bytes(mac) + box.settings.gateway.mac + b"\x08\0" + head + message


@pytest.mark.conformance("N2.15")
@pytest.mark.parametrize("era", ERAS)
def test_a_ping_to_us_is_answered_through_the_slave_that_bonding_chooses(era: str) -> None:
    box = Box(era)
    box.ping("-c", "1")
    tap = box.capture("eth0")
    frame = echo_request_to_us(box)
    Replies(box).inject(frame)
    sent = [p for p in tap.packets() if p.outgoing]
    assert [kind(p.data) for p in sent] == ["reply"]
    reply = sent[0].data
    assert reply[38:] == frame[38:]  # same id, sequence and data
    assert checksum(reply[34:]) == 0
    assert reply[15] == 0x10  # and the request's type of service
    Replies(box).inject(frame, "eth1")  # not taken from the backup
    assert len([p for p in tap.packets() if p.outgoing]) == 1
