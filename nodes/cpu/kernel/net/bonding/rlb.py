"""Receive load balancing: which client believes which slave's address to be the bond's.

After bond_alb.c's rlb_ functions. A table of 256 entries, by the client's IPv4 address, holds the
slave that the client was given; ARP replies of the bond carry that slave's address, and updates
(two unasked-for ARP replies) move a client to another slave. Only the boot CPU has it: every ARP
packet leaves there.

Left out: clients of VLANs, bridges above the bond. A client that loses its entry to another one is
told at the next tick, not at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.arp import ARPOP_REPLY, ARPOP_REQUEST, arp_send
from nodes.cpu.kernel.net.bonding.bond import Slave
from nodes.cpu.kernel.net.bonding.hash import simple_hash
from nodes.cpu.kernel.net.eth import BROADCAST_MAC
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.bonding.alb import BalanceAlb
    from nodes.cpu.kernel.percpu import Cpu

TABLE_ENTRIES = 256
UPDATE_DELAY_TICKS = 20  # 2 s
ARP_BURST = 2
UPDATE_RETRY = 3


class Arp:
    """The fields of an ARP packet in a frame."""

    def __init__(self, frame: bytes) -> None:
        self.op_code = frame[20] << 8 | frame[21]
        self.mac_src, self.ip_src = frame[22:28], frame[28:32]
        self.mac_dst, self.ip_dst = frame[32:38], frame[38:42]


class Client:
    """struct rlb_client_info: one that talks to the bond."""

    def __init__(self, arp: Arp, slave: Slave | None) -> None:
        self.ip_src, self.mac_src = arp.ip_src, arp.mac_src  # of the bond
        self.ip_dst, self.mac_dst = arp.ip_dst, arp.mac_dst  # its own; zero until it answers
        self.slave = slave
        self.ntt = False  # it needs to be told

    @property
    def known(self) -> bool:
        """Its address is: neither broadcast nor zero."""
        return not self.mac_dst[0] & 1 and any(self.mac_dst)


class Rlb:
    """The table and its timers, in ticks of 100 ms."""

    def __init__(self, mode: BalanceAlb) -> None:
        self.mode = mode
        self.table: dict[int, Client] = {}
        self.rx_slave: Slave | None = None
        self.rx_ntt = False
        self.update_delay = 0
        self.update_retry = 0
        self.rebalance_due = False
        self._evicted: list[Client] = []  # moved to the active slave, to be told at the next tick

    # -- which slave

    def next_slave(self) -> Slave | None:
        """rlb_next_rx_slave: in turn, among the fastest that can send."""
        able = [slave for slave in self.mode.bond.slaves if self.mode.can_tx(slave)]
        if not able:
            return None
        fastest = max(slave.speed for slave in able)
        slaves = self.mode.bond.slaves
        start = slaves.index(self.rx_slave) + 1 if self.rx_slave in slaves else 0
        order = slaves[start:] + slaves[:start]
        self.rx_slave = next(s for s in order if s in able and s.speed == fastest)
        return self.rx_slave

    def choose_channel(self, arp: Arp) -> Slave | None:
        """rlb_choose_channel. A client that loses its entry to another one is the active slave's
        from now on."""
        index = simple_hash(arp.ip_dst)
        client, active = self.table.get(index), self.mode.bond.curr_active
        if client is not None:
            if (client.ip_src, client.ip_dst) == (arp.ip_src, arp.ip_dst):
                if arp.mac_dst != BROADCAST_MAC:
                    client.mac_dst = arp.mac_dst
                client.mac_src = arp.mac_src
                if client.slave is not None:
                    return client.slave
            elif active is not None and client.slave is not active:
                client.slave = active
                self._evicted.append(client)
        slave = self.next_slave()
        if slave is not None:
            new = self.table[index] = Client(arp, slave)
            if new.known:
                new.ntt = self.rx_ntt = True
        return slave

    # -- ARP packets that leave and arrive

    def arp_xmit(self, frame: bytes) -> tuple[Slave | None, bytes]:
        """rlb_arp_xmit: the slave that sends an ARP packet of this host (None: the active one), and
        the packet, which in a reply says that slave's address."""
        arp = Arp(frame)
        bond = self.mode.bond
        known = [bond.dev.dev_addr, *(slave.dev.dev_addr for slave in bond.slaves)]
        if arp.mac_src not in known:
            return None, frame
        if arp.op_code == ARPOP_REPLY:
            slave = self.choose_channel(arp)
            if slave is not None:
                frame = frame[:22] + slave.dev.dev_addr + frame[28:]
            return slave, frame
        if arp.op_code == ARPOP_REQUEST:
            # a request tells every client of the subnet the sender's address: tell them the one
            # that they were given again, but after the answers to it
            slave = self.choose_channel(arp)
            self.update_delay = UPDATE_DELAY_TICKS
            self.request_subnet(arp.ip_src)
            return slave, frame
        return None, frame

    def arp_recv(self, frame: bytes) -> None:
        """rlb_arp_recv: the client's address, once it says it; an address of ours that somebody
        else says is his is forgotten."""
        arp = Arp(frame)
        for index, known in list(self.table.items()):
            if known.ip_src == arp.ip_src and known.mac_src != arp.mac_src:
                del self.table[index]  # rlb_purge_src_ip
        if arp.op_code != ARPOP_REPLY:
            return
        client = self.table.get(simple_hash(arp.ip_src))
        if client is None or (client.ip_src, client.ip_dst) != (arp.ip_dst, arp.ip_src):
            return
        if client.mac_dst != arp.mac_src:
            client.mac_dst = arp.mac_src
            client.ntt = self.rx_ntt = True

    # -- who is to be told

    def _known(self) -> Iterator[Client]:
        return (client for client in self.table.values() if client.known)

    def request_slave(self, slave: Slave) -> None:
        """rlb_req_update_slave_clients: its address is another one now."""
        for client in self._known():
            if client.slave is slave:
                client.ntt = self.rx_ntt = True
                self.update_retry = UPDATE_RETRY

    def request_subnet(self, ip_src: bytes) -> None:
        """rlb_req_update_subnet_clients: all that were given another address than the bond's."""
        for client in self._known():
            slave = client.slave
            if slave is None or client.ip_src != ip_src:
                continue
            if slave.dev.dev_addr != self.mode.bond.dev.dev_addr:
                client.ntt = self.rx_ntt = True

    def clear_slave(self, slave: Slave) -> None:
        """rlb_clear_slave: its clients go to others."""
        for client in self.table.values():
            if client.slave is slave:
                client.slave = self.next_slave()
                if client.slave is not None and client.known:
                    client.ntt = self.rx_ntt = True
                    self.update_retry = UPDATE_RETRY

    def rebalance(self) -> None:
        """rlb_rebalance: deal them out again."""
        self.rebalance_due = False
        for client in self.table.values():
            slave = self.next_slave()
            if slave is not None and client.slave is not slave:
                client.slave = slave
                if client.known:
                    client.ntt = self.rx_ntt = True

    # -- telling them

    def tick(self, cpu: Cpu) -> Context:
        if self.rebalance_due:
            self.rebalance()
        evicted, self._evicted = self._evicted, []
        for client in evicted:
            yield from self.update_client(cpu, client)
        if not self.rx_ntt:
            return
        if self.update_delay:
            self.update_delay -= 1
            return
        for client in list(self.table.values()):
            if client.ntt:
                yield from self.update_client(cpu, client)
                if not self.update_retry:
                    client.ntt = False
        self.update_delay = UPDATE_DELAY_TICKS
        if self.update_retry:
            self.update_retry -= 1
        else:
            self.rx_ntt = False

    def update_client(self, cpu: Cpu, client: Client) -> Context:
        """rlb_update_client: replies that nobody asked for, from the slave that is meant."""
        if client.slave is None or not client.known:
            return
        dev = client.slave.dev
        for _ in range(ARP_BURST):
            me, it = (dev.dev_addr, client.ip_src), (client.mac_dst, client.ip_dst)
            yield from arp_send(cpu, ARPOP_REPLY, me, it, client.mac_dst, dev)
