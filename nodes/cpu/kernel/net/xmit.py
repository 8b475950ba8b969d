"""dev_queue_xmit: the way out, once for each device, after net/core/dev.c and sch_generic.c.

A bond has no queue of its own: its transmit function picks a slave and the frame goes through
``dev_queue_xmit`` again. Nor has lo, whose transmit function is ``loopback_xmit``. A slave's queue
bypasses its qdisc while that is empty; the driver is called under the queue's tx lock, an atomic
word, because any CPU may send on any queue.

Behaviour ``xmit_dst_release``: a packet lets go of its dst entry before it is *queued* (6.1),
before the driver gets it (*hard-start*: IFF_XMIT_DST_RELEASE; a bond clears that, so at its slave),
or when it has been *sent* (2.6.18): in Linux the NIC's completion frees it, here it ends when the
frame is in the ring, because any CPU may clean that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.dst import skb_dst_drop
from nodes.cpu.kernel.net.loopback import loopback_xmit
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.qdisc import SENT_BYTES, SENT_PACKETS, netif_schedule
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.taps import dev_queue_xmit_nit
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.bonding.bond import BondPort
    from nodes.cpu.kernel.percpu import Cpu

_COPIES = CPU_SCHEMA.index("bond_copies")
_LAST_TX = CPU_SCHEMA.index("slave_last_tx")
NET_XMIT_SUCCESS, NET_XMIT_DROP, NET_XMIT_CN = 0, 1, 2

_QUEUE = TRACEPOINTS["net_dev_queue"].number
_ENQUEUE = TRACEPOINTS["qdisc_enqueue"].number
_BOND = TRACEPOINTS["bond_xmit"].number


def dev_queue_xmit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> Context:
    """Send ``skb`` through ``dev``; it is consumed, whatever happens. Returns NET_XMIT_SUCCESS,
    _DROP or _CN; behaviour ``bond_xmit_code``: a bond always says SUCCESS, or as its *slave*."""
    local_bh_disable(cpu)
    skb.dev = dev
    if cpu.trace_mask >> _QUEUE & 1:
        cpu.trace(_QUEUE, skb.key, dev.ifindex | len(skb.frame) << 32)
    if dev is cpu.net.loopback_dev:
        code = _xmit_loopback(cpu, skb, dev)
        yield
        yield from local_bh_enable(cpu)
        return code
    if dev.bonding is not None:
        if cpu.net.taps:
            dev_queue_xmit_nit(cpu, skb, dev)
        if dev.bonding.clones:
            yield from _bond_copies(cpu, skb, dev.bonding)
        slave = dev.bonding.xmit_slave(cpu, skb)
        code = NET_XMIT_DROP
        if slave is None:
            kfree_skb_reason(cpu, skb, "BOND_NO_SLAVE")
        else:
            if cpu.trace_mask >> _BOND & 1:
                cpu.trace(_BOND, skb.key, slave.ifindex)
            if cpu.params.slave_priority == "one":
                skb.priority = 1
            yield
            code = yield from dev_queue_xmit(cpu, skb, slave)
        yield from local_bh_enable(cpu)
        return code if cpu.params.bond_xmit_code == "slave" else NET_XMIT_SUCCESS
    if skb.dst is not None and cpu.params.xmit_dst_release == "queue":
        skb_dst_drop(cpu, skb)
    qdisc, code = dev.qdisc, NET_XMIT_SUCCESS
    if not dev.qdisc_active:
        kfree_skb_reason(cpu, skb, "QDISC_DROP")  # noop: down, or linkwatch saw the carrier go
        code = NET_XMIT_CN
    elif qdisc.qlen or dev.queue_stopped:
        if not qdisc.enqueue(cpu, skb):
            kfree_skb_reason(cpu, skb, "QDISC_DROP")
            code = NET_XMIT_DROP
        else:
            cpu.trace(_ENQUEUE, skb.key, dev.ifindex | qdisc.qlen << 32)
            if not dev.queue_stopped:
                yield from qdisc_run(cpu, dev)
    else:  # TCQ_F_CAN_BYPASS
        words, size = cpu.words, len(skb.frame)
        if (yield from dev_hard_start_xmit(cpu, skb, dev)):
            words[qdisc.stats + SENT_BYTES] += size
            words[qdisc.stats + SENT_PACKETS] += 1
        else:
            qdisc.requeue(cpu, skb)  # the driver was busy: it waits for the queue to be woken
            dev.queue_stopped = True
    yield from local_bh_enable(cpu)
    return code


def _xmit_loopback(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> int:
    """No queue, and no lock (NETIF_F_LLTX)."""
    if not dev.qdisc_active:
        kfree_skb_reason(cpu, skb, "QDISC_DROP")  # noop: it is down
        return NET_XMIT_CN
    if cpu.net.taps:
        dev_queue_xmit_nit(cpu, skb, dev)
    loopback_xmit(cpu, skb, dev)
    return NET_XMIT_SUCCESS


def _bond_copies(cpu: Cpu, skb: SkBuff, port: BondPort) -> Context:
    """Further copies for further slaves; each is a source of the ledger."""
    for slave in port.others(cpu, skb):
        copy = SkBuff(skb.frame, slave, skb.cls, skb.key)
        copy.protocol = skb.protocol
        copy.priority = 1 if cpu.params.slave_priority == "one" else skb.priority
        cpu.words[_COPIES + skb.cls] += 1
        cpu.trace(_BOND, skb.key, slave.ifindex)
        yield
        yield from dev_queue_xmit(cpu, copy, slave)


def dev_hard_start_xmit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> Context:
    """Taps, then the driver under the tx lock; returns False if the driver had no room."""
    adapter = dev.adapter
    if adapter is None:
        kfree_skb_reason(cpu, skb, "DEV_READY")
        return True
    if cpu.net.taps:
        dev_queue_xmit_nit(cpu, skb, dev)
    if skb.dst is not None and cpu.params.xmit_dst_release == "hard-start":
        skb_dst_drop(cpu, skb)
    if dev.arpmon:
        assert dev.nic is not None
        cpu.words[_LAST_TX + dev.nic] = cpu.jiffies()  # trans_start
    ring = adapter.tx_ring(cpu.number)
    atomics = cpu.ram.atomics
    while atomics.test_and_set(ring.lock_word):
        yield  # spinning on HARD_TX_LOCK
    sent = adapter.xmit_frame(cpu, skb, ring)
    atomics.release(ring.lock_word)
    if sent and skb.dst is not None:
        skb_dst_drop(cpu, skb)
    return sent


def qdisc_run(cpu: Cpu, dev: NetDevice) -> Context:
    """__qdisc_run: send what waits in the device's queue of this CPU until it is empty or the ring
    is full; behaviour ``qdisc_run``: or until the *quota* (dev_weight) is used up or another task
    is due, then NET_TX goes on."""
    qdisc, words = dev.qdisc, cpu.words
    quota = cpu.sysctl.dev_weight if cpu.params.qdisc_run == "quota" else 0
    while qdisc.qlen and not dev.queue_stopped:
        skb = qdisc.dequeue(cpu)
        assert skb is not None
        size = len(skb.frame)
        if not (yield from dev_hard_start_xmit(cpu, skb, dev)):
            qdisc.requeue(cpu, skb)
            dev.queue_stopped = True
            break
        words[qdisc.stats + SENT_BYTES] += size
        words[qdisc.stats + SENT_PACKETS] += 1
        yield
        if quota:
            quota -= 1
            if not quota or cpu.need_resched:
                netif_schedule(cpu, dev)
                break
