"""A device's port to a guest: the socket, the descriptors and the mapped memory of ``vfio_user``.

One socket for each device, bound by the device's own process before its node is ready: a dead
device refuses connections, a restarted one makes its socket anew. One client at a time. To the node
the client is the peer ``@guest``; it is there (``PeerBack``) once VERSION is agreed and gone
(``PeerLost``) when the connection ends, and then the next one may come.

Nothing here blocks. A client that does not read its answers is disconnected, and so is one that
does not speak the protocol: one line in the log says why. Eventfds are made non-blocking; one that
is full has told already.

A client may hand the connection over to another socket (``Adopt``) and keep the first as a *slot*:
it is told of each window that is mapped and unmapped, with its descriptor, so that it can set up
this device's successor in the same way (``orchestrator.guest.slots``).

Left out: a client that cuts short the file which it had mapped here ends this process (SIGBUS), as
pulling memory out of a running machine would.
"""

from __future__ import annotations

import array
import errno
import mmap
import os
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from bus.messages import GUEST as GUEST  # noqa: PLC0414  (whose port is here)
from bus.messages import GuestMap, GuestUnmap, PeerBack, PeerLost
from bus.vfio_user import (
    DMA_MAP,
    DMA_UNMAP,
    FDS_MAX,
    Adopt,
    Card,
    Map,
    ProtocolError,
    Server,
    command,
    map_body,
    unmap_body,
)

READ_BYTES = 1 << 16
#: What a client may leave unread.
UNREAD_BYTES_MAX = 4 << 20
_ANCILLARY = socket.CMSG_SPACE(FDS_MAX * 4)
_ONE = (1).to_bytes(8, "little")


class PortPlan(NamedTuple):
    """A node's port to a guest: the socket's path, and what the guest shall see."""

    path: str
    card: Card


class GuestPort:
    """``put`` takes (peer, message) for the node, ``log`` a line about what the client did."""

    def __init__(
        self,
        plan: PortPlan,
        epoll: select.epoll,
        put: Callable[[tuple[str, Any]], None],
        log: Callable[[str], None],
    ) -> None:
        self._card = plan.card
        self._epoll = epoll
        self._put = put
        self._log = log
        self._client: socket.socket | None = None
        self._client_fd = -1
        self._slot: socket.socket | None = None
        self._server = Server(plan.card, log)
        self._greeted = False
        self._full = False  # the client has not read all yet
        self._resample = -1
        with suppress(FileNotFoundError):  # a predecessor's, who was killed
            os.unlink(plan.path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(plan.path)
        self._listener.listen(1)
        epoll.register(self._listener.fileno(), select.EPOLLIN)

    # -- in

    def look(self, fd: int) -> bool:
        """Something happened at ``fd``; False if it is none of ours."""
        if fd == self._client_fd:
            self._read()
        elif fd == self._resample:
            self._unmask()
        elif fd == self._listener.fileno():
            self._accept()
        else:
            return False
        return True

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if self._client is not None:
            client.close()
            self._log("a second vfio-user client was refused: the device has one")
            return
        client.setblocking(False)
        self._client, self._client_fd = client, client.fileno()
        self._full = False
        self._server = Server(self._card, self._log, self._server.tag)
        self._epoll.register(self._client_fd, select.EPOLLIN)

    def _read(self) -> None:
        """Take what has come: one read, so that a flood cannot stop the node."""
        assert self._client is not None
        self._write()
        try:
            data, ancillary, flags, _ = self._client.recvmsg(
                READ_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError as error:
            self._end(f"the vfio-user client's connection broke: {error.strerror}")
            return
        fds = _descriptors(ancillary)
        if not data:
            self._end("")
            return
        server = self._server
        try:
            server.receive(data, fds)
            if flags & socket.MSG_CTRUNC:
                raise ProtocolError(f"more than {FDS_MAX} descriptors in one message")
        except ProtocolError as error:
            self._give()
            self._end(f"disconnected a client that does not speak vfio-user: {error}")
            return
        self._give()
        self._flush()

    def _unmask(self) -> None:
        """The eventfd of an interrupt's end was signalled."""
        try:
            told = os.read(self._resample, 8)
        except BlockingIOError:
            return
        except OSError:
            told = b""
        if len(told) < 8:  # it is no eventfd: never look there again
            self._epoll.unregister(self._resample)
            self._resample = -1
            return
        self._server.unmask()
        self._flush()

    def _watch_resample(self) -> None:
        """Another eventfd for an interrupt's end, or none; before the old one is closed."""
        with suppress(OSError, ValueError):
            self._epoll.unregister(self._resample)
        self._resample = self._server.irqs.resample
        if self._resample >= 0:
            try:
                self._epoll.register(self._resample, select.EPOLLIN)
            except OSError:  # not a descriptor that tells
                self._resample = -1

    def _give(self) -> None:
        """Hand the server's requests to the node."""
        server, put = self._server, self._put
        if server.ready and not self._greeted:
            self._greeted = True
            put((GUEST, PeerBack(0)))
        requests, server.requests = server.requests, []
        for request in requests:
            if type(request) is Map:
                self._map(request)
            elif type(request) is Adopt:
                self._adopt(request.fd)
            else:
                if type(request) is GuestUnmap:
                    body = unmap_body(request.address, request.size)
                    self._tell_slot(command(0, DMA_UNMAP, body), -1)
                put((GUEST, request))

    def _adopt(self, fd: int) -> None:
        """The client goes on at the connection ``fd``."""
        assert self._client is not None
        try:
            successor = socket.socket(fileno=fd)
        except OSError as error:
            os.close(fd)
            self._log(f"what the vfio-user client handed over is no connection: {error.strerror}")
            return
        self._epoll.unregister(self._client_fd)
        if self._slot is not None:
            self._slot.close()
        self._slot = self._client
        self._client, self._client_fd = successor, fd
        self._client.setblocking(False)
        self._full = False
        self._epoll.register(fd, select.EPOLLIN)

    def _tell_slot(self, message: bytes, fd: int) -> None:
        if self._slot is None:
            return
        try:
            socket.send_fds(self._slot, [message], [fd] if fd >= 0 else [])
        except OSError as error:
            self._log(f"the slot cannot be told of a window: {error.strerror}")

    def _map(self, request: Map) -> None:
        tag, address, size, writable, fd, offset = request
        memory: memoryview | None = None
        self._tell_slot(command(0, DMA_MAP, map_body(address, size, writable, offset)), fd)
        if fd >= 0:
            access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
            try:
                mapped = mmap.mmap(fd, size, mmap.MAP_SHARED, access, offset=offset)
            except (OSError, ValueError, OverflowError) as error:
                self._log(f"guest memory at {address:#x} cannot be mapped: {error}")
                self._server.refuse(tag, errno.EINVAL)
                return
            finally:
                os.close(fd)
            memory = memoryview(mapped)
        self._put((GUEST, GuestMap(tag, address, size, writable, memory)))

    # -- out

    def send(self, messages: Sequence[Any]) -> list[Any]:
        """Hand over answers and interrupts; those that nobody waits for."""
        if self._client is None:
            return list(messages)
        take = self._server.take
        left = [message for message in messages if not take(message)]
        self._flush()
        return left

    def _flush(self) -> None:
        server = self._server
        for fd in server.signals:
            with suppress(OSError):  # full: it has told already; or it is no eventfd
                os.write(fd, _ONE)
        server.signals.clear()
        if server.irqs.resample != self._resample:
            self._watch_resample()
        if server.unused:
            for fd in server.unused:
                os.close(fd)
            server.unused.clear()
        if server.output:
            self._write()

    def _write(self) -> None:
        output = self._server.output
        if not output or self._client is None:
            return
        try:
            del output[: self._client.send(output)]
        except BlockingIOError:
            pass
        except OSError:
            output.clear()  # reading tells that it is gone
            return
        if len(output) > UNREAD_BYTES_MAX:
            self._end("disconnected a vfio-user client that does not read its answers")
            return
        if self._full != bool(output):
            self._full = bool(output)
            events = select.EPOLLIN | select.EPOLLOUT if output else select.EPOLLIN
            self._epoll.modify(self._client_fd, events)

    # -- the end

    def close(self) -> None:
        """No guest any more, and no socket."""
        if self._client is not None:
            self._end("")
        if self._slot is not None:
            self._slot.close()
            self._slot = None
        self._listener.close()

    def _end(self, why: str) -> None:
        """The client goes, or must go."""
        assert self._client is not None
        if why:
            self._log(why)
        self._epoll.unregister(self._client_fd)
        self._client.close()
        self._client, self._client_fd = None, -1
        left = self._server.abandon()
        self._watch_resample()
        for fd in left:
            os.close(fd)
        self._server.output.clear()
        if self._greeted:
            self._greeted = False
            self._put((GUEST, PeerLost(0)))


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """Descriptors that came along, non-blocking."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for fd in fds:
        with suppress(OSError):
            os.set_blocking(fd, False)
    return fds.tolist()
