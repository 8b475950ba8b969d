"""Run as a program by ``test_simulation``: a seeded chat, killed and frozen at times, as text."""

from __future__ import annotations

import sys
from typing import Any

from orchestrator.machines.simulated import SimulatedMachine
from tests.bus.toys import Chatter, settings, toys


def main(seed: int) -> None:
    machine_settings = settings()
    places = toys(machine_settings, **dict.fromkeys(machine_settings.node_names, Chatter))
    machine = SimulatedMachine(machine_settings, places, seed=seed)

    def watch(now_ns: int, sender: str, receiver: str, message: Any) -> None:
        print(now_ns, sender, receiver, message)

    machine.simulation.watch = watch
    for verb, node in (
        ("kill", "eth0"), ("restart", "eth0"), ("freeze", "lan"), ("thaw", "lan"), ("kill", "apic"),
    ):  # fmt: skip
        machine.pump(machine.now_ns() + 200_000)
        getattr(machine, verb)(node)
        print(verb, node, machine.state(node))
    machine.pump(machine.now_ns() + 200_000)
    for name in machine_settings.node_names:
        print(name, machine.ram.page(name).as_dict())


if __name__ == "__main__":
    main(int(sys.argv[1]))
