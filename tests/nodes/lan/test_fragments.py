"""The gateway puts datagrams together and answers in pieces: scapy judges both ways."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, defragment, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from nodes.lan.fragments import DATAGRAMS_MAX, TIME_NS, Fragments, split

ETHER = Ether(dst="02:00:00:00:00:01", src="52:54:00:00:00:10")


def pieces(size: int = 4000, ident: int = 7) -> list[bytes]:
    whole = IP(src="192.168.1.10", dst="192.168.1.1", id=ident) / ICMP() / Raw(bytes(size))
    return [bytes(ETHER / p).ljust(60, b"\0") for p in fragment(whole, fragsize=1480)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 0, 1, 2)])
def test_pieces_in_any_order_make_the_datagram(order: tuple[int, ...]) -> None:
    fragments, found = Fragments(), []
    for number in order:
        found.append(fragments.take(pieces()[number], 0))
    assert found[:-1] == [(b"", 0)] * (len(order) - 1)
    whole, size = found[-1]
    packet = Ether(whole)[IP]
    assert (packet.len, packet.flags.MF, packet.frag, size) == (4028, False, 0, 1480)
    again = IP(bytes(packet))
    del again.chksum
    assert IP(bytes(again)).chksum == packet.chksum


def test_an_answer_in_pieces_is_put_together_by_scapy() -> None:
    whole = bytes(
        ETHER / IP(src="192.168.1.1", dst="192.168.1.10", id=9) / Raw(bytes(range(250)) * 9)
    )
    packets = [Ether(frame)[IP] for frame in split(whole, 1480)]
    assert [(p.len, p.frag, p.flags.MF) for p in packets] == [(1500, 0, True), (790, 185, False)]
    assert bytes(defragment(packets)[0].payload)[:2250] == bytes(range(250)) * 9


def test_what_is_late_or_too_much_is_forgotten() -> None:
    fragments = Fragments()
    first, second, third = pieces()
    fragments.take(first, 0)
    fragments.take(second, TIME_NS - 1)
    assert fragments.take(third, TIME_NS) == (b"", 0)
    for ident in range(1000, 1000 + DATAGRAMS_MAX + 5):
        fragments.take(pieces(ident=ident)[0], TIME_NS)
    assert len(fragments._waiting) == DATAGRAMS_MAX


def test_a_piece_that_would_end_behind_the_largest_datagram_ends_it() -> None:
    frame = ETHER / IP(src="1.2.3.4", dst="192.168.1.1", frag=8190) / Raw(bytes(1000))
    assert Fragments().take(bytes(frame), 0) == (b"", 0)
