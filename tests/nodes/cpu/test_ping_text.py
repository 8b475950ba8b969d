"""What ping prints: arithmetic and formats, against captures and iputils' own rules."""

from __future__ import annotations

import re

import pytest

from nodes.pingtext import Statistics, llsqrt, round_trip
from tests.nodes.cpu.captures import captured
from tests.nodes.cpu.harness import Box

REPLY = re.compile(r"^\d+ bytes from [\d.]+: icmp_seq=\d+ ttl=64 time=([\d.]+) ms$")
PINGS = ("ping-c5", "ping-20", "ping-c3-s1472")


@pytest.mark.parametrize(
    ("us", "text"),
    [(5, "0.005"), (554, "0.554"), (999, "0.999"), (1000, "1.00"), (1721, "1.72"), (3287, "3.29"),
     (9994, "9.99"), (9996, "10.0"), (96863, "96.9"), (99949, "99.9"), (99950, "100"),
     (100499, "100"), (123456, "123")],
)  # fmt: skip
def test_a_round_trip_has_as_many_decimals_as_iputils_gives_it(us: int, text: str) -> None:
    assert round_trip(us) == text


@pytest.mark.parametrize("name", PINGS)
@pytest.mark.parametrize("folder", ["virtio-mq-smp2", "e1000e-smp2"])
def test_the_captured_extremes_are_printed_twice_in_agreement(folder: str, name: str) -> None:
    """The rtt line has microseconds; the reply lines of the same packets are their rounding."""
    lines = captured(f"{folder}/{name}.txt").splitlines()
    shown = [match.group(1) for line in lines if (match := REPLY.match(line))]
    low, _, high, _ = re.findall(r"\d+\.\d{3}", lines[-1])
    assert round_trip(round(float(low) * 1000)) == min(shown, key=float)
    assert round_trip(round(float(high) * 1000)) == max(shown, key=float)


@pytest.mark.parametrize(
    ("number", "root"),
    [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (7, 2), (8, 3), (15, 4), (24, 5), (99, 10), (100, 10),
     (-7, -7)],
)  # fmt: skip
def test_the_square_root_stops_where_newtons_does(number: int, root: int) -> None:
    assert llsqrt(number) == root


@pytest.mark.conformance("N6.3")
def test_statistics_of_three_replies() -> None:
    stats = Statistics()
    for us in (1000, 2000, 4000):
        stats.transmitted += 1
        stats.received += 1
        stats.add(us)
    lines = stats.closing("h", 2_003_000, timed=True, flood=False).splitlines()
    assert lines == [
        "",
        "--- h ping statistics ---",
        "3 packets transmitted, 3 received, 0% packet loss, time 2003ms",
        "rtt min/avg/max/mdev = 1.000/2.333/4.000/1.247 ms",
    ]


def test_loss_is_printed_with_six_significant_digits() -> None:
    stats = Statistics()
    stats.transmitted, stats.received = 506, 500
    stats.add(1000)
    assert ", 1.18577% packet loss," in stats.closing("h", 0, timed=True, flood=False)


def test_counts_that_are_zero_are_left_out_and_others_stand_in_order() -> None:
    stats = Statistics()
    stats.transmitted, stats.received = 4, 1
    stats.duplicates, stats.corrupted, stats.errors, stats.pipe = 2, 3, 4, 3
    text = stats.closing("h", 0, timed=False, flood=False)
    assert text.splitlines()[2] == (
        "4 packets transmitted, 1 received, +2 duplicates, +3 corrupted, +4 errors, "
        "75% packet loss, time 0ms"
    )
    assert text.splitlines()[3] == "pipe 3"


def masked(text: str) -> list[str]:
    """The text with the numbers that depend on the machine taken out."""
    text = re.sub(r"time=[\d.]+ ms", "time=T ms", text)
    text = re.sub(r"(min/avg/max/mdev = )[\d./]+", r"\1T", text)
    text = re.sub(r"ipg/ewma [\d./]+", "ipg/ewma T", text)
    text = re.sub(r"time \d+ms", "time T", text)
    return re.sub(r"\d+\.\d+\.\d+\.\d+", "ADDRESS", text).splitlines()


@pytest.fixture(scope="module")
def box() -> Box:
    return Box()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ping-c5", ("-c", "5")),
        ("ping-20", ("-c", "20", "-i", "0.2")),
        ("ping-c100-i0.01-q", ("-c", "100", "-i", "0.01", "-q")),
        ("ping-c3-s1472", ("-c", "3", "-s", "1472")),
        ("ping-f-c2000-q", ("-f", "-c", "2000", "-q")),
    ],
)
def test_output_is_that_of_the_real_ping(box: Box, name: str, options: tuple[str, ...]) -> None:
    ran = box.ping(*options)
    assert masked(ran.out) == masked(captured(f"virtio-mq-smp2/{name}.txt"))
    assert (ran.code, ran.err) == (0, "")


def test_output_of_an_unreachable_host_within_a_short_linger() -> None:
    ran = Box().ping("-c", "3", "-W", "1", to="192.168.1.77")
    assert masked(ran.out) == masked(captured("virtio-mq-smp2/ping-unreachable-c3.txt"))
    assert ran.out.endswith("ms\n\n")
    assert ran.code == 1
