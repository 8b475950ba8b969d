"""Advanced error reporting: what the function notes down when a request goes wrong.

Source: PCI Express base specification 2.1 section 6.2 (the flow of figure 6-2) and 7.10. For an
uncorrectable error of the kind given by its bit in the status register:

* Device Status gets fatal or non-fatal by the severity register, and Unsupported Request if it is
  one; the AER status bit is set, also if the error is masked;
* if it is not masked, the first such error leaves its number and the header of its request in the
  capability, and a message goes to the root port if Device Control or SERR# allows it;
* an unsupported *read* that is not fatal is *advisory*, as its all-ones answer tells the requester:
  Device Status says correctable, the correctable status bit 13 is set; all else is done only if
  that is not masked, which it is after power-on.

The function knows two kinds of error: Unsupported Request as the target of an access, Completion
Timeout as the source of a read (memory here answers every read at once, so nothing makes one). The
messages are counted on the NIC's page; no root port on the bus takes them.
"""

from __future__ import annotations

from nodes.nic.configspace import AER, COMMAND, DEVCTL, DEVSTA, STATUS, ConfigSpace
from nodes.nic.page import NIC_SCHEMA

COMPLETION_TIMEOUT, UNSUPPORTED_REQUEST = 14, 20

_STATUS, _MASK, _SEVERITY = AER + 0x04, AER + 0x08, AER + 0x0C
_COR_STATUS, _COR_MASK = AER + 0x10, AER + 0x14
_CONTROL, _HEADER = AER + 0x18, AER + 0x1C
_ADVISORY = 1 << 13
_CORRECTABLE, _NON_FATAL, _FATAL, _UNSUPPORTED = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_SERR_ENABLE, _SIGNALLED_SERR, _MASTER_ABORT = 1 << 8, 1 << 14, 1 << 13

_SENT = {
    _CORRECTABLE: NIC_SCHEMA.index("err_cor"),
    _NON_FATAL: NIC_SCHEMA.index("err_nonfatal"),
    _FATAL: NIC_SCHEMA.index("err_fatal"),
}

Header = tuple[int, int, int, int]


def memory_header(write: bool, address: int) -> Header:
    """Header of a 32-bit memory request of the root complex (requester 00:00.0)."""
    kind = (0x40 if write else 0x00) << 24
    if address >> 32:
        return kind | 0x2000_0001, 0x0000_000F, address >> 32, address & 0xFFFF_FFFC
    return kind | 0x0000_0001, 0x0000_000F, address & 0xFFFF_FFFC, 0


class Aer:
    """Errors of one function."""

    def __init__(self, space: ConfigSpace, words: memoryview) -> None:
        self._space = space
        self._words = words

    def unsupported_request(self, header: Header, posted: bool) -> None:
        """Somebody asked for what nothing here answers."""
        self._space.change(DEVSTA, _UNSUPPORTED, True)
        self._uncorrectable(UNSUPPORTED_REQUEST, header, advisory=not posted)

    def completion_timeout(self) -> None:
        """A read of ours was not answered in time."""
        self._uncorrectable(COMPLETION_TIMEOUT, None, advisory=False)

    def master_abort(self) -> None:
        """A read of ours was answered with Unsupported Request; that is no error of this side."""
        self._space.change(STATUS, _MASTER_ABORT, True)

    def _uncorrectable(self, number: int, header: Header | None, advisory: bool) -> None:
        space, bit = self._space, 1 << number
        fatal = bool(space.get(_SEVERITY, 4) & bit)
        if advisory and not fatal:
            space.change(DEVSTA, _CORRECTABLE, True)
            space.change(_COR_STATUS, _ADVISORY, True)
            if not space.get(_COR_MASK, 4) & _ADVISORY:
                self._log(number, header)
                self._report(_CORRECTABLE, number)
            return
        kind = _FATAL if fatal else _NON_FATAL
        space.change(DEVSTA, kind, True)
        if self._log(number, header):
            self._report(kind, number)

    def _log(self, number: int, header: Header | None) -> bool:
        """Status bit, and for the first error that is not masked its header; False: masked."""
        space, bit = self._space, 1 << number
        before = space.get(_STATUS, 4)
        space.put(_STATUS, before | bit)
        if space.get(_MASK, 4) & bit:
            return False
        control = space.get(_CONTROL, 4)
        if not before >> (control & 0x1F) & 1:  # the pointer names no error that still stands
            space.put(_CONTROL, control & ~0x1F | number)
            for i, word in enumerate(header or (0, 0, 0, 0)):
                space.put(_HEADER + 4 * i, word)
        return True

    def _report(self, kind: int, number: int) -> None:
        """An error message to the root port, if it is wanted."""
        space = self._space
        serr = kind != _CORRECTABLE and space.get(COMMAND) & _SERR_ENABLE
        control = space.get(DEVCTL)
        wanted = control & kind and (number != UNSUPPORTED_REQUEST or control & _UNSUPPORTED)
        if serr or wanted:
            self._words[_SENT[kind]] += 1
        if serr:
            space.change(STATUS, _SIGNALLED_SERR, True)
