"""fail_over_mac: whose address is whose after a failover, after bond_do_fail_over_mac.

*active*: the bond takes the new active slave's address. *follow*: the new active slave takes the
bond's, and the old one gets the new one's in exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import common
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.bonding.bond import Bonding, Slave
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def dev_set_mac_address(cpu: Cpu, dev: NetDevice, mac: bytes) -> Context:
    """A running port receives on its new address at once."""
    if dev.dev_addr == mac:
        return
    dev.dev_addr = mac
    adapter = dev.adapter
    if adapter is not None and not adapter.removed:
        adapter.hw.addr = mac
        yield from common.set_rar(cpu, adapter, 0, mac)
    yield from device.changed(cpu, dev)


def do_fail_over_mac(cpu: Cpu, bond: Bonding, new: Slave | None, old: Slave | None) -> Context:
    if new is None:
        return
    if bond.settings.fail_over_mac == "active":
        yield from dev_set_mac_address(cpu, bond.dev, new.dev.dev_addr)
        return
    if old is None:  # bond_get_old_active: who still has the bond's address
        had = (s for s in bond.slaves if s is not new and s.dev.dev_addr == bond.dev.dev_addr)
        old = next(had, None)
    given, taken = bond.dev.dev_addr, new.dev.dev_addr
    yield from dev_set_mac_address(cpu, new.dev, given)
    if old is not None:
        yield from dev_set_mac_address(cpu, old.dev, taken)
