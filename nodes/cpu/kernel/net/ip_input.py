"""IPv4 input and local delivery, after net/ipv4/ip_input.c.

Options, fragments and forwarding come with the network issue; such packets are dropped by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.checksum import checksum
from nodes.cpu.kernel.net.icmp import icmp_rcv, raw_local_deliver
from nodes.cpu.kernel.net.ip_output import IPPROTO_ICMP
from nodes.cpu.kernel.net.netfilter import LOCAL_IN, PRE_ROUTING, nf_hook, nf_hook_slow
from nodes.cpu.kernel.net.skbuff import PACKET_OTHERHOST, SkBuff, kfree_skb_reason
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_RCV = TRACEPOINTS["ip_rcv"].number


def ip_rcv(cpu: Cpu, skb: SkBuff) -> Context:
    """Validate an IPv4 packet and deliver it if it is for us."""
    frame = skb.frame
    cpu.trace(_RCV, skb.key, skb.dev.ifindex)
    if skb.pkt_type == PACKET_OTHERHOST:
        kfree_skb_reason(cpu, skb, "OTHERHOST")
        return
    if len(frame) < 34:
        kfree_skb_reason(cpu, skb, "PKT_TOO_SMALL")
        return
    total = frame[16] << 8 | frame[17]
    if frame[14] != 0x45 or total < 20 or total > len(frame) - 14:
        kfree_skb_reason(cpu, skb, "IP_INHDR")
        return
    if checksum(frame[14:34]):
        kfree_skb_reason(cpu, skb, "IP_CSUM")
        return
    if not nf_hook(cpu, PRE_ROUTING, skb):
        passed = yield from nf_hook_slow(cpu, PRE_ROUTING, skb)
        if not passed:
            return
    if frame[30:34] not in cpu.net.addresses:
        kfree_skb_reason(cpu, skb, "IP_NOROUTE")
        return
    if not nf_hook(cpu, LOCAL_IN, skb):
        passed = yield from nf_hook_slow(cpu, LOCAL_IN, skb)
        if not passed:
            return
    if frame[20] & 0x3F or frame[21] or frame[23] != IPPROTO_ICMP:
        kfree_skb_reason(cpu, skb, "UNHANDLED_PROTO")
        return
    if len(frame) > 14 + total:
        skb.frame = frame[: 14 + total]  # the sender's NIC padded it
    yield
    taken = yield from raw_local_deliver(cpu, skb)
    yield from icmp_rcv(cpu, skb, taken)
