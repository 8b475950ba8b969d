"""One connection: whose bytes and descriptors are which message, and in which order it is answered.

Commands are answered in the order in which they came, because the device takes them so; a posted
one (no-reply) never is. The rules::

    first VERSION, then anything else             else the client is disconnected
    a header that cannot be one, or a reply       the client is disconnected
    a body that does not fit, an unknown command  an error reply, or nothing if it was posted

A command is a function of what is owed for it, its body and the descriptors that came with it; it
takes those that it keeps out of the list and returns requests for the device.
"""

from __future__ import annotations

import errno
import json
import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from bus.messages import Completion, GuestTrigger, GuestUnmap, IntxMessage, MemWrite
from bus.vfio_user.card import Card, device_reset, get_info, get_irq_info, get_region_info
from bus.vfio_user.eventfds import Eventfds
from bus.vfio_user.owed import Owed
from bus.vfio_user.regions import region_read, region_write, write_multi
from bus.vfio_user.wire import (
    ADOPT,
    DEVICE_RESET,
    DMA_MAP,
    DMA_UNMAP,
    ERROR,
    GET_INFO,
    GET_IRQ_INFO,
    GET_REGION_INFO,
    HEADER,
    MAP_BODY,
    NO_REPLY,
    PAGE,
    POSTED_WRITE,
    REGION_READ,
    REGION_WRITE,
    REPLY,
    SET_IRQS,
    TYPE,
    UNMAP_BODY,
    VERSION,
    WRITE_MULTI,
    ProtocolError,
    RefusedError,
    size_at,
    unpack,
    version_body,
)

#: Accesses not answered yet: a client waits for an answer now and then.
OWED_MAX = 8192


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
        self._owed: deque[Owed] = deque()
        self._accesses = 0  # answers that the device owes us
        self._told = False
        self.irqs = Eventfds(card.vectors, self.signals, self.unused)
        self._commands: dict[int, Callable[[Owed, bytes, list[int]], list[Any]]] = {
            VERSION: self._version,
            DMA_MAP: self._dma_map,
            DMA_UNMAP: self._dma_unmap,
            GET_INFO: partial(get_info, card),
            GET_REGION_INFO: partial(get_region_info, card),
            GET_IRQ_INFO: partial(get_irq_info, card),
            SET_IRQS: self.irqs.set_irqs,
            REGION_READ: partial(region_read, card.regions),
            REGION_WRITE: partial(region_write, card.regions),
            DEVICE_RESET: partial(device_reset, card),
            WRITE_MULTI: partial(write_multi, card.regions),
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
                end = at + size_at(stream, at)
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
        number, command, size, flags, _ = HEADER.unpack_from(message)
        if (
            size == POSTED_WRITE.size
            and flags == NO_REPLY
            and command == REGION_WRITE
            and self.ready
        ):
            # What a driver does most: one register, and nobody waits.
            *_, offset, region, count, value = POSTED_WRITE.unpack(message)
            if count == 4 and region == 0 and not offset & 3 and offset < self._card.regions[0]:
                self.requests.append(MemWrite(0, offset, value))
                self.unused += fds
                return
        try:
            if flags & TYPE:
                raise ProtocolError(f"a reply (command {command}), but it was asked nothing")
            if not self.ready and command not in (VERSION, ADOPT):
                raise ProtocolError(f"command {command} before VERSION")
            owed = Owed(number, command, bool(flags & NO_REPLY), self.tag)
            try:
                handler = self._commands.get(command)
                if handler is None:
                    raise RefusedError(errno.ENOSYS)
                self.requests += handler(owed, message[HEADER.size :], fds)
            except RefusedError as refused:
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
            flags = REPLY | ERROR if done.error else REPLY
            self.output += HEADER.pack(
                done.number, done.command, HEADER.size + len(body), flags, done.error
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
            return self.irqs.set_level(bool(message.asserted))
        if kind is GuestTrigger:
            return self.irqs.trigger(message.kind, message.vector)
        return False

    def _complete(self, tag: int, value: int) -> None:
        if not self._owed or tag != self._owed[0].tag:
            return  # the answer to somebody who has gone
        self._owed[0].answer(value)
        self._accesses -= 1
        self._settle()

    def refuse(self, tag: int, code: int) -> None:
        """Whoever owns the descriptors could not do what the request ``tag`` needs."""
        for owed in self._owed:
            if owed.tag == tag:
                self._accesses -= owed.waiting
                owed.waiting, owed.error = 0, code
        self._settle()

    def unmask(self) -> None:
        """The client signalled ``irqs.resample``: INTx has been served."""
        self.irqs.unmask()

    def abandon(self) -> list[int]:
        """The connection ends: all descriptors that are still open."""
        left = self.irqs.abandon() + self.unused + self._rest_fds
        self.unused.clear()
        self._rest_fds = []
        return left

    # -- what the device is

    def _version(self, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
        if len(body) < 4 or self.ready:
            raise RefusedError
        major, _ = struct.unpack_from("<HH", body)
        text = body[4:].rstrip(b"\0")
        try:
            wanted = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            raise RefusedError from None
        if major or not isinstance(wanted, dict):
            raise RefusedError
        self.ready = True
        owed.body = version_body()
        return []

    def _adopt(self, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
        if len(fds) != 1 or not owed.posted:
            raise RefusedError
        return [Adopt(fds.pop())]

    # -- memory

    def _dma_map(self, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
        _, flags, offset, address, size = unpack(MAP_BODY, body)
        if not 0 < flags <= 3 or len(fds) > 1 or offset % PAGE or offset + size > 1 << 63:
            raise RefusedError
        _check_range(address, size)
        if not fds and flags & 2 and not self._told:
            self._told = True
            self._remark(
                f"guest memory at {address:#x} came without a file descriptor: the device cannot "
                "reach it (QEMU needs memory-backend-memfd with share=on as the machine's memory)"
            )
        owed.waiting = 1
        fd = fds.pop() if fds else -1
        return [Map(owed.tag, address, size, bool(flags & 2), fd, offset)]

    def _dma_unmap(self, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
        _, flags, address, size = unpack(UNMAP_BODY, body)
        if flags:
            raise RefusedError
        _check_range(address, size)
        owed.waiting = 1
        owed.body = body
        return [GuestUnmap(owed.tag, address, size)]


def _check_range(address: int, size: int) -> None:
    """Windows are whole pages."""
    if not size or address % PAGE or size % PAGE or address + size > 1 << 64:
        raise RefusedError
