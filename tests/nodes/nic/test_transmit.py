"""Transmit: doorbells, descriptors, padding, write-back, link and laser."""

from __future__ import annotations

import zlib

import pytest

from bus.messages import LinkState, MemWrite
from nodes.nic.page import RX_DROPS, TX_DROPS
from nodes.nic.registers import KEYS
from tests.nodes.nic.rig import MS, Rig, frame

EOP, IFCS, RS, DEXT = 0x01, 0x02, 0x08, 0x20
WTHRESH_4 = 0x02000000 | 4 << 16


def rig_with(txdctl: int = 0x02000000, itr: int = 0, entries: int = 512) -> tuple[Rig, int, int]:
    rig = Rig()
    rig.up(itr=itr)
    ring = rig.tx_queue(0, entries, txdctl)
    return rig, ring, rig.map(64 * 4096)


@pytest.mark.conformance("H11.5-1")
@pytest.mark.conformance("H11.5-11")
def test_one_descriptor_sends_its_bytes_and_is_done() -> None:
    rig, ring, buffer = rig_with()
    rig.put_tx(ring, 0, buffer, frame(100))
    assert rig.frames(rig.write("TDT", 1)) == [frame(100)]
    assert rig.done(ring, 0)
    assert rig.read("TDH") == 1
    assert rig.read("GPTC") == 1
    assert rig.read("GOTCL") == 104


@pytest.mark.conformance("H11.5-2")
@pytest.mark.conformance("H11.5-11")
def test_short_frame_is_padded_on_the_wire() -> None:
    rig, ring, buffer = rig_with()
    data = frame(20)
    rig.put_tx(ring, 0, buffer, data)
    assert rig.frames(rig.write("TDT", 1)) == [data + bytes(40)]
    assert rig.read("GOTCL") == 64
    assert rig.read("PTC64") == 1


def test_without_padding_a_runt_leaves_as_it_is() -> None:
    rig, ring, buffer = rig_with()
    rig.write("HLREG0", rig.read("HLREG0") & ~0x400)
    rig.put_tx(ring, 0, buffer, frame(20))
    assert rig.frames(rig.write("TDT", 1)) == [frame(20)]


@pytest.mark.conformance("H11.5-3")
def test_packet_of_two_descriptors_is_one_frame() -> None:
    rig, ring, buffer = rig_with()
    data = frame(200)
    rig.put_tx(ring, 0, buffer, data[:50], command=IFCS | DEXT)
    rig.put_tx(ring, 1, buffer + 4096, data[50:], command=EOP | IFCS | RS | DEXT)
    assert rig.frames(rig.write("TDT", 2)) == [data]
    assert not rig.done(ring, 0)
    assert rig.done(ring, 1)


def test_packet_waits_for_the_doorbell_of_its_last_descriptor() -> None:
    rig, ring, buffer = rig_with()
    data = frame(200)
    rig.put_tx(ring, 0, buffer, data[:50], command=IFCS | DEXT)
    rig.put_tx(ring, 1, buffer + 4096, data[50:], command=EOP | IFCS | RS | DEXT)
    assert rig.frames(rig.write("TDT", 1)) == []
    assert rig.frames(rig.write("TDT", 2)) == [data]


@pytest.mark.conformance("H11.5-4")
def test_ring_wraps() -> None:
    rig, ring, buffer = rig_with()
    rig.write("TXDCTL", 0)
    rig.write("TDH", 510)
    rig.write("TDT", 510)
    rig.write("TXDCTL", 1 << 25)
    for k, index in enumerate((510, 511, 0, 1)):
        rig.put_tx(ring, index, buffer + k * 4096, frame(60, fill=k))
    assert rig.frames(rig.write("TDT", 2)) == [frame(60, fill=k) for k in range(4)]
    assert rig.read("TDH") == 2


@pytest.mark.conformance("H11.5-5")
def test_doorbell_without_news_does_nothing() -> None:
    rig, ring, buffer = rig_with()
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    assert rig.write("TDT", 1) == []
    assert rig.page.run("tx_fetched") == [1, 0, 0]


@pytest.mark.conformance("H11.5-6")
def test_head_write_back_leaves_descriptors_alone() -> None:
    rig, ring, buffer = rig_with()
    head = rig.map(4096)
    rig.write("TDWBAL", head | 1)
    rig.put_tx(ring, 0, buffer, frame())
    before = rig.dwords(ring, 0)
    rig.write("TDT", 1)
    assert rig.ram.words32[head // 4] == 1
    assert rig.dwords(ring, 0) == before


@pytest.mark.conformance("H11.5-7")
def test_write_back_threshold_waits_for_the_fourth_packet() -> None:
    rig, ring, buffer = rig_with(WTHRESH_4, itr=0xC8)
    for i in range(4):
        rig.put_tx(ring, i, buffer + i * 4096, frame(60, fill=i))
    said = rig.write("TDT", 3)
    assert len(rig.frames(said)) == 3
    assert rig.vectors(said) == []
    assert not any(rig.done(ring, i) for i in range(4))
    said = rig.write("TDT", 4)
    assert all(rig.done(ring, i) for i in range(4))
    assert rig.vectors(said) == [0]


@pytest.mark.conformance("H11.5-7")
def test_write_back_threshold_gives_way_when_the_interval_has_passed() -> None:
    rig, ring, buffer = rig_with(WTHRESH_4, itr=0xC8)
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    assert rig.vectors(rig.advance(51199)) == []
    assert not rig.done(ring, 0)
    assert rig.vectors(rig.advance(1)) == [0]
    assert rig.done(ring, 0)
    assert rig.wake is None or rig.wake > rig.clock.ns


def test_held_write_back_leaves_with_the_next_message_of_its_vector() -> None:
    rig, ring, buffer = rig_with(WTHRESH_4, itr=0xC8)
    rig.rx_queue(0)
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    assert rig.vectors(rig.wire(frame())) == [0]
    assert rig.done(ring, 0)
    assert rig.vectors(rig.advance(1 * MS)) == []


def test_threshold_without_moderation_does_not_hold_anything_back() -> None:
    rig, ring, buffer = rig_with(WTHRESH_4, itr=0)
    rig.put_tx(ring, 0, buffer, frame())
    assert rig.vectors(rig.write("TDT", 1)) == [0]
    assert rig.done(ring, 0)


def test_software_flush_writes_back_what_is_held() -> None:
    rig, ring, buffer = rig_with(WTHRESH_4, itr=0xFF8)
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    assert not rig.done(ring, 0)
    rig.write("TXDCTL", 0x04000000)
    assert rig.done(ring, 0)
    assert rig.read("TXDCTL") == 0


def test_held_write_back_waits_while_bus_mastering_is_off() -> None:
    rig, ring, buffer = rig_with(WTHRESH_4, itr=0xC8)
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    rig.set_config(0x04, 0x0002)
    rig.advance(1 * MS)
    rig.write("TXDCTL", WTHRESH_4 | 0x04000000)
    assert not rig.done(ring, 0)
    rig.set_config(0x04, 0x0006)
    rig.advance(1 * MS)
    assert rig.done(ring, 0)


def test_descriptor_without_rs_is_not_written_back() -> None:
    rig, ring, buffer = rig_with()
    rig.put_tx(ring, 0, buffer, frame(), command=EOP | IFCS | DEXT)
    said = rig.write("TDT", 1)
    assert rig.frames(said) == [frame()]
    assert rig.vectors(said) == []
    assert not rig.done(ring, 0)


@pytest.mark.conformance("H11.5-8")
def test_disabled_queue_ignores_its_doorbell() -> None:
    rig, ring, buffer = rig_with()
    rig.write("TXDCTL", 0)
    rig.put_tx(ring, 0, buffer, frame())
    assert rig.write("TDT", 1) == []
    assert rig.page.run("tx_fetched") == [0, 0, 0]
    assert rig.page["dma_reads"] == 0


def test_several_doorbells_in_one_inbox_are_one_pass() -> None:
    rig, ring, buffer = rig_with()
    for i in range(3):
        rig.put_tx(ring, i, buffer + i * 4096, frame(60, fill=i))
    tdt = KEYS["TDT"][0]
    said = rig.give(*(("cpu0", MemWrite(0, tdt, i)) for i in (1, 2, 3)))
    assert rig.frames(said) == [frame(60, fill=i) for i in range(3)]
    assert rig.vectors(said) == [0]


def test_legacy_descriptor() -> None:
    rig, ring, buffer = rig_with()
    data = frame(80)
    rig.ram.bytes[buffer : buffer + 80] = data
    rig.ram.words64[ring // 8] = buffer
    rig.ram.words64[ring // 8 + 1] = 80 | (EOP | IFCS | RS) << 24
    assert rig.frames(rig.write("TDT", 1)) == [data]
    assert rig.done(ring, 0)


def test_frame_that_brings_its_own_fcs() -> None:
    rig, ring, buffer = rig_with()
    data = frame(80)
    good = data + zlib.crc32(data).to_bytes(4, "little")
    rig.put_tx(ring, 0, buffer, good, command=EOP | RS | DEXT)
    rig.put_tx(ring, 1, buffer + 4096, data + b"abcd", command=EOP | RS | DEXT)
    assert rig.frames(rig.write("TDT", 2)) == [data]
    assert rig.drops(TX_DROPS) == {"tx_drop_fcs": 1}


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (60 | 3 << 20 | 0xAB << 24, 60 << 14, "tx_drop_offload"),  # TSE without a context
        (60 | 3 << 20 | 0x2B << 24, 60 << 14 | 1 << 8, "tx_drop_offload"),  # IXSM, the same
        (60 | 3 << 20 | 0x6B << 24, 60 << 14, "tx_drop_offload"),  # VLE, the same
        (60 | 7 << 20 | 0x2B << 24, 60 << 14, "tx_drop_descriptor"),  # unknown type
        (0 | 3 << 20 | 0x2B << 24, 0, "tx_drop_descriptor"),  # no data
    ],
)
def test_descriptor_that_cannot_be_obeyed_is_dropped_by_name(
    low: int, high: int, reason: str
) -> None:
    rig, ring, buffer = rig_with()
    rig.ram.words64[ring // 8] = buffer
    rig.ram.words64[ring // 8 + 1] = low | high << 32
    rig.put_tx(ring, 1, buffer, frame())
    assert rig.frames(rig.write("TDT", 2)) == [frame()]
    assert rig.drops(TX_DROPS) == {reason: 1}
    assert rig.done(ring, 0)


def test_context_descriptor_is_consumed_silently() -> None:
    rig, ring, buffer = rig_with()
    rig.ram.words64[ring // 8 + 1] = 2 << 20 | 0x20 << 24
    rig.put_tx(ring, 1, buffer, frame())
    assert rig.frames(rig.write("TDT", 2)) == [frame()]
    assert rig.page.run("tx_fetched") == [1, 0, 0]
    assert rig.drops(TX_DROPS) == {}


def test_buffer_outside_the_windows_is_not_read() -> None:
    rig, ring, buffer = rig_with()
    rig.put_tx(ring, 0, buffer, frame())
    rig.ram.words64[ring // 8] = rig.ram.layout.logs
    rig.put_tx(ring, 1, buffer, frame())
    assert rig.frames(rig.write("TDT", 2)) == [frame()]
    assert rig.page["dma_refused"] == 1
    assert rig.page["tx_dma_refused"] == 1


def test_ring_outside_the_windows_stops_the_queue() -> None:
    rig, _, _ = rig_with()
    rig.write("TDBAL", rig.ram.layout.logs & ~0x7F)
    assert rig.frames(rig.write("TDT", 3)) == []
    assert rig.page["dma_refused"] == 1
    assert rig.read("EICS") & 1 << 18
    assert rig.frames(rig.write("TDT", 4)) == []
    assert rig.page["dma_refused"] == 1


@pytest.mark.conformance("H7.6-3")
def test_link_down_freezes_the_ring_and_light_thaws_it() -> None:
    rig, ring, buffer = rig_with()
    rig.give(("lan", LinkState(0, 10000)))
    rig.put_tx(ring, 0, buffer, frame())
    assert rig.frames(rig.write("TDT", 1)) == []
    assert rig.read("TDH") == 0
    assert not rig.done(ring, 0)
    said = rig.give(("lan", LinkState(1, 10000)))
    said += rig.advance(50 * MS)
    assert rig.frames(said) == [frame()]
    assert rig.read("TDH") == 1


def test_laser_off_sends_into_the_void() -> None:
    rig, ring, buffer = rig_with()
    said = rig.write("ESDP", rig.read("ESDP") | 8)
    assert [m for peer, m in said if peer == "lan"] == [LinkState(0, 10000)]
    rig.put_tx(ring, 0, buffer, frame())
    assert rig.frames(rig.write("TDT", 1)) == []
    assert rig.done(ring, 0)
    assert rig.drops(TX_DROPS) == {"tx_drop_laser_off": 1}


def test_loopback_returns_the_frame_to_the_receiver() -> None:
    rig, ring, buffer = rig_with()
    rx, _ = rig.rx_queue(0)
    rig.write("HLREG0", rig.read("HLREG0") | 1 << 15)
    rig.give(("lan", LinkState(0, 10000)))
    rig.put_tx(ring, 0, buffer, frame())
    assert rig.frames(rig.write("TDT", 1)) == []
    assert rig.dwords(rx, 0)[2] & 1
    assert rig.page.run("rx_frames_in") == [1, 0, 0]


def test_what_the_wire_brings_during_loopback_is_not_heard() -> None:
    """The loopback test of ethtool takes any frame that is not its own for a broken NIC, and it is
    promiscuous: a broadcast on the LAN must not reach its ring."""
    rig, ring, buffer = rig_with()
    rx, _ = rig.rx_queue(0)
    rig.write("FCTRL", 0x700)
    hlreg0 = rig.read("HLREG0")
    rig.write("HLREG0", hlreg0 | 1 << 15)
    rig.wire(frame())
    assert not rig.dwords(rx, 0)[2] & 1
    assert rig.read("RDH") == 0
    assert rig.drops(RX_DROPS) == {"rx_drop_loopback": 1}
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    assert rig.read("RDH") == 1
    rig.write("HLREG0", hlreg0)
    rig.wire(frame())
    assert rig.read("RDH") == 2


def test_held_write_back_leaves_when_a_running_counter_ends() -> None:
    rig, ring, buffer = rig_with(WTHRESH_4, itr=0xC8)
    rig.rx_queue(0)
    assert rig.vectors(rig.wire(frame())) == [0]
    rig.write("EIMS_EX", 1)
    rig.advance(10_000)
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    assert rig.vectors(rig.advance(41_199)) == []
    assert not rig.done(ring, 0)
    assert rig.vectors(rig.advance(1)) == [0]
    assert rig.done(ring, 0)


def test_flushed_write_back_is_a_cause_of_its_own() -> None:
    """Vector 0 also serves the other causes; its message takes the held write-back along."""
    rig, ring, buffer = rig_with(WTHRESH_4, itr=0xC8)
    rig.write("IVAR_MISC", 0x8000)
    rig.write("EIAC", 0)
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    assert rig.vectors(rig.write("EICS", 1 << 20)) == [0]
    assert rig.done(ring, 0)
    assert rig.read("EICS") == 1 << 20 | 1
