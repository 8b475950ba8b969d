"""MSI and MSI-X of a function in a guest: a vector is an eventfd that somebody waits for.

A virtual machine monitor emulates the table of MSI-X and the address, data and mask words of MSI
itself; what it tells the card of them is which vectors have an eventfd (vfio's SET_IRQS). So here
the table's place is taken by ``armed``: a vector without an eventfd is masked, and its message
becomes a pending bit. While a monitor takes all of them away to set them up anew, nothing is lost.
The function's own enable and mask bits in configuration space count as ever. Trace records have the
interrupt index where address and data stand else.
"""

from __future__ import annotations

from collections.abc import Callable

from bus.recorder import Recorder
from nodes.nic import trace
from nodes.nic.configspace import ConfigSpace
from nodes.nic.msi import Msi
from nodes.nic.msix import Msix
from nodes.nic.page import NIC_SCHEMA

#: Interrupt indexes of vfio.
MSI, MSIX = 1, 2
_BY_VECTOR = NIC_SCHEMA.index("msi_by_vector")


class GuestMsix(Msix):
    """``trigger(index, vector)`` takes the messages."""

    def __init__(
        self, words: memoryview, recorder: Recorder, trigger: Callable[[int, int], None]
    ) -> None:
        super().__init__(words, recorder, trigger)
        self._trigger = trigger
        self._armed = 0

    def arm(self, vectors: int) -> None:
        """These vectors have an eventfd."""
        self._armed = vectors
        self.release()

    def masked(self, vector: int) -> bool:
        return not (self.enabled and self._armed >> vector & 1) or self.function_masked

    def send(self, vector: int) -> None:
        self._words[_BY_VECTOR + vector] += 1
        if self.now.trace >> trace.MSI & 1:
            self._recorder.record(self.now.ns, trace.MSI, vector, MSIX)
        self._trigger(MSIX, vector)


class GuestMsi(Msi):
    """``trigger(index, vector)`` takes the messages."""

    def __init__(
        self,
        space: ConfigSpace,
        words: memoryview,
        recorder: Recorder,
        trigger: Callable[[int, int], None],
    ) -> None:
        super().__init__(space, words, recorder, trigger)
        self._trigger = trigger
        self._armed = 0

    def arm(self, vectors: int) -> None:
        """These vectors have an eventfd."""
        self._armed = vectors
        self.release()

    def masked(self, vector: int) -> bool:
        return not self.enabled or not self._armed >> vector & 1

    def send(self, vector: int) -> None:
        if self.now.trace >> trace.MSI & 1:
            self._recorder.record(self.now.ns, trace.MSI, vector, MSI)
        self._trigger(MSI, vector)
