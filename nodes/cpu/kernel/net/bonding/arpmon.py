"""The ARP monitor: every arp_interval ms look when slaves last sent and received, and probe.

``bond_loadbalance_arp_mon`` for balance-rr, balance-xor and broadcast;
``bond_activebackup_arp_mon`` in its later shape (3.10, 6.1): inspect, commit under RTNL, probe.
2.6.18's, which does all in one pass, is ``arpmon_old`` (behaviour ``arp_monitor``).

Windows: something counts for ``mod`` intervals after it happened, and half an interval more where
``arp_half_interval`` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.jiffies import msecs_to_jiffies
from nodes.cpu.kernel.net.bonding import arpmon_old, arpstate
from nodes.cpu.kernel.net.bonding.arpsend import bond_arp_send_all
from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_BACK,
    BOND_LINK_DOWN,
    BOND_LINK_FAIL,
    BOND_LINK_UP,
    Bonding,
    Slave,
    bond_publish,
)
from nodes.cpu.kernel.net.bonding.log import LOG, bond_log
from nodes.cpu.kernel.net.bonding.select import (
    bond_commit,
    bond_select_active_slave,
    is_up,
    notify_peers,
    set_state,
    should_notify_peers,
    show,
)
from nodes.cpu.kernel.net.netdevice import IFF_UP
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.workqueue import (
    INIT_DELAYED_WORK,
    cancel_delayed_work,
    queue_delayed_work,
)

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def start(cpu: Cpu, bond: Bonding) -> Context:
    if bond.arp_work is None:
        bond.arp_work = INIT_DELAYED_WORK(
            cpu, words.ARP_WORK, "bond_arp_monitor", lambda cpu: _monitor(cpu, bond)
        )
    yield from queue_delayed_work(cpu, bond.wq, bond.arp_work, 0)


def stop(cpu: Cpu, bond: Bonding) -> Context:
    if bond.arp_work is not None:
        yield from cancel_delayed_work(cpu, bond.arp_work)


def _monitor(cpu: Cpu, bond: Bonding) -> Context:
    interval = bond.settings.arp_interval
    if not interval or not bond.dev.flags & IFF_UP:
        return
    delay = msecs_to_jiffies(cpu, interval)
    if bond.slaves:
        if bond.settings.mode != "active-backup":
            yield from _loadbalance(cpu, bond)
        elif cpu.params.arp_monitor == "one-pass":
            yield from arpmon_old.bond_activebackup_arp_mon(cpu, bond)
        elif not (yield from _activebackup(cpu, bond)):
            delay = 1
    show(cpu, bond)
    assert bond.arp_work is not None
    yield from queue_delayed_work(cpu, bond.wq, bond.arp_work, delay)


# ---------------------------------------------------------------- modes without a primary


def _loadbalance(cpu: Cpu, bond: Bonding) -> Context:
    """bond_loadbalance_arp_mon: what neither sends nor receives is down. All links must send, so
    that all can receive."""
    half = cpu.params.arp_half_interval == "always"
    missed = bond.settings.arp_missed_max
    failover = changed = False
    for slave in bond.slaves:
        times = arpstate.last_tx(cpu, slave.dev), arpstate.last_rx(cpu, slave.dev)
        if slave.link != BOND_LINK_UP:
            if all(arpstate.in_interval(cpu, bond.settings, t, 1, half=half) for t in times):
                slave.link, changed = BOND_LINK_UP, True
                slave.backup = False
                if bond.curr_active is None:
                    bond_log(cpu, bond, LOG.arp_first_up, slave.dev)
                    failover = True
                else:
                    bond_log(cpu, bond, LOG.arp_up, slave.dev)
        elif not _alive(cpu, bond, times, missed, half=half):
            slave.link, changed = BOND_LINK_DOWN, True
            slave.backup = True
            slave.failure_count += 1
            bond_log(cpu, bond, LOG.arp_down, slave.dev)
            failover = failover or slave is bond.curr_active
        if is_up(slave):
            yield from bond_arp_send_all(cpu, bond, slave)
    if changed:
        yield from cpu.net.rtnl.lock(cpu)
        yield from bond_publish(cpu, bond)
        if failover:
            yield from bond_select_active_slave(cpu, bond)
        cpu.net.rtnl.unlock(cpu)


def _alive(cpu: Cpu, bond: Bonding, times: tuple[int, int], mod: int, *, half: bool) -> bool:
    """2.6.18 minds what it received only if the bond has an address to be answered at."""
    sent, received = times
    if not arpstate.in_interval(cpu, bond.settings, sent, mod, half=half):
        return False
    return arpstate.in_interval(cpu, bond.settings, received, mod, half=half) or arpmon_old.excused(
        cpu, bond
    )


# ---------------------------------------------------------------- active-backup


def _activebackup(cpu: Cpu, bond: Bonding) -> Context:
    """bond_activebackup_arp_mon; False if RTNL was taken: again a jiffy later."""
    owed = should_notify_peers(cpu, bond)
    commit = [(slave, new) for slave in bond.slaves for new in _inspect(cpu, bond, slave)]
    if commit:
        if not cpu.net.rtnl.trylock():
            return False
        yield from bond_commit(cpu, bond, commit, _commit)
        cpu.net.rtnl.unlock(cpu)
    yield from _probe(cpu, bond)
    if owed and cpu.net.rtnl.trylock():
        bond.peer_notifications -= 1
        yield from notify_peers(cpu, bond)
        cpu.net.rtnl.unlock(cpu)
    return True


def _inspect(cpu: Cpu, bond: Bonding, slave: Slave) -> list[int]:
    """bond_ab_arp_inspect: the state that is proposed, if any."""
    settings, missed = bond.settings, bond.settings.arp_missed_max
    received = arpstate.slave_last_rx(cpu, bond, slave)

    def within(time: int, mod: int) -> bool:
        return arpstate.in_interval(cpu, settings, time, mod, half=True)

    if slave.link != BOND_LINK_UP:
        if within(received, 1):
            return [BOND_LINK_UP]
        failed = slave.link == BOND_LINK_BACK and cpu.params.arp_probe_failed == "committed"
        return [BOND_LINK_FAIL] if failed else []
    if within(arpstate.last_link_up(cpu, slave.dev), 2):
        return []
    if slave.backup:
        searching = bond.current_arp_slave is not None
        return [] if searching or within(received, missed + 1) else [BOND_LINK_DOWN]
    sent = arpstate.last_tx(cpu, slave.dev)
    return [] if within(sent, missed) and within(received, missed) else [BOND_LINK_DOWN]


def _commit(cpu: Cpu, bond: Bonding, slave: Slave, new: int) -> Context:
    """bond_ab_arp_commit, of one slave; does it ask for a failover?"""
    active = bond.curr_active
    if new == BOND_LINK_UP:
        if active is slave:
            return False
        slave.link = BOND_LINK_UP
        if bond.current_arp_slave is not None:
            yield from set_state(cpu, bond, bond.current_arp_slave, active=False)
            bond.current_arp_slave = None
        bond_log(cpu, bond, LOG.arp_definitely_up, slave.dev)
        return active is None or slave is bond.primary()
    slave.link = new
    yield from set_state(cpu, bond, slave, active=False)
    if new == BOND_LINK_FAIL:
        if active is not None:
            bond.current_arp_slave = None
        return False
    slave.failure_count += 1
    bond_log(cpu, bond, LOG.definitely_down, slave.dev)
    if slave is active:
        bond.current_arp_slave = None
    return slave is active


def _probe(cpu: Cpu, bond: Bonding) -> Context:
    """bond_ab_arp_probe: the active slave asks; without one, the next that runs is tried."""
    if bond.curr_active is not None:
        yield from bond_arp_send_all(cpu, bond, bond.curr_active)
        return
    tried = bond.current_arp_slave or bond.slaves[0]
    yield from cpu.net.rtnl.lock(cpu)
    yield from set_state(cpu, bond, tried, active=False)
    at = bond.slaves.index(tried) + 1
    candidate = None
    for slave in bond.slaves[at:] + bond.slaves[:at]:
        if is_up(slave):
            candidate = candidate or slave
        elif slave.link == BOND_LINK_UP:
            slave.link = BOND_LINK_DOWN
            slave.failure_count += 1
            yield from set_state(cpu, bond, slave, active=False)
            bond_log(cpu, bond, LOG.arp_backup_down, slave.dev)
    if candidate is not None:
        candidate.link = BOND_LINK_BACK
        yield from set_state(cpu, bond, candidate, active=True)
        bond.current_arp_slave = candidate
        arpstate.set_last_link_up(cpu, candidate)
    yield from bond_publish(cpu, bond)
    cpu.net.rtnl.unlock(cpu)
    if candidate is not None:
        yield from bond_arp_send_all(cpu, bond, candidate)
