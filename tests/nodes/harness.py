"""A node alone: RAM of one process, a clock that the test moves, messages by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from bus.node import Node, Surroundings
from bus.ram import Ram
from nodes.machine import GatewaySettings, MachineSettings, NicSettings

START_NS = 1_000_000_000
MACS = [bytes.fromhex(f"001b2100000{n}") for n in range(1, 5)]


def machine(cpus: int = 2, nics: int = 2) -> MachineSettings:
    """A small machine without a bond."""
    return MachineSettings(
        name="m1",
        era="6.1",
        cpus=cpus,
        nics=tuple(NicSettings(f"eth{n}", n, MACS[n]) for n in range(nics)),
        bond=None,
        gateway=GatewaySettings(),
    )


class Clock:
    """Virtual time of a test."""

    def __init__(self) -> None:
        self.ns = START_NS

    def __call__(self) -> int:
        return self.ns


class Bench:
    """One node on the bench: hand it messages, look at what it says."""

    def __init__(
        self,
        settings: MachineSettings,
        name: str,
        build: Callable[[Surroundings], Node],
        ram: Ram | None = None,
    ) -> None:
        self.settings = settings
        self.name = name
        self.clock = Clock()
        self.ram = ram if ram is not None else Ram.anonymous(settings.layout())
        around = Surroundings(
            name, 1, self.clock, self.ram, self.ram.page(name), random.Random(1), 0
        )
        self.node = build(around)
        self.page = self.node.page
        self.wake: int | None = None
        self.said: list[tuple[str, Any]] = []

    def give(self, *messages: tuple[str, Any]) -> list[tuple[str, Any]]:
        """One turn with these (sender, message) pairs; what the node says in it."""
        self.wake = self.node.turn(list(messages), 64)
        outbox, self.node.outbox = self.node.outbox, {}
        said = [(peer, message) for peer, queue in outbox.items() for message in queue]
        self.said += said
        return said

    def advance(self, duration_ns: int) -> list[tuple[str, Any]]:
        """Let time pass; the node gets the turns it asked for."""
        end = self.clock.ns + duration_ns
        said: list[tuple[str, Any]] = []
        while self.wake is not None and self.wake <= end:
            assert self.wake > self.clock.ns, "a wake-up in the past: the node would spin"
            self.clock.ns = self.wake
            said += self.give()
        self.clock.ns = end
        return said
