"""Writing to ``slaves`` and ``active_slave``: enslave, release, and change by hand.

``bond_add_slave`` and ``bond_del_slave`` are what netlink asks for, too (ndo_add_slave): there a
refusal's words go to who asked (``extack``), and not into the log.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENODEV, EPERM
from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.net import device
from nodes.cpu.kernel.net.bonding import main
from nodes.cpu.kernel.net.bonding.bond import BOND_LINK_UP, Bonding, Slave
from nodes.cpu.kernel.net.bonding.options import Option
from nodes.cpu.kernel.net.bonding.select import bond_change_active_slave, bond_select_active_slave
from nodes.cpu.kernel.net.bonding.setters import say_by_era, setter
from nodes.cpu.kernel.net.netdevice import IFF_SLAVE, IFF_UP, NetDevice
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def _slave(bond: Bonding, name: str) -> Slave | None:
    return next((slave for slave in bond.slaves if slave.dev.name == name), None)


@setter("active_slave")
def set_active_slave(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """Change the active slave now; an empty line lets the bond choose again."""
    name = str(value).strip()
    if not name:
        say_by_era(cpu, bond, "Clearing current active slave.")
        bond.curr_active = None
        yield from bond_select_active_slave(cpu, bond)
        return 0
    dev, slave = cpu.net.device(name), _slave(bond, name)
    if dev is None:
        say_by_era(cpu, bond, f"Unable to set {name} as active slave.")
        return -ENODEV
    if slave is None:
        say_by_era(cpu, bond, f"Unable to set {name} as active slave.")
        say_by_era(cpu, bond, "", "Device is not bonding slave", dev)
        return -EINVAL
    if slave is bond.curr_active:
        say_by_era(cpu, bond, f"{name} is already the current active slave.")
        return 0
    if bond.curr_active is None or slave.link != BOND_LINK_UP or not dev.flags & IFF_UP:
        why = f"either {name} is down or the link is down"
        say_by_era(
            cpu, bond, f"Could not set {name} as active slave; {why}.",
            f"Could not set as active slave; {why}", dev,
        )  # fmt: skip
        return -EINVAL
    say_by_era(cpu, bond, f"Setting {name} as active slave.")
    yield from bond_change_active_slave(cpu, bond, slave)
    return 0


@setter("slaves")
def set_slaves(cpu: Cpu, bond: Bonding, option: Option, value: str | int) -> Context:
    """+ifname enslaves, -ifname releases."""
    command, name = str(value)[:1], str(value)[1:].strip()
    if command not in ("+", "-") or not name:
        say_by_era(
            cpu, bond,
            f"no command found in slaves file for bond {bond.dev.name}. Use +ifname or -ifname.",
            "no command found in slaves file - use +ifname or -ifname",
        )  # fmt: skip
        return -EPERM
    dev = cpu.net.device(name)
    if dev is None:
        say_by_era(cpu, bond, f"Interface {name} does not exist!")
        return -ENODEV
    change = bond_add_slave if command == "+" else bond_del_slave
    error: int = yield from change(cpu, bond, dev)
    return error


def bond_del_slave(cpu: Cpu, bond: Bonding, dev: NetDevice) -> Context:
    """Release a slave; 0 or a negative errno."""
    slave, adapter = _slave(bond, dev.name), dev.adapter
    if slave is None or adapter is None:
        say_by_era(cpu, bond, f"cannot release {dev.name}.", "interface not enslaved", dev)
        return -EINVAL
    say_by_era(cpu, bond, f"Removing slave {dev.name}.")
    yield from main.bond_release(cpu, bond, slave)
    yield from device.dev_close(cpu, dev, lambda: ixgbe.close(cpu, adapter))
    return 0


def bond_add_slave(
    cpu: Cpu, bond: Bonding, dev: NetDevice, extack: list[str] | None = None
) -> Context:
    """Enslave a device; 0 or a negative errno."""

    def refuse(old: str, new: str, named: NetDevice | None = dev) -> None:
        """SLAVE_NL_ERR, BOND_NL_ERR."""
        if extack is not None and cpu.params.log_format == "6.1":
            extack.append(new)
        else:
            say_by_era(cpu, bond, old, f"Error: {new}", named)

    if dev.flags & IFF_SLAVE:
        refuse("", "Device is in use and cannot be enslaved")
        return -EBUSY
    if dev is bond.dev:
        refuse("cannot enslave bond to itself.", "Cannot enslave bond to itself.", None)
        return -EPERM
    if dev is cpu.net.loopback_dev:  # NETIF_F_VLAN_CHALLENGED
        say_by_era(
            cpu, bond, f"Warning: enslaved VLAN challenged slave {dev.name}. Adding VLANs will be "
            f"blocked as long as {dev.name} is part of bond {bond.dev.name}",
            "enslaved VLAN challenged slave. Adding VLANs will be blocked as long as it is part "
            "of bond.", dev,
        )  # fmt: skip
    if dev.flags & IFF_UP:
        refuse(
            f"{dev.name} is up - this may be due to an out of date ifenslave",
            "Device can not be enslaved while up",
        )
        return -EPERM
    if not bond.dev.flags & IFF_UP and cpu.params.enslave_bond_down == "refused":
        say_by_era(cpu, bond, f"Error: {bond.dev.name} is down; cannot enslave {dev.name}")
        return -EPERM
    if dev.adapter is None:
        return -EINVAL
    say_by_era(cpu, bond, f"Adding slave {dev.name}.")
    error: int = yield from main.bond_enslave(cpu, bond, dev)
    return error
