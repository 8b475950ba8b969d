"""What the MAC itself thinks of a frame: its length, 802.3 length fields, MAC control.

Source: 82599 datasheet 8.2.3.22 (HLREG0, MFLCN) and 8.2.3.7 (FCTRL), IEEE 802.3 clause 31. With
HLREG0.RXLNGTHERREN a length field that is not that of the frame is an error (RLEC). Frames with an
error are counted and dropped unless FCTRL.SBP wants them, then marked RXE. MAC control
frames end here unless PMCF passes them on to the address filter; pause frames are counted and pass
unless DPF is set and flow control is on.

Left out: acting on pause frames, and sending them.
"""

from __future__ import annotations

from nodes.nic.regfile import RegisterFile
from nodes.nic.rxdesc import RXE
from nodes.nic.statistics import (
    RX_LENGTH_ERROR,
    RX_OVERSIZE,
    RX_UNDERSIZE,
    RX_XOFF,
    RX_XON,
    Statistics,
)

FRAME_BYTES_MIN = 64
#: Shorter ones are no frames at all: nothing counts them.
_RUNT_BYTES_MIN = 12
#: Below it the field behind the addresses is a length.
_FIRST_TYPE = b"\x06\x00"
_MAC_CONTROL = b"\x88\x08"

_DATA_BYTES_MIN = FRAME_BYTES_MIN - 18
_PAUSE = b"\x00\x01"  # opcode
_CONTROL_ADDRESS = bytes.fromhex("0180c2000001")
_RXLNGTHERREN = 1 << 27  # HLREG0
_SBP = 1 << 1  # FCTRL
#: MFLCN; FCTRL has the first two as well, twelve bits higher.
_PMCF, _DPF, _RPFCE, _RFCE = 1 << 0, 1 << 1, 1 << 2, 1 << 3


class MacFrames:
    """Judges all frames but IPv4 ones of an ordinary length."""

    def __init__(self, regs: RegisterFile, statistics: Statistics) -> None:
        self._regs = regs
        self._totals = statistics.totals

    def judge(self, frame: bytes, bytes_max: int) -> tuple[str, int, bool]:
        """(why it is dropped or nothing, RXE or 0, does it count as good); ``bytes_max`` with
        FCS."""
        size = len(frame) + 4
        ethertype = frame[12:14]
        bad = 0
        if size < FRAME_BYTES_MIN:
            if len(frame) < _RUNT_BYTES_MIN:
                return "rx_drop_length", 0, False
            bad = RX_UNDERSIZE
        elif size > bytes_max:
            bad = RX_OVERSIZE
        elif ethertype < _FIRST_TYPE and self._length_lies(frame):
            bad = RX_LENGTH_ERROR
        elif ethertype == _MAC_CONTROL:
            return "" if self._control(frame) else "rx_drop_control", 0, False
        if not bad:
            return "", 0, True
        self._totals[bad] += 1
        return "" if self._regs.get("FCTRL") & _SBP else "rx_drop_length", RXE, False

    def _length_lies(self, frame: bytes) -> bool:
        """Is an 802.3 length not that of the frame (padding excused), and an error?"""
        told, there = int.from_bytes(frame[12:14], "big"), len(frame) - 14
        right = told == there or told < there == _DATA_BYTES_MIN
        return not right and bool(self._regs.get("HLREG0") & _RXLNGTHERREN)

    def _control(self, frame: bytes) -> bool:
        """Does a MAC control frame pass on to the filters?"""
        mflcn = self._regs.get("MFLCN")
        wanted = mflcn | self._regs.get("FCTRL") >> 12
        if frame[14:16] != _PAUSE or frame[:6] != _CONTROL_ADDRESS:
            return bool(wanted & _PMCF)
        self._totals[RX_XOFF if frame[16:18] != b"\0\0" else RX_XON] += 1
        return not (wanted & _DPF and mflcn & (_RFCE | _RPFCE))
