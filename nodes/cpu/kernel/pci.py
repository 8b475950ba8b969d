"""PCI from the kernel's side: configuration space, MSI-X set-up (drivers/pci, arch/x86 msi)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus.messages import MemWrite
from nodes.cpu.kernel.percpu import ConfigAccess, Context
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

PCI_VENDOR_ID, PCI_DEVICE_ID, PCI_COMMAND = 0x00, 0x02, 0x04
PCI_COMMAND_MEMORY, PCI_COMMAND_MASTER, PCI_COMMAND_INTX_DISABLE = 0x2, 0x4, 0x400
MSIX_CONTROL, MSIX_ENABLE, MSIX_MASKALL = 0x72, 0x8000, 0x4000
MSIX_BAR, MSIX_ENTRY_BYTES = 4, 16
MSIX_VECTOR_CTRL, MSIX_CTRL_MASKBIT = 12, 1
LOGICAL_CPUS_MAX = 8

_MMIO_WRITES = CPU_SCHEMA.index("mmio_writes")


def read_config(cpu: Cpu, nic: int, offset: int, size_bytes: int) -> Context:
    """Configuration read; all ones of the size when nobody answers."""
    value: int = yield ConfigAccess(nic, offset, size_bytes)
    return value & ((1 << 8 * size_bytes) - 1)


def write_config(cpu: Cpu, nic: int, offset: int, size_bytes: int, value: int) -> Context:
    """Configuration write; it is complete when this returns."""
    yield ConfigAccess(nic, offset, size_bytes, value)


def enable_device(cpu: Cpu, nic: int) -> Context:
    """pci_enable_device_mem and pci_set_master."""
    command = yield from read_config(cpu, nic, PCI_COMMAND, 2)
    wanted = command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER
    yield from write_config(cpu, nic, PCI_COMMAND, 2, wanted)


def msi_address(cpu: Cpu, target: int) -> int:
    """Where a message for CPU ``target`` is written: flat logical for up to 8 CPUs, as 6.1 does,
    or physical."""
    if cpu.params.msi_destination == "logical" and cpu.machine.cpus <= LOGICAL_CPUS_MAX:
        return 0xFEE0_0000 | (1 << target) << 12 | 1 << 2
    return 0xFEE0_0000 | target << 12


def msi_data(cpu: Cpu, vector: int) -> int:
    """Fixed delivery, edge; 2.6.18 also sets the (ignored) level bit."""
    return vector | (0x4000 if cpu.params.msi_destination == "physical" else 0)


class MsixEntry:
    """An entry of a NIC's MSI-X table as a line's hardware: its mask bit, by posted writes. A
    message raised while it is masked waits in the device."""

    __slots__ = ("_at", "_name", "_words_at")

    def __init__(self, nic: int, name: str, index: int) -> None:
        self._name = name
        self._at = index * MSIX_ENTRY_BYTES + MSIX_VECTOR_CTRL
        self._words_at = _MMIO_WRITES + nic

    def mask(self, cpu: Cpu) -> None:
        self._write(cpu, MSIX_CTRL_MASKBIT)

    def unmask(self, cpu: Cpu) -> None:
        self._write(cpu, 0)

    def eoi(self, cpu: Cpu) -> None:
        pass

    def write_msg(self, cpu: Cpu, target: int, vector: int) -> None:
        """The next message goes to CPU ``target`` as ``vector``; the entry is masked meanwhile."""
        low = self._at - MSIX_VECTOR_CTRL
        for offset, value in ((0, msi_address(cpu, target)), (4, 0), (8, msi_data(cpu, vector))):
            cpu.words[self._words_at] += 1
            cpu.post(self._name, MemWrite(MSIX_BAR, low + offset, value))

    def _write(self, cpu: Cpu, value: int) -> None:
        cpu.words[self._words_at] += 1
        cpu.post(self._name, MemWrite(MSIX_BAR, self._at, value))


def enable_msix(cpu: Cpu, nic: int, name: str, entries: list[tuple[int, int]]) -> Context:
    """Program the entries, each (target CPU, vector), in 6.1's order: everything masked while the
    table is written. Each stays masked until its line is started up."""
    control = yield from read_config(cpu, nic, MSIX_CONTROL, 2)
    yield from write_config(cpu, nic, MSIX_CONTROL, 2, control | MSIX_ENABLE | MSIX_MASKALL)
    for index, (target, vector) in enumerate(entries):
        at = index * MSIX_ENTRY_BYTES
        for offset, value in (
            (0, msi_address(cpu, target)),
            (4, 0),
            (8, msi_data(cpu, vector)),
            (MSIX_VECTOR_CTRL, MSIX_CTRL_MASKBIT),
        ):
            cpu.words[_MMIO_WRITES + nic] += 1
            cpu.post(name, MemWrite(MSIX_BAR, at + offset, value))
    command = yield from read_config(cpu, nic, PCI_COMMAND, 2)
    yield from write_config(cpu, nic, PCI_COMMAND, 2, command | PCI_COMMAND_INTX_DISABLE)
    yield from write_config(cpu, nic, MSIX_CONTROL, 2, control & ~MSIX_MASKALL | MSIX_ENABLE)


def disable_msix(cpu: Cpu, nic: int) -> Context:
    """Switch MSI-X off."""
    control = yield from read_config(cpu, nic, MSIX_CONTROL, 2)
    yield from write_config(cpu, nic, MSIX_CONTROL, 2, control & ~MSIX_ENABLE)
