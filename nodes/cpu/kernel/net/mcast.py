"""A device's multicast list, after dev_mc_add of net/core/dev_addr_lists.c.

The boot CPU's; the driver hashes it into the NIC's table (``set_rx_mode``). Left out: the
addresses that IP itself joins (224.0.0.1): nothing on this LAN sends to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe.configure import update_mc_addr_list
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def dev_mc_add(cpu: Cpu, dev: NetDevice, address: bytes) -> Context:
    if address not in dev.mc_list:
        dev.mc_list.append(address)
        _program(dev)
    yield from ()


def dev_mc_del(cpu: Cpu, dev: NetDevice, address: bytes) -> Context:
    if address in dev.mc_list:
        dev.mc_list.remove(address)
        _program(dev)
    yield from ()


def _program(dev: NetDevice) -> None:
    if dev.adapter is not None and not dev.adapter.removed:
        update_mc_addr_list(dev.adapter)
