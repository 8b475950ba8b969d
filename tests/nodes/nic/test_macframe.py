"""What the MAC makes of lengths, length fields and control frames."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from nodes.nic.page import RX_DROPS
from tests.nodes.nic.rig import MAC, PEER, Rig, frame

RXE = 1 << 29
SBP, UPE, MPE, PMCF, DPF = 1 << 1, 1 << 9, 1 << 8, 1 << 12, 1 << 13
CONTROL = bytes.fromhex("0180c2000001")


def rig_with(fctrl: int = 0x400, entries: int = 64, srrctl: int = 0x12000402) -> tuple[Rig, int]:
    rig = Rig()
    rig.up()
    rig.write("FCTRL", fctrl)
    return rig, rig.rx_queue(0, entries, srrctl)[0]


def pause(quanta: int, destination: bytes = CONTROL) -> bytes:
    return (destination + PEER + b"\x88\x08\0\1" + quanta.to_bytes(2, "big")).ljust(60, b"\0")


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize(
    ("jumbo", "maxfrs", "limit"),
    [(False, 9732, 1518), (True, 1518, 1518), (True, 2000, 2000), (True, 9732, 9732)],
)
def test_longest_frame(jumbo: bool, maxfrs: int, limit: int, tagged: bool) -> None:
    rig, _ = rig_with()
    rig.write("HLREG0", rig.read("HLREG0") & ~4 | 4 * jumbo)
    rig.write("MAXFRS", maxfrs << 16)
    head = bytes(Ether(src=PEER, dst=MAC) / (Dot1Q(vlan=2, type=0x88B5) if tagged else b""))
    head = head[:12] + (head[12:] if tagged else b"\x88\xb5")
    longest = min(limit - 4 + 4 * tagged, 9728)
    rig.wire(head.ljust(longest, b"x"))
    assert rig.drops(RX_DROPS) == {}
    if longest < 9728:
        rig.wire(head.ljust(longest + 1, b"x"))
        assert rig.drops(RX_DROPS) == {"rx_drop_length": 1}
        assert rig.read("ROC") == 1


def test_rlpml_of_other_chips_is_stored_and_limits_nothing() -> None:
    rig, ring = rig_with()
    rig.write("RXDCTL", 0x02000000 | 1 << 15 | 100)
    assert rig.read("RXDCTL") == 0x02000000 | 1 << 15 | 100
    rig.wire(frame(1000))
    assert rig.dwords(ring, 0)[3] == 1000


@pytest.mark.parametrize("size", [0, 11, 12, 13, 20, 59])
def test_runts_are_dropped_and_counted_if_they_are_frames(size: int) -> None:
    rig, _ = rig_with()
    rig.wire(frame(60)[:size])
    assert rig.drops(RX_DROPS) == {"rx_drop_length": 1}
    assert rig.read("RUC") == (size >= 12)
    assert (rig.read("GPRC"), rig.read("TPR")) == (0, 1)


@pytest.mark.parametrize("size", [12, 20, 59, 1515, 4000])
def test_store_bad_packets_delivers_wrong_lengths_with_rxe(size: int) -> None:
    rig, ring = rig_with(SBP | UPE)
    rig.wire(frame(5000)[:size])
    last = rig.dwords(ring, -(-size // 2048) - 1)
    assert last[2] & (RXE | 3) == RXE | 3
    assert rig.drops(RX_DROPS) == {}
    assert (rig.read("GPRC"), rig.read("RUC") + rig.read("ROC")) == (0, 1)


def test_bad_packet_is_not_looked_into() -> None:
    rig, ring = rig_with(SBP | UPE)
    rig.write("MRQC", 1 | 1 << 17)
    rig.write("RXCSUM", 1 << 13)
    rig.wire(bytes(Ether(src=PEER, dst=MAC) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP()))
    assert rig.dwords(ring, 0)[:3] == [0, 0, RXE | 3]


def test_bad_packet_in_a_legacy_descriptor() -> None:
    rig, ring = rig_with(SBP | UPE, srrctl=0x10000002)
    rig.wire(frame(40))
    assert rig.dwords(ring, 0)[3] & 0xFFFF == 0x0103


@pytest.mark.parametrize(
    ("told", "size", "right"),
    [(46, 60, True), (3, 60, True), (47, 60, False), (100, 114, True), (90, 114, False),
     (1500, 1514, True), (1500, 1000, False)],
)  # fmt: skip
def test_length_field_that_lies_is_an_error(told: int, size: int, right: bool) -> None:
    rig, _ = rig_with()
    data = MAC + PEER + told.to_bytes(2, "big") + bytes(size - 14)
    rig.wire(data)
    assert rig.drops(RX_DROPS) == ({} if right else {"rx_drop_length": 1})
    assert rig.read("RLEC") == (not right)
    rig.write("HLREG0", rig.read("HLREG0") & ~(1 << 27))
    rig.wire(data)
    assert rig.read("RLEC") == 0
    assert rig.read("GPRC") == 1 + right


def test_pause_frames_are_counted_and_no_good_packets() -> None:
    rig, _ = rig_with(MPE)
    rig.wire(pause(0xFFFF), pause(100), pause(0))
    assert (rig.read("LXOFFRXCNT"), rig.read("LXONRXCNT")) == (2, 1)
    assert (rig.read("GPRC"), rig.read("TPR"), rig.read("MPRC")) == (0, 3, 0)


def test_pause_frames_pass_unless_flow_control_takes_them() -> None:
    rig, ring = rig_with(MPE | DPF)
    rig.wire(pause(1))
    assert rig.dwords(ring, 0)[2] & 1
    rig.write("MFLCN", 1 << 3)
    rig.wire(pause(1))
    assert rig.drops(RX_DROPS) == {"rx_drop_control": 1}
    rig.write("FCTRL", MPE)
    rig.wire(pause(1))
    assert rig.dwords(ring, 1)[2] & 1


def test_other_control_frames_need_pmcf() -> None:
    rig, ring = rig_with(MPE)
    other = pause(1)[:14] + b"\0\x02" + bytes(44)
    rig.wire(other)
    assert rig.drops(RX_DROPS) == {"rx_drop_control": 1}
    rig.write("FCTRL", MPE | PMCF)
    rig.wire(other)
    assert rig.dwords(ring, 0)[2] & 1
