"""PCIe slots with native hot-plug: what a root port does when its card comes and goes.

Source: PCI Express base specification 2.1, 6.7 (hot-plug) and 7.8.9 to 7.8.11. One slot a NIC; the
card is the NIC's process, so the port sees it go and come by its link to it.

=====================  ===========================================================================
event                  what changes
=====================  ===========================================================================
card gone              LnkSta.13 = 0 (DLLSC), presence = 0 (PDC); for software the same moment
card in                presence = 1 (PDC); with power the link trains, ``TRAINING_NS``: LnkSta.11
link trained           LnkSta.13 = 1 (DLLSC)
power off              the link is down (DLLSC); the card is told and forgets all it knew
power on               a card that is there is told; its link trains
link disabled, or      as power off and on: to the card both end in a reset (bits of AER that would
secondary bus reset    survive do not)
SltCtl written         command completed (CC) ``COMMAND_NS`` later
=====================  ===========================================================================

Status bits stay until 1 is written to them. The port's one MSI is sent when the OR of the enabled
events, with HPIE, goes from 0 to 1, and not again before it was 0; it needs bus mastering. Masked,
it waits. A slot without ``hotplug`` has its card all the same, but SltCap says nothing of hot-plug,
so that no enable bit can be set.

At power-on, firmware is done: cards are in, links are up, no event is pending.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nodes.apic.portspace import (
    BRIDGE_CONTROL,
    COMMAND,
    LNKCTL,
    LNKSTA,
    MSI_ADDRESS,
    MSI_CONTROL,
    MSI_DATA,
    MSI_MASK,
    MSI_PENDING,
    SLTCTL,
    SLTSTA,
    SPEED_5GT,
    WIDTH,
    port_words,
)
from nodes.configspace import Space, aligned

TRAINING_NS = 20_000_000
COMMAND_NS = 10_000

PDC, CC, PDS, DLLSC = 1 << 3, 1 << 4, 1 << 6, 1 << 8
HPIE, PCC, DLLSCE = 1 << 5, 1 << 10, 1 << 12
_SAME_BITS = 0x1F  # events whose enable bit has the same number
LINK_TRAINING, LINK_ACTIVE = 1 << 11, 1 << 13
_BUS_MASTER, _LINK_DISABLE, _BUS_RESET = 1 << 2, 1 << 4, 1 << 6


class Outside(NamedTuple):
    """What a slot does to others."""

    message: Callable[[int, int, int], None]  # its MSI: (slot, address, data)
    power: Callable[[int, bool], None]  # (slot, on)


class Slot:
    """The root port of one slot, and what is in it."""

    def __init__(self, number: int, hotplug: bool, outside: Outside) -> None:
        self.number = number
        self.space = Space(port_words(number, hotplug))
        self.present = True
        self.powered = True  # and its link neither disabled nor held in reset
        self._outside = outside
        self._request = False  # OR of the enabled events
        self._command_at: int | None = None
        self._trained_at: int | None = None

    # -- the card

    def card_gone(self) -> None:
        """Pulled out while it ran."""
        self._link(False)
        if self.present:
            self.present = False
            self.space.change(SLTSTA, PDS, False)
            self._event(PDC)

    def card_in(self, now_ns: int) -> None:
        if not self.present:
            self.present = True
            self.space.change(SLTSTA, PDS, True)
            self._train(now_ns)
            self._event(PDC)
        if not self.powered:
            self._outside.power(self.number, False)

    @property
    def link_up(self) -> bool:
        return bool(self.space.get(LNKSTA) & LINK_ACTIVE)

    def _link(self, up: bool) -> None:
        self._trained_at = None
        was = self.link_up
        self.space.change(LNKSTA, LINK_TRAINING, False)
        self.space.change(LNKSTA, LINK_ACTIVE | WIDTH | SPEED_5GT, up)
        if up != was:
            self._event(DLLSC)

    def _train(self, now_ns: int) -> None:
        if self.present and self.powered and not self.link_up:
            self._trained_at = now_ns + TRAINING_NS
            self.space.change(LNKSTA, LINK_TRAINING, True)

    def _event(self, bit: int) -> None:
        self.space.change(SLTSTA, bit, True)
        self._drive()

    # -- time

    def next_ns(self) -> int | None:
        """When something happens here by itself."""
        times = [at for at in (self._command_at, self._trained_at) if at is not None]
        return min(times) if times else None

    def expire(self, now_ns: int) -> None:
        if self._trained_at is not None and now_ns >= self._trained_at:
            self._link(True)
        if self._command_at is not None and now_ns >= self._command_at:
            self._command_at = None
            self._event(CC)

    # -- registers

    def read(self, offset: int, size: int) -> int:
        """``size`` bytes, naturally aligned; else all ones."""
        return self.space.get(offset, size) if aligned(offset, size) else (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int, now_ns: int) -> None:
        if not aligned(offset, size):
            return
        self.space.write(offset, size, value & (1 << 8 * size) - 1)
        if offset < SLTCTL + 2 and offset + size > SLTCTL:
            self._command_at = now_ns + COMMAND_NS
        self._supply(now_ns)
        self._drive()

    def _supply(self, now_ns: int) -> None:
        """Power and link as the control words have them now."""
        get = self.space.get
        on = not (
            get(SLTCTL) & PCC or get(LNKCTL) & _LINK_DISABLE or get(BRIDGE_CONTROL) & _BUS_RESET
        )
        if on == self.powered:
            return
        self.powered = on
        if self.present:
            self._outside.power(self.number, on)
        if on:
            self._train(now_ns)
        else:
            self._link(False)

    def _drive(self) -> None:
        """The rule of the interrupt."""
        get = self.space.get
        status, control = get(SLTSTA), get(SLTCTL)
        events = status & control & _SAME_BITS or (status & DLLSC and control & DLLSCE)
        request = bool(events and control & HPIE)
        if request and not self._request:
            self.space.put(MSI_PENDING, 1, 1)
        self._request = request
        if not get(MSI_CONTROL) & 1:
            self.space.put(MSI_PENDING, 0, 1)
        elif get(MSI_PENDING) & 1 and not get(MSI_MASK) & 1 and get(COMMAND) & _BUS_MASTER:
            self.space.put(MSI_PENDING, 0, 1)
            self._outside.message(self.number, get(MSI_ADDRESS, 8), get(MSI_DATA, 2))
