"""/sys/bus/pci: taking a function out of the kernel and finding it again.

After drivers/pci/pci-sysfs.c: any number but 0 means yes. A rescan probes every slot that has no
driver; a slot where nobody answers is an empty slot, and nothing is said about it. After
drivers/base/bus.c: a function's name written to ``unbind`` or ``bind`` takes the driver away from
it or gives it back, in every era. Left out: a function without a driver is not listed.
"""

from __future__ import annotations

from errno import EINVAL, ENODEV
from typing import TYPE_CHECKING

from nodes.cpu.kernel.files import kstrtoint, store
from nodes.cpu.kernel.pciprobe import pci_scan_device, pci_stop_and_remove_device
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def _slot(cpu: Cpu, text: str) -> int | None:
    """Number of the slot whose function is called so."""
    names = [nic.pci_name for nic in cpu.machine.nics]
    name = text.removesuffix("\n")
    return names.index(name) if name in names else None


@store("/sys/bus/pci/devices/{pci}/remove")
def remove_store(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    value = kstrtoint(text)
    if value is None or value < 0:
        return -EINVAL
    slot = _slot(cpu, groups["pci"])
    if value and slot is not None:
        yield from pci_stop_and_remove_device(cpu, slot)
    return 0


@store("/sys/bus/pci/rescan")
def rescan_store(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    value = kstrtoint(text)
    if value is None or value < 0:
        return -EINVAL
    for number in range(len(cpu.machine.nics)):
        if value:
            yield from pci_scan_device(cpu, number, quiet=True)
    return 0


@store("/sys/bus/pci/drivers/ixgbe/unbind")
def unbind_store(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    slot = _slot(cpu, text)
    if slot is None or cpu.machine.nics[slot].name not in cpu.net.adapters:
        return -ENODEV
    yield from pci_stop_and_remove_device(cpu, slot)
    return 0


@store("/sys/bus/pci/drivers/ixgbe/bind")
def bind_store(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    slot = _slot(cpu, text)
    if slot is None or cpu.machine.nics[slot].name in cpu.net.adapters:
        return -ENODEV
    error: int = yield from pci_scan_device(cpu, slot)
    return error
