"""Captures: opening a tap session on the machine and reading the packet rings of its CPUs.

A session is a program ``tcpdump -i IF`` on a CPU: it opens the socket and says its number. From
then on each CPU copies what the taps see into its ring in RAM, marked with the sessions that wanted
it; reading them disturbs nobody. Rings are merged by time: packets wait a moment until every CPU
must have written what is older.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Generator
from typing import NamedTuple

from bus.ram import Ram, TapPacket
from orchestrator.errors import BottomhalfError
from orchestrator.machine import Job, Machine
from orchestrator.session import Session, Wait

#: A copy is in the ring when its instruction is over; a CPU may be interrupted in between.
SETTLE_NS = 5_000_000
_OPEN_TIMEOUT_MS = 3000
_CLOSE_TIMEOUT_MS = 2000


class Tap(NamedTuple):
    """An open session: its bit in the rings, its device (0: any), its program."""

    session: int
    ifindex: int
    job: Job


class TapReader:
    """Reads the rings of all CPUs, in the order of time."""

    def __init__(self, ram: Ram) -> None:
        self._rings = [ram.tap(cpu) for cpu in range(ram.layout.cpus)]
        self._next = [ring.count for ring in self._rings]
        self._held: list[tuple[int, int, int, TapPacket]] = []
        self.lost = 0

    def pull(self, now_ns: int) -> list[TapPacket]:
        """Packets that are older than a moment, whoever wanted them."""
        return self._take(now_ns - SETTLE_NS)

    def rest(self) -> list[TapPacket]:
        """Everything that is there, at the end."""
        return self._take(None)

    def _take(self, until_ns: int | None) -> list[TapPacket]:
        for cpu, ring in enumerate(self._rings):
            if ring.count == self._next[cpu]:
                continue
            packets, after, lost = ring.read(self._next[cpu])
            self.lost += lost
            first = after - len(packets)
            self._next[cpu] = after
            self._held.extend((p.time_ns, cpu, first + n, p) for n, p in enumerate(packets))
        self._held.sort(key=lambda row: row[:3])
        ready = len(self._held)
        if until_ns is not None:
            ready = sum(1 for row in self._held if row[0] <= until_ns)
        taken, self._held = self._held[:ready], self._held[ready:]
        return [row[3] for row in taken]


def open_tap(session: Session, device: str, promiscuous: bool = True) -> Generator[Wait, None, Tap]:
    """Open a session; the tool's own message when there is no such device."""
    argv = ("tcpdump", "-i", device) if promiscuous else ("tcpdump", "-i", device, "-p")
    job = session.machine.spawn(session.cpu, argv)
    yield from session.until(lambda: job.done or bool(job.output), _OPEN_TIMEOUT_MS)
    said = job.take()
    first = next((text for stream, text in said if stream == 1), "")
    if not first:
        text = "".join(text for _, text in said).strip().removeprefix("tcpdump: ")
        raise BottomhalfError(
            text or job.failed or "no answer from the machine",
            "devices: bottomhalf cat /proc/net/dev",
            code=1,
            program="tcpdump",
        )
    opened = json.loads(first.splitlines()[0])
    return Tap(int(opened["session"]), int(opened["ifindex"]), job)


def close_tap(session: Session, tap: Tap) -> Generator[Wait, None, None]:
    """End a session."""
    if not tap.job.done:
        session.machine.signal(tap.job, signal.SIGINT)
        yield from session.until(lambda: tap.job.done, _CLOSE_TIMEOUT_MS)


def epoch_ns(machine: Machine) -> int:
    """What the machine's clock zero is in the time of day; the simulation boots at 1970-01-01."""
    if machine.runtime == "simulation":
        return -machine.ram.boot_ns
    return time.time_ns() - machine.now_ns()
