"""UDP frames a second through the bond, each way alone.

Out: ``udp_send`` sends to the gateway's discard port as fast as its socket lets it (``-i 0 -w 0``).
What counts is what the gateway took. A socket here has no send buffer that would make it wait (see
docs/limitations.md), so what outruns the NIC is dropped by the qdisc; the share lost is told.

In: the benchmark itself is a host on the LAN. It joins the switch as another machine would and
speaks for the gateway to a ``udp_send`` that waits for answers; at most ``WINDOW`` frames are on
their way, so that no ring and no socket overflows. What counts is what the program has read.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Any

from nodes.cpu.page import CPU_SCHEMA, SNMP
from nodes.lan.page import LAN_SCHEMA
from nodes.machine import LAN
from orchestrator.machines.launch import DOOR
from orchestrator.machines.machine import Job
from orchestrator.machines.processes import ProcessMachine

FRAMES = 20_000
WINDOW = 64
DATA_BYTES = 64
DISCARD_PORT = 9
GUARD_S = 60
#: Nothing has arrived for so long: nothing will.
SETTLED_S = 0.3
_POLL_S = 0.0002
_MAC = bytes.fromhex("0200000000fe")
_HELLO, _FRAME, _LIGHT_ON = b"\0", b"\1", b"\3\1"
_IN_DATAGRAMS, _IN_ERRORS = SNMP.index("Udp InDatagrams"), SNMP.index("Udp InErrors")


def udp_frame(
    mac: bytes, source: tuple[str, int], target: tuple[str, int], size: int = DATA_BYTES
) -> bytes:
    """A datagram to ``target`` in one frame, without a UDP checksum."""
    header = bytearray(bytes.fromhex("4500000000000000401100000000000000000000"))
    header[2:4] = (28 + size).to_bytes(2, "big")
    header[12:16] = IPv4Address(source[0]).packed
    header[16:20] = IPv4Address(target[0]).packed
    header[10:12] = (0xFFFF - int.from_bytes(header, "big") % 0xFFFF).to_bytes(2, "big")
    ports = source[1].to_bytes(2, "big") + target[1].to_bytes(2, "big")
    udp = ports + (8 + size).to_bytes(2, "big") + b"\0\0"
    return mac + _MAC + b"\x08\0" + bytes(header) + udp + bytes(size)


def _live(machine: ProcessMachine, done: Callable[[], bool]) -> float:
    """Let the machine live until ``done``; seconds. RuntimeError if it never is."""
    began = time.monotonic()
    while not done():
        if time.monotonic() - began > GUARD_S:
            raise RuntimeError("a UDP benchmark does not end")
        machine.pump(machine.now_ns() + int(_POLL_S * 1e9))
    return time.monotonic() - began


def frames_out_per_s(
    machine: ProcessMachine, host: str, frames: int = FRAMES
) -> tuple[float, float]:
    """Machine to gateway; and the share that was lost on the way."""
    page = machine.ram.page(LAN, LAN_SCHEMA)
    first = arrived = page["gw_udp_discarded"]
    began = last = time.monotonic()
    job = machine.spawn(
        "cpu0",
        ("udp_send", "-q", "-i", "0", "-w", "0", "-s", str(DATA_BYTES), "-c", str(frames), host,
         str(DISCARD_PORT)),
    )  # fmt: skip

    def over() -> bool:
        nonlocal arrived, last
        now = page["gw_udp_discarded"]
        if now != arrived:
            arrived, last = now, time.monotonic()
        return job.done and (
            now - first == frames or time.monotonic() - max(last, began) > SETTLED_S
        )

    _live(machine, over)
    if arrived == first:
        raise RuntimeError(f"no UDP frame reached the gateway: {job.take()}")
    return (arrived - first) / (last - began), 1 - (arrived - first) / frames


def frames_in_per_s(
    machine: ProcessMachine,
    host: str,
    ask: Callable[[str], Mapping[str, Any]],
    frames: int = FRAMES,
) -> float:
    """Gateway to machine; ``ask`` asks the boot CPU."""
    job = machine.spawn(
        "cpu0",
        ("udp_send", "-q", "-i", "3600", "-w", "3600", "-c", str(frames), host, str(DISCARD_PORT)),
    )
    port = 0
    while not port:
        rows = ask("kernel")["udp_sockets"]
        port = next((row["port"] for row in rows if row["peer_port"] == DISCARD_PORT), 0)
    assert machine.settings.bond is not None
    own = machine.settings.bond.address.partition("/")[0]
    frame = udp_frame(machine.settings.nics[0].mac, (host, DISCARD_PORT), (own, port))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as wire:
        wire.connect(f"{machine.rundir.socket_directory()}/{DOOR}")
        wire.send(_HELLO + b"bench")
        if wire.recv(256)[:1] != _HELLO:
            raise RuntimeError("the switch does not answer")
        wire.send(_LIGHT_ON)
        wire.setblocking(False)
        return frames / _feed(machine, wire, _FRAME + frame, frames, job)


def _feed(
    machine: ProcessMachine, wire: socket.socket, data: bytes, frames: int, job: Job
) -> float:
    """Send, a window at a time, until the program has read ``frames`` of them; seconds. What comes
    while the socket is full, because softirqs leave its reader no time, is sent once more."""
    pages = [machine.ram.page(name, CPU_SCHEMA) for name in machine.settings.cpu_names]

    def counted(word: int) -> int:
        return sum(page.run("snmp")[word] for page in pages)

    first, first_dropped = counted(_IN_DATAGRAMS), counted(_IN_ERRORS)
    sent = 0

    def fed() -> bool:
        nonlocal sent
        dropped = counted(_IN_ERRORS) - first_dropped
        arrived = counted(_IN_DATAGRAMS) - first + dropped
        room = min(frames + dropped, arrived + WINDOW) - sent
        try:
            for _ in range(room):
                wire.send(data)
                sent += 1
        except BlockingIOError:
            pass
        return job.done

    return _live(machine, fed)
