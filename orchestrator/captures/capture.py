"""Captures: opening a tap session on the machine and reading the packet rings of its CPUs.

A session is a program ``tcpdump -i IF`` on a CPU: it opens the socket and says its number. From
then on each CPU copies what the taps see into its ring in RAM, marked with the sessions that wanted
it; reading them disturbs nobody. A session at the switch's ports (``lan``, ``lan:1``,
``lan:gateway``) is a word in the LAN's ring. Rings are merged by time: packets wait a moment until
everybody must have written what is older.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from typing import NamedTuple

from bus.ram import Ram, TapPacket, TapRing
from nodes.lan.page import GATEWAY_PORT
from nodes.lan.taps import PORT_IFINDEX
from nodes.machine import LAN, MachineSettings
from orchestrator.captures.pcap import SNAPLEN
from orchestrator.errors import BottomhalfError
from orchestrator.machines.machine import Job, Machine
from orchestrator.session import Session, Wait

#: A copy is in the ring when its instruction is over; a CPU may be interrupted in between.
SETTLE_NS = 5_000_000
_OPEN_TIMEOUT_MS = 3000
_CLOSE_TIMEOUT_MS = 2000


class Tap(NamedTuple):
    """An open session: its device, its bit in the rings and its program; or the switch's ports as
    a mask, and the claim on them."""

    device: str
    session: int = 0
    job: Job | None = None
    ports: int = 0
    snaplen: int = SNAPLEN

    @property
    def done(self) -> bool:
        return self.job is not None and self.job.done

    def wants(self, packet: TapPacket) -> bool:
        """Is it this session's?"""
        if packet.ifindex >= PORT_IFINDEX:
            return bool(self.ports >> (packet.ifindex - PORT_IFINDEX) & 1)
        return not self.ports and bool(packet.sessions >> self.session & 1)

    def cut(self, packet: TapPacket) -> TapPacket:
        """As long as this session wanted it: another one may have wanted more."""
        if len(packet.data) <= self.snaplen:
            return packet
        return packet._replace(data=packet.data[: self.snaplen])


class TapReader:
    """Reads the rings of all CPUs, in the order of time."""

    def __init__(self, ram: Ram, together_ns: int = 0) -> None:
        """Packets that follow one another within ``together_ns`` come in one piece."""
        self._together_ns = together_ns
        self._rings = [ram.tap(number) for number in range(ram.layout.cpus + 1)]
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
            if self._together_ns:
                ready = self._whole(ready, until_ns)
        taken, self._held = self._held[:ready], self._held[ready:]
        return [row[3] for row in taken]

    def _whole(self, ready: int, until_ns: int) -> int:
        """Back to the last pause; a stream without pauses is cut where it is."""
        edge = self._held[ready][0] if ready < len(self._held) else until_ns
        at = ready
        while at and edge - self._held[at - 1][0] <= self._together_ns:
            at -= 1
            edge = self._held[at][0]
        endless = ready and until_ns - self._held[0][0] > 20 * self._together_ns
        return ready if at == 0 and endless else at


def open_tap(
    session: Session, device: str, promiscuous: bool = True, snaplen: int = 0
) -> Generator[Wait, None, Tap]:
    """Open a session; the tool's own message when there is no such device."""
    ports = _ports(session.machine.settings, device)
    if ports:
        claim = _lan_ring(session.machine).claim(ports, os.getpid())
        if claim is None:
            raise _refused("all captures that the switch can serve are running", "end one")
        return Tap(device, claim, None, ports, snaplen or SNAPLEN)
    argv = ["tcpdump", "-i", device, *([] if promiscuous else ["-p"])]
    argv += ["-s", str(snaplen)] if snaplen else []
    job = session.machine.spawn(session.cpu, tuple(argv))
    yield from session.until(lambda: job.done or bool(job.output), _OPEN_TIMEOUT_MS)
    said = job.take()
    first = next((text for stream, text in said if stream == 1), "")
    if not first:
        text = "".join(text for _, text in said).strip().removeprefix("tcpdump: ")
        raise _refused(
            text or job.failed or "no answer from the machine", "devices: bottomhalf tcpdump -D"
        )
    opened = json.loads(first.splitlines()[0])
    return Tap(device, int(opened["session"]), job, 0, snaplen or SNAPLEN)


def _refused(what: str, hint: str) -> BottomhalfError:
    return BottomhalfError(what, hint, code=1, program="tcpdump")


def _ports(settings: MachineSettings, device: str) -> int:
    """Mask of the switch's ports that a name means; 0: it is no port."""
    head, colon, number = device.partition(":")
    if head != LAN:
        return 0
    nics = len(settings.nics)
    if not colon:
        return (1 << nics) - 1 | 1 << GATEWAY_PORT
    if number == "gateway":
        return 1 << GATEWAY_PORT
    if not number.isdecimal() or not 0 < int(number) <= nics:
        raise _refused(f"{device}: No such device exists", f"lan:1 to lan:{nics}, lan:gateway, lan")
    return 1 << int(number) - 1


def _lan_ring(machine: Machine) -> TapRing:
    return machine.ram.tap(machine.ram.layout.cpus)


def close_tap(session: Session, tap: Tap) -> Generator[Wait, None, None]:
    """End a session."""
    job = tap.job
    if job is None:
        _lan_ring(session.machine).release(tap.session)
    elif not job.done:
        session.machine.signal(job, signal.SIGINT)
        yield from session.until(lambda: job.done, _CLOSE_TIMEOUT_MS)


def epoch_ns(machine: Machine) -> int:
    """What the machine's clock zero is in the time of day; the simulation boots at 1970-01-01."""
    return machine.ram.epoch_ns
