"""A transmit queue, and a packet that is gathered from its descriptors.

Source: 82599 datasheet 7.2.3. What an advanced packet wants done stands in its first descriptor,
what a legacy one wants in its last (the bits are qualified by EOP). Descriptors that make no sense
cost their packet: unknown type, no data, legacy and advanced ones mixed, more data than a packet
may have.
"""

from __future__ import annotations

from nodes.nic.dma import Dma
from nodes.nic.txoffload import DEXT, LEGACY_WANTS, PAYLOAD_BYTES_MAX, WANTS, Context

# dword 2 of a descriptor, legacy and advanced alike
EOP, IFCS, RS = 1 << 24, 1 << 25, 1 << 27
_DTYP, _DATA = 0xF << 20, 3 << 20
#: ``control & NOT_DATA == CONTEXT`` for a context descriptor.
NOT_DATA, CONTEXT = DEXT | _DTYP, DEXT | 2 << 20
DD = 1

#: A packet for segmentation with the longest headers that a context can describe.
PACKET_BYTES_MAX = PAYLOAD_BYTES_MAX + 1024
#: Reason of a packet that lies outside the mapped windows.
REFUSED = "refused"


def is_plain(control: int) -> bool:
    """A data descriptor without any offload?"""
    if control & DEXT:
        plain = control & (_DTYP | WANTS) == _DATA
    else:
        plain = not control & LEGACY_WANTS
    return plain and control & 0xFFFF != 0


class Packet:
    """A packet whose EOP has not come yet."""

    __slots__ = ("context", "control", "parts", "reason", "size")

    def __init__(self, control: int, context: Context | None) -> None:
        self.control = control  # of the first descriptor
        self.context = context
        self.parts: list[bytes] = []
        self.size = 0
        self.reason = ""  # why it must be dropped

    def add(self, dma: Dma, address: int, control: int) -> None:
        """The data of one descriptor; reading stops when there is too much of it."""
        size = control & 0xFFFF
        self.size += size
        unknown = control & DEXT and control & _DTYP != _DATA
        if unknown or not size or (control ^ self.control) & DEXT:
            self.reason = self.reason or "tx_drop_descriptor"
        elif self.size > PACKET_BYTES_MAX:
            self.reason = self.reason or "tx_drop_oversize"
        if self.size <= PACKET_BYTES_MAX and self.reason != REFUSED:
            data = dma.read(address, size)
            if data is None:
                self.reason = self.reason or REFUSED
            else:
                self.parts.append(data)


class TxQueue:
    """State of one queue; addresses are physical."""

    __slots__ = (
        "base", "broken", "contexts", "dirty", "enabled", "head", "head_writeback", "held",
        "number", "packet", "size", "tail", "threshold",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.base = 0
        self.size = 0
        self.head = 0
        self.tail = 0
        self.enabled = False
        self.threshold = 0
        self.head_writeback = 0
        self.held: list[int] = []  # descriptors done, DD not yet written
        self.packet: Packet | None = None
        self.contexts: list[Context | None] = [None, None]
        self.dirty = False
        self.broken = False  # a descriptor could not be fetched; stays until disabled
