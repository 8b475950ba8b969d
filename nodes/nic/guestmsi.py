"""MSI and MSI-X of a function in a guest: a vector is an eventfd that somebody waits for.

A virtual machine monitor emulates the table of MSI-X and the address, data and mask words of MSI
itself; what it tells the card of them is which vectors have an eventfd (vfio's SET_IRQS). So here
the table's place is taken by ``armed``: a vector without an eventfd is masked, and its message
becomes a pending bit. While a monitor takes all of them away to set them up anew, nothing is lost.
The function's own enable and mask bits in configuration space count as ever. Trace records have the
interrupt index where address and data stand else.
"""

from __future__ import annotations

from bus.vfio_user import MSI, MSIX
from nodes.nic import trace
from nodes.nic.msi import Msi
from nodes.nic.msix import Msix
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.pending import PendingBits

_BY_VECTOR = NIC_SCHEMA.index("msi_by_vector")


class Armed(PendingBits):
    """A vector without an eventfd is masked. The owner's function takes (index, vector) where it
    takes address and data else."""

    _armed = 0

    def arm(self, vectors: int) -> None:
        """These vectors have an eventfd."""
        self._armed = vectors
        self.release()


class GuestMsix(Armed, Msix):
    """MSI-X without a table."""

    def masked(self, vector: int) -> bool:
        return not (self.enabled and self._armed >> vector & 1) or self.function_masked

    def send(self, vector: int) -> None:
        self._words[_BY_VECTOR + vector] += 1
        if self.now.trace >> trace.MSI & 1:
            self._recorder.record(self.now.ns, trace.MSI, vector, MSIX)
        self._write(MSIX, vector)


class GuestMsi(Armed, Msi):
    """MSI without address, data and mask."""

    def masked(self, vector: int) -> bool:
        return not self.enabled or not self._armed >> vector & 1

    def send(self, vector: int) -> None:
        if self.now.trace >> trace.MSI & 1:
            self._recorder.record(self.now.ns, trace.MSI, vector, MSI)
        self._write(MSI, vector)
