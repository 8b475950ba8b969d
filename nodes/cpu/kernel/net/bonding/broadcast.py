"""Mode 3, broadcast: every usable slave sends every packet; the last one gets the packet itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.bonding.bond import BondPort
from nodes.cpu.kernel.net.bonding.mode import Mode, bonding_mode
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


class BroadcastPort(BondPort):
    """bond_xmit_broadcast."""

    clones = True

    def _senders(self) -> list[NetDevice]:
        return [slave for slave in self.usable if self.can_send(slave)]

    def others(self, cpu: Cpu, skb: SkBuff) -> list[NetDevice]:
        return self._senders()[:-1]

    def xmit_slave(self, cpu: Cpu, skb: SkBuff) -> NetDevice | None:
        senders = self._senders()
        return senders[-1] if senders else None


@bonding_mode(BroadcastPort)
class Broadcast(Mode):
    name, number = "broadcast", 3
    long_name = "fault-tolerance (broadcast)"
