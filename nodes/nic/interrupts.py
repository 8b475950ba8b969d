"""From a cause to a message: what EICR and EIMS mean.

Source: 82599 datasheet 7.3 (interrupts) and 8.2.3.5. The rules, for one vector v in MSI-X mode
(GPIE.MSIX_MODE = 1):

* a cause sets its EICR bit whatever the mask says;
* v is *requested* while one of its causes is set in EICR and enabled: its own bit v, and for the
  vector of IVAR_MISC any of the other causes 29:16;
* a request goes out when the counter of EITR(v) is 0 (``moderation``); a request that meets a
  running counter waits;
* going out clears EICR bit v if EIAC says so (above 15: always) and clears EIMS bit v if
  GPIE.EIAME and EIAM_EX say so. If a cause is still set and enabled then, no second message goes
  out until the request has been away once;
* a cause that comes while v is masked stays in EICR and goes out at the write that unmasks it.

Without MSIX_MODE there is one request, (EICR & EIMS) != 0, moderated by EITR(0): a level. What it
becomes (INTx, MSI, MSI-X vector 0) is the PCIe function's business, and so is bus mastering then,
as INTx needs none. In MSI-X mode nothing is asked for without bus mastering; EICR keeps it all.

Vectors 0..15 share their bits with EICR/EIMS bits 15:0; vectors above have only the _EX registers.
Which register does what is in ``causes``, who speaks through which vector in ``ivar``.
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.nic.causes import (
    EICR_OTHER,
    EICR_QUEUES,
    EICR_TCP_TIMER,
    EICR_UPPER,
    CauseRegisters,
)
from nodes.nic.ivar import Routing
from nodes.nic.moderation import Moderation
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.regfile import RegisterFile
from nodes.nic.turn import Now, bits_of

RX_MISS = 1 << 17
PCI_EXCEPTION = 1 << 18
LSC = 1 << 20

_CAUSES = NIC_SCHEMA.index("causes")


class Interrupts:
    """``send(v)`` takes a message of vector v, ``line(level)`` the single request otherwise,
    ``unpend(vectors)`` clears pending bits; ``flush(v)`` (set by the owner) writes back what is
    held for v and says whether there was anything."""

    def __init__(
        self,
        regs: RegisterFile,
        now: Now,
        words: memoryview,
        send: Callable[[int], None],
        line: Callable[[bool], None],
        unpend: Callable[[int], None],
    ) -> None:
        self._now = now
        self._words = words
        self._send = send
        self._line = line
        self.unpend = unpend
        self.flush: Callable[[int], bool] = lambda vector: False
        self.allowed = False  # bus master on, GIO_DIS off
        self._level = False
        self.timers = Moderation(regs, now, words, self.review)
        self.routes = Routing(regs, self._request_others)
        self.rx_vector, self.tx_vector = self.routes.rx, self.routes.tx
        self._ready_ns = self.timers.ready_ns
        self._registers = CauseRegisters(self, regs)
        self._clear()

    def reset(self) -> None:
        """CTRL.RST: no cause, no mask, no moderation; a level that stood falls."""
        self._clear()
        self.timers.reset()
        self.routes.reset()
        self._registers.reset()
        self._request_line()

    def _clear(self) -> None:
        self.pending = 0  # EICR by vector
        self.enabled = 0  # EIMS by vector
        self.other = 0  # EICR 31:16
        self.other_enabled = 0  # EIMS 31:16
        self._sent = 0  # message out, request still there
        self.msix_mode = False
        #: EIMS bits that a message takes along, by vector, and those of the other causes.
        self.auto_mask = self.auto_mask_other = 0
        #: EICR bits that a message takes along (EIAC).
        self.auto_clear = 0

    @property
    def eicr(self) -> int:
        return self.pending & EICR_QUEUES | self.other

    @property
    def eims(self) -> int:
        return self.enabled & EICR_QUEUES | self.other_enabled

    # -- causes

    def cause(self, vector: int) -> None:
        """A queue's cause, mapped to ``vector`` by IVAR (-1: not mapped)."""
        if vector < 0:
            return
        self._words[_CAUSES + vector] += 1
        bit = 1 << vector
        if not self.pending & bit:
            self.pending |= bit
            if self.msix_mode:
                if self.enabled & bit:
                    self._request(vector)
            else:
                self._request_line()

    def cause_other(self, bits: int) -> None:
        """One of the causes 31:16, e.g. ``LSC``."""
        self.other |= bits & EICR_UPPER
        self._request_others()

    def set_vectors(self, vectors: int, bypass: bool = False) -> None:
        """Causes that software makes; ``bypass``: they do not wait for EITR."""
        self.pending |= vectors
        for vector in bits_of(vectors):
            self._words[_CAUSES + vector] += 1
            if self.msix_mode:
                self._request(vector, bypass)
        if not self.msix_mode:
            self._request_line()

    def hold(self, vector: int) -> bool:
        """Write-backs wait for ``vector``; False if it has no timer to wait for."""
        return vector >= 0 and self.timers.hold(vector, vector if self.msix_mode else 0)

    # -- what software does to EICR and EIMS; bits of ``other`` are those of the registers

    def clear(self, vectors: int, other: int = 0) -> None:
        """Causes are taken note of."""
        self.pending &= ~vectors
        self.other &= ~other
        self.review()

    def enable(self, vectors: int, other: int = 0) -> None:
        """Unmask; what was latched meanwhile goes out."""
        self.enabled |= vectors
        if other:
            self.other_enabled |= other & EICR_UPPER
            self.review()
        elif self.msix_mode:
            if latched := vectors & self.pending:
                for vector in bits_of(latched):
                    self._request(vector)
        else:
            self._request_line()

    def disable(self, vectors: int, other: int = 0) -> None:
        """Mask."""
        self.enabled &= ~vectors
        self.other_enabled &= ~other
        self.review()

    def set_mode(self, msix: bool) -> None:
        """GPIE.MSIX_MODE."""
        if msix != self.msix_mode:
            self.msix_mode = msix
            self.routes.set_msix(msix)
            self._sent = 0
            self.timers.forget(self.timers.waiting)
            if msix and self._level:
                self._set_level(False)
        self.review()

    # -- requests and messages

    def _requested(self, vector: int) -> bool:
        if self.pending & self.enabled & 1 << vector:
            return True
        others = self.other & self.other_enabled
        return bool(
            (vector == self.routes.other and others & EICR_OTHER)
            or (vector == self.routes.tcp_timer and others & EICR_TCP_TIMER)
        )

    def _request(self, vector: int, bypass: bool = False) -> None:
        """Look at one vector after something changed."""
        bit = 1 << vector
        if not (self.pending & self.enabled & bit or self._requested(vector)):
            self._sent &= ~bit
            self.timers.forget(bit)
            return
        if self._sent & bit or not self.allowed:
            return
        if self._now.ns >= self._ready_ns[vector] or bypass:
            self._emit(vector, bit)
        else:
            self.timers.wait(vector)

    def _emit(self, vector: int, bit: int) -> None:
        timers = self.timers
        if timers.held & bit:
            timers.let_go(bit)
            if self.flush(vector):
                self.pending |= bit
        if vector > 15 or self.auto_clear & bit:
            self.pending &= ~bit
        self.enabled &= ~(self.auto_mask & bit)
        if vector == self.routes.other:
            self.other_enabled &= ~self.auto_mask_other
        if vector == self.routes.tcp_timer:
            self.other &= ~(self.auto_clear & EICR_TCP_TIMER)
        if self._requested(vector):
            self._sent |= bit
        timers.start(vector)
        self._send(vector)

    def _request_others(self) -> None:
        if not self.msix_mode:
            self._request_line()
            return
        for vector in (self.routes.other, self.routes.tcp_timer):
            if vector >= 0:
                self._request(vector)

    def _request_line(self) -> None:
        """The single request of INTx and MSI."""
        wanted = bool(self.eicr & self.eims)
        if not wanted:
            self.timers.forget(1)
        if wanted == self._level:
            return
        if wanted:
            if self._now.ns < self._ready_ns[0]:
                self.timers.wait(0)
                return
            self.timers.start(0)
            if self.allowed:
                for vector in bits_of(self.timers.held):
                    self.timers.let_go(1 << vector)
                    if self.flush(vector):
                        self.pending |= 1 << vector
        self._set_level(wanted)

    def _set_level(self, level: bool) -> None:
        self._level = level
        self._line(level)

    def review(self) -> None:
        """Look at everything: the mode, the mask or the right to send changed."""
        if not self.msix_mode:
            self._request_line()
            return
        for vector in bits_of(self.pending | self.timers.waiting | self._sent):
            self._request(vector)
        self._request_others()

    def set_allowed(self, allowed: bool) -> None:
        """Bus mastering: without it no message leaves, causes stay in EICR."""
        if allowed == self.allowed:
            return
        self.allowed = allowed
        self.timers.set_running(allowed)
        if not allowed:
            if self.msix_mode:
                self.timers.forget(self.timers.waiting)
            return
        self.review()
        self.expire()  # counters that ran down meanwhile

    # -- time

    def expire(self) -> None:
        """Send what waited for a counter that has run down by now."""
        timers = self.timers
        for vector in timers.held_due():
            if self.flush(vector):
                self.cause(vector)
        for vector in timers.waiting_due():
            if self.msix_mode:
                self._request(vector)
            else:
                self._request_line()
