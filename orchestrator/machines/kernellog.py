"""The kernel log of a machine: the rings of all its CPUs, merged by time."""

from __future__ import annotations

from typing import NamedTuple

from bus.ram import Ram


class LogLine(NamedTuple):
    """One line; the time is since boot."""

    time_ns: int
    level: int
    text: str

    def stamped(self) -> str:
        """``[   12.071034] ixgbe 0000:02:00.0: Adapter removed``."""
        seconds, rest = divmod(self.time_ns, 1_000_000_000)
        return f"[{seconds:5d}.{rest // 1000:06d}] {self.text}"


class KernelLog:
    """A reader that remembers how far it has read."""

    def __init__(self, ram: Ram, from_now: bool = False) -> None:
        self._logs = [ram.log(cpu) for cpu in range(ram.layout.cpus)]
        self._next = [log.count if from_now else 0 for log in self._logs]

    def new(self) -> list[LogLine]:
        """Lines that were written since the last call, oldest first."""
        found: list[tuple[int, int, int, str]] = []
        for cpu, log in enumerate(self._logs):
            count = log.count
            if count != self._next[cpu]:
                lines = log.lines(self._next[cpu])[: count - self._next[cpu]]
                found.extend((time_ns, cpu, level, text) for time_ns, level, text in lines)
                self._next[cpu] = count
        found.sort(key=lambda line: line[:2])
        return [LogLine(time_ns, level, text) for time_ns, _, level, text in found]


def lines(ram: Ram) -> list[LogLine]:
    """All lines that are still in the rings."""
    return KernelLog(ram).new()
