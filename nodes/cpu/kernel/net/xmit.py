"""dev_queue_xmit: the way out, once for each device, after net/core/dev.c and sch_generic.c.

A bond has no queue of its own: its transmit function picks a slave and the frame goes through
``dev_queue_xmit`` again. A slave's queue bypasses its qdisc while that is empty; the driver is
called under the queue's tx lock, an atomic word, because any CPU may send on any queue.

Behaviour ``xmit_dst_release``: a packet lets go of its dst entry before it is *queued* (6.1),
before the driver gets it (*hard-start*: IFF_XMIT_DST_RELEASE; a bond clears that, so at its slave),
or when it has been *sent* (2.6.18): in Linux the NIC's completion frees it, here it ends when the
frame is in the ring, because any CPU may clean that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.dst import skb_dst_drop
from nodes.cpu.kernel.net.netdevice import QDISC_LIMIT, NetDevice
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
_QUEUE = TRACEPOINTS["net_dev_queue"].number


def dev_queue_xmit(cpu: Cpu, skb: SkBuff, dev: NetDevice) -> Context:
    """Send ``skb`` through ``dev``; it is consumed, whatever happens."""
    local_bh_disable(cpu)
    skb.dev = dev
    if cpu.trace_mask >> _QUEUE & 1:
        cpu.trace(_QUEUE, skb.key, dev.ifindex | len(skb.frame) << 32)
    if dev.bonding is not None:
        if cpu.net.taps:
            dev_queue_xmit_nit(cpu, skb, dev)
        if dev.bonding.clones:
            yield from _bond_copies(cpu, skb, dev.bonding)
        slave = dev.bonding.xmit_slave(cpu, skb)
        if slave is None:
            kfree_skb_reason(cpu, skb, "BOND_NO_SLAVE")
        else:
            dev.bonding.trace_xmit(cpu, skb, slave)
            if cpu.params.slave_priority == "one":
                skb.priority = 1
            yield
            yield from dev_queue_xmit(cpu, skb, slave)
        yield from local_bh_enable(cpu)
        return
    if skb.dst is not None and cpu.params.xmit_dst_release == "queue":
        skb_dst_drop(cpu, skb)
    if not dev.qdisc_active:
        kfree_skb_reason(cpu, skb, "QDISC_DROP")  # noop: down, or linkwatch saw the carrier go
    elif dev.qdisc or dev.queue_stopped:
        if len(dev.qdisc) >= QDISC_LIMIT:
            kfree_skb_reason(cpu, skb, "QDISC_DROP")
        else:
            dev.qdisc.append(skb)
            if not dev.queue_stopped:
                yield from qdisc_run(cpu, dev)
    elif not (yield from dev_hard_start_xmit(cpu, skb, dev)):
        dev.qdisc.append(skb)  # the driver was busy: it waits for the queue to be woken
        dev.queue_stopped = True
    yield from local_bh_enable(cpu)


def _bond_copies(cpu: Cpu, skb: SkBuff, port: BondPort) -> Context:
    """Further copies for further slaves; each is a source of the ledger."""
    for slave in port.others(cpu, skb):
        copy = SkBuff(skb.frame, slave, skb.cls, skb.key)
        copy.protocol = skb.protocol
        copy.priority = 1 if cpu.params.slave_priority == "one" else skb.priority
        cpu.words[_COPIES + skb.cls] += 1
        port.trace_xmit(cpu, skb, slave)
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
    """Send what waits in the device's queue of this CPU until it is empty or the ring is full."""
    while dev.qdisc and not dev.queue_stopped:
        skb = dev.qdisc.popleft()
        if not (yield from dev_hard_start_xmit(cpu, skb, dev)):
            dev.qdisc.appendleft(skb)
            dev.queue_stopped = True
        yield
