"""The LAN: a switch with a port for each NIC, a cable in each port, and a gateway behind the last.

A port has a link while its cable is in, it is not shut, and light comes from the NIC
(``LinkState``); a NIC that dies stops sending light. The switch itself always sends light into a
cable that is in. Cables are pulled and plugged by ``Cable`` messages of the orchestrator; a frame
that is on its way then ends at the switch, by name. ``Fault`` messages break ports and cables
(``nodes.lan.cable``). All this is here; the way of a frame is ``nodes.lan.forwarding``.

Behind the last port there is the node's own gateway (``nodes.lan.host``), or an *uplink*: a frame's
way out of the machine, to a kernel's TAP device or to the switch of another machine. A machine
whose switch joined ours is a guest: its cable is in a port that no NIC needs. Both are peers on the
bus with names that begin with ``@``, and the runtime carries their frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgpack

from bus.faults import KINDS, LACP_WRONG, PORT, ROW_WORDS, ROWS
from bus.messages import (
    BadFrame,
    Cable,
    EthFrame,
    Fault,
    LinkState,
    PeerBack,
    PeerLost,
    PeerSilent,
    Reply,
    Signal,
    Snapshot,
    Spawn,
)
from bus.node import IDLE, Inbox, Node, Surroundings
from bus.recorder import Recorder
from nodes.answers import answer
from nodes.faults import NEVER_NS, Faults
from nodes.lan import trace
from nodes.lan.cable import DOWN, FaultyCable
from nodes.lan.forwarding import Forwarding
from nodes.lan.page import GATEWAY_PORT, LAN_SCHEMA, NICS_MAX, PORTS
from nodes.lan.snapshot import SNAPSHOTS
from nodes.ledger import classify
from nodes.machine import CONTROL, GATEWAY, OUTSIDE, UPLINK, MachineSettings

SPEED_MBPS = 10000

_LACP = KINDS["lacp"].number

_CABLE = LAN_SCHEMA.index("cable")
_LIGHT = LAN_SCHEMA.index("light")
_LINK = LAN_SCHEMA.index("link")
_LINK_CHANGES = LAN_SCHEMA.index("link_changes")
_FAULTS = LAN_SCHEMA.index("faults")
_UNEXPECTED = LAN_SCHEMA.index("unexpected")
_LOST = {True: LAN_SCHEMA.index("lost_dead"), False: LAN_SCHEMA.index("lost_full")}


class LanNode(Node):
    """Switch and gateway of a machine."""

    def __init__(self, around: Surroundings, machine: MachineSettings) -> None:
        super().__init__(around)
        if len(machine.nics) > NICS_MAX:
            raise ValueError(f"{len(machine.nics)} NICs; the switch has {NICS_MAX} ports for them")
        self.page = self.ram.page(self.name, LAN_SCHEMA)
        words = self._words = self.page.words
        self._recorder = Recorder(self.ram.recorder_words(self.name))
        #: who is behind each port, by its name on the bus
        self.names = [*machine.nic_names, *[""] * (PORTS - len(machine.nics))]
        self._number = {name: n for n, name in enumerate(machine.nic_names)}
        self._ports = {**self._number, GATEWAY: GATEWAY_PORT}
        self._own_gateway = machine.lan.own_gateway
        if not self._own_gateway:
            self.names[GATEWAY_PORT] = UPLINK
            self._number[UPLINK] = GATEWAY_PORT
        ring = self.ram.tap(self.ram.layout.cpus)
        self.forwarding = Forwarding(machine, self.names, words, self._recorder, ring, self.post)
        self._now_ns = self.forwarding.now_ns = self.clock()
        self.forwarding.cables = [self._faulty_cable(port, around) for port in range(PORTS)]
        self._cable, self.link = self.forwarding.inserted, self.forwarding.link
        self._cables, self.partners = self.forwarding.cables, self.forwarding.partners
        self.host = self.forwarding.host
        words[LAN_SCHEMA.index("ageing_s")] = machine.lan.ageing_s
        self._light = [False] * PORTS
        self._there = [False] * PORTS
        self._timed = bool(self.partners)  # is there anything to wake up for?
        words[LAN_SCHEMA.index("ports")] = len(machine.nics)
        self._light[GATEWAY_PORT] = self._own_gateway
        for port in (*range(len(machine.nics)), GATEWAY_PORT):
            self._look(port)
        self._handlers: dict[type[Any], Callable[[str, Any], None]] = {
            BadFrame: self._bad_frame,
            LinkState: self._link_state,
            PeerBack: self._peer_back,
            PeerLost: self._peer_lost,
            PeerSilent: lambda sender, message: None,
            Cable: self._hand,
            Fault: self._fault,
            Spawn: self._spawn,
            Signal: self._signal,
            Snapshot: lambda sender, m: self.post(sender, answer(m, SNAPSHOTS, self)),
        }

    def _faulty_cable(self, port: int, around: Surroundings) -> FaultyCable:
        at = _FAULTS + port * ROWS * ROW_WORDS
        changed = partial(self._fault_changed, port)
        faults = Faults(self._words, at, PORT, around.rng, changed)
        forwarding = self.forwarding
        arrive, drop = partial(forwarding.arrive, port), partial(forwarding.drop_at, port)
        return FaultyCable(self._words, port, faults, around.rng, arrive, drop)

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        self._now_ns = self.forwarding.now_ns = self.clock()
        self.forwarding.trace = self.host.trace = self._recorder.mask
        self.forwarding.taps.look()
        if self._timed:
            self._tick()
        number, enter = self._number, self.forwarding.enter
        for sender, message in inbox:
            kind = type(message)
            if kind is EthFrame and sender in number:
                enter(number[sender], message.frame)
            else:
                handler = self._handlers.get(kind)
                if handler is None:
                    self._words[_UNEXPECTED] += 1
                else:
                    handler(sender, message)
        self.steps = len(inbox)
        return self._wake() if self._timed else IDLE

    # -- time

    def _tick(self) -> None:
        """Whatever waits for its time: frames in cables, faults' ends, pings, partners."""
        now_ns = self._now_ns
        if self.forwarding.broken:
            for cable in self._cables:
                if cable.busy:
                    cable.run(now_ns)
            self.forwarding.broken = any(cable.busy for cable in self._cables)
        if self.host.pings:
            self.host.tick(now_ns)
        for partner in dict.fromkeys(self.partners.values()):
            due = partner.next_ns()
            if due is not None and due <= now_ns:
                partner.tick(now_ns)

    def _wake(self) -> int | None:
        self._timed = bool(self.forwarding.broken or self.host.pings or self.partners)
        due = self.host.next_ns()
        if self.forwarding.broken:
            due = min(due, *(cable.next_ns() for cable in self._cables))
        for partner in self.partners.values():
            due = min(due, partner.next_ns() or NEVER_NS)
        return due if due < NEVER_NS else IDLE

    # -- ports

    def _look(self, port: int) -> None:
        """Bring the page and the link in line with cable, light and faults."""
        words = self._words
        words[_CABLE + port] = self._cable[port]
        words[_LIGHT + port] = self._light[port]
        link = self._cable[port] and self._light[port] and not self._cables[port].shut
        if link != self.link[port]:
            self.link[port] = link
            words[_LINK_CHANGES + port] += 1
            self._recorder.record(self._now_ns, trace.LINK, a=link, b=port)
            if port in self.partners:
                self.partners[port].link(port, link, self._now_ns)
            elif self.forwarding.logical[port] != port:
                self.forwarding.mux(port, link, link)
            elif not link:
                self.forwarding.table.flush(port)
            self.forwarding.plan()
        words[_LINK + port] = link

    def _shine(self, port: int) -> None:
        """Tell the NIC of the light that reaches it."""
        if self._there[port]:
            light = self._cable[port] and not self._cables[port].shut
            self.post(self.names[port], LinkState(int(light), SPEED_MBPS))

    def _bad_frame(self, sender: str, message: BadFrame) -> None:
        """Bits flipped in the cable from another switch."""
        port = self._number.get(sender)
        if port is None:
            self._words[_UNEXPECTED] += 1
            return
        self.forwarding.enter_bad(port, message.frame)

    def _link_state(self, sender: str, message: LinkState) -> None:
        port = self._number.get(sender)
        if port is None:
            self._words[_UNEXPECTED] += 1
            return
        self._light[port] = bool(message.up)
        self._look(port)

    def _peer_back(self, sender: str, message: PeerBack) -> None:
        if sender not in self._number and sender[:1] == OUTSIDE:
            self._welcome(sender)
        port = self._number.get(sender)
        if port is not None:
            if self._there[port]:  # a successor without a farewell; else it may have shone already
                self._light[port] = False
            self._there[port] = True
            self._look(port)
            self._shine(port)

    def _peer_lost(self, sender: str, message: PeerLost) -> None:
        port = self._number.get(sender)
        if port is not None:
            self._there[port] = False
            self._light[port] = False
            self._look(port)

    def _welcome(self, guest: str) -> None:
        """A machine joins: its cable goes into the first port that is free, and stays its own."""
        port = next((n for n in range(NICS_MAX) if not self.names[n]), None)
        if port is not None:
            self.names[port] = guest
            self._number[guest] = self._ports[guest[1:]] = port
            guests = [f"{n}:{name[1:]}" for n, name in enumerate(self.names[:NICS_MAX])
                      if name[:1] == OUTSIDE]  # fmt: skip
            self.page.set_text("guests", " ".join(guests))

    # -- what the orchestrator asks for

    def _hand(self, sender: str, message: Cable) -> None:
        port = self._ports.get(message.port)
        if port is None or port == GATEWAY_PORT:
            text = f"the switch has no port for {message.port}; ports: {', '.join(self._ports)}"
            self.post(sender, Reply(message.request, 0, msgpack.packb(text)))
            return
        if self._cable[port] != bool(message.inserted):
            self._cable[port] = bool(message.inserted)
            self._recorder.record(self._now_ns, trace.CABLE, a=message.inserted, b=port)
            self._look(port)
            self._shine(port)
        self.post(sender, Reply(message.request, 1, msgpack.packb(None)))

    def _fault(self, sender: str, message: Fault) -> None:
        port = self._ports.get(message.port)
        if sender != CONTROL:
            self._words[_UNEXPECTED] += 1
            return
        if port is None:
            text = f"the switch has no port {message.port}; ports: {', '.join(self._ports)}"
            self.post(sender, Reply(message.request, 0, msgpack.packb(text)))
            return
        self.post(sender, self._cables[port].faults.take(message, self._now_ns))
        self.forwarding.broken = any(cable.busy for cable in self._cables)
        self._timed |= self.forwarding.broken

    def _fault_changed(self, port: int, kind: int, on: bool) -> None:
        self._recorder.record(self._now_ns, trace.FAULT, port, kind, int(on))
        if kind == DOWN:
            self._look(port)
            self._shine(port)
        elif kind == _LACP and port in self.partners:
            value = self._cables[port].faults.value(_LACP)
            self.partners[port].speak(port, LACP_WRONG[value - 1] if value else "")

    def _spawn(self, sender: str, message: Spawn) -> None:
        if sender == CONTROL and not self._own_gateway:
            self.host.refuse(sender, message, "there is no gateway here, but an uplink", 127)
        elif sender == CONTROL:
            self.host.spawn(sender, message, self._now_ns)
            if self.host.pings:
                self._timed = True
                self.host.tick(self._now_ns)
        else:
            self._words[_UNEXPECTED] += 1

    def _signal(self, sender: str, message: Signal) -> None:
        self.host.signal(message)

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        port = self._number.get(peer)
        if port is None:
            return
        at = _LOST[dead] + 3 * port
        for message in messages:
            if type(message) in (EthFrame, BadFrame):
                self._words[at + classify(message.frame)] += 1
