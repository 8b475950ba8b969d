"""2.6.18's ARP monitor of active-backup: one pass that looks, changes and probes.

Ages are compared as they are, without half an interval of grace, and what a slave received counts
against it only if the bond has an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.jiffies import msecs_to_jiffies, signed_difference
from nodes.cpu.kernel.net.bonding import arpstate
from nodes.cpu.kernel.net.bonding.arpsend import bond_arp_send_all, bond_has_ip
from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_BACK,
    BOND_LINK_DOWN,
    BOND_LINK_UP,
    Bonding,
    Slave,
    bond_publish,
)
from nodes.cpu.kernel.net.bonding.log import LOG, bond_log
from nodes.cpu.kernel.net.bonding.select import (
    bond_change_active_slave,
    bond_select_active_slave,
    bond_set_carrier,
    is_up,
    set_state,
)
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def excused(cpu: Cpu, bond: Bonding) -> bool:
    """Silence is no fault of a slave that nobody can answer."""
    return cpu.params.arp_monitor == "one-pass" and not bond_has_ip(cpu, bond)


def bond_activebackup_arp_mon(cpu: Cpu, bond: Bonding) -> Context:
    delta = msecs_to_jiffies(cpu, bond.settings.arp_interval)
    for slave in bond.slaves:
        yield from _look(cpu, bond, slave, delta)
    active = bond.curr_active
    if active is not None:
        active = yield from _look_at_active(cpu, bond, active, delta)
        if active is not None and bond_has_ip(cpu, bond):
            yield from bond_arp_send_all(cpu, bond, active)
    if active is None:
        yield from _try_next(cpu, bond)
    yield from bond_publish(cpu, bond)


def _age(cpu: Cpu, time: int) -> int:
    return signed_difference(cpu.jiffies(), time)


def _look(cpu: Cpu, bond: Bonding, slave: Slave, delta: int) -> Context:
    """Has it come up? Is a backup down?"""
    silent = _age(cpu, arpstate.last_rx(cpu, slave.dev))
    if slave.link != BOND_LINK_UP:
        if silent > delta:
            return
        slave.link = BOND_LINK_UP
        if bond.curr_active is None and _age(cpu, arpstate.last_tx(cpu, slave.dev)) <= delta:
            yield from bond_change_active_slave(cpu, bond, slave)
            bond.current_arp_slave = None
        elif bond.curr_active is not slave:
            yield from set_state(cpu, bond, slave, active=False)
            bond.current_arp_slave = None
        yield from bond_set_carrier(cpu, bond)
        event = LOG.old_active_up if slave is bond.curr_active else LOG.old_backup_up
        bond_log(cpu, bond, event, slave.dev)
    elif (
        slave is not bond.curr_active
        and bond.current_arp_slave is None
        and silent >= 3 * delta
        and bond_has_ip(cpu, bond)
    ):
        yield from _down(cpu, bond, slave)
        bond_log(cpu, bond, LOG.old_backup_down, slave.dev)


def _down(cpu: Cpu, bond: Bonding, slave: Slave) -> Context:
    slave.link = BOND_LINK_DOWN
    slave.failure_count += 1
    yield from set_state(cpu, bond, slave, active=False)


def _look_at_active(cpu: Cpu, bond: Bonding, active: Slave, delta: int) -> Context:
    """The active slave after this look."""
    unsent = _age(cpu, arpstate.last_tx(cpu, active.dev)) >= 2 * delta
    unheard = _age(cpu, arpstate.last_rx(cpu, active.dev)) >= 2 * delta and bond_has_ip(cpu, bond)
    old_enough = _age(cpu, arpstate.last_link_up(cpu, active.dev)) >= 2 * delta
    primary = bond.primary()
    if (unsent or unheard) and old_enough:
        active.link = BOND_LINK_DOWN
        active.failure_count += 1
        bond_log(cpu, bond, LOG.old_active_down, active.dev)
        yield from bond_select_active_slave(cpu, bond)
        bond.current_arp_slave = bond.curr_active
        if bond.curr_active is not None:
            arpstate.set_last_link_up(cpu, bond.curr_active)
        return bond.curr_active
    if primary is not None and primary is not active and primary.link == BOND_LINK_UP:
        bond_log(cpu, bond, LOG.old_to_primary, active.dev, primary=primary.dev.name)
        yield from bond_change_active_slave(cpu, bond, primary)
        arpstate.set_last_link_up(cpu, primary)
        return primary
    bond.current_arp_slave = None
    return active


def _try_next(cpu: Cpu, bond: Bonding) -> Context:
    """No slave is active: the next one that runs is tried."""
    tried = bond.current_arp_slave or bond.slaves[0]
    yield from set_state(cpu, bond, tried, active=False)
    bond.current_arp_slave = tried
    at = bond.slaves.index(tried) + 1
    for slave in bond.slaves[at:] + bond.slaves[:at]:
        if is_up(slave):
            slave.link = BOND_LINK_BACK
            yield from set_state(cpu, bond, slave, active=True)
            bond.current_arp_slave = slave
            arpstate.set_last_link_up(cpu, slave)
            yield from bond_publish(cpu, bond)
            yield from bond_arp_send_all(cpu, bond, slave)
            return
        if slave.link == BOND_LINK_UP:
            yield from _down(cpu, bond, slave)
            bond_log(cpu, bond, LOG.old_backup_down, slave.dev)
