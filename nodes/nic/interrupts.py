"""From a cause to a message: EICR, EIMS, EIAC, EIAM, EITR, IVAR, GPIE.

Source: 82599 datasheet 7.3 (interrupts) and 8.2.3.5. The rules, for one vector v in MSI-X mode
(GPIE.MSIX_MODE = 1):

* a cause sets its EICR bit whatever the mask says;
* v is *requested* while one of its causes is set in EICR and enabled: its own bit v, and for the
  vector of IVAR_MISC any of the other causes 29:16;
* a request goes out when the counter of EITR(v) is 0; going out loads the counter, and nothing but
  time empties it. A request that meets a running counter waits;
* going out clears EICR bit v if EIAC says so (above 15: always) and clears EIMS bit v if
  GPIE.EIAME and EIAM_EX say so. If a cause is still set and enabled then, no second message goes
  out until the request has been away once;
* a cause that comes while v is masked stays in EICR and goes out at the write that unmasks it.

Without MSIX_MODE there is one request, (EICR & EIMS) != 0, moderated by EITR(0): a level.

Vectors 0..15 share their bits with EICR/EIMS bits 15:0; vectors above have only the _EX registers.
The write-backs that ``transmit`` holds for a vector leave with its next message or when its
counter has run down. Bit 31 (OTHER) is only stored.

Left out: low-latency interrupts, the TCP timer, VF vectors, EITR times ten at 100 Mb/s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nodes.nic.page import NIC_SCHEMA
from nodes.nic.regfile import RegisterFile
from nodes.nic.registers import QUEUES, VECTORS

ITR_UNIT_NS = 2048
LSC = 1 << 20
RX_MISS = 1 << 17
PCI_EXCEPTION = 1 << 18
_QUEUE_CAUSES = 0xFFFF
_OTHER_CAUSES = 0x3FFF_0000
_TCP_TIMER = 1 << 30
_STORED_OTHER = 0xFFFF_0000
_CNT_WDIS = 1 << 31
_NEVER = 1 << 63

_CAUSES = NIC_SCHEMA.index("causes")
_MODERATED = NIC_SCHEMA.index("moderated")
_ITR_NS = NIC_SCHEMA.index("itr_ns")


class Now:
    """The turn: its time in ns and the recorder's mask; one object that all units share."""

    __slots__ = ("ns", "trace")

    def __init__(self) -> None:
        self.ns = 0
        self.trace = 0


def bits_of(mask: int) -> Iterator[int]:
    """Numbers of the set bits, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


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
        self._regs = regs
        self._now = now
        self._words = words
        self._send = send
        self._line = line
        self._unpend = unpend
        self.flush: Callable[[int], bool] = lambda vector: False
        self.slack_ns = 0  # how much later held write-backs may be written than EITR allows
        self.allowed = False  # bus master on, GIO_DIS off
        self.reset()
        self._attach()

    def reset(self) -> None:
        """CTRL.RST: no cause, no mask, no moderation."""
        self.pending = 0  # EICR by vector
        self.enabled = 0  # EIMS by vector
        self.other = 0  # EICR 31:16
        self.other_enabled = 0  # EIMS 31:16
        self._waiting = 0  # requested, EITR not yet 0
        self._sent = 0  # message out, request still there
        self._held = 0  # write-backs wait for this vector
        self._held_until = [0] * VECTORS
        self._next_ns = _NEVER  # earliest of the waits, exact unless stale
        self._stale = False
        self._ready_ns = [0] * VECTORS  # when EITR's counter reaches 0
        self.interval_ns = [0] * VECTORS
        self.rx_vector = [-1] * QUEUES
        self.tx_vector = [-1] * QUEUES
        self._other_vector = -1
        self._tcp_vector = -1
        self._auto_clear = 0
        self._auto_mask = 0
        self._eiam = 0
        self.msix_mode = False
        self._level = False
        self._words[_ITR_NS : _ITR_NS + VECTORS] = memoryview(bytes(8 * VECTORS)).cast("Q")

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
        self.other |= bits & _STORED_OTHER
        self._request_others()

    def hold(self, vector: int) -> bool:
        """Write-backs wait for ``vector``; False if it has no timer to wait for."""
        interval = self.interval_ns[vector] if vector >= 0 else 0
        if not interval:
            return False
        bit = 1 << vector
        if not self._held & bit:
            self._held |= bit
            now = self._now.ns
            ready = self._ready_ns[vector]
            until = (ready if ready > now else now + interval) + self.slack_ns
            self._held_until[vector] = until
            self._next_ns = min(self._next_ns, until)
        return True

    # -- requests and messages

    def _requested(self, vector: int) -> bool:
        if self.pending & self.enabled & 1 << vector:
            return True
        others = self.other & self.other_enabled
        return bool(
            (vector == self._other_vector and others & _OTHER_CAUSES)
            or (vector == self._tcp_vector and others & _TCP_TIMER)
        )

    def _request(self, vector: int, bypass: bool = False) -> None:
        """Look at one vector after something changed."""
        bit = 1 << vector
        if not self._requested(vector):
            self._waiting &= ~bit
            self._sent &= ~bit
            self._stale = True
            return
        if self._sent & bit or not self.allowed:
            return
        ready = self._ready_ns[vector]
        if self._now.ns >= ready or bypass:
            if self._waiting & bit:
                self._waiting &= ~bit
                self._stale = True
            self._emit(vector, bit)
        elif not self._waiting & bit:
            self._waiting |= bit
            self._next_ns = min(self._next_ns, ready)
            self._words[_MODERATED + vector] += 1

    def _emit(self, vector: int, bit: int) -> None:
        if self._held & bit:
            self._held &= ~bit
            self._stale = True
            if self.flush(vector):
                self.pending |= bit
        if vector > 15 or self._auto_clear & bit:
            self.pending &= ~bit
        if self._eiame:
            self.enabled &= ~(self._auto_mask & bit)
            if vector == self._other_vector:
                self.other_enabled &= ~(self._eiam & _STORED_OTHER)
        if self._requested(vector):
            self._sent |= bit
        interval = self.interval_ns[vector]
        if interval:
            self._ready_ns[vector] = self._now.ns + interval
        self._send(vector)

    @property
    def _eiame(self) -> int:
        return self._regs.get("GPIE") & 1 << 30

    def _request_others(self) -> None:
        if not self.msix_mode:
            self._request_line()
            return
        for vector in (self._other_vector, self._tcp_vector):
            if vector >= 0:
                self._request(vector)

    def _request_line(self) -> None:
        """The single request of INTx and MSI."""
        wanted = bool(self.eicr & self.eims)
        if wanted and not self._level:
            if not self.allowed:
                return
            if self._now.ns < self._ready_ns[0]:
                self._waiting |= 1
                self._stale = True
                return
            self._ready_ns[0] = self._now.ns + self.interval_ns[0]
            for vector in bits_of(self._held):
                self.flush(vector)
            self._held = 0
        self._waiting = 0
        self._stale = True
        if wanted != self._level:
            self._level = wanted
            self._line(wanted)

    def review(self) -> None:
        """Look at everything: the mode, the mask or the right to send changed."""
        if not self.msix_mode:
            self._request_line()
            return
        look = self.pending | self._waiting | self._sent
        for vector in bits_of(look):
            self._request(vector)
        self._request_others()

    def set_allowed(self, allowed: bool) -> None:
        """Bus mastering: without it no message leaves, causes stay in EICR."""
        if allowed != self.allowed:
            self.allowed = allowed
            self._stale = True
            if allowed:
                self.review()
                self._next_ns = 0
                self.expire()  # counters that ran down meanwhile

    # -- time

    def expire(self) -> None:
        """Send what waited for a counter that has run down by now."""
        now = self._now.ns
        if now < self._next_ns:
            return
        self._stale = True
        for vector in bits_of(self._held if self.allowed else 0):
            if self._held_until[vector] <= now:
                self._held &= ~(1 << vector)
                if self.flush(vector):
                    self.cause(vector)
        for vector in bits_of(self._waiting):
            if self._ready_ns[vector] <= now:
                if self.msix_mode:
                    self._request(vector)
                else:
                    self._request_line()

    def next_ns(self) -> int | None:
        """When ``expire`` has something to do next."""
        if self._stale:
            self._stale = False
            times = [self._ready_ns[v] for v in bits_of(self._waiting if self.allowed else 0)]
            times += [self._held_until[v] for v in bits_of(self._held if self.allowed else 0)]
            self._next_ns = min(times, default=_NEVER)
        return self._next_ns if self._next_ns != _NEVER else None

    # -- registers

    @property
    def eicr(self) -> int:
        return self.pending & _QUEUE_CAUSES | self.other

    @property
    def eims(self) -> int:
        return self.enabled & _QUEUE_CAUSES | self.other_enabled

    def _attach(self) -> None:
        attach = self._regs.attach
        attach("EICR", read=self._read_eicr, write=self._write_eicr, peek=lambda _: self.eicr)
        attach("EICS", read=lambda _: self.eicr, write=self._write_eics)
        attach("EIMS", read=lambda _: self.eims, write=self._write_eims)
        attach("EIMC", read=lambda _: self.eims, write=self._write_eimc)
        attach(
            "EICR_EX",
            read=lambda i: self.pending >> 32 * i & 0xFFFF_FFFF,
            write=self._write_eicr_ex,
        )
        attach(
            "EICS_EX",
            read=lambda i: self.pending >> 32 * i & 0xFFFF_FFFF,
            write=self._write_eics_ex,
        )
        attach(
            "EIMS_EX", read=lambda i: self.enabled >> 32 * i & 0xFFFF_FFFF, write=self.write_eims_ex
        )
        attach(
            "EIMC_EX",
            read=lambda i: self.enabled >> 32 * i & 0xFFFF_FFFF,
            write=self._write_eimc_ex,
        )
        attach("EITR", read=self._read_eitr, write=self._write_eitr)
        attach("EIAC", after=self._after_eiac)
        attach("EIAM", after=self._after_eiam)
        attach("EIAM_EX", after=self._after_eiam)
        attach("IVAR", after=self._after_ivar)
        attach("IVAR_MISC", after=self._after_ivar_misc)
        attach("GPIE", after=self._after_gpie)
        attach("PBACL", write=lambda i, value: self._unpend(value << 32 * i))  # fmt: skip

    def _read_eicr(self, index: int) -> int:
        value = self.eicr
        self.other = 0
        if not (self.msix_mode and self._regs.get("GPIE") & 1 << 5):  # OCD keeps queue causes
            self.pending &= ~_QUEUE_CAUSES
        self._auto_mask_by_access()
        return value

    def _write_eicr(self, index: int, value: int) -> None:
        self.pending &= ~(value & _QUEUE_CAUSES)
        self.other &= ~value
        if not self.msix_mode:
            self._auto_mask_by_access()
        self.review()

    def _auto_mask_by_access(self) -> None:
        self.enabled &= ~(self._eiam & _QUEUE_CAUSES)
        self.other_enabled &= ~self._eiam
        self.review()

    def _write_eics(self, index: int, value: int) -> None:
        if not self.msix_mode:
            self._enable(value & self._eiam)  # as Linux saw the hardware do
        self.other |= value & _STORED_OTHER
        self._set_vectors(value & _QUEUE_CAUSES)
        self._request_others()

    def _write_eics_ex(self, index: int, value: int) -> None:
        self._set_vectors(value << 32 * index)

    def _rearm(self, vectors: int) -> None:
        """A software cause also unmasks what auto-mask had masked: the driver counts on it to bring
        a vector back whose message was lost (it calls this kick "rearm")."""
        self.enabled |= vectors & self._auto_mask

    def _set_vectors(self, vectors: int) -> None:
        self.pending |= vectors
        if not self.msix_mode:
            self._request_line()
            return
        self._rearm(vectors)
        bypass = bool(self._regs.get("GPIE") & 1 << 6)  # EIMEN
        for vector in bits_of(vectors):
            self._words[_CAUSES + vector] += 1
            self._request(vector, bypass)

    def _write_eicr_ex(self, index: int, value: int) -> None:
        self.pending &= ~(value << 32 * index)
        self.review()

    def _enable(self, value: int) -> None:
        self.enabled |= value & _QUEUE_CAUSES
        self.other_enabled |= value & _STORED_OTHER

    def _write_eims(self, index: int, value: int) -> None:
        self._enable(value)
        self.review()

    def write_eims_ex(self, index: int, value: int) -> None:
        """Unmask vectors; what was latched meanwhile goes out."""
        vectors = value << 32 * index
        self.enabled |= vectors
        if not self.msix_mode:
            self._request_line()
            return
        for vector in bits_of(vectors & self.pending):
            self._request(vector)

    def _write_eimc(self, index: int, value: int) -> None:
        self.enabled &= ~(value & _QUEUE_CAUSES)
        self.other_enabled &= ~value
        self._masked(value & _QUEUE_CAUSES)

    def _write_eimc_ex(self, index: int, value: int) -> None:
        vectors = value << 32 * index
        self.enabled &= ~vectors
        self._masked(vectors)

    def _masked(self, vectors: int) -> None:
        if self._regs.get("GPIE") >> 31:  # PBA_SUPPORT
            self._unpend(vectors)
        self.review()

    def _read_eitr(self, index: int) -> int:
        value = self._regs.get("EITR", index) & 0x001F_8FF8
        if index < VECTORS:
            left = max(0, self._ready_ns[index] - self._now.ns) // ITR_UNIT_NS
            value |= min(left >> 2, 0x7F) << 21
        return value

    def _write_eitr(self, index: int, value: int) -> None:
        self._regs.put("EITR", index, value)
        if index >= VECTORS:
            return
        self.interval_ns[index] = (value >> 3 & 0x1FF) * ITR_UNIT_NS
        self._words[_ITR_NS + index] = self.interval_ns[index]
        if not value & _CNT_WDIS:
            self._stale = True
            self._ready_ns[index] = self._now.ns + (value >> 21 & 0x7F) * 4 * ITR_UNIT_NS
            self.review()

    def _after_eiac(self, index: int, value: int) -> None:
        self._auto_clear = self._regs.get("EIAC")

    def _after_eiam(self, index: int, value: int) -> None:
        get = self._regs.get
        self._eiam = get("EIAM")
        self._auto_mask = get("EIAM_EX", 0) | get("EIAM_EX", 1) << 32

    def _after_ivar(self, index: int, value: int) -> None:
        value = self._regs.get("IVAR", index)
        limit = 0x3F if self.msix_mode else 0xF
        for byte in range(4):
            entry = value >> 8 * byte & 0xFF
            vectors = self.tx_vector if byte & 1 else self.rx_vector
            vectors[2 * index + byte // 2] = entry & limit if entry & 0x80 else -1

    def _after_ivar_misc(self, index: int, value: int) -> None:
        value = self._regs.get("IVAR_MISC")
        self._tcp_vector = value & 0x3F if value & 0x80 else -1
        self._other_vector = value >> 8 & 0x3F if value & 0x8000 else -1
        self.review()

    def _after_gpie(self, index: int, value: int) -> None:
        mode = bool(value & 1 << 4)
        if mode != self.msix_mode:
            self.msix_mode = mode
            for i in range(len(self.rx_vector) // 2):
                self._after_ivar(i, 0)
        self.review()
