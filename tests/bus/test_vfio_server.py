"""The port's own affairs: descriptors that are not what they should be, answers nobody reads."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus import vfio_server
from bus import vfio_user as v
from bus.messages import GuestMap, GuestTrigger, PeerBack, PeerLost
from bus.vfio_server import GUEST, GuestPort, PortPlan
from tests.bus.test_vfio_user import CARD, irqs, mapping
from tests.bus.vfio_client import Client, RefusedError


class Bench:
    """A port in this process and a client at it."""

    def __init__(self, path: str) -> None:
        self.epoll = select.epoll()
        self.said: list[tuple[str, Any]] = []
        self.lines: list[str] = []
        self.port = GuestPort(PortPlan(path, CARD), self.epoll, self.said.append, self.lines.append)
        self.client = Client(path)

    def greet(self) -> None:
        """Agree on VERSION."""
        self.turn()
        self.client.post(v.VERSION, bytes(4), flags=0)
        self.turn()
        assert self.said.pop() == (GUEST, PeerBack(0))
        self.client.reply(1, v.VERSION)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.port.close()
        self.epoll.close()

    def turn(self) -> None:
        """Look at what is ready now."""
        for fd, _ in self.epoll.poll(0):
            assert self.port.look(fd)

    def ask(self, command: int, body: bytes, fds: tuple[int, ...] = ()) -> bytes:
        number = self.client.post(command, body, fds, 0)
        self.turn()
        return self.client.reply(number, command)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(str(tmp_path / "s")) as made:
        made.greet()
        yield made


def test_what_cannot_be_mapped_is_refused_and_said(bench: Bench) -> None:
    reading, writing = os.pipe()
    for fd in (reading, writing):
        with pytest.raises(RefusedError) as refused:
            bench.ask(v.DMA_MAP, mapping(), (fd,))
        assert refused.value.args == (errno.EINVAL,)
        os.close(fd)
    assert len(bench.lines) == 2
    assert "cannot be mapped" in bench.lines[0]


def test_memory_past_the_end_of_its_file_is_refused(bench: Bench) -> None:
    fd = os.memfd_create("short")
    os.ftruncate(fd, 4096)
    with pytest.raises(RefusedError):
        bench.ask(v.DMA_MAP, mapping(size=8192), (fd,))
    os.close(fd)


def test_a_mapping_is_handed_on_with_its_memory(bench: Bench) -> None:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 8192)
    os.pwrite(fd, b"hello", 4096)
    bench.client.post(v.DMA_MAP, mapping(1, offset=4096), (fd,), 0)
    os.close(fd)
    bench.turn()
    peer, request = bench.said.pop()
    assert (peer, type(request), request.writable) == (GUEST, GuestMap, False)
    assert bytes(request.memory[:5]) == b"hello"
    assert request.memory.readonly


def test_a_signal_to_what_is_no_eventfd_harms_nobody(bench: Bench) -> None:
    reading, writing = os.pipe()
    bench.client.post(v.SET_IRQS, irqs(0x24, v.MSIX, 0, 2), (reading, writing), 0)
    os.close(reading)
    os.close(writing)
    bench.turn()
    for _ in range(20_000):  # more than a pipe takes
        assert bench.port.send([GuestTrigger(v.MSIX, 0), GuestTrigger(v.MSIX, 1)]) == []


def test_an_end_of_interrupt_that_is_no_eventfd_is_forgotten(bench: Bench) -> None:
    reading, writing = os.pipe()
    bench.client.post(v.SET_IRQS, irqs(0x14, v.INTX, 0, 1), (reading,), 0)
    os.close(reading)
    bench.turn()
    os.close(writing)  # ready for ever from now on
    bench.turn()
    assert bench.epoll.poll(0) == []


def test_a_client_that_reads_no_answers_is_disconnected(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vfio_server, "UNREAD_BYTES_MAX", 10_000)
    info = struct.pack("<IIII", 16, 0, 0, 0)
    bench.client.socket.setblocking(False)
    for _ in range(100_000):
        try:
            bench.client.post(v.GET_INFO, info, flags=0)
        except OSError:
            break
        bench.turn()
    assert bench.lines == ["disconnected a vfio-user client that does not read its answers"]
    assert bench.said == [(GUEST, PeerLost(0))]


def test_a_file_is_no_connection_to_go_on_at(bench: Bench, tmp_path: Path) -> None:
    with open(tmp_path / "f", "wb") as file:
        bench.client.post(v.ADOPT, b"", (file.fileno(),))
        bench.turn()
    assert len(bench.lines) == 1
    assert "is no connection" in bench.lines[0]
    info = struct.pack("<4I", 16, 0, 0, 0)
    assert len(bench.ask(v.GET_INFO, info)) == 16  # the client goes on where it was


def test_nothing_is_delivered_without_a_client(bench: Bench) -> None:
    bench.client.close()
    bench.turn()
    assert bench.said == [(GUEST, PeerLost(0))]
    gone = [GuestTrigger(v.MSIX, 0)]
    assert bench.port.send(gone) == gone


def test_a_port_that_closes_leaves_neither_its_client_nor_its_slot(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            bench.client.post(v.ADOPT, b"", (ours.fileno(),))
        bench.turn()
        bench.port.close()
        assert theirs.recv(1) == b""
        assert bench.client.socket.recv(1) == b""  # what it came by is the slot
