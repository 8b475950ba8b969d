"""Two simulated machines on one LAN: a cable between their switches, and one virtual time.

A machine that joins has a switch of its own, whose last port leads to the other's switch instead of
a gateway. Each machine keeps its own RAM, nodes and seed; only messages between the two LANs cross,
``LATENCY_NS`` later. The one whose next event is earlier goes on, one instant at a time.

Machines of processes do the same over a socket (``bus.wires``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bus.messages import PeerBack, PeerLost
from bus.simulation import LINK_EVENT_NS, Simulation
from nodes.machine import LAN, OUTSIDE, UPLINK
from orchestrator.machines.simulated import SimulatedMachine

#: Of the cable between the switches.
LATENCY_NS = 500


class Together:
    """Machines that share a time."""

    def __init__(self, host: SimulatedMachine) -> None:
        self.host = host
        self.machines = [host]
        host.run = partial(self._run, host)
        host.others = self._addresses

    def join(self, guest: SimulatedMachine) -> None:
        """Put a cable between the guest's uplink and the host's switch."""
        if guest.settings.lan.uplink != "join":
            raise ValueError(f"{guest.settings.name} has an uplink of its own")
        if guest.now_ns() > self.host.now_ns():
            raise ValueError("the guest's time is ahead of the host's")
        guest.simulation.run_until(self.host.now_ns())
        self.machines.append(guest)
        guest.run = partial(self._run, guest)
        guest.others = self._addresses
        name = OUTSIDE + guest.settings.name
        _wire(guest.simulation, UPLINK, self.host.simulation, name)
        _wire(self.host.simulation, name, guest.simulation, UPLINK)
        for one, peer in ((self.host.simulation, name), (guest.simulation, UPLINK)):
            one.arrive(one.now_ns + LINK_EVENT_NS, LAN, peer, PeerBack(1))

    def _addresses(self) -> dict[str, str]:
        return {m.settings.name: m.settings.hosts[m.settings.name] for m in self.machines}

    def _run(self, machine: SimulatedMachine, until_ns: int, stop: Callable[[], bool]) -> None:
        simulations = [m.simulation for m in self.machines]
        while True:
            one = min(simulations, key=lambda s: s.due_ns)
            if one.due_ns > until_ns:
                break
            one.run_until(one.due_ns, stop if one is machine.simulation else None)
            if one is machine.simulation and stop():
                for simulation in simulations:
                    simulation.run_until(one.now_ns)
                return
        for simulation in simulations:
            simulation.run_until(until_ns)


def _wire(near: Simulation, peer: str, far: Simulation, name: str) -> None:
    """What the LAN of ``near`` says to ``peer`` arrives at ``far``'s as from ``name``."""
    others, life = near.outside, near.life

    def outside(time_ns: int, sender: str, receiver: str, messages: list[Any]) -> None:
        if receiver != peer:
            if others is not None:
                others(time_ns, sender, receiver, messages)
        elif not far.alive(LAN):
            near.node(sender).undelivered(receiver, messages, True)
        else:
            for message in messages:
                far.arrive(time_ns + LATENCY_NS, LAN, name, message)

    def alive(node: str, there: bool) -> None:
        if life is not None:
            life(node, there)
        if node == LAN:
            event = PeerBack(near.ram.incarnation(LAN)) if there else PeerLost(0)
            far.arrive(near.now_ns + LINK_EVENT_NS, LAN, name, event)
            if there and far.alive(LAN):
                near.arrive(near.now_ns + LINK_EVENT_NS, LAN, peer, PeerBack(1))

    near.outside, near.life = outside, alive
