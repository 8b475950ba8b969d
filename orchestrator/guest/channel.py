"""Commands in the guest: the wire to ``init.sh``, and the jobs that are out on it.

A line each: ``run NUMBER COMMAND(base64)`` and ``signal NUMBER SIGNAL`` to the guest; ``hello``,
``out NUMBER TEXT``, ``err NUMBER TEXT``, ``exit NUMBER CODE`` from it. Several commands run side by
side. What is asked before the guest has booted waits until it is ready.
"""

from __future__ import annotations

import base64
import shlex
import socket
from collections.abc import Callable
from contextlib import suppress

from orchestrator.machines.machine import Job

_STREAMS = {b"out": 1, b"err": 2}
#: Output of one command that nobody has taken, and what waits to be sent.
_WAITING_BYTES_MAX = 8 << 20


class Channel:
    """Our end of the wire. ``booted`` is called when the guest says hello; only when ``open`` is
    called do jobs of others go out."""

    def __init__(self, sock: socket.socket, booted: Callable[[], None]) -> None:
        self._socket = sock
        sock.setblocking(False)
        self._booted = booted
        self._received = bytearray()
        self._sending = bytearray()
        self._number = 0
        self._jobs: dict[int, Job] = {}
        self._queued: list[bytes] = []
        self.ready = False
        self._closed = ""

    def fileno(self) -> int:
        return self._socket.fileno()

    def spawn(self, node: str, argv: tuple[str, ...], at_once: bool = False) -> Job:
        """A command; ``at_once`` if it makes the guest ready."""
        self._number += 1
        job = Job(node, self._number, argv)
        if self._closed:
            job.failed = self._closed
            return job
        self._jobs[job.number] = job
        text = base64.b64encode(shlex.join(argv).encode()).decode()
        line = f"run {job.number} {text}\n".encode()
        if self.ready or at_once:
            self._send(line)
        else:
            self._queued.append(line)
        return job

    def signal(self, job: Job, signo: int) -> None:
        if job.number in self._jobs:
            self._send(f"signal {job.number} {signo}\n".encode())

    def open(self) -> None:
        """The guest is ready: what waited goes out."""
        self.ready = True
        queued, self._queued = self._queued, []
        for line in queued:
            self._send(line)

    def lose(self, why: str) -> None:
        """The guest is gone, and all that ran in it."""
        if self._closed:
            return
        self._closed = why
        for job in self._jobs.values():
            job.failed = why
        self._jobs.clear()

    def close(self) -> None:
        self._socket.close()

    # -- the wire

    def receive(self) -> None:
        """Take what the guest said."""
        with suppress(BlockingIOError, ConnectionResetError):
            while data := self._socket.recv(1 << 16):
                self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = bytearray(rest[-_WAITING_BYTES_MAX:])
        for line in lines:
            self._take(bytes(line.rstrip(b"\r")))
        self._flush()

    def _take(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        if verb == b"hello":
            self._booted()
            return
        number, _, text = rest.partition(b" ")
        job = self._jobs.get(int(number)) if number.isdigit() else None
        if job is None:
            return
        if verb in _STREAMS:
            job.output.append((_STREAMS[verb], text.decode(errors="replace") + "\n"))
        elif verb == b"exit":
            del self._jobs[job.number]
            job.exit_code = int(text) if text.isdigit() else 1

    def _send(self, line: bytes) -> None:
        if len(self._sending) < _WAITING_BYTES_MAX:
            self._sending += line
        self._flush()

    def _flush(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while self._sending:
                sent = self._socket.send(self._sending)
                del self._sending[:sent]
