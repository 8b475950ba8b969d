"""``ip link set DEV up|down|mtu N|master BOND|nomaster``, for ports, a bond and lo.

The kernel's part is do_setlink: the MTU first, then the flags, then the master.
"""

from __future__ import annotations

from errno import EINVAL, EOPNOTSUPP
from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.drivers.ixgbe.adapter import MAX_MTU
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.bonding import main as bonding
from nodes.cpu.kernel.net.bonding.slavesetters import bond_add_slave, bond_del_slave
from nodes.cpu.kernel.net.netdevice import IFF_UP, NetDevice
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.programs.iperror import IpError, answers

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

MIN_MTU, LOOPBACK_MTU_MAX = 68, 65536
_ORDER = {"mtu": 0, "up": 1, "down": 1, "master": 2, "nomaster": 2}


def do_iplink(cpu: Cpu, words: list[str]) -> Context:
    """The words behind ``link``."""
    if not words or not "set".startswith(words[0]):
        verb = words[0] if words else ""
        raise IpError(f'Command "{verb}" is unknown, try "ip link help".', 255)
    rest = words[1:]
    if rest[:1] == ["dev"]:
        rest.pop(0)
    if not rest:
        raise IpError('Not enough information: "dev" argument is required.', 255)
    name = rest.pop(0)
    dev = cpu.net.device(name)
    if dev is None:
        raise IpError(f'Cannot find device "{name}"')
    changes: list[tuple[str, int]] = []
    while rest:
        word = rest.pop(0)
        if word in ("up", "down", "nomaster"):
            changes.append((word, 0))
        elif word == "mtu" and rest:
            value = rest.pop(0)
            if not value.isdecimal() or len(value) > 9:
                raise IpError(f'Error: argument "{value}" is wrong: Invalid "mtu" value\n', 255)
            changes.append((word, int(value)))
        elif word == "master" and rest:
            value = rest.pop(0)
            master = cpu.net.device(value)
            if master is None:
                raise IpError(f'Error: argument "{value}" is wrong: Device does not exist\n', 255)
            changes.append((word, master.ifindex))
        else:
            raise IpError(f'Error: either "dev" is duplicate, or "{word}" is a garbage.', 255)
    changes.sort(key=lambda change: _ORDER[change[0]])
    for what, number in changes:
        yield from _change(cpu, dev, what, number)


def _change(cpu: Cpu, dev: NetDevice, word: str, value: int) -> Context:
    yield from cpu.net.rtnl.lock(cpu)
    try:
        if word == "mtu":
            yield from _set_mtu(cpu, dev, value)
        elif word.endswith("master"):
            yield from _set_master(cpu, dev, cpu.net.devices.get(value))
        else:
            yield from _set_flags(cpu, dev, up=word == "up")
    finally:
        cpu.net.rtnl.unlock(cpu)


def _nothing() -> Context:
    """ndo_open and ndo_stop of lo: there is none."""
    yield
    return 0


def _set_flags(cpu: Cpu, dev: NetDevice, *, up: bool) -> Context:
    """IFF_UP: dev_open or dev_close."""
    adapter, bond = dev.adapter, cpu.net.bonds.get(dev.name)
    if bond is not None:
        yield from (bonding.bond_up if up else bonding.bond_down)(cpu, bond)
        return
    if up and dev.flags & IFF_UP:
        return
    if dev is cpu.net.loopback_dev:
        if up:
            yield from device.dev_open(cpu, dev, _nothing)
        else:
            yield from device.dev_close(cpu, dev, _nothing)
        return
    if adapter is None:
        raise answers(EOPNOTSUPP)
    if not up:
        yield from device.dev_close(cpu, dev, lambda: ixgbe.close(cpu, adapter))
        return
    error: int = yield from device.dev_open(cpu, dev, lambda: ixgbe.open_(cpu, adapter))
    if error:
        raise answers(error)


def _set_master(cpu: Cpu, dev: NetDevice, master: NetDevice | None) -> Context:
    """do_set_master: leave the one it has, join the new one."""
    if dev.master is master:
        return
    if dev.master is not None:
        yield from bond_del_slave(cpu, cpu.net.bonds[dev.master.name], dev)
    if master is None:
        return
    bond, extack = cpu.net.bonds.get(master.name), list[str]()
    if bond is None:
        raise answers(EOPNOTSUPP)
    error: int = yield from bond_add_slave(cpu, bond, dev, extack)
    if extack:
        raise IpError(f"Error: {extack[0].rstrip('.')}.", 2)
    if error:
        raise answers(-error)


def _set_mtu(cpu: Cpu, dev: NetDevice, mtu: int) -> Context:
    """dev_set_mtu; a bond passes it on to its slaves (bond_change_mtu)."""
    bond = cpu.net.bonds.get(dev.name)
    for bound, word in ((mtu < MIN_MTU, "less than device minimum"),
                        (mtu > _max_mtu(cpu, dev), "greater than device maximum")):  # fmt: skip
        if bound and cpu.params.mtu_check == "extack":
            raise IpError(f"Error: mtu {word}.", 2)
        if bound:
            raise answers(EINVAL)
    for member in [slave.dev for slave in bond.slaves] if bond is not None else []:
        yield from _change_one(cpu, member, mtu)
    yield from _change_one(cpu, dev, mtu)


def _max_mtu(cpu: Cpu, dev: NetDevice) -> int:
    """lo has no largest MTU; no packet is longer than this."""
    return LOOPBACK_MTU_MAX if dev is cpu.net.loopback_dev else MAX_MTU


def _change_one(cpu: Cpu, dev: NetDevice, mtu: int) -> Context:
    if dev.mtu == mtu:
        return
    if dev.adapter is not None:
        yield from ixgbe.change_mtu(cpu, dev.adapter, mtu)
    dev.mtu = mtu
    yield from device.changed(cpu, dev)
