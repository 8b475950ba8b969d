"""Cables that leave the machine: other machines' switches, and a kernel's TAP device.

Nodes of one machine share RAM and ZeroMQ links; what is outside speaks Ethernet alone. To a node it
is a peer whose name begins with ``@``: ``@uplink`` is what this machine's switch is plugged into,
``@m2`` a machine whose switch is plugged into this one. Frames and light cross; nothing else.

* Between machines: a Unix socket of packets (``SOCK_SEQPACKET``), one byte that says what it is and
  then the bytes: a hello with the machine's name, a frame, one with a wrong FCS, light on or off.
  The listening socket outlives the node, so a switch that is restarted is found again at once.
* A TAP device: each read and each write is a frame. It has light as long as the node lives; light
  from here is its carrier.

Nothing here blocks: what the other side does not take is given back as undelivered.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bus.messages import (
    FRAME_BYTES_MAX,
    UPLINK,
    BadFrame,
    EthFrame,
    LinkState,
    PeerBack,
    PeerLost,
)

HELLO, FRAME, BAD_FRAME, LIGHT = b"\0", b"\1", b"\2", b"\3"
MIN_FRAME = 60
SPEED_MBPS = 10000
#: Frames taken from one wire before the others have their turn.
READS_MAX = 256
GUESTS_MAX = 8
_TUNSETCARRIER = 0x400454E2
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class WirePlan(NamedTuple):
    """The wires of one node."""

    machine: str
    listen_fd: int = -1  # other machines join here
    join_path: str = ""  # the socket of the machine that we join
    tap_fd: int = -1


class Wires:
    """``put`` takes (peer, message) for the node."""

    def __init__(
        self, plan: WirePlan, epoll: select.epoll, put: Callable[[tuple[str, Any]], None]
    ) -> None:
        self._plan = plan
        self._epoll = epoll
        self._put = put
        self._sockets: dict[int, socket.socket] = {}
        self._fds: dict[str, int] = {}  # peers that said hello
        self._names: dict[int, str] = {}
        self._server: socket.socket | None = None
        if plan.listen_fd >= 0:
            self._server = socket.socket(fileno=plan.listen_fd)
            self._server.setblocking(False)
            epoll.register(plan.listen_fd, select.EPOLLIN)
        if plan.tap_fd >= 0:
            os.set_blocking(plan.tap_fd, False)
            epoll.register(plan.tap_fd, select.EPOLLIN)
            self._fds[UPLINK] = plan.tap_fd
            put((UPLINK, PeerBack(1)))
            put((UPLINK, LinkState(1, SPEED_MBPS)))
        if plan.join_path:
            self._join()

    # -- connections

    def _join(self) -> None:
        """Plug our uplink into the other machine's switch, if it is there."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._plan.join_path)
            sock.send(HELLO + self._plan.machine.encode())
        except OSError:
            sock.close()
            return
        self._keep(sock)

    def _keep(self, sock: socket.socket) -> None:
        self._sockets[sock.fileno()] = sock
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _accept(self) -> None:
        assert self._server is not None
        try:
            sock, _ = self._server.accept()
        except OSError:
            return
        sock.setblocking(False)
        if len(self._sockets) >= 2 * GUESTS_MAX:
            sock.close()
        else:
            self._keep(sock)

    def _hello(self, fd: int, data: bytes) -> bool:
        """The other side says who it is; False if it must not be here."""
        if not _NAME.fullmatch(data) or fd in self._names:
            return False
        ours = not self._is_guest(fd)
        name = UPLINK if ours else f"@{data.decode()}"
        if name in self._fds:
            return False
        self._fds[name], self._names[fd] = fd, name
        if not ours:
            self._transmit(fd, HELLO + self._plan.machine.encode())
        self._put((name, PeerBack(1)))
        return True

    def _is_guest(self, fd: int) -> bool:
        """Did it connect to us? Then its own end has our path, not its."""
        return bool(self._sockets[fd].getsockname())

    def _end(self, fd: int) -> None:
        name = self._names.pop(fd, "")
        was_ours = not self._is_guest(fd)
        self._epoll.unregister(fd)
        self._sockets.pop(fd).close()
        if name:
            del self._fds[name]
            self._put((name, PeerLost(0)))
        if was_ours and name:  # its successor takes the connection when it begins
            self._join()

    def close(self) -> None:
        """Pull all cables."""
        for sock in (*self._sockets.values(), *([self._server] if self._server else [])):
            sock.close()
        if self._plan.tap_fd >= 0:
            os.close(self._plan.tap_fd)

    # -- in

    def look(self, fd: int) -> bool:
        """Something happened at ``fd``; False if it is none of ours."""
        if self._server is not None and fd == self._server.fileno():
            self._accept()
        elif fd == self._plan.tap_fd:
            self._read_tap()
        elif fd in self._sockets:
            self._read(fd)
        else:
            return False
        return True

    def _read_tap(self) -> None:
        for _ in range(READS_MAX):
            try:
                frame = os.read(self._plan.tap_fd, FRAME_BYTES_MAX)
            except OSError:
                return
            self._put((UPLINK, EthFrame(frame.ljust(MIN_FRAME, b"\0"))))

    def _read(self, fd: int) -> None:
        sock = self._sockets[fd]
        for _ in range(READS_MAX):
            try:
                data = sock.recv(FRAME_BYTES_MAX + 2)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data or not self._take(fd, data[:1], data[1:]):
                self._end(fd)
                return

    def _take(self, fd: int, what: bytes, data: bytes) -> bool:
        """One packet; False if the other side does not keep to the rules."""
        if what == HELLO:
            return self._hello(fd, data)
        name = self._names.get(fd)
        if name is None or len(data) > FRAME_BYTES_MAX:
            return False
        if what == LIGHT and data in (b"\0", b"\1"):
            self._put((name, LinkState(data[0], SPEED_MBPS)))
        elif what == FRAME:
            self._put((name, EthFrame(data)))
        elif what == BAD_FRAME:
            self._put((name, BadFrame(data)))
        else:
            return False
        return True

    # -- out

    def send(self, peer: str, messages: Sequence[Any]) -> tuple[list[Any], bool]:
        """Hand over what goes; what did not, and whether nobody is there."""
        fd = self._fds.get(peer)
        if fd is None:
            return list(messages), True
        left = []
        dead = False
        for message in messages:
            kind = type(message)
            if fd == self._plan.tap_fd:
                error = self._to_tap(fd, kind, message)
            elif kind is LinkState:
                error = self._transmit(fd, LIGHT + bytes((message.up,)))
            else:
                head = FRAME if kind is EthFrame else BAD_FRAME
                error = self._transmit(fd, head + message.frame)
            if error is not None:
                left.append(message)
                dead |= not isinstance(error, BlockingIOError)
        return left, dead

    def _transmit(self, fd: int, data: bytes) -> OSError | None:
        try:
            self._sockets[fd].send(data)
        except OSError as error:
            return error
        return None

    @staticmethod
    def _to_tap(fd: int, kind: type[Any], message: Any) -> OSError | None:
        try:
            if kind is EthFrame:
                os.write(fd, message.frame)
            elif kind is LinkState:
                fcntl.ioctl(fd, _TUNSETCARRIER, struct.pack("i", message.up))
            # a frame with a wrong FCS ends at the receiver's MAC, which a TAP device has not
        except OSError as error:
            return error
        return None
