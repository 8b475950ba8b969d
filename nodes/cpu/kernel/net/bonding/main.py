"""bonding in mode active-backup with the MII monitor, after drivers/net/bonding/bond_main.c.

Enslave, release, choose and change the active slave, tell the neighbours. Behaviours:
``peer_notification`` (who sends which gratuitous ARP at a failover), ``log_format``. Everything
runs in tasks of the boot CPU under RTNL; what other CPUs need is published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.arp import ARPOP_REPLY, ARPOP_REQUEST, arp_send
from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_BACK,
    BOND_LINK_DOWN,
    BOND_LINK_UP,
    BOND_MODE_ACTIVEBACKUP,
    Bonding,
    Slave,
)
from nodes.cpu.kernel.net.bonding.log import LOG, bond_log
from nodes.cpu.kernel.net.netdevice import (
    BROADCAST_MAC,
    IFF_MASTER,
    IFF_PROMISC,
    IFF_SLAVE,
    IFF_UP,
    NetDevice,
)
from nodes.cpu.kernel.net.stats import device_stats
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish
from nodes.cpu.kernel.workqueue import create_singlethread_workqueue
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import BondSettings

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_PRESENT = CPU_SCHEMA.index("bond_present")
_MODE = CPU_SCHEMA.index("bond_mode")
_ACTIVE = CPU_SCHEMA.index("bond_active")
_MIIMON = CPU_SCHEMA.index("bond_miimon_ms")
_LINK = CPU_SCHEMA.index("bond_slave_link")
_FAILURES = CPU_SCHEMA.index("bond_failures")


def bond_create(cpu: Cpu, settings: BondSettings) -> Context:
    """A new bond device, up, without slaves; returns its ``Bonding``."""
    dev = NetDevice(device.new_ifindex(cpu), settings.name, _first_mac(cpu), None)
    dev.flags |= IFF_MASTER | IFF_UP
    dev.qdisc_active = True  # noqueue
    bond = Bonding(dev, settings)
    bond.wq = yield from create_singlethread_workqueue(cpu, settings.name)
    cpu.net.bonds[settings.name] = bond
    yield from device.register_netdevice(cpu, dev)
    yield from publish(cpu, "bond", dev.ifindex, 0)
    if _slave_gone not in cpu.net.unregister_listeners:
        cpu.net.unregister_listeners.append(_slave_gone)
    show(cpu, bond)
    return bond


def _first_mac(cpu: Cpu) -> bytes:
    """Address of a bond without slaves."""
    if cpu.params.bond_mac_before_slaves == "zero":
        return bytes(6)
    return bytes((cpu.rng.randrange(256) & 0xFC | 0x02, *(cpu.rng.randbytes(5))))


def bond_enslave(cpu: Cpu, bond: Bonding, dev: NetDevice) -> Context:
    """Make ``dev`` a slave: bond's MAC, open it, initial link state, maybe active."""
    adapter = dev.adapter
    assert adapter is not None
    slave = Slave(dev)
    slave.stats_at_enslave = device_stats(cpu, dev)
    if bond.mac_from_first and not bond.slaves:
        bond.dev.dev_addr = dev.dev_addr
        bond.mac_from_first = False
        yield from device.changed(cpu, bond.dev)
    dev.dev_addr = bond.dev.dev_addr
    dev.flags |= IFF_SLAVE
    dev.inactive = True
    error: int = yield from device.dev_open(cpu, dev, lambda: ixgbe.open_(cpu, adapter))
    if error:
        dev.flags &= ~IFF_SLAVE
        dev.inactive = False
        dev.dev_addr = slave.perm_hwaddr
        yield from device.changed(cpu, dev)
        return error
    dev.master = bond.dev
    carrier = dev.carrier or not bond.settings.miimon
    slave.link = BOND_LINK_DOWN
    if carrier:
        slave.link = BOND_LINK_BACK if bond.updelay_ticks else BOND_LINK_UP
        slave.delay = bond.updelay_ticks
    bond.slaves.append(slave)
    yield from device.changed(cpu, dev)
    state = "an up" if slave.link == BOND_LINK_UP else "a down"
    bond_log(cpu, bond, LOG.enslaving, slave.dev, state=state)
    yield from bond_select_active_slave(cpu, bond)
    show(cpu, bond)
    return 0


def bond_release(cpu: Cpu, bond: Bonding, slave: Slave) -> Context:
    """The slave leaves the bond."""
    dev = slave.dev
    _log_release(cpu, bond, slave)
    if cpu.params.bond_stats == "since-enslaved":  # the bond keeps what its slave had gained
        now = device_stats(cpu, dev)
        for i, start in enumerate(slave.stats_at_enslave):
            bond.stats_base[i] += max(0, now[i] - start)
    bond.slaves.remove(slave)
    was_active = slave is bond.curr_active
    if was_active:
        yield from bond_change_active_slave(cpu, bond, None)
    dev.master = None
    dev.inactive = False
    dev.flags &= ~IFF_SLAVE
    dev.dev_addr = slave.perm_hwaddr
    yield from device.changed(cpu, dev)
    if was_active:
        yield from bond_select_active_slave(cpu, bond)
    if not bond.slaves:  # silently: nothing is left to select
        yield from bond_set_carrier(cpu, bond)
        bond.dev.dev_addr = _first_mac(cpu)
        bond.mac_from_first = True
        yield from device.changed(cpu, bond.dev)
    show(cpu, bond)


def _log_release(cpu: Cpu, bond: Bonding, slave: Slave) -> None:
    """Later kernels set it inactive first, so it is always a backup, and warn about its address
    after that line, not before."""
    dev, late = slave.dev, cpu.params.release_role == "inactive-first"
    role = "active" if slave is bond.curr_active and not late else "backup"
    if late:
        bond_log(cpu, bond, LOG.releasing, dev, role=role)
    if slave.perm_hwaddr == bond.dev.dev_addr and len(bond.slaves) > 1:
        mac = slave.perm_hwaddr.hex(":")
        mac = mac.upper() if cpu.params.log_format == "2.6.18" else mac
        bond_log(cpu, bond, LOG.hwaddr_in_use, dev, mac=mac, master=bond.dev.name)
    if not late:
        bond_log(cpu, bond, LOG.releasing, dev, role=role)


def _slave_gone(cpu: Cpu, dev: NetDevice) -> Context:
    """NETDEV_UNREGISTER."""
    for bond in cpu.net.bonds.values():
        for slave in list(bond.slaves):
            if slave.dev is dev:
                yield from bond_release(cpu, bond, slave)


# ---------------------------------------------------------------- the active slave


def _find_best_slave(bond: Bonding) -> Slave | None:
    """The primary if it is up, else the current one, else the first that is up; one that is on its
    way back if nothing is."""
    primary = bond.primary()
    if primary is not None and primary.link == BOND_LINK_UP:
        return primary
    if bond.curr_active is not None and bond.curr_active.link == BOND_LINK_UP:
        return bond.curr_active
    best: Slave | None = None
    for slave in bond.slaves:
        if slave.link == BOND_LINK_UP:
            return slave
        sooner = best is None or slave.delay < best.delay
        if slave.link == BOND_LINK_BACK and slave.delay < bond.updelay_ticks and sooner:
            best = slave
    return best


def bond_select_active_slave(cpu: Cpu, bond: Bonding) -> Context:
    """Choose the best slave; the bond's carrier follows, and its two log lines."""
    best = _find_best_slave(bond)
    if best is bond.curr_active:
        return
    yield from bond_change_active_slave(cpu, bond, best)
    if (yield from bond_set_carrier(cpu, bond)):
        bond_log(cpu, bond, LOG.carrier_on if bond.dev.carrier else LOG.carrier_off, None)


def bond_change_active_slave(cpu: Cpu, bond: Bonding, new: Slave | None) -> Context:
    """Make ``new`` the active one, with everything that follows from it."""
    old = bond.curr_active
    if new is old:
        return
    if new is not None:
        if new.link == BOND_LINK_BACK:
            miimon = bond.settings.miimon
            waited = (bond.updelay_ticks - new.delay) * miimon
            bond_log(cpu, bond, LOG.new_active_earlier, new.dev, ms=waited)
            new.delay = 0
            new.link = BOND_LINK_UP
        else:
            bond_log(cpu, bond, LOG.new_active, new.dev)
    bond.curr_active = new
    if bond.dev.flags & IFF_PROMISC:  # bond_hw_addr_swap
        if old is not None:
            device.dev_set_promiscuity(cpu, old.dev, -1)
        if new is not None:
            device.dev_set_promiscuity(cpu, new.dev, 1)
    if old is not None:
        old.dev.inactive = True
        yield from device.changed(cpu, old.dev)
    if new is not None:
        new.dev.inactive = False
        yield from device.changed(cpu, new.dev)
    yield from publish(cpu, "bond", bond.dev.ifindex, new.dev.ifindex if new is not None else 0)
    if new is not None:
        yield from _announce(cpu, bond)
    show(cpu, bond)


def bond_set_carrier(cpu: Cpu, bond: Bonding) -> Context:
    """Carrier of the bond: some slave is up. Returns whether it changed."""
    up = any(slave.link == BOND_LINK_UP for slave in bond.slaves)
    if up == bond.dev.carrier:
        return False
    if up:
        yield from device.carrier_on(cpu, bond.dev)
    else:
        yield from device.carrier_off(cpu, bond.dev)
    return True


def _announce(cpu: Cpu, bond: Bonding) -> Context:
    """A new active slave: 2.6.18 says so once and at once; later kernels as often as they were
    asked to, the first time now if they may, then once a tick."""
    how = cpu.params.peer_notification
    bond.peer_notifications = 1 if how == "reply-on-slave" else bond.settings.num_grat_arp
    if should_notify_peers(cpu, bond):
        bond.peer_notifications -= 1
        yield from notify_peers(cpu, bond)


def should_notify_peers(cpu: Cpu, bond: Bonding) -> bool:
    """bond_should_notify_peers."""
    if bond.curr_active is None or bond.peer_notifications <= 0:
        return False
    how = cpu.params.peer_notification
    if how == "reply-on-slave":
        return True
    if how == "request-with-carrier" and not bond.dev.carrier:
        return False
    return bond.curr_active.dev not in cpu.net.linkwatch.pending  # LINKWATCH_PENDING


def notify_peers(cpu: Cpu, bond: Bonding) -> Context:
    """One gratuitous ARP for each address of the bond."""
    if bond.curr_active is None:
        return
    mac = bond.dev.dev_addr
    on_slave = cpu.params.peer_notification == "reply-on-slave"
    for address, ifindex in list(cpu.net.addresses.items()):
        if ifindex != bond.dev.ifindex:
            continue
        operation = ARPOP_REPLY if on_slave else ARPOP_REQUEST
        target_mac = mac if on_slave else bytes(6)
        out = bond.curr_active.dev if on_slave else bond.dev
        me = (mac, address)
        yield from arp_send(cpu, operation, me, (target_mac, address), BROADCAST_MAC, out)


def show(cpu: Cpu, bond: Bonding) -> None:
    """Write what the overview shows."""
    words = cpu.words
    words[_PRESENT] = 1
    words[_MODE] = BOND_MODE_ACTIVEBACKUP
    words[_MIIMON] = bond.settings.miimon
    active = bond.curr_active
    words[_ACTIVE] = 0 if active is None or active.dev.nic is None else active.dev.nic + 1
    for nic in range(len(cpu.machine.nics)):
        words[_LINK + nic] = 0
    for slave in bond.slaves:
        if slave.dev.nic is not None:
            words[_LINK + slave.dev.nic] = slave.link + 1
            words[_FAILURES + slave.dev.nic] = slave.failure_count
