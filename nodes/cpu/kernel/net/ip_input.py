"""IPv4 input and local delivery, after net/ipv4/ip_input.c.

What came through lo has its dst entry still and needs no route; anything else is for us if its
address is ours. Left out: options, forwarding, broadcast and multicast; such packets are dropped by
name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.checksum import checksum
from nodes.cpu.kernel.net.dst import skb_dst_drop
from nodes.cpu.kernel.net.handover import BACKLOG_DEFRAG, enqueue_to_backlog
from nodes.cpu.kernel.net.icmp import (
    ICMP_PROT_UNREACH,
    icmp_rcv,
    icmp_send,
    raw_local_deliver,
)
from nodes.cpu.kernel.net.ip_fragment import ip_defrag
from nodes.cpu.kernel.net.netdevice import LOOPBACK_IFINDEX
from nodes.cpu.kernel.net.netfilter import LOCAL_IN, PRE_ROUTING, nf_hook, nf_hook_slow
from nodes.cpu.kernel.net.protocols import ICMP_DEST_UNREACH, IPPROTO_ICMP, IPPROTO_UDP
from nodes.cpu.kernel.net.route import Rtable
from nodes.cpu.kernel.net.skbuff import PACKET_OTHERHOST, SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.snmp import PLACE, snmp_inc
from nodes.cpu.kernel.net.udp import udp_rcv
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_RCV = TRACEPOINTS["ip_rcv"].number
_IN_RECEIVES, _IN_DELIVERS = PLACE["Ip InReceives"], PLACE["Ip InDelivers"]


def ip_rcv(cpu: Cpu, skb: SkBuff) -> Context:
    """Validate an IPv4 packet and deliver it if it is for us."""
    frame = skb.frame
    if cpu.trace_mask >> _RCV & 1:
        cpu.trace(_RCV, skb.key, skb.dev.ifindex)
    if skb.pkt_type == PACKET_OTHERHOST:
        kfree_skb_reason(cpu, skb, "OTHERHOST")
        return
    cpu.words[_IN_RECEIVES] += 1
    if len(frame) < 34:
        snmp_inc(cpu, "Ip InHdrErrors")
        kfree_skb_reason(cpu, skb, "PKT_TOO_SMALL")
        return
    total = frame[16] << 8 | frame[17]
    if frame[14] != 0x45 or total < 20 or total > len(frame) - 14:
        snmp_inc(cpu, "Ip InHdrErrors")
        kfree_skb_reason(cpu, skb, "IP_INHDR")
        return
    if checksum(frame[14:34]):
        snmp_inc(cpu, "Ip InHdrErrors")
        kfree_skb_reason(cpu, skb, "IP_CSUM")
        return
    if len(frame) > 14 + total:
        skb.frame = frame[: 14 + total]  # the sender's NIC padded it
    if not nf_hook(cpu, PRE_ROUTING, skb):
        passed = yield from nf_hook_slow(cpu, PRE_ROUTING, skb)
        if not passed:
            return
    owner = cpu.net.addresses.get(frame[30:34], LOOPBACK_IFINDEX)
    if (owner == LOOPBACK_IFINDEX or skb.dst is not None) and not _ip_route_loopback(cpu, skb):
        return
    if frame[20] & 0x3F or frame[21]:  # ip_is_fragment
        if cpu.boot:
            yield from ip_local_deliver(cpu, skb)
        else:
            yield from enqueue_to_backlog(cpu, 0, skb, BACKLOG_DEFRAG)
        return
    if not nf_hook(cpu, LOCAL_IN, skb):
        passed = yield from nf_hook_slow(cpu, LOCAL_IN, skb)
        if not passed:
            return
    cpu.words[_IN_DELIVERS] += 1
    yield
    if frame[23] == IPPROTO_ICMP:
        taken = yield from raw_local_deliver(cpu, skb)
        yield from icmp_rcv(cpu, skb, taken)
    else:
        yield from _deliver_other(cpu, skb)
    if skb.dst is not None:
        skb_dst_drop(cpu, skb)  # what waits in a socket's queue does not hold it


def _ip_route_loopback(cpu: Cpu, skb: SkBuff) -> bool:
    """What has a dst entry came through lo: is it local, or did somebody bind to lo to reach
    another host (dst_discard)? What has none: 127.0.0.0/8 is a martian on any other device."""
    rt = skb.dst
    if isinstance(rt, Rtable):
        if rt.local and not rt.discard:
            return True
        kfree_skb_reason(cpu, skb, "NOT_SPECIFIED")
        return False
    if skb.dev is cpu.net.loopback_dev and skb.frame[30] == 127:
        return True
    snmp_inc(cpu, "Ip InAddrErrors")
    kfree_skb_reason(cpu, skb, "IP_NOROUTE")
    return False


def ip_local_deliver(cpu: Cpu, skb: SkBuff) -> Context:
    """A fragment, on the CPU that has the queues: the whole datagram goes on as any other."""
    if skb.dst is not None:
        skb_dst_drop(cpu, skb)
    whole = ip_defrag(cpu, skb)
    yield
    if whole is None:
        return
    if not nf_hook(cpu, LOCAL_IN, whole):
        passed = yield from nf_hook_slow(cpu, LOCAL_IN, whole)
        if not passed:
            return
    cpu.words[_IN_DELIVERS] += 1
    if whole.frame[23] == IPPROTO_ICMP:
        taken = yield from raw_local_deliver(cpu, whole)
        yield from icmp_rcv(cpu, whole, taken)
    else:
        yield from _deliver_other(cpu, whole)


def _deliver_other(cpu: Cpu, skb: SkBuff) -> Context:
    """ip_protocol_deliver_rcu for what is not ICMP."""
    if skb.frame[23] == IPPROTO_UDP:
        yield from udp_rcv(cpu, skb)
        return
    snmp_inc(cpu, "Ip InUnknownProtos")
    yield from icmp_send(cpu, skb, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH)
    kfree_skb_reason(cpu, skb, "IP_NOPROTO")
