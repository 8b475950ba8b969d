"""Configuration space of the function: 4096 bytes with the access rule of each bit.

Source: 82599 datasheet 9 (values as real cards show them); the rules are ``nodes.configspace``'s.
Behaviour is not here: whoever owns a capability reads and changes its words, ``pcie`` says who acts
on a write.

Chains: 40h PM, 50h MSI, 70h MSI-X, A0h PCI Express, E0h VPD; 100h AER, 140h serial number. Left
out: ARI, SR-IOV (the card is a single function), the expansion ROM.
"""

from __future__ import annotations

from nodes.configspace import Space, Word

ALL_ONES = 0xFFFF_FFFF
BAR0_BYTES, BAR2_BYTES, BAR4_BYTES = 0x80000, 32, 0x4000

PM, MSI, MSIX, EXPRESS, VPD, AER, SERIAL = 0x40, 0x50, 0x70, 0xA0, 0xE0, 0x100, 0x140
COMMAND, STATUS = 0x04, 0x06
BAR0, BAR2, BAR4 = 0x10, 0x18, 0x20
PMCSR = PM + 4
MSIX_CONTROL = MSIX + 2
DEVCTL, DEVSTA = EXPRESS + 8, EXPRESS + 0xA

_ERRORS = 0x003F_F010  # uncorrectable errors that an endpoint can have, bits 4 and 21:12
_CORRECTABLE = 0x0000_31C1


CONFIG: tuple[Word, ...] = (
    Word(0x00, 0x10FB8086),
    Word(0x04, 0x00100000, 0x00000547, 0xF9000000),
    Word(0x08, 0x02000001),
    Word(0x0C, 0x00000000, 0x000000FF),
    Word(BAR0, 0x0000000C, ALL_ONES & -BAR0_BYTES),  # 64 bits, prefetchable
    Word(BAR0 + 4, 0x00000000, ALL_ONES),
    Word(BAR2, 0x00000001, ALL_ONES & -BAR2_BYTES),  # I/O
    Word(BAR4, 0x0000000C, ALL_ONES & -BAR4_BYTES),  # 64 bits, MSI-X
    Word(BAR4 + 4, 0x00000000, ALL_ONES),
    Word(0x2C, 0x00038086),  # X520-DA2
    Word(0x34, PM),
    Word(0x3C, 0x00000100, 0x000000FF),  # INTA
    Word(PM, 0xC8235001),
    Word(PMCSR, 0x00002000, 0x00000103, 0x00008000, 0x00008100),
    Word(MSI, 0x01807005, 0x00010000),  # one message, 64 bits, maskable
    Word(MSI + 0x04, 0x00000000, 0xFFFFFFFC),
    Word(MSI + 0x08, 0x00000000, ALL_ONES),
    Word(MSI + 0x0C, 0x00000000, 0x0000FFFF),
    Word(MSI + 0x10, 0x00000000, 0x00000001),
    Word(MSIX, 0x003FA011, 0xC0000000),  # 64 vectors
    Word(MSIX + 4, 0x00000004),  # table: BAR 4, offset 0
    Word(MSIX + 8, 0x00002004),  # pending bits: BAR 4, offset 2000h
    Word(EXPRESS, 0x0002E010),  # endpoint, version 2
    Word(EXPRESS + 0x04, 0x10008CC2),
    Word(DEVCTL, 0x00002810, 0x00007FFF, 0x000F0000),
    Word(EXPRESS + 0x0C, 0x00000482),
    Word(EXPRESS + 0x10, 0x10820000, 0x000001CB),  # 5 GT/s x8
    Word(EXPRESS + 0x24, 0x0000001F),
    Word(EXPRESS + 0x28, 0x00000000, 0x0000001F),
    Word(EXPRESS + 0x30, 0x00000002, 0x0000FFFF),
    Word(VPD, 0x00000003, 0xFFFF0000),
    Word(VPD + 4, 0x00000000, ALL_ONES),
    Word(AER, SERIAL << 20 | 0x10001),
    Word(AER + 0x04, 0x00000000, 0, _ERRORS, ALL_ONES),
    Word(AER + 0x08, 0x00000000, _ERRORS, 0, ALL_ONES),
    Word(AER + 0x0C, 0x00062010, _ERRORS, 0, ALL_ONES),
    Word(AER + 0x10, 0x00000000, 0, _CORRECTABLE, ALL_ONES),
    Word(AER + 0x14, 0x00002000, _CORRECTABLE, 0, ALL_ONES),
    Word(AER + 0x18, 0x000000A0, 0x00000140, 0, ALL_ONES),  # can make and check an ECRC
    *(Word(AER + at, 0x00000000, 0, 0, ALL_ONES) for at in (0x1C, 0x20, 0x24, 0x28)),
    Word(SERIAL, 0x00010003),
)
#: What a function level reset leaves alone besides: payload size, and what belongs to the link.
_KEPT_BY_FLR = {DEVCTL: 0xE0, EXPRESS + 0x10: 0x1CB}


class ConfigSpace(Space):
    """The card's words, with its serial number made of its address."""

    def __init__(self, mac: bytes) -> None:
        super().__init__(CONFIG)
        # the serial number is the MAC with ff-ff in the middle
        self._bytes[SERIAL + 4 : SERIAL + 12] = (mac[:3] + b"\xff\xff" + mac[3:])[::-1]

    def reset(self, function_level: bool = False) -> None:
        """All but the sticky bits, and for FLR what it spares, as after power-on."""
        for word in CONFIG:
            keep = word.sticky | (_KEPT_BY_FLR.get(word.offset, 0) if function_level else 0)
            old = self.get(word.offset, 4) if keep else 0
            self.put(word.offset, old & keep | word.value & ~keep)

    def power_on(self) -> None:
        """All as after power-on."""
        for word in CONFIG:
            self.put(word.offset, word.value)
