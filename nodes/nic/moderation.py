"""EITR: how soon a vector may speak again, and which write-backs wait for that.

Source: 82599 datasheet 7.3.4 and 8.2.3.5. Each vector has a counter that runs down to 0 and stays
there; a message needs 0, and its going out loads the counter with the interval, whether or not
software has looked at anything since. Nothing but time empties the counter, except a write of EITR
without CNT_WDIS, which loads it.

Two things can wait for a counter: a request, and descriptor write-backs that ``transmit`` holds
back; these leave with the vector's next message or when the counter runs down.

Left out: low-latency interrupts and their credits, the interval times ten at 100 Mb/s.
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.nic.page import NIC_SCHEMA
from nodes.nic.regfile import RegisterFile
from nodes.nic.registers import VECTORS
from nodes.nic.turn import Now, bits_of

ITR_UNIT_NS = 2048
_CNT_WDIS = 1 << 31
_STORED = 0x001F_8FF8
_NEVER = 1 << 63

_MODERATED = NIC_SCHEMA.index("moderated")
_ITR_NS = NIC_SCHEMA.index("itr_ns")


class Moderation:
    """The counters of all vectors. ``loaded()`` is told when software loaded one."""

    def __init__(
        self, regs: RegisterFile, now: Now, words: memoryview, loaded: Callable[[], None]
    ) -> None:
        self._regs = regs
        self._now = now
        self._words = words
        self._loaded = loaded
        self.interval_ns = [0] * VECTORS
        self.ready_ns = [0] * VECTORS  # when the counter reaches 0
        self.slack_ns = 0  # how much later held write-backs may be written than EITR allows
        self.running = False  # memory can be reached: held write-backs have somewhere to go
        self._held_until = [0] * VECTORS
        self.reset()
        regs.attach("EITR", read=self._read_eitr, write=self._write_eitr)

    def reset(self) -> None:
        """All intervals and counters 0, nothing waits."""
        self.interval_ns[:] = self.ready_ns[:] = [0] * VECTORS
        self._words[_ITR_NS : _ITR_NS + VECTORS] = memoryview(bytes(8 * VECTORS)).cast("Q")
        self.waiting = 0  # vectors whose request met a running counter
        self.held = 0  # vectors with write-backs
        self.earliest_ns = _NEVER  # end of the first wait, never too late; exact unless stale
        self._stale = False

    # -- requests

    def wait(self, vector: int) -> None:
        """A request of ``vector`` met a running counter."""
        bit = 1 << vector
        if not self.waiting & bit:
            self.waiting |= bit
            self.earliest_ns = min(self.earliest_ns, self.ready_ns[vector])
            self._words[_MODERATED + vector] += 1

    def forget(self, vectors: int) -> None:
        """These vectors ask for nothing any more."""
        if self.waiting & vectors:
            self.waiting &= ~vectors
            self._stale = True

    def start(self, vector: int) -> None:
        """A message of ``vector`` goes out: its counter starts anew."""
        interval = self.interval_ns[vector]
        if interval:
            self.ready_ns[vector] = self._now.ns + interval
        bit = 1 << vector
        if self.waiting & bit:
            self.waiting ^= bit
            self._stale = True

    # -- held write-backs

    def hold(self, vector: int, counter: int) -> bool:
        """Write-backs of ``vector`` wait for ``counter``; False if that has no interval."""
        interval = self.interval_ns[counter]
        if not interval:
            return False
        bit = 1 << vector
        if not self.held & bit:
            self.held |= bit
            now, ready = self._now.ns, self.ready_ns[counter]
            until = (ready if ready > now else now + interval) + self.slack_ns
            self._held_until[vector] = until
            self.earliest_ns = min(self.earliest_ns, until)
        return True

    def let_go(self, vectors: int) -> None:
        """The write-backs of these vectors are being written."""
        self.held &= ~vectors
        self._stale = True

    # -- time

    def held_due(self) -> list[int]:
        """Vectors whose write-backs have waited long enough; each is let go."""
        now, due = self._now.ns, []
        self._stale = True
        for vector in bits_of(self.held if self.running else 0):
            if self._held_until[vector] <= now:
                self.held &= ~(1 << vector)
                due.append(vector)
        return due

    def waiting_due(self) -> list[int]:
        """Vectors that wait for a counter that is 0 now."""
        now, due = self._now.ns, []
        self._stale = True
        for vector in bits_of(self.waiting):
            if self.ready_ns[vector] <= now:
                due.append(vector)
        return due

    def next_ns(self) -> int | None:
        """When the next wait ends."""
        if self._stale:
            self._stale = False
            waiting, held = self.waiting, self.held if self.running else 0
            earliest = self._first(waiting, self.ready_ns) if waiting else _NEVER
            if held:
                earliest = min(earliest, self._first(held, self._held_until))
            self.earliest_ns = earliest
        return self.earliest_ns if self.earliest_ns != _NEVER else None

    @staticmethod
    def _first(vectors: int, times: list[int]) -> int:
        """Earliest of the times of some vectors."""
        if not vectors & vectors - 1:
            return times[vectors.bit_length() - 1]
        return min(times[vector] for vector in bits_of(vectors))

    def set_running(self, running: bool) -> None:
        """Memory came or went."""
        self.running = running
        self._stale = True
        self.earliest_ns = 0  # waits that ended meanwhile are looked at in this turn

    # -- the register

    def _read_eitr(self, index: int) -> int:
        value = self._regs.get("EITR", index) & _STORED
        if index < VECTORS:
            left = max(0, self.ready_ns[index] - self._now.ns) // ITR_UNIT_NS
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
            self.ready_ns[index] = self._now.ns + (value >> 21 & 0x7F) * 4 * ITR_UNIT_NS
            self._loaded()
