"""The link of one port: light, negotiation, LINKS, LSC, and the laser.

Source: 82599 datasheet 3.7 and 8.2.3.22. Rules:

* the link is up while there is a module in the cage, light from the far end, the link mode (LMS) is
  one of 10 Gb/s, as the far end is, and negotiation is done; it takes ``NEGOTIATION_NS`` from
  power-on, CTRL.LNK_RST or AUTOC.AN_RESTART, and ``LOCK_NS`` from the moment the light comes;
  CTRL.RST alone keeps it;
* AUTOC.FLU and HLREG0.LPBK force it up; a new LMS counts from the next AN_RESTART on;
* LINKS shows the present state, unlatched; each change of UP sets EICR.LSC;
* ESDP.SDP3 as an output at 1 switches the laser off: the far end loses its link, ours stays;
* ESDP.SDP2 as an input is 1 while the cage is full; its edges are EICR.SDP2 if GPIE asks for them;
* after AN_RESTART, ANLP1 shows a negotiation state that is not 0 (the "pipeline reset" of Linux
  waits for it).

Left out: speeds other than 10 Gb/s, backplane negotiation, remote faults.
"""

from __future__ import annotations

from collections.abc import Callable

from bus.recorder import Recorder
from nodes.nic import trace
from nodes.nic.interrupts import LSC, Interrupts
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.regfile import RegisterFile
from nodes.nic.sfp import Cage
from nodes.nic.turn import Now

NEGOTIATION_NS = 20_000_000
LOCK_NS = 1_000_000
LINKS_UP = 0x7000_0080  # UP, 10 Gb/s, the second copy of UP

_FLU = 1
_AN_RESTART = 1 << 12
_LPBK = 1 << 15
_SDP2, _SDP3 = 1 << 2, 1 << 3
_SDP2_GPIEN = 1 << 2  # GPIE
_SDP2_CAUSE = 1 << 26  # EICR
_AN_STATE = 0x0003_0000  # ANLP1
_LMS_SHIFT, _LMS_SERIAL = 13, 3
#: Link modes in which the far end, which is one of 10 Gb/s, is understood.
_LMS_10G = frozenset((1, 3, 4, 6, 7))

_LINK_UP = NIC_SCHEMA.index("link_up")
_LIGHT = NIC_SCHEMA.index("light")
_LASER = NIC_SCHEMA.index("laser")
_CHANGES = NIC_SCHEMA.index("link_changes")


class Link:
    """``changed(up)`` is called at each change of LINKS.UP, ``switch(on)`` for the laser."""

    def __init__(
        self,
        regs: RegisterFile,
        now: Now,
        words: memoryview,
        recorder: Recorder,
        interrupts: Interrupts,
        cage: Cage,
        changed: Callable[[bool], None],
        switch: Callable[[bool], None],
    ) -> None:
        self._regs = regs
        self._now = now
        self._words = words
        self._recorder = recorder
        self._interrupts = interrupts
        self._cage = cage
        self._changed = changed
        self._switch = switch
        self.up = False
        self.light = False
        self.laser = False
        self._ready_ns = 0
        self._mode = _LMS_SERIAL
        attach = regs.attach
        attach("LINKS", read=lambda i: LINKS_UP if self.up else 0)
        attach("AUTOC", after=self._after_autoc)
        attach("HLREG0", after=lambda i, value: self.look())
        attach("ESDP", read=self._read_esdp, write=self._write_esdp)

    def reset(self, negotiate: bool) -> None:
        """A reset of the port: the laser is on again; ``negotiate``: the link starts anew."""
        self._set_laser(True)
        self._mode = _LMS_SERIAL
        if negotiate:
            self._negotiate()
        else:
            self.look()

    def set_light(self, on: bool) -> None:
        """The far end's light came or went."""
        if on and not self.light:
            self._ready_ns = max(self._ready_ns, self._now.ns + LOCK_NS)
        self.light = on
        self._words[_LIGHT] = on
        self._cage.light(on)
        self.look()

    def set_module(self, module: str | None) -> None:
        """A module is put into the cage (one of ``sfp.MODULES``) or taken out."""
        before = self._cage.module
        self._cage.fill(module)
        self._cage.light(self.light)
        if (before is None) != (module is None):
            if module is not None:
                self._ready_ns = max(self._ready_ns, self._now.ns + LOCK_NS)
            if self._regs.get("GPIE") & _SDP2_GPIEN:
                self._interrupts.cause_other(_SDP2_CAUSE)
            self.look()

    def look(self) -> None:
        """Bring UP in line with light, time and the forcing bits."""
        forced = self._regs.get("AUTOC") & _FLU or self._regs.get("HLREG0") & _LPBK
        up = bool(forced or (self._locked() and self._now.ns >= self._ready_ns))
        if up == self.up:
            return
        self.up = up
        self._words[_LINK_UP] = up
        self._words[_CHANGES] += 1
        self._recorder.record(self._now.ns, trace.LINK, a=up)
        self._interrupts.cause_other(LSC)
        self._changed(up)

    def next_ns(self) -> int | None:
        """When the link comes up, if it is about to."""
        return self._ready_ns if not self.up and self._locked() else None

    def _locked(self) -> bool:
        """There is a signal that this link mode understands."""
        return self.light and self._cage.module is not None and self._mode in _LMS_10G

    def _negotiate(self) -> None:
        self._ready_ns = self._now.ns + NEGOTIATION_NS
        self.look()

    def _after_autoc(self, index: int, value: int) -> None:
        if value & _AN_RESTART:
            self._regs.put("ANLP1", 0, _AN_STATE)
            self._mode = value >> _LMS_SHIFT & 7
            self._negotiate()
        else:
            self.look()

    def _read_esdp(self, index: int) -> int:
        """Output pins read as written, input pins as the board drives them."""
        value = self._regs.get("ESDP")
        inputs = ~(value >> 8) & 0xFF
        pins = _SDP2 if self._cage.module is not None else 0
        return value & ~inputs | pins & inputs

    def _write_esdp(self, index: int, value: int) -> None:
        outputs = value >> 8 & 0xFF
        self._regs.put("ESDP", 0, value)
        self._set_laser(not value & outputs & _SDP3)

    def _set_laser(self, on: bool) -> None:
        if on != self.laser:
            self.laser = on
            self._words[_LASER] = on
            self._recorder.record(self._now.ns, trace.LASER, a=on)
            self._switch(on)
