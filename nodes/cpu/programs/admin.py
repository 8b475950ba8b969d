"""What an administrator does about a NIC that died: remove it, rescan its slot, enslave it again.

``pci-remove`` is ``echo 1 > /sys/bus/pci/devices/.../remove``, ``pci-rescan`` is the rescan of that
slot, ``enslave`` is ``ip link set NIC master bond0``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.boot import enslave as boot_enslave
from nodes.cpu.kernel.pciprobe import pci_scan_device, pci_stop_and_remove_device
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.programs.run import STDERR, Process, program

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def _nic(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> int | None:
    names = cpu.machine.nic_names
    if not cpu.boot:
        process.write(f"{argv[0]}: only the boot CPU holds RTNL\n", STDERR)
    elif len(argv) != 2 or argv[1] not in names:
        process.write(f"{argv[0]}: one of {' '.join(names)} expected\n", STDERR)
    else:
        return names.index(argv[1])
    return None


@program("pci-remove")
def pci_remove(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    nic = _nic(cpu, process, argv)
    if nic is None:
        return 2
    yield from pci_stop_and_remove_device(cpu, nic)
    return 0


@program("pci-rescan")
def pci_rescan(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    nic = _nic(cpu, process, argv)
    if nic is None:
        return 2
    error: int = yield from pci_scan_device(cpu, nic, quiet=True)
    if error:
        process.write(f"{argv[1]}: probe failed with error {error}\n", STDERR)
    return 1 if error else 0


@program("enslave")
def enslave(cpu: Cpu, process: Process, argv: tuple[str, ...]) -> Context:
    nic = _nic(cpu, process, argv)
    if nic is None:
        return 2
    bond = cpu.machine.bond
    if bond is None or argv[1] not in bond.slaves:
        return 0
    error: int = yield from boot_enslave(cpu, argv[1])
    if error:
        process.write(f"{argv[1]}: cannot be enslaved, error {error}\n", STDERR)
    return 1 if error else 0
