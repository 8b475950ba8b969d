"""Decoding of the interrupt command register: IPIs.

Source: Intel SDM volume 3, "Issuing Interprocessor Interrupts", as one 64-bit value: vector 7:0,
delivery mode 10:8, logical 11, level 14, trigger 15, shorthand 19:18, destination 63:56, or 63:32
if the sender is in x2APIC mode.

* Fixed IPIs go out as edge, whatever bits 14 and 15 say.
* INIT with trigger level and level 0 (de-assert) does nothing; Linux still sends it.
* STARTUP carries the page number of the start address in its vector.
* Self and all-including-self allow fixed only; all-excluding-self all but reserved modes.
* A fixed vector below 16 is not sent; the sender's local APIC reports it in its ESR.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.apic.msi import FIXED, INIT, LOWEST, NMI, SMI, STARTUP

NO_SHORTHAND, SELF, ALL, OTHERS = 0, 1, 2, 3
KIND = {
    FIXED: "fixed", LOWEST: "lowest", SMI: "smi", NMI: "nmi", INIT: "init", STARTUP: "startup",
}  # fmt: skip


class Command(NamedTuple):
    """What an ICR write asks for; ``drop`` names why it asks for nothing."""

    vector: int = 0
    mode: int = FIXED
    shorthand: int = NO_SHORTHAND
    destination: int = 0
    logical: bool = False
    drop: str = ""


def decode(icr: int, x2apic: bool = False) -> Command:
    """Decode one ICR write."""
    mode, shorthand = icr >> 8 & 7, icr >> 18 & 3
    if mode not in KIND:
        return Command(drop="ipi_drop_mode")
    if shorthand in (SELF, ALL) and mode != FIXED:
        return Command(drop="ipi_drop_shorthand")
    if mode == INIT and icr >> 15 & 1 and not icr >> 14 & 1:
        return Command(drop="ipi_drop_deassert")
    vector = icr & 0xFF
    if mode in (FIXED, LOWEST) and vector < 16:
        return Command(drop="ipi_drop_vector")
    destination = icr >> 32 if x2apic else icr >> 56
    return Command(vector, mode, shorthand, destination, bool(icr >> 11 & 1))
