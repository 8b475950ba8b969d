"""The device of a slot enters and leaves the kernel (pciehp_pci.c), and what user space does then.

A new device is found, its driver probes it, and a uevent tells udev; the machine's own
configuration (ifcfg files and the like) takes a bond's slave into its bond again, or gives the one
NIC of a machine without a bond its address. ``cpu.ifup`` is that configuration: boot hands it over.

The log has the line that says what was found; those about BARs are left out, as a request here
names its BAR and not an address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.pci import (
    PCI_CLASS_REVISION,
    pci_dev_set_disconnected,
    read_config,
)
from nodes.cpu.kernel.pciehp import hpc
from nodes.cpu.kernel.pciehp.controller import Controller
from nodes.cpu.kernel.pciprobe import pci_scan_device, pci_stop_and_remove_device
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.sched import kthread_run

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def pciehp_configure_device(cpu: Cpu, ctrl: Controller) -> Context:
    nic = ctrl.nic
    if cpu.params.log_format != "2.6.18":
        ids = yield from read_config(cpu, nic, 0, 4)
        kind = yield from read_config(cpu, nic, PCI_CLASS_REVISION, 4)
        name = cpu.machine.nics[nic].pci_name
        numbers = f"[{ids & 0xFFFF:04x}:{ids >> 16:04x}] type 00 class {kind >> 8:#08x}"
        printk(cpu, f"pci {name}: {numbers}")
    if not (yield from pci_scan_device(cpu, nic)) and cpu.ifup is not None:
        kthread_run(cpu, "ifup", cpu.ifup(cpu, nic))


def pciehp_unconfigure_device(cpu: Cpu, ctrl: Controller) -> Context:
    """A card that is not there any more is marked first, so that nobody asks it."""
    present = yield from hpc.card_present(cpu, ctrl)
    if not present and cpu.params.removed_config == "marked":
        pci_dev_set_disconnected(cpu, ctrl.nic, True)
    yield from pci_stop_and_remove_device(cpu, ctrl.nic)
    pci_dev_set_disconnected(cpu, ctrl.nic, False)  # what comes next is another device
