"""The verb ``tcpdump``: options and output of tcpdump 4.99 on the taps of the emulated machine.

What the real one cannot do: ``-i`` more than once (a column for each device says who saw a frame),
and the switch's ports as devices. Files are pcapng, which has names, directions and nanoseconds;
one whose name ends in ``.pcap`` is in the classic format.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, Protocol

from bus.ram import TapPacket
from nodes.machine import LAN, MachineSettings
from orchestrator import faults
from orchestrator.captures.capture import Tap, TapReader, close_tap, epoch_ns, open_tap
from orchestrator.captures.packettext import describe
from orchestrator.captures.pcap import (
    LINKTYPE_ETHERNET,
    LINKTYPE_LINUX_SLL2,
    SNAPLEN,
    PcapWriter,
)
from orchestrator.captures.pcapfilter import Filter, FilterError, compile_filter
from orchestrator.captures.pcapng import Interface, PcapngWriter
from orchestrator.captures.tcpdumpargs import USAGE, Wish, packets_text, parse, refuse
from orchestrator.captures.tcpdumpread import read_file
from orchestrator.captures.tcpdumptext import (
    SAME_NS,
    Columns,
    Stamps,
    device_name,
    line,
    passes_wish,
    sent_to_itself,
)
from orchestrator.errors import OK, BottomhalfError, words
from orchestrator.machines import procfiles
from orchestrator.session import Session, Steps, Wait

#: Between two looks at the rings.
_LOOK_NS = 20_000_000
#: One packet as one session saw it: the session's number on the command line.
Sighting = tuple[int, TapPacket]

__all__ = ["USAGE", "device_name", "parse", "tcpdump"]


class _Shower(Protocol):
    """Who takes what was captured."""

    def show(self, sightings: Sequence[Sighting]) -> None: ...

    def end(self, time_ns: int, received: Sequence[int], lost: int, comment: str) -> None: ...


def tcpdump(session: Session, argv: Sequence[str]) -> Steps:
    """Capture until the count, a signal, or the machine's end; or read a file."""
    wish = parse(argv)
    settings = session.machine.settings
    if wish.list_devices:
        code = yield from _list_devices(session)
        return code
    if wish.read:
        return read_file(wish, session.out, session.err, hosts(settings))
    if settings.guest:
        _only_ports(settings, wish)
    if not wish.devices:
        wish.devices = [settings.bond.name if settings.bond else settings.nic_names[0]]
    passes = _filter(wish, linktype_of(wish), hosts(settings))
    taps: list[Tap] = []
    reader = TapReader(session.machine.ram, SAME_NS if len(wish.devices) > 1 else 0)
    with ExitStack() as files:
        try:
            for device in wish.devices:
                tap = yield from open_tap(session, device, wish.promiscuous, wish.snaplen)
                taps.append(tap)
            shower = _shower(session, wish, files)
            _greet(session, wish)
            received = yield from _capture(session, wish, taps, reader, shower, passes)
        finally:
            for tap in taps:
                yield from close_tap(session, tap)
        broken = [
            f"{node} {fault.text}"
            for node in faults.names(settings)
            for fault in faults.of(session.machine.ram, settings, node)
        ]
        comment = f"faults at the end: {', '.join(broken)}" if broken else ""
        with suppress(BrokenPipeError):
            shower.end(session.machine.now_ns(), received.by_tap, reader.lost, comment)
    _close(session, wish, received, reader.lost)
    if comment:
        session.hint(f"{comment} (bottomhalf fault list)")
    return OK


def _only_ports(settings: MachineSettings, wish: Wish) -> None:
    """A guest's devices have their taps in the guest."""
    wish.devices = wish.devices or [LAN]
    ports = [LAN, *(f"{LAN}:{number + 1}" for number in range(len(settings.nics)))]
    for device in wish.devices:
        if device.partition(":")[0] != LAN:
            raise BottomhalfError(
                f"tcpdump: {device} is a device of {settings.name}'s guest",
                f"ports of the switch: {words(ports)}; or tcpdump inside the guest",
            )


def hosts(settings: MachineSettings) -> dict[str, str]:
    """Names that the machine's hosts file has."""
    own = settings.bond.address if settings.bond else settings.address
    hosts = {settings.name: own.partition("/")[0]}
    if settings.gateway.addresses:
        hosts["gateway"] = settings.gateway.addresses[0]
    return hosts


def linktype_of(wish: Wish) -> int:
    return LINKTYPE_LINUX_SLL2 if wish.devices == ["any"] else LINKTYPE_ETHERNET


def _filter(wish: Wish, linktype: int, hosts: dict[str, str]) -> Filter:
    try:
        return compile_filter(wish.expression, linktype, hosts)
    except FilterError as error:
        raise refuse(*error.args) from None


def _greet(session: Session, wish: Wish) -> None:
    cooked = linktype_of(wish) == LINKTYPE_LINUX_SLL2
    link = "LINUX_SLL2 (Linux cooked v2)" if cooked else "EN10MB (Ethernet)"
    names = ", ".join(wish.devices)
    listening = (
        f"listening on {names}, link-type {link}, snapshot length {wish.snaplen or SNAPLEN} bytes\n"
    )
    if wish.file or session.json or wish.verbose:
        session.err(f"tcpdump: {listening}")
    else:
        session.err(
            "tcpdump: verbose output suppressed, use -v[v]... for full protocol decode\n"
            + listening
        )


def _close(session: Session, wish: Wish, received: _Received, lost: int) -> None:
    text = (
        f"\n{packets_text(received.captured)} captured\n"
        f"{packets_text(sum(received.by_tap))} received by filter\n"
        f"{packets_text(lost)} dropped by kernel\n"
    )
    if len(wish.devices) > 1:
        pairs = zip(wish.devices, received.by_tap, strict=True)
        text += ", ".join(f"{device} {count}" for device, count in pairs) + "\n"
    session.err(text)


class _Received:
    """What passed the filter, by session, and how many of it were kept."""

    def __init__(self, taps: int) -> None:
        self.by_tap = [0] * taps
        self.captured = 0


def _capture(
    session: Session,
    wish: Wish,
    taps: Sequence[Tap],
    reader: TapReader,
    shower: _Shower,
    passes: Filter,
) -> Generator[Wait, None, _Received]:
    received = _Received(len(taps))
    cooked = linktype_of(wish) == LINKTYPE_LINUX_SLL2
    ended = False
    while not ended:
        yield from session.sleep(_LOOK_NS)
        ended = bool(session.signals) or any(tap.done for tap in taps)
        packets = reader.rest() if ended else reader.pull(session.machine.now_ns())
        wanted: list[Sighting] = []
        for packet in packets:
            for number, tap in enumerate(taps):
                if tap.wants(packet) and passes_wish(wish, packet, cooked, passes):
                    received.by_tap[number] += 1
                    if not sent_to_itself(packet):
                        wanted.append((number, tap.cut(packet)))
        if wish.count and received.captured + len(wanted) >= wish.count:
            wanted = wanted[: wish.count - received.captured]
            ended = True
        received.captured += len(wanted)
        if wanted:
            try:
                shower.show(wanted)
            except BrokenPipeError:  # Wireshark was closed
                ended = True
    return received


# ---------------------------------------------------------------- showing


def _shower(session: Session, wish: Wish, files: ExitStack) -> _Shower:
    if wish.file:
        return _File(session, wish, files.enter_context(_open(wish.file)))
    if session.json:
        return _Json(session, wish)
    if len(wish.devices) > 1:
        return _SideBySide(session, wish)
    return _Text(session, wish)


@contextmanager
def _open(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdout.buffer
        return
    try:
        file = open(name, "wb")  # noqa: SIM115
    except OSError as error:
        raise refuse(f"{name}: {error.strerror}", "-w FILE, or -w - for a pipe") from None
    with file:
        yield file


class _File:
    """-w: pcapng, or the classic format for a name that ends in .pcap."""

    def __init__(self, session: Session, wish: Wish, file: BinaryIO) -> None:
        epoch, linktype = epoch_ns(session.machine), linktype_of(wish)
        self._classic: PcapWriter | None = None
        self._ng: PcapngWriter | None = None
        if wish.file.endswith(".pcap"):
            if len(wish.devices) > 1:
                raise refuse(f"{wish.file}: the classic format has one interface", "-w NAME.pcapng")
            self._classic = PcapWriter(file, epoch, linktype)
        else:
            settings = session.machine.settings
            self._ng = PcapngWriter(
                file,
                [Interface(device, wish.expression) for device in wish.devices],
                epoch,
                linktype,
                f"Linux {settings.era}, emulated by bottomhalf as {settings.name}",
            )
        self._file = file
        file.flush()

    def show(self, sightings: Sequence[Sighting]) -> None:
        for number, packet in sightings:
            if self._classic is not None:
                self._classic.write(packet)
            elif self._ng is not None:
                self._ng.write(packet, number)
        self._file.flush()

    def end(self, time_ns: int, received: Sequence[int], lost: int, comment: str) -> None:
        if self._ng is not None:
            self._ng.end(time_ns, received, lost, comment)
            self._file.flush()


class _Text:
    """Lines, as tcpdump prints them."""

    def __init__(self, session: Session, wish: Wish) -> None:
        self._session, self._wish = session, wish
        utc = session.machine.runtime == "simulation"
        self._stamp = Stamps(wish.stamps, epoch_ns(session.machine), utc, wish.nano)
        self._any = wish.devices == ["any"]
        self._number = 0

    def show(self, sightings: Sequence[Sighting]) -> None:
        self._session.out("".join(self._line(packet) for _, packet in sightings))

    def _line(self, packet: TapPacket) -> str:
        self._number += 1
        head = f"{self._number:5}  " if self._wish.number else ""
        head += self._stamp(packet.time_ns)
        name = device_name(self._session.machine.settings, packet.ifindex)
        return head + line(packet, self._wish, name if self._any else "") + "\n"

    def end(self, time_ns: int, received: Sequence[int], lost: int, comment: str) -> None: ...


class _SideBySide:
    """Several devices: a column for each."""

    def __init__(self, session: Session, wish: Wish) -> None:
        self._session, self._wish = session, wish
        utc = session.machine.runtime == "simulation"
        stamp = Stamps(wish.stamps, epoch_ns(session.machine), utc, wish.nano)
        self._columns = Columns(wish.devices, stamp)

    def show(self, sightings: Sequence[Sighting]) -> None:
        self._session.out(self._columns.text(sightings, self._wish))

    def end(self, time_ns: int, received: Sequence[int], lost: int, comment: str) -> None: ...


class _Json:
    """An object a line for programs; ``time`` is the pcap's: seconds since 1970."""

    def __init__(self, session: Session, wish: Wish) -> None:
        self._session, self._wish = session, wish
        self._epoch_ns = epoch_ns(session.machine)

    def show(self, sightings: Sequence[Sighting]) -> None:
        rows = [self._row(self._wish.devices[number], packet) for number, packet in sightings]
        self._session.out("".join(json.dumps(row) + "\n" for row in rows))

    def _row(self, tap: str, packet: TapPacket) -> dict[str, object]:
        time_ns = packet.time_ns + self._epoch_ns
        return {
            "time": time_ns // 1000 / 1_000_000,
            "time_ns": time_ns,
            "interface": device_name(self._session.machine.settings, packet.ifindex),
            "tap": tap,
            "direction": "out" if packet.outgoing else "in",
            "length": packet.length,
            "text": describe(packet.data, packet.length),
        }

    def end(self, time_ns: int, received: Sequence[int], lost: int, comment: str) -> None: ...


# ---------------------------------------------------------------- -D and -r

_UP, _LOOPBACK, _RUNNING = 0x1, 0x8, 0x40


def _list_devices(session: Session) -> Steps:
    """-D, in libpcap's order: what is up and has a carrier first, by its number."""
    settings = session.machine.settings
    if settings.guest:
        return _number(session, _ports(settings))
    names = [*settings.nic_names, *([settings.bond.name] if settings.bond else [])]
    rows: list[tuple[int, str]] = []
    for name in names:
        try:
            flags = int((yield from procfiles.read(session, f"/sys/class/net/{name}/flags")), 16)
        except (BottomhalfError, ValueError):
            continue
        carrier = "1"
        if flags & _UP:
            carrier = (yield from procfiles.read(session, f"/sys/class/net/{name}/carrier")).strip()
        up, running = bool(flags & _UP), bool(flags & _UP) and carrier == "1"
        states = ["Up"] * up + ["Running"] * running
        states.append("Connected" if running else "Disconnected")
        digits = name.lstrip("abcdefghijklmnopqrstuvwxyz")
        merit = int(digits) if digits.isdecimal() else 0
        merit += (not up) << 30 | (not running) << 29
        rows.append((merit, f"{name} [{', '.join(states)}]"))
    rows.append((1 << 27, "any (Pseudo-device that captures on all interfaces) [Up, Running]"))
    rows.append((1 << 28, "lo [Up, Running, Loopback]"))
    rows.sort(key=lambda row: row[0])
    return _number(session, [text for _, text in rows] + _ports(settings))


def _ports(settings: MachineSettings) -> list[str]:
    """The switch's ports."""
    texts = [f"lan:{n} (switch port of {nic})" for n, nic in enumerate(settings.nic_names, 1)]
    return [*texts, "lan:gateway (switch port of the gateway)", "lan (all ports of the switch)"]


def _number(session: Session, texts: Sequence[str]) -> int:
    session.out("".join(f"{number}.{text}\n" for number, text in enumerate(texts, 1)))
    return OK
