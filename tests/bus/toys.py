"""Small nodes for the tests of the runtimes, and machines made of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgpack

from bus.messages import (
    Cable,
    Completion,
    EthFrame,
    MemRead,
    MemWrite,
    PeerBack,
    PeerLost,
    Reply,
    Signal,
    Snapshot,
    Spawn,
    TaskExit,
    TaskOutput,
)
from bus.node import IDLE, NOW, Inbox, Node, Surroundings
from bus.simulation import Place
from nodes.machine import CONTROL, GatewaySettings, MachineSettings, NicSettings


def settings(name: str = "toy", nics: int = 2, cpus: int = 1) -> MachineSettings:
    """A machine with nodes cpu0.., apic, eth0.., lan."""
    cards = tuple(NicSettings(f"eth{n}", n, bytes([2, 0, 0, 0, 1, n])) for n in range(nics))
    return MachineSettings(name, "6.1", cpus, cards, None, GatewaySettings())


class Toy(Node):
    """Remembers what it heard; does what ``Spawn`` says.

    * ``say PEER VALUE COUNT``: COUNT MemWrites to PEER, in one batch;
    * ``frames PEER COUNT BYTES``: COUNT batches of one frame each, one a turn;
    * ``timer US COUNT``: wake COUNT times, US microseconds apart;
    * ``crash``: raise; ``exit CODE``: leave the process.
    """

    def __init__(self, around: Surroundings, echo: bool = False) -> None:
        super().__init__(around)
        self.incarnation = around.incarnation
        self.echo = echo
        self.heard: list[tuple[str, Any]] = []
        self.refused: dict[str, int] = {}
        self.wake: int | None = IDLE
        self.timer_ns = 0
        self.timer_left = 0
        self.frames: list[tuple[str, int]] = []
        self.deadlines: list[tuple[int, int]] = []
        self.rng = around.rng

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        self.steps = len(inbox)
        for sender, message in inbox:
            self.take(sender, message)
        if self.timer_left and self.wake is not None and self.clock() >= self.wake:
            self.deadlines.append((self.wake, self.clock()))
            self.timer_left -= 1
            self.wake = self.clock() + self.timer_ns if self.timer_left else IDLE
        if self.frames:
            peer, size = self.frames.pop()
            self.post(peer, EthFrame(bytes(size)))
            return NOW
        return self.wake

    def take(self, sender: str, message: Any) -> None:
        if type(message) is Snapshot:
            value = getattr(self, "snapshot_" + message.what, lambda: None)()
            self.post(sender, Reply(message.request, 1, msgpack.packb(value)))
        elif type(message) is Spawn:
            self.post(sender, TaskOutput(message.request, 1, " ".join(message.argv)))
            self.command(message.argv)
            self.post(sender, TaskExit(message.request, 0))
        elif type(message) is Cable:
            self.post(sender, Reply(message.request, 1, msgpack.packb(None)))
        elif type(message) is MemRead and self.echo:
            self.post(sender, Completion(message.tag, message.offset))
        elif type(message) is not Signal:
            self.heard.append((sender, message))

    def command(self, argv: Sequence[str]) -> None:
        verb, args = (argv[0] if argv else ""), argv[1:]
        if verb == "say":
            for n in range(int(args[2])):
                self.post(args[0], MemWrite(0, n, int(args[1])))
        elif verb == "ask":
            self.post(args[0], MemRead(int(args[1]), 0, int(args[1])))
        elif verb == "frames":
            self.frames = [(args[0], int(args[2]))] * int(args[1])
        elif verb == "timer":
            self.timer_ns, self.timer_left = int(args[0]) * 1000, int(args[1])
            self.wake = self.clock() + self.timer_ns
        elif verb == "crash":
            raise RuntimeError("as asked")
        elif verb == "exit":
            os._exit(int(args[0]))

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        key = f"{peer} {'dead' if dead else 'full'}"
        self.refused[key] = self.refused.get(key, 0) + len(messages)

    # -- what a test asks for

    def snapshot_heard(self) -> list[list[Any]]:
        return [
            [sender, type(m).__name__, [list(f) if isinstance(f, tuple) else f for f in m]]
            for sender, m in self.heard
            if type(m) is not EthFrame
        ]

    def snapshot_frames(self) -> int:
        return sum(type(m) is EthFrame for _, m in self.heard)

    def snapshot_links(self) -> list[list[Any]]:
        return [
            [sender, type(m).__name__, m.incarnation]
            for sender, m in self.heard
            if type(m) in (PeerBack, PeerLost)
        ]

    def snapshot_refused(self) -> dict[str, int]:
        return self.refused

    def snapshot_timers(self) -> dict[str, Any]:
        late = sorted(now - due for due, now in self.deadlines)
        cpu = os.times()
        return {
            "fired": len(self.deadlines),
            "late_p50_ns": late[len(late) // 2] if late else 0,
            "late_min_ns": late[0] if late else 0,
            "early": sum(x < 0 for x in late),
            "cpu_s": cpu.user + cpu.system,
            "left": self.timer_left,
        }

    def snapshot_self(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "incarnation": self.incarnation}


class Chatter(Toy):
    """Says something random to somebody random, now and then, by its own random numbers."""

    PEERS: Mapping[str, Sequence[str]] = {
        "cpu0": ("apic", "eth0", "eth1"),
        "apic": ("cpu0", "eth0"),
        "eth0": ("cpu0", "lan"),
        "eth1": ("apic", "lan"),
        "lan": ("eth0", "eth1"),
    }

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        super().turn(inbox, budget)
        self.steps = self.rng.randrange(1, 40)
        for _ in range(self.rng.randrange(3)):
            peer = self.rng.choice(self.PEERS[self.name])
            self.post(peer, MemWrite(0, self.rng.randrange(1000), self.rng.getrandbits(32)))
        return self.clock() + self.rng.randrange(1, 5000)


class Broken(Toy):
    """Cannot be built."""

    def __init__(self, around: Surroundings) -> None:
        raise RuntimeError("this node cannot be built")


def toys(machine: MachineSettings, **special: Any) -> Mapping[str, Place]:
    """A toy at every place; ``special`` names other builders."""
    return {
        name: Place(special.get(name, partial(Toy, echo=name != "cpu0")), machine.peers(name))
        for name in machine.node_names
    }


__all__ = ["CONTROL", "Broken", "Chatter", "Toy", "settings", "toys"]
