"""A device enters the kernel and leaves it: drivers/pci/probe.c, remove.c.

There is one kind of device and one driver for it. Only one task at a time changes what there is
(``pci_lock_rescan_remove``; before 3.14 there was no such lock, and what could go wrong without it
is not modelled).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_ERR, printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def pci_scan_device(cpu: Cpu, nic: int, *, quiet: bool = False) -> Context:
    """Probe the function in a slot if it has no driver yet; 0 or the driver's negative errno.
    ``quiet``: an empty slot is nothing to talk about."""
    yield from cpu.pci_rescan_remove.lock(cpu)
    settings = cpu.machine.nics[nic]
    error = 0
    if settings.name not in cpu.net.adapters:
        error = yield from ixgbe.probe(cpu, nic)
    cpu.pci_rescan_remove.unlock(cpu)
    if error and not quiet:
        printk(cpu, f"ixgbe {settings.pci_name}: probe failed with error {error}", KERN_ERR)
    return error


def pci_stop_and_remove_device(cpu: Cpu, nic: int) -> Context:
    """Its driver's remove; the hardware may be gone already."""
    yield from cpu.pci_rescan_remove.lock(cpu)
    yield from ixgbe.remove(cpu, nic)
    cpu.pci_rescan_remove.unlock(cpu)
