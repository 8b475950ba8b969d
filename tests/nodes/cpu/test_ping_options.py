"""ping's options: what each does to packets and output, and iputils' words for what it refuses.

Texts and exit codes of refusals were taken from ping of iputils 20221126 (the one that printed
tests/data/real-linux)."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from bus.messages import EthFrame
from nodes.checksum import checksum
from nodes.pingtext import Statistics, icmp_text
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import ERAS, GATEWAY, Box, kind
from tests.nodes.cpu.test_ping import Replies

NOBODY = "192.168.1.77"


@pytest.fixture(scope="module")
def shared() -> Box:
    box = Box()
    box.ping("-c", "1")
    return box


@pytest.mark.parametrize(
    ("argv", "code", "error"),
    [
        ("-p xyz G", 2, "ping: patterns must be specified as hex digits: xyz"),
        ("-p 00fg G", 2, "ping: patterns must be specified as hex digits: g"),
        ("-M foo G", 2, "ping: invalid -M argument: foo"),
        ("-M G", 2, "ping: invalid -M argument: 192.168.1.1"),
        ("-l 0 G", 1, "ping: invalid argument: '0': out of range: 1 <= value <= 65536"),
        ("-i 99999999 G", 2, "ping: bad timing interval: 99999999"),
        ("-W -1 G", 2, "ping: bad linger time: -1"),
        ("-W 99999999 G", 2, "ping: bad linger time: 99999999"),
        ("-w x G", 1, "ping: invalid argument: 'x'"),
        ("-w -1 G", 1, "ping: invalid argument: '-1': out of range: 0 <= value <= 2147483647"),
        ("-Q 300 G", 2, "ping: the decimal value of TOS bits must be in range 0-255: 300"),
        ("-m x G", 1, "ping: invalid argument: 'x'"),
        ("-S x G", 1, "ping: invalid argument: 'x'"),
        ("-e 70000 G", 1, "ping: invalid argument: '70000': out of range: 0 <= value <= 65535"),
        ("-I nosuch G", 2, "ping: SO_BINDTODEVICE nosuch: No such device"),
        ("-I 1.2.3.4 G", 2, "ping: bind: Cannot assign requested address"),
        ("-t 0 G", 2, "ping: cannot set unicast time-to-live: Invalid argument"),
        ("", 1, "ping: usage error: Destination address required"),
        (
            "255.255.255.255",
            2,
            "ping: Do you want to ping broadcast? Then -b. If not, check your local firewall rules",
        ),
        ("-R G", 2, "ping: record route: not modelled (docs/limitations.md)"),
        ("-6 G", 2, "ping: IPv6: not modelled (docs/limitations.md)"),
        ("-l 65536 -i 2000 G", 2, "ping: illegal preload and/or interval: 2000000"),
    ],
)
def test_what_is_refused_has_iputils_words_and_exit_code(
    shared: Box, argv: str, code: int, error: str
) -> None:
    ran = shared.run("ping", *argv.replace("G", GATEWAY).split())
    assert (ran.code, ran.out, ran.err) == (code, "", error + "\n")


def test_help_and_version(shared: Box) -> None:
    helped = shared.run("ping", "-h")
    assert (helped.code, helped.out) == (2, "")
    assert helped.err.startswith("\nUsage\n  ping [options] <destination>\n\nOptions:\n")
    wrong = shared.run("ping", "-3", GATEWAY)
    assert wrong.err == "ping: invalid option -- '3'\n" + helped.err
    version = shared.run("ping", "-V")
    assert version.code == 0
    assert version.out.startswith("ping from iputils 20221126\nlibcap: yes")


def test_a_pattern_fills_the_data_behind_the_time(shared: Box) -> None:
    tap = shared.capture("bond0")
    ran = shared.ping("-c", "1", "-p", "ff0")
    tap.stop()
    assert ran.lines[0] == "PATTERN: 0xff00"
    request = next(p.data for p in tap.packets() if kind(p.data) == "request")
    assert request[58:98] == b"\xff\0" * 20
    assert checksum(request[34:]) == 0


def test_without_a_pattern_the_data_counts_up(shared: Box) -> None:
    tap = shared.capture("bond0")
    shared.ping("-c", "1", "-s", "300")
    tap.stop()
    request = next(p.data for p in tap.packets() if kind(p.data) == "request")
    assert request[58:] == bytes(n & 0xFF for n in range(16, 300))


@pytest.mark.parametrize(
    ("options", "ttl", "tos", "dont_fragment"),
    [(("-t", "7"), 7, 0, True), (("-Q", "0x10"), 64, 16, True), (("-M", "dont"), 64, 0, False),
     (("-M", "want"), 64, 0, True), (("-M", "do"), 64, 0, True)],
)  # fmt: skip
def test_fields_of_the_header(
    shared: Box, options: tuple[str, ...], ttl: int, tos: int, dont_fragment: bool
) -> None:
    tap = shared.capture("bond0")
    assert shared.ping("-c", "1", *options).code == 0
    tap.stop()
    request = next(p.data for p in tap.packets() if kind(p.data) == "request")
    assert (request[22], request[15], bool(request[20] & 0x40)) == (ttl, tos, dont_fragment)
    assert checksum(request[14:34]) == 0


def test_what_does_not_fit_with_df_is_a_local_error_and_nothing_leaves(shared: Box) -> None:
    tap = shared.capture("any")
    sent = shared.total("icmp_sent")
    ran = shared.ping("-c", "2", "-i", "0.1", "-s", "1473", "-M", "do")
    assert ran.err == "ping: local error: message too long, mtu=1500\n" * 2
    assert ran.lines[-2].startswith("2 packets transmitted, 0 received, +2 errors, 100% packet")
    assert ran.code == 1
    assert tap.packets() == []
    assert shared.total("icmp_sent") == sent
    tap.stop()


def test_what_no_ip_packet_holds_is_refused_by_sendmsg(shared: Box) -> None:
    ran = shared.ping("-c", "1", "-s", "70000", "-W", "0.1")
    assert ran.lines[0] == "PING 192.168.1.1 (192.168.1.1) 70000(70028) bytes of data."
    assert ran.err == "ping: sendmsg: Message too long\n"
    assert ran.code == 1


def test_an_address_of_ours_as_the_source(shared: Box) -> None:
    ran = shared.ping("-c", "1", "-I", "192.168.1.10")
    assert ran.lines[0] == (
        "PING 192.168.1.1 (192.168.1.1) from 192.168.1.10 : 56(84) bytes of data."
    )
    assert ran.code == 0


def test_an_identifier_of_ones_own_and_verbose_lines_that_show_it(shared: Box) -> None:
    ran = shared.ping("-c", "1", "-e", "4711", "-v")
    assert ran.err == (
        "ping: sock4.fd: 3 (socktype: SOCK_RAW), sock6.fd: 4 (socktype: SOCK_RAW), "
        "hints.ai_family: AF_UNSPEC\n\n"
    )
    assert ran.lines[0] == "ai->ai_family: AF_INET, ai->ai_canonname: '192.168.1.1'"
    assert re.match(r"64 bytes from 192\.168\.1\.1: icmp_seq=1 ident=4711 ttl=64", ran.lines[2])


def test_options_that_make_no_difference_are_taken(shared: Box) -> None:
    argv = ("-n", "-4", "-B", "-d", "-L", "-C", "-r", "-m", "7", "-S", "4096", "-F", "1", "-N", "x")
    assert shared.ping("-c", "1", *argv).code == 0


def test_an_audible_ping_rings(shared: Box) -> None:
    assert shared.ping("-c", "1", "-a").out.count("\a") == 1


def test_user_to_user_latency_is_longer_than_the_kernels(shared: Box) -> None:
    def mean(*options: str) -> float:
        ran = shared.ping("-c", "5", "-i", "0.02", "-q", *options)
        found = re.search(r"= [\d.]+/([\d.]+)/", ran.lines[-1])
        assert found
        return float(found[1])

    assert mean("-U") > mean()


def test_a_preload_goes_out_at_once(shared: Box) -> None:
    ran = shared.ping("-c", "4", "-l", "3", "-i", "0.2", "-q")
    sent = shared.sent_times()["sent"]
    gaps = [b - a for a, b in pairwise(sent)]
    assert max(gaps[:2]) < 1_000_000
    assert gaps[2] > 100_000_000
    assert ran.lines[-1].endswith(", pipe 3")
    assert shared.ping("-c", "2", "-l", "2", "-q").lines[-1].endswith(", pipe 2")
    assert "pipe" not in shared.ping("-c", "2", "-i", "0.1", "-q").lines[-1]


def test_an_adaptive_ping_sends_one_a_round_trip(shared: Box) -> None:
    shared.ping("-A", "-c", "20", "-q")
    sent = shared.sent_times()["sent"]
    gaps = [b - a for a, b in pairwise(sent)]
    assert max(gaps) < 1_000_000  # replies take a tenth of a millisecond here


def test_an_adaptive_ping_follows_a_slow_way_and_is_not_held_up_by_a_loss() -> None:
    box = Box()
    box.ping("-c", "1")
    box.machine.fault("lan", "delay", 15_000_000, 0, True, "eth0")
    box.ping("-A", "-c", "10", "-q")
    sent = box.sent_times()["sent"]
    assert [round((b - a) / 1e6) for a, b in pairwise(sent)] == [30] * 9
    box.machine.fault("lan", "delay", 0, 0, False, "eth0")
    box.machine.fault("lan", "delay", 2_000_000, 0, True, "eth0")
    job = box.start("ping", "-A", "-w", "1", "-q", GATEWAY)
    box.live(200)
    box.machine.fault("lan", "loss", 1, 0, True, "eth0")
    box.live(2000)
    box.end(job)
    gaps = [(b - a) / 1e6 for a, b in pairwise(box.sent_times()["sent"])]
    assert max(gaps) == pytest.approx(10, abs=1)  # the lost one's
    assert sum(gap > 5 for gap in gaps) == 1


def test_sigint_keeps_the_exit_code_of_a_deadline_that_was_not_met(shared: Box) -> None:
    """finish(): with -w, fewer replies than -c are a failure however it ended."""
    job = shared.start("ping", "-i", "0.1", "-w", "9", "-c", "50", GATEWAY)
    shared.live(450)
    assert shared.interrupt(job).code == 1
    job = shared.start("ping", "-i", "0.1", "-c", "50", GATEWAY)
    shared.live(450)
    assert shared.interrupt(job).code == 0


def test_sigquit_says_how_it_goes(shared: Box) -> None:
    job = shared.start("ping", "-i", "0.1", "-c", "5", GATEWAY)
    shared.live(250)
    shared.machine.signal(job, 3)
    number = r"\d+\.\d{3}"
    assert re.fullmatch(
        rf"\r3/3 packets, 0% loss, min/avg/ewma/max = {number}/{number}/{number}/{number} ms\n",
        shared.end(job).err,
    )


@pytest.mark.conformance("N6.1")
@pytest.mark.parametrize("era", ERAS)
def test_with_a_deadline_the_first_error_ends_it(era: str) -> None:
    box = Box(era)
    began = box.now_s
    ran = box.ping("-w", "30", "-c", "9", to=NOBODY)
    assert ran.code == 1
    assert "Destination Host Unreachable" in ran.out
    assert box.now_s - began < 10


def test_waiting_time_counts_only_while_nothing_has_come_back(shared: Box) -> None:
    """-W: with a reply seen, twice the slowest round trip or the interval is waited instead."""
    shared.ping("-c", "1")
    box = Box()
    replies = Replies(box)
    job = box.start("ping", "-c", "2", "-W", "7", GATEWAY)
    box.live(500)
    box.cable("eth0", inserted=False)
    box.cable("eth1", inserted=False)
    began = box.now_s
    ran = box.end(job)
    assert replies.frames
    assert ran.lines[-2].startswith("2 packets transmitted, 1 received, 50% packet loss")
    assert box.now_s - began < 3


# ---------------------------------------------------------------- replies that were changed


def test_wrong_data_is_shown_with_all_bytes() -> None:
    box = Box()
    replies = Replies(box)
    job = box.start("ping", "-c", "2", "-s", "24", GATEWAY)
    box.live(500)
    good = replies.frames[0]
    frame = bytearray(good[: 14 + 20 + 8 + 24])
    frame[42 + 20] = 0xEE
    frame[36:38] = b"\0\0"
    frame[36:38] = checksum(bytes(frame[34:])).to_bytes(2, "big")
    replies.inject(bytes(frame))
    ran = box.end(job)
    assert ran.lines[2].endswith(" ms (DUP!)")
    assert ran.lines[3] == "wrong data byte #20 should be 0x14 but was 0xee"
    assert ran.lines[4] == "#16\t10 11 12 13 ee 15 16 17 "


def test_a_short_reply_is_truncated_and_one_from_elsewhere_is_marked() -> None:
    box = Box()
    replies = Replies(box)
    job = box.start("ping", "-c", "2", GATEWAY)
    box.live(500)
    good = replies.frames[0]
    short = bytearray(good[: 14 + 20 + 8 + 16])
    short[16:18] = (len(short) - 14).to_bytes(2, "big")
    short[24:26] = b"\0\0"
    short[24:26] = checksum(bytes(short[14:34])).to_bytes(2, "big")
    short[36:38] = b"\0\0"
    short[36:38] = checksum(bytes(short[34:])).to_bytes(2, "big")
    other = bytearray(good)
    other[29] ^= 2
    other[24:26] = b"\0\0"
    other[24:26] = checksum(bytes(other[14:34])).to_bytes(2, "big")
    replies.inject(bytes(short).ljust(60, b"\0"))
    replies.inject(bytes(other))
    ran = box.end(job)
    assert ran.lines[2] == "24 bytes from 192.168.1.1: icmp_seq=1 ttl=64 (truncated)"
    assert ran.lines[3].startswith("64 bytes from 192.168.1.3: icmp_seq=1 ttl=64 time=")
    assert ran.lines[3].endswith(" ms (DUP!) (DIFFERENT ADDRESS!)")


def test_a_flood_marks_a_bad_checksum() -> None:
    box = Box()
    replies = Replies(box)
    job = box.start("ping", "-f", "-i", "1", "-c", "2", GATEWAY)
    box.live(500)
    good = replies.frames[0]
    replies.inject(good[:-1] + bytes((good[-1] ^ 0xFF,)))
    assert ".\b \b\bC" in box.end(job).out


def test_a_redirect_is_said_and_changes_nothing() -> None:
    box = Box()
    replies = Replies(box)
    frames: list[bytes] = []
    replies_watch = box.machine.simulation.watch

    def watch(now: int, sender: str, receiver: str, message: object) -> None:
        if isinstance(message, EthFrame) and receiver == "lan" and kind(message.frame) == "request":
            frames.append(message.frame)
        if replies_watch is not None:
            replies_watch(now, sender, receiver, message)

    box.machine.simulation.watch = watch
    job = box.start("ping", "-c", "2", GATEWAY)
    box.live(500)
    body = b"\x05\x01\0\0\xc0\xa8\x01\x09" + frames[0][14:42]
    body = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    good = replies.frames[0]
    head = bytearray(good[14:34])
    head[2:4] = (20 + len(body)).to_bytes(2, "big")
    head[10:12] = b"\0\0"
    head[10:12] = checksum(bytes(head)).to_bytes(2, "big")
    replies.inject(good[:14] + bytes(head) + body)
    ran = box.end(job)
    assert ran.lines[2] == ("From 192.168.1.1: icmp_seq=1 Redirect Host(New nexthop: 192.168.1.9)")
    assert ran.lines[-2].startswith("2 packets transmitted, 2 received, 0% packet loss")


@pytest.mark.parametrize(
    ("kind_", "code", "info", "text"),
    [(3, 0, 0, "Destination Net Unreachable"), (3, 1, 0, "Destination Host Unreachable"),
     (3, 2, 0, "Destination Protocol Unreachable"), (3, 3, 0, "Destination Port Unreachable"),
     (3, 4, 1400, "Frag needed and DF set (mtu = 1400)"), (3, 5, 0, "Source Route Failed"),
     (3, 13, 0, "Packet filtered"), (3, 77, 0, "Dest Unreachable, Bad Code: 77"),
     (4, 0, 0, "Source Quench"), (11, 0, 0, "Time to live exceeded"),
     (11, 1, 0, "Frag reassembly time exceeded"),
     (12, 0, 1 << 24, "Parameter problem: pointer = 1"),
     (5, 0, 0x0A000009, "Redirect Network(New nexthop: 10.0.0.9)")],
)  # fmt: skip
def test_texts_of_icmp_errors(kind_: int, code: int, info: int, text: str) -> None:
    assert icmp_text(kind_, code, info) == text


# ---------------------------------------------------------------- formats of the captures


@pytest.mark.parametrize("folder", ["virtio-mq-smp2", "e1000e-smp2"])
@pytest.mark.parametrize(
    ("name", "argv"),
    [("ping-c5", "-c 5"), ("ping-c100-i0.01-q", "-c 100 -i 0.01 -q"),
     ("ping-c3-s1472", "-c 3 -s 1472"), ("ping-f-c2000-q", "-f -c 2000 -q")],
)  # fmt: skip
def test_the_output_has_the_form_of_the_captured_one(
    shared: Box, folder: str, name: str, argv: str
) -> None:
    def form(text: str) -> list[str]:
        text = text.replace("192.0.2.1", "HOST").replace("192.168.1.1", "HOST")
        text = re.sub(r", pipe \d+", "", text)
        return [re.sub(r"(time|time=)\d+(ms)", r"\1N\2", re.sub(r"\d+\.\d+", "N.N", line))
                for line in re.sub(r"time \d+ms", "time Nms", text).splitlines()]  # fmt: skip

    ours = shared.ping(*argv.split())
    assert form(ours.out) == form(captured(f"{folder}/{name}.txt"))


def test_loss_is_printed_with_six_digits_and_mdev_by_both_formulas() -> None:
    stats = Statistics()
    stats.transmitted, stats.received = 1029, 1028
    assert "0.0971817% packet loss, time 3ms" in stats.closing("h", 2_500, timed=False, flood=False)
    long = Statistics()
    long.transmitted = long.received = 2
    for us in (2_000_000_000, 2_000_000_000):
        long.add(us)
    assert "= 2000000.000/2000000.000/2000000.000/0.000 ms" in long.closing(
        "h", 0, timed=True, flood=False
    )
