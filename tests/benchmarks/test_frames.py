"""The benchmark of the device runs: every frame is taken, every way and size is reported."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from benchmarks.frames import MAC, PEER, echo_reply, measure


def test_every_way_and_size_is_measured() -> None:
    figures = measure(rounds=1, batches=9)  # more than once round the ring
    names = {"rx_60", "rx_1514", "tx_60", "tx_1514"}
    assert set(figures["frames_per_s"]) == set(figures["ratio"]) == names
    assert all(rate > 0 for rate in figures["frames_per_s"].values())


def test_its_frames_are_pings() -> None:
    packet = Ether(echo_reply(60, MAC, PEER))
    assert packet[ICMP].type == 0
    told = packet[IP].chksum
    del packet[IP].chksum
    assert Ether(bytes(packet))[IP].chksum == told
