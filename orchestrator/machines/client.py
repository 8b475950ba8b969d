"""A machine of another process, seen through its control socket: ``Machine`` over a wire.

The process that owns the machine (``daemon``) does for us what only it can: signals to nodes,
questions, programs. All reading of RAM happens here, in the mapped file. So every verb is written
once and does not know where it runs, files are written by the one who asked, and a reader
costs the machine nothing.

The wire: a UNIX stream socket in the run directory (mode 0700), MessagePack values back to back.
To the owner ``[number, operation, argument...]``; from it ``[number, ok, value]`` for calls,
``["request", number, ok, value, failed]``, ``["output", number, stream, text]``,
``["moved", number, cpu]`` (its CPU went offline) and ``["exit", number, code, failed]``.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import msgpack

from bus.messages import CPU_MASK_ALL
from bus.ram import Ram
from nodes.machine import LAN, MachineSettings
from orchestrator.errors import BottomhalfError
from orchestrator.machines.machine import Job, Machine, NodeState, Request

_CALL_TIMEOUT_S = 30.0


class RemoteMachine(Machine):
    """The machine behind a control socket."""

    runtime = "processes"

    def __init__(self, control: str, ram_path: str, settings: MachineSettings) -> None:
        self.settings = settings
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connect_to(self._socket, control)
            self.ram = Ram.open(ram_path, settings.layout())
        except BaseException:
            self._socket.close()
            raise
        self._unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=1 << 24)
        self._number = 0
        self._results: dict[int, tuple[bool, Any]] = {}
        self._requests: dict[int, Request] = {}
        self._jobs: dict[int, Job] = {}
        self.lost = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._wake: socket.socket | None = None

    # -- time

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def pump(self, until_ns: int, stop: Callable[[], bool] | None = None) -> None:
        while True:
            left_s = (until_ns - self.now_ns()) / 1e9
            if left_s <= 0:
                return
            if self._wait(left_s) and stop is not None and stop():
                return

    def _wait(self, timeout_s: float) -> bool:
        """Take what the owner says; True if anything happened (a signal is something)."""
        happened = False
        for key, _ in self._selector.select(timeout_s):
            happened = True
            if key.fileobj is self._socket:
                self._receive()
            else:
                assert self._wake is not None
                self._wake.recv(64)
        return happened

    def catch_signals(self, signals: list[int], *numbers: int) -> None:
        """From now on these signals are appended to ``signals`` and wake ``pump``."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._wake = reader
        self._wake_writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def note(number: int, frame: FrameType | None) -> None:
            signals.append(number)

        for number in numbers:
            signal.signal(number, note)
        self._selector.register(reader, selectors.EVENT_READ)

    # -- questions and programs

    def ask(self, node: str, what: str) -> Request:
        return self._request(node, "ask", node, what)

    def cable(self, nic: str, inserted: bool) -> Request:
        return self._request(LAN, "cable", nic, inserted)

    def fault(
        self, node: str, kind: str, value: int, for_ns: int, on: bool, port: str = ""
    ) -> Request:
        return self._request(node, "fault", node, kind, value, for_ns, on, port)

    def _request(self, node: str, *call: Any) -> Request:
        number = self._send(*call)
        request = Request(node, number)
        self._requests[number] = request
        return request

    def spawn(self, cpu: str, argv: tuple[str, ...], cpus_allowed: int = CPU_MASK_ALL) -> Job:
        number = self._send("spawn", cpu, list(argv), cpus_allowed)
        job = Job(cpu, number, argv)
        self._jobs[number] = job
        return job

    def signal(self, job: Job, signo: int) -> None:
        self._call("signal", job.number, signo)

    # -- processes

    def kill(self, node: str) -> None:
        self._call("kill", node)

    def pull(self, nic: str) -> None:
        self._call("pull", nic)

    def freeze(self, node: str) -> None:
        self._call("freeze", node)

    def thaw(self, node: str) -> None:
        self._call("thaw", node)

    def restart(self, node: str) -> None:
        self._call("restart", node)

    def state(self, node: str) -> NodeState:
        return self.states()[node]

    def states(self) -> Mapping[str, NodeState]:
        """States of all nodes, in one question."""
        return {row[0]: NodeState(*row) for row in self._call("states")}

    def archived_page(self, node: str, incarnation: int) -> dict[str, int | list[int]] | None:
        page: dict[str, int | list[int]] | None = self._call("archived_page", node, incarnation)
        return page

    # -- the machine as a whole

    def hold(self) -> None:
        """The machine ends when this connection does, unless ``release`` is called."""
        self._call("hold")

    def release(self) -> None:
        self._call("release")

    def shut_down(self) -> None:
        """End the machine; returns when nothing of it is left."""
        self._send("down")
        deadline = time.monotonic() + _CALL_TIMEOUT_S
        while not self.lost and time.monotonic() < deadline:
            self._wait(deadline - time.monotonic())

    def close(self) -> None:
        """Leave the machine alone: it belongs to another process."""
        self._selector.close()
        self._socket.close()
        self.ram.close()

    # -- the wire

    def _send(self, *call: Any) -> int:
        self._number += 1
        try:
            self._socket.sendall(msgpack.packb([self._number, *call]))
        except OSError:
            self._lose()
        return self._number

    def _call(self, *call: Any) -> Any:
        number = self._send(*call)
        deadline = time.monotonic() + _CALL_TIMEOUT_S
        while number not in self._results:
            if self.lost:
                raise BottomhalfError("the machine has ended", "bottomhalf up -d")
            if time.monotonic() >= deadline:
                raise BottomhalfError(
                    f"the machine's owner does not answer ({call[0]})", "bottomhalf doctor"
                )
            self._wait(deadline - time.monotonic())
        ok, value = self._results.pop(number)
        if not ok:
            raise BottomhalfError(str(value[0]), str(value[1]), int(value[2]))
        return value

    def _receive(self) -> None:
        try:
            data = self._socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._unpacker.feed(data)
        for message in self._unpacker:
            self._take(message)

    def _take(self, message: list[Any]) -> None:
        match message:
            case ["request", number, ok, value, failed]:
                request = self._requests.pop(number)
                request.ok, request.value, request.failed = ok, value, failed
                request.done = True
            case ["output", number, stream, text]:
                self._jobs[number].output.append((stream, text))
            case ["moved", number, cpu]:
                self._jobs[number].cpu = cpu
            case ["exit", number, code, failed]:
                job = self._jobs.pop(number)
                job.exit_code, job.failed = code, failed
            case [int(number), ok, value]:
                self._results[number] = (ok, value)

    def _lose(self) -> None:
        """The owner is gone: nothing that was asked will be answered."""
        if self.lost:
            return
        self.lost = True
        self._selector.unregister(self._socket)
        for request in self._requests.values():
            request.done, request.failed = True, "the machine has ended"
        for job in self._jobs.values():
            job.failed = "the machine has ended"
        self._requests.clear()
        self._jobs.clear()


def connect_to(sock: socket.socket, path: str) -> None:
    """Connect to a socket path of any length (the address of the OS has about 107 bytes)."""
    folder, name = os.path.split(path)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sock.connect(f"/proc/self/fd/{handle}/{name}")
    finally:
        os.close(handle)
