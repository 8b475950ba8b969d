"""Port-channels: several cables that are one logical port.

Source: IEEE 802.1AX (aggregation, frame distribution). A channel stands in the switch's tables
under a logical number, ``PORTS`` and up; its members are physical ports. Frames are spread by a
hash of their addresses, so that a conversation keeps its order; a frame that came by one member
never leaves by another; addresses are learned on the channel.

A static channel ("on") uses every member that has a link. With "lacp" a partner
(``nodes.lan.lacp``) says for each member whether it collects and distributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

_IPV4 = b"\x08\x00"


class Channel:
    """One port-channel: its members, and which of them carry data."""

    def __init__(self, number: int, name: str, members: Sequence[int], mode: str) -> None:
        self.number = number  # as a logical port
        self.name = name
        self.members = tuple(members)
        self.mode = mode
        self.collecting = dict.fromkeys(members, False)
        self.distributing = dict.fromkeys(members, False)
        #: members that data leave by, in order
        self.active: list[int] = []

    def mux(self, port: int, collecting: bool, distributing: bool) -> None:
        """Set what a member does with data."""
        self.collecting[port] = collecting
        self.distributing[port] = distributing
        self.active = [member for member in self.members if self.distributing[member]]

    def pick(self, frame: bytes) -> int:
        """The member that this frame leaves by; there must be an active one."""
        key = frame[5] ^ frame[11]
        if frame[12:14] == _IPV4:
            key ^= frame[29] ^ frame[33]
        return self.active[key % len(self.active)]


class Lan(Protocol):
    """What the switch does for a partner."""

    def mux(self, port: int, collecting: bool, distributing: bool) -> None:
        """Set what a member does with data."""

    def emit(self, port: int, frame: bytes) -> None:
        """Send a frame of the switch itself out of one member."""


class Partner(Protocol):
    """Who decides for the members of a channel that is not static."""

    def receive(self, port: int, frame: bytes, now_ns: int) -> None:
        """A frame of the slow protocols from a member."""

    def link(self, port: int, up: bool, now_ns: int) -> None:
        """A member's link changed."""

    def snapshot(self, port: int) -> dict[str, Any]:
        """What it knows of a member, as plain values."""

    def speak(self, port: int, wrong: str) -> None:
        """Speak wrongly at a member (``bus.faults.LACP_WRONG``); "": no more."""

    def tick(self, now_ns: int) -> None:
        """``next_ns`` has come."""

    def next_ns(self) -> int | None:
        """When ``tick`` has something to do."""


#: How partners are made, by the mode of the channel: f(channel, lan, machine settings).
PARTNERS: dict[str, Callable[[Channel, Lan, Any], Partner]] = {}
