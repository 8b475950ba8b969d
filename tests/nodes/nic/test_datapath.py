"""Whole ways through the device: every length in both directions, loopback, queues that change."""

from __future__ import annotations

import random
import zlib

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from bus.messages import FRAME_BYTES_MAX, EthFrame, LinkState, MemWrite
from nodes.nic.registers import KEYS
from tests.nodes.nic.offloads import IXSM, TXSM, partial, put_context, put_data, rig_with
from tests.nodes.nic.rig import MAC, MS, PEER, Rig, balanced, frame

LENGTHS = [60, 61, 64, 1023, 1024, 1025, 1514, 1518, 2047, 2048, 2049, 4096, 6145, 9000,
           FRAME_BYTES_MAX]  # fmt: skip


def jumbo(rig: Rig) -> None:
    rig.write("HLREG0", rig.read("HLREG0") | 4)
    rig.write("MAXFRS", (FRAME_BYTES_MAX + 4) << 16)


def content(size: int) -> bytes:
    data = bytes((i * 7 + size) & 0xFF for i in range(size))
    return MAC + PEER + b"\x88\xb5" + data[14:]


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("buffer_kb", [1, 2, 3, 10])
def test_received_frame_of_any_length_is_whole(size: int, buffer_kb: int) -> None:
    rig = Rig()
    rig.up()
    jumbo(rig)
    ring, buffers = rig.rx_queue(0, 64, 0x12000000 | buffer_kb, fill=False)
    for i in range(64):
        rig.ram.words64[ring // 8 + 2 * i] = buffers + i * 10240 % 122_880
    rig.write("RDT", 63)
    rig.wire(content(size))
    got, index, done = b"", 0, False
    while not done:
        at = rig.dwords(ring, index)
        assert at[2] & 1
        done = bool(at[2] & 2)
        length = at[3] & 0xFFFF
        assert length == buffer_kb * 1024 or done
        begin = buffers + index * 10240 % 122_880
        got += bytes(rig.ram.bytes[begin : begin + length])
        index += 1
    assert got == content(size)
    assert index == -(-size // (buffer_kb * 1024))
    assert rig.read("RDH") == index


@pytest.mark.parametrize("size", LENGTHS)
@pytest.mark.parametrize("pieces", [1, 2, 3, 17])
def test_sent_frame_of_any_length_is_whole(size: int, pieces: int) -> None:
    rig, ring, buffers = rig_with()
    data = content(size)
    step = -(-size // pieces)
    parts = [data[i : i + step] for i in range(0, size, step)]
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        put_data(rig, ring, i, buffers + i * 16384, part, command=0x2B if last else 0x22)
    assert rig.frames(rig.write("TDT", len(parts))) == [data]
    assert rig.read("GOTCL") == size + 4


def test_frame_longer_than_the_wire_carries_is_not_sent() -> None:
    rig, ring, buffers = rig_with()
    put_data(rig, ring, 0, buffers, bytes(FRAME_BYTES_MAX + 1))
    assert rig.frames(rig.write("TDT", 1)) == []
    assert sum(rig.page.run("tx_drop_oversize")) == 1
    balanced(rig)


def test_packet_that_no_ring_could_take_does_not_block_it() -> None:
    rig = Rig()
    rig.up()
    jumbo(rig)
    ring, _ = rig.rx_queue(0, 8, 0x02000001)
    rig.wire(frame(8000), frame(60))
    assert sum(rig.page.run("rx_drop_no_descriptor")) == 1
    assert rig.dwords(ring, 0)[3] & 0xFFFF == 60


def test_buffer_size_zero_means_two_kilobytes() -> None:
    rig = Rig()
    rig.up()
    ring, _ = rig.rx_queue(0, 64, 0x12000400)
    rig.wire(frame(1514))
    assert rig.dwords(ring, 0)[2:] == [3, 1514]


def test_fcs_is_kept_behind_a_frame_of_several_buffers() -> None:
    rig = Rig()
    rig.up()
    jumbo(rig)
    rig.write("HLREG0", rig.read("HLREG0") & ~2)
    ring, buffers = rig.rx_queue(0, 64)
    data = content(2046)
    rig.wire(data)
    assert [rig.dwords(ring, i)[3] for i in range(2)] == [2048, 2]
    got = bytes(rig.ram.bytes[buffers : buffers + 2050])
    assert got == data + zlib.crc32(data).to_bytes(4, "little")


@pytest.mark.parametrize("size", [60, 1024, 1514, 9000])
def test_loopback_gives_back_what_was_sent(size: int) -> None:
    """As the loopback test of ethtool -t does it: without light, promiscuous, 64 frames."""
    rig, ring, buffers = rig_with()
    rx, rx_buffers = rig.rx_queue(0)
    jumbo(rig)
    rig.write("SRRCTL", 0x0200000A)
    rig.give(("lan", LinkState(0, 10000)))
    rig.write("FCTRL", 0x700)
    rig.write("HLREG0", rig.read("HLREG0") | 1 << 15)
    rig.advance(1 * MS)
    rounds = 18 if size < 2000 else 3
    for _ in range(rounds):
        start = rig.read("TDH")
        for i in range(64):
            put_data(rig, ring, (start + i) % 512, buffers, content(size))
        head = rig.read("RDH")
        for i in range(64):
            at = rx // 8 + 2 * ((head + i) % 512)
            rig.ram.words64[at] = rx_buffers + i * 10240
            rig.ram.words64[at + 1] = 0
        said = rig.write("TDT", (start + 64) % 512)
        assert rig.frames(said) == []
        assert rig.read("RDH") == (head + 64) % 512
        rig.write("RDT", (head + 63) % 512)
    first = bytes(rig.ram.bytes[rx_buffers : rx_buffers + size])
    assert first == content(size)
    assert rig.read("GPRC") == rig.read("GPTC") == rounds * 64
    balanced(rig)


def test_checksums_inserted_on_one_way_are_right_on_the_other() -> None:
    rig, ring, buffers = rig_with()
    rx, _ = rig.rx_queue(0)
    rig.write("HLREG0", rig.read("HLREG0") | 1 << 15)
    rig.write("FCTRL", 0x200)
    ether = Ether(src=MAC, dst=PEER)
    for i, l4 in enumerate((UDP(), TCP())):
        packet = ether / IP(dst="10.0.0.9") / l4 / (b"x" * 99)
        put_context(rig, ring, 2 * i, 20, 0, kind=i)
        put_data(rig, ring, 2 * i + 1, buffers + i * 4096, partial(packet), IXSM | TXSM)
    rig.write("TDT", 4)
    verdicts = [rig.dwords(rx, i)[2] & 0xC0000070 for i in range(2)]
    assert verdicts == [0x70, 0x60]
    assert rig.read("XEC") == 0


def test_disabled_transmit_queue_writes_back_what_it_holds_and_forgets_it() -> None:
    rig = Rig()
    rig.up(itr=0xFF8)
    ring = rig.tx_queue(0, 512, 0x02000000 | 4 << 16)
    buffer = rig.map(4096)
    rig.put_tx(ring, 0, buffer, frame())
    rig.write("TDT", 1)
    assert not rig.done(ring, 0)
    rig.write("TXDCTL", 4 << 16)
    assert rig.done(ring, 0)
    rig.ram.words32[ring // 4 + 3] = 0
    rig.write("TXDCTL", 0x02000000 | 4 << 16)
    rig.advance(20 * MS)
    assert not rig.done(ring, 0)


def test_write_back_that_was_held_without_bus_mastering_ends_with_its_queue() -> None:
    rig = Rig()
    rig.up(itr=0xC8)
    ring = rig.tx_queue(0, 512, 0x02000000 | 4 << 16)
    rig.put_tx(ring, 0, rig.map(4096), frame())
    rig.write("TDT", 1)
    rig.set_config(4, 2)
    rig.write("TXDCTL", 4 << 16)
    rig.write("TXDCTL", 0x02000000 | 4 << 16)
    rig.set_config(4, 6)
    rig.advance(20 * MS)
    assert not rig.done(ring, 0)


def test_held_write_back_meets_the_windows_of_its_own_time() -> None:
    rig = Rig()
    rig.up(itr=0xFF8)
    ring = rig.tx_queue(0, 512, 0x02000000 | 4 << 16)
    rig.put_tx(ring, 0, rig.map(4096), frame())
    rig.write("TDT", 1)
    rig.ram.iommu(0).unmap(ring)
    rig.advance(20 * MS)
    assert not rig.done(ring, 0)
    assert rig.page["dma_refused"] == 1


def test_receive_queue_that_was_off_goes_on_where_it_was_told() -> None:
    rig = Rig()
    rig.up()
    ring, buffers = rig.rx_queue(0, 64, 0x12000402)
    rig.wire(frame(), frame())
    rig.write("RXDCTL", 0)
    assert not rig.read("RXDCTL") & 1 << 25
    rig.write("RDH", 0)
    rig.ram.words64[ring // 8] = buffers
    rig.ram.words64[ring // 8 + 1] = 0
    rig.write("RXDCTL", 1 << 26 | 1 << 25)
    assert rig.read("RXDCTL") == 1 << 25
    rig.wire(frame(fill=9))
    assert rig.dwords(ring, 0)[2] & 1
    assert rig.ram.bytes[buffers + 20] == 9


@pytest.mark.parametrize("seed", range(4))
def test_nonsense_descriptors_cost_packets_and_never_the_device(seed: int) -> None:
    """Random descriptors over a window of random bytes; then the queue works as before."""
    dice = random.Random(seed)
    rig, ring, buffers = rig_with(64)
    jumbo(rig)
    rig.rx_queue(0, 64, 0x14000000 | dice.randrange(1 << 14))
    rig.write("HLREG0", rig.read("HLREG0") | 1 << 15)
    rig.write("FCTRL", 0x702)
    rig.write("PSRTYPE", 0x1330)
    rig.ram.bytes[buffers : buffers + 65536] = dice.randbytes(65536)
    tail = 0
    for _ in range(150):
        count = dice.randrange(1, 20)
        for i in range(count):
            at = ring // 8 + 2 * ((tail + i) % 64)
            kind = dice.choice((2, 3, 3, 3, dice.randrange(16)))
            command = dice.choice((0x2B, 0x22, 0xAB, 0x6B, 0xEB, 0x0B, dice.randrange(256)))
            size = dice.choice((dice.randrange(2000), dice.randrange(65536), 0))
            address = dice.choice((buffers + dice.randrange(4096), dice.getrandbits(64)))
            low = size | dice.randrange(16) << 16 | kind << 20 | command << 24
            high = dice.choice((dice.getrandbits(32), dice.randrange(4) << 8, size << 14))
            if kind == 2 and dice.random() < 0.7:
                address = 20 | 14 << 9
                high = 20 << 8 | dice.randrange(100, 9000) << 16
            rig.ram.words64[at] = address
            rig.ram.words64[at + 1] = low | high << 32
        tail = (tail + count) % 64
        rig.give(
            ("cpu0", MemWrite(0, KEYS["TDT"][0], tail)),
            ("cpu0", MemWrite(0, KEYS["RDT"][0], (rig.read("RDH") - 1) % 64)),
            ("lan", EthFrame(dice.randbytes(dice.randrange(0, 9728)))),
        )  # fmt: skip
        rig.advance(1000)
        balanced(rig)
    assert rig.read("TDH") == tail
    rig.write("HLREG0", rig.read("HLREG0") & ~(1 << 15))
    rig.write("TXDCTL", 0)
    rig.write("TXDCTL", 1 << 25)
    put_data(rig, ring, tail, buffers, frame(77))
    assert rig.frames(rig.write("TDT", (tail + 1) % 64)) == [frame(77)]
