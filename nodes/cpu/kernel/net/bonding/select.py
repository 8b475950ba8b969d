"""The active slave: which one is best, making it active, telling the neighbours; the carrier.

Behaviours: ``best_slave``: *running-primary* (2.6.18: the search begins at the primary if its
device runs, whatever bonding thinks of its link), *reselect* (3.10: at the primary if it is UP and
primary_reselect lets it), *list-order* (6.1: primary or current one, else the list from its
beginning); ``peer_notification`` (who sends which gratuitous ARP at a failover).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.arp import ARPOP_REPLY, ARPOP_REQUEST, arp_send
from nodes.cpu.kernel.net.bonding import arpstate
from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_BACK,
    BOND_LINK_UP,
    Bonding,
    Slave,
    bond_publish,
)
from nodes.cpu.kernel.net.bonding.failovermac import do_fail_over_mac
from nodes.cpu.kernel.net.bonding.log import LOG, bond_log
from nodes.cpu.kernel.net.eth import BROADCAST_MAC
from nodes.cpu.kernel.net.netdevice import (
    IFF_PROMISC,
    IFF_UP,
    NETDEV_CHANGE,
    NETDEV_UP,
    NetDevice,
)
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_PRESENT = CPU_SCHEMA.index("bond_present")
_MODE = CPU_SCHEMA.index("bond_mode")
_ACTIVE = CPU_SCHEMA.index("bond_active")
_MIIMON = CPU_SCHEMA.index("bond_miimon_ms")
_LINK = CPU_SCHEMA.index("bond_slave_link")
_FAILURES = CPU_SCHEMA.index("bond_failures")


# ---------------------------------------------------------------- states


def set_state(cpu: Cpu, bond: Bonding, slave: Slave, *, active: bool) -> Context:
    """bond_set_slave_active_flags, bond_set_slave_inactive_flags."""
    if active:
        slave.backup = slave.dev.inactive = False
    else:
        slave.backup = slave.backup or bond.mode.inactive_is_backup
        slave.dev.inactive = not bond.settings.all_slaves_active
    yield from device.changed(cpu, slave.dev)


def update_speed_duplex(slave: Slave) -> bool:
    """bond_update_speed_duplex: ask the driver; False if it does not know."""
    dev, adapter = slave.dev, slave.dev.adapter
    known = adapter is not None and dev.carrier and not adapter.removed
    slave.speed = adapter.service.link_speed if adapter is not None and known else 0
    return slave.speed > 0


def bond_slave_netdev_event(cpu: Cpu, dev: NetDevice, event: int) -> None:
    """NETDEV_UP and NETDEV_CHANGE of a slave: its speed may be another one."""
    if event not in (NETDEV_UP, NETDEV_CHANGE) or dev.master is None:
        return
    bond = cpu.net.bonds.get(dev.master.name)
    for slave in bond.slaves if bond is not None else []:
        if slave.dev is dev and bond is not None:
            update_speed_duplex(slave)
            bond.mode.speed_changed(cpu, slave)


def is_up(slave: Slave) -> bool:
    """bond_slave_is_up: IS_UP of the device."""
    return bool(slave.dev.flags & IFF_UP) and slave.dev.carrier


# ---------------------------------------------------------------- which one


def find_best_slave(cpu: Cpu, bond: Bonding) -> Slave | None:
    """bond_find_best_slave: an UP one, in the era's order, else the one that is nearest to it."""
    how = cpu.params.best_slave
    if how == "list-order":
        chosen = _primary_or_current(bond)
        if chosen is not None:
            return chosen
        return _scan(bond, bond.slaves, running=False)
    primary = bond.primary()
    start = bond.curr_active or (bond.slaves[0] if bond.slaves else None)
    if start is None:
        return None
    if how == "running-primary":
        if primary is not None and not bond.settings.arp_interval and is_up(primary):
            start = primary
    elif primary is not None and primary.link == BOND_LINK_UP and _should_change(bond, primary):
        start = primary
    if start not in bond.slaves:  # it is being released
        start = bond.slaves[0]
    at = bond.slaves.index(start)
    order = bond.slaves[at:] + bond.slaves[:at]
    return _scan(bond, order, running=how == "running-primary")


def _scan(bond: Bonding, order: list[Slave], *, running: bool) -> Slave | None:
    best, mintime = None, bond.updelay_ticks
    for slave in order:
        if slave.link == BOND_LINK_UP and (is_up(slave) or not running):
            return slave
        if slave.link == BOND_LINK_BACK and is_up(slave) and slave.delay < mintime:
            best, mintime = slave, slave.delay
    return best


def _should_change(bond: Bonding, primary: Slave) -> bool:
    """bond_should_change_active: the primary is UP; may it take over?"""
    current = bond.curr_active
    if bond.force_primary:
        bond.force_primary = False
        return True
    if current is None or current.link != BOND_LINK_UP:
        return True
    reselect = bond.settings.primary_reselect
    if reselect == "better":
        return primary.speed > current.speed
    return reselect == "always" or primary is current


def _primary_or_current(bond: Bonding) -> Slave | None:
    """bond_choose_primary_or_current (slave priorities are all 0: only netlink sets them)."""
    primary, current = bond.primary(), bond.curr_active
    if primary is not None and primary.link == BOND_LINK_UP:
        return primary if _should_change(bond, primary) else current
    return current if current is not None and current.link == BOND_LINK_UP else None


def bond_select_active_slave(cpu: Cpu, bond: Bonding) -> Context:
    """Choose the best slave; the bond's carrier follows, and its two log lines."""
    best = find_best_slave(cpu, bond)
    if best is bond.curr_active:
        return
    yield from bond_change_active_slave(cpu, bond, best)
    if (yield from bond_set_carrier(cpu, bond)):
        bond_log(cpu, bond, LOG.carrier_on if bond.dev.carrier else LOG.carrier_off, None)


def bond_set_carrier(cpu: Cpu, bond: Bonding) -> Context:
    """Carrier of the bond, as its mode has it. Returns whether it changed."""
    up = bool(bond.slaves) and bond.mode.has_carrier(cpu)
    if up == bond.dev.carrier:
        return bond.mode.tells_carrier(cpu)
    if up:
        yield from device.carrier_on(cpu, bond.dev)
    else:
        yield from device.carrier_off(cpu, bond.dev)
    return True


#: f(cpu, bond, slave, new): the slave is definitely in that state; returns whether it asks for
#: another active slave.
Commit = Callable[["Cpu", Bonding, Slave, int], Context]


def bond_commit(
    cpu: Cpu, bond: Bonding, proposed: list[tuple[Slave, int]], commit: Commit
) -> Context:
    """bond_miimon_commit, bond_ab_arp_commit: what a monitor found; then the active slave
    (behaviour ``commit_failover``: *at-once* for each slave that asks, or *after-all*) and the
    carrier."""
    failover = False
    for slave, new in proposed:
        if (yield from commit(cpu, bond, slave, new)):
            failover = cpu.params.commit_failover == "after-all"
            if not failover:
                yield from bond_select_active_slave(cpu, bond)
    if failover:
        yield from bond_select_active_slave(cpu, bond)
    yield from bond_publish(cpu, bond)
    yield from bond_set_carrier(cpu, bond)


# ---------------------------------------------------------------- the change


def bond_change_active_slave(cpu: Cpu, bond: Bonding, new: Slave | None) -> Context:
    """Make ``new`` the active one, with everything that follows from it."""
    old = bond.curr_active
    if new is old:
        return
    if new is not None:
        yield from _log_new(cpu, bond, new)
    if bond.mode.uses_primary and bond.dev.flags & IFF_PROMISC:  # bond_hw_addr_swap
        if old is not None:
            device.dev_set_promiscuity(cpu, old.dev, -1)
        if new is not None:
            device.dev_set_promiscuity(cpu, new.dev, 1)
    bond.curr_active = new
    if bond.mode.uses_primary:
        if old is not None:
            yield from set_state(cpu, bond, old, active=False)
        if new is not None:
            yield from set_state(cpu, bond, new, active=True)
    yield from bond.mode.active_change(cpu, new, old)
    if bond.settings.fail_over_mac != "none" and bond.settings.mode == "active-backup":
        yield from do_fail_over_mac(cpu, bond, new, old)
    yield from bond_publish(cpu, bond)
    if new is not None and bond.settings.mode == "active-backup":
        yield from _announce(cpu, bond)
    show(cpu, bond)


def _log_new(cpu: Cpu, bond: Bonding, new: Slave) -> Context:
    """One that is on its way back is UP from now on."""
    if new.link == BOND_LINK_BACK:
        ms = (bond.updelay_ticks - new.delay) * bond.settings.miimon
        if bond.mode.uses_primary:
            bond_log(cpu, bond, LOG.new_active_earlier, new.dev, ms=ms)
        new.delay = 0
        new.link = BOND_LINK_UP
        arpstate.set_last_link_up(cpu, new)
        yield from bond.mode.link_change(cpu, new, BOND_LINK_UP)
        return
    if cpu.params.new_active_time == "now":
        arpstate.set_last_link_up(cpu, new)
    if bond.mode.uses_primary:
        bond_log(cpu, bond, LOG.new_active, new.dev)


# ---------------------------------------------------------------- announcements


def _announce(cpu: Cpu, bond: Bonding) -> Context:
    """A new active slave: 2.6.18 says so once and at once; later kernels as often as they were
    asked to, the first time now if they may, then once a tick (6.1: every peer_notif_delay)."""
    settings = bond.settings
    if cpu.params.peer_notification == "reply-on-slave":
        bond.peer_notifications = 1
    else:
        bond.peer_notifications = settings.num_grat_arp * max(1, bond.peer_notif_ticks)
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
    if peer_notification_waits(bond):
        return False
    return bond.curr_active.dev not in cpu.net.linkwatch.pending  # LINKWATCH_PENDING


def peer_notification_waits(bond: Bonding) -> bool:
    """Between two announcements that peer_notif_delay keeps apart."""
    return bool(bond.peer_notifications % max(1, bond.peer_notif_ticks))


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
    words[_MODE] = bond.mode.number
    words[_MIIMON] = bond.settings.miimon
    active = bond.curr_active
    words[_ACTIVE] = 0 if active is None or active.dev.nic is None else active.dev.nic + 1
    for nic in range(len(cpu.machine.nics)):
        words[_LINK + nic] = 0
    for slave in bond.slaves:
        if slave.dev.nic is not None:
            words[_LINK + slave.dev.nic] = slave.link + 1
            words[_FAILURES + slave.dev.nic] = slave.failure_count
