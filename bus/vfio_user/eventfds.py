"""Interrupts on their way to a guest: an eventfd for each vector that somebody waits for.

An index (INTx, MSI, MSI-X) has vectors. INTx is a level and *automasked*: a signal masks it until
UNMASK (a command, or a second eventfd that a hypervisor signals at the end of interrupt), and a
level that still stands signals again then. Which MSI and MSI-X vectors have an eventfd is told to
the device, which holds back what the others would say.

Descriptors are numbers here: those in ``signals`` are to be written, those in ``unused`` closed, by
whoever owns them. -1 stands for none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bus.messages import GuestVectors
from bus.vfio_user.owed import Owed
from bus.vfio_user.wire import SET_IRQS_BODY, RefusedError

INTX, MSI, MSIX = 0, 1, 2
#: SET_IRQS: what the data are, and what to do.
_NONE, _BOOL, _EVENTFD = 1, 2, 4
_MASK, _UNMASK, _TRIGGER = 8, 0x10, 0x20


class Eventfds:
    """The eventfds of one connection; ``counts`` are the vectors of each index."""

    def __init__(self, counts: Sequence[int], signals: list[int], unused: list[int]) -> None:
        self._counts = counts
        self._signals = signals
        self._unused = unused
        self._vectors = [[-1] * count for count in counts]
        #: an eventfd by which the client unmasks INTx, or -1
        self.resample = -1
        self._level = self._masked = False

    # -- the device's side

    def trigger(self, index: int, vector: int) -> bool:
        """MSI or MSI-X ``vector`` fires; False if nobody waits for it."""
        fd = self._vectors[index][vector]
        if fd >= 0:
            self._signals.append(fd)
        return fd >= 0

    def set_level(self, asserted: bool) -> bool:
        """INTx changes; False if it rose and nobody waits for it."""
        self._level = asserted
        self._signal_level()
        return not asserted or self._vectors[INTX][0] >= 0

    def _signal_level(self) -> None:
        """A level that stands and is not masked signals once, and is masked by that."""
        fd = self._vectors[INTX][0]
        if self._level and not self._masked and fd >= 0:
            self._masked = True
            self._signals.append(fd)

    # -- the client's side

    def set_irqs(self, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
        """The command SET_IRQS; descriptors that it keeps are taken out of ``fds``."""
        if len(body) < SET_IRQS_BODY.size:
            raise RefusedError
        _, flags, index, start, count = SET_IRQS_BODY.unpack_from(body)
        data, what, action = body[SET_IRQS_BODY.size :], flags & 7, flags & ~7
        vectors = self._vectors[index] if index < len(self._vectors) else []
        if not vectors or start + count > len(vectors) or what not in (_NONE, _BOOL, _EVENTFD):
            raise RefusedError
        if what == _BOOL and len(data) != count:
            raise RefusedError
        if action == _TRIGGER and what == _EVENTFD:
            if not count or len(fds) not in (0, count):
                raise RefusedError
            given = fds[:] or [-1] * count
            fds.clear()
            return self._replace(owed, index, start, given)
        if action == _TRIGGER and not count:
            return self._replace(owed, index, 0, [-1] * len(vectors))
        if action == _TRIGGER:
            chosen = [v for v in range(start, start + count) if what == _NONE or data[v - start]]
            self._signals += [vectors[v] for v in chosen if vectors[v] >= 0]
        elif action == _UNMASK and what == _EVENTFD and index == INTX and count == 1:
            if len(fds) > 1:
                raise RefusedError
            self._drop_resample()
            self.resample = fds.pop() if fds else -1
        elif action in (_MASK, _UNMASK) and index == INTX and what != _EVENTFD and count == 1:
            if what == _NONE or data[0]:
                self._masked = action == _MASK
                self._signal_level()
        else:
            raise RefusedError
        return []

    def unmask(self) -> None:
        """The client signalled ``resample``."""
        self._masked = False
        self._signal_level()

    def abandon(self) -> list[int]:
        """Nobody waits any more: all descriptors that are still open."""
        left = [fd for fds in (*self._vectors, [self.resample]) for fd in fds if fd >= 0]
        self._vectors = [[-1] * count for count in self._counts]
        self.resample = -1
        return left

    def _replace(self, owed: Owed, index: int, start: int, fds: list[int]) -> list[Any]:
        """Other eventfds, or none (-1), from ``start`` on."""
        vectors = self._vectors[index]
        span = slice(start, start + len(fds))
        self._unused += [fd for fd in vectors[span] if fd >= 0]
        vectors[span] = fds
        if index == INTX:
            if fds[0] < 0:
                self._drop_resample()
            self.unmask()
        elif index in (MSI, MSIX):
            armed = sum(1 << v for v, fd in enumerate(vectors) if fd >= 0)
            owed.waiting = 1
            return [GuestVectors(owed.tag, index, armed)]
        return []

    def _drop_resample(self) -> None:
        if self.resample >= 0:
            self._unused.append(self.resample)
        self.resample = -1
