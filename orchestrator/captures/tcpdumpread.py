"""``tcpdump -r FILE``: what a capture file holds, as text or written again; needs no machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from orchestrator.captures.pcap import LINKTYPE_LINUX_SLL2, SNAPLEN
from orchestrator.captures.pcapfilter import FilterError, compile_filter
from orchestrator.captures.pcapng import Interface, PcapngWriter
from orchestrator.captures.pcapread import FileError, Read, read
from orchestrator.captures.tcpdumpargs import Wish, parse, refuse
from orchestrator.captures.tcpdumptext import SAME_NS, Columns, Stamps, line, passes_wish
from orchestrator.errors import OK
from orchestrator.session import stderr, stdout

Say = Callable[[str], None]


def offline(argv: Sequence[str]) -> Wish | None:
    """The wish, if these words ask for a file and no machine."""
    wish = parse(argv)
    return wish if wish.read else None


@contextmanager
def _opened(name: str, mode: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer if mode == "rb" else sys.stdout.buffer
        return
    try:
        file = open(name, mode)  # noqa: SIM115
    except OSError as error:
        raise refuse(f"{name}: {error.strerror}", "a file in pcap or pcapng format") from None
    with file:
        yield file  # type: ignore[misc]


def read_file(
    wish: Wish,
    out: Say = stdout,
    err: Say = stderr,
    hosts: Mapping[str, str] | None = None,
) -> int:
    """Print the packets of the file that the expression wants, or write them to another."""
    with _opened(wish.read, "rb") as file:
        found = _chosen(wish, read(file), hosts, err)
        try:
            if wish.file:
                _write(wish, list(found))
            else:
                _print(wish, found, out)
        except FileError as error:
            raise refuse(str(error), "pcap and pcapng files are read") from None
    return OK


def _chosen(
    wish: Wish, packets: Iterator[Read], hosts: Mapping[str, str] | None, err: Say
) -> Iterator[Read]:
    """Those that pass; says what is read before the first."""
    passes = None
    count = 0
    for one in packets:
        cooked = one.linktype == LINKTYPE_LINUX_SLL2
        if passes is None:
            link = "LINUX_SLL2 (Linux cooked v2)" if cooked else "EN10MB (Ethernet)"
            err(f"reading from file {wish.read}, link-type {link}, snapshot length {SNAPLEN}\n")
            try:
                passes = compile_filter(wish.expression, one.linktype, hosts)
            except FilterError as error:
                raise refuse(*error.args) from None
        if passes_wish(wish, one.packet, cooked, passes):
            yield one
            count += 1
            if count == wish.count:
                return


def _print(wish: Wish, found: Iterator[Read], out: Say) -> None:
    """Lines; a file of several interfaces in columns, one batch of packets after the other."""
    stamp = Stamps(wish.stamps, 0, nano=wish.nano)
    packets = list(found)
    names = list(dict.fromkeys(one.interface for one in packets))
    if len(names) > 1:
        columns = Columns(names, stamp)
        rows = [(names.index(one.interface), one.packet) for one in packets]
        start = 0
        for at in range(1, len(rows) + 1):
            if at == len(rows) or rows[at][1].time_ns - rows[at - 1][1].time_ns > SAME_NS:
                out(columns.text(rows[start:at], wish))
                start = at
        return
    for number, one in enumerate(packets, 1):
        head = f"{number:5}  " if wish.number else ""
        cooked = one.linktype == LINKTYPE_LINUX_SLL2
        device = f"if{one.packet.ifindex}" if cooked else ""
        out(f"{head}{stamp(one.packet.time_ns)}{line(one.packet, wish, device)}\n")


def _write(wish: Wish, found: Sequence[Read]) -> None:
    names = list(dict.fromkeys(one.interface for one in found)) or [""]
    linktype = found[0].linktype if found else 1
    with _opened(wish.file, "wb") as file:
        interfaces = [Interface(name, wish.expression) for name in names]
        writer = PcapngWriter(file, interfaces, 0, linktype)
        for one in found:
            writer.write(one.packet, names.index(one.interface))
