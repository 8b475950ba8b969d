"""Which destination addresses and VLANs a port takes.

Source: 82599 datasheet 7.1.1. Unicast: an address in RAL/RAH with AV set, or FCTRL.UPE. Multicast:
the same exact match, the hash table MTA if MCSTCTRL.MFE is set (an inexact hit: PIF), or FCTRL.MPE.
Broadcast: FCTRL.BAM alone. VLAN: with VLNCTRL.VFE the tag's VLAN must be set in VFTA; untagged
frames pass.

Verdicts are kept by address until one of the registers changes.
Left out: pools, MAC control frames beyond address matching, host-to-BMC filters.
"""

from __future__ import annotations

from nodes.nic.regfile import RegisterFile

REJECT, EXACT, INEXACT = 0, 1, 2
CACHE_ADDRESSES = 256
BROADCAST = b"\xff" * 6

_MPE, _UPE, _BAM = 1 << 8, 1 << 9, 1 << 10
_MFE = 1 << 2
_VFE = 1 << 30
#: lowest bit of the 12 address bits that MCSTCTRL.MO selects, in bytes 4 and 5
_HASH_SHIFT = (4, 3, 2, 0)


class Filters:
    """Address and VLAN filters of one port."""

    def __init__(self, regs: RegisterFile) -> None:
        self._regs = regs
        self._verdicts: dict[bytes, int] = {}
        for name in ("RAL", "RAH", "MTA", "FCTRL", "MCSTCTRL"):
            regs.attach(name, after=self._changed)

    def reset(self) -> None:
        self._verdicts.clear()

    def _changed(self, index: int, value: int) -> None:
        self._verdicts.clear()

    def address(self, destination: bytes) -> int:
        """REJECT, EXACT or INEXACT for a destination address."""
        verdict = self._verdicts.get(destination)
        if verdict is None:
            verdict = self._decide(destination)
            if len(self._verdicts) >= CACHE_ADDRESSES:
                self._verdicts.clear()
            self._verdicts[destination] = verdict
        return verdict

    def _decide(self, destination: bytes) -> int:
        fctrl = self._regs.get("FCTRL")
        if destination == BROADCAST:
            return EXACT if fctrl & _BAM else REJECT
        if self._in_receive_addresses(destination):
            return EXACT
        if not destination[0] & 1:
            return EXACT if fctrl & _UPE else REJECT
        if self._in_hash_table(destination):
            return INEXACT
        return EXACT if fctrl & _MPE else REJECT

    def _in_receive_addresses(self, destination: bytes) -> bool:
        low = int.from_bytes(destination[:4], "little")
        high = int.from_bytes(destination[4:6], "little") | 1 << 31
        get = self._regs.get
        return any(get("RAL", i) == low and get("RAH", i) == high for i in range(128))

    def _in_hash_table(self, destination: bytes) -> bool:
        control = self._regs.get("MCSTCTRL")
        if not control & _MFE:
            return False
        bits = int.from_bytes(destination[4:6], "little") >> _HASH_SHIFT[control & 3] & 0xFFF
        return bool(self._regs.get("MTA", bits >> 5) >> (bits & 31) & 1)

    def vlan(self, tag: int) -> bool:
        """Does the port take this tag?"""
        if not self._regs.get("VLNCTRL") & _VFE:
            return True
        vid = tag & 0xFFF
        return bool(self._regs.get("VFTA", vid >> 5) >> (vid & 31) & 1)
