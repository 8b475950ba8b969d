"""The link of one port: light, negotiation, LINKS, LSC, and the laser.

Source: 82599 datasheet 3.7 and 8.2.3.22. Rules:

* the link is up while there is light from the far end and negotiation is done; it takes
  ``NEGOTIATION_NS`` from power-on, CTRL.LNK_RST or AUTOC.AN_RESTART, and ``LOCK_NS`` from the
  moment the light comes; CTRL.RST alone keeps it;
* AUTOC.FLU and HLREG0.LPBK force it up;
* LINKS shows the present state, unlatched; each change of UP sets EICR.LSC;
* ESDP.SDP3 as an output at 1 switches the laser off: the far end loses its link, ours stays;
* after AN_RESTART, ANLP1 shows a negotiation state that is not 0 (the "pipeline reset" of Linux
  waits for it).

Left out: speeds other than 10 Gb/s, the SFP+ module behind I2CCTL (nobody answers: no module), MDIO
PHYs, remote faults.
"""

from __future__ import annotations

from collections.abc import Callable

from bus.recorder import Recorder
from nodes.nic import trace
from nodes.nic.interrupts import LSC, Interrupts, Now
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.regfile import RegisterFile

NEGOTIATION_NS = 20_000_000
LOCK_NS = 1_000_000
LINKS_UP = 0x7000_0080  # UP, 10 Gb/s, the second copy of UP

_FLU = 1
_AN_RESTART = 1 << 12
_LPBK = 1 << 15
_SDP3 = 1 << 3
#: External levels of the pins when they are inputs: SDP2 = 1, the cage is not reported empty.
_PINS = 0x04

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
        changed: Callable[[bool], None],
        switch: Callable[[bool], None],
    ) -> None:
        self._regs = regs
        self._now = now
        self._words = words
        self._recorder = recorder
        self._interrupts = interrupts
        self._changed = changed
        self._switch = switch
        self.up = False
        self.light = False
        self.laser = False
        self._ready_ns = 0
        attach = regs.attach
        attach("LINKS", read=lambda i: LINKS_UP if self.up else 0)
        attach("AUTOC", after=self._after_autoc)
        attach("HLREG0", after=lambda i, value: self.look())
        attach("ESDP", write=self._write_esdp)
        attach("I2CCTL", read=self._read_i2cctl)

    def reset(self, negotiate: bool) -> None:
        """A reset of the port: the laser is on again; ``negotiate``: the link starts anew."""
        self._set_laser(True)
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
        self.look()

    def look(self) -> None:
        """Bring UP in line with light, time and the forcing bits."""
        forced = self._regs.get("AUTOC") & _FLU or self._regs.get("HLREG0") & _LPBK
        up = bool(forced or (self.light and self._now.ns >= self._ready_ns))
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
        return self._ready_ns if self.light and not self.up else None

    def _negotiate(self) -> None:
        self._ready_ns = self._now.ns + NEGOTIATION_NS
        self.look()

    def _after_autoc(self, index: int, value: int) -> None:
        if value & _AN_RESTART:
            self._regs.put("ANLP1", 0, 0x0003_0000)
            self._negotiate()
        else:
            self.look()

    def _write_esdp(self, index: int, value: int) -> None:
        outputs = value >> 8 & 0xFF
        pins = value & outputs | _PINS & ~outputs & 0xFF
        self._regs.put("ESDP", 0, value & 0xFFFF_FF00 | pins)
        self._set_laser(not pins & _SDP3)

    def _set_laser(self, on: bool) -> None:
        if on != self.laser:
            self.laser = on
            self._words[_LASER] = on
            self._recorder.record(self._now.ns, trace.LASER, a=on)
            self._switch(on)

    def _read_i2cctl(self, index: int) -> int:
        """Open-drain pins that only the host drives: the inputs follow the outputs."""
        outputs = self._regs.get("I2CCTL") & 0xA
        return outputs | outputs >> 1
