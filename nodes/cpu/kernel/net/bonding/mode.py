"""What a bonding mode is: the hooks by which bonding's core calls it. One file a mode.

A ``Mode`` belongs to one bond on the boot CPU; its ``BondPort`` class runs on every CPU. Hooks that
return a ``Context`` run in tasks of the boot CPU under RTNL and may sleep; the core publishes the
bond (``bond_publish``) after it called one, so a mode publishes only what changes at other times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from nodes.cpu.kernel.net.bonding.bond import BOND_LINK_UP, PORTS, Bonding, BondPort, Slave
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


class Mode:
    """Base: the hooks, doing nothing."""

    name: ClassVar[str]
    number: ClassVar[int]
    long_name: ClassVar[str]  # of /proc/net/bonding
    port: ClassVar[type[BondPort]]
    uses_primary: ClassVar[bool] = False  # has one active slave: modes 1, 5, 6
    starts_active: ClassVar[bool] = True  # a new slave's state is ACTIVE
    starts_inactive: ClassVar[bool] = False  # and it does not receive: modes 1, 4, 5, 6
    inactive_is_backup: ClassVar[bool] = True  # not in TLB and ALB: inactive slaves send, too
    miimon_forced: ClassVar[bool] = False  # needs the MII monitor
    needs_speed: ClassVar[bool] = False  # a link of unknown speed cannot come up
    arp_monitor: ClassVar[bool] = True  # may have the ARP monitor
    hashes: ClassVar[bool] = False  # chooses by xmit_hash_policy

    def __init__(self, bond: Bonding) -> None:
        self.bond = bond

    # -- slaves come and go

    def enslave(self, cpu: Cpu, slave: Slave) -> Context:
        """``slave`` is in ``bond.slaves``, open, with its first link state; set what is the mode's.
        Its state is what ``starts_active`` and ``starts_inactive`` say already."""
        yield from ()

    def unbind(self, cpu: Cpu, slave: Slave) -> Context:
        """It is about to leave, nothing is said yet (bond_3ad_unbind_slave)."""
        yield from ()

    def release(self, cpu: Cpu, slave: Slave) -> Context:
        """It leaves (still in ``bond.slaves``, not active any more); the core chooses another
        active slave after it (bond_alb_deinit_slave)."""
        yield from ()

    # -- what happens to them

    def link_change(self, cpu: Cpu, slave: Slave, link: int) -> Context:
        """bond_miimon_link_change: a monitor committed UP or DOWN (``slave.link`` is it)."""
        yield from ()

    def active_change(self, cpu: Cpu, new: Slave | None, old: Slave | None) -> Context:
        """curr_active is ``new`` now; the core moved promiscuity, flags and told nobody yet."""
        yield from ()

    def speed_changed(self, cpu: Cpu, slave: Slave) -> None:
        """``slave.speed`` was read again (0: unknown)."""

    def backup_after_up(self, slave: Slave) -> bool:
        """State of a slave whose link was committed UP: BACKUP?"""
        return False

    def has_carrier(self, cpu: Cpu) -> bool:
        """bond_set_carrier: does the bond have its carrier?"""
        return any(slave.link == BOND_LINK_UP for slave in self.bond.slaves)

    def tells_carrier(self, cpu: Cpu) -> bool:
        """bond_set_carrier found nothing to change: does it say all the same that it did?"""
        return False

    # -- the bond itself

    def open(self, cpu: Cpu) -> Context:
        """bond_open: start works of the mode's own (on ``bond.wq``)."""
        yield from ()

    def close(self, cpu: Cpu) -> Context:
        """bond_close, or another mode is set: stop them."""
        yield from ()

    def option_changed(self, cpu: Cpu, name: str) -> Context:
        """``bond.settings`` has a new value of this option."""
        yield from ()

    # -- frames

    def received(self, cpu: Cpu, skb: SkBuff, slave: NetDevice) -> Context:
        """A frame that the port's ``recv_probe`` consumed or copied; on the boot CPU, in a softirq
        and without RTNL: it must not sleep."""
        yield from ()

    def extra(self) -> Any:
        """What every CPU's port gets as ``extra``: plain values, small."""
        return ()

    # -- files

    def snapshot(self, cpu: Cpu) -> dict[str, Any]:
        """Plain values for /proc and /sys: ``boot["bonds"][NAME]["info"]``."""
        return {}

    def slave_snapshot(self, cpu: Cpu, slave: Slave) -> dict[str, Any]:
        """The same of a slave: ``["slaves"][n]["info"]``."""
        return {}


#: Name -> mode, in the order of their numbers once ``modes`` is imported.
MODES: dict[str, type[Mode]] = {}


def bonding_mode(port: type[BondPort]) -> Callable[[type[Mode]], type[Mode]]:
    """Register a mode with the class of its ports."""

    def register(mode: type[Mode]) -> type[Mode]:
        mode.port = port
        port.uses_primary = mode.uses_primary
        MODES[mode.name] = mode
        PORTS[mode.name] = port
        return mode

    return register
