"""Plain models of the two timer wheels, to hold the kernel's against.

``ClassicModel`` walks every jiffy over lists; ``ModernModel`` has no buckets at all: it computes
when each timer must fire and sorts. Both keep the names of timers only. ``fire(name)`` is called
while the lists are as the kernel's are, so a callback may arm, move and delete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Fire = Callable[[str], None]


class ClassicModel:
    """The cascading wheel, one jiffy at a time."""

    def __init__(self, start: int) -> None:
        self.clk = start
        self.expires: dict[str, int] = {}
        self.slots: dict[tuple[int, int], list[str]] = {}
        self.work: list[str] = []

    def _place(self, name: str) -> None:
        expires = self.expires[name]
        idx = expires - self.clk
        if idx < 0:
            key = (1, self.clk & 255)
        elif idx < 2**8:
            key = (1, expires & 255)
        elif idx < 2**14:
            key = (2, expires >> 8 & 63)
        elif idx < 2**20:
            key = (3, expires >> 14 & 63)
        elif idx < 2**26:
            key = (4, expires >> 20 & 63)
        else:
            key = (5, min(expires, self.clk + 0xFFFFFFFF) >> 26 & 63)
        self.slots.setdefault(key, []).append(name)

    def mod(self, name: str, expires: int, _jiffies: int) -> bool:
        was = name in self.expires
        if was and self.expires[name] == expires:
            return True
        self.delete(name)
        self.expires[name] = expires
        self._place(name)
        return was

    def delete(self, name: str) -> bool:
        if name not in self.expires:
            return False
        del self.expires[name]
        for names in [*self.slots.values(), self.work]:
            if name in names:
                names.remove(name)
        return True

    def pending(self) -> list[str]:
        return sorted(self.expires)

    def idle(self) -> int | None:
        return min(self.expires.values(), default=None)

    def run(self, jiffies: int, fire: Fire) -> None:
        while jiffies >= self.clk:
            if self.clk & 255 == 0:
                for vector, shift in ((2, 8), (3, 14), (4, 20), (5, 26)):
                    number = self.clk >> shift & 63
                    for name in self.slots.pop((vector, number), []):
                        self._place(name)
                    if number:
                        break
            self.work = self.slots.pop((1, self.clk & 255), [])
            self.clk += 1
            while self.work:
                name = self.work.pop(0)
                del self.expires[name]
                fire(name)


@dataclass
class Armed:
    name: str
    expires: int
    level: int
    fires: int
    order: int

    @property
    def bucket(self) -> tuple[int, int]:
        return self.level, self.fires // 8**self.level % 64


class ModernModel:
    """The hierarchical wheel as a list of what must fire when."""

    FAR = 2**30 - 1

    def __init__(self, start: int, depth: int) -> None:
        self.clk = start
        self.next = start + self.FAR
        self.depth = depth
        self.armed: list[Armed] = []
        self.running: list[Armed] = []
        self.emptied = False  # a bucket became empty: ``next`` may be too early
        self._order = 0

    def _compute(self, name: str, expires: int) -> Armed:
        self._order += 1
        delta = expires - self.clk
        if delta < 0:
            return Armed(name, expires, 0, self.clk, self._order)
        end = expires
        if delta >= 63 * 8 ** (self.depth - 1):
            end = self.clk + 62 * 8 ** (self.depth - 1)
        level = next((n for n in range(self.depth) if delta < 63 * 8**n), self.depth - 1)
        return Armed(name, expires, level, (end // 8**level + 1) * 8**level, self._order)

    def _forward(self, jiffies: int) -> None:
        if jiffies > self.clk:
            if self.next > jiffies:
                self.clk = jiffies
            elif self.next >= self.clk:
                self.clk = self.next

    def mod(self, name: str, expires: int, jiffies: int) -> bool:
        old = next((t for t in self.armed + self.running if t.name == name), None)
        if old is not None and old.expires == expires:
            return True
        self._forward(jiffies)
        new = self._compute(name, expires)
        if old is not None and old in self.armed and old.bucket == new.bucket:
            old.expires = expires
            return True
        self.delete(name)
        self.armed.append(new)
        if new.fires < self.next:
            self.next, self.emptied = new.fires, False
        return old is not None

    def delete(self, name: str) -> bool:
        old = next((t for t in self.armed + self.running if t.name == name), None)
        if old in self.armed:
            self.armed.remove(old)
            if not any(t.bucket == old.bucket for t in self.armed):
                self.emptied = True
        elif old is not None:
            self.running.remove(old)
        return old is not None

    def _look_again(self) -> None:
        self.next = min((t.fires for t in self.armed), default=self.clk + self.FAR)
        self.emptied = False

    def pending(self) -> list[str]:
        return sorted(t.name for t in self.armed + self.running)

    def idle(self) -> int | None:
        if self.emptied:
            self._look_again()
        return self.next if self.armed else None

    def run(self, jiffies: int, fire: Fire) -> None:
        while jiffies >= self.clk and jiffies >= self.next:
            now = self.next
            due = [t for t in self.armed if t.fires == now]
            self.armed = [t for t in self.armed if t.fires != now]
            self.clk = now + 1
            self._look_again()
            self.running = sorted(due, key=lambda t: (-t.level, -t.order))
            while self.running:
                fire(self.running.pop(0).name)
