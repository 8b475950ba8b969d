"""The LAN: a switch with a port for each NIC, a cable in each port, and a gateway behind the last.

A port has a link while its cable is in, it is not shut, and light comes from the NIC
(``LinkState``); a NIC that dies stops sending light. The switch itself always sends light into a
cable that is in. Cables are pulled and plugged by ``Cable`` messages of the orchestrator; a frame
that is on its way then ends at the switch, by name. ``Fault`` messages break ports and cables
(``nodes.lan.cable``).

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

from bus.faults import PORT, ROW_WORDS, ROWS, RX, TX
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
from nodes.lan.channel import PARTNERS, Channel, Partner
from nodes.lan.host import Host
from nodes.lan.page import (
    CHANNELS_MAX,
    GATEWAY_PORT,
    IN_DROPS,
    LAN_SCHEMA,
    NICS_MAX,
    PORTS,
)
from nodes.lan.snapshot import SNAPSHOTS
from nodes.lan.switch import MacTable
from nodes.lan.vlan import Vlans
from nodes.ledger import classify, packet_key
from nodes.machine import CONTROL, GATEWAY, OUTSIDE, UPLINK, MachineSettings

SPEED_MBPS = 10000
MIN_FRAME = 60
_RESERVED = bytes.fromhex("0180c20000")
_SLOW_PROTOCOLS = bytes.fromhex("0180c2000002")
_SLOW_TYPE = b"\x88\x09"

_CABLE = LAN_SCHEMA.index("cable")
_LIGHT = LAN_SCHEMA.index("light")
_LINK = LAN_SCHEMA.index("link")
_LINK_CHANGES = LAN_SCHEMA.index("link_changes")
_CHANNEL = LAN_SCHEMA.index("channel")
_COLLECTING = LAN_SCHEMA.index("collecting")
_DISTRIBUTING = LAN_SCHEMA.index("distributing")
_FAULTS = LAN_SCHEMA.index("faults")
_IN = LAN_SCHEMA.index("frames_in")
_OUT = LAN_SCHEMA.index("frames_out")
_COPIES = LAN_SCHEMA.index("flood_copies")
_SLOW_TAKEN = LAN_SCHEMA.index("slow_taken")
_SLOW_SENT = LAN_SCHEMA.index("slow_sent")
_FLOODED = LAN_SCHEMA.index("flooded")
_UNEXPECTED = LAN_SCHEMA.index("unexpected")
_IN_DROP = {name: (LAN_SCHEMA.index(name), i) for i, name in enumerate(IN_DROPS)}
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
        self._trace = 0
        self._now_ns = self.clock()
        #: who is behind each port, by its name on the bus
        self.names = [*machine.nic_names, *[""] * (PORTS - len(machine.nics))]
        self._number = {name: n for n, name in enumerate(machine.nic_names)}
        self._ports = {**self._number, GATEWAY: GATEWAY_PORT}
        self._own_gateway = not machine.lan.uplink
        if machine.lan.uplink:
            self.names[GATEWAY_PORT] = UPLINK
            self._number[UPLINK] = GATEWAY_PORT
        from_gateway = partial(self._frame, GATEWAY_PORT)
        self.host = Host(machine, words, self._recorder, from_gateway, self.post)
        self.table = MacTable(words, machine.lan.ageing_s * 1_000_000_000)
        words[LAN_SCHEMA.index("ageing_s")] = machine.lan.ageing_s
        vlans = {self._ports[port.port]: port for port in machine.lan.ports}
        self._vlans = Vlans(vlans, PORTS) if vlans else None
        self._cable = [True] * PORTS
        self._light = [False] * PORTS
        self._there = [False] * PORTS
        self.link = [False] * PORTS
        self._cables = [self._faulty_cable(port, around) for port in range(PORTS)]
        self._broken = False  # has any cable a fault, or frames in it?
        self._timed = False  # is there anything to wake up for?
        self._channels(machine)
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
        arrive, drop = partial(self._arrive, port), partial(self._drop_at, port)
        return FaultyCable(self._words, port, faults, around.rng, arrive, drop)

    def _channels(self, machine: MachineSettings) -> None:
        """Port-channels, and who decides for their members."""
        settings = machine.lan.channels
        if len(settings) > CHANNELS_MAX:
            raise ValueError(f"{len(settings)} port-channels; the switch has {CHANNELS_MAX}")
        #: logical number of each port: its channel's, or its own
        self.logical = list(range(PORTS))
        self.channels: dict[int, Channel] = {}
        self._partners: dict[int, Partner] = {}
        for number, channel in enumerate(settings, PORTS):
            members = [self._number[name] for name in channel.members]
            made = self.channels[number] = Channel(number, channel.name, members, channel.mode)
            if channel.mode != "static":
                partner = PARTNERS[channel.mode](made, self, machine)
                self._partners.update(dict.fromkeys(members, partner))
                self._timed = True
            for port in members:
                self.logical[port] = number
                self._words[_CHANNEL + port] = number
        self._plan()

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        self._now_ns = self.clock()
        self._trace = self.host.trace = self._recorder.mask
        if self._timed:
            self._tick()
        number = self._number
        for sender, message in inbox:
            kind = type(message)
            if kind is EthFrame and sender in number:
                self._frame(number[sender], message.frame)
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
        if self._broken:
            for cable in self._cables:
                if cable.busy:
                    cable.run(now_ns)
            self._broken = any(cable.busy for cable in self._cables)
        if self.host.pings:
            self.host.tick(now_ns)
        for partner in dict.fromkeys(self._partners.values()):
            due = partner.next_ns()
            if due is not None and due <= now_ns:
                partner.tick(now_ns)

    def _wake(self) -> int | None:
        self._timed = bool(self._broken or self.host.pings or self._partners)
        due = self.host.next_ns()
        if self._broken:
            due = min(due, *(cable.next_ns() for cable in self._cables))
        for partner in self._partners.values():
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
            if port in self._partners:
                self._partners[port].link(port, link, self._now_ns)
            elif self.logical[port] != port:
                self.mux(port, link, link)
            elif not link:
                self.table.flush(port)
            self._plan()
        words[_LINK + port] = link

    def _plan(self) -> None:
        """Where a frame that came by each logical port is flooded to."""
        ports = [n for n in range(PORTS) if self.link[n] and self.logical[n] == n]
        ports += [number for number, channel in self.channels.items() if channel.active]
        self._others = {
            source: [port for port in ports if port != source]
            for source in (*range(PORTS), *self.channels)
        }

    def mux(self, port: int, collecting: bool, distributing: bool) -> None:
        """What a member of a port-channel does with data from now on."""
        channel = self.channels[self.logical[port]]
        channel.mux(port, collecting, distributing)
        self._words[_COLLECTING + port] = collecting
        self._words[_DISTRIBUTING + port] = distributing
        if not channel.active:
            self.table.flush(channel.number)
        self._plan()

    def emit(self, port: int, frame: bytes) -> None:
        """A frame of the switch itself out of one port."""
        if self.link[port]:
            kind = classify(frame)
            self._words[_SLOW_SENT + 3 * port + kind] += 1
            self._out(port, kind, frame)

    def _shine(self, port: int) -> None:
        """Tell the NIC of the light that reaches it."""
        if self._there[port]:
            light = self._cable[port] and not self._cables[port].shut
            self.post(self.names[port], LinkState(int(light), SPEED_MBPS))

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
        self._broken = any(cable.busy for cable in self._cables)
        self._timed |= self._broken

    def _fault_changed(self, port: int, kind: int, on: bool) -> None:
        self._recorder.record(self._now_ns, trace.FAULT, port, kind, int(on))
        if kind == DOWN:
            self._look(port)
            self._shine(port)

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

    # -- frames

    def _frame(self, port: int, frame: bytes, kind: int = -1) -> None:
        """A frame enters at ``port``; ``kind`` is known once it came through a faulty cable."""
        words = self._words
        if kind < 0:
            kind = classify(frame)
            words[_IN + 3 * port + kind] += 1
            if self._trace >> trace.IN & 1:
                self._recorder.record(self._now_ns, trace.IN, a=packet_key(frame), b=port)
            if self._broken and self.link[port] and self._cables[port].busy:
                self._cables[port].enter(TX, kind, frame, self._now_ns)
                return
        if not self.link[port]:
            self._drop(self._why_no_link(port), port, kind, frame)
        elif len(frame) < MIN_FRAME:
            self._drop("in_drop_undersize", port, kind, frame)
        elif frame[6] & 1:
            self._drop("in_drop_source", port, kind, frame)
        else:
            logical, vid, source = self.logical[port], 0, frame[6:12]
            if logical >= PORTS and not self._from_member(port, kind, frame):
                return
            if self._vlans is not None:
                vid, frame = self._vlans.enter(port, frame)
                if not vid:
                    self._drop("in_drop_vlan", port, kind, frame)
                    return
                source = vid.to_bytes(2, "big") + source
            if self.table.learn(source, logical, self._now_ns) and self._trace >> trace.LEARN & 1:
                address = int.from_bytes(source[-6:], "big")
                self._recorder.record(self._now_ns, trace.LEARN, a=address, b=logical)
            self._forward(logical, port, kind, frame, vid)

    def _bad_frame(self, sender: str, message: BadFrame) -> None:
        """Bits flipped in the cable from another switch."""
        port = self._number.get(sender)
        if port is None:
            self._words[_UNEXPECTED] += 1
            return
        kind = classify(message.frame)
        self._words[_IN + 3 * port + kind] += 1
        self._drop("fault_fcs", port, kind, message.frame)

    def _why_no_link(self, port: int) -> str:
        if not self._cable[port]:
            return "in_drop_cable_out"
        return "in_drop_port_down" if self._cables[port].shut else "in_drop_no_light"

    def _from_member(self, port: int, kind: int, frame: bytes) -> bool:
        """Is it data that this member of a port-channel takes?"""
        if frame[:6] == _SLOW_PROTOCOLS and frame[12:14] == _SLOW_TYPE and port in self._partners:
            self._words[_SLOW_TAKEN + 3 * port + kind] += 1
            self._partners[port].receive(port, frame, self._now_ns)
            return False
        if not self.channels[self.logical[port]].collecting[port]:
            self._drop("in_drop_not_collecting", port, kind, frame)
            return False
        return True

    def _forward(self, logical: int, port: int, kind: int, frame: bytes, vid: int) -> None:
        if frame[0] & 1:
            if frame[:5] == _RESERVED and frame[5] < 0x10:
                self._drop("in_drop_reserved", port, kind, frame)
            else:
                self._flood(logical, port, kind, frame, vid)
            return
        address = frame[:6] if not vid else vid.to_bytes(2, "big") + frame[:6]
        target = self.table.find(address, self._now_ns)
        if target is None:
            self._flood(logical, port, kind, frame, vid)
        elif target == logical:
            self._drop("in_drop_same_port", port, kind, frame)
        else:  # its port is up: addresses behind a port that goes down are forgotten at once
            if self._trace >> trace.FORWARD & 1:
                self._recorder.record(
                    self._now_ns, trace.FORWARD, a=packet_key(frame), b=port << 16 | target
                )
            self._out(target, kind, frame, vid)

    def _flood(self, logical: int, port: int, kind: int, frame: bytes, vid: int) -> None:
        targets = self._others[logical]
        if vid:
            targets = [target for target in targets if self._carries(target, vid)]
        if not targets:
            self._drop("in_drop_no_port", port, kind, frame)
            return
        words = self._words
        words[_FLOODED] += 1
        words[_COPIES + kind] += len(targets) - 1
        if self._trace >> trace.FLOOD & 1:
            self._recorder.record(
                self._now_ns, trace.FLOOD, a=packet_key(frame), b=port << 16 | len(targets)
            )
        for target in targets:
            self._out(target, kind, frame, vid)

    def _carries(self, logical: int, vid: int) -> bool:
        port = logical if logical < PORTS else self.channels[logical].members[0]
        return self._vlans is None or self._vlans.carries(port, vid)

    def _out(self, port: int, kind: int, frame: bytes, vid: int = 0) -> None:
        """A frame leaves by a port or a port-channel."""
        if port >= PORTS:
            channel = self.channels[port]
            if not channel.active:  # it collects, but does not distribute (yet)
                self._drop("out_drop_no_link", channel.members[0], kind, frame)
                return
            port = channel.pick(frame)
        if vid and self._vlans is not None:
            frame = self._vlans.leave(port, vid, frame)
        if self._broken and self._cables[port].busy:
            self._cables[port].enter(RX, kind, frame, self._now_ns)
            return
        self._words[_OUT + 3 * port + kind] += 1
        if port != GATEWAY_PORT or not self._own_gateway:
            self.post(self.names[port], EthFrame(frame))
        else:
            self.host.take(kind, frame, self._now_ns)

    def _arrive(self, port: int, way: int, kind: int, frame: bytes, bad: bool) -> None:
        """A frame came through the faulty cable of ``port``."""
        if way == RX and not self.link[port]:
            self._drop("out_drop_no_link", port, kind, frame)
        elif bad and (way == TX or not self.names[port]):  # the gateway's own cable
            self._drop("fault_fcs", port, kind, frame)
        elif way == TX:
            self._frame(port, frame, kind)
        else:
            self._words[_OUT + 3 * port + kind] += 1
            if not self.names[port]:
                self.host.take(kind, frame, self._now_ns)
            else:
                self.post(self.names[port], BadFrame(frame) if bad else EthFrame(frame))

    def _drop_at(self, port: int, reason: str, kind: int, frame: bytes) -> None:
        self._drop(reason, port, kind, frame)

    def _drop(self, reason: str, port: int, kind: int, frame: bytes) -> None:
        at, number = _IN_DROP[reason]
        self._words[at + 3 * port + kind] += 1
        if self._trace >> trace.DROP & 1:
            self._recorder.record(self._now_ns, trace.DROP, number, packet_key(frame), port)

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        port = self._number.get(peer)
        if port is None:
            return
        at = _LOST[dead] + 3 * port
        for message in messages:
            if type(message) in (EthFrame, BadFrame):
                self._words[at + classify(message.frame)] += 1
