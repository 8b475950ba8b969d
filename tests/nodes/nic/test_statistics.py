"""Statistics: clear on read, saturation, pairs, queue counters."""

from __future__ import annotations

import pytest

from nodes.nic.statistics import RX_64, RX_OCTETS
from tests.nodes.nic.rig import Rig, frame


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.up()
    rig.rx_queue(0)
    return rig


@pytest.mark.conformance("H14-1")
def test_reading_clears(rig: Rig) -> None:
    rig.wire(frame(), frame())
    assert rig.read("GPRC") == 2
    assert rig.read("GPRC") == 0
    assert rig.read("TPR") == 2


@pytest.mark.conformance("H14-2")
def test_counter_sticks_at_its_end(rig: Rig) -> None:
    rig.device.statistics.totals[RX_64] += 0xFFFFFFFE
    rig.wire(*[frame()] * 5)
    assert rig.read("GPRC") == 0xFFFFFFFF
    assert rig.read("GPRC") == 0


@pytest.mark.conformance("H14-3")
def test_three_minimum_frames(rig: Rig) -> None:
    rig.wire(*[frame()] * 3)
    names = ("GPRC", "PRC64", "GORCL", "GORCH", "PRC127")
    assert [rig.read(name) for name in names] == [3, 3, 192, 0, 0]


@pytest.mark.conformance("H14-4")
def test_pair_keeps_its_high_part_until_it_is_read(rig: Rig) -> None:
    rig.device.statistics.totals[RX_OCTETS] += 5 << 32 | 100
    assert rig.read("GORCH") == 5
    assert rig.read("GORCL") == 100
    assert rig.read("GORCL") == 0
    rig.device.statistics.totals[RX_OCTETS] += 3 << 32 | 7
    assert rig.read("GORCL") == 7
    assert rig.read("GORCL") == 0
    assert rig.read("GORCH") == 3


@pytest.mark.conformance("H6.4-6")
def test_reset_zeroes_everything(rig: Rig) -> None:
    rig.wire(*[frame()] * 3)
    rig.write("CTRL", 1 << 26)
    assert [rig.read(n) for n in ("GPRC", "GORCL", "TPR", "QPRC")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("size", "name"),
    [(60, "PRC64"), (61, "PRC127"), (123, "PRC127"), (124, "PRC255"), (508, "PRC1023"),
     (1019, "PRC1023"), (1020, "PRC1522"), (1514, "PRC1522")],
)  # fmt: skip
def test_size_classes_count_the_fcs(rig: Rig, size: int, name: str) -> None:
    rig.wire(frame(size))
    sizes = ("64", "127", "255", "511", "1023", "1522")
    assert {s: rig.read(f"PRC{s}") for s in sizes} == {s: int(f"PRC{s}" == name) for s in sizes}


def test_queues_count_where_the_maps_say(rig: Rig) -> None:
    rig.write("RQSMR", 0x3)
    rig.write("TQSM", 0x5)
    ring = rig.tx_queue()
    rig.put_tx(ring, 0, rig.map(2048), frame(100))
    rig.write("TDT", 1)
    rig.wire(frame(100))
    assert (rig.read("QPRC", 3), rig.read("QBRC_L", 3), rig.read("QPRC", 0)) == (1, 100, 0)
    assert (rig.read("QPTC", 5), rig.read("QPTC", 0)) == (1, 0)
    assert rig.read_at(0x6030 + 5 * 0x40) == 0  # the alias was cleared with it


def test_broadcast_and_multicast_both_ways(rig: Rig) -> None:
    rig.write("FCTRL", 0x500)
    group = bytes.fromhex("01005e000001")
    rig.wire(frame(destination=b"\xff" * 6), frame(destination=group), frame(destination=group))
    assert (rig.read("BPRC"), rig.read("MPRC")) == (1, 2)
    ring = rig.tx_queue()
    for i, destination in enumerate((b"\xff" * 6, group)):
        rig.put_tx(ring, i, rig.map(2048), frame(destination=destination))
    rig.write("TDT", 2)
    assert (rig.read("BPTC"), rig.read("MPTC")) == (1, 1)


def test_dma_counters_see_what_crossed_to_and_from_memory(rig: Rig) -> None:
    ring = rig.tx_queue()
    rig.put_tx(ring, 0, rig.map(2048), frame(100))
    rig.write("TDT", 1)
    rig.wire(frame(100), frame(100))
    names = ("TXDGPC", "RXDGPC", "RXDGBCL", "RXDGBCH")
    assert [rig.read(name) for name in names] == [1, 2, 200, 0]
