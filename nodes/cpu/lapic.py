"""Local APIC of one CPU: IRR, ISR, TMR, TPR, EOI and the timer's deadline.

Models the fixed-delivery part of the Intel local APIC: at most one instance of a vector in IRR and
one in ISR, priority by class (vector >> 4), delivery of the highest IRR vector whose class is above
the processor priority. The timer is a deadline, taken by the core at the next boundary; a period
makes it count again. What software programs is ``nodes.cpu.lapicregs``.
"""

from __future__ import annotations

from collections.abc import Callable

from bus.ram import Page
from nodes.cpu.page import CPU_SCHEMA

FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7
SPURIOUS_VECTOR = 0xFF

_ACCEPTED = CPU_SCHEMA.index("lapic_accepted")
_MERGED = CPU_SCHEMA.index("lapic_merged")
_DISABLED = CPU_SCHEMA.index("lapic_disabled")
_ILLEGAL = CPU_SCHEMA.index("lapic_illegal")
_IRR = CPU_SCHEMA.index("irr")
_ISR = CPU_SCHEMA.index("isr")
_TAKEN = CPU_SCHEMA.index("vectors_taken")
_TIMER = CPU_SCHEMA.index("lapic_timer")
_CLEARED = CPU_SCHEMA.index("lapic_cleared")
_WORD = (1 << 64) - 1


class LocalApic:
    """IRR and ISR as 256-bit integers; ``intr`` is the request line to the core."""

    def __init__(self, page: Page) -> None:
        self._words = page.words
        self.irr = 0
        self.isr = 0
        self._tpr = 0x10
        self.enabled = False
        self.intr = False
        self.tmr = 0  # vectors whose last message was level-triggered
        self.level_eoi: Callable[[int], None] | None = None  # who hears the EOI of such a vector
        self.suppress_eoi = False  # SVR bit 12: nobody does
        self.spurious_vector = SPURIOUS_VECTOR
        self.deadline_ns: int | None = None
        self.timer_vector = 0
        self.timer_masked = False
        self.timer_period_ns = 0  # 0: one shot

    def reset(self) -> None:
        """INIT: software-disabled, nothing requested, nothing in service."""
        self._words[_CLEARED] += self.irr.bit_count()
        self.irr = self.isr = self.tmr = 0
        for at in (_IRR, _ISR):
            for n in range(4):
                self._words[at + n] = 0
        self._tpr = 0
        self.enabled = self.suppress_eoi = False
        self.deadline_ns = None
        self.timer_period_ns = 0
        self._update()

    def enable(self, enabled: bool) -> None:
        """The software enable bit. Disabled it requests nothing of the core; IRR stays."""
        self.enabled = enabled
        self._update()

    @property
    def tpr(self) -> int:
        """Task priority; a new one may raise the request line or take it back."""
        return self._tpr

    @tpr.setter
    def tpr(self, value: int) -> None:
        self._tpr = value
        self._update()

    @property
    def ppr(self) -> int:
        """Processor priority: TPR, or the class of the highest vector in service."""
        in_service = (self.isr.bit_length() - 1) >> 4 if self.isr else 0
        return self._tpr if self._tpr >> 4 >= in_service else in_service << 4

    def accept(self, vector: int, level: bool = False) -> bool:
        """A fixed message arrives; True if it set a bit in IRR, False if it ends here."""
        words = self._words
        if not self.enabled:
            words[_DISABLED] += 1
            return False
        if vector < 16:
            words[_ILLEGAL] += 1
            return False
        bit = 1 << vector
        if level:
            self.tmr |= bit
        elif self.tmr & bit:
            self.tmr ^= bit
        if self.irr & bit:
            words[_MERGED] += 1
            return False
        self.irr |= bit
        words[_ACCEPTED] += 1
        words[_IRR + (vector >> 6)] |= 1 << (vector & 63)
        self._update()
        return True

    def ack(self) -> int:
        """The core takes the interrupt: IRR to ISR; the spurious vector if none qualifies."""
        if not self.intr:
            return self.spurious_vector
        vector = self.irr.bit_length() - 1
        self.irr ^= 1 << vector
        self.isr |= 1 << vector
        words = self._words
        at, bit = vector >> 6, 1 << (vector & 63)
        words[_IRR + at] &= ~bit & _WORD
        words[_ISR + at] |= bit
        words[_TAKEN] += 1
        self.intr = False  # it was the highest: what is left is not above its class
        return vector

    def eoi(self) -> None:
        """End of interrupt: the highest vector in service is done."""
        if self.isr:
            vector = self.isr.bit_length() - 1
            self.isr ^= 1 << vector
            self._words[_ISR + (vector >> 6)] &= ~(1 << (vector & 63)) & _WORD
            if self.irr:
                self._update()
            if self.tmr >> vector & 1 and self.level_eoi is not None and not self.suppress_eoi:
                self.level_eoi(vector)

    def timer_expired(self, now_ns: int) -> None:
        """The deadline has come: once, or again after each period. Masked, it is lost."""
        due, self.deadline_ns = self.deadline_ns, None
        if due is not None and self.timer_period_ns:
            missed = (now_ns - due) // self.timer_period_ns
            self.deadline_ns = due + (missed + 1) * self.timer_period_ns
        if not self.timer_masked:
            self._words[_TIMER] += 1
            self.accept(self.timer_vector)

    def _update(self) -> None:
        irr = self.irr
        self.intr = bool(irr) and self.enabled and (irr.bit_length() - 1) >> 4 > self.ppr >> 4
