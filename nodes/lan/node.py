"""The LAN: a switch with a port for each NIC, a cable in each port, and a gateway behind the last.

A port has a link while its cable is in and light comes from the NIC (``LinkState``); a NIC that
dies stops sending light. The switch itself always sends light into a cable that is in. Cables are
pulled and plugged by ``Cable`` messages of the orchestrator; a frame that is on its way then ends
at the switch, by name.

Left out: link faults (loss, delay), further machines, the uplink.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from bus.messages import (
    Cable,
    EthFrame,
    LinkState,
    PeerBack,
    PeerLost,
    PeerSilent,
    Reply,
    Snapshot,
)
from bus.node import IDLE, Inbox, Node, Surroundings
from bus.recorder import Recorder
from nodes.answers import answer
from nodes.lan import trace
from nodes.lan.gateway import ARP_ANSWER, Gateway
from nodes.lan.page import (
    GATEWAY_PORT,
    GW_DROPS,
    IN_DROPS,
    LAN_SCHEMA,
    NICS_MAX,
    PORTS,
)
from nodes.lan.switch import MacTable
from nodes.lan.taps import PortTaps
from nodes.ledger import classify, packet_key
from nodes.machine import MachineSettings

SPEED_MBPS = 10000
MIN_FRAME = 60
_RESERVED = bytes.fromhex("0180c20000")

_CABLE = LAN_SCHEMA.index("cable")
_LIGHT = LAN_SCHEMA.index("light")
_LINK = LAN_SCHEMA.index("link")
_LINK_CHANGES = LAN_SCHEMA.index("link_changes")
_IN = LAN_SCHEMA.index("frames_in")
_OUT = LAN_SCHEMA.index("frames_out")
_COPIES = LAN_SCHEMA.index("flood_copies")
_FLOODED = LAN_SCHEMA.index("flooded")
_ANSWERED = LAN_SCHEMA.index("gw_answered")
_GENERATED = LAN_SCHEMA.index("gw_generated")
_UNEXPECTED = LAN_SCHEMA.index("unexpected")
_IN_DROP = {name: (LAN_SCHEMA.index(name), i) for i, name in enumerate(IN_DROPS)}
_GW_DROP = {name: (LAN_SCHEMA.index(name), i) for i, name in enumerate(GW_DROPS)}
_LOST = {True: LAN_SCHEMA.index("lost_dead"), False: LAN_SCHEMA.index("lost_full")}


class LanNode(Node):
    """Switch and gateway of a machine."""

    def __init__(self, around: Surroundings, machine: MachineSettings) -> None:
        super().__init__(around)
        if len(machine.nics) > NICS_MAX:
            raise ValueError(f"{len(machine.nics)} NICs; the switch has {NICS_MAX} ports for them")
        self.page = self.ram.page(self.name, LAN_SCHEMA)
        self._words = self.page.words
        self._recorder = Recorder(self.ram.recorder_words(self.name))
        self._trace = 0
        self._now_ns = self.clock()
        self.names = machine.nic_names
        self._number = {name: n for n, name in enumerate(self.names)}
        self._gateway = Gateway(machine.gateway.mac, machine.gateway.addresses)
        self.table = MacTable(self._words)
        self._taps = PortTaps(self.ram.tap(self.ram.layout.cpus))
        self._cable = [True] * PORTS
        self._light = [False] * PORTS
        self._there = [False] * PORTS
        self.link = [False] * PORTS
        self._words[LAN_SCHEMA.index("ports")] = len(self.names)
        self._light[GATEWAY_PORT] = True
        for port in (*range(len(self.names)), GATEWAY_PORT):
            self._look(port)
        self._handlers: dict[type[Any], Callable[[str, Any], None]] = {
            LinkState: self._link_state,
            PeerBack: self._peer_back,
            PeerLost: self._peer_lost,
            PeerSilent: lambda sender, message: None,
            Cable: self._hand,
            Snapshot: lambda sender, m: self.post(sender, answer(m, SNAPSHOTS, self)),
        }

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        self._now_ns = self.clock()
        self._trace = self._recorder.mask
        self._taps.look()
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
        return IDLE

    # -- ports

    def _look(self, port: int) -> None:
        """Bring the page and the link in line with cable and light."""
        words = self._words
        words[_CABLE + port] = self._cable[port]
        words[_LIGHT + port] = self._light[port]
        link = self._cable[port] and self._light[port]
        if link != self.link[port]:
            self.link[port] = link
            words[_LINK_CHANGES + port] += 1
            self._recorder.record(self._now_ns, trace.LINK, a=link, b=port)
            if not link:
                self.table.flush(port)
        words[_LINK + port] = link

    def _shine(self, port: int) -> None:
        """Tell the NIC of the light that reaches it."""
        if self._there[port]:
            self.post(self.names[port], LinkState(int(self._cable[port]), SPEED_MBPS))

    def _link_state(self, sender: str, message: LinkState) -> None:
        port = self._number.get(sender)
        if port is None:
            self._words[_UNEXPECTED] += 1
            return
        self._light[port] = bool(message.up)
        self._look(port)

    def _peer_back(self, sender: str, message: PeerBack) -> None:
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

    def _hand(self, sender: str, message: Cable) -> None:
        port = self._number.get(message.port)
        if port is None:
            text = f"the switch has no port for {message.port}; ports: {', '.join(self.names)}"
            self.post(sender, Reply(message.request, 0, msgpack.packb(text)))
            return
        if self._cable[port] != bool(message.inserted):
            self._cable[port] = bool(message.inserted)
            self._recorder.record(self._now_ns, trace.CABLE, a=message.inserted, b=port)
            self._look(port)
            self._shine(port)
        self.post(sender, Reply(message.request, 1, msgpack.packb(None)))

    # -- frames

    def _frame(self, port: int, frame: bytes) -> None:
        """A frame enters at ``port``."""
        kind = classify(frame)
        words = self._words
        words[_IN + 3 * port + kind] += 1
        if self._taps.ports:
            self._taps.see(self._now_ns, port, frame, outgoing=False)
        if self._trace >> trace.IN & 1:
            self._recorder.record(self._now_ns, trace.IN, a=packet_key(frame), b=port)
        if not self.link[port]:
            reason = "in_drop_no_light" if self._cable[port] else "in_drop_cable_out"
            self._drop(reason, port, kind, frame)
        elif len(frame) < MIN_FRAME:
            self._drop("in_drop_undersize", port, kind, frame)
        elif frame[6] & 1:
            self._drop("in_drop_source", port, kind, frame)
        else:
            source = frame[6:12]
            if self.table.learn(source, port, self._now_ns) and self._trace >> trace.LEARN & 1:
                self._recorder.record(
                    self._now_ns, trace.LEARN, a=int.from_bytes(source, "big"), b=port
                )
            self._forward(port, kind, frame)

    def _forward(self, port: int, kind: int, frame: bytes) -> None:
        if frame[0] & 1:
            if frame[:5] == _RESERVED and frame[5] < 0x10:
                self._drop("in_drop_reserved", port, kind, frame)
            else:
                self._flood(port, kind, frame)
            return
        target = self.table.find(frame[:6], self._now_ns)
        if target is None:
            self._flood(port, kind, frame)
        elif target == port:
            self._drop("in_drop_same_port", port, kind, frame)
        else:  # its port is up: addresses behind a port that goes down are forgotten at once
            if self._trace >> trace.FORWARD & 1:
                self._recorder.record(
                    self._now_ns, trace.FORWARD, a=packet_key(frame), b=port << 16 | target
                )
            self._out(target, kind, frame)

    def _flood(self, port: int, kind: int, frame: bytes) -> None:
        targets = [n for n in range(PORTS) if n != port and self.link[n]]
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
            self._out(target, kind, frame)

    def _out(self, port: int, kind: int, frame: bytes) -> None:
        self._words[_OUT + 3 * port + kind] += 1
        if self._taps.ports:
            self._taps.see(self._now_ns, port, frame, outgoing=True)
        if port != GATEWAY_PORT:
            self.post(self.names[port], EthFrame(frame))
        else:
            self._to_gateway(kind, frame)

    def _drop(self, reason: str, port: int, kind: int, frame: bytes) -> None:
        at, number = _IN_DROP[reason]
        self._words[at + 3 * port + kind] += 1
        if self._trace >> trace.DROP & 1:
            self._recorder.record(self._now_ns, trace.DROP, number, packet_key(frame), port)

    def _to_gateway(self, kind: int, frame: bytes) -> None:
        words = self._words
        reply, outcome = self._gateway.take(frame)
        if reply is None:
            at, number = _GW_DROP[str(outcome)]
            words[at + kind] += 1
            if self._trace >> trace.GATEWAY_DROP & 1:
                self._recorder.record(self._now_ns, trace.GATEWAY_DROP, number, packet_key(frame))
            return
        words[_ANSWERED + kind] += 1
        if self._trace >> trace.GATEWAY & 1:
            how = 1 if outcome == ARP_ANSWER else 2
            self._recorder.record(self._now_ns, trace.GATEWAY, a=packet_key(frame), b=how)
        words[_GENERATED + classify(reply)] += 1
        self._frame(GATEWAY_PORT, reply)

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        port = self._number.get(peer)
        if port is None:
            return
        at = _LOST[dead] + 3 * port
        for message in messages:
            if type(message) is EthFrame:
                self._words[at + classify(message.frame)] += 1


def _state(lan: LanNode) -> dict[str, Any]:
    """MAC table as [address, port name, age in ms], and the ports' names."""
    names = [*lan.names, *[""] * (NICS_MAX - len(lan.names)), "gateway"]
    now_ns = lan.clock()
    return {
        "ports": [[names[n], lan.link[n]] for n in range(PORTS) if names[n]],
        "macs": [
            [address.hex(":"), names[port], age_ns // 1_000_000]
            for address, port, age_ns in lan.table.rows(now_ns)
        ],
    }


SNAPSHOTS = {"state": _state}
