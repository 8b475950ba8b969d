"""Decoding of interrupt messages: (address, data) of a posted write to 0xFEExxxxx.

Source: Intel SDM volume 3, message signalled interrupts; where the manual is vague, what KVM and
QEMU do. Address: 31:20 = 0xFEE, 19:12 destination, 4 remappable format, 3 RH, 2 DM (logical). Data:
7:0 vector, 10:8 delivery mode, 14 level, 15 trigger.

* DM is taken as it stands, RH or not. (Linux programs flat destinations as RH 0, DM 1.)
* Lowest priority applies when the delivery mode says so, or RH is set with DM; except that a
  physical broadcast is never arbitrated.
* Level is ignored: a level-triggered message is an assert whatever bit 14 says.
* NMI, SMI, INIT and ExtINT pass whatever their vector; what they do is the CPU's business. Modes 3
  and 6 are reserved: dropped by name. A vector below 16 is passed on: its receiver reports it.
"""

from __future__ import annotations

from typing import NamedTuple

FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7
#: As people read them; the others are reserved.
MODE_NAMES = {
    FIXED: "fixed", LOWEST: "lowest", SMI: "SMI", NMI: "NMI", INIT: "INIT", STARTUP: "STARTUP",
    EXTINT: "ExtINT",
}  # fmt: skip
_WINDOW = 0xFEE
#: Delivery modes that a device's message or an I/O APIC's pin may ask for.
DELIVERED = (FIXED, LOWEST, SMI, NMI, INIT, EXTINT)


class Decoded(NamedTuple):
    """What a message asks for; ``drop`` names why it asks for nothing."""

    vector: int = 0
    mode: int = FIXED
    trigger: int = 0
    destination: int = 0
    logical: bool = False
    one: bool = False
    drop: str = ""


def decode(address: int, data: int) -> Decoded:
    """Decode one message."""
    if address >> 20 != _WINDOW:
        return Decoded(drop="msi_drop_window")
    if address & 0x10:
        return Decoded(drop="msi_drop_remappable")
    mode = data >> 8 & 7
    if mode not in DELIVERED:
        return Decoded(drop="msi_drop_mode")
    destination = address >> 12 & 0xFF
    hint, logical = bool(address & 8), bool(address & 4)
    one = is_arbitrated(mode, destination, logical) or (hint and logical)
    return Decoded(data & 0xFF, mode, data >> 15 & 1, destination, logical, one)


def is_arbitrated(mode: int, destination: int, logical: bool) -> bool:
    """Does exactly one CPU of the set get it?"""
    return mode == LOWEST and (logical or destination != 0xFF)
