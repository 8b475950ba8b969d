"""The bond's own structures: what every CPU needs to send, and what the boot CPU's driver keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.tables import replica
from nodes.cpu.trace import TRACEPOINTS
from nodes.machine import BondSettings

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue import DelayedWork, Workqueue

BOND_LINK_UP, BOND_LINK_FAIL, BOND_LINK_DOWN, BOND_LINK_BACK = range(4)
BOND_MODE_ACTIVEBACKUP = 1

_XMIT = TRACEPOINTS["bond_xmit"].number


class BondPort:
    """What the transmit path of one CPU knows of a bond (active-backup)."""

    def __init__(self) -> None:
        self.active: NetDevice | None = None  # curr_active_slave

    def xmit_slave(self) -> NetDevice | None:
        """bond_xmit_activebackup: the current active slave, whatever its state."""
        return self.active

    def trace_xmit(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> None:
        cpu.trace(_XMIT, skb.key, slave.ifindex)


@replica("bond")
def apply_bond(cpu: Cpu, ifindex: int, active: int) -> None:
    """The active slave of a bond, by ifindex; 0: none."""
    dev = cpu.net.devices[ifindex]
    if dev.bonding is None:
        dev.bonding = BondPort()
    dev.bonding.active = cpu.net.devices.get(active)


class Slave:
    """struct slave."""

    def __init__(self, dev: NetDevice) -> None:
        self.dev = dev
        self.link = BOND_LINK_DOWN
        self.delay = 0  # ticks left in FAIL or BACK
        self.failure_count = 0
        self.perm_hwaddr = dev.dev_addr
        self.speed = 0  # Mbps; 0 unknown
        self.stats_at_enslave = [0] * 16


class Bonding:
    """struct bonding, on the boot CPU."""

    def __init__(self, dev: NetDevice, settings: BondSettings) -> None:
        self.dev = dev
        self.settings = settings
        self.slaves: list[Slave] = []
        self.curr_active: Slave | None = None
        self.mac_from_first = True
        self.peer_notifications = 0
        self.wq: Workqueue  # its monitors work here, one at a time
        self.work: DelayedWork | None = None
        self.stats_base = [0] * 16  # what released slaves had gained (6.1)
        # delays are kept in looks of the monitor: another miimon changes their milliseconds
        miimon = settings.miimon
        self.updelay_ticks = settings.updelay // miimon if miimon else 0
        self.downdelay_ticks = settings.downdelay // miimon if miimon else 0

    def primary(self) -> Slave | None:
        return next((s for s in self.slaves if s.dev.name == self.settings.primary), None)
