"""Socket buffers: one frame on its way through the stack, and the places where it can end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.dst import DstEntry, skb_dst_drop
from nodes.cpu.page import CPU_SCHEMA, DROP_REASONS
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import OTHER, classify

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.net.nf_conntrack import NfConn
    from nodes.cpu.kernel.percpu import Cpu

PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING = range(5)

_REASON = {name: i for i, name in enumerate(DROP_REASONS)}
_DROPS = CPU_SCHEMA.index("drops")
_KFREE = TRACEPOINTS["kfree_skb"].number
_PER_DEVICE = 3 * len(DROP_REASONS)


class SkBuff:
    """struct sk_buff. ``frame`` begins with the Ethernet header (empty until it is built)."""

    __slots__ = ("cls", "dev", "dst", "frame", "key", "nfct", "orig_dev", "pkt_type", "priority",
                 "protocol", "sk", "tstamp_ns")  # fmt: skip

    #: The packet's connection: nf_conntrack_in sets it. Without that module nobody does or asks.
    nfct: NfConn | None

    def __init__(self, frame: bytes, dev: NetDevice, cls: int, key: int) -> None:
        self.frame = frame
        self.dev = dev
        self.orig_dev = dev
        self.dst: DstEntry | None = None  # a reference that this packet holds
        self.cls = cls  # ledger class
        self.key = key  # packet key of the trace
        self.protocol = 0
        self.sk = -1  # session of the packet socket that sent it
        self.pkt_type = PACKET_OUTGOING
        self.priority = 0
        self.tstamp_ns = 0


def packet_key(frame: bytes, cls: int) -> int:
    """class << 32 | icmp id << 16 | icmp sequence of an echo frame; 0 for anything else."""
    if cls == OTHER or len(frame) < 42:
        return 0
    return cls << 32 | int.from_bytes(frame[38:42], "big")


def received_skb(frame: bytes, dev: NetDevice) -> SkBuff:
    """An skb for a frame that a driver took from its ring."""
    cls = classify(frame)
    return SkBuff(frame, dev, cls, packet_key(frame, cls))


def count_drop(cpu: Cpu, reason: str, nic: int | None, cls: int) -> None:
    """Add one to a named place of loss."""
    at = _DROPS + (0 if nic is None else nic + 1) * _PER_DEVICE + _REASON[reason] * 3 + cls
    cpu.words[at] += 1


def kfree_skb_reason(cpu: Cpu, skb: SkBuff, reason: str, dev: NetDevice | None = None) -> None:
    """The frame ends here, for this reason, at this device."""
    where = dev or skb.dev
    if skb.dst is not None:
        skb_dst_drop(cpu, skb)
    count_drop(cpu, reason, where.nic, skb.cls)
    if cpu.trace_mask >> _KFREE & 1:
        cpu.trace(_KFREE, skb.key, _REASON[reason] | where.ifindex << 16 | skb.protocol << 32)
