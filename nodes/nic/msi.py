"""The MSI capability: one message in configuration space, or an aligned power of two of them.

Source: PCI Local Bus 3.0 section 6.8.1, the form with 64-bit address and per-vector mask bits.
Message k goes to the one address with the low bits of the data replaced by k, as many as Multiple
Message Enable grants; a message that was not granted speaks through the ones that were (the card
here asks for one). Disabling clears nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from bus.recorder import Recorder
from nodes.nic import trace
from nodes.nic.configspace import MSI, ConfigSpace
from nodes.nic.pending import PendingBits

CONTROL, _ADDRESS, _DATA, _MASK, _PENDING = MSI + 2, MSI + 4, MSI + 0xC, MSI + 0x10, MSI + 0x14
_ENABLE = 1


class Msi(PendingBits):
    """``write(address, data)`` takes the messages."""

    def __init__(
        self,
        space: ConfigSpace,
        words: memoryview,
        recorder: Recorder,
        write: Callable[[int, int], None],
    ) -> None:
        super().__init__(words, recorder)
        self._space = space
        self._write = write

    @property
    def enabled(self) -> bool:
        return bool(self._space.get(CONTROL) & _ENABLE)

    def _granted(self) -> int:
        """Messages that software granted, never more than the function asks for."""
        control = self._space.get(CONTROL)
        return 1 << min(control >> 4 & 7, control >> 1 & 7)

    def message(self, vector: int) -> None:
        super().message(vector % self._granted())

    def masked(self, vector: int) -> bool:
        return not self.enabled or bool(self._space.get(_MASK, 4) >> vector & 1)

    def send(self, vector: int) -> None:
        address = self._space.get(_ADDRESS, 8)
        data = self._space.get(_DATA) & -self._granted() | vector
        if self.now.trace >> trace.MSI & 1:
            self._recorder.record(self.now.ns, trace.MSI, vector, address, data)
        self._write(address, data)

    def publish(self) -> None:
        self._space.put(_PENDING, self.pending)
