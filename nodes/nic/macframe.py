"""Frames that mean something to the MAC itself: 802.3 lengths and MAC control.

Source: 82599 datasheet 8.2.3.22 (HLREG0, MFLCN) and 8.2.3.7 (FCTRL), IEEE 802.3 clause 31. With
HLREG0.RXLNGTHERREN a length field that is not that of the frame is an error (RLEC). MAC control
frames end here unless PMCF passes them on to the address filter; pause frames are counted and pass
unless DPF is set and flow control is on.

Left out: acting on pause frames, and sending them.
"""

from __future__ import annotations

from nodes.nic.regfile import RegisterFile
from nodes.nic.rxdesc import RXE
from nodes.nic.statistics import RX_LENGTH_ERROR, RX_XOFF, RX_XON, Statistics

FRAME_BYTES_MIN = 64
#: Below it the field behind the addresses is a length.
FIRST_TYPE = b"\x06\x00"
MAC_CONTROL = b"\x88\x08"

_DATA_BYTES_MIN = FRAME_BYTES_MIN - 18
_PAUSE = b"\x00\x01"  # opcode
_CONTROL_ADDRESS = bytes.fromhex("0180c2000001")
_RXLNGTHERREN = 1 << 27
#: MFLCN; FCTRL has the first two as well, twelve bits higher.
_PMCF, _DPF, _RPFCE, _RFCE = 1 << 0, 1 << 1, 1 << 2, 1 << 3


class MacFrames:
    """Judges the few frames that are not just data."""

    def __init__(self, regs: RegisterFile, statistics: Statistics) -> None:
        self._regs = regs
        self._totals = statistics.totals

    def length_field(self, frame: bytes) -> int:
        """RXE if an 802.3 length is not that of the frame (padding excused), else 0."""
        told, there = int.from_bytes(frame[12:14], "big"), len(frame) - 14
        if told == there or told < there == _DATA_BYTES_MIN:
            return 0
        if not self._regs.get("HLREG0") & _RXLNGTHERREN:
            return 0
        self._totals[RX_LENGTH_ERROR] += 1
        return RXE

    def control(self, frame: bytes) -> bool:
        """Does a MAC control frame pass on to the filters?"""
        mflcn = self._regs.get("MFLCN")
        wanted = mflcn | self._regs.get("FCTRL") >> 12
        if frame[14:16] != _PAUSE or frame[:6] != _CONTROL_ADDRESS:
            return bool(wanted & _PMCF)
        self._totals[RX_XOFF if frame[16:18] != b"\0\0" else RX_XON] += 1
        return not (wanted & _DPF and mflcn & (_RFCE | _RPFCE))
