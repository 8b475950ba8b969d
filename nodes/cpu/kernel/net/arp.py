"""ARP, after net/ipv4/arp.c. Runs on the boot CPU, which owns the neighbour table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.eth import BROADCAST_MAC
from nodes.cpu.kernel.net.handover import BACKLOG_RX, enqueue_to_backlog
from nodes.cpu.kernel.net.neighbour import Neighbour, neigh_update
from nodes.cpu.kernel.net.netdevice import LOOPBACK_IFINDEX, NetDevice
from nodes.cpu.kernel.net.protocols import ARP_ETHERNET_IPV4
from nodes.cpu.kernel.net.skbuff import PACKET_HOST, PACKET_OTHERHOST, SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.xmit import dev_queue_xmit
from nodes.cpu.kernel.percpu import Context
from nodes.ledger import OTHER

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

ARPOP_REQUEST, ARPOP_REPLY = 1, 2


def arp_frame(
    operation: int, source: tuple[bytes, bytes], target: tuple[bytes, bytes], to: bytes
) -> bytes:
    """An ARP packet in an Ethernet frame; ``source`` and ``target`` are (MAC, IPv4 address)."""
    return (
        to
        + source[0]
        + b"\x08\x06"
        + ARP_ETHERNET_IPV4
        + operation.to_bytes(2, "big")
        + source[0]
        + source[1]
        + target[0]
        + target[1]
    )


def arp_send(
    cpu: Cpu,
    operation: int,
    source: tuple[bytes, bytes],
    target: tuple[bytes, bytes],
    to: bytes,
    dev: NetDevice,
) -> Context:
    """Build and send one ARP packet through ``dev``."""
    skb = SkBuff(arp_frame(operation, source, target, to), dev, OTHER, 0)
    yield from dev_queue_xmit(cpu, skb, dev)


def arp_rcv(cpu: Cpu, skb: SkBuff) -> Context:
    """One ARP packet: answer what asks for us, learn from what concerns us."""
    frame = skb.frame
    if skb.pkt_type == PACKET_OTHERHOST or len(frame) < 42 or frame[14:20] != ARP_ETHERNET_IPV4:
        kfree_skb_reason(cpu, skb, "UNHANDLED_PROTO")
        return
    if not cpu.boot:
        yield from enqueue_to_backlog(cpu, 0, skb, BACKLOG_RX)
        return
    operation = frame[20] << 8 | frame[21]
    sender_mac, sender_ip = frame[22:28], frame[28:32]
    target_ip = frame[38:42]
    dev = skb.dev
    ours = cpu.net.addresses.get(target_ip, LOOPBACK_IFINDEX) != LOOPBACK_IFINDEX
    if operation == ARPOP_REQUEST and ours and sender_ip != target_ip:
        yield from neigh_update(cpu, sender_ip, sender_mac, reachable=False, create=dev)
        yield from arp_send(
            cpu, ARPOP_REPLY, (dev.dev_addr, target_ip), (sender_mac, sender_ip), sender_mac, dev
        )
        return
    reachable = operation == ARPOP_REPLY and skb.pkt_type == PACKET_HOST
    yield from neigh_update(cpu, sender_ip, sender_mac, reachable=reachable, create=None)


def arp_solicit(cpu: Cpu, neigh: Neighbour, known_mac: bytes | None) -> Context:
    """Ask who has the neighbour's address; the source is an address of the queued packet's host."""
    dev = neigh.dev
    source_ip = neigh.queue[-1].frame[26:30] if neigh.queue else b""
    if source_ip not in cpu.net.addresses:
        source_ip = next(
            (a for a, index in cpu.net.addresses.items() if index == dev.ifindex), bytes(4)
        )
    yield from arp_send(
        cpu,
        ARPOP_REQUEST,
        (dev.dev_addr, source_ip),
        (bytes(6), neigh.address),
        known_mac or BROADCAST_MAC,
        dev,
    )
