"""When a slave last received, sent and came up, in jiffies, as the ARP monitor sees it.

Each CPU notes in its own page what it receives and sends; who asks takes the latest of all CPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.jiffies import msecs_to_jiffies, signed_difference, time_after
from nodes.cpu.kernel.net.netdevice import NetDevice
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import BondSettings

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.bonding.bond import Bonding, Slave
    from nodes.cpu.kernel.percpu import Cpu

#: BOND_MAX_ARP_TARGETS
ARP_TARGETS_MAX = 16

#: Which states arp_validate checks: BACKUP False or True.
VALIDATES: dict[str, tuple[bool, ...]] = {
    "none": (), "active": (False,), "backup": (True,), "all": (False, True), "filter": (),
    "filter_active": (False,), "filter_backup": (True,),
}  # fmt: skip

_LAST_RX = CPU_SCHEMA.index("slave_last_rx")
_LAST_TX = CPU_SCHEMA.index("slave_last_tx")
_TARGET_RX = CPU_SCHEMA.index("slave_target_last_rx")
_LINK_UP = CPU_SCHEMA.index("slave_last_link_up")


def do_arp_validate(validate: str, *, backup: bool) -> bool:
    """slave_do_arp_validate."""
    return backup in VALIDATES[validate]


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


def last_tx_sent(cpu: Cpu, dev: NetDevice) -> None:
    """A probe goes out; later kernels count nothing else (``arp_last_tx``)."""
    if dev.nic is not None and cpu.params.arp_last_tx == "probe":
        cpu.words[_LAST_TX + dev.nic] = cpu.jiffies()


def in_interval(cpu: Cpu, settings: BondSettings, time: int, mod: int, *, half: bool) -> bool:
    """bond_time_in_interval: at most ``mod`` intervals (and a half) ago."""
    delta = msecs_to_jiffies(cpu, settings.arp_interval)
    age = signed_difference(cpu.jiffies(), time)
    return time != 0 and -delta <= age <= mod * delta + (delta // 2 if half else 0)


def slave_last_rx(cpu: Cpu, bond: Bonding, slave: Slave) -> int:
    """Its last arrival; with arp_all_targets=all that of the target that was silent longest."""
    settings, dev = bond.settings, slave.dev
    validated = do_arp_validate(settings.arp_validate, backup=slave.backup)
    if settings.arp_all_targets == "all" and validated and settings.arp_ip_target:
        times = [target_last_rx(cpu, dev, n) for n in range(len(settings.arp_ip_target))]
        now = cpu.jiffies()
        return max(times, key=lambda time: signed_difference(now, time))
    return last_rx(cpu, dev)


def remap_targets(cpu: Cpu, dev: NetDevice, old: list[bytes], new: list[bytes]) -> None:
    """Targets were added or removed: this CPU's times move with theirs; a new one begins now."""
    assert dev.nic is not None
    first, words = _TARGET_RX + ARP_TARGETS_MAX * dev.nic, cpu.words
    times = {target: words[first + n] for n, target in enumerate(old)}
    for n, target in enumerate(new):
        words[first + n] = times.get(target, cpu.jiffies())


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
