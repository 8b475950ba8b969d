"""netif_receive_skb by era: taps, the bond's share, and the protocol handler, in that order.

Follows ``__netif_receive_skb_core`` and bonding's receive hooks for the three behaviours of
``packet_tap`` (see ``net.taps``). ``receive_batching = "list"`` runs this part for all frames of a
batch before the first of them reaches its protocol handler (6.1), else each frame goes all the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.af_packet import packet_notifier, packet_rcv
from nodes.cpu.kernel.net.arp import arp_rcv
from nodes.cpu.kernel.net.bonding.bond import PROBE_COPY, PROBE_PASS
from nodes.cpu.kernel.net.eth import ETH_HLEN
from nodes.cpu.kernel.net.handover import BACKLOG_BOND, enqueue_to_backlog
from nodes.cpu.kernel.net.icmp import RateLimit
from nodes.cpu.kernel.net.ip_fragment import Frags
from nodes.cpu.kernel.net.ip_input import ip_local_deliver, ip_rcv
from nodes.cpu.kernel.net.netdevice import (
    NetDevice,
    register_netdevice_notifier,
)
from nodes.cpu.kernel.net.protocols import ETH_P_ARP, ETH_P_IP
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.taps import deliver_taps, deliver_types
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import OTHER

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_DELIVERED = CPU_SCHEMA.index("delivered")
_PROCESSED = CPU_SCHEMA.index("softnet")
_NOHANDLER = CPU_SCHEMA.index("rx_nohandler")
_RX_DROPPED = CPU_SCHEMA.index("rx_dropped")
_INACTIVE = {"rx_nohandler": _NOHANDLER, "rx_dropped": _RX_DROPPED}
_BOND = TRACEPOINTS["bond_receive"].number
_RECEIVE = TRACEPOINTS["netif_receive_skb"].number


def _trace_receive(cpu: Cpu, skb: SkBuff) -> None:
    if cpu.trace_mask >> _RECEIVE & 1:
        cpu.trace(_RECEIVE, skb.key, skb.dev.ifindex | (len(skb.frame) - ETH_HLEN) << 32)


def _core_skb_bond(cpu: Cpu, skb: SkBuff) -> bool:
    if cpu.trace_mask >> _RECEIVE & 1:
        _trace_receive(cpu, skb)
    dev = skb.dev
    master = dev.master
    if master is not None:
        if dev.inactive and not _bond_passes(cpu, skb, dev, master):
            if dev.probed:
                _note_arrival(cpu, dev)
            kfree_skb_reason(cpu, skb, "BOND_INACTIVE")  # before any tap, before it is counted
            return False
        skb.dev = master
        if cpu.trace_mask >> _BOND & 1:
            cpu.trace(_BOND, skb.key, dev.ifindex)
    cpu.words[_PROCESSED] += 1
    if cpu.net.taps:
        deliver_taps(cpu, skb, (0, skb.dev.ifindex))
    # bonding's packet_type is one of the protocol handlers, and knows orig_dev
    return not (dev.probed and _probe(cpu, skb, dev))


def _core_orig_dev(cpu: Cpu, skb: SkBuff) -> bool:
    if cpu.trace_mask >> _RECEIVE & 1:
        _trace_receive(cpu, skb)
    dev = skb.dev
    exact = False
    master = dev.master
    if master is not None:
        exact = dev.inactive and not _bond_passes(cpu, skb, dev, master)
        if not exact:
            skb.dev = master
            if cpu.trace_mask >> _BOND & 1:
                cpu.trace(_BOND, skb.key, dev.ifindex)
    cpu.words[_PROCESSED] += 1
    if cpu.net.taps:
        wild = dev.ifindex if exact else 0
        deliver_taps(cpu, skb, (wild, skb.dev.ifindex, dev.ifindex))
    if exact:
        if dev.probed:
            _note_arrival(cpu, dev)
        if cpu.net.ptypes:
            deliver_types(cpu, skb, exact=True)
        kfree_skb_reason(cpu, skb, "BOND_INACTIVE")
        return False
    return not (dev.probed and _probe(cpu, skb, dev))


def _core_rx_handler(cpu: Cpu, skb: SkBuff) -> bool:
    if cpu.trace_mask >> _RECEIVE & 1:
        _trace_receive(cpu, skb)
    words = cpu.words
    while True:
        words[_PROCESSED] += 1
        dev = skb.dev
        if cpu.net.taps:
            deliver_taps(cpu, skb, (0, dev.ifindex))
        if dev.master is None:
            return True
        if dev.probed and _probe(cpu, skb, dev):
            return False  # RX_HANDLER_CONSUMED
        if dev.inactive and not _bond_passes(
            cpu, skb, dev, dev.master
        ):  # RX_HANDLER_EXACT: only who is bound to this very device
            counter = _INACTIVE[cpu.params.inactive_slave_counter]
            words[counter + dev.slot] += 1
            if cpu.net.ptypes:
                deliver_types(cpu, skb, exact=True)
            kfree_skb_reason(cpu, skb, "BOND_INACTIVE")
            return False
        skb.dev = dev.master  # RX_HANDLER_ANOTHER
        if cpu.trace_mask >> _BOND & 1:
            cpu.trace(_BOND, skb.key, dev.ifindex)


def _bond_passes(cpu: Cpu, skb: SkBuff, slave: NetDevice, master: NetDevice) -> bool:
    """skb_bond_should_drop, bond_should_deliver_exact_match: what an inactive slave's frame must be
    to reach the bond."""
    return master.bonding is not None and master.bonding.passes(cpu, skb, slave)


def _note_arrival(cpu: Cpu, slave: NetDevice) -> None:
    """last_rx of a slave whose frames the bond does not get."""
    assert slave.master is not None
    if slave.arpmon and slave.master.bonding is not None:
        slave.master.bonding.note_rx(cpu, slave)


def _probe(cpu: Cpu, skb: SkBuff, slave: NetDevice) -> bool:
    """The bond looks at a frame of its slave; True if the frame is gone. What its mode wants is
    queued for ``_received``."""
    assert slave.master is not None
    port = slave.master.bonding
    if port is None:
        return False
    answer = port.recv_probe(cpu, skb, slave)
    if answer == PROBE_PASS:
        return False
    if answer == PROBE_COPY:
        copy = SkBuff(skb.frame, slave, OTHER, 0)
        copy.protocol, copy.pkt_type = skb.protocol, skb.pkt_type
        cpu.net.bond_probed.append((copy, slave))
        return False
    skb.dev = slave
    cpu.net.bond_probed.append((skb, slave))
    return True


def _received(cpu: Cpu) -> Context:
    """Give what the bond's ports took to its mode, which lives on the boot CPU; and what sockets of
    a slave took, to them."""
    if cpu.net.packet_pending:
        yield from packet_rcv(cpu)
    probed, cpu.net.bond_probed = cpu.net.bond_probed, []
    for skb, slave in probed:
        if cpu.boot:
            yield from _to_mode(cpu, skb, slave)
        else:
            skb.dev = slave
            yield from enqueue_to_backlog(cpu, 0, skb, BACKLOG_BOND)


def _to_mode(cpu: Cpu, skb: SkBuff, slave: NetDevice) -> Context:
    bond = None if slave.master is None else cpu.net.bonds.get(slave.master.name)
    if bond is not None:
        yield from bond.mode.received(cpu, skb, slave)
    cpu.words[_DELIVERED + skb.cls] += 1


def _to_types(cpu: Cpu, skb: SkBuff) -> Context:
    """Sockets of its ethertype, before the protocol itself."""
    deliver_types(cpu, skb, exact=False)
    if cpu.net.packet_pending:
        yield from packet_rcv(cpu)


_CORES = {
    "skb_bond": _core_skb_bond,
    "orig_dev": _core_orig_dev,
    "rx_handler": _core_rx_handler,
}


def _deliver(cpu: Cpu, skb: SkBuff) -> Context:
    """Hand the frame to the protocol that its type names."""
    if skb.protocol == ETH_P_IP:
        yield from ip_rcv(cpu, skb)
    elif skb.protocol == ETH_P_ARP:
        yield from arp_rcv(cpu, skb)
    else:
        cpu.words[_RX_DROPPED + skb.dev.slot] += 1
        kfree_skb_reason(cpu, skb, "UNHANDLED_PROTO")


def setup(cpu: Cpu) -> None:
    """Choose the era's receive functions for this CPU."""
    core = _CORES[cpu.params.packet_tap]

    def netif_receive_skb(cpu: Cpu, skb: SkBuff) -> Context:
        mine = core(cpu, skb)
        if cpu.net.bond_probed or cpu.net.packet_pending:
            yield from _received(cpu)
        if mine:
            yield
            if cpu.net.ptypes:
                yield from _to_types(cpu, skb)
            yield from _deliver(cpu, skb)

    def netif_receive_skb_list(cpu: Cpu, skbs: list[SkBuff]) -> Context:
        mine = [skb for skb in skbs if core(cpu, skb)]
        if cpu.net.bond_probed or cpu.net.packet_pending:
            yield from _received(cpu)
        for skb in mine:
            yield
            if cpu.net.ptypes:
                yield from _to_types(cpu, skb)
            yield from _deliver(cpu, skb)

    def one_by_one(cpu: Cpu, skbs: list[SkBuff]) -> Context:
        for skb in skbs:
            yield from netif_receive_skb(cpu, skb)

    register_netdevice_notifier(cpu, packet_notifier)
    cpu.net.bond_received = _to_mode
    cpu.net.defrag = ip_local_deliver
    cpu.net.frags = Frags()
    cpu.net.icmp_limit = RateLimit()
    cpu.net.deliver = _deliver  # for frames of the backlog: their taps have run
    cpu.net.receive = netif_receive_skb
    listed = cpu.params.receive_batching == "list"
    cpu.net.receive_list = netif_receive_skb_list if listed else one_by_one
