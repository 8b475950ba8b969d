"""When a slave last received, sent and came up, in jiffies, as the ARP monitor sees it.

Each CPU notes in its own page what it receives and sends; who asks takes the latest of all CPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.jiffies import msecs_to_jiffies, time_after
from nodes.cpu.kernel.net.bonding.bond import Bonding, Slave
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: BOND_MAX_ARP_TARGETS
ARP_TARGETS_MAX = 16

_LAST_RX = CPU_SCHEMA.index("slave_last_rx")
_LAST_TX = CPU_SCHEMA.index("slave_last_tx")
_TARGET_RX = CPU_SCHEMA.index("slave_target_last_rx")
_LINK_UP = CPU_SCHEMA.index("slave_last_link_up")


def _latest(cpu: Cpu, word: int) -> int:
    latest = 0
    for name in cpu.machine.cpu_names:
        noted = cpu.ram.page(name, CPU_SCHEMA).words[word]
        if noted and (not latest or time_after(noted, latest)):
            latest = noted
    return latest


def last_rx(cpu: Cpu, dev: NetDevice) -> int:
    assert dev.nic is not None
    return _latest(cpu, _LAST_RX + dev.nic)


def last_tx(cpu: Cpu, dev: NetDevice) -> int:
    """trans_start of its queues."""
    assert dev.nic is not None
    return _latest(cpu, _LAST_TX + dev.nic)


def target_last_rx(cpu: Cpu, dev: NetDevice, target: int) -> int:
    assert dev.nic is not None
    return _latest(cpu, _TARGET_RX + ARP_TARGETS_MAX * dev.nic + target)


def note_target_rx(cpu: Cpu, dev: NetDevice, target: int) -> None:
    assert dev.nic is not None
    cpu.words[_TARGET_RX + ARP_TARGETS_MAX * dev.nic + target] = cpu.jiffies()


def last_link_up(cpu: Cpu, dev: NetDevice) -> int:
    """Any CPU may ask; the boot CPU writes it."""
    assert dev.nic is not None
    boot = cpu.ram.page(cpu.machine.cpu_names[0], CPU_SCHEMA)
    return boot.words[_LINK_UP + dev.nic]


def set_last_link_up(cpu: Cpu, slave: Slave) -> None:
    if slave.dev.nic is not None:
        cpu.words[_LINK_UP + slave.dev.nic] = cpu.jiffies()


def slave_added(cpu: Cpu, bond: Bonding, slave: Slave) -> None:
    """A new slave begins with a last arrival that is just too old to count."""
    nic = slave.dev.nic
    if nic is None:
        return
    old = cpu.jiffies() - (msecs_to_jiffies(cpu, bond.settings.arp_interval) + 1)
    cpu.words[_LAST_RX + nic] = cpu.words[_LAST_TX + nic] = old
    first = _TARGET_RX + ARP_TARGETS_MAX * nic
    for target in range(ARP_TARGETS_MAX):
        cpu.words[first + target] = old
    set_last_link_up(cpu, slave)
