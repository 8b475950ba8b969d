"""A driver's whole way once: probe, open, a frame out, a frame in, an interrupt for each."""

from __future__ import annotations

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from tests.nodes.nic.rig import MAC, PEER, Rig


def test_frame_goes_out_and_comes_in_with_an_interrupt_each() -> None:
    rig = Rig()
    assert rig.config(0) == 0x10FB8086
    rig.up()
    tx = rig.tx_queue()
    rx, buffers = rig.rx_queue()
    request = bytes(
        Ether(src=MAC, dst=PEER) / IP(src="192.168.1.10", dst="192.168.1.1") / ICMP(id=7, seq=1)
    )
    rig.put_tx(tx, 0, rig.map(2048), request)
    said = rig.write("TDT", 1)
    assert rig.frames(said) == [request.ljust(60, b"\0")]
    assert rig.done(tx, 0)
    assert rig.vectors(said) == [0]
    rig.write("EIMS_EX", 1)
    reply = bytes(Ether(src=PEER, dst=MAC) / IP() / ICMP(type=0, id=7, seq=1)).ljust(60, b"\0")
    said = rig.wire(reply)
    assert rig.vectors(said) == [0]
    dwords = rig.dwords(rx, 0)
    assert dwords[2] & 3 == 3
    assert dwords[3] == 60
    assert rig.ram.bytes[buffers : buffers + 60] == reply
    assert rig.page.run("tx_frames_out") == [0, 1, 0]
    assert rig.page.run("rx_dma") == [0, 0, 1]
