"""What tcpdump's lines are made of beside the packet: time stamps, names of devices, columns.

``Columns`` is ours: several devices at once, a row for each frame in one direction, and in each
device's column whether it showed it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bus.ram import TapPacket
from nodes.cpu.kernel.net.netdevice import LOOPBACK_IFINDEX
from nodes.lan.page import GATEWAY_PORT
from nodes.lan.taps import PORT_IFINDEX
from nodes.machine import LAN, MachineSettings
from orchestrator.captures.bpf import Ancillary
from orchestrator.captures.packettext import describe, describe_cooked
from orchestrator.captures.pcap import packet_type, sll2_header
from orchestrator.captures.pcapfilter import Filter
from orchestrator.captures.tcpdumpargs import Wish

DIRECTIONS = {0: "In", 1: "B", 2: "M", 3: "P", 4: "Out"}
MIN_FRAME = 60
#: Sightings of one frame lie closer together than this.
SAME_NS = 5_000_000


def device_name(settings: MachineSettings, ifindex: int) -> str:
    """Name of a device by its index: lo, the NICs in slot order, then the bond; a switch port."""
    if ifindex >= PORT_IFINDEX:
        port = ifindex - PORT_IFINDEX
        return f"{LAN}:gateway" if port == GATEWAY_PORT else f"{LAN}:{port + 1}"
    names = ["lo", *settings.nic_names, *([settings.bond.name] if settings.bond else [])]
    return names[ifindex - 1] if 0 < ifindex <= len(names) else f"if{ifindex}"


class Stamps:
    """The time before a line: none to four (or five) times -t."""

    def __init__(self, kind: int, epoch_ns: int, utc: bool = False, nano: bool = False) -> None:
        self._kind = kind
        self._epoch_ns = epoch_ns
        self._broken_down = time.gmtime if utc else time.localtime
        self._unit_ns, self._digits = (1, 9) if nano else (1000, 6)
        self._before: int | None = None
        self._first: int | None = None

    def __call__(self, time_ns: int) -> str:
        if self._kind == 1:
            return ""
        seconds, rest = divmod(time_ns + self._epoch_ns, 1_000_000_000)
        part = f"{rest // self._unit_ns:0{self._digits}d}"
        if self._kind == 2:
            return f"{seconds}.{part} "
        if self._kind in (3, 5):
            base = self._before if self._kind == 3 else self._first
            unit = self._unit_ns
            delta = 0 if base is None else time_ns // unit - base // unit
            self._before = time_ns
            self._first = time_ns if self._first is None else self._first
            return f" {self._clock(delta)} "
        form = "%Y-%m-%d %H:%M:%S" if self._kind == 4 else "%H:%M:%S"
        return f"{time.strftime(form, self._broken_down(seconds))}.{part} "

    def _clock(self, units: int) -> str:
        seconds, rest = divmod(units, 1_000_000_000 // self._unit_ns)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        return f"{clock}.{rest:0{self._digits}d}"


@dataclass
class Row:
    """A frame in one direction, and who showed it: (column, packet), in the order of time."""

    first: TapPacket
    sightings: list[tuple[int, TapPacket]] = field(default_factory=list)

    def of(self, column: int) -> list[TapPacket]:
        """What one column showed of it."""
        return [packet for number, packet in self.sightings if number == column]


def side_by_side(
    sightings: Iterable[tuple[int, TapPacket]],
    many: Sequence[int] = (),
    together_ns: int = SAME_NS,
) -> list[Row]:
    """Rows from sightings in the order of time; a column shows a frame once in a row, those in
    ``many`` (``any``) as often as it comes."""
    rows: list[Row] = []
    for column, packet in sightings:
        row = _row_of(rows, column, packet, column in many, together_ns)
        if row is None:
            row = Row(packet)
            rows.append(row)
        row.sightings.append((column, packet))
    return rows


def _row_of(
    rows: Sequence[Row], column: int, packet: TapPacket, again: bool, together_ns: int
) -> Row | None:
    for row in reversed(rows):
        if packet.time_ns - row.first.time_ns > together_ns:
            return None  # the ones before it are older still
        if _same(row.first, packet) and (again or not row.of(column)):
            return row
    return None


def leaves(packet: TapPacket) -> bool:
    """From the machine to the LAN? What enters the switch at a NIC's port is on that way."""
    port = packet.ifindex - PORT_IFINDEX
    return packet.outgoing != (0 <= port != GATEWAY_PORT)


def _same(one: TapPacket, other: TapPacket) -> bool:
    """The same frame on the same way; a NIC pads what it sends to 60 bytes."""
    if leaves(one) != leaves(other):
        return False
    return one.data.ljust(MIN_FRAME, b"\0") == other.data.ljust(MIN_FRAME, b"\0")


def cell(row: Row, column: int) -> str:
    """``Out``, ``In``, ``In 2x`` or ``-``."""
    seen = row.of(column)
    if not seen:
        return "-"
    word = "Out" if seen[0].outgoing else "In"
    return word if len(seen) == 1 else f"{word} {len(seen)}x"


class Columns:
    """Rows as text, with the devices' names above the first."""

    def __init__(self, devices: Sequence[str], stamp: Stamps) -> None:
        self._devices = devices
        self._stamp = stamp
        self._widths = [max(6, len(device)) for device in devices]
        self._many = [n for n, device in enumerate(devices) if device in ("any", LAN)]
        self._headed = False

    def text(self, sightings: Iterable[tuple[int, TapPacket]], wish: Wish) -> str:
        """Lines for these sightings, which lie together in time."""
        lines = []
        for row in side_by_side(sightings, self._many):
            stamp = self._stamp(row.first.time_ns)
            if not self._headed:
                self._headed = True
                lines.append(" " * len(stamp) + self._cells(self._devices).rstrip() + "\n")
            cells = self._cells([cell(row, n) for n in range(len(self._devices))])
            lines.append(f"{stamp}{cells}{line(row.first, wish)}\n")
        return "".join(lines)

    def _cells(self, words: Sequence[str]) -> str:
        return "".join(
            f"{word:<{width}}  " for word, width in zip(words, self._widths, strict=True)
        )


def line(packet: TapPacket, wish: Wish, device: str = "") -> str:
    """One packet without its time; with ``device`` as a capture on ``any`` shows it."""
    if not device:
        return describe(packet.data, packet.length, wish.detail)
    head = f"{device:<5} {DIRECTIONS[packet_type(packet)]:<3} "
    cooked = sll2_header(packet) + packet.data[14:]
    return head + describe_cooked(cooked, packet.length + 6, wish.detail)


def sent_to_itself(packet: TapPacket) -> bool:
    """What leaves through lo arrives by it too: linux_check_direction of libpcap lets the program
    see it once, as it arrives. The kernel has counted both ("received by filter")."""
    return packet.outgoing and packet.ifindex == LOOPBACK_IFINDEX


def passes_wish(wish: Wish, packet: TapPacket, cooked: bool, passes: Filter) -> bool:
    """-Q and the expression."""
    if wish.direction != "inout" and (wish.direction == "out") != packet.outgoing:
        return False
    if not wish.expression:
        return True
    data, length = packet.data, packet.length
    if cooked:
        data, length = sll2_header(packet) + data[14:], length + 6
    protocol = int.from_bytes(packet.data[12:14], "big")
    return passes(data, length, Ancillary(protocol, packet_type(packet), packet.ifindex))
