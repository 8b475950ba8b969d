"""SWSM, GSSR and the firmware that is not there.

Source: 82599 datasheet 10.5.4 (software and firmware synchronisation) and 8.2.3.4. To own a
resource a driver takes SMBI (a read that gave 0 set it), then SWESMBI (written 1, it reads 1 unless
the firmware holds the semaphore), looks at GSSR for its own bit and the firmware's twin, sets its
bit, and lets go of both. GSSR itself is plain storage that this protocol guards. All of it survives
resets of the port: it belongs to the whole chip.

Firmware is a quiet one: valid, without management, never a holder, unless a test makes it one.
"""

from __future__ import annotations

from nodes.nic.regfile import RegisterFile

_SMBI, _SWESMBI = 1 << 0, 1 << 1
#: The firmware's twin of software's bit b is bit b + 5.
FIRMWARE_SHIFT = 5


class Semaphores:
    """``firmware_holds``: the firmware has the semaphore that guards GSSR."""

    def __init__(self, regs: RegisterFile) -> None:
        self._regs = regs
        self.firmware_holds = False
        regs.attach("SWSM", after=self._after_swsm)

    def _after_swsm(self, index: int, value: int) -> None:
        if self.firmware_holds:
            self._regs.put("SWSM", 0, value & _SMBI)

    def firmware_takes(self, bits: int) -> None:
        """The firmware owns the resources of these software bits (0: none)."""
        own = self._regs.get("GSSR") & 0xFFFF & ~0x83E0
        self._regs.put("GSSR", 0, own | bits << FIRMWARE_SHIFT)
