"""When a machine is ready: its kernel has booted and its network can carry the first ping."""

from __future__ import annotations

from nodes.cpu.page import CPU_SCHEMA
from orchestrator.machines.machine import Machine

#: Of the machine's time; a boot takes a fraction of it.
READY_TIMEOUT_MS = 15_000
_BOND_LINK_UP = 1  # word of ``bond_slave_link``: 1 + BOND_LINK_UP
_CARRIER = 4
_IFF_UP = 2


def network_is_up(machine: Machine) -> bool:
    """All CPUs are online and all slaves (without a bond: the first NIC, which has the address)
    have their link."""
    settings = machine.settings
    if settings.guest:  # its kernel says so itself, to its own console
        return True
    pages = [machine.ram.page(name, CPU_SCHEMA) for name in settings.cpu_names]
    if not all(page["online"] for page in pages):
        return False
    boot = pages[0]
    if settings.bond is None:
        wanted = _CARRIER | _IFF_UP
        return not settings.nics or boot.run("nic_flags")[0] & wanted == wanted
    links = boot.run("bond_slave_link")
    slaves = [settings.nic_names.index(slave) for slave in settings.bond.slaves]
    return bool(boot["bond_active"]) and all(links[slave] == _BOND_LINK_UP for slave in slaves)


def wait_until_ready(machine: Machine) -> bool:
    """Pump until the network is up; False when it takes too long."""
    return machine.wait(lambda: network_is_up(machine), READY_TIMEOUT_MS)
