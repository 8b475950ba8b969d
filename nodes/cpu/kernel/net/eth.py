"""The Ethernet header of a frame that a device received, after net/ethernet/eth.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.skbuff import (
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    SkBuff,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice

ETH_HLEN = 14
BROADCAST_MAC = b"\xff" * 6


def eth_type_trans(skb: SkBuff, dev: NetDevice) -> None:
    """Protocol and packet type, decided against the receiving device's own address."""
    frame = skb.frame
    skb.protocol = frame[12] << 8 | frame[13]
    if frame[0] & 1:
        skb.pkt_type = PACKET_BROADCAST if frame[:6] == BROADCAST_MAC else PACKET_MULTICAST
    else:
        skb.pkt_type = PACKET_HOST if frame[:6] == dev.dev_addr else PACKET_OTHERHOST
