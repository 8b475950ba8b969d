"""MDIO: MSCA and MSRWD, and the PHYs behind them.

Source: 82599 datasheet 8.2.3.22 (MSCA, MSRWD), IEEE 802.3 clause 45. A command is done at once:
MDI_COMMAND reads 0. Clause 45 needs two: an address cycle, then a read or a write. Where no PHY is,
reads give all ones, as the pulled-up line does; a board for SFP+ modules has none at all.

Left out: clause 22 (old protocol), auto-scan.
"""

from __future__ import annotations

from nodes.nic.regfile import RegisterFile

_COMMAND = 1 << 30
_ADDRESS, _WRITE, _READ_INCREMENT, _READ = range(4)
NOBODY = 0xFFFF


class Mdio:
    """``phys`` holds the registers of each (port, device); empty on boards for SFP+."""

    def __init__(self, regs: RegisterFile) -> None:
        self._regs = regs
        self.phys: dict[tuple[int, int], dict[int, int]] = {}
        self._address: dict[tuple[int, int], int] = {}
        regs.attach("MSCA", after=self._after_msca)

    def _after_msca(self, index: int, value: int) -> None:
        if not value & _COMMAND:
            return
        who = (value >> 21 & 0x1F, value >> 16 & 0x1F)
        operation = value >> 26 & 3
        phy = self.phys.get(who)
        data = self._regs.get("MSRWD")
        if operation == _ADDRESS:
            if phy is not None:
                self._address[who] = value & 0xFFFF
        elif operation == _WRITE:
            if phy is not None:
                phy[self._address.get(who, 0)] = data & 0xFFFF
        else:
            read = NOBODY
            if phy is not None:
                read = phy.get(self._address.get(who, 0), 0)
                if operation == _READ_INCREMENT:
                    self._address[who] = self._address.get(who, 0) + 1 & 0xFFFF
            self._regs.put("MSRWD", 0, data & 0xFFFF | read << 16)
