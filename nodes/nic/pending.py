"""Messages that may be held back: the pending bits of MSI and MSI-X.

Source: PCI Local Bus 3.0 section 6.8. A message to a masked vector becomes its pending bit; a
second one merges into it; it leaves once when the mask goes, whatever became of its cause. Whoever
can mask vectors says so by ``masked``; a mask that is set and taken away again, also by setting all
vectors up anew, costs a delay and loses nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from bus.recorder import Recorder
from nodes.nic import trace
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.turn import Now, bits_of

_RAISED = NIC_SCHEMA.index("msi_raised")
_OUT = NIC_SCHEMA.index("msi_out")
_MASKED = NIC_SCHEMA.index("msi_masked_pba")
_MERGED = NIC_SCHEMA.index("msi_merged_pba")
_PENDING = NIC_SCHEMA.index("msi_pending")
_CLEARED = NIC_SCHEMA.index("msi_cleared")


class PendingBits(ABC):
    """``allowed``: bus mastering; without it nothing leaves, as if everything were masked."""

    def __init__(self, words: memoryview, recorder: Recorder) -> None:
        self._words = words
        self._recorder = recorder
        self.now = Now()
        self.allowed = False
        self.pending = 0

    @abstractmethod
    def masked(self, vector: int) -> bool:
        """Must a message of ``vector`` wait?"""

    @abstractmethod
    def send(self, vector: int) -> None:
        """Let a message of ``vector`` go."""

    def message(self, vector: int) -> None:
        """The device raises ``vector``."""
        words = self._words
        words[_RAISED] += 1
        if self.allowed and not self.masked(vector):
            words[_OUT] += 1
            self.send(vector)
            return
        words[_MASKED] += 1
        bit = 1 << vector
        if self.pending & bit:
            words[_MERGED] += 1
            return
        self._set(self.pending | bit)
        if self.now.trace >> trace.MSI_PENDING & 1:
            self._recorder.record(self.now.ns, trace.MSI_PENDING, a=vector)

    def set_allowed(self, allowed: bool) -> None:
        """Bus mastering came or went."""
        self.allowed = allowed
        self.release()

    def release(self) -> None:
        """Send what is pending and no longer masked."""
        if not (self.pending and self.allowed):
            return
        for vector in bits_of(self.pending):
            if not self.masked(vector):
                self._set(self.pending & ~(1 << vector))
                self._words[_OUT] += 1
                self.send(vector)

    def clear(self, vectors: int = -1) -> None:
        """Pending bits of these vectors go without a message."""
        gone = self.pending & vectors
        if gone:
            self._set(self.pending & ~gone)
            self._words[_CLEARED] += gone.bit_count()

    def _set(self, pending: int) -> None:
        self._words[_PENDING] += pending.bit_count() - self.pending.bit_count()
        self.pending = pending
        self.publish()

    @abstractmethod
    def publish(self) -> None:
        """Show the pending bits where software looks for them."""
