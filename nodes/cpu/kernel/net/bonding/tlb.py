"""Mode 5, balance-tlb: each CPU gives flows to the least loaded slave; one slave receives.

After bond_alb.c's transmit half. A table of 256 entries maps a hash to a slave; an entry without
one gets the slave with the most room, counts its bytes, and loses it at the rebalance 10 s later,
when what it has sent becomes its load. Frames that are not balanced go through the active slave.
Every slave keeps an address of its own, but the active one, which has the bond's: at a failover
they change addresses, and learning packets tell the switch.

Behaviours: ``tlb_hash`` (*dest-ip*: the bytes of the destination address, XORed; *policy*: 6.1
takes xmit_hash_policy), ``lp_frame`` (learning packets of type 0x0060, three of them (*burst*) or
*once*; *loopback*: of type 0x9000).

Multikernel: each CPU has a table of its own (Linux: one under a spinlock); clears and rebalances
are numbers that the boot CPU publishes. Left out: IPX, IPv6's DAD probes, VLANs of the bond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel import words
from nodes.cpu.kernel.drivers.ixgbe import common
from nodes.cpu.kernel.jiffies import msecs_to_jiffies
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.bonding.bond import BOND_LINK_UP, Bonding, BondPort, Slave, bond_publish
from nodes.cpu.kernel.net.bonding.hash import simple_hash, xmit_hash
from nodes.cpu.kernel.net.bonding.log import bond_log
from nodes.cpu.kernel.net.bonding.mode import Mode, bonding_mode
from nodes.cpu.kernel.net.bonding.select import is_up
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.net.xmit import dev_queue_xmit
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.workqueue import (
    INIT_DELAYED_WORK,
    cancel_delayed_work,
    queue_delayed_work,
)
from nodes.ledger import OTHER

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue import DelayedWork

_IN_USE = (
    "Warning: the hw address of slave {dev} is in use by the bond; giving it the hw address of "
    "{other}",
    "the slave hw address is in use by the bond; giving it the hw address of {other}",
)
TICKS_PER_S = 10
REBALANCE_S = 10
TABLE_ENTRIES = 256
_LP_TYPE = {"burst": b"\x00\x60", "once": b"\x00\x60", "loopback": b"\x90\x00"}
_LP_BURST = {"burst": 3, "once": 1, "loopback": 1}
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_IGMP = 2
_BROADCAST, _BROADCAST_IP = b"\xff" * 6, b"\xff" * 4
_ALL_NODES = bytes.fromhex("333300000001")
TC_PRIO_CONTROL = 7


class Entry:
    """struct tlb_client_info."""

    __slots__ = ("load_history", "tx_bytes", "tx_slave")

    def __init__(self) -> None:
        self.tx_slave: NetDevice | None = None
        self.tx_bytes = 0
        self.load_history = 0


class TlbPort(BondPort):
    """The transmit side on one CPU. ``extra``: number of the last rebalance, and for each slave
    (ifindex, speed, number of its last clear)."""

    def __init__(self, dev: NetDevice) -> None:
        super().__init__(dev)
        self.table = [Entry() for _ in range(TABLE_ENTRIES)]
        self.load: dict[int, int] = {}  # by ifindex
        self.unbalanced_load = 0
        self._speed: dict[int, int] = {}
        self._cleared: dict[int, int] = {}
        self._rebalanced = 0

    def configure(self, cpu: Cpu) -> None:
        """A slave's flows are taken from it when its clears went on, all when it is rebalanced."""
        self.policy_hash = xmit_hash(cpu.params.xmit_hash, self.settings.xmit_hash_policy)
        if not self.extra:
            return
        rebalanced, slaves = self.extra
        for ifindex, _, cleared in slaves:
            if self._cleared.get(ifindex, 0) != cleared:
                self.clear_slave(ifindex, save_load=False)
        self._speed = {ifindex: speed for ifindex, speed, _ in slaves}
        self._cleared = {ifindex: cleared for ifindex, _, cleared in slaves}
        if rebalanced != self._rebalanced:
            self._rebalanced = rebalanced
            self._rebalance()

    def _rebalance(self) -> None:
        for slave in self.slaves:
            self.clear_slave(slave.ifindex, save_load=True)
        if self.active is not None:
            self.load[self.active.ifindex] = self.unbalanced_load // REBALANCE_S
        self.unbalanced_load = 0

    def clear_slave(self, ifindex: int, *, save_load: bool) -> None:
        """tlb_clear_slave."""
        for entry in self.table:
            if entry.tx_slave is not None and entry.tx_slave.ifindex == ifindex:
                entry.tx_slave = None
                if save_load:
                    entry.load_history = 1 + entry.tx_bytes // REBALANCE_S
                    entry.tx_bytes = 0
        self.load[ifindex] = 0

    def _can_tx(self, slave: NetDevice) -> bool:
        return slave in self.usable and self.can_send(slave)

    def _least_loaded(self) -> NetDevice | None:
        """tlb_get_least_loaded_slave: the most room; the first of equals."""
        best, max_gap = None, None
        for slave in self.slaves:
            if self._can_tx(slave):
                speed, load = self._speed.get(slave.ifindex, 0), self.load.get(slave.ifindex, 0)
                gap = (speed << 20) - (load << 3)
                if max_gap is None or gap > max_gap:
                    best, max_gap = slave, gap
        return best

    def choose_channel(self, index: int, length: int) -> NetDevice | None:
        """tlb_choose_channel."""
        entry = self.table[index]
        slave = entry.tx_slave
        if slave is None:
            slave = self._least_loaded()
            if slave is None:
                return None
            entry.tx_slave = slave
            self.load[slave.ifindex] = self.load.get(slave.ifindex, 0) + entry.load_history
        entry.tx_bytes += length
        return slave

    def balanced_hash(self, cpu: Cpu, frame: bytes) -> int | None:
        """What picks the entry; None: the frame is not balanced."""
        if cpu.params.tlb_hash == "policy":
            if frame[0] & 1 or frame[12:14] not in (_IPV4, _IPV6):
                return None
            return self.policy_hash(frame, self.dev.dev_addr)
        return self.destination_hash(frame)

    def destination_hash(self, frame: bytes) -> int | None:
        """bond_alb_xmit: by destination address, but for broadcasts and IGMP."""
        target, ethertype = frame[:6], frame[12:14]
        if ethertype == _IPV4 and target != _BROADCAST:
            address = frame[30:34]
            return None if address == _BROADCAST_IP or frame[23] == _IGMP else simple_hash(address)
        if ethertype == _IPV6 and target not in (_BROADCAST, _ALL_NODES):
            return simple_hash(frame[38:54])
        return None

    def xmit_slave(self, cpu: Cpu, skb: SkBuff) -> NetDevice | None:
        return self.do_alb_xmit(skb, self._balanced(cpu, skb))

    def _balanced(self, cpu: Cpu, skb: SkBuff) -> NetDevice | None:
        value = self.balanced_hash(cpu, skb.frame)
        if value is None:
            return None
        if self.settings.tlb_dynamic_lb:
            return self.choose_channel(value & 0xFF, len(skb.frame))
        usable = [slave for slave in self.usable if self.can_send(slave)]
        if not usable:
            return None
        return usable[self.policy_hash(skb.frame, self.dev.dev_addr) % len(usable)]

    def do_alb_xmit(self, skb: SkBuff, slave: NetDevice | None) -> NetDevice | None:
        """bond_do_alb_xmit: a slave that is not the active one sends in its own name."""
        if slave is None:
            slave = self.active
            if self.settings.tlb_dynamic_lb:
                self.unbalanced_load += len(skb.frame)
        if slave is None:
            return None
        if self._can_tx(slave):
            if slave is not self.active:
                skb.frame = skb.frame[:6] + slave.dev_addr + skb.frame[12:]
            return slave
        self.clear_slave(slave.ifindex, save_load=False)
        return None


@bonding_mode(TlbPort)
class BalanceTlb(Mode):
    name, number = "balance-tlb", 5
    long_name = "transmit load balancing"
    uses_primary = True
    starts_inactive = True
    inactive_is_backup = False
    miimon_forced = True
    needs_speed = True
    arp_monitor = False

    def __init__(self, bond: Bonding) -> None:
        super().__init__(bond)
        self.work: DelayedWork | None = None
        self.tx_rebalance_counter = 0
        self.lp_counter = 0
        self._rebalanced = 0
        self._cleared: dict[int, int] = {}

    @property
    def hashes(self) -> bool:  # type: ignore[override]
        """/proc names the policy only where it chooses."""
        return not self.bond.settings.tlb_dynamic_lb

    def extra(self) -> Any:
        slaves = (
            (slave.dev.ifindex, slave.speed, self._cleared.get(slave.dev.ifindex, 0))
            for slave in self.bond.slaves
        )
        return (self._rebalanced, tuple(slaves))

    def clear_slave(self, slave: Slave) -> None:
        """Every CPU takes its flows from it when the bond is published."""
        ifindex = slave.dev.ifindex
        self._cleared[ifindex] = self._cleared.get(ifindex, 0) + 1

    # -- slaves

    def enslave(self, cpu: Cpu, slave: Slave) -> Context:
        """bond_alb_init_slave: its own address again, unless another slave has that."""
        mac = slave.perm_hwaddr
        others = [other for other in self.bond.slaves if other is not slave]
        if any(other.dev.dev_addr == mac for other in others):
            taken = [other.dev.dev_addr for other in others]
            free = next((s for s in others if s.perm_hwaddr not in taken), None)
            if free is not None:
                mac = free.perm_hwaddr
                bond_log(cpu, self.bond, _IN_USE, slave.dev, other=free.dev.name)
        yield from self.set_slave_mac(cpu, slave, mac)
        self.tx_rebalance_counter = REBALANCE_S * TICKS_PER_S  # as soon as possible

    def release(self, cpu: Cpu, slave: Slave) -> Context:
        """bond_alb_deinit_slave."""
        self.clear_slave(slave)
        yield from ()

    def link_change(self, cpu: Cpu, slave: Slave, link: int) -> Context:
        """bond_alb_handle_link_change."""
        if link == BOND_LINK_UP:
            self.tx_rebalance_counter = REBALANCE_S * TICKS_PER_S
        else:
            self.clear_slave(slave)
        yield from ()

    def active_change(self, cpu: Cpu, new: Slave | None, old: Slave | None) -> Context:
        """bond_alb_handle_active_change: the new active slave gets the bond's address, whoever had
        that gets the new one's."""
        yield from self.leave_promisc(cpu, old)
        if new is None:
            return
        bond_mac = self.bond.dev.dev_addr
        swap = old or next((s for s in self.bond.slaves if s.dev.dev_addr == bond_mac), None)
        for slave in (swap, new):
            if slave is not None:
                self.clear_slave(slave)
        yield from self.receive_on(cpu, new, bond_mac)
        if swap is None:
            yield from self.set_slave_mac(cpu, new, bond_mac)
            yield from self.send_learning_packets(cpu, new, bond_mac)
            return
        given, taken = swap.dev.dev_addr, new.dev.dev_addr
        if swap is not new:
            yield from self.set_slave_mac(cpu, swap, taken)
            yield from self.set_slave_mac(cpu, new, given)
        yield from self.fasten_mac_swap(cpu, swap, new)

    def set_slave_mac(self, cpu: Cpu, slave: Slave, mac: bytes) -> Context:
        """alb_set_slave_mac_addr: only what the slave is called; the port goes on receiving on the
        bond's address, which any of them may have to answer for."""
        slave.dev.dev_addr = mac
        yield from device.changed(cpu, slave.dev)

    def receive_on(self, cpu: Cpu, slave: Slave, mac: bytes) -> Context:
        """A port that was reset meanwhile would filter the bond's address: write it again, whatever
        the device is called."""
        adapter = slave.dev.adapter
        if adapter is not None and not adapter.removed:
            adapter.hw.addr = mac
            yield from common.set_rar(cpu, adapter, 0, mac)

    def fasten_mac_swap(self, cpu: Cpu, one: Slave, other: Slave) -> Context:
        """alb_fasten_mac_swap: the switch learns the addresses where they are now."""
        for slave in dict.fromkeys((one, other)):
            if self.can_tx(slave):
                yield from self.send_learning_packets(cpu, slave, slave.dev.dev_addr)

    def leave_promisc(self, cpu: Cpu, old: Slave | None) -> Context:
        yield from ()

    def can_tx(self, slave: Slave) -> bool:
        return is_up(slave) and slave.link == BOND_LINK_UP and not slave.backup

    # -- the work

    def open(self, cpu: Cpu) -> Context:
        if self.work is None:
            self.work = INIT_DELAYED_WORK(cpu, words.ALB_WORK, "bond_alb_monitor", self._monitor)
        yield from queue_delayed_work(cpu, self.bond.wq, self.work, 0)

    def close(self, cpu: Cpu) -> Context:
        if self.work is not None:
            yield from cancel_delayed_work(cpu, self.work)

    def _monitor(self, cpu: Cpu) -> Context:
        """bond_alb_monitor, ten times a second."""
        if self.bond.slaves:
            yield from self._run(cpu)
        else:
            self.tx_rebalance_counter = self.lp_counter = 0
        assert self.work is not None
        delay = msecs_to_jiffies(cpu, 1000 // TICKS_PER_S)
        yield from queue_delayed_work(cpu, self.bond.wq, self.work, delay)

    def _run(self, cpu: Cpu) -> Context:
        self.tx_rebalance_counter += 1
        self.lp_counter += 1
        if self.lp_counter >= self.bond.settings.lp_interval * TICKS_PER_S:
            self.lp_counter = 0
            for slave in list(self.bond.slaves):
                yield from self.send_learning_packets(cpu, slave, slave.dev.dev_addr)
        if self.tx_rebalance_counter >= REBALANCE_S * TICKS_PER_S:
            self.tx_rebalance_counter = 0
            self._rebalanced += 1
            yield from cpu.net.rtnl.lock(cpu)
            yield from bond_publish(cpu, self.bond)
            cpu.net.rtnl.unlock(cpu)
        yield from self.balance_receive(cpu)

    def balance_receive(self, cpu: Cpu) -> Context:
        """balance-alb's part of a tick."""
        yield from ()

    def send_learning_packets(self, cpu: Cpu, slave: Slave, mac: bytes) -> Context:
        """alb_send_learning_packets: to itself, so that the switch learns and nobody receives."""
        how = cpu.params.lp_frame
        frame = (mac + mac + _LP_TYPE[how]).ljust(60, b"\0")
        for _ in range(_LP_BURST[how]):
            skb = SkBuff(frame, slave.dev, OTHER, 0)
            skb.priority = TC_PRIO_CONTROL
            yield from dev_queue_xmit(cpu, skb, slave.dev)
