"""Statistics: clear on read, saturation, pairs, queue counters."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from nodes.nic.registers import STATISTICS
from nodes.nic.statistics import RX_64, RX_OCTETS
from tests.nodes.nic.offloads import (
    ALL,
    IXSM,
    TSE,
    TXSM,
    partial,
    put_context,
    put_data,
    rig_with,
)
from tests.nodes.nic.rig import MAC, PEER, Rig, frame


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


def all_counters(rig: Rig) -> dict[str, int]:
    """Every statistics register that is not 0, read once each."""
    values = {}
    for register in STATISTICS:
        for index in range(register.elements):
            value = rig.read(register.name, index)
            if value:
                values[f"{register.name}[{index}]" if index else register.name] = value
    return values


def test_every_counter_after_mixed_traffic_and_none_after_reading() -> None:
    rig, ring, buffers = rig_with()
    rig.rx_queue(0)
    rig.write("RQSMR", 0x2)
    group = bytes.fromhex("01005e000001")
    rig.write("FCTRL", 0x500)
    tcp = Ether(src=PEER, dst=MAC) / IP(dst="10.0.0.1", chksum=1) / TCP() / bytes(200)
    rig.wire(
        frame(60), frame(300), frame(1514), frame(60, b"\xff" * 6), frame(100, group),
        frame(60, PEER), frame(40), frame(1515), bytes(tcp),
        MAC + PEER + b"\x05\x00" + bytes(46),
    )  # fmt: skip
    packet = Ether(src=MAC, dst=PEER) / IP(dst="10.0.0.1") / TCP() / bytes(2500)
    put_context(rig, ring, 0, 20, 20, mss=1000)
    put_data(rig, ring, 1, buffers, partial(packet, False), IXSM | TXSM, ALL | TSE, 2500)
    put_data(rig, ring, 2, buffers + 8192, frame(60, b"\xff" * 6))
    put_data(rig, ring, 3, buffers + 16384, frame(10, group))
    rig.write("TDT", 4)
    good = [64, 304, 1518, 64, 104, len(tcp) + 4]
    sent = [1058, 1058, 558, 64, 64]
    assert all_counters(rig) == {
        "RLEC": 1, "ROC": 1, "RUC": 1, "XEC": 1,
        "PRC64": 2, "PRC127": 1, "PRC511": 2, "PRC1522": 1,
        "GPRC": 6, "RXNFGPC": 6, "BPRC": 1, "MPRC": 1, "TPR": 10,
        "GORCL": sum(good), "TORL": sum(good) + 64 + 44 + 1519 + 64,
        "RXDGPC": 6, "RXDGBCL": sum(good) - 24, "QPRC[2]": 6, "QBRC_L[2]": sum(good) - 24,
        "PTC64": 2, "PTC1023": 1, "PTC1522": 2, "GPTC": 5, "TPT": 5, "BPTC": 1, "MPTC": 1,
        "GOTCL": sum(sent), "TXDGPC": 5, "QPTC": 5, "QBTC_L": sum(sent),
    }  # fmt: skip
    assert all_counters(rig) == {}
