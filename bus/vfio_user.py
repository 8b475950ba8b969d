"""The vfio-user protocol: how a virtual machine monitor uses a PCI device in another process.

Source: the vfio-user specification, version 0.0 (QEMU, docs/interop/vfio-user.rst), and what QEMU's
client does. Sans IO: ``Server.receive`` takes bytes and descriptors of one connection and leaves
requests for the device (bus messages) in ``requests``; ``Server.take`` takes the device's answers
and interrupts and leaves bytes in ``output`` and descriptors of eventfds in ``signals``. What
opens, maps, writes and closes descriptors is ``vfio_server``.

A message is a header (id, command, size with header, flags, errno; little-endian) and a body.
Commands are answered in the order in which they came, because the device takes them so; a posted
one (no-reply) never is. The rules::

    first VERSION, then anything else             else the client is disconnected
    a header that cannot be one, or a reply       the client is disconnected
    a body that does not fit, an unknown command  an error reply, or nothing if it was posted

**Regions** are the BARs (0 to 5) and configuration space (7); an access becomes reads and writes of
32 bits, of configuration space of 8, 16 or 32. BARs take 32-bit accesses (and 64-bit ones as two);
a narrower read is cut out of one, a narrower write has no effect, as in the registers behind.

**Interrupts**: an index (INTx, MSI, MSI-X) has an eventfd for each vector that somebody waits for.
INTx is a level and *automasked*: a signal masks it until UNMASK (a command, or a second eventfd
that a hypervisor signals at the end of interrupt), and a level that still stands signals again
then. Which MSI and MSI-X vectors have an eventfd is told to the device, which holds
back what the others would say.

**ADOPT** is ours and not the specification's: it brings a descriptor, another connection, on which
the client's commands come from now on; what was agreed and mapped stays. By it whoever plugs the
device into a machine keeps the machine's connection while the device's process is another one.

Left out: messages in place of mapped memory (memory without a descriptor is out of the device's
reach), regions that the client maps itself, migration.
"""

from __future__ import annotations

import errno
import json
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bus.messages import (
    CfgRead,
    CfgWrite,
    Completion,
    GuestReset,
    GuestTrigger,
    GuestUnmap,
    GuestVectors,
    IntxMessage,
    MemRead,
    MemWrite,
)

(VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, _IO_FDS, GET_IRQ_INFO, SET_IRQS,
 REGION_READ, REGION_WRITE) = range(1, 11)  # fmt: skip
DEVICE_RESET, WRITE_MULTI = 13, 15
ADOPT = 0x6268
_HEADER = struct.Struct("<HHIII")
_REGION = struct.Struct("<QII")
#: A whole message: the posted write of one register.
_POSTED = struct.Struct("<HHIIIQIII")
_MULTI = struct.Struct("<QIIQ")
_MAP = struct.Struct("<IIQQQ")
_UNMAP = struct.Struct("<IIQQ")
_INFO = struct.Struct("<IIII")
_REGION_INFO = struct.Struct("<IIIIQQ")
_SET_IRQS = struct.Struct("<IIIII")
#: Type of a message in its flags, and what else they say.
_TYPE, _REPLY, _NO_REPLY, _ERROR = 0xF, 1, 0x10, 0x20
DATA_BYTES_MAX = 1 << 20
MESSAGE_BYTES_MAX = DATA_BYTES_MAX + 64
#: Descriptors in one message, as VERSION tells the client.
FDS_MAX = 8
#: Accesses not answered yet: a client waits for an answer now and then.
OWED_MAX = 8192
MULTI_MAX = 256
CONFIG = 7
_CONFIG_WIDTHS = (4, 2, 1)
PAGE = 4096

INTX, MSI, MSIX = 0, 1, 2
#: SET_IRQS: what the data are, and what to do.
_NONE, _BOOL, _EVENTFD = 1, 2, 4
_MASK, _UNMASK, _TRIGGER = 8, 0x10, 0x20
#: GET_IRQ_INFO flags: eventfd 1, maskable 2, automasked 4, count is fixed 8.
_IRQ_FLAGS = (7, 9, 9, 9, 9)

_CAPABILITIES = {
    "capabilities": {
        "max_msg_fds": FDS_MAX,
        "max_data_xfer_size": DATA_BYTES_MAX,
        "pgsizes": PAGE,
        "write_multiple": True,
    }
}


class Card(NamedTuple):
    """What the device shows: bytes of its nine regions, vectors of its five interrupt indexes."""

    regions: tuple[int, ...]
    vectors: tuple[int, ...]


class Map(NamedTuple):
    """A window that whoever owns the descriptors must map; becomes ``GuestMap`` for the device.
    ``fd`` -1: there is nothing to map."""

    tag: int
    address: int
    size: int
    writable: bool
    fd: int
    offset: int


class Adopt(NamedTuple):
    """The client goes on at another connection."""

    fd: int


class ProtocolError(Exception):
    """The client does not speak vfio-user: nothing can be said to it any more."""


class _RefusedError(Exception):
    """A command that does not fit; the errno of its error reply."""

    def __init__(self, code: int = errno.EINVAL) -> None:
        super().__init__(errno.errorcode[code])
        self.code = code


class _Owed:
    """A command that waits for ``waiting`` answers of the device, and for those before it; the
    first of them has the number ``tag``."""

    __slots__ = ("body", "command", "cuts", "error", "number", "posted", "tag", "waiting")

    def __init__(self, number: int, command: int, posted: bool, tag: int) -> None:
        self.number = number
        self.command = command
        self.posted = posted
        self.tag = tag
        self.waiting = 0
        self.body = b""
        self.error = 0
        #: of a read: (bytes, bits to shift away) of each answer
        self.cuts: list[tuple[int, int]] = []


class Server:
    """One connection. ``tag`` is the number of the first of its requests: no two connections use
    the same, so that an answer to an earlier one is told from its own. ``remark`` takes a line for
    the log."""

    def __init__(self, card: Card, remark: Callable[[str], None], tag: int = 1) -> None:
        self._card = card
        self._remark = remark
        self.tag = tag
        self.ready = False  # VERSION is agreed
        self.requests: list[Any] = []
        self.output = bytearray()
        self.signals: list[int] = []
        self.unused: list[int] = []  # descriptors to close
        self._rest = b""
        self._rest_fds: list[int] = []
        self._owed: deque[_Owed] = deque()
        self._accesses = 0  # answers that the device owes us
        self._vectors = [[-1] * count for count in card.vectors]
        #: an eventfd by which the client unmasks INTx, or -1
        self.resample = -1
        self._level = self._intx_masked = self._told = False
        self._commands: dict[int, Callable[[_Owed, bytes, list[int]], None]] = {
            VERSION: self._version,
            DMA_MAP: self._dma_map,
            DMA_UNMAP: self._dma_unmap,
            GET_INFO: self._get_info,
            GET_REGION_INFO: self._get_region_info,
            GET_IRQ_INFO: self._get_irq_info,
            SET_IRQS: self._set_irqs,
            REGION_READ: self._region_read,
            REGION_WRITE: self._region_write,
            DEVICE_RESET: self._device_reset,
            WRITE_MULTI: self._write_multi,
            ADOPT: self._adopt,
        }

    # -- messages

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """What one read of the socket gave. The kernel ends a read behind the packet that brought
        descriptors, so they belong to the last message that begins in it. After ``ProtocolError``
        the connection is good for nothing but ``abandon``."""
        fresh, carried = list(fds), len(self._rest)
        stream = self._rest + data
        spans = []
        begin = at = 0
        try:
            while at < len(stream):
                begin = at
                end = at + _size(stream, at)
                if end > len(stream):
                    break
                spans.append((at, end))
                at = end
            if fresh and begin < carried:
                raise ProtocolError("descriptors came without a message")
            for start, end in spans:
                if start == begin and fresh:
                    given, fresh = fresh, []
                elif start == 0:
                    given, self._rest_fds = self._rest_fds, []
                else:
                    given = []
                self._message(stream[start:end], given)
        finally:
            if begin >= carried and at == begin:  # a message began, but did not end
                self._rest_fds += fresh
            else:
                self.unused += fresh
            self._rest = stream[at:]

    def _message(self, message: bytes, fds: list[int]) -> None:
        number, command, size, flags, _ = _HEADER.unpack_from(message)
        if size == _POSTED.size and flags == _NO_REPLY and command == REGION_WRITE and self.ready:
            # What a driver does most: one register, and nobody waits.
            *_, offset, region, count, value = _POSTED.unpack(message)
            if count == 4 and region == 0 and not offset & 3 and offset < self._card.regions[0]:
                self.requests.append(MemWrite(0, offset, value))
                self.unused += fds
                return
        try:
            if flags & _TYPE:
                raise ProtocolError(f"a reply (command {command}), but it was asked nothing")
            if not self.ready and command not in (VERSION, ADOPT):
                raise ProtocolError(f"command {command} before VERSION")
            owed = _Owed(number, command, bool(flags & _NO_REPLY), self.tag)
            try:
                handler = self._commands.get(command)
                if handler is None:
                    raise _RefusedError(errno.ENOSYS)
                handler(owed, message[_HEADER.size :], fds)
            except _RefusedError as refused:
                owed.error = refused.code
        finally:
            self.unused += fds
        if owed.waiting:
            self.tag += owed.waiting
            self._accesses += owed.waiting
        if self._accesses > OWED_MAX or len(self._owed) > OWED_MAX:
            raise ProtocolError(f"more than {OWED_MAX} accesses at once")
        self._owed.append(owed)
        self._settle()

    def _settle(self) -> None:
        """Answer what is done and has nothing unanswered before it."""
        owed = self._owed
        while owed and not owed[0].waiting:
            done = owed.popleft()
            if done.posted:
                continue
            body = b"" if done.error else done.body
            flags = _REPLY | _ERROR if done.error else _REPLY
            self.output += _HEADER.pack(
                done.number, done.command, _HEADER.size + len(body), flags, done.error
            )
            self.output += body

    # -- the device's side

    def take(self, message: Any) -> bool:
        """An answer or an interrupt of the device; False if nobody waits for it."""
        kind = type(message)
        if kind is Completion:
            self._complete(message.tag, message.value)
            return True
        if kind is IntxMessage:
            self._level = bool(message.asserted)
            self._signal_level()
            return not self._level or self._vectors[INTX][0] >= 0
        if kind is GuestTrigger:
            fd = self._vectors[message.kind][message.vector]
            if fd >= 0:
                self.signals.append(fd)
            return bool(fd >= 0)
        return False

    def _complete(self, tag: int, value: int) -> None:
        if not self._owed or tag != self._owed[0].tag:
            return  # the answer to somebody who has gone
        owed = self._owed[0]
        if owed.cuts:
            size, shift = owed.cuts[-owed.waiting]
            owed.body += (value >> shift & (1 << 8 * size) - 1).to_bytes(size, "little")
        else:
            owed.error = owed.error or value
        owed.tag += 1
        owed.waiting -= 1
        self._accesses -= 1
        self._settle()

    def refuse(self, tag: int, code: int) -> None:
        """Whoever owns the descriptors could not do what the request ``tag`` needs."""
        for owed in self._owed:
            if owed.tag == tag:
                self._accesses -= owed.waiting
                owed.waiting, owed.error = 0, code
        self._settle()

    def abandon(self) -> list[int]:
        """The connection ends: all descriptors that are still open."""
        left = [fd for fds in self._vectors for fd in fds if fd >= 0]
        self._drop(self.resample)
        left += self.unused + self._rest_fds
        self.unused, self._rest_fds, self.resample = [], [], -1
        self._vectors = [[-1] * count for count in self._card.vectors]
        return left

    # -- what the device is

    def _version(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        if len(body) < 4 or self.ready:
            raise _RefusedError
        major, _ = struct.unpack_from("<HH", body)
        text = body[4:].rstrip(b"\0")
        try:
            wanted = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            raise _RefusedError from None
        if major or not isinstance(wanted, dict):
            raise _RefusedError
        self.ready = True
        owed.body = version_body()

    def _adopt(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        if len(fds) != 1 or not owed.posted:
            raise _RefusedError
        self.requests.append(Adopt(fds.pop()))

    def _get_info(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        _unpack(_INFO, body)
        owed.body = _INFO.pack(_INFO.size, 3, len(self._card.regions), len(self._card.vectors))

    def _get_region_info(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        index = _unpack(_REGION_INFO, body)[2]
        if index >= len(self._card.regions):
            raise _RefusedError
        size = self._card.regions[index]
        owed.body = _REGION_INFO.pack(_REGION_INFO.size, 3 if size else 0, index, 0, size, 0)

    def _get_irq_info(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        index = _unpack(_INFO, body)[2]
        if index >= len(self._card.vectors):
            raise _RefusedError
        count = self._card.vectors[index]
        owed.body = _INFO.pack(_INFO.size, _IRQ_FLAGS[index] if count else 0, index, count)

    def _device_reset(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        owed.waiting = 1
        self.requests.append(GuestReset(owed.tag))

    # -- memory

    def _dma_map(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        _, flags, offset, address, size = _unpack(_MAP, body)
        if not 0 < flags <= 3 or len(fds) > 1 or offset % PAGE or offset + size > 1 << 63:
            raise _RefusedError
        _check_range(address, size)
        if not fds and flags & 2 and not self._told:
            self._told = True
            self._remark(
                f"guest memory at {address:#x} came without a file descriptor: the device cannot "
                "reach it (QEMU needs memory-backend-memfd with share=on as the machine's memory)"
            )
        owed.waiting = 1
        fd = fds.pop() if fds else -1
        self.requests.append(Map(owed.tag, address, size, bool(flags & 2), fd, offset))

    def _dma_unmap(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        _, flags, address, size = _unpack(_UNMAP, body)
        if flags:
            raise _RefusedError
        _check_range(address, size)
        owed.waiting = 1
        owed.body = body
        self.requests.append(GuestUnmap(owed.tag, address, size))

    # -- regions

    def _check_access(self, offset: int, region: int, count: int) -> None:
        size = self._card.regions[region] if region < len(self._card.regions) else 0
        if not count or offset + count > size:
            raise _RefusedError
        if region != CONFIG and (count not in (1, 2, 4, 8) or offset % min(count, 4)):
            raise _RefusedError

    def _region_read(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        offset, region, count = _unpack(_REGION, body)
        self._check_access(offset, region, count)
        put = self.requests.append
        tag = owed.tag
        if region == CONFIG:
            for at, size in _pieces(offset, count):
                owed.cuts.append((size, 0))
                put(CfgRead(tag, at, size))
                tag += 1
        elif count < 4:
            owed.cuts.append((count, 8 * (offset & 3)))
            put(MemRead(tag, region, offset & ~3))
        else:
            for at in range(offset, offset + count, 4):
                owed.cuts.append((4, 0))
                put(MemRead(tag, region, at))
                tag += 1
        owed.waiting = len(owed.cuts)
        owed.body = body

    def _region_write(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        if len(body) < _REGION.size:
            raise _RefusedError
        offset, region, count = _REGION.unpack_from(body)
        if len(body) != _REGION.size + count:
            raise _RefusedError
        self._check_access(offset, region, count)
        self._write(owed, region, offset, body[_REGION.size :])
        owed.body = body[: _REGION.size]

    def _write(self, owed: _Owed, region: int, offset: int, data: bytes) -> None:
        put = self.requests.append
        if region == CONFIG:
            for at, size in _pieces(offset, len(data)):
                value = int.from_bytes(data[at - offset : at - offset + size], "little")
                put(CfgWrite(owed.tag + owed.waiting, at, size, value))
                owed.waiting += 1
        elif len(data) >= 4:
            for i in range(0, len(data), 4):
                put(MemWrite(region, offset + i, int.from_bytes(data[i : i + 4], "little")))

    def _write_multi(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        count = int.from_bytes(body[:8], "little")
        if not 0 < count <= MULTI_MAX or len(body) != 8 + count * _MULTI.size:
            raise _RefusedError
        writes = list(_MULTI.iter_unpack(body[8:]))
        for offset, region, size, _ in writes:
            if size > 8:
                raise _RefusedError
            self._check_access(offset, region, size)
        for offset, region, size, value in writes:
            self._write(owed, region, offset, value.to_bytes(8, "little")[:size])
        owed.body = body[:8]

    # -- interrupts

    def _set_irqs(self, owed: _Owed, body: bytes, fds: list[int]) -> None:
        if len(body) < _SET_IRQS.size:
            raise _RefusedError
        _, flags, index, start, count = _SET_IRQS.unpack_from(body)
        data, what, action = body[_SET_IRQS.size :], flags & 7, flags & ~7
        vectors = self._vectors[index] if index < len(self._vectors) else []
        if not vectors or start + count > len(vectors) or what not in (_NONE, _BOOL, _EVENTFD):
            raise _RefusedError
        if what == _BOOL and len(data) != count:
            raise _RefusedError
        if action == _TRIGGER and what == _EVENTFD:
            if not count or len(fds) not in (0, count):
                raise _RefusedError
            self._replace(owed, index, start, fds[:] or [-1] * count)
            fds.clear()
        elif action == _TRIGGER and not count:
            self._replace(owed, index, 0, [-1] * len(vectors))
        elif action == _TRIGGER:
            chosen = [v for v in range(start, start + count) if what == _NONE or data[v - start]]
            self.signals += [vectors[v] for v in chosen if vectors[v] >= 0]
        elif action == _UNMASK and what == _EVENTFD and index == INTX and count == 1:
            if len(fds) > 1:
                raise _RefusedError
            self._drop(self.resample)
            self.resample = fds.pop() if fds else -1
        elif action in (_MASK, _UNMASK) and index == INTX and what != _EVENTFD and count == 1:
            if what == _NONE or data[0]:
                self._intx_masked = action == _MASK
                self._signal_level()
        else:
            raise _RefusedError

    def unmask(self) -> None:
        """The client signalled ``resample``."""
        self._intx_masked = False
        self._signal_level()

    def _drop(self, fd: int) -> None:
        if fd >= 0:
            self.unused.append(fd)

    def _replace(self, owed: _Owed, index: int, start: int, fds: list[int]) -> None:
        """Other eventfds, or none (-1), from ``start`` on."""
        vectors = self._vectors[index]
        span = slice(start, start + len(fds))
        self.unused += [fd for fd in vectors[span] if fd >= 0]
        vectors[span] = fds
        if index == INTX:
            if fds[0] < 0:
                self._drop(self.resample)
                self.resample = -1
            self.unmask()
        elif index in (MSI, MSIX):
            armed = sum(1 << v for v, fd in enumerate(vectors) if fd >= 0)
            owed.waiting = 1
            self.requests.append(GuestVectors(owed.tag, index, armed))

    def _signal_level(self) -> None:
        """A level that stands and is not masked signals once, and is masked by that."""
        fd = self._vectors[INTX][0]
        if self._level and not self._intx_masked and fd >= 0:
            self._intx_masked = True
            self.signals.append(fd)


def command(number: int, name: int, body: bytes = b"", posted: bool = False) -> bytes:
    """A command as a client sends it."""
    flags = _NO_REPLY if posted else 0
    return _HEADER.pack(number, name, _HEADER.size + len(body), flags, 0) + body


def version_body() -> bytes:
    """Body of VERSION: what this side can do."""
    return bytes(4) + json.dumps(_CAPABILITIES).encode() + b"\0"


def map_body(address: int, size: int, writable: bool, offset: int) -> bytes:
    """Body of DMA_MAP."""
    return _MAP.pack(_MAP.size, 3 if writable else 1, offset, address, size)


def unmap_body(address: int, size: int) -> bytes:
    """Body of DMA_UNMAP."""
    return _UNMAP.pack(_UNMAP.size, 0, address, size)


def _size(stream: bytes, at: int) -> int:
    """Size of the message that begins at ``at``; of a header that is not there yet, its own."""
    if len(stream) - at < _HEADER.size:
        return _HEADER.size
    size = int.from_bytes(stream[at + 4 : at + 8], "little")
    if not _HEADER.size <= size <= MESSAGE_BYTES_MAX:
        raise ProtocolError(f"a message of {size} bytes")
    return size


def _unpack(form: struct.Struct, body: bytes) -> tuple[Any, ...]:
    if len(body) != form.size:
        raise _RefusedError
    return form.unpack(body)


def _check_range(address: int, size: int) -> None:
    """Windows are whole pages."""
    if not size or address % PAGE or size % PAGE or address + size > 1 << 64:
        raise _RefusedError


def _pieces(offset: int, count: int) -> list[tuple[int, int]]:
    """Naturally aligned accesses that configuration space takes."""
    out = []
    end = offset + count
    while offset < end:
        size = next(s for s in _CONFIG_WIDTHS if not offset % s and offset + s <= end)
        out.append((offset, size))
        offset += size
    return out
