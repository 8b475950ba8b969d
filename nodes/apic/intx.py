"""Virtual wires of the NICs: from Assert_INTx and Deassert_INTx to the pins of the I/O APIC.

Source: PCI Express base specification, "PCI-compatible INTx interrupt signaling". Each slot is a
root port with one function behind it, device 0, so no bridge swizzles; where a port's four wires
end is the board's wiring (``MachineSettings.gsi``). A pin's line is the OR of its wires. Messages
are idempotent: a second Assert of a wire equals one. A port whose link goes down deasserts its
wires by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.apic.page import APIC_SCHEMA
from nodes.machine import IOAPIC_PINS, MachineSettings

PINS = (1, 2, 3, 4)

_REPEATED = APIC_SCHEMA.index("intx_repeated")
_SHARED = APIC_SCHEMA.index("intx_shared")


class Wires:
    """``set_line(pin, active)`` is the I/O APIC's."""

    def __init__(
        self,
        words: memoryview,
        machine: MachineSettings,
        set_line: Callable[[int, bool], None],
    ) -> None:
        self._words = words
        self._machine = machine
        self._set_line = set_line
        self._asserted = [0] * IOAPIC_PINS  # by pin: its wires, a bit for each NIC and INTx

    def message(self, nic: int, pin: int, asserted: bool) -> None:
        """Wire ``pin`` (1 to 4) of a NIC changes its level."""
        gsi, wire = self._machine.gsi(nic, pin), 1 << 4 * nic + pin - 1
        before = self._asserted[gsi]
        after = self._asserted[gsi] = before | wire if asserted else before & ~wire
        if asserted and before:
            self._words[_REPEATED if before & wire else _SHARED] += 1
        if bool(before) != bool(after):
            self._set_line(gsi, asserted)

    def port_down(self, nic: int) -> None:
        """The link of this slot is lost."""
        for pin in PINS:
            self.message(nic, pin, False)
