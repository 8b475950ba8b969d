"""Mode 2, balance-xor: a hash of the frame chooses the slave.

Behaviour ``hash_over``: *slaves*: the hash picks one of all slaves and the first usable one from
there sends; *usable*: 6.1 keeps an array of the usable slaves and picks one of those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.bonding.bond import BondPort
from nodes.cpu.kernel.net.bonding.hash import xmit_hash
from nodes.cpu.kernel.net.bonding.mode import Mode, bonding_mode
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


class XorPort(BondPort):
    """bond_xmit_xor, bond_3ad_xor_xmit."""

    def xmit_slave(self, cpu: Cpu, skb: SkBuff) -> NetDevice | None:
        over = self.usable if cpu.params.hash_over == "usable" else self.slaves
        if not over:
            return None
        number = self.xmit_hash(cpu, skb) % len(over)
        return over[number] if over is self.usable else self.first_usable(number)

    def configure(self, cpu: Cpu) -> None:
        self.hash_of = xmit_hash(cpu.params.xmit_hash, self.settings.xmit_hash_policy)

    def xmit_hash(self, cpu: Cpu, skb: SkBuff) -> int:
        return self.hash_of(skb.frame, self.dev.dev_addr)


@bonding_mode(XorPort)
class BalanceXor(Mode):
    name, number = "balance-xor", 2
    long_name = "load balancing (xor)"
    hashes = True
