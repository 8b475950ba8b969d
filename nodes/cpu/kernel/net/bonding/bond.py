"""The bond's own structures: what every CPU needs to send and receive, and what the boot CPU keeps.

``Bonding`` and ``Slave`` are the boot CPU's. Each CPU has a ``BondPort``, made from what
``bond_publish`` sends; its class is the mode's, so that transmit and receive hooks run on the CPU
that has the frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nodes.cpu.kernel.net.bonding.arprcv import bond_rcv_validate
from nodes.cpu.kernel.net.bonding.arpstate import remap_targets
from nodes.cpu.kernel.net.netdevice import IFF_UP, NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import BondSettings

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.bonding.mode import Mode
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue import DelayedWork, Workqueue

BOND_LINK_UP, BOND_LINK_FAIL, BOND_LINK_DOWN, BOND_LINK_BACK = range(4)

#: What a port's ``recv_probe`` says: the frame goes its way; it ends here and the boot CPU's mode
#: gets it (``Mode.received``); it goes its way and the mode gets a copy.
PROBE_PASS, PROBE_CONSUMED, PROBE_COPY = range(3)

_LAST_RX = CPU_SCHEMA.index("slave_last_rx")


class BondPort:
    """What one CPU knows of a bond; the base has no slave to send on."""

    uses_primary: ClassVar[bool] = False  # its mode's
    clones: ClassVar[bool] = False  # some frames leave through several slaves: see ``others``
    #: Does the CPU look at each frame of a slave? Modes that do, and the ARP monitor, set it.
    probes: bool = False

    def __init__(self, dev: NetDevice) -> None:
        self.dev = dev
        self.active: NetDevice | None = None  # curr_active_slave
        self.slaves: list[NetDevice] = []  # in the order in which they were enslaved
        self.usable: list[NetDevice] = []  # link UP and state ACTIVE
        self.settings = BondSettings()
        self.extra: Any = ()  # what ``Mode.extra`` published
        self.backups: list[NetDevice] = []  # state BACKUP
        self.targets: list[bytes] = []  # arp_ip_target
        self.is_arp_slave: NetDevice | None = None  # current_arp_slave

    def configure(self, cpu: Cpu) -> None:
        """New values arrived."""

    def xmit_slave(self, cpu: Cpu, skb: SkBuff) -> NetDevice | None:
        """The slave that sends this frame, or the last of them."""
        return self.active

    def others(self, cpu: Cpu, skb: SkBuff) -> list[NetDevice]:
        """Slaves that get a copy before the frame itself goes to ``xmit_slave`` (``clones``)."""
        return []

    def passes(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> bool:
        """May the bond have this frame of an inactive slave all the same?"""
        return False

    def recv_probe(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> int:
        """A frame of ``slave``, before it becomes the bond's (``probes``, or the ARP monitor)."""
        if self.settings.arp_interval:
            bond_rcv_validate(cpu, self, skb, slave)
        return PROBE_PASS

    def note_rx(self, cpu: Cpu, slave: NetDevice) -> None:
        """A frame came for ``slave``: its last_rx, which the ARP monitor reads."""
        assert slave.nic is not None
        cpu.words[_LAST_RX + slave.nic] = cpu.jiffies()

    def promiscuous(self) -> list[NetDevice]:
        """bond_set_promiscuity: the active slave in modes with a primary, else all slaves."""
        if not self.uses_primary:
            return self.slaves
        return [self.active] if self.active is not None else []

    def can_send(self, slave: NetDevice) -> bool:
        """bond_slave_is_up: running, with carrier."""
        return slave.carrier and bool(slave.flags & IFF_UP)

    def first_usable(self, start: int) -> NetDevice | None:
        """From the slave with index ``start`` on, once around."""
        slaves, usable = self.slaves, self.usable
        for slave in slaves[start:] + slaves[:start]:
            if slave in usable and self.can_send(slave):
                return slave
        return None


#: Mode name -> its port; ``mode.bonding_mode`` fills it.
PORTS: dict[str, type[BondPort]] = {}


@replica("bond")
def apply_bond(cpu: Cpu, ifindex: int, value: tuple[Any, ...]) -> None:
    """The bond as the boot CPU has it now: see ``bond_publish``."""
    settings, active, arp_slave, slaves, extra = value
    devices = cpu.net.devices
    dev = devices[ifindex]
    port = dev.bonding
    kind = PORTS[settings[_MODE]]
    if type(port) is not kind:
        port = dev.bonding = kind(dev)
    for slave in port.slaves:
        slave.arpmon = slave.probed = False
    port.settings = BondSettings(*settings)
    port.active = devices.get(active)
    port.is_arp_slave = devices.get(arp_slave)
    present = [(devices[n], state) for n, state in slaves if n in devices]
    port.slaves = [slave for slave, _ in present]
    port.usable = [slave for slave, state in present if state & _USABLE]
    port.backups = [slave for slave, state in present if state & _BACKUP]
    port.extra = extra
    _set_targets(cpu, port)
    port.configure(cpu)
    arp = port.settings.arp_interval > 0
    for slave in port.slaves:
        slave.arpmon = arp and cpu.params.arp_last_tx == "trans_start"
        slave.probed = port.probes or arp


def _set_targets(cpu: Cpu, port: BondPort) -> None:
    targets = [packed_address(target) for target in port.settings.arp_ip_target]
    if targets != port.targets:
        for slave in port.slaves:
            remap_targets(cpu, slave, port.targets, targets)
        port.targets = targets


def packed_address(text: str) -> bytes:
    """A dotted IPv4 address that was checked."""
    return bytes(int(octet) for octet in text.split("."))


_USABLE, _BACKUP = 1, 2
_MODE = BondSettings._fields.index("mode")


def _state(slave: Slave) -> int:
    if slave.backup:
        return _BACKUP
    return _USABLE if slave.link == BOND_LINK_UP else 0


def bond_publish(cpu: Cpu, bond: Bonding) -> Context:
    """Tell every CPU what it needs of the bond."""
    active, arp_slave = bond.curr_active, bond.current_arp_slave
    value = (
        tuple(bond.settings),
        active.dev.ifindex if active is not None else 0,
        arp_slave.dev.ifindex if arp_slave is not None else 0,
        tuple((s.dev.ifindex, _state(s)) for s in bond.slaves),
        bond.mode.extra(),
    )
    yield from publish(cpu, "bond", bond.dev.ifindex, value)


class Slave:
    """struct slave."""

    def __init__(self, dev: NetDevice) -> None:
        self.dev = dev
        self.link = BOND_LINK_DOWN
        self.delay = 0  # ticks left in FAIL or BACK
        self.backup = False  # state: ACTIVE or BACKUP
        self.failure_count = 0
        self.perm_hwaddr = dev.dev_addr
        self.original_mtu = dev.mtu
        self.queue_id = 0
        self.speed = 0  # Mbps; 0 unknown
        self.stats_at_enslave = [0] * 16
        self.last_link_up = 0  # jiffies; ``jiffies`` in older kernels
        self.mode_info: Any = None  # what the mode keeps of it (ad_info, tlb_info)


class Bonding:
    """struct bonding, on the boot CPU."""

    mode: Mode

    def __init__(self, dev: NetDevice, settings: BondSettings) -> None:
        self.dev = dev
        self.settings = settings
        self.slaves: list[Slave] = []
        self.curr_active: Slave | None = None
        self.current_arp_slave: Slave | None = None
        self.force_primary = False  # the primary was just set: take it whatever reselect says
        self.mac_from_first = True
        self.peer_notifications = 0
        self.wq: Workqueue  # its monitors work here, one at a time
        self.work: DelayedWork | None = None  # mii_work
        self.arp_work: DelayedWork | None = None
        self.stats_base = [0] * 16  # what released slaves had gained (6.1)
        # delays are kept in looks of the monitor: another miimon changes their milliseconds
        miimon = settings.miimon
        self.updelay_ticks = settings.updelay // miimon if miimon else 0
        self.downdelay_ticks = settings.downdelay // miimon if miimon else 0
        self.peer_notif_ticks = settings.peer_notif_delay // miimon if miimon else 0

    def primary(self) -> Slave | None:
        return next((s for s in self.slaves if s.dev.name == self.settings.primary), None)
