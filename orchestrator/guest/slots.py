"""The slot between QEMU and a NIC's process: it keeps the connection when the process is gone.

QEMU connects to a device once and cannot unplug it, but NICs are killed and started again. So QEMU
connects to the owner of the machine, which hands the connection over to the NIC's process
(``ADOPT`` of ``bus.vfio_user``) and keeps a copy. Between living ends nothing passes through here;
only of the guest's windows of memory the NIC tells, with their descriptors.

When the process is dead, the copy is read here, and answered as a PCIe slot without a card does:
reads give all ones, writes vanish. A new process is first told what the dead one had been (VERSION,
the windows), then it gets the connection. Interrupts are not told again: the kernel sets them up
when it finds the new card.

A NIC that was killed when it had read half a message leaves a stream that begins in the middle of
one. Where the next begins is found by what headers must be, and the NIC's log says so; without one
within the length of the longest message the connection is closed, and the slot is empty for good.

Left out: what the dead one had read and not answered. QEMU gives that up after its own time (5 s),
and the guest reads all ones.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from bus.vfio_user import (
    ADOPT,
    DEVICE_RESET,
    DMA_MAP,
    DMA_UNMAP,
    FDS_MAX,
    GET_INFO,
    GET_IRQ_INFO,
    GET_REGION_INFO,
    MESSAGE_BYTES_MAX,
    REGION_READ,
    REGION_WRITE,
    SET_IRQS,
    VERSION,
    WRITE_MULTI,
    command,
    version_body,
)
from bus.vfio_user.wire import HEADER, NO_REPLY, REGION_BODY, REPLY
from nodes.machine import vfio_socket
from orchestrator.guest import qemu
from orchestrator.machines.client import connect_to

if TYPE_CHECKING:
    from orchestrator.machines.processes import ProcessMachine

_WINDOW = struct.Struct("<QQ")  # of DMA_MAP and DMA_UNMAP: address, size
_MAP_WINDOW_AT, _UNMAP_WINDOW_AT = 16, 8
#: A new process answers at once, or is hung.
_ANSWER_S = 5.0
_READ_BYTES = 1 << 16


class _Window(NamedTuple):
    """A window of the guest's memory: the DMA_MAP that made it, and its descriptor."""

    body: bytes
    fd: int


#: Bytes of a body by command: a request is no shorter, and one in the set no longer.
_BODY_MIN = {VERSION: 4, DMA_MAP: 32, DMA_UNMAP: 24, GET_INFO: 16, GET_REGION_INFO: 32,
             GET_IRQ_INFO: 16, SET_IRQS: 20, REGION_READ: 16, REGION_WRITE: 17, DEVICE_RESET: 0,
             WRITE_MULTI: 8}  # fmt: skip
_LONGER = {VERSION, SET_IRQS, REGION_WRITE, WRITE_MULTI}


class _Message(NamedTuple):
    number: int
    name: int
    flags: int
    body: bytes


class Slot:
    """One NIC's slot of ``machine``."""

    def __init__(self, nic: str, machine: ProcessMachine) -> None:
        self._nic = nic
        self._machine = machine
        self._windows: dict[tuple[int, int], _Window] = {}
        self._qemu: socket.socket | None = None
        self._answering = False  # QEMU is answered here
        self._rest = b""  # ... the beginning of a message
        self._card: socket.socket | None = None  # the NIC's process tells of windows here
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(machine.rundir.socket_path(qemu.slot_socket(nic)))
        self._listener.listen(1)
        machine.watch_fd(self._listener.fileno(), self._accept)

    def close(self) -> None:
        for watched in (self._listener, self._qemu, self._card):
            if watched is not None:
                self._machine.unwatch_fd(watched.fileno())
                watched.close()
        self._qemu = self._card = None
        self._forget()

    def _forget(self) -> None:
        for window in self._windows.values():
            if window.fd >= 0:
                os.close(window.fd)
        self._windows.clear()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if self._qemu is not None:  # QEMU connects once
            connection.close()
            return
        self._qemu = connection
        self.hand_over()

    # -- a card is put in

    def hand_over(self) -> None:
        """Give QEMU's connection to the NIC's process, which has just been started."""
        self._take_records()  # the last words of the dead one
        while self._answering and self._answer_some() and self._rest:
            pass  # the new one gets a stream that begins with a message
        if self._qemu is None:
            return
        card = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        card.settimeout(_ANSWER_S)
        try:
            connect_to(card, str(self._machine.rundir.path / vfio_socket(self._nic)))
            if self._windows:
                _ask(card, VERSION, version_body())
            for window in self._windows.values():
                _ask(card, DMA_MAP, window.body, [window.fd] if window.fd >= 0 else [])
            self._machine.unwatch_fd(self._qemu.fileno())
            self._answering = False
            socket.send_fds(card, [command(0, ADOPT, posted=True)], [self._qemu.fileno()])
        except OSError:  # it died meanwhile: the slot is as empty as it was
            card.close()
            self._empty()
            return
        card.setblocking(False)
        self._card = card
        self._machine.watch_fd(card.fileno(), self._take_records)

    def _take_records(self) -> None:
        """What the NIC's process tells of windows; its end is the card's."""
        while self._card is not None:
            try:
                data, fds, _, _ = socket.recv_fds(self._card, _READ_BYTES, FDS_MAX)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._machine.unwatch_fd(self._card.fileno())
                self._card.close()
                self._card = None
                self._empty()
                return
            self._note_all(_messages(data), fds)

    def _note_all(self, messages: list[_Message], fds: list[int]) -> None:
        """Windows that come and go. The kernel ends a read behind the message that brought a
        descriptor, so it belongs to the last."""
        for message in messages:
            if message.name in (DMA_MAP, DMA_UNMAP):
                fd = fds.pop() if fds and message is messages[-1] else -1
                self._note(message.name, message.body, fd)
        for fd in fds:
            os.close(fd)

    def _note(self, name: int, body: bytes, fd: int) -> None:
        at = _MAP_WINDOW_AT if name == DMA_MAP else _UNMAP_WINDOW_AT
        key = _WINDOW.unpack_from(body, at)
        old = self._windows.pop(key, None)
        if old is not None and old.fd >= 0:
            os.close(old.fd)
        if name == DMA_MAP:
            self._windows[key] = _Window(body, fd)

    # -- no card

    def _empty(self) -> None:
        """From now on QEMU is answered here."""
        if self._qemu is None:
            return
        self._rest, self._answering = b"", True
        self._qemu.setblocking(False)
        self._machine.unwatch_fd(self._qemu.fileno())  # a new card that died at once
        self._machine.watch_fd(self._qemu.fileno(), self._answer)

    def _answer(self) -> None:
        self._answer_some()

    def _answer_some(self) -> bool:
        """Answer what one read gives; False if there is nothing, or nobody."""
        assert self._qemu is not None
        try:
            data, fds, _, _ = socket.recv_fds(self._qemu, _READ_BYTES, FDS_MAX)
        except BlockingIOError:
            return False
        except OSError:
            data, fds = b"", []
        skipped, messages, self._rest = _find(self._rest + data)
        if skipped:
            self._remark(f"the dead card had read half a message: {skipped} bytes are the other")
        if len(self._rest) > MESSAGE_BYTES_MAX:
            self._remark("no message in what QEMU sends: the slot is empty for good")
            data = b""
        if not data:
            self._machine.unwatch_fd(self._qemu.fileno())
            self._qemu.close()
            self._qemu, self._answering = None, False
            self._forget()
            return False
        self._note_all(messages, fds)
        replies = b"".join(_reply(m) for m in messages if not m.flags & NO_REPLY)
        with suppress(OSError):
            self._qemu.sendall(replies)
        return True

    def _remark(self, line: str) -> None:
        """A line in the log of the NIC whose slot this is."""
        with open(self._machine.rundir.path / f"{self._nic}.log", "a", encoding="utf-8") as log:
            log.write(f"slot of {self._nic}: {line}\n")


def _reply(message: _Message) -> bytes:
    said = _answer_of_none(message.name, message.body)
    size = HEADER.size + len(said)
    return HEADER.pack(message.number, message.name, size, REPLY, 0) + said


def _answer_of_none(name: int, body: bytes) -> bytes:
    """What a slot without a card answers."""
    if name == REGION_READ:
        count: int = REGION_BODY.unpack(body)[2]
        return body + b"\xff" * count
    if name == REGION_WRITE:
        return body[: REGION_BODY.size]
    if name == DMA_UNMAP:
        return bytes(body)
    return bytes(body[:8]) if name == WRITE_MULTI else b""


def _messages(data: bytes) -> list[_Message]:
    """The messages in what one read gave: a sender hands each over as a whole, so a read ends
    behind one. ValueError if it does not."""
    found = []
    at = 0
    while at < len(data):
        if len(data) - at < HEADER.size:
            raise ValueError("half a header")
        number, name, size, flags, _ = HEADER.unpack_from(data, at)
        if not HEADER.size <= size <= min(MESSAGE_BYTES_MAX, len(data) - at):
            raise ValueError("half a message")
        found.append(_Message(number, name, flags, data[at + HEADER.size : at + size]))
        at += size
    return found


def _find(data: bytes) -> tuple[int, list[_Message], bytes]:
    """QEMU's messages: the bytes before the first, the messages, the beginning of one more. They
    start where each header down to the end is one that QEMU may send."""
    for begin in range(len(data)):
        found: list[_Message] = []
        at = begin
        while len(data) - at >= HEADER.size and _is_header(data, at):
            number, name, size, flags, _ = HEADER.unpack_from(data, at)
            if at + size > len(data):
                return begin, found, data[at:]
            found.append(_Message(number, name, flags, data[at + HEADER.size : at + size]))
            at += size
        if found and len(data) - at < HEADER.size:
            return begin, found, data[at:]
    return 0, [], data


def _is_header(data: bytes, at: int) -> bool:
    _, name, size, flags, code = HEADER.unpack_from(data, at)
    least = _BODY_MIN.get(name)
    if least is None or code or flags not in (0, NO_REPLY) or size > MESSAGE_BYTES_MAX:
        return False
    body = size - HEADER.size
    return bool(body >= least if name in _LONGER else body == least)


def _ask(card: socket.socket, name: int, body: bytes, fds: list[int] | None = None) -> None:
    """A command to a NIC's process, and its answer."""
    socket.send_fds(card, [command(1, name, body)], fds or [])
    header = _exactly(card, HEADER.size)
    _, _, size, _, code = HEADER.unpack(header)
    _exactly(card, size - HEADER.size)
    if code:
        raise OSError(code, "the new card refused what the old one had")


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise OSError("the new card's process ended")
        data += more
    return data
