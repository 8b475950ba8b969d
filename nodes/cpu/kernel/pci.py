"""PCI from the kernel's side: configuration space and what stands in it (drivers/pci).

Configuration space is reached as by ECAM, all 4096 bytes of it. Nobody answering is all ones of the
size. A function is named by number: a NIC's, or from ``nodes.machine.PORTS`` on a root port's.
Message-signalled interrupts are in ``pcimsi``.
"""

from __future__ import annotations

from errno import EIO
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import ConfigAccess, Context
from nodes.machine import PORTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PCI_VENDOR_ID, PCI_DEVICE_ID, PCI_COMMAND, PCI_STATUS = 0x00, 0x02, 0x04, 0x06
PCI_CLASS_REVISION, PCI_CAPABILITY_LIST = 0x08, 0x34
PCI_COMMAND_MEMORY, PCI_COMMAND_MASTER, PCI_COMMAND_INTX_DISABLE = 0x2, 0x4, 0x400
PCI_STATUS_CAP_LIST = 0x10

PCI_CAP_ID_MSI, PCI_CAP_ID_EXP, PCI_CAP_ID_MSIX = 0x05, 0x10, 0x11
PCI_EXT_CAP_ID_DSN = 0x0003
PCI_CFG_SPACE_SIZE, PCI_CFG_SPACE_EXP_SIZE = 256, 4096
_STD_HEADER_SIZEOF = 0x40
_TTL = 48  # no list of the first 256 bytes can be longer

PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR = 8, 0x8000
PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_FLR = 4, 0x1000_0000


def read_config(cpu: Cpu, nic: int, offset: int, size_bytes: int) -> Context:
    """Configuration read; all ones of the size when nobody answers."""
    if nic < PORTS and cpu.pci_disconnected[nic]:
        return (1 << 8 * size_bytes) - 1
    value: int = yield ConfigAccess(nic, offset, size_bytes)
    return value & ((1 << 8 * size_bytes) - 1)


def write_config(cpu: Cpu, nic: int, offset: int, size_bytes: int, value: int) -> Context:
    """Configuration write; it is complete when this returns."""
    if nic < PORTS and cpu.pci_disconnected[nic]:
        return
    yield ConfigAccess(nic, offset, size_bytes, value)


def pci_dev_set_disconnected(cpu: Cpu, nic: int, gone: bool) -> None:
    """From now on (or not any more) nobody asks its configuration space."""
    cpu.pci_disconnected[nic] = gone


# ---------------------------------------------------------------- capabilities


def pci_find_capability(cpu: Cpu, nic: int, cap: int) -> Context:
    """Offset of a capability in the first 256 bytes; 0: the device has none of this id."""
    status = yield from read_config(cpu, nic, PCI_STATUS, 2)
    if not status & PCI_STATUS_CAP_LIST:
        return 0
    at = yield from read_config(cpu, nic, PCI_CAPABILITY_LIST, 1)
    for _ in range(_TTL):
        at &= ~3
        if at < _STD_HEADER_SIZEOF:
            return 0
        header = yield from read_config(cpu, nic, at, 2)
        if header & 0xFF == 0xFF:
            return 0
        if header & 0xFF == cap:
            return at
        at = header >> 8
    return 0


def pci_find_ext_capability(cpu: Cpu, nic: int, cap: int) -> Context:
    """Offset of an extended capability; 0: there is none of this id, or no extended space."""
    at = PCI_CFG_SPACE_SIZE
    for _ in range((PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) // 8):
        header = yield from read_config(cpu, nic, at, 4)
        if header in (0, 0xFFFF_FFFF):
            return 0
        if header & 0xFFFF == cap:
            return at
        at = header >> 20 & ~3
        if at < PCI_CFG_SPACE_SIZE:
            return 0
    return 0


def pci_get_dsn(cpu: Cpu, nic: int) -> Context:
    """The device serial number; 0 if it has none."""
    at = yield from pci_find_ext_capability(cpu, nic, PCI_EXT_CAP_ID_DSN)
    if not at:
        return 0
    low = yield from read_config(cpu, nic, at + 4, 4)
    high = yield from read_config(cpu, nic, at + 8, 4)
    return high << 32 | low


# ---------------------------------------------------------------- the function as a whole


def change_command(cpu: Cpu, nic: int, *, on: int = 0, off: int = 0) -> Context:
    """Set and clear bits of the command register; nothing is written if they stand so."""
    command = yield from read_config(cpu, nic, PCI_COMMAND, 2)
    wanted = command & ~off | on
    if wanted != command:
        yield from write_config(cpu, nic, PCI_COMMAND, 2, wanted)


def enable_device(cpu: Cpu, nic: int) -> Context:
    """pci_enable_device_mem and pci_set_master."""
    yield from change_command(cpu, nic, on=PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)


def pcie_flr(cpu: Cpu, nic: int) -> Context:
    """Reset the function; returns 0, or -EIO if it cannot be reset so. Its registers may be touched
    100 ms later, and whoever wants its configuration back has saved it."""
    at = yield from pci_find_capability(cpu, nic, PCI_CAP_ID_EXP)
    if not at:
        return -EIO
    able = yield from read_config(cpu, nic, at + PCI_EXP_DEVCAP, 4)
    if not able & PCI_EXP_DEVCAP_FLR:
        return -EIO
    control = yield from read_config(cpu, nic, at + PCI_EXP_DEVCTL, 2)
    wanted = control | PCI_EXP_DEVCTL_BCR_FLR
    yield from write_config(cpu, nic, at + PCI_EXP_DEVCTL, 2, wanted)
    return 0
