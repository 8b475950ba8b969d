"""Segmentation: every segment is one that scapy would have built."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from nodes.nic import transmit
from nodes.nic.page import TX_DROPS
from nodes.nic.txoffload import SEGMENTS_MAX
from tests.nodes.nic.offloads import (
    ALL,
    DEXT,
    EOP,
    ETHER,
    IFCS,
    IXSM,
    RS,
    SCTP_L4,
    TSE,
    TXSM,
    UDP_L4,
    VLE,
    partial,
    put_context,
    put_data,
    rebuilt,
    rig_with,
)
from tests.nodes.nic.rig import Rig, frame

BODY = bytes(i % 251 for i in range(200_000))


def put_packet(rig: Rig, ring: int, buffers: int, packet: Packet, first: int, vlan: int = 0) -> int:
    """``packet`` in descriptors of at most 16 KiB from index 1 on; next index."""
    data = partial(packet, with_length=False)
    payload = len(packet[TCP].payload) if TCP in packet else len(packet[UDP].payload)
    pieces = [data[:first]] + [data[i : i + 16384] for i in range(first, len(data), 16384)]
    at = buffers
    for index, piece in enumerate(pieces):
        command = DEXT | IFCS | TSE | (VLE if vlan else 0)
        if index == len(pieces) - 1:
            command |= EOP | RS
        put_data(rig, ring, 1 + index, at, piece, IXSM | TXSM, command, payload)
        at += 16384
    return 1 + len(pieces)


def segments(packet: Packet, mss: int, vlan: int = 0) -> list[bytes]:
    rig, ring, buffers = rig_with()
    v4 = IP in packet
    l4_bytes = packet[TCP].dataofs * 4 if TCP in packet else 8
    kind = {} if TCP in packet else {"kind": UDP_L4}
    put_context(
        rig, ring, 0, 20 if v4 else 40, l4_bytes, mss=mss, ipv4=v4, vlan=vlan, **kind
    )  # fmt: skip
    end = put_packet(rig, ring, buffers, packet, 100, vlan)
    frames = rig.frames(rig.write("TDT", end))
    assert rig.drops(TX_DROPS) == {}
    assert rig.read("GPTC") == len(frames)
    assert rig.done(ring, end - 1)
    return frames


@pytest.mark.parametrize(
    ("size", "mss"), [(65_000, 1448), (65_160, 1448), (4000, 536), (9000, 8960)]
)
@pytest.mark.parametrize("over", [IP, IPv6])
def test_tcp_segments_are_those_that_scapy_builds(over: type[Packet], size: int, mss: int) -> None:
    options = [("NOP", None), ("NOP", None), ("Timestamp", (123, 456))]
    inner = IP(src="10.0.0.1", dst="10.0.0.2", id=0xFFFE) if over is IP else IPv6(dst="fe80::2")
    head = ETHER / inner / TCP(seq=0xFFFF_F000, flags="CFPA", options=options, window=77)
    packet = Ether(bytes(head / BODY[:size]))
    frames = segments(packet, mss)
    count = -(-size // mss)
    assert len(frames) == count
    for number, out in enumerate(frames):
        flags = ("C" if not number else "") + "A" + ("FP" if number == count - 1 else "")
        want = packet.copy()
        delattr(want[over], "len" if over is IP else "plen")
        del want[TCP].chksum
        if over is IP:
            want[IP].id = (0xFFFE + number) & 0xFFFF
            del want[IP].chksum
        want[TCP].seq = (0xFFFF_F000 + number * mss) & 0xFFFF_FFFF
        want[TCP].flags = flags
        want[TCP].remove_payload()
        assert out == bytes(want / BODY[number * mss : min((number + 1) * mss, size)])
        assert out == rebuilt(out)


def test_extension_headers_count_in_the_payload_length() -> None:
    rig, ring, buffers = rig_with()
    head = ETHER / IPv6(dst="fe80::2") / IPv6ExtHdrDestOpt() / TCP()
    packet = Ether(bytes(head / BODY[:900]))
    put_context(rig, ring, 0, 48, 20, mss=400, ipv4=False)
    end = put_packet(rig, ring, buffers, packet, 100)
    frames = rig.frames(rig.write("TDT", end))
    assert [Ether(f)[IPv6].plen for f in frames] == [428, 428, 128]
    assert all(f == rebuilt(f) for f in frames)


def test_packet_of_one_segment_keeps_its_flags() -> None:
    packet = Ether(bytes(ETHER / IP(dst="10.0.0.2") / TCP(flags="CFPA") / BODY[:500]))
    (out,) = segments(packet, 1448)
    assert out == rebuilt(bytes(packet))
    assert Ether(out)[TCP].flags == "CFPA"


def test_udp_segments_have_their_own_lengths() -> None:
    packet = Ether(bytes(ETHER / IP(dst="10.0.0.2", id=7) / UDP(dport=9) / BODY[:3100]))
    frames = segments(packet, 1000)
    assert [Ether(f)[UDP].len for f in frames] == [1008, 1008, 1008, 108]
    assert [Ether(f)[IP].id for f in frames] == [7, 8, 9, 10]
    assert (
        b"".join(bytes(Ether(f)[UDP].payload)[: Ether(f)[UDP].len - 8] for f in frames)
        == (BODY[:3100])
    )
    assert all(f == rebuilt(f) for f in frames)


def test_every_segment_gets_the_tag() -> None:
    packet = Ether(bytes(ETHER / IP(dst="10.0.0.2") / TCP() / BODY[:3000]))
    frames = segments(packet, 1400, vlan=6)
    assert [Ether(f)[Dot1Q].vlan for f in frames] == [6, 6, 6]
    assert all(f == rebuilt(f) for f in frames)


def test_last_segment_is_padded_to_the_minimum() -> None:
    packet = Ether(bytes(ETHER / IP(dst="10.0.0.2") / TCP() / BODY[:1001]))
    frames = segments(packet, 1000)
    assert [len(f) for f in frames] == [1054, 60]
    assert Ether(frames[1])[IP].len == 41


def test_flags_are_kept_by_the_masks_in_the_registers() -> None:
    rig, ring, buffers = rig_with()
    rig.write("DTXTCPFLGL", 0x001 | 0x002 << 16)
    rig.write("DTXTCPFLGH", 0x004)
    packet = Ether(bytes(ETHER / IP(dst="10.0.0.2") / TCP(flags="FSRPA") / BODY[:300]))
    put_context(rig, ring, 0, 20, 20, mss=100)
    put_packet(rig, ring, buffers, packet, 100)
    frames = rig.frames(rig.write("TDT", 4))
    assert [str(Ether(f)[TCP].flags) for f in frames] == ["F", "S", "R"]


@pytest.mark.parametrize(
    ("context", "payload", "size"),
    [
        ({"mss": 0}, 1000, 1054),
        ({"mss": 100, "mac": 13}, 1001, 1054),
        ({"mss": 100, "ip": 19}, 1001, 1054),
        ({"mss": 100, "l4": 19}, 1001, 1054),
        ({"mss": 100, "kind": SCTP_L4}, 1000, 1054),
        ({"mss": 100, "kind": 3}, 1000, 1054),
        ({"mss": 100}, 999, 1054),  # PAYLEN and data differ
        ({"mss": 100}, 0, 54),
        ({"mss": 1}, SEGMENTS_MAX + 1, SEGMENTS_MAX + 55),
        ({"mss": 65535}, 1000, 1054),
    ],
)
def test_senseless_segmentation_costs_the_packet_only(
    context: dict[str, int], payload: int, size: int
) -> None:
    rig, ring, buffers = rig_with()
    put_context(rig, ring, 0, **{"ip": 20, "l4": 20, **context})
    put_data(rig, ring, 1, buffers, BODY[:size], IXSM | TXSM, ALL | TSE, payload)
    put_data(rig, ring, 2, buffers + 16384, frame(90))
    assert rig.frames(rig.write("TDT", 3)) == [frame(90)]
    assert rig.drops(TX_DROPS) == {"tx_drop_offload": 1}


def test_segment_longer_than_the_wire_carries_is_dropped() -> None:
    rig, ring, buffers = rig_with()
    packet = Ether(bytes(ETHER / IP(dst="10.0.0.2") / TCP() / BODY[:12_000]))
    put_context(rig, ring, 0, 20, 20, mss=10_000)
    end = put_packet(rig, ring, buffers, packet, 100)
    assert [len(f) for f in rig.frames(rig.write("TDT", end))] == [2054]
    assert rig.drops(TX_DROPS) == {"tx_drop_oversize": 1}


def test_packet_without_an_end_is_not_kept_for_ever() -> None:
    rig, ring, buffers = rig_with()
    for i in range(8):
        put_data(rig, ring, i, buffers, BODY[:65_000], 0, DEXT | IFCS)
    rig.write("TDT", 8)
    assert rig.page["dma_read_bytes"] < 5 * 65_000
    put_data(rig, ring, 8, buffers, BODY[:100], 0, EOP | DEXT | RS)
    put_data(rig, ring, 9, buffers, frame())
    assert rig.frames(rig.write("TDT", 10)) == [frame()]
    assert rig.drops(TX_DROPS) == {"tx_drop_oversize": 1}


def test_long_pass_goes_on_in_another_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transmit, "PASS_FRAMES", 3)
    rig, ring, buffers = rig_with()
    for i in range(8):
        put_data(rig, ring, i, buffers + i * 4096, frame(60, fill=i))
    assert rig.frames(rig.write("TDT", 8)) == [frame(60, fill=i) for i in range(3)]
    assert rig.frames(rig.advance(10)) == [frame(60, fill=i) for i in range(3, 8)]
    assert rig.wake is None or rig.wake > rig.clock.ns
