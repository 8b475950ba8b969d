"""How the driver reaches its registers (ixgbe_main.c: ixgbe_read_reg, ixgbe_check_remove).

Every read may find that the device is gone: behaviour ``removed_device = "all-ones"`` (3.14 and
later) checks STATUS again and then forgets the mapping, older drivers believe the ones.

With the machine's ``fast_probe`` the driver reads nothing that it can know: words of the EEPROM,
bytes of the module, and what a reset leaves in a register (``known``), nor does it read STATUS only
to flush its posted writes (``flush``). It writes the same registers in the same order, but those of
the module's initialisation (CORECTL, AUTOC), which would only restart a link that is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.delay import mdelay
from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.percpu import ALL_ONES, Context, MmioRead
from nodes.cpu.kernel.printk import KERN_ERR, KERN_WARNING, printk

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

EIO, ENOENT, EBUSY, ENODEV, EINVAL, EOPNOTSUPP = 5, 2, 16, 19, 22, 95


def read_reg(cpu: Cpu, adapter: Adapter, register: int) -> Context:
    """ixgbe_read_reg: the value, or all ones once the adapter is gone."""
    if adapter.removed:
        return ALL_ONES
    value: int = yield MmioRead(adapter.nic, register)
    if value == ALL_ONES and cpu.params.removed_device == "all-ones":
        value = yield from _check_remove(cpu, adapter, register)
    return value


def known(cpu: Cpu, adapter: Adapter, register: int, value: int) -> Context:
    """A register whose value, if all went well, is ``value``."""
    if adapter.fast:
        return value
    return (yield from read_reg(cpu, adapter, register))


def flush(cpu: Cpu, adapter: Adapter) -> Context:
    """IXGBE_WRITE_FLUSH: a read pushes the writes before it."""
    if not adapter.fast:
        yield from read_reg(cpu, adapter, regs.STATUS)


def _check_remove(cpu: Cpu, adapter: Adapter, register: int) -> Context:
    """ixgbe_check_remove: is it one register, or the whole device?"""
    for attempt in range(regs.IXGBE_FAILED_READ_RETRIES):
        status = yield MmioRead(adapter.nic, regs.STATUS)
        if status != ALL_ONES:
            value: int = yield MmioRead(adapter.nic, register)
            return value
        if attempt < regs.IXGBE_FAILED_READ_RETRIES - 1:
            yield from mdelay(cpu, 3)
    adapter.removed = True
    printk(cpu, f"{driver_prefix(cpu, adapter)}: Adapter removed", KERN_ERR)
    on_removal = cpu.net.ixgbe_removed
    if on_removal is not None:
        yield from on_removal(cpu, adapter.nic)
    return ALL_ONES


def driver_prefix(cpu: Cpu, adapter: Adapter) -> str:
    """What the kernel prints before a message of this driver's device."""
    return f"ixgbe {cpu.machine.nics[adapter.nic].pci_name}"


def netdev_prefix(cpu: Cpu, adapter: Adapter) -> str:
    if cpu.params.log_format == "2.6.18":
        return f"{driver_prefix(cpu, adapter)}: {adapter.netdev.name}"
    return f"{driver_prefix(cpu, adapter)} {adapter.netdev.name}"


def e_info(cpu: Cpu, adapter: Adapter, text: str) -> None:
    """e_info and e_dev_info of a registered netdev."""
    printk(cpu, f"{netdev_prefix(cpu, adapter)}: {text}")


def e_warn(cpu: Cpu, adapter: Adapter, text: str) -> None:
    printk(cpu, f"{netdev_prefix(cpu, adapter)}: {text}", KERN_WARNING)


def e_err(cpu: Cpu, adapter: Adapter, text: str) -> None:
    printk(cpu, f"{netdev_prefix(cpu, adapter)}: {text}", KERN_ERR)


def check_fw_error(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_check_fw_error: the log tells if the firmware says that it is broken."""
    if cpu.params.ixgbe_health_checks != "on":
        return
    fwsm = yield from known(cpu, adapter, regs.FWSM, regs.FWSM_FW_VALID)
    broken = bool(fwsm & regs.FWSM_EXT_ERR) or not fwsm & regs.FWSM_FW_VALID
    if broken:  # of one that has just been found gone, too: its ones have the error's bits set
        text = f"Warning firmware error detected FWSM: 0x{fwsm:08X}"
        printk(cpu, f"{driver_prefix(cpu, adapter)}: {text}", KERN_ERR)
