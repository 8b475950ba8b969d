"""Adaptive interrupt moderation: what a driver of each era writes to EITR, and when."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.drivers.ixgbe import itr
from nodes.cpu.kernel.drivers.ixgbe.adapter import (
    ITR,
    RX_BYTES,
    RX_PACKETS,
    TX_BYTES,
    TX_PACKETS,
    Ring,
)
from nodes.cpu.kernel.drivers.ixgbe.itr import BULK_LATENCY, LOW_LATENCY, LOWEST_LATENCY
from nodes.cpu.kernel.params import ERAS
from tests.nodes.cpu.harness import Box
from tests.nodes.cpu.test_driver import posted

WAITS = itr.ADAPTIVE_LATENCY


class Vector:
    """Queue 0 of a machine with one CPU; polls as the test has them."""

    def __init__(self, era: str) -> None:
        self.box = Box(era, cpus=1, nics=1, bonded=False)
        self.box.live(100)
        self.cpu = self.box.machine.simulation.node("cpu0").cpu
        self.adapter = self.cpu.net.adapters["eth0"]
        self.ring: Ring = self.adapter.rings[0]
        itr.alloc_q_vector(self.cpu, self.adapter, self.ring)

    @property
    def itr(self) -> int:
        value: int = self.cpu.ram.words64[self.ring.state + ITR]
        return value

    def poll(self, packets: int, octets: int, sent: int = 0, sent_octets: int = 0) -> int:
        """A poll took these; what the vector's itr is then."""
        words, state = self.cpu.ram.words64, self.ring.state
        words[state + RX_PACKETS] += packets
        words[state + RX_BYTES] += octets
        words[state + TX_PACKETS] += sent
        words[state + TX_BYTES] += sent_octets
        itr.ADAPTIVE[self.cpu.params.adaptive_itr].set_itr(self.cpu, self.adapter, self.ring)
        return self.itr


def eitr_writes(box: Box, *ping: str) -> list[int]:
    """What goes into EITR while it pings, without CNT_WDIS."""
    writes = posted(box, "eth0")
    assert box.ping(*ping).code == 0
    return [w.value & 0x7FFF_FFFF for w in writes if w.offset == 0x820]


@pytest.mark.conformance("N4.4b")
def test_a_quiet_vector_of_3_10_comes_down_a_tenth_of_the_way_at_a_time() -> None:
    vector = Vector("3.10")
    assert vector.itr == 200
    steps = [vector.poll(1, 98) for _ in range(4)]
    assert steps == [142, 113, 95, 83]
    for _ in range(40):
        vector.poll(1, 98)
    assert vector.itr == 40
    writes = posted(vector.box, "eth0")
    vector.poll(1, 98)
    assert [w for w in writes if w.offset == 0x820] == []


@pytest.mark.parametrize("era", ["2.6.18", "3.10"])
@pytest.mark.parametrize(
    ("container", "bytes_per_us", "then"),
    [
        (LOWEST_LATENCY, 10, LOWEST_LATENCY),
        (LOWEST_LATENCY, 11, LOW_LATENCY),
        (LOWEST_LATENCY, 1250, LOW_LATENCY),
        (LOW_LATENCY, 10, LOWEST_LATENCY),
        (LOW_LATENCY, 20, LOW_LATENCY),
        (LOW_LATENCY, 21, BULK_LATENCY),
        (BULK_LATENCY, 21, BULK_LATENCY),
        (BULK_LATENCY, 20, LOW_LATENCY),
        (BULK_LATENCY, 0, LOW_LATENCY),
    ],
)
def test_bytes_per_microsecond_change_the_class_by_one_at_most(
    era: str, container: int, bytes_per_us: int, then: int
) -> None:
    assert itr.update_class(container, 1, bytes_per_us * 50, 50) == then
    assert itr.update_class(container, 0, 0, 50) == container


def test_a_busy_vector_of_3_10_goes_to_8000_interrupts_a_second_the_busier_way_decides() -> None:
    vector = Vector("3.10")
    for _ in range(60):
        vector.poll(1, 60, 100, 150_000)  # acknowledgements for what is sent
    assert vector.itr in range(490, 501)


def test_a_rate_never_quite_arrives_in_2_6_18() -> None:
    vector = Vector("2.6.18")
    assert vector.itr == 20_000
    assert [vector.poll(1, 98) for _ in range(3)] == [28_000, 35_200, 41_680]
    for _ in range(200):
        vector.poll(1, 98)
    assert vector.itr == 99_991
    assert vector.poll(1, 98) == 99_991


@pytest.mark.parametrize(
    ("container", "packets", "octets", "usecs"),
    [
        (0, 0, 0, 52),
        (WAITS, 0, 0, 52 | WAITS),
        (0, 1, 60, 10 | WAITS),
        (0, 1, 98, 14 | WAITS),
        (0, 3, 3 * 1514, 60 | WAITS),
        (0, 3, 9000, 52),  # few, but large
        (WAITS, 4, 240, 52),
        (WAITS, 47, 47 * 60, 52),
        (WAITS, 48, 48 * 60, 50),
        (WAITS, 95, 95 * 60, 50),
        (WAITS, 96, 96 * 60, 25),
        (WAITS, 255, 255 * 60, 25),
        (WAITS, 256, 256 * 60, 20),
        (WAITS, 256, 256 * 316, 60),
        (WAITS, 256, 256 * 1084, 110),
        (WAITS, 256, 256 * 1514, 118),
        (WAITS, 256, 256 * 9000, 126),
    ],
)
def test_since_4_15_packets_and_their_size_make_the_interval(
    container: int, packets: int, octets: int, usecs: int
) -> None:
    assert itr.update_usecs(50, container, packets, octets) == usecs


def test_the_interval_keeps_to_its_limits() -> None:
    assert itr.update_usecs(126, 0, 47, 4700) == 126
    assert itr.update_usecs(14, 0, 255, 25_500) == itr.ADAPTIVE_MIN_USECS


def test_in_6_1_the_direction_that_does_not_wait_for_answers_decides() -> None:
    vector = Vector("6.1")
    assert vector.itr == 200
    assert vector.poll(1, 98, 1, 98) == 14 << 2  # both wait
    assert vector.poll(1, 98, 10, 15_140) == 16 << 2  # what is sent gets two more microseconds
    vector.box.live(12)  # three jiffies
    assert vector.poll(40, 4000) == 10 << 2  # what was in them tells nothing


@pytest.mark.parametrize(
    ("era", "start", "first"),
    [
        ("2.6.18", 0xC3, [0x8B, 0x6E, 0x5D]),
        ("3.10", 0xC8, [0x88, 0x70, 0x58]),
        ("6.1", 0xC8, [0x28]),
    ],
)
def test_pings_bring_eitr_down_and_a_fixed_interval_ends_that(
    era: str, start: int, first: list[int]
) -> None:
    box = Box(era, cpus=1, nics=1, bonded=False)
    assert eitr_writes(box, "-c", "4", "-i", "0.1") != []
    assert box.run("ethtool", "-C", "eth0", "rx-usecs", "50").code == 0
    assert eitr_writes(box, "-c", "3", "-i", "0.1") == []
    writes = posted(box, "eth0")
    assert box.run("ethtool", "-C", "eth0", "rx-usecs", "1").code == 0
    assert [w.value & 0x7FFF_FFFF for w in writes if w.offset == 0x820] == [start]
    box.live(100)
    assert eitr_writes(box, "-c", "4", "-i", "0.1")[: len(first)] == first


@pytest.mark.parametrize("era", ERAS)
def test_a_port_that_was_down_goes_on_where_it_was_but_in_2_6_18_starts_anew(era: str) -> None:
    box = Box(era, cpus=1, nics=1, bonded=False)
    box.ping("-c", "3", "-i", "0.1")
    writes = posted(box, "eth0")
    assert box.run("ip", "link", "set", "eth0", "down").code == 0
    assert box.run("ip", "link", "set", "eth0", "up").code == 0
    value = next(w.value & 0x7FFF_FFFF for w in writes if w.offset == 0x820)
    assert (value in (0xC3, 0xC8)) is (era == "2.6.18")
