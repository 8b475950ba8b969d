"""The verb ``tcpdump``: options and output of tcpdump 4.99 on the taps of the emulated machine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from bus.ram import TapPacket
from orchestrator import faults
from orchestrator.capture import Tap, TapReader, close_tap, epoch_ns, open_tap
from orchestrator.errors import OK, BottomhalfError
from orchestrator.packettext import describe
from orchestrator.pcap import (
    LINKTYPE_ETHERNET,
    LINKTYPE_LINUX_SLL2,
    SNAPLEN,
    PcapWriter,
    packet_type,
)
from orchestrator.session import Session, Steps, Wait

#: Between two looks at the rings.
_LOOK_NS = 20_000_000
_FLAGS = "neptqUlS"
_VALUES = "icwsB"
_USAGE = "-i IF [-c N] [-w FILE|-] [-n] [-e] [-t|-tt|-ttt|-tttt] [-p] [-l] [icmp|arp|ip]"
_DIRECTIONS = {0: "In", 1: "B", 2: "M", 4: "Out"}
#: Expressions that are modelled: (offset, value) pairs that all must match.
_FILTERS: dict[str, tuple[tuple[int, bytes], ...]] = {
    "": (),
    "arp": ((12, b"\x08\x06"),),
    "ip": ((12, b"\x08\x00"),),
    "icmp": ((12, b"\x08\x00"), (23, b"\x01")),
}


@dataclass
class Wish:
    """What stood behind the verb."""

    device: str = ""
    count: int = 0
    file: str = ""
    stamps: int = 0  # how many -t
    link: bool = False
    promiscuous: bool = True
    expression: str = ""


def _refuse(what: str, hint: str = _USAGE) -> BottomhalfError:
    return BottomhalfError(what, hint, code=1, program="tcpdump")


def parse(argv: Sequence[str]) -> Wish:
    """tcpdump's own options, bundled (``-nne``) or not."""
    wish = Wish()
    rest = list(argv)
    words: list[str] = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _VALUES:
                value = letters or (rest.pop(0) if rest else "")
                if not value:
                    raise _refuse(f"option requires an argument -- '{letter}'")
                _set(wish, letter, value)
                break
            if letter not in _FLAGS:
                raise _refuse(
                    f"invalid option -- '{letter}'",
                    f"modelled: {_USAGE} (docs/limitations.md)",
                )
            wish.stamps += letter == "t"
            wish.link |= letter == "e"
            wish.promiscuous &= letter != "p"
    wish.expression = " ".join(words)
    if wish.expression not in _FILTERS:
        raise _refuse(
            f"expression `{wish.expression}` is not modelled",
            "icmp, arp or ip; or: bottomhalf tcpdump -i IF -w - | tcpdump -r - EXPRESSION",
        )
    return wish


def _set(wish: Wish, letter: str, value: str) -> None:
    if letter == "i":
        wish.device = value
    elif letter == "w":
        wish.file = value
    elif letter == "c":
        if not value.isdecimal() or not int(value):
            raise _refuse(f"invalid packet count {value}")
        wish.count = int(value)


def tcpdump(session: Session, argv: Sequence[str]) -> Steps:
    """Capture until the count, a signal, or the machine's end."""
    wish = parse(argv)
    settings = session.machine.settings
    if not wish.device:
        wish.device = settings.bond.name if settings.bond else settings.nic_names[0]
    reader = TapReader(session.machine.ram)
    tap = yield from open_tap(session, wish.device, wish.promiscuous)
    with ExitStack() as files:
        show = _shower(session, wish, files)
        _greet(session, wish)
        try:
            captured, received = yield from _capture(session, wish, tap, reader, show)
        finally:
            yield from close_tap(session, tap)
    session.err(
        f"\n{_packets(captured)} captured\n{_packets(received)} received by filter\n"
        f"{_packets(reader.lost)} dropped by kernel\n"
    )
    broken = [
        f"{node} {fault.text}"
        for node in faults.names(settings)
        for fault in faults.of(session.machine.ram, settings, node)
    ]
    if broken:
        session.hint(f"faults at the end: {', '.join(broken)} (bottomhalf fault list)")
    return OK


def _packets(count: int) -> str:
    return f"{count} packet{'' if count == 1 else 's'}"


def _greet(session: Session, wish: Wish) -> None:
    link = "LINUX_SLL2 (Linux cooked v2)" if wish.device == "any" else "EN10MB (Ethernet)"
    listening = f"listening on {wish.device}, link-type {link}, snapshot length {SNAPLEN} bytes\n"
    if wish.file or session.json:
        session.err(f"tcpdump: {listening}")
    else:
        session.err(
            "tcpdump: verbose output suppressed, use -v[v]... for full protocol decode\n"
            + listening
        )


def _capture(
    session: Session,
    wish: Wish,
    tap: Tap,
    reader: TapReader,
    show: Callable[[Sequence[TapPacket]], None],
) -> Generator[Wait, None, tuple[int, int]]:
    captured = received = 0
    ended = False
    while not ended:
        yield from session.sleep(_LOOK_NS)
        ended = bool(session.signals) or tap.job.done
        packets = reader.rest() if ended else reader.pull(session.machine.now_ns())
        wanted = [p for p in packets if p.sessions >> tap.session & 1 and _passes(wish, p)]
        received += len(wanted)
        if wish.count and captured + len(wanted) >= wish.count:
            wanted = wanted[: wish.count - captured]
            ended = True
        captured += len(wanted)
        if wanted:
            show(wanted)
    return captured, received


def _passes(wish: Wish, packet: TapPacket) -> bool:
    return all(
        packet.data[at : at + len(value)] == value for at, value in _FILTERS[wish.expression]
    )


# ---------------------------------------------------------------- showing


def _shower(
    session: Session, wish: Wish, files: ExitStack
) -> Callable[[Sequence[TapPacket]], None]:
    epoch = epoch_ns(session.machine)
    if wish.file:
        file = files.enter_context(_open(wish.file))
        linktype = LINKTYPE_LINUX_SLL2 if wish.device == "any" else LINKTYPE_ETHERNET
        writer = PcapWriter(file, epoch, linktype)
        writer.flush()

        def write(packets: Sequence[TapPacket]) -> None:
            for packet in packets:
                writer.write(packet)
            writer.flush()

        return write
    if session.json:
        return lambda packets: session.out(
            "".join(json.dumps(row(session, epoch, packet)) + "\n" for packet in packets)
        )
    stamp = Stamps(wish.stamps, epoch, utc=session.machine.runtime == "simulation")

    def text(packets: Sequence[TapPacket]) -> None:
        session.out("".join(stamp(p.time_ns) + line(session, wish, p) + "\n" for p in packets))

    return text


@contextmanager
def _open(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdout.buffer
        return
    try:
        file = open(name, "wb")  # noqa: SIM115
    except OSError as error:
        raise _refuse(f"{name}: {error.strerror}", "-w FILE, or -w - for a pipe") from None
    with file:
        yield file


def line(session: Session, wish: Wish, packet: TapPacket) -> str:
    """One packet as text, without its time."""
    if wish.device != "any":
        return describe(packet.data, packet.length, wish.link)
    name = device_name(session, packet.ifindex)
    return f"{name:<5} {_DIRECTIONS[packet_type(packet)]:<3} " + describe(
        packet.data, packet.length
    )


def row(session: Session, epoch_ns: int, packet: TapPacket) -> dict[str, object]:
    """One packet for programs; ``time`` is the pcap's: seconds since 1970."""
    return {
        "time": (packet.time_ns + epoch_ns) // 1000 / 1_000_000,
        "interface": device_name(session, packet.ifindex),
        "direction": "out" if packet.outgoing else "in",
        "length": packet.length,
        "text": describe(packet.data, packet.length),
    }


def device_name(session: Session, ifindex: int) -> str:
    """Name of a device by its index: lo, the NICs in slot order, then the bond."""
    settings = session.machine.settings
    names = ["lo", *settings.nic_names, *([settings.bond.name] if settings.bond else [])]
    return names[ifindex - 1] if 0 < ifindex <= len(names) else f"if{ifindex}"


class Stamps:
    """The time before a line: none to four (or five) times -t."""

    def __init__(self, kind: int, epoch_ns: int, utc: bool = False) -> None:
        self._kind = kind
        self._epoch_ns = epoch_ns
        self._broken_down = time.gmtime if utc else time.localtime
        self._before: int | None = None
        self._first: int | None = None

    def __call__(self, time_ns: int) -> str:
        if self._kind == 1:
            return ""
        seconds, rest = divmod(time_ns + self._epoch_ns, 1_000_000_000)
        micros = f"{rest // 1000:06d}"
        if self._kind == 2:
            return f"{seconds}.{micros} "
        if self._kind in (3, 5):
            base = self._before if self._kind == 3 else self._first
            delta = 0 if base is None else time_ns // 1000 - base // 1000
            self._before = time_ns
            self._first = time_ns if self._first is None else self._first
            return f" {_clock(delta)} "
        form = "%Y-%m-%d %H:%M:%S" if self._kind == 4 else "%H:%M:%S"
        return f"{time.strftime(form, self._broken_down(seconds))}.{micros} "


def _clock(micros: int) -> str:
    seconds, rest = divmod(micros, 1_000_000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:06d}"
