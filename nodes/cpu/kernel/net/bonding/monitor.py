"""The MII monitor: every miimon ms look at each slave's carrier and move it along

    UP --carrier lost--> FAIL --downdelay over--> DOWN --carrier--> BACK --updelay over--> UP
     <------carrier-------                          <---carrier lost---

After bond_miimon_inspect and bond_miimon_commit. Behaviours: ``failure_count`` (2.6.18 counts when
FAIL is entered, later kernels when DOWN is committed); ``link_commit``: *one-pass* (2.6.18: look
and change in one loop), *final* (look at all, then commit what is definitely up or down),
*every-change* (6.1: a slave that recovers or fails again on its way is committed, logged and
counted too); ``commit_failover``: another active slave is chosen after each that asks for it
(3.10), or once after all, so that one that falls at the same look is never taken. A delay of 0
passes FAIL or BACK in the same look; without any active slave the first slave on its way back is
taken at once (later kernels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.jiffies import msecs_to_jiffies
from nodes.cpu.kernel.net.bonding.arpstate import set_last_link_up
from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_BACK,
    BOND_LINK_DOWN,
    BOND_LINK_FAIL,
    BOND_LINK_UP,
    Bonding,
    Slave,
)
from nodes.cpu.kernel.net.bonding.log import LOG, bond_log
from nodes.cpu.kernel.net.bonding.select import (
    bond_commit,
    notify_peers,
    peer_notification_waits,
    set_state,
    should_notify_peers,
    show,
    update_speed_duplex,
)
from nodes.cpu.kernel.net.netdevice import IFF_UP
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.workqueue import (
    INIT_DELAYED_WORK,
    cancel_delayed_work,
    queue_delayed_work,
)
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_NEXT = CPU_SCHEMA.index("bond_next_mii_ns")


def start(cpu: Cpu, bond: Bonding) -> Context:
    """Look now, and every miimon from then on."""
    if bond.work is None:
        bond.work = INIT_DELAYED_WORK(
            cpu, words.MII_WORK, "bond_mii_monitor", lambda cpu: _mii_monitor(cpu, bond)
        )
    yield from queue_delayed_work(cpu, bond.wq, bond.work, 0)


def stop(cpu: Cpu, bond: Bonding) -> Context:
    if bond.work is not None:
        yield from cancel_delayed_work(cpu, bond.work)


def _mii_monitor(cpu: Cpu, bond: Bonding) -> Context:
    """One look. What it found is settled under RTNL (2.6.18's timer has locks of its own); whoever
    finds that taken looks again a jiffy later."""
    if not bond.settings.miimon or not bond.dev.flags & IFF_UP:
        return  # switched off while this look was on its way
    one_pass = cpu.params.link_commit == "one-pass"
    owed = should_notify_peers(cpu, bond)  # from an earlier look
    commit = _inspect_all(cpu, bond, one_pass)
    delay, wait_ns = msecs_to_jiffies(cpu, bond.settings.miimon), bond.settings.miimon * 1_000_000
    if not owed and peer_notification_waits(bond):
        bond.peer_notifications -= 1  # peer_notif_delay is counted in looks
    if commit or owed:
        if one_pass or cpu.net.rtnl.trylock():
            if commit:
                yield from bond_commit(cpu, bond, commit, _commit)
            if owed:
                bond.peer_notifications -= 1
                yield from notify_peers(cpu, bond)
            if not one_pass:
                cpu.net.rtnl.unlock(cpu)
        else:
            delay, wait_ns = 1, 1_000_000_000 // cpu.params.hz
    show(cpu, bond)
    assert bond.work is not None
    cpu.words[_NEXT] = cpu.now() + wait_ns
    yield from queue_delayed_work(cpu, bond.wq, bond.work, delay)


def _inspect_all(cpu: Cpu, bond: Bonding, one_pass: bool) -> list[tuple[Slave, int]]:
    """Slaves that are to be committed, with their new state."""
    ignore_updelay = bond.curr_active is None and not one_pass
    commit = []
    for slave in bond.slaves:
        new = _inspect(cpu, bond, slave, ignore_updelay)
        if new is not None:
            commit.append((slave, new))
            ignore_updelay = ignore_updelay and new != BOND_LINK_UP  # the first one profits
        if one_pass:
            update_speed_duplex(slave)
    return commit


def _role(cpu: Cpu, bond: Bonding, slave: Slave) -> str:
    """A word of active-backup; 2.6.18 calls a slave that does not run idle."""
    if bond.settings.mode != "active-backup":
        return ""
    if cpu.params.log_format == "2.6.18":
        if not slave.dev.flags & IFF_UP:
            return "idle "
        return "active " if slave is bond.curr_active else "backup "
    return "backup " if slave.backup else "active "


def _inspect(cpu: Cpu, bond: Bonding, slave: Slave, ignore_updelay: bool) -> int | None:
    """One look at one slave; UP or DOWN if that is to be committed."""
    up = slave.dev.carrier
    miimon = bond.settings.miimon
    every_change = cpu.params.link_commit == "every-change"
    if slave.link == BOND_LINK_UP:
        if up:
            return None
        slave.link, slave.delay = BOND_LINK_FAIL, bond.downdelay_ticks
        if cpu.params.failure_count == "at-fail":
            slave.failure_count += 1
        if slave.delay:
            ms = slave.delay * miimon
            bond_log(cpu, bond, LOG.down_start, slave.dev, role=_role(cpu, bond, slave), ms=ms)
    if slave.link == BOND_LINK_FAIL:
        if up:
            slave.link = BOND_LINK_UP
            ms = (bond.downdelay_ticks - slave.delay) * miimon
            bond_log(cpu, bond, LOG.up_again, slave.dev, ms=ms)
            return BOND_LINK_UP if every_change else None
        if slave.delay > 0:
            slave.delay -= 1
            return None
        return BOND_LINK_DOWN
    if slave.link == BOND_LINK_DOWN:
        if not up:
            return None
        slave.link, slave.delay = BOND_LINK_BACK, bond.updelay_ticks
        if slave.delay:
            ms = 0 if ignore_updelay else slave.delay * miimon
            bond_log(cpu, bond, LOG.up_start, slave.dev, ms=ms)
    if not up:
        slave.link = BOND_LINK_DOWN
        ms = (bond.updelay_ticks - slave.delay) * miimon
        bond_log(cpu, bond, LOG.down_again, slave.dev, ms=ms)
        return BOND_LINK_DOWN if every_change else None
    if ignore_updelay:
        slave.delay = 0
    if slave.delay > 0:
        slave.delay -= 1
        return None
    return BOND_LINK_UP


def _commit(cpu: Cpu, bond: Bonding, slave: Slave, new: int) -> Context:
    """The slave is definitely up or down; True if the active slave must be chosen again."""
    mode = bond.mode
    if new == BOND_LINK_UP:
        known = update_speed_duplex(slave)
        if mode.needs_speed and not known and cpu.params.link_commit == "every-change":
            slave.link = BOND_LINK_DOWN
            bond_log(cpu, bond, LOG.no_speed, slave.dev)
            return False
        slave.link = new
        set_last_link_up(cpu, slave)
        slave.backup = mode.backup_after_up(slave)
        bond_log(cpu, bond, LOG.definitely_up, slave.dev, speed=slave.speed)
        yield from mode.link_change(cpu, slave, new)
        return bond.curr_active is None or slave is bond.primary()
    slave.link = new
    if cpu.params.failure_count == "at-commit":
        slave.failure_count += 1
    if not mode.starts_active:
        yield from set_state(cpu, bond, slave, active=False)
    bond_log(cpu, bond, LOG.definitely_down, slave.dev)
    yield from mode.link_change(cpu, slave, new)
    return slave is bond.curr_active
