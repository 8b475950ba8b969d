"""IVAR and IVAR_MISC: which vector a cause speaks through.

Source: 82599 datasheet 7.3.4.2 and 8.2.3.5. IVAR(k) has a byte for each direction of queues 2k and
2k + 1 (Rx 2k, Tx 2k, Rx 2k + 1, Tx 2k + 1), IVAR_MISC one for the TCP timer and one for all other
causes; bit 7 says that the byte is valid. With GPIE.MSIX_MODE a byte names one of 64 vectors, else
one of the 16 queue bits of EICR.
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.nic.regfile import RegisterFile
from nodes.nic.registers import QUEUES

_VALID = 0x80


class Routing:
    """-1: a cause that is not mapped never interrupts. ``changed()`` is told of IVAR_MISC."""

    def __init__(self, regs: RegisterFile, changed: Callable[[], None]) -> None:
        self._regs = regs
        self._changed = changed
        self._numbers = 0xF
        self.rx = [-1] * QUEUES
        self.tx = [-1] * QUEUES
        self.reset()
        regs.attach("IVAR", after=self._after_ivar)
        regs.attach("IVAR_MISC", after=self._after_ivar_misc)

    def reset(self) -> None:
        """No entry is valid."""
        self._numbers = 0xF
        self.rx[:] = self.tx[:] = [-1] * QUEUES
        self.other = -1
        self.tcp_timer = -1

    def set_msix(self, msix: bool) -> None:
        """GPIE.MSIX_MODE: entries are vectors, or bits of EICR."""
        self._numbers = 0x3F if msix else 0xF
        for pair in range(QUEUES // 2):
            self._after_ivar(pair, 0)

    def _after_ivar(self, pair: int, _value: int) -> None:
        value = self._regs.get("IVAR", pair)
        for byte in range(4):
            entry = value >> 8 * byte & 0xFF
            vectors = self.tx if byte & 1 else self.rx
            vectors[2 * pair + byte // 2] = entry & self._numbers if entry & _VALID else -1

    def _after_ivar_misc(self, _index: int, _value: int) -> None:
        value = self._regs.get("IVAR_MISC")
        self.tcp_timer = value & 0x3F if value & _VALID else -1
        self.other = value >> 8 & 0x3F if value >> 8 & _VALID else -1
        self._changed()
