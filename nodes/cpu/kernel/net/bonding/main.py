"""Bonding's core, after drivers/net/bonding/bond_main.c: enslave, release, carrier, for all modes.

What a mode does of its own is in its file (``mode``), the choice of the active slave in
``select``, the monitors in ``monitor`` and ``arpmon``. Everything runs in tasks of the boot CPU
under RTNL; what other CPUs need is published. Behaviours: ``enslave_order``, ``slave_mtu``,
``release_role``, ``arp_first_link``, ``bond_mac_before_slaves``, ``log_format``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.bonding import arpmon, arpstate, modes, monitor
from nodes.cpu.kernel.net.bonding.bond import (
    BOND_LINK_BACK,
    BOND_LINK_DOWN,
    BOND_LINK_UP,
    Bonding,
    Slave,
    bond_publish,
)
from nodes.cpu.kernel.net.bonding.log import LOG, bond_log
from nodes.cpu.kernel.net.bonding.mode import MODES
from nodes.cpu.kernel.net.bonding.select import (
    bond_change_active_slave,
    bond_select_active_slave,
    bond_set_carrier,
    bond_slave_netdev_event,
    set_state,
    show,
    update_speed_duplex,
)
from nodes.cpu.kernel.net.netdevice import (
    IFF_MASTER,
    IFF_PROMISC,
    IFF_SLAVE,
    IFF_UP,
    NetDevice,
    register_netdevice_notifier,
)
from nodes.cpu.kernel.net.stats import device_stats
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.workqueue import create_singlethread_workqueue
from nodes.machine import BondSettings

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

assert modes  # they register themselves


def bond_create(cpu: Cpu, settings: BondSettings) -> Context:
    """A new bond device, up, without slaves; returns its ``Bonding``."""
    dev = NetDevice(device.new_ifindex(cpu), settings.name, _first_mac(cpu), None)
    dev.flags |= IFF_MASTER | IFF_UP
    dev.qdisc_active = True  # noqueue
    bond = Bonding(dev, settings)
    bond.mode = MODES[settings.mode](bond)
    bond.wq = yield from create_singlethread_workqueue(cpu, settings.name)
    cpu.net.bonds[settings.name] = bond
    yield from device.register_netdevice(cpu, dev)
    yield from bond_publish(cpu, bond)
    if _slave_gone not in cpu.net.unregister_listeners:
        cpu.net.unregister_listeners.append(_slave_gone)
        register_netdevice_notifier(cpu, bond_slave_netdev_event)
    show(cpu, bond)
    return bond


def bond_open(cpu: Cpu, bond: Bonding) -> Context:
    """The monitors begin, and the works of the mode."""
    yield from bond.mode.open(cpu)
    if bond.settings.miimon:
        yield from monitor.start(cpu, bond)
    if bond.settings.arp_interval:
        yield from arpmon.start(cpu, bond)


def bond_close(cpu: Cpu, bond: Bonding) -> Context:
    """bond_work_cancel_all."""
    yield from monitor.stop(cpu, bond)
    yield from arpmon.stop(cpu, bond)
    yield from bond.mode.close(cpu)


def bond_up(cpu: Cpu, bond: Bonding) -> Context:
    """dev_open of the bond: its slaves get the state that their mode gives them."""

    def ndo_open() -> Context:
        for slave in bond.slaves:
            if bond.mode.uses_primary and slave is not bond.curr_active:
                yield from set_state(cpu, bond, slave, active=False)
            elif bond.mode.starts_active or slave is bond.curr_active:
                yield from set_state(cpu, bond, slave, active=True)
        yield from bond_publish(cpu, bond)
        return 0

    if bond.dev.flags & IFF_UP:
        return
    yield from device.dev_open(cpu, bond.dev, ndo_open)
    bond.dev.qdisc_active = True  # noqueue: with or without a carrier
    yield from device.changed(cpu, bond.dev)
    yield from bond_open(cpu, bond)


def bond_down(cpu: Cpu, bond: Bonding) -> Context:
    """dev_close of the bond. Behaviour ``bond_close``: 2.6.18 lets its slaves go."""
    yield from device.dev_close(cpu, bond.dev, lambda: bond_close(cpu, bond))
    if cpu.params.bond_close == "releases":
        for slave in list(bond.slaves):
            adapter = slave.dev.adapter
            yield from bond_release(cpu, bond, slave)
            if adapter is not None:
                yield from device.dev_close(cpu, slave.dev, partial(ixgbe.close, cpu, adapter))
    show(cpu, bond)


def bond_set_mode(cpu: Cpu, bond: Bonding, name: str) -> Context:
    """The bond has no slaves (6.1) and is down."""
    bond.settings = bond.settings._replace(mode=name)
    bond.mode = MODES[name](bond)
    yield from bond_publish(cpu, bond)
    show(cpu, bond)


def _first_mac(cpu: Cpu) -> bytes:
    """Address of a bond without slaves."""
    if cpu.params.bond_mac_before_slaves == "zero":
        return bytes(6)
    return bytes((cpu.rng.randrange(256) & 0xFC | 0x02, *(cpu.rng.randbytes(5))))


# ---------------------------------------------------------------- enslave


def bond_enslave(cpu: Cpu, bond: Bonding, dev: NetDevice) -> Context:
    """Make ``dev`` a slave: MTU and address, open it, initial link state, maybe active."""
    adapter = dev.adapter
    assert adapter is not None
    slave = Slave(dev)
    slave.stats_at_enslave = device_stats(cpu, dev)
    if bond.mac_from_first and not bond.slaves:
        bond.dev.dev_addr = dev.dev_addr
        bond.mac_from_first = False
        yield from device.changed(cpu, bond.dev)
    if cpu.params.slave_mtu == "forced" and dev.mtu != bond.dev.mtu:
        yield from ixgbe.change_mtu(cpu, adapter, bond.dev.mtu)
        dev.mtu = bond.dev.mtu
    if not keeps_address(bond):
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
    update_speed_duplex(slave)
    arpstate.slave_added(cpu, bond, slave)
    _first_link(cpu, bond, slave)
    bond.slaves.append(slave)
    if slave.dev.name == bond.settings.primary:
        bond.force_primary = True
    slave.backup = not bond.mode.starts_active
    dev.inactive = bond.mode.starts_inactive and not bond.settings.all_slaves_active
    yield from bond.mode.enslave(cpu, slave)
    if not bond.mode.uses_primary and bond.curr_active is None and slave.link == BOND_LINK_UP:
        bond.curr_active = slave  # it has no meaning but is kept
    yield from device.changed(cpu, dev)
    yield from bond_publish(cpu, bond)
    if bond.dev.flags & IFF_PROMISC and not bond.mode.uses_primary:
        device.dev_set_promiscuity(cpu, dev, 1)
    yield from _settle_new_slave(cpu, bond, slave)
    state = "a down" if slave.link == BOND_LINK_DOWN else "an up"
    role = "a backup" if slave.backup else "an active"
    bond_log(cpu, bond, LOG.enslaving, slave.dev, role=role, state=state)
    show(cpu, bond)
    return 0


def _settle_new_slave(cpu: Cpu, bond: Bonding, slave: Slave) -> Context:
    """The active slave and the carrier. 2.6.18 does not choose: the first whose link is not DOWN is
    the active one (*at-once*), and in active-backup it says so whatever the carrier was."""
    if not bond.mode.uses_primary or cpu.params.enslave_order == "carrier-first":
        yield from bond_set_carrier(cpu, bond)
        if bond.mode.uses_primary:
            yield from bond_select_active_slave(cpu, bond)
        return
    active = bond.curr_active
    if cpu.params.enslave_order == "select-first":
        yield from bond_select_active_slave(cpu, bond)
        yield from bond_set_carrier(cpu, bond)
    elif slave.link != BOND_LINK_DOWN and (active is None or active.dev.inactive):
        yield from bond_change_active_slave(cpu, bond, slave)
        if bond.settings.mode == "active-backup":
            bond_log(cpu, bond, LOG.carrier_on, None)
        yield from device.carrier_on(cpu, bond.dev)


def keeps_address(bond: Bonding) -> bool:
    """fail_over_mac: slaves keep their own addresses."""
    return bond.settings.fail_over_mac != "none" and bond.settings.mode == "active-backup"


def _first_link(cpu: Cpu, bond: Bonding, slave: Slave) -> None:
    """The link state that a new slave starts with."""
    settings, carrier = bond.settings, slave.dev.carrier
    looks = settings.miimon or (settings.arp_interval and cpu.params.arp_first_link == "carrier")
    slave.link = BOND_LINK_DOWN if looks and not carrier else BOND_LINK_UP
    if settings.miimon and carrier and bond.updelay_ticks:
        slave.link, slave.delay = BOND_LINK_BACK, bond.updelay_ticks
    if slave.link != BOND_LINK_DOWN:
        arpstate.set_last_link_up(cpu, slave)


# ---------------------------------------------------------------- release


def bond_release(cpu: Cpu, bond: Bonding, slave: Slave) -> Context:
    """The slave leaves the bond."""
    dev = slave.dev
    yield from bond.mode.unbind(cpu, slave)
    _log_release(cpu, bond, slave)
    if cpu.params.bond_stats == "since-enslaved":  # the bond keeps what its slave had gained
        now = device_stats(cpu, dev)
        for i, start in enumerate(slave.stats_at_enslave):
            bond.stats_base[i] += max(0, now[i] - start)
    was_active = slave is bond.curr_active
    if slave is bond.current_arp_slave:
        bond.current_arp_slave = None
    if was_active:
        yield from bond_change_active_slave(cpu, bond, None)
    yield from bond.mode.release(cpu, slave)
    bond.slaves.remove(slave)
    yield from bond_publish(cpu, bond)
    if bond.dev.flags & IFF_PROMISC and not bond.mode.uses_primary:
        device.dev_set_promiscuity(cpu, dev, -1)
    dev.master = None
    dev.inactive = dev.probed = dev.arpmon = False
    dev.flags &= ~IFF_SLAVE
    if not (keeps_address(bond) and bond.settings.fail_over_mac == "active"):
        dev.dev_addr = slave.perm_hwaddr
    yield from device.changed(cpu, dev)
    if was_active:
        yield from bond_select_active_slave(cpu, bond)
    yield from bond_set_carrier(cpu, bond)  # silently: nothing is left to select
    if not bond.slaves:
        bond.dev.dev_addr = _first_mac(cpu)
        bond.mac_from_first = True
        yield from device.changed(cpu, bond.dev)
    if cpu.params.slave_mtu == "forced" and dev.mtu != slave.original_mtu:
        if dev.adapter is not None and not dev.adapter.removed:
            yield from ixgbe.change_mtu(cpu, dev.adapter, slave.original_mtu)
        dev.mtu = slave.original_mtu
        yield from device.changed(cpu, dev)
    show(cpu, bond)


def _log_release(cpu: Cpu, bond: Bonding, slave: Slave) -> None:
    """Later kernels set it inactive first, so it is a backup (not in TLB and ALB, where only its
    receiving ends), and warn about its address after that line, not before."""
    dev, late = slave.dev, cpu.params.release_role == "inactive-first"
    if late:
        if bond.mode.inactive_is_backup:
            slave.backup = True
        role = "backup" if slave.backup else "active"
        bond_log(cpu, bond, LOG.releasing, dev, role=role)
    others, own = len(bond.slaves) > 1, slave.perm_hwaddr == bond.dev.dev_addr
    if own and others and not (late and keeps_address(bond)):
        mac = slave.perm_hwaddr.hex(":")
        mac = mac.upper() if cpu.params.log_format == "2.6.18" else mac
        bond_log(cpu, bond, LOG.hwaddr_in_use, dev, mac=mac, master=bond.dev.name)
    if not late:
        role = "backup" if slave.backup else "active"
        bond_log(cpu, bond, LOG.releasing, dev, role=role)


def _slave_gone(cpu: Cpu, dev: NetDevice) -> Context:
    """NETDEV_UNREGISTER."""
    for bond in cpu.net.bonds.values():
        for slave in list(bond.slaves):
            if slave.dev is dev:
                yield from bond_release(cpu, bond, slave)
