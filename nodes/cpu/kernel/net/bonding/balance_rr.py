"""Mode 0, balance-rr: each packet leaves through the next slave.

Behaviour ``rr_start``: *curr-active*: 2.6.18 keeps the next slave as curr_active_slave and takes
the first usable one from there; *counter*: rr_tx_counter++ modulo the slaves, so the first packet
takes index 0; *per-cpu*: 6.1 counts on each CPU, before it sends, and with packets_per_slave N
moves on every N packets, with 0 draws at random. Here the counter is each CPU's own in all eras
(2.6.18 and 3.10 share it between CPUs): a CPU's packets alternate as they do there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.bonding.bond import BondPort
from nodes.cpu.kernel.net.bonding.mode import Mode, bonding_mode
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_IPPROTO_IGMP = 2


def is_igmp(frame: bytes) -> bool:
    """An IPv4 IGMP frame."""
    return len(frame) > 23 and frame[12:14] == b"\x08\x00" and frame[23] == _IPPROTO_IGMP


class RoundRobinPort(BondPort):
    """bond_xmit_roundrobin."""

    counter = 0  # rr_tx_counter

    def xmit_slave(self, cpu: Cpu, skb: SkBuff) -> NetDevice | None:
        count = len(self.slaves)
        if not count:
            return None
        if cpu.params.rr_start != "curr-active" and is_igmp(skb.frame):
            return self.active
        if cpu.params.rr_start == "per-cpu":
            number = self._gen_slave_id(cpu)
        else:
            number = self.counter
            self.counter += 1
        slave = self.first_usable(number % count)
        if slave is not None and cpu.params.rr_start == "curr-active":
            self.counter = self.slaves.index(slave) + 1
        return slave

    def _gen_slave_id(self, cpu: Cpu) -> int:
        """bond_rr_gen_slave_id."""
        packets_per_slave = self.settings.packets_per_slave
        if not packets_per_slave:
            return cpu.rng.randrange(1 << 32)
        self.counter += 1
        return self.counter // packets_per_slave


@bonding_mode(RoundRobinPort)
class BalanceRr(Mode):
    name, number = "balance-rr", 0
    long_name = "load balancing (round-robin)"
