"""A virtual machine monitor as small as can be: a vfio-user client and some of a guest's driver."""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import struct
from collections.abc import Sequence

from bus import vfio_user as v

HEADER = struct.Struct("<HHIII")
#: For what takes milliseconds.
GUARD_S = 60.0


class RefusedError(Exception):
    """An error reply; ``args[0]`` is its errno."""


class Client:
    """One connection, which ``with`` closes; ``map_memory`` maps ``memory`` at bus address 0."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(GUARD_S)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self._id = 0
        self.eventfds: list[int] = []
        self._memfd = -1

    @classmethod
    def agreed(cls, path: str) -> Client:
        """A connection that has agreed on VERSION."""
        client = cls(path)
        try:
            client.version()
        except BaseException:
            client.close()
            raise
        return client

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Also twice: the descriptors are gone from the lists."""
        self.socket.close()
        while self.eventfds:
            os.close(self.eventfds.pop())
        if self._memfd >= 0:
            os.close(self._memfd)
            self._memfd = -1
            self.memory.close()

    # -- messages

    def post(self, command: int, body: bytes, fds: Sequence[int] = (), flags: int = 0x10) -> int:
        """Send a command without waiting; its id."""
        self._id += 1
        message = HEADER.pack(self._id, command, 16 + len(body), flags, 0) + body
        socket.send_fds(self.socket, [message], fds)
        return self._id

    def ask(self, command: int, body: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Send a command; the body of its reply."""
        return self.reply(self.post(command, body, fds, 0), command)

    def reply(self, number: int, command: int) -> bytes:
        got, what, size, flags, code = HEADER.unpack(self._receive(16))
        assert (got, what) == (number, command)
        body = self._receive(size - 16)
        if flags & 0x20:
            assert flags == 0x21
            assert not body
            raise RefusedError(code)
        assert flags == 1
        return body

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def gone(self) -> bool:
        """Wait for the other end to close; False if it says something instead."""
        try:
            return not self.socket.recv(1)
        except ConnectionError:
            return True

    # -- commands

    def version(self) -> dict[str, object]:
        wish = json.dumps({"capabilities": {"max_msg_fds": 16, "pgsizes": 4096}}).encode()
        body = self.ask(v.VERSION, struct.pack("<HH", 0, 0) + wish + b"\0")
        assert body[:4] == bytes(4)
        assert body.endswith(b"\0")
        answer = json.loads(body[4:-1])
        assert isinstance(answer, dict)
        return answer

    def map_memory(self, size: int, address: int = 0) -> mmap.mmap:
        memfd = os.memfd_create("guest")
        os.ftruncate(memfd, size)
        self.memory, self._memfd = mmap.mmap(memfd, size), memfd
        assert not self.ask(
            v.DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, address, size), [self._memfd]
        )
        return self.memory

    def read(self, region: int, offset: int, size: int = 4) -> int:
        body = self.ask(v.REGION_READ, struct.pack("<QII", offset, region, size))
        assert struct.unpack_from("<QII", body) == (offset, region, size)
        assert len(body) == 16 + size
        return int.from_bytes(body[16:], "little")

    def write(self, region: int, offset: int, value: int, size: int = 4) -> None:
        data = struct.pack("<QII", offset, region, size) + value.to_bytes(size, "little")
        assert self.ask(v.REGION_WRITE, data) == data[:16]

    def post_write(self, region: int, offset: int, value: int) -> None:
        self.post(v.REGION_WRITE, struct.pack("<QIII", offset, region, 4, value))

    def irqs(self, flags: int, index: int, start: int, count: int, fds: Sequence[int] = ()) -> None:
        self.ask(v.SET_IRQS, struct.pack("<IIIII", 20, flags, index, start, count), fds)

    def arm(self, index: int, count: int = 1) -> list[int]:
        """New eventfds for the first ``count`` vectors."""
        fds = [os.eventfd(0) for _ in range(count)]
        self.eventfds += fds
        self.irqs(0x24, index, 0, count, fds)
        return fds


def fired(fd: int, timeout_s: float = GUARD_S) -> int:
    """What an eventfd counted when it told; 0 if it did not in time."""
    ready, _, _ = select.select([fd], [], [], timeout_s)
    return os.eventfd_read(fd) if ready else 0
