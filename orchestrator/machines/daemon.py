"""The owner of a machine that stays when the shell returns: a control socket around a ``Machine``.

It does what only the owner can (see ``client`` for the wire) and nothing else; it
never reads a page or renders a text. One loop: let the machine live until it or a client says
something. A client that leaves ends its programs, as a terminal that hangs up does.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Callable
from typing import Any

import msgpack

from orchestrator.errors import OUR_FAULT, BottomhalfError
from orchestrator.machines.machine import Job, Machine, Request

_FAR_NS = 3_600_000_000_000
_BACKLOG = 64
#: A client that does not read its output is dropped when this much waits for it.
_OUTPUT_BYTES_MAX = 8 << 20


class _Client:
    """One connection: what it asked, what it runs, what it has not read yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.unpacker = msgpack.Unpacker(max_buffer_size=1 << 20)
        self.waiting = bytearray()
        self.requests: dict[int, Request] = {}
        self.jobs: dict[int, Job] = {}
        self.places: dict[int, str] = {}  # of each job, the CPU that the client knows of
        self.holds = False

    def say(self, message: list[Any]) -> None:
        self.waiting += msgpack.packb(message)


class ControlServer:
    """Serves the clients of one machine; ``step`` never blocks."""

    def __init__(self, machine: Machine, path: str) -> None:
        self.machine = machine
        self.ended = False
        self._path = path
        self._clients: dict[int, _Client] = {}
        self._listener = _listen(path)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def fileno(self) -> int:
        """Readable when a client has something to say (an epoll of all connections)."""
        return self._selector.fileno()

    def ready(self) -> bool:
        """Has a client something to say?"""
        return bool(self._selector.select(0))

    def settled(self) -> bool:
        """Has the machine something to say to a client?"""
        return any(
            any(r.done for r in client.requests.values())
            or any(job.output or job.done for job in client.jobs.values())
            for client in self._clients.values()
        )

    def step(self) -> None:
        """Take what clients say, hand over what the machine said."""
        for key, events in self._selector.select(0):
            if key.fileobj is self._listener:
                self._accept()
            else:
                client = self._clients.get(key.fd)
                if client is not None and events & selectors.EVENT_READ:
                    self._read(client)
        for client in list(self._clients.values()):
            self._report(client)
            self._flush(client)

    def close(self) -> None:
        for client in list(self._clients.values()):
            client.socket.close()
        self._selector.close()
        self._listener.close()
        if os.path.exists(self._path):
            os.unlink(self._path)

    # -- connections

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        self._clients[sock.fileno()] = _Client(sock)
        self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, client: _Client) -> None:
        try:
            data = client.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave(client)
            return
        try:
            client.unpacker.feed(data)
            for call in client.unpacker:
                self._serve(client, call)
        except (msgpack.UnpackException, ValueError, TypeError, IndexError):
            self._leave(client)  # not one of our clients

    def _leave(self, client: _Client) -> None:
        if client.socket.fileno() < 0:
            return
        self._clients.pop(client.socket.fileno(), None)
        self._selector.unregister(client.socket)
        client.socket.close()
        for job in client.jobs.values():
            if not job.done:
                self.machine.signal(job, signal.SIGHUP)
        self.ended = self.ended or client.holds

    def _flush(self, client: _Client) -> None:
        if client.socket.fileno() < 0:
            return
        if client.waiting:
            try:
                sent = client.socket.send(client.waiting)
                del client.waiting[:sent]
            except BlockingIOError:
                pass
            except OSError:
                self._leave(client)
                return
        if len(client.waiting) > _OUTPUT_BYTES_MAX:
            self._leave(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.waiting else 0)
        self._selector.modify(client.socket, events)

    # -- operations

    def _serve(self, client: _Client, call: list[Any]) -> None:
        number, operation, *arguments = call
        try:
            if operation in ("ask", "cable", "fault"):
                client.requests[number] = getattr(self.machine, operation)(*arguments)
                return
            if operation == "spawn":
                cpu, argv, cpus_allowed = arguments
                client.jobs[number] = self.machine.spawn(cpu, tuple(argv), cpus_allowed)
                client.places[number] = cpu
                return
            value = self._call(client, operation, arguments)
        except BottomhalfError as error:
            client.say([number, False, [error.what, error.hint, error.code]])
        except Exception as error:
            client.say([number, False, [f"{operation}: {error}", "bottomhalf ps", OUR_FAULT]])
        else:
            client.say([number, True, value])

    def _call(self, client: _Client, operation: str, arguments: list[Any]) -> Any:
        machine = self.machine
        if operation == "states":
            return [list(machine.state(name)) for name in machine.settings.node_names]
        if operation == "signal":
            number, signo = arguments
            if number in client.jobs:
                machine.signal(client.jobs[number], signo)
            return None
        if operation in ("hold", "release"):
            client.holds = operation == "hold"
            return None
        if operation == "down":
            self.ended = True
            return None
        if operation in ("kill", "pull", "freeze", "thaw", "restart", "archived_page"):
            return getattr(machine, operation)(*arguments)
        raise BottomhalfError(f"the control socket knows no `{operation}`", "bottomhalf --version")

    def _report(self, client: _Client) -> None:
        for number, request in list(client.requests.items()):
            if request.done:
                del client.requests[number]
                client.say(["request", number, request.ok, request.value, request.failed])
        for number, job in list(client.jobs.items()):
            for stream, text in job.take():
                client.say(["output", number, stream, text])
            if job.cpu != client.places[number]:
                client.places[number] = job.cpu
                client.say(["moved", number, job.cpu])
            if job.done:
                del client.jobs[number], client.places[number]
                client.say(["exit", number, job.exit_code, job.failed])


def _listen(path: str) -> socket.socket:
    """A listening socket of mode 0600 at a path of any length."""
    folder, name = os.path.split(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    mask = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{handle}/{name}")
    finally:
        os.umask(mask)
        os.close(handle)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def serve(machine: Machine, server: ControlServer, stopped: Callable[[], bool]) -> None:
    """Own the machine until a client, or a signal, ends it."""

    def something() -> bool:
        return stopped() or server.ready() or server.settled()

    while not (server.ended or stopped()):
        machine.pump(machine.now_ns() + _FAR_NS, something)
        server.step()
    server.step()
