"""Message-signalled interrupts as a driver asks for them: drivers/pci/msi, arch/x86 apic/msi.c.

A driver asks for MSI-X with as many vectors as it likes (``pci_enable_msix_range``), for the one
message of MSI if that fails (``pci_enable_msi``), and takes its INTx line if that fails too. What
it gets is irqs with vectors, target CPUs and chips, programmed into the device and masked; who
calls ``request_irq`` starts one up. The driver ixgbe has its irqs already when it comes here: it
only has its table programmed (``enable_msix``), whatever ``pci_msi`` says.

The boot CPU does all this. ``msi_setup_irq`` makes the descriptor on each CPU that needs one.

Behaviours: ``pci_msi`` (the kernel's ``pci=nomsi``), ``msi_destination``, and ``msix_setup``, the
order of the writes: 2.6.18 fills the used entries while MSI-X is off and trusts in their masks of
the reset; later the function is masked as a whole meanwhile, and the used entries are masked one by
one, since 5.14 all of them.

Left out: several MSI messages (no device here has them), vectors that are given while others are in
use.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import EINVAL, ENOSPC, ERANGE
from typing import TYPE_CHECKING, NamedTuple

from bus.messages import CfgWrite, MemWrite
from nodes.cpu.kernel.apic import FLAT_CPUS_MAX
from nodes.cpu.kernel.irq.affinity import online_mask, release_irq, setup_affinity
from nodes.cpu.kernel.irq.desc import FIRST_MSI_IRQ, IrqDesc
from nodes.cpu.kernel.irq.flow import irq_alloc_desc, irq_set_chip_and_handler
from nodes.cpu.kernel.irq.x86_chips import msi_chip, msix_chip
from nodes.cpu.kernel.pci import (
    PCI_CAP_ID_MSI,
    PCI_CAP_ID_MSIX,
    PCI_COMMAND_INTX_DISABLE,
    change_command,
    pci_find_capability,
    read_config,
    write_config,
)
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import PciFunction

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

# the MSI capability, in its form with 64-bit address and mask bits
MSI_FLAGS, MSI_ADDRESS, MSI_DATA, MSI_MASK = 0x2, 0x4, 0xC, 0x10
MSI_FLAGS_ENABLE = 0x1
# the MSI-X capability, and an entry of its table
MSIX_FLAGS, MSIX_FLAGS_QSIZE, MSIX_ENABLE, MSIX_MASKALL = 0x2, 0x7FF, 0x8000, 0x4000
MSIX_BAR, MSIX_ENTRY_BYTES = 4, 16
MSIX_VECTOR_CTRL, MSIX_CTRL_MASKBIT = 12, 1

#: Tag of configuration writes that nobody waits for.
_NO_TAG = 0
_MMIO_WRITES = CPU_SCHEMA.index("mmio_writes")


class MsiDesc(NamedTuple):
    """struct msi_desc: one interrupt of a device, as plain values that a replica can carry.
    ``domain``: mask of the CPUs that map its vector; ``at``: offset of the MSI capability, 0 for
    an entry of the MSI-X table."""

    irq: int
    nic: int
    msi_index: int
    vector: int
    target: int
    domain: int
    at: int


def msi_address(cpu: Cpu, target: int) -> int:
    """Where a message for CPU ``target`` is written: flat logical for up to 8 CPUs, as 6.1 does,
    or physical."""
    if cpu.params.msi_destination == "logical" and cpu.machine.cpus <= FLAT_CPUS_MAX:
        return 0xFEE0_0000 | (1 << target) << 12 | 1 << 2
    return 0xFEE0_0000 | target << 12


def msi_data(cpu: Cpu, vector: int) -> int:
    """Fixed delivery, edge; 2.6.18 also sets the (ignored) level bit."""
    return vector | (0x4000 if cpu.params.msi_destination == "physical" else 0)


# ---------------------------------------------------------------- the hardware behind a descriptor


class MsixEntry:
    """An entry of a NIC's MSI-X table as a line's hardware: its mask bit, by posted writes. A
    message raised while it is masked waits in the device."""

    __slots__ = ("_at", "_name", "_words_at")

    def __init__(self, nic: int, name: str, index: int) -> None:
        self._name = name
        self._at = index * MSIX_ENTRY_BYTES
        self._words_at = _MMIO_WRITES + nic

    def mask(self, cpu: Cpu) -> None:
        self._write(cpu, MSIX_VECTOR_CTRL, MSIX_CTRL_MASKBIT)

    def unmask(self, cpu: Cpu) -> None:
        self._write(cpu, MSIX_VECTOR_CTRL, 0)

    def eoi(self, cpu: Cpu) -> None:
        pass

    def write_msg(self, cpu: Cpu, target: int, vector: int) -> None:
        """The next message goes to CPU ``target`` as ``vector``; the entry is masked meanwhile."""
        self._write(cpu, 0, msi_address(cpu, target))
        self._write(cpu, 4, 0)
        self._write(cpu, 8, msi_data(cpu, vector))

    def _write(self, cpu: Cpu, offset: int, value: int) -> None:
        cpu.words[self._words_at] += 1
        cpu.post(self._name, MemWrite(MSIX_BAR, self._at + offset, value))


class MsiCapability:
    """The MSI capability as a line's hardware. Linux waits for each of these configuration writes;
    here nobody does, as chip operations never wait, and their order is kept all the same."""

    __slots__ = ("_at", "_function", "_name")

    def __init__(self, function: PciFunction, at: int) -> None:
        self._name = function.node
        self._function = function.function
        self._at = at

    def mask(self, cpu: Cpu) -> None:
        self._write(cpu, MSI_MASK, 1)

    def unmask(self, cpu: Cpu) -> None:
        self._write(cpu, MSI_MASK, 0)

    def eoi(self, cpu: Cpu) -> None:
        pass

    def write_msg(self, cpu: Cpu, target: int, vector: int) -> None:
        """The next message goes to CPU ``target`` as ``vector``; it is masked meanwhile."""
        self._write(cpu, MSI_ADDRESS, msi_address(cpu, target))
        self._write(cpu, MSI_ADDRESS + 4, 0)
        self._write(cpu, MSI_DATA, msi_data(cpu, vector), size_bytes=2)

    def _write(self, cpu: Cpu, offset: int, value: int, size_bytes: int = 4) -> None:
        write = CfgWrite(_NO_TAG, self._at + offset, size_bytes, value, self._function)
        cpu.post(self._name, write)


def msi_setup_irq(cpu: Cpu, entry: MsiDesc) -> IrqDesc:
    """The descriptor of an interrupt on this CPU, masked and without a handler."""
    function = cpu.machine.pci_function(entry.nic)
    hwirq = function.devid << 11 | entry.msi_index
    desc = irq_alloc_desc(cpu, entry.irq, hwirq, entry.vector, entry.target)
    if entry.domain >> cpu.number & 1:
        cpu.irq.vector_irq[entry.vector] = desc
    line: MsixEntry | MsiCapability
    if entry.at:
        chip, line = msi_chip(cpu), MsiCapability(function, entry.at)
    else:
        chip, line = msix_chip(cpu), MsixEntry(entry.nic, function.node, entry.msi_index)
    irq_set_chip_and_handler(cpu, desc, chip, "edge", line)
    return desc


# ---------------------------------------------------------------- irqs and vectors


def _alloc(cpu: Cpu, nic: int, count: int, affinity: Sequence[int], at: int) -> list[MsiDesc]:
    """irqs with vectors for ``count`` messages; OSError if there are not enough."""
    entries: list[MsiDesc] = []
    for index in range(count):
        irq = cpu.vectors.msi_irq(_lowest_free(cpu))
        hint = affinity[index] if index < len(affinity) else 0
        state = setup_affinity(cpu, irq, hint or None, hint=hint)
        try:
            cpu.vectors.activate(irq, state.affinity, online_mask(cpu))
        except OSError:
            msi_free_irqs(cpu, entries)
            raise
        cfg = cpu.vectors.cfg[irq]
        state.target = cfg.target(state.affinity, online_mask(cpu))
        entries.append(MsiDesc(irq, nic, index, cfg.vector, state.target, cfg.domain, at))
    return entries


def _lowest_free(cpu: Cpu) -> int:
    irq = FIRST_MSI_IRQ
    while irq in cpu.vectors.cfg or irq in cpu.irq.desc:
        irq += 1
    return irq


def msi_free_irqs(cpu: Cpu, entries: Sequence[MsiDesc]) -> None:
    """Vectors and numbers are free again; nobody has a handler or a descriptor of them."""
    for entry in entries:
        release_irq(cpu, entry.irq)


# ---------------------------------------------------------------- MSI-X


def pci_enable_msix_range(
    cpu: Cpu, nic: int, minvec: int, maxvec: int, affinity: Sequence[int] = ()
) -> Context:
    """Switch MSI-X on with as many vectors as there are, ``minvec`` to ``maxvec``; returns a list
    of ``MsiDesc`` or a negative errno. ``affinity``: a mask for each vector, 0 the default."""
    if maxvec < minvec:
        return -ERANGE
    at = 0
    if cpu.params.pci_msi == "on":
        at = yield from pci_find_capability(cpu, nic, PCI_CAP_ID_MSIX)
    if not at:
        return -EINVAL
    control = yield from read_config(cpu, nic, at + MSIX_FLAGS, 2)
    entries: list[MsiDesc] = []
    wanted = min(maxvec, (control & MSIX_FLAGS_QSIZE) + 1)
    while wanted >= minvec and not entries:
        try:
            entries = _alloc(cpu, nic, wanted, affinity, 0)
        except OSError:
            wanted -= 1
    if not entries:
        return -ENOSPC
    name = cpu.machine.nics[nic].name
    messages = [(entry.target, entry.vector) for entry in entries]
    yield from _program_msix(cpu, nic, name, at + MSIX_FLAGS, messages)
    return entries


def enable_msix(cpu: Cpu, nic: int, name: str, entries: Sequence[tuple[int, int]]) -> Context:
    """Program the entries, each (target CPU, vector). Each stays masked until its line is started
    up."""
    at = yield from pci_find_capability(cpu, nic, PCI_CAP_ID_MSIX)
    if at:
        yield from _program_msix(cpu, nic, name, at + MSIX_FLAGS, entries)


def _program_msix(
    cpu: Cpu, nic: int, name: str, flags: int, messages: Sequence[tuple[int, int]]
) -> Context:
    """msix_capability_init, in this era's order; ``messages``: (target CPU, vector)."""
    order = cpu.params.msix_setup
    control = yield from read_config(cpu, nic, flags, 2)
    lines = [MsixEntry(nic, name, index) for index in range((control & MSIX_FLAGS_QSIZE) + 1)]
    if order != "table-first":
        yield from write_config(cpu, nic, flags, 2, control | MSIX_ENABLE | MSIX_MASKALL)
    for line, (target, vector) in zip(lines, messages, strict=False):
        line.write_msg(cpu, target, vector)
        if order == "used-masked":
            line.mask(cpu)
    if order == "table-first":
        yield from write_config(cpu, nic, flags, 2, control & ~MSIX_MASKALL | MSIX_ENABLE)
    yield from change_command(cpu, nic, on=PCI_COMMAND_INTX_DISABLE)
    if order == "all-masked":
        for line in lines:
            line.mask(cpu)
    if order != "table-first":
        yield from write_config(cpu, nic, flags, 2, control & ~MSIX_MASKALL | MSIX_ENABLE)


def disable_msix(cpu: Cpu, nic: int) -> Context:
    """pci_disable_msix: the function may use its INTx wire again."""
    at = yield from pci_find_capability(cpu, nic, PCI_CAP_ID_MSIX)
    if at:
        control = yield from read_config(cpu, nic, at + MSIX_FLAGS, 2)
        yield from write_config(cpu, nic, at + MSIX_FLAGS, 2, control & ~MSIX_ENABLE)
        yield from change_command(cpu, nic, off=PCI_COMMAND_INTX_DISABLE)


# ---------------------------------------------------------------- MSI


def pci_enable_msi(cpu: Cpu, nic: int, affinity: int = 0) -> Context:
    """Switch MSI on with one message; returns its ``MsiDesc`` or a negative errno."""
    at = 0
    if cpu.params.pci_msi == "on":
        at = yield from pci_find_capability(cpu, nic, PCI_CAP_ID_MSI)
    if not at:
        return -EINVAL
    try:
        (entry,) = _alloc(cpu, nic, 1, (affinity,), at)
    except OSError:
        return -ENOSPC
    flags = yield from read_config(cpu, nic, at + MSI_FLAGS, 2)
    flags &= ~MSI_FLAGS_ENABLE
    yield from write_config(cpu, nic, at + MSI_FLAGS, 2, flags)
    line = MsiCapability(cpu.machine.pci_function(nic), at)
    line.mask(cpu)
    line.write_msg(cpu, entry.target, entry.vector)
    yield from change_command(cpu, nic, on=PCI_COMMAND_INTX_DISABLE)
    yield from write_config(cpu, nic, at + MSI_FLAGS, 2, flags | MSI_FLAGS_ENABLE)
    return entry


def pci_disable_msi(cpu: Cpu, nic: int) -> Context:
    """Switch it off; the mask bit is left as a reset leaves it, and INTx may be used again."""
    at = yield from pci_find_capability(cpu, nic, PCI_CAP_ID_MSI)
    if not at:
        return
    flags = yield from read_config(cpu, nic, at + MSI_FLAGS, 2)
    yield from write_config(cpu, nic, at + MSI_FLAGS, 2, flags & ~MSI_FLAGS_ENABLE)
    yield from change_command(cpu, nic, off=PCI_COMMAND_INTX_DISABLE)
    yield from write_config(cpu, nic, at + MSI_MASK, 4, 0)
