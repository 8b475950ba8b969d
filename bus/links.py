"""ZeroMQ ends of one process: a PULL inbox, and a PUSH to each peer that never blocks.

What crosses a socket is one ZeroMQ message for each turn and peer: two bytes with the sender's
number (its place in the machine's list of nodes; ``CONTROL_NUMBER`` is the orchestrator), then the
batch of ``bus.codec``.

Why it is built this way:

* The listening sockets exist before any process (``listen``; ZeroMQ takes them over by
  ``USE_FD``), so the order of starting does not matter, nobody retries, and the connection to a
  dead node waits in the kernel's backlog until its successor accepts it.
* ``IMMEDIATE``: a PUSH has a pipe only while the handshake with a living peer stands, so nothing
  is queued for a dead one. ``LINGER`` 0: closing never hangs. ``SNDHWM`` bounds what waits for a
  frozen one; a send that finds no room fails at once.
* A socket monitor on each PUSH says when the peer is lost or back, within a millisecond of its
  death. ZeroMQ hands a new or dead pipe over to the socket by a command that a *send* looks for
  only once a millisecond; reading ``EVENTS`` forces it, hence ``_settle``.
* The inbox has a monitor too: a connection by a process that is no part of the machine, and one
  that ends without a handshake, are reported as faults.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import zmq
from zmq.backend import Socket as BackendSocket

from bus.codec import BATCH_BYTES_MAX

#: Batches that may wait for one peer on each side of a connection.
QUEUE_BATCHES = 500
#: Pause before a lost connection is tried again; it then waits in the peer's backlog.
RECONNECT_MS = 10
#: Larger messages than this end their connection before they are read. What is larger than a batch
#: may be and smaller than this is read, counted and dropped.
MESSAGE_BYTES_MAX = 8 * BATCH_BYTES_MAX
CONTROL_NUMBER = 0xFFFF
#: The orchestrator has one life only.
CONTROL_INCARNATION = 1
HEADER_BYTES = 2

NOBLOCK = int(zmq.NOBLOCK)
EVENTS = int(zmq.EVENTS)
POLLIN = int(zmq.POLLIN)
POLLOUT = int(zmq.POLLOUT)

_UP = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_LINK_EVENTS = _UP | int(zmq.EVENT_DISCONNECTED)
_ACCEPTED = int(zmq.EVENT_ACCEPTED)
_INBOX_EVENTS = _ACCEPTED | _LINK_EVENTS


def header(number: int) -> bytes:
    """First bytes of all that node ``number`` sends."""
    return struct.pack("<H", number)


def listen(path: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Listening socket at ``path``; OSError (EADDRINUSE) if there is one: nothing is stolen."""
    server = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        server.bind(path)
        server.listen(1024)
    except OSError:
        server.close()
        raise
    return server


def receive_all(events: Callable[[int], int], receive: Callable[[int], bytes]) -> list[bytes]:
    """Everything that waits in a socket. Afterwards its descriptor tells of news again."""
    out = []
    while events(EVENTS) & POLLIN:
        out.append(receive(NOBLOCK))
    return out


class Inbox:
    """The PULL socket of a process, bound to a listening socket that exists already."""

    def __init__(self, context: zmq.Context[Any], listen_fd: int, path: str) -> None:
        self.socket = context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, QUEUE_BATCHES)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        self.socket.setsockopt(zmq.USE_FD, listen_fd)
        self._monitor = self.socket.get_monitor_socket(_INBOX_EVENTS)
        #: accepted connections without a handshake yet, of members (or 0: who has gone):
        #: descriptor -> pid, oldest first
        self._greeting: dict[int, int] = {}
        self.socket.bind(f"ipc://{path}")
        # The methods of the compiled class: pyzmq's own wrappers around them cost as much again.
        self.receive: Callable[[int], bytes] = BackendSocket.recv.__get__(self.socket)
        self.events: Callable[[int], int] = BackendSocket.get.__get__(self.socket)
        self.fd: int = self.socket.fileno()
        self.monitor_fd: int = self._monitor.fileno()

    def faults(self, is_member: Callable[[int], bool]) -> list[str]:
        """What the monitor has to say about connections that should not be: one text each.

        A connection that ends without a handshake spoke something else than ZeroMQ. The event of
        a handshake does not say which connection it was; the oldest is taken."""
        out = []
        while self._monitor.get(EVENTS) & POLLIN:
            event, value = _monitor_event(self._monitor)
            if event == _ACCEPTED:
                pid = _peer_pid(value)
                if is_member(pid) or not pid:  # 0: gone already, nobody can say who it was
                    self._greeting[value] = pid
                else:
                    out.append(f"process {pid} connected: it is no part of this machine")
            elif event == _UP:
                self._greeting.pop(next(iter(self._greeting), -1), None)
            elif value in self._greeting:
                pid = self._greeting.pop(value)
                out.append(f"process {pid or 'that has gone'} does not speak ZeroMQ")
        return out

    def close(self) -> None:
        """Close socket and monitor (an unclosed monitor would hang the context's end)."""
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close(0)


def _monitor_event(monitor: zmq.Socket[bytes]) -> tuple[int, int]:
    """One event: its kind and value. (pyzmq's own function for this imports asyncio.)"""
    event, value = struct.unpack("=HI", monitor.recv_multipart(NOBLOCK)[0])
    return event, value


def _peer_pid(fd: int) -> int:
    """Process at the other end of the accepted connection ``fd``; 0 if it is gone already."""
    try:
        copy = socket.socket(fileno=os.dup(fd))
    except OSError:
        return 0
    with copy:
        try:
            credentials = copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            return 0
    pid: int = struct.unpack("iii", credentials)[0]
    return pid


class Change(NamedTuple):
    """The link to a peer came up or went down."""

    link: Link
    up: bool


class Link:
    """The PUSH to one peer."""

    def __init__(self, context: zmq.Context[Any], peer: str, path: str) -> None:
        self.peer = peer
        self.up = False
        #: life of the peer that the connection leads to, as noted when it came up
        self.incarnation = 0
        self.socket = context.socket(zmq.PUSH)
        for option, value in (
            (zmq.IMMEDIATE, 1),
            (zmq.LINGER, 0),
            (zmq.SNDHWM, QUEUE_BATCHES),
            (zmq.RECONNECT_IVL, RECONNECT_MS),
            (zmq.HANDSHAKE_IVL, 0),
        ):
            self.socket.setsockopt(option, value)
        self._monitor = self.socket.get_monitor_socket(_LINK_EVENTS)
        self.monitor_fd: int = self._monitor.fileno()
        #: ``put(data, NOBLOCK)`` hands it over or raises ``zmq.Again``: then ``put_again``
        self.put: Callable[[bytes, int], None] = BackendSocket.send.__get__(self.socket)
        self.socket.connect(f"ipc://{path}")

    def send(self, data: bytes) -> bool:
        """Hand ``data`` over without ever blocking; False if there is no room for it."""
        try:
            self.put(data, NOBLOCK)
        except zmq.Again:
            return self.put_again(data)
        return True

    def put_again(self, data: bytes) -> bool:
        """After a refusal: there may be room in a pipe that the socket has not taken note of."""
        if not self._settle():
            return False
        try:
            self.put(data, NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _settle(self) -> bool:
        """Let the socket take note of new and dead pipes; True if it can send now."""
        return bool(self.socket.get(EVENTS) & POLLOUT)

    def changes(self) -> list[Change]:
        """What happened to the connection since the last look, in order."""
        out = []
        while self._monitor.get(EVENTS) & POLLIN:
            event, _ = _monitor_event(self._monitor)
            up = event == _UP
            if up != self.up:
                self.up = up
                out.append(Change(self, up))
        self._settle()
        return out

    def close(self) -> None:
        """Close socket and monitor; what was not sent is dropped."""
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close(0)
