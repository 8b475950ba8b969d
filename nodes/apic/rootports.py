"""All root ports of the machine: configuration space by function number, cards that go and come.

What each looks like is published after every change, and so is when one of them wants a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nodes.apic.page import APIC_SCHEMA
from nodes.apic.portspace import SLTSTA
from nodes.apic.slots import Outside, Slot
from nodes.machine import NicSettings

_SLOTS = APIC_SCHEMA.index("slots")

#: What a port has changed to: (slot, its word of the page, slot status).
Changed = Callable[[int, int, int], None]


class RootPorts:
    """The ports of the slots of ``nics``, one each."""

    def __init__(
        self, words: memoryview, nics: Sequence[NicSettings], outside: Outside, changed: Changed
    ) -> None:
        self._words = words
        self.slots = [Slot(nic.slot, nic.hotplug, outside) for nic in nics]
        self._changed = changed
        #: when one of them does something by itself
        self.wake_ns: int | None = None
        self._show()

    def card_gone(self, number: int) -> None:
        self.slots[number].card_gone()
        self._show()

    def card_in(self, number: int, now_ns: int) -> None:
        self.slots[number].card_in(now_ns)
        self._show()

    def expire(self, now_ns: int) -> None:
        """``wake_ns`` has come."""
        for slot in self.slots:
            slot.expire(now_ns)
        self._show()

    def read(self, function: int, offset: int, size: int) -> int:
        """``size`` bytes; all ones where there is no port."""
        if function < len(self.slots):
            return self.slots[function].read(offset, size)
        return (1 << 8 * size) - 1

    def write(self, function: int, offset: int, size: int, value: int, now_ns: int) -> None:
        if function < len(self.slots):
            self.slots[function].write(offset, size, value, now_ns)
            self._show()

    def _show(self) -> None:
        words = self._words
        wakes: list[int] = []
        for number, slot in enumerate(self.slots):
            now = slot.present | slot.link_up << 1 | slot.powered << 2
            if words[_SLOTS + number] != now:
                words[_SLOTS + number] = now
                self._changed(number, now, slot.space.get(SLTSTA))
            wake = slot.next_ns()
            if wake is not None:
                wakes.append(wake)
        self.wake_ns = min(wakes, default=None)
