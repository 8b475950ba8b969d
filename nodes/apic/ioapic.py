"""The I/O APIC: 24 pins, a redirection entry each, reached through two registers and a third.

Source: 82093AA datasheet and the ICH's I/O APIC (version 0x20), with what QEMU and KVM agree on.
Byte offsets in its page: 0x00 IOREGSEL picks a register, 0x10 IOWIN is that register, 0x40 EOI
takes a vector. All accesses are 32 bits wide; other offsets read 0.

A pin is the level of a line; its entry says what becomes of it:

=========================  ==========================  =========================================
event                      edge entry                  level entry
=========================  ==========================  =========================================
line rises, unmasked       one message                 one message, unless remote IRR is set;
                                                       remote IRR is set if a CPU takes it
line rises, masked         lost                        waits: the level counts
line falls                 nothing                     nothing: what was sent is under way
entry written (unmasked)   nothing: the next rise      message, if the line stands and remote
                                                       IRR is not set
EOI of its vector          nothing                     remote IRR cleared; as if written
entry becomes edge         remote IRR cleared
=========================  ==========================  =========================================

An EOI comes from a local APIC (broadcast) or from the EOI register. Delivery status (bit 12) reads
0: a message leaves at once. NMI, SMI, INIT and ExtINT entries act as edge, whatever bit 15 says.
Polarity is stored; the lines here are virtual wires, so what it would invert is not a voltage.
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.apic.msi import DELIVERED, FIXED, LOWEST, Decoded, is_arbitrated
from nodes.apic.page import APIC_SCHEMA
from nodes.machine import IOAPIC_PINS

IOREGSEL, IOWIN, EOI = 0x00, 0x10, 0x40
ID, VERSION, ARBITRATION, REDIRECTION = 0x00, 0x01, 0x02, 0x10
VERSION_VALUE = (IOAPIC_PINS - 1) << 16 | 0x20

REMOTE_IRR, TRIGGER_LEVEL, MASKED = 1 << 14, 1 << 15, 1 << 16
LOGICAL = 1 << 11
_LOW_WRITABLE = 0x1AFFF  # without delivery status and remote IRR
_HIGH_WRITABLE = 0xFF00_0000
_ID_WRITABLE = 0x0F00_0000

_AGAIN = APIC_SCHEMA.index("ioapic_again")
_MASKED = APIC_SCHEMA.index("ioapic_masked")
_HELD = APIC_SCHEMA.index("ioapic_held")
_REDIRECTION = APIC_SCHEMA.index("redirection")
_LINES = APIC_SCHEMA.index("lines")


def decode(entry: int) -> Decoded:
    """What the message of a redirection entry asks for."""
    mode = entry >> 8 & 7
    if mode not in DELIVERED:
        return Decoded(drop="ioapic_drop_mode")
    destination, logical = entry >> 56, bool(entry & LOGICAL)
    one = is_arbitrated(mode, destination, logical)
    return Decoded(entry & 0xFF, mode, int(is_level(entry)), destination, logical, one)


def is_level(entry: int) -> bool:
    return bool(entry & TRIGGER_LEVEL) and entry >> 8 & 7 in (FIXED, LOWEST)


class IoApic:
    """``send(pin, message)`` hands a message over and says whether a CPU takes it."""

    def __init__(self, words: memoryview, send: Callable[[int, Decoded], bool]) -> None:
        self._words = words
        self._send = send
        self._select = 0
        self._id = 0
        self.lines = 0  # bit n: the line at pin n is active
        self.entries = [MASKED] * IOAPIC_PINS
        for pin in range(IOAPIC_PINS):
            self._put(pin, MASKED)

    # -- registers

    def read(self, offset: int) -> int:
        """32-bit read of the page."""
        if offset == IOREGSEL:
            return self._select
        if offset != IOWIN:
            return 0
        register = self._select
        if register in (ID, ARBITRATION):
            return self._id
        if register == VERSION:
            return VERSION_VALUE
        pin, high = divmod(register - REDIRECTION, 2)
        if 0 <= pin < IOAPIC_PINS:
            return self.entries[pin] >> 32 * high & 0xFFFF_FFFF
        return 0

    def write(self, offset: int, value: int) -> None:
        """32-bit write of the page."""
        if offset == IOREGSEL:
            self._select = value & 0xFF
        elif offset == EOI:
            self.eoi(value & 0xFF)
        elif offset == IOWIN:
            self._write_register(self._select, value)

    def _write_register(self, register: int, value: int) -> None:
        if register == ID:
            self._id = value & _ID_WRITABLE
            return
        pin, high = divmod(register - REDIRECTION, 2)
        if not 0 <= pin < IOAPIC_PINS:
            return
        entry = self.entries[pin]
        if high:
            self._put(pin, entry & 0xFFFF_FFFF | (value & _HIGH_WRITABLE) << 32)
            return
        entry = entry & ~_LOW_WRITABLE | value & _LOW_WRITABLE
        if not is_level(entry):
            entry &= ~REMOTE_IRR
        self._put(pin, entry)
        self._look_again(pin)

    def _put(self, pin: int, entry: int) -> None:
        self.entries[pin] = self._words[_REDIRECTION + pin] = entry

    # -- lines

    def set_line(self, pin: int, active: bool) -> None:
        """The line at ``pin`` changes its level, or does not."""
        bit, words = 1 << pin, self._words
        if not active:
            self.lines &= ~bit
        elif not self.lines & bit:
            self.lines |= bit
            entry = self.entries[pin]
            if entry & MASKED:
                words[_MASKED] += 1
            elif entry & REMOTE_IRR:
                words[_HELD] += 1
            else:
                self._message(pin)
        words[_LINES] = self.lines

    def eoi(self, vector: int) -> None:
        """All level entries with this vector are done with their message."""
        for pin, entry in enumerate(self.entries):
            if entry & REMOTE_IRR and entry & 0xFF == vector:
                self._put(pin, entry & ~REMOTE_IRR)
                self._look_again(pin)

    def _look_again(self, pin: int) -> None:
        """A level that still stands is sent again."""
        entry = self.entries[pin]
        if is_level(entry) and self.lines >> pin & 1 and not entry & (MASKED | REMOTE_IRR):
            self._words[_AGAIN] += 1
            self._message(pin)

    def _message(self, pin: int) -> None:
        entry = self.entries[pin]
        if self._send(pin, decode(entry)) and is_level(entry):
            self._put(pin, entry | REMOTE_IRR)
