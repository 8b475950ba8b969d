"""The MSI-X table: vector n becomes (address, data).

Source: PCI Local Bus 3.0 section 6.8.2, 82599 datasheet 9.3.8. A vector is masked by its own mask
bit, by the function mask, or while MSI-X is disabled. Address and data are taken at the moment of
sending.

BAR 4: the table at 0, the pending bit array (read only) at 0x2000; accesses that are not 32 bits
wide and aligned change nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from bus.recorder import Recorder
from nodes.nic import trace
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.pending import PendingBits
from nodes.nic.registers import VECTORS

PBA_OFFSET = 0x2000
TABLE_BYTES = VECTORS * 16

_BY_VECTOR = NIC_SCHEMA.index("msi_by_vector")
_PBA = NIC_SCHEMA.index("pba")
#: Copies of table words for whoever looks at the page, by their offset in an entry.
_COPIES = {0x0: NIC_SCHEMA.index("msix_address"), 0x8: NIC_SCHEMA.index("msix_data")}


class Msix(PendingBits):
    """``write(address, data)`` takes the messages."""

    def __init__(
        self, words: memoryview, recorder: Recorder, write: Callable[[int, int], None]
    ) -> None:
        super().__init__(words, recorder)
        self._write = write
        self.enabled = False
        self.function_masked = False
        self._table = [0, 0, 0, 1] * VECTORS

    def reset(self) -> None:
        """Reset of the function: all vectors masked, nothing pending."""
        self._table = [0, 0, 0, 1] * VECTORS
        for copy in _COPIES.values():
            self._words[copy : copy + VECTORS] = memoryview(bytes(8 * VECTORS)).cast("Q")
        self.enabled = self.function_masked = False
        self.clear()

    def control(self, enabled: bool, function_masked: bool) -> None:
        """Bits 15 and 14 of the message control word."""
        self.enabled, self.function_masked = enabled, function_masked
        self.release()

    def masked(self, vector: int) -> bool:
        return bool(not self.enabled or self.function_masked or self._table[4 * vector + 3] & 1)

    def send(self, vector: int) -> None:
        low, high, data = self._table[4 * vector : 4 * vector + 3]
        self._words[_BY_VECTOR + vector] += 1
        address = low & ~3 | high << 32
        if self.now.trace >> trace.MSI & 1:
            self._recorder.record(self.now.ns, trace.MSI, vector, address, data)
        self._write(address, data)

    def publish(self) -> None:
        self._words[_PBA] = self.pending

    # -- BAR 4

    def read32(self, offset: int) -> int:
        """The table and the pending bits; 0 elsewhere."""
        if offset < TABLE_BYTES:
            return self._table[offset >> 2]
        if PBA_OFFSET <= offset < PBA_OFFSET + VECTORS // 8:
            return self.pending >> 8 * (offset - PBA_OFFSET) & 0xFFFF_FFFF
        return 0

    def write32(self, offset: int, value: int) -> None:
        """Table entries; whatever is not aligned or lies elsewhere is ignored."""
        if offset & 3 or offset >= TABLE_BYTES:
            return
        self._table[offset >> 2] = value
        copy = _COPIES.get(offset & 0xC)
        if copy is not None:
            self._words[copy + (offset >> 4)] = value
        if offset & 0xC == 0xC and not value & 1:
            self.release()

    def entries(self) -> list[tuple[int, int, int, int]]:
        """(vector, address, data, masked) of the entries that were written."""
        out = []
        for vector in range(VECTORS):
            low, high, data, control = self._table[4 * vector : 4 * vector + 4]
            if low or high or data or not control & 1:
                out.append((vector, low | high << 32, data, control & 1))
        return out
