"""The loopback device lo: what a machine sends to itself; after drivers/net/loopback.c and, for its
input queue, netif_rx of net/core/dev.c.

lo has no hardware, no ring and no queueing discipline. Its transmit function is its receiver too:
``loopback_xmit`` puts the packet, as it is, into the input backlog of the CPU that sends. So no
device interrupts anybody: NET_RX is raised by the sender itself, and runs as soon as it enables
bottom halves again, at the end of its own dev_queue_xmit (or of the softirq that sends). The packet
keeps what it knows: its dst entry, so that IP need not look up a route for it again (lo has no
IFF_XMIT_DST_RELEASE), and its connection.

lo is up, with 127.0.0.1/8, from the start: what a distribution's network scripts do first.
Behaviours: ``loopback_mtu``; ``loopback_stats``: 2.6.18 counts what is *sent*, later ones what was
*queued*; ``netif_rx_total``: in 2.6.18 softnet's first column counts a frame here and again when it
is received; ``backlog_drop``: whose drop it is when the backlog is full. Left out: RPS of what
comes through lo, segmentation offload, checksums that are left undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.eth import ETH_HLEN, eth_type_trans
from nodes.cpu.kernel.net.fib import INADDR_LOOPBACK
from nodes.cpu.kernel.net.handover import BACKLOG_RPS
from nodes.cpu.kernel.net.netdevice import IFF_LOOPBACK, IFF_UP, LOOPBACK_IFINDEX, NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.softirq import NET_RX_SOFTIRQ, __raise_softirq_irqoff
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_LSTATS = CPU_SCHEMA.index("lstats")
_PROCESSED = CPU_SCHEMA.index("softnet")
_DROPPED = _PROCESSED + 1
_RX_DROPPED = CPU_SCHEMA.index("rx_dropped")
_XMIT, _NETIF_RX = TRACEPOINTS["net_dev_xmit"].number, TRACEPOINTS["netif_rx"].number


def setup(cpu: Cpu) -> None:
    """loopback_net_init, and ``ip link set lo up`` with the address that this gives it."""
    net, lo = cpu.net, cpu.net.loopback_dev
    lo.flags = IFF_UP | IFF_LOOPBACK
    lo.mtu = cpu.params.loopback_mtu
    lo.carrier = lo.qdisc_active = True
    net.devices[LOOPBACK_IFINDEX] = net.by_name[lo.name] = lo
    net.addresses[INADDR_LOOPBACK] = LOOPBACK_IFINDEX


def loopback_xmit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> None:
    """Send: which is to receive."""
    words, length = cpu.words, len(skb.frame)
    key = skb.key
    skb.sk = -1  # skb_orphan: from here on it is nobody's
    eth_type_trans(skb, dev)
    queued = netif_rx(cpu, skb)
    if queued or cpu.params.loopback_stats == "sent":
        words[_LSTATS] += 1
        words[_LSTATS + 1] += length - ETH_HLEN
    if cpu.trace_mask >> _XMIT & 1:
        cpu.trace(_XMIT, key, dev.ifindex << 32 | length << 48)


def netif_rx(cpu: Cpu, skb: SkBuff) -> bool:
    """Into this CPU's own backlog; its NAPI is scheduled by the first that comes. False: it was
    full, and the packet is gone."""
    net, params = cpu.net, cpu.params
    if cpu.trace_mask >> _NETIF_RX & 1:
        cpu.trace(_NETIF_RX, skb.key, skb.dev.ifindex | (len(skb.frame) - ETH_HLEN) << 32)
    if params.netif_rx_total == "counted":
        cpu.words[_PROCESSED] += 1
    if len(net.backlog) >= cpu.sysctl.netdev_max_backlog:
        cpu.words[_DROPPED] += 1
        if params.backlog_drop == "softnet+device":
            cpu.words[_RX_DROPPED + skb.dev.slot] += 1
        kfree_skb_reason(cpu, skb, "CPU_BACKLOG")
        return False
    if not net.backlog and not net.backlog_polled:
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
    net.backlog.append((BACKLOG_RPS, skb, b""))
    return True
