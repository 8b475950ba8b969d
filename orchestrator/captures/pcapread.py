"""Reader of capture files for ``tcpdump -r``: pcap in both byte orders, and pcapng.

Source: libpcap's savefile(5) and draft-ietf-opsawg-pcapng. A file that ends in the middle of a
packet gives all before it and then the error. Link types are Ethernet and both Linux cooked ones'
newer form; packets come out with Ethernet headers (a cooked one's destination is not known).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from bus.ram import TapPacket
from orchestrator.captures import pcapng
from orchestrator.captures.pcap import LINKTYPE_ETHERNET, LINKTYPE_LINUX_SLL2, MAGIC_NS, MAGIC_US

_BLOCK_BYTES_MAX = 1 << 24
_SLL2_BYTES = 20


class FileError(Exception):
    """In libpcap's words."""


class Read(NamedTuple):
    """A packet of a file; its time is since 1970."""

    packet: TapPacket
    interface: str  # "" where the format has none
    linktype: int


class _Interface(NamedTuple):
    name: str
    linktype: int
    unit: tuple[int, int]  # a time stamp is so many units: ns = stamp * first // second


def read(file: BinaryIO) -> Iterator[Read]:
    """All packets of a file."""
    magic = file.read(4)
    if magic == struct.pack("<I", pcapng.SECTION_HEADER):
        yield from _pcapng(file)
        return
    for order in "<>":
        value = struct.unpack(order + "I", magic)[0] if len(magic) == 4 else 0
        if value in (MAGIC_US, MAGIC_NS):
            yield from _pcap(file, order, 1000 if value == MAGIC_US else 1)
            return
    raise FileError("unknown file format" if len(magic) == 4 else _short(24, len(magic)))


def _short(wanted: int, got: int) -> str:
    return f"truncated dump file; tried to read {wanted} bytes, only got {got}"


def _exactly(file: BinaryIO, size: int, before: str = "captured ") -> bytes:
    data = file.read(size)
    if len(data) < size:
        what = f"{size} {before}bytes"
        raise FileError(f"truncated dump file; tried to read {what}, only got {len(data)}")
    return data


def _pcap(file: BinaryIO, order: str, unit_ns: int) -> Iterator[Read]:
    rest = _exactly(file, 20, "file header ")
    linktype = struct.unpack(order + "I", rest[16:20])[0] & 0x0FFF_FFFF
    _check(linktype)
    while head := file.read(16):
        if len(head) < 16:
            raise FileError(
                f"truncated dump file; tried to read 16 header bytes, only got {len(head)}"
            )
        seconds, part, size, length = struct.unpack(order + "IIII", head)
        if size > _BLOCK_BYTES_MAX:
            raise FileError(f"invalid packet capture length {size}, bigger than snaplen of 262144")
        data = _exactly(file, size)
        time_ns = seconds * 1_000_000_000 + part * unit_ns
        yield Read(_packet(time_ns, linktype, data, length, None), "", linktype)


def _pcapng(file: BinaryIO) -> Iterator[Read]:
    interfaces: list[_Interface] = []
    order, kind = "<", pcapng.SECTION_HEADER
    while True:
        size = file.read(4)
        if kind == pcapng.SECTION_HEADER:
            magic = _exactly(file, 4)
            order = "<" if magic == struct.pack("<I", pcapng.BYTE_ORDER_MAGIC) else ">"
            interfaces = []
            total = struct.unpack(order + "I", size)[0]
            body = magic + _exactly(file, _sane(total, 28) - 16)
        else:
            total = struct.unpack(order + "I", size)[0] if len(size) == 4 else 0
            body = _exactly(file, _sane(total) - 12)
        _exactly(file, 4)
        if kind == pcapng.INTERFACE_DESCRIPTION:
            interfaces.append(_interface(order, body))
        elif kind == pcapng.ENHANCED_PACKET and len(body) >= 20:
            number, high, low, captured, length = struct.unpack(order + "IIIII", body[:20])
            if number >= len(interfaces) or 20 + captured > len(body):
                raise FileError("a packet's block does not fit its interface")
            one = interfaces[number]
            data = body[20 : 20 + captured]
            options = _options(order, body[20 + captured + (-captured % 4) :])
            flags = options.get(pcapng.EPB_FLAGS)
            outgoing = None if flags is None else struct.unpack(order + "I", flags)[0] & 3 == 2
            time_ns = (high << 32 | low) * one.unit[0] // one.unit[1]
            packet = _packet(time_ns, one.linktype, data, length, outgoing)
            yield Read(packet, one.name, one.linktype)
        head = file.read(4)
        if len(head) < 4:
            return
        kind = struct.unpack(order + "I", head)[0]


def _sane(total: int, least: int = 12) -> int:
    if total % 4 or not least <= total <= _BLOCK_BYTES_MAX:
        raise FileError(f"block in pcapng dump file has a length of {total}")
    return total


def _interface(order: str, body: bytes) -> _Interface:
    linktype = struct.unpack(order + "H", body[:2])[0]
    _check(linktype)
    options = _options(order, body[8:])
    resolution = (options.get(pcapng.IF_TSRESOL) or b"\x06")[0]
    if resolution & 0x80:
        unit = (1_000_000_000, 1 << (resolution & 0x7F))
    else:
        unit = (1_000_000_000, int(10**resolution))
    name = options.get(pcapng.IF_NAME, b"").decode("utf-8", "replace")
    return _Interface(name, linktype, unit)


def _options(order: str, data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        code, size = struct.unpack(order + "HH", data[:4])
        if code == pcapng.OPT_END:
            break
        found.setdefault(code, data[4 : 4 + size])
        data = data[4 + size + (-size % 4) :]
    return found


def _check(linktype: int) -> None:
    if linktype not in (LINKTYPE_ETHERNET, LINKTYPE_LINUX_SLL2):
        raise FileError(f"link-type {linktype} is not modelled (Ethernet and LINUX_SLL2 are)")


def _packet(
    time_ns: int, linktype: int, data: bytes, length: int, outgoing: bool | None
) -> TapPacket:
    if linktype == LINKTYPE_ETHERNET or len(data) < _SLL2_BYTES:
        return TapPacket(time_ns, 0, bool(outgoing), length, 1, data)
    kind = data[10]
    target = {1: b"\xff" * 6, 2: b"\x01" + bytes(5)}.get(kind, bytes(6))
    frame = target + data[12:18] + data[:2] + data[_SLL2_BYTES:]
    ifindex = int.from_bytes(data[4:8], "big")
    return TapPacket(time_ns, ifindex, kind == 4, length - 6, 1, frame, kind == 3)
