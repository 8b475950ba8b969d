"""Mode 6, balance-alb: balance-tlb, and clients are dealt out over the slaves' addresses (``rlb``).

After bond_alb.c. Slaves have addresses of their own in hardware, so that each receives what its
clients send. While a slave that had clients is down, the active one is promiscuous for 10 s at the
most: it takes what they still send to the old address.

Behaviour ``rlb_request``: an ARP request leaves by the active slave (*on-active*) or by the one
that its answer is to come to (*on-assigned*, 6.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_UP,
    PROBE_COPY,
    PROBE_PASS,
    Bonding,
    Slave,
)
from nodes.cpu.kernel.net.bonding.failovermac import dev_set_mac_address
from nodes.cpu.kernel.net.bonding.mode import bonding_mode
from nodes.cpu.kernel.net.bonding.rlb import Rlb
from nodes.cpu.kernel.net.bonding.tlb import BalanceTlb, TlbPort
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.skbuff import PACKET_BROADCAST, PACKET_MULTICAST, SkBuff
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PROMISC_TIMEOUT_TICKS = 100
_ARP = b"\x08\x06"
_ARP_END = 42


class AlbPort(TlbPort):
    probes = True

    def balanced_hash(self, cpu: Cpu, frame: bytes) -> int | None:
        return self.destination_hash(frame)

    def xmit_slave(self, cpu: Cpu, skb: SkBuff) -> NetDevice | None:
        if skb.frame[12:14] != _ARP:
            return super().xmit_slave(cpu, skb)
        slave = None
        bond = cpu.net.bonds.get(self.dev.name)  # of the boot CPU, which sends all ARP packets
        if bond is not None and isinstance(bond.mode, BalanceAlb):
            chosen, skb.frame = bond.mode.rlb.arp_xmit(skb.frame)
            request = skb.frame[21] == 1
            if chosen is not None and not (request and cpu.params.rlb_request == "on-active"):
                slave = chosen.dev
        return self.do_alb_xmit(skb, slave)

    def passes(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> bool:
        return skb.pkt_type not in (PACKET_BROADCAST, PACKET_MULTICAST)

    def recv_probe(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> int:
        return PROBE_COPY if skb.frame[12:14] == _ARP else PROBE_PASS


@bonding_mode(AlbPort)
class BalanceAlb(BalanceTlb):
    name, number = "balance-alb", 6
    long_name = "adaptive load balancing"

    def __init__(self, bond: Bonding) -> None:
        super().__init__(bond)
        self.rlb = Rlb(self)
        self.promisc_on: NetDevice | None = None  # primary_is_promisc
        self._promisc_ticks = 0

    def set_slave_mac(self, cpu: Cpu, slave: Slave, mac: bytes) -> Context:
        """The port receives on it."""
        yield from dev_set_mac_address(cpu, slave.dev, mac)

    def receive_on(self, cpu: Cpu, slave: Slave, mac: bytes) -> Context:
        """It does, once the addresses are swapped."""
        yield from ()

    def enslave(self, cpu: Cpu, slave: Slave) -> Context:
        yield from super().enslave(cpu, slave)
        self.rlb.rebalance_due = True

    def release(self, cpu: Cpu, slave: Slave) -> Context:
        yield from super().release(cpu, slave)
        self.rlb.rx_slave = None
        yield from self._clear_slave(cpu, slave)

    def link_change(self, cpu: Cpu, slave: Slave, link: int) -> Context:
        yield from super().link_change(cpu, slave, link)
        if link == BOND_LINK_UP:
            self.rlb.rebalance_due = True
        else:
            yield from self._clear_slave(cpu, slave)

    def _clear_slave(self, cpu: Cpu, slave: Slave) -> Context:
        """rlb_clear_slave."""
        self.rlb.clear_slave(slave)
        if slave is not self.bond.curr_active:
            yield from self._teach_disabled_mac(cpu, slave.dev.dev_addr)

    def _teach_disabled_mac(self, cpu: Cpu, mac: bytes) -> Context:
        """rlb_teach_disabled_mac_on_primary: the active slave takes the frames for this address."""
        active = self.bond.curr_active
        if active is None:
            return
        if self.promisc_on is None:
            self.promisc_on = active.dev
            device.dev_set_promiscuity(cpu, active.dev, 1)
        self._promisc_ticks = 0
        yield from self.send_learning_packets(cpu, active, mac)

    def leave_promisc(self, cpu: Cpu, old: Slave | None) -> Context:
        if self.promisc_on is not None:
            device.dev_set_promiscuity(cpu, self.promisc_on, -1)
            self.promisc_on = None
            self._promisc_ticks = 0
        yield from ()

    def fasten_mac_swap(self, cpu: Cpu, one: Slave, other: Slave) -> Context:
        """And the clients: each slave's have to hear its new address. One that is down got an
        address that clients still send to."""
        yield from super().fasten_mac_swap(cpu, one, other)
        for slave in dict.fromkeys((one, other)):
            if self.can_tx(slave):
                self.rlb.request_slave(slave)
        if self.can_tx(one) != self.can_tx(other):
            disabled = other if self.can_tx(one) else one
            yield from self._teach_disabled_mac(cpu, disabled.dev.dev_addr)

    def balance_receive(self, cpu: Cpu) -> Context:
        if self.promisc_on is not None:
            self._promisc_ticks += 1
            if self._promisc_ticks >= PROMISC_TIMEOUT_TICKS:
                yield from cpu.net.rtnl.lock(cpu)
                yield from self.leave_promisc(cpu, None)
                cpu.net.rtnl.unlock(cpu)
        yield from self.rlb.tick(cpu)

    def received(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> Context:
        if len(skb.frame) >= _ARP_END:
            self.rlb.arp_recv(skb.frame)
        yield from ()
