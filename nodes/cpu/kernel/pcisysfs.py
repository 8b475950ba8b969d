"""/sys/bus/pci: taking a function out of the kernel and finding it again.

After drivers/pci/pci-sysfs.c: any number but 0 means yes. A rescan probes every slot that has no
driver; a slot where nobody answers is an empty slot, and nothing is said about it.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import main as ixgbe
from nodes.cpu.kernel.files import kstrtoint, store
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


@store("/sys/bus/pci/devices/{pci}/remove")
def remove_store(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    value = kstrtoint(text)
    if value is None or value < 0:
        return -EINVAL
    for number, nic in enumerate(cpu.machine.nics):
        if value and nic.pci_name == groups["pci"]:
            yield from ixgbe.remove(cpu, number)
    return 0


@store("/sys/bus/pci/rescan")
def rescan_store(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    value = kstrtoint(text)
    if value is None or value < 0:
        return -EINVAL
    for number, nic in enumerate(cpu.machine.nics):
        if value and nic.name not in cpu.net.adapters:
            yield from ixgbe.probe(cpu, number)
    return 0
