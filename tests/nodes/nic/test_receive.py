"""Receive: filters, rings, descriptors, packet buffer, drops by name."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from nodes.ledger import OTHER, REPLY
from nodes.nic.page import RX_DROPS
from nodes.nic.registers import KEYS
from tests.nodes.nic.rig import MAC, PEER, Rig, frame

SRRCTL_DROP = 0x12000402
SRRCTL_LEGACY = 0x10000002


def rig_with(
    entries: int = 512, srrctl: int = SRRCTL_DROP, fill: bool = True
) -> tuple[Rig, int, int]:
    rig = Rig()
    rig.up()
    ring, buffers = rig.rx_queue(0, entries, srrctl, fill)
    return rig, ring, buffers


def taken(rig: Rig, ring: int, entries: int) -> list[bool]:
    return [bool(rig.dwords(ring, i)[2] & 1) for i in range(entries)]


@pytest.mark.conformance("H9.6-1")
def test_smallest_ring_takes_one_frame_less_than_it_has_descriptors() -> None:
    rig, ring, _ = rig_with(entries=8)
    rig.wire(*[frame()] * 8)
    assert taken(rig, ring, 8) == [True] * 7 + [False]
    assert rig.read("QPRDC") == 1
    assert rig.drops(RX_DROPS) == {"rx_drop_no_descriptor": 1}
    rig.write("RDT", 0)
    rig.wire(frame(), frame())
    assert rig.dwords(ring, 7)[2] & 1
    assert rig.drops(RX_DROPS) == {"rx_drop_no_descriptor": 2}


@pytest.mark.conformance("H16.4-2")
def test_full_ring_takes_511_frames() -> None:
    rig, ring, _ = rig_with(entries=512)
    rig.wire(*[frame()] * 513)
    assert taken(rig, ring, 512) == [True] * 511 + [False]
    assert rig.page.run("rx_dma")[OTHER] == 511


@pytest.mark.conformance("H9.6-2")
def test_minimum_frame_is_written_to_the_byte() -> None:
    rig, ring, buffers = rig_with()
    rig.ram.bytes[buffers : buffers + 100] = b"\xee" * 100
    data = frame(60)
    rig.wire(data)
    dwords = rig.dwords(ring, 0)
    assert dwords[2] & 3 == 3
    assert dwords[3] == 60
    assert rig.ram.bytes[buffers : buffers + 60] == data
    assert rig.ram.bytes[buffers + 60 : buffers + 100] == b"\xee" * 40


@pytest.mark.conformance("H9.6-3")
def test_fcs_is_kept_when_stripping_is_off() -> None:
    rig, ring, buffers = rig_with()
    rig.write("HLREG0", rig.read("HLREG0") & ~2)
    data = bytes(Ether(src=PEER, dst=MAC) / IP() / UDP() / (b"z" * 40))
    rig.wire(data)
    assert rig.dwords(ring, 0)[3] == len(data) + 4
    from zlib import crc32  # noqa: PLC0415  (the oracle stands beside its use)

    fcs = bytes(rig.ram.bytes[buffers + len(data) : buffers + len(data) + 4])
    assert fcs == crc32(data).to_bytes(4, "little")


@pytest.mark.conformance("H9.6-4")
def test_jumbo_frame_spreads_over_two_buffers() -> None:
    rig, ring, buffers = rig_with()
    rig.write("HLREG0", rig.read("HLREG0") | 4)
    rig.write("MAXFRS", 3004 << 16)
    data = MAC + PEER + b"\x88\xb5" + bytes(i % 251 for i in range(2986))
    rig.wire(data)
    first, second = rig.dwords(ring, 0), rig.dwords(ring, 1)
    assert (first[3], first[2] & 3) == (2048, 1)
    assert (second[3], second[2] & 3) == (952, 3)
    got = rig.ram.bytes[buffers : buffers + 2048].tobytes()
    got += rig.ram.bytes[buffers + 2048 : buffers + 3000].tobytes()
    assert got == data
    assert rig.read("RDH") == 2


def test_jumbo_frame_needs_all_its_descriptors() -> None:
    rig, ring, _ = rig_with(entries=8)
    rig.write("HLREG0", rig.read("HLREG0") | 4)
    rig.write("MAXFRS", 9000 << 16)
    rig.wire(*[frame(60)] * 6)
    rig.wire(frame(3000))  # one descriptor is left
    assert rig.drops(RX_DROPS) == {"rx_drop_no_descriptor": 1}
    assert taken(rig, ring, 8) == [True] * 6 + [False] * 2


@pytest.mark.conformance("H9.6-5")
def test_foreign_address_is_filtered_but_seen() -> None:
    rig, ring, _ = rig_with()
    rig.wire(frame(destination=PEER))
    assert not rig.dwords(ring, 0)[2] & 1
    assert rig.read("GPRC") == 0
    assert rig.read("TPR") == 1
    assert rig.drops(RX_DROPS) == {"rx_drop_filter": 1}


@pytest.mark.conformance("H9.6-6")
def test_promiscuous_port_takes_foreign_addresses_as_exact() -> None:
    rig, ring, _ = rig_with()
    rig.write("FCTRL", 1 << 9)
    rig.wire(frame(destination=PEER))
    assert rig.dwords(ring, 0)[2] & 0x81 == 1


@pytest.mark.conformance("H9.6-7")
@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_multicast_hash_hit_is_marked_inexact(offset: int) -> None:
    rig, ring, _ = rig_with()
    address = bytes.fromhex("01005e7f12a4")
    shift = (4, 3, 2, 0)[offset]
    hashed = (address[4] | address[5] << 8) >> shift & 0xFFF
    rig.wire(frame(destination=address))
    rig.write("MTA", 1 << (hashed & 31), hashed >> 5)
    rig.wire(frame(destination=address))
    assert rig.drops(RX_DROPS) == {"rx_drop_filter": 2}  # the table needs MFE
    rig.write("MCSTCTRL", 4 | offset)
    rig.wire(frame(destination=address))
    assert rig.dwords(ring, 0)[2] & 0x81 == 0x81
    rig.wire(frame(destination=bytes.fromhex("01005e000001")))
    assert rig.drops(RX_DROPS) == {"rx_drop_filter": 3}
    assert rig.read("MPRC") == 1


def test_multicast_promiscuous_does_not_admit_broadcasts() -> None:
    rig, _, _ = rig_with()
    rig.write("FCTRL", 1 << 8)
    rig.wire(frame(destination=b"\xff" * 6), frame(destination=bytes.fromhex("01005e000001")))
    assert rig.drops(RX_DROPS) == {"rx_drop_filter": 1}
    assert rig.page.run("rx_dma")[OTHER] == 1


def test_second_station_address_is_taken_until_it_is_invalid() -> None:
    rig, _, _ = rig_with()
    other = bytes.fromhex("02aabbccdd01")
    rig.write_at(0x5410, int.from_bytes(other[:4], "little"))
    rig.write_at(0x5414, 1 << 31 | int.from_bytes(other[4:], "little"))
    rig.wire(frame(destination=other))
    assert rig.drops(RX_DROPS) == {}
    rig.write_at(0x5414, int.from_bytes(other[4:], "little"))
    rig.wire(frame(destination=other))
    assert rig.drops(RX_DROPS) == {"rx_drop_filter": 1}


@pytest.mark.conformance("H9.6-8")
@pytest.mark.conformance("H14-5")
def test_disabled_queue_drops_and_counts() -> None:
    rig, _, _ = rig_with()
    rig.write("RXDCTL", 0)
    rig.wire(frame())
    assert rig.drops(RX_DROPS) == {"rx_drop_queue_off": 1}
    assert rig.read("QPRDC") == 1
    assert rig.read("MPC") == 0


@pytest.mark.conformance("H9.6-11")
def test_value_wider_than_a_register_is_cut_to_its_low_dword() -> None:
    """As a driver does that writes a whole bus address to RDBAL and lets the bus cut it."""
    rig = Rig()
    rig.enable()
    rig.device.write32(KEYS["RDBAL"][0], 0x5_1234_5680)
    assert rig.read("RDBAL") == 0x1234_5680
    assert rig.read("RDBAH") == 0


@pytest.mark.conformance("H9.6-12")
def test_receiver_off_takes_nothing_and_keeps_the_link() -> None:
    rig, ring, _ = rig_with()
    rig.write("RXCTRL", 0)
    rig.wire(frame())
    assert not rig.dwords(ring, 0)[2] & 1
    assert rig.read("GPRC") == 0
    assert rig.read("LINKS") >> 30 & 1
    assert rig.drops(RX_DROPS) == {"rx_drop_rx_off": 1}


@pytest.mark.parametrize(("size", "ok"), [(59, False), (60, True), (1514, True), (1515, False)])
def test_length_check(size: int, ok: bool) -> None:
    rig, _, _ = rig_with()
    rig.wire(frame(size))
    assert rig.drops(RX_DROPS) == ({} if ok else {"rx_drop_length": 1})
    assert rig.read("RUC") == (size < 60)
    assert rig.read("ROC") == (size > 1514)


def test_blocked_ring_holds_everything_in_the_packet_buffer_in_order() -> None:
    rig, ring, buffers = rig_with(entries=8, srrctl=0x02000402)
    frames = [frame(fill=i) for i in range(10)]
    rig.wire(*frames)
    assert rig.page.run("rx_buffered") == [3, 0, 0]
    assert rig.drops(RX_DROPS) == {}
    for i in range(8):
        rig.ram.words64[ring // 8 + 2 * i] = buffers + i * 2048
        rig.ram.words64[ring // 8 + 2 * i + 1] = 0
    rig.write("RDT", 2)
    assert rig.page.run("rx_buffered") == [0, 0, 0]
    for index, data in ((7, frames[7]), (0, frames[8]), (1, frames[9])):
        at = buffers + index * 2048
        assert rig.ram.bytes[at : at + 60] == data


@pytest.mark.conformance("H14-5")
def test_full_packet_buffer_misses_frames() -> None:
    rig, _, _ = rig_with(entries=8, srrctl=0x02000402)
    rig.write("RXPBSIZE", 1 << 10)  # 1 KB
    rig.wire(*[frame()] * (7 + 17 + 2))
    assert rig.page.run("rx_buffered") == [17, 0, 0]
    assert rig.drops(RX_DROPS) == {"rx_drop_missed": 2}
    assert rig.read("MPC") == 2
    assert rig.read("QPRDC") == 0
    assert rig.read("EICS") & 1 << 17


def test_reset_empties_the_packet_buffer_by_name() -> None:
    rig, _, _ = rig_with(entries=8, srrctl=0x02000402)
    rig.wire(*[frame()] * 9)
    rig.write("CTRL", 1 << 26)
    assert rig.page.run("rx_buffered") == [0, 0, 0]
    assert rig.drops(RX_DROPS) == {"rx_drop_reset": 2}


def test_frame_waits_while_bus_mastering_is_off() -> None:
    rig, ring, _ = rig_with()
    rig.set_config(4, 2)
    rig.wire(frame())
    assert not rig.dwords(ring, 0)[2] & 1
    assert rig.page.run("rx_buffered") == [1, 0, 0]
    rig.set_config(4, 6)
    assert rig.dwords(ring, 0)[2] & 1
    assert rig.page.run("rx_buffered") == [0, 0, 0]


def test_buffer_outside_the_windows_is_refused() -> None:
    rig, ring, buffers = rig_with()
    rig.ram.words64[ring // 8] = rig.ram.layout.pages  # counters of the nodes
    before = bytes(rig.ram.bytes[rig.ram.layout.pages : rig.ram.layout.pages + 64])
    rig.wire(frame())
    assert bytes(rig.ram.bytes[rig.ram.layout.pages : rig.ram.layout.pages + 64]) == before
    assert rig.page["dma_refused"] == 1
    assert rig.drops(RX_DROPS) == {"rx_drop_dma": 1}
    assert not rig.dwords(ring, 0)[2] & 1
    rig.ram.words64[ring // 8] = buffers
    rig.wire(frame())
    assert rig.dwords(ring, 0)[2] & 1


def test_read_only_window_is_not_written() -> None:
    rig, ring, _ = rig_with()
    rig.ram.words64[ring // 8] = rig.map(4096, writable=False)
    rig.wire(frame())
    assert rig.drops(RX_DROPS) == {"rx_drop_dma": 1}


def test_window_taken_away_is_refused_from_the_next_frame_on() -> None:
    rig, ring, buffers = rig_with()
    rig.wire(frame())
    assert rig.dwords(ring, 0)[2] & 1
    rig.ram.iommu(0).unmap(buffers)
    rig.wire(frame())
    assert rig.drops(RX_DROPS) == {"rx_drop_dma": 1}


def test_legacy_descriptor_keeps_its_address() -> None:
    rig, ring, buffers = rig_with(srrctl=SRRCTL_LEGACY)
    data = bytes(Ether(src=PEER, dst=MAC) / IP() / ICMP(type=0) / (b"q" * 60))
    rig.wire(data)
    words = rig.ram.words64[ring // 8 : ring // 8 + 2].tolist()
    assert words[0] == buffers
    assert words[1] & 0xFFFF == len(data)
    assert words[1] >> 32 & 0xFF == 0x43  # DD, EOP, IPCS
    assert rig.page.run("rx_dma")[REPLY] == 1


@pytest.mark.conformance("H12-1")
def test_bad_ip_checksum_is_delivered_and_reported() -> None:
    rig, ring, _ = rig_with()
    good = bytes(
        Ether(src=PEER, dst=MAC) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / (b"x" * 40)
    )
    bad = bytes(
        Ether(src=PEER, dst=MAC)
        / IP(src="10.0.0.1", dst="10.0.0.2", chksum=0x1234)
        / UDP()
        / (b"x" * 40)
    )
    rig.wire(good, bad)
    assert rig.dwords(ring, 0)[2] & (1 << 31 | 1 << 6) == 1 << 6
    assert rig.dwords(ring, 1)[2] & (1 << 31 | 1 << 6) == 1 << 31 | 1 << 6
    assert rig.read("XEC") == 1


def test_packet_type_names_the_headers() -> None:
    rig, ring, _ = rig_with()
    rig.wire(
        bytes(Ether(src=PEER, dst=MAC) / IP() / UDP() / (b"x" * 40)),
        bytes(Ether(src=PEER, dst=MAC) / IP() / ICMP() / (b"x" * 40)),
        bytes(Ether(src=PEER, dst=b"\xff" * 6) / ARP()).ljust(60, b"\0"),
    )
    assert [rig.dwords(ring, i)[0] for i in range(3)] == [1 << 4 | 1 << 9, 1 << 4, 0]


@pytest.mark.conformance("H12-2")
@pytest.mark.conformance("H12-3")
def test_vlan_filter_and_stripping() -> None:
    rig, ring, buffers = rig_with()
    tagged = bytes(Ether(src=PEER, dst=MAC) / Dot1Q(vlan=5, prio=3) / IP() / UDP() / (b"x" * 40))
    rig.wire(tagged)
    rig.write("RXDCTL", 0x42000000)
    rig.wire(tagged)
    plain, stripped = rig.dwords(ring, 0), rig.dwords(ring, 1)
    assert plain[3] == len(tagged)
    assert not plain[2] & 8
    assert stripped[3] & 0xFFFF == len(tagged) - 4
    assert stripped[2] & 8
    assert stripped[3] >> 16 == 3 << 13 | 5
    got = bytes(rig.ram.bytes[buffers + 2048 : buffers + 2048 + len(tagged) - 4])
    assert Ether(got)[IP].src == Ether(tagged)[IP].src
    rig.write("VLNCTRL", 1 << 30 | 0x8100)
    rig.wire(tagged)
    assert rig.drops(RX_DROPS) == {"rx_drop_vlan": 1}
    assert rig.read("RXNFGPC") == 2  # the one that was filtered out is not there
    rig.write("VFTA", 1 << 5)
    rig.wire(tagged)
    assert rig.dwords(ring, 2)[2] & 1


@pytest.mark.conformance("H9.6-9")
def test_stores_come_in_the_order_data_descriptor_dd() -> None:
    """Seen from the memory side: at the store with DD, everything else is there already."""
    rig, ring, buffers = rig_with()
    seen: list[tuple[bytes, int]] = []
    dma = rig.device.dma
    store = dma.write_back

    def spy(address: int, first: int, second: int) -> bool:
        seen.append((bytes(rig.ram.bytes[buffers : buffers + 60]), rig.dwords(ring, 0)[2] & 1))
        return store(address, first, second)

    dma.write_back = spy  # type: ignore[method-assign]
    data = frame()
    rig.wire(data)
    assert seen == [(data, 0)]
    assert rig.dwords(ring, 0)[2] & 1


def test_frames_of_the_link_being_down_end_by_name() -> None:
    rig = Rig()
    rig.enable()
    rig.wire(frame())
    assert rig.drops(RX_DROPS) == {"rx_drop_link_down": 1}


def test_tag_does_not_count_against_the_frame_size() -> None:
    rig, ring, _ = rig_with()
    tagged = MAC + PEER + b"\x81\x00\x00\x05" + b"\x88\xb5" + bytes(1500)
    rig.wire(tagged)
    assert rig.dwords(ring, 0)[2] & 1
    assert rig.drops(RX_DROPS) == {}


def test_blocked_queue_blocks_the_others_behind_it() -> None:
    rig = Rig()
    rig.up()
    rig.rx_queue(0, 8, 0x02000402, fill=False)
    ring, _ = rig.rx_queue(1, 8)
    rig.write("MRQC", 1 | 1 << 17)
    for i in range(32):
        rig.write("RETA", 0x01010101, i)
    hashed = bytes(Ether(src=PEER, dst=MAC) / IP() / UDP() / (b"x" * 40))
    rig.wire(frame(), hashed)
    assert not rig.dwords(ring, 0)[2] & 1
    assert rig.page.run("rx_buffered") == [2, 0, 0]
    rig.write("RDT", 4)
    assert rig.dwords(ring, 0)[2] & 1
    assert rig.page.run("rx_buffered") == [0, 0, 0]


def test_legacy_jumbo_frame_keeps_every_address() -> None:
    rig, ring, buffers = rig_with(srrctl=SRRCTL_LEGACY)
    rig.write("HLREG0", rig.read("HLREG0") | 4)
    rig.write("MAXFRS", 3004 << 16)
    rig.wire(frame(3000))
    words = rig.ram.words64[ring // 8 : ring // 8 + 4].tolist()
    assert words[0::2] == [buffers, buffers + 2048]
    assert [w & 0xFFFF for w in words[1::2]] == [2048, 952]
    assert [w >> 32 & 3 for w in words[1::2]] == [1, 3]
