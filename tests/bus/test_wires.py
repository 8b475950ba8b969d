"""Wires out of the machine: hello, frames, light, the end; two ends in one process."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.links import listen
from bus.messages import BadFrame, EthFrame, LinkState, PeerBack, PeerLost
from bus.wires import FRAME, HELLO, LIGHT, WirePlan, Wires

FRAME_BYTES = bytes(60)


class End:
    """One machine's wires and what they said."""

    def __init__(self, plan: WirePlan) -> None:
        self.epoll = select.epoll()
        self.said: list[tuple[str, Any]] = []
        self.wires = Wires(plan, self.epoll, self.said.append)

    def look(self) -> list[tuple[str, Any]]:
        for _ in range(5):
            for fd, _ in self.epoll.poll(0.01):
                assert self.wires.look(fd)
        said, self.said[:] = list(self.said), []
        return said

    def close(self) -> None:
        self.wires.close()
        self.epoll.close()


@pytest.fixture
def door(tmp_path: Path) -> tuple[str, int]:
    path = str(tmp_path / "join")
    return path, listen(path, socket.SOCK_SEQPACKET).detach()


@pytest.fixture
def ends(door: tuple[str, int]) -> Iterator[tuple[End, End]]:
    host = End(WirePlan("m1", listen_fd=door[1]))
    guest = End(WirePlan("m2", join_path=door[0]))
    assert host.look() == [("@m2", PeerBack(1))]
    assert guest.look() == [("@uplink", PeerBack(1))]
    yield host, guest
    host.close()
    guest.close()


def test_frames_and_light_pass_both_ways(ends: tuple[End, End]) -> None:
    host, guest = ends
    messages = [LinkState(1, 10000), EthFrame(FRAME_BYTES), BadFrame(FRAME_BYTES)]
    assert guest.wires.send("@uplink", messages) == ([], False)
    assert host.look() == [("@m2", message) for message in messages]
    assert host.wires.send("@m2", messages[:2]) == ([], False)
    assert guest.look() == [("@uplink", message) for message in messages[:2]]


def test_nobody_there_is_dead_and_who_takes_nothing_is_full(ends: tuple[End, End]) -> None:
    host, _ = ends
    assert host.wires.send("@m3", [EthFrame(FRAME_BYTES)]) == ([EthFrame(FRAME_BYTES)], True)
    left: list[Any] = []
    dead = False
    while not left:
        left, dead = host.wires.send("@m2", [EthFrame(bytes(1500))] * 50)
    assert (set(left), dead) == ({EthFrame(bytes(1500))}, False)


def test_a_switch_that_ends_is_found_again_by_its_successor(
    ends: tuple[End, End], door: tuple[str, int]
) -> None:
    host, guest = ends
    kept = os.dup(door[1])  # the fork server's
    host.wires.close()
    assert guest.look() == [("@uplink", PeerLost(0))]
    successor = End(WirePlan("m1", listen_fd=kept))
    assert successor.look() == [("@m2", PeerBack(1))]
    assert guest.look() == [("@uplink", PeerBack(1))]
    successor.close()


@pytest.mark.parametrize(
    "data",
    [FRAME + FRAME_BYTES, LIGHT + b"\1", HELLO + b"../x", HELLO, b"\xff", HELLO + b"m2"],
    ids=["frame first", "light first", "no name", "empty", "unknown", "name taken"],
)
def test_strangers_that_do_not_keep_the_rules_are_hung_up(
    ends: tuple[End, End], door: tuple[str, int], data: bytes
) -> None:
    host, _ = ends
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(door[0])
        stranger.send(data)
        assert host.look() == []
        stranger.settimeout(60)
        assert stranger.recv(10) == b""
    assert host.wires.send("@m2", [EthFrame(FRAME_BYTES)]) == ([], False)


def test_a_machine_that_is_not_there_leaves_the_uplink_dark(tmp_path: Path) -> None:
    end = End(WirePlan("m2", join_path=str(tmp_path / "nobody")))
    assert end.look() == []
    assert end.wires.send("@uplink", [LinkState(1, 10000)]) == ([LinkState(1, 10000)], True)
    end.close()
