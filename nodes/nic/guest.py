"""A NIC in the PCIe slot of a guest: the same card, driven by a real kernel in a virtual machine.

CPUs, interrupt controller and memory are the guest's, and they are one peer, ``@guest``: the port
through which a virtual machine monitor speaks vfio-user (``bus.vfio_user``). It reads and writes
registers and configuration space as CPUs do, maps and unmaps the guest's memory, and says which
interrupt vectors it waits for. When the guest
goes, the card forgets all, as by a power cycle, and the next one finds it new.

What the guest's monitor emulates itself (the MSI-X table, MSI's address and mask) never comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bus.messages import (
    Completion,
    GuestMap,
    GuestReset,
    GuestTrigger,
    GuestUnmap,
    GuestVectors,
    PeerBack,
    PeerLost,
)
from bus.node import Surroundings
from bus.vfio_user import MSI, MSIX, Card
from nodes.configspace import CONFIG_BYTES
from nodes.machine import GUEST, MachineSettings, NicSettings
from nodes.nic.configspace import BAR0_BYTES, BAR2_BYTES, BAR4_BYTES
from nodes.nic.dma import Dma
from nodes.nic.guestmemory import GuestDma
from nodes.nic.guestmsi import Armed
from nodes.nic.node import NicNode
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.pcie import Bus
from nodes.nic.registers import VECTORS

#: Regions: BARs, ROM, configuration space, VGA. Vectors: INTx, MSI, MSI-X, error, request.
CARD = Card(
    (BAR0_BYTES, 0, BAR2_BYTES, 0, BAR4_BYTES, 0, 0, CONFIG_BYTES, 0), (1, 1, VECTORS, 1, 0)
)

_GUEST = NIC_SCHEMA.index("guest")


class GuestNicNode(NicNode):
    """One NIC of a guest."""

    upstream = GUEST

    def __init__(self, around: Surroundings, machine: MachineSettings, nic: NicSettings) -> None:
        super().__init__(around, machine, nic)
        more: dict[type[Any], Callable[[str, Any], None]] = {
            GuestMap: self._map,
            GuestUnmap: self._unmap,
            GuestVectors: self._vectors,
            GuestReset: self._reset,
        }
        self._handlers |= more

    def memory(self) -> Dma:
        self._memory = GuestDma(self._words)
        return self._memory

    def bus(self) -> Bus:
        return Bus(self._msi, self._intx, self._trigger)

    def _trigger(self, index: int, vector: int) -> None:
        self.interrupt(GuestTrigger(index, vector))

    # -- what the guest's port asks for

    def _map(self, sender: str, message: GuestMap) -> None:
        _, address, size, writable, memory = message
        code = self._memory.map(address, size, writable, memory)
        self.post(sender, Completion(message.tag, code))

    def _unmap(self, sender: str, message: GuestUnmap) -> None:
        code = self._memory.unmap(message.address, message.size)
        self.post(sender, Completion(message.tag, code))

    def _vectors(self, sender: str, message: GuestVectors) -> None:
        self._arm(message.kind, message.armed)
        self.post(sender, Completion(message.tag, 0))

    def _arm(self, kind: int, armed: int) -> None:
        holder = {MSI: self.function.msi, MSIX: self.function.msix}[kind]
        assert isinstance(holder, Armed)
        holder.arm(armed)

    def _reset(self, sender: str, message: GuestReset) -> None:
        self.function.reset(function_level=True)
        self.post(sender, Completion(message.tag, 0))

    # -- the guest comes and goes

    def _peer_back(self, sender: str, message: PeerBack) -> None:
        if sender == GUEST:
            self._words[_GUEST] = 1
        super()._peer_back(sender, message)

    def _peer_lost(self, sender: str, message: PeerLost) -> None:
        if sender == GUEST:
            self._words[_GUEST] = 0
            self._arm(MSI, 0)
            self._arm(MSIX, 0)
            self.function.power_on()
            self._memory.clear()
            self._laser(self.device.link.laser)
        super()._peer_lost(sender, message)
