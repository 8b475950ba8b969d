"""The MII monitor: every miimon ms look at each slave's carrier and move it along

    UP --carrier lost--> FAIL --downdelay over--> DOWN --carrier--> BACK --updelay over--> UP
     <------carrier-------                          <---carrier lost---

After bond_miimon_inspect and bond_miimon_commit. Behaviour ``failure_count``: 2.6.18 counts when
FAIL is entered, later kernels when DOWN is committed. A delay of 0 passes FAIL or BACK in the same
look; without any active slave a slave on its way back is taken at once (later kernels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_BACK,
    BOND_LINK_DOWN,
    BOND_LINK_FAIL,
    BOND_LINK_UP,
    Bonding,
    Slave,
)
from nodes.cpu.kernel.net.bonding.log import LOG, bond_log
from nodes.cpu.kernel.net.bonding.main import (
    bond_select_active_slave,
    bond_set_carrier,
    notify_peers,
    show,
)
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.timer import msecs_to_jiffies
from nodes.cpu.kernel.workqueue import Work
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

MII_WORK = 24  # atomic word
SPEED_MBPS = 10000

_NEXT = CPU_SCHEMA.index("bond_next_mii_ns")


def start(cpu: Cpu, bond: Bonding) -> None:
    """bond_open: begin to look, if miimon is set."""
    if bond.settings.miimon and bond.work is None:
        bond.work = Work(MII_WORK, "bond_mii_monitor", lambda cpu: _mii_monitor(cpu, bond))
        cpu.wq.queue_work(bond.work)


def _mii_monitor(cpu: Cpu, bond: Bonding) -> Context:
    commit = [slave for slave in bond.slaves if _inspect(cpu, bond, slave)]
    if commit:
        for slave in commit:
            yield from _commit(cpu, bond, slave)
        yield from bond_set_carrier(cpu, bond)
    if bond.peer_notifications and bond.dev.carrier:
        yield from notify_peers(cpu, bond)
    show(cpu, bond)
    assert bond.work is not None
    delay = msecs_to_jiffies(cpu, bond.settings.miimon)
    cpu.words[_NEXT] = cpu.now() + bond.settings.miimon * 1_000_000
    cpu.wq.queue_delayed_work(bond.work, delay)


def _role(bond: Bonding, slave: Slave) -> str:
    return "active" if slave is bond.curr_active else "backup"


def _inspect(cpu: Cpu, bond: Bonding, slave: Slave) -> bool:
    """One look at one slave; True if it is to be committed UP or DOWN."""
    up = slave.dev.carrier
    miimon = bond.settings.miimon
    counts_at_fail = cpu.params.failure_count == "at-fail"
    if slave.link == BOND_LINK_UP:
        if up:
            return False
        slave.link, slave.delay = BOND_LINK_FAIL, bond.downdelay_ticks
        if counts_at_fail:
            slave.failure_count += 1
        if slave.delay:
            ms = slave.delay * miimon
            bond_log(cpu, bond, LOG.down_start, slave.dev, role=_role(bond, slave), ms=ms)
    if slave.link == BOND_LINK_FAIL:
        if up:
            slave.link = BOND_LINK_UP
            ms = (bond.downdelay_ticks - slave.delay) * miimon
            bond_log(cpu, bond, LOG.up_again, slave.dev, ms=ms)
            return False
        if slave.delay > 0:
            slave.delay -= 1
            return False
        return True
    if slave.link == BOND_LINK_DOWN:
        if not up:
            return False
        ignore = bond.curr_active is None and not counts_at_fail
        slave.link = BOND_LINK_BACK
        slave.delay = 0 if ignore else bond.updelay_ticks
        if bond.updelay_ticks:
            bond_log(cpu, bond, LOG.up_start, slave.dev, ms=slave.delay * miimon)
    if not up:
        slave.link = BOND_LINK_DOWN
        ms = (bond.updelay_ticks - slave.delay) * miimon
        bond_log(cpu, bond, LOG.down_again, slave.dev, ms=ms)
        return False
    if slave.delay > 0:
        slave.delay -= 1
        return False
    return True


def _commit(cpu: Cpu, bond: Bonding, slave: Slave) -> Context:
    """BACK becomes UP, FAIL becomes DOWN, and the active slave is chosen again if need be."""
    if slave.link == BOND_LINK_BACK:
        slave.link = BOND_LINK_UP
        slave.speed = SPEED_MBPS
        slave.last_link_up = cpu.jiffies()
        bond_log(cpu, bond, LOG.definitely_up, slave.dev, speed=SPEED_MBPS)
        if bond.curr_active is None or slave is bond.primary():
            yield from bond_select_active_slave(cpu, bond)
    elif slave.link == BOND_LINK_FAIL:
        slave.link = BOND_LINK_DOWN
        slave.speed = 0
        if cpu.params.failure_count == "at-commit":
            slave.failure_count += 1
        bond_log(cpu, bond, LOG.definitely_down, slave.dev)
        if slave is bond.curr_active:
            yield from bond_select_active_slave(cpu, bond)
