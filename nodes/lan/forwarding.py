"""A frame's way through the switch: the port it enters at, learning, where it goes, how it leaves.

Source: IEEE 802.1D and 802.1Q. A port has to be up and to take data; the source address is learned
(``nodes.lan.switch``), within its VLAN (``nodes.lan.vlan``); a known destination gets the frame
alone, anything else is flooded to all other ports; a port-channel chooses one of its members
(``nodes.lan.channel``). Captures see what enters and what leaves (``nodes.lan.taps``), a faulty
cable does its work before the one and after the other (``nodes.lan.cable``). What does not come
through is counted at its port, by name.

Which ports are up, and whose frames they are, says the node (``nodes.lan.node``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bus.faults import RX, TX
from bus.messages import BadFrame, EthFrame
from bus.ram import TapRing
from bus.recorder import Recorder
from nodes.lan import lacp, trace
from nodes.lan.cable import FaultyCable
from nodes.lan.channel import PARTNERS, Channel, Partner
from nodes.lan.host import Host
from nodes.lan.page import CHANNELS_MAX, GATEWAY_PORT, IN_DROPS, LAN_SCHEMA, PORTS
from nodes.lan.switch import MacTable
from nodes.lan.taps import PortTaps
from nodes.lan.vlan import Vlans
from nodes.ledger import classify, packet_key
from nodes.machine import GATEWAY, MachineSettings

MIN_FRAME = 60
_RESERVED = bytes.fromhex("0180c20000")
assert lacp  # its partners register themselves

_SLOW_PROTOCOLS = bytes.fromhex("0180c2000002")
_SLOW_TYPE = b"\x88\x09"

_CHANNEL = LAN_SCHEMA.index("channel")
_COLLECTING = LAN_SCHEMA.index("collecting")
_DISTRIBUTING = LAN_SCHEMA.index("distributing")
_IN = LAN_SCHEMA.index("frames_in")
_OUT = LAN_SCHEMA.index("frames_out")
_COPIES = LAN_SCHEMA.index("flood_copies")
_SLOW_TAKEN = LAN_SCHEMA.index("slow_taken")
_SLOW_SENT = LAN_SCHEMA.index("slow_sent")
_FLOODED = LAN_SCHEMA.index("flooded")
_IN_DROP = {name: (LAN_SCHEMA.index(name), i) for i, name in enumerate(IN_DROPS)}


class Forwarding:
    """``names`` says who is behind each port, ``post`` puts a message on the bus."""

    def __init__(
        self,
        machine: MachineSettings,
        names: list[str],
        words: memoryview,
        recorder: Recorder,
        ring: TapRing,
        post: Callable[[str, Any], None],
    ) -> None:
        self._names = names
        self._words = words
        self._recorder = recorder
        self._post = post
        #: of this turn: the time, and which events are recorded
        self.now_ns = 0
        self.trace = 0
        #: of each port: is its cable in, may frames pass
        self.inserted = [True] * PORTS
        self.link = [False] * PORTS
        #: of each port; the node makes them
        self.cables: list[FaultyCable] = []
        self.broken = False  # has any cable a fault, or frames in it?
        self._own_gateway = machine.lan.own_gateway
        self.host = Host(machine, words, recorder, partial(self.enter, GATEWAY_PORT), post)
        self.table = MacTable(words, machine.lan.ageing_s * 1_000_000_000)
        self.taps = PortTaps(ring)
        ports = {name: number for number, name in enumerate(machine.nic_names)}
        ports[GATEWAY] = GATEWAY_PORT
        vlans = {ports[port.port]: port for port in machine.lan.ports}
        self._vlans = Vlans(vlans, PORTS) if vlans else None
        #: logical number of each port: its channel's, or its own
        self.logical = list(range(PORTS))
        self.channels: dict[int, Channel] = {}
        self.partners: dict[int, Partner] = {}
        self._add_channels(machine, ports)
        self.plan()

    def _add_channels(self, machine: MachineSettings, ports: dict[str, int]) -> None:
        """Port-channels, and who decides for their members."""
        settings = machine.lan.channels
        if len(settings) > CHANNELS_MAX:
            raise ValueError(f"{len(settings)} port-channels; the switch has {CHANNELS_MAX}")
        for number, channel in enumerate(settings, PORTS):
            members = [ports[name] for name in channel.members]
            made = self.channels[number] = Channel(number, channel.name, members, channel.mode)
            if channel.mode != "static":
                partner = PARTNERS[channel.mode](made, self, machine)
                self.partners.update(dict.fromkeys(members, partner))
            for port in members:
                self.logical[port] = number
                self._words[_CHANNEL + port] = number

    def plan(self) -> None:
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
        self.plan()

    def emit(self, port: int, frame: bytes) -> None:
        """A frame of the switch itself out of one port."""
        if self.link[port]:
            kind = classify(frame)
            self._words[_SLOW_SENT + 3 * port + kind] += 1
            self._out(port, kind, frame)

    # -- frames

    def enter(self, port: int, frame: bytes, kind: int = -1) -> None:
        """A frame enters at ``port``; ``kind`` is known once it came through a faulty cable."""
        words = self._words
        if kind < 0:
            kind = classify(frame)
            words[_IN + 3 * port + kind] += 1
            if self.trace >> trace.IN & 1:
                self._recorder.record(self.now_ns, trace.IN, a=packet_key(frame), b=port)
            if self.broken and self.link[port] and self.cables[port].busy:
                self.cables[port].enter(TX, kind, frame, self.now_ns)
                return
        if self.taps.ports:
            self.taps.see(self.now_ns, port, frame, outgoing=False)
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
            if self.table.learn(source, logical, self.now_ns) and self.trace >> trace.LEARN & 1:
                address = int.from_bytes(source[-6:], "big")
                self._recorder.record(self.now_ns, trace.LEARN, a=address, b=logical)
            self._forward(logical, port, kind, frame, vid)

    def enter_bad(self, port: int, frame: bytes) -> None:
        """Bits flipped in the cable from another switch."""
        kind = classify(frame)
        self._words[_IN + 3 * port + kind] += 1
        self._drop("fault_fcs", port, kind, frame)

    def _why_no_link(self, port: int) -> str:
        if not self.inserted[port]:
            return "in_drop_cable_out"
        return "in_drop_port_down" if self.cables[port].shut else "in_drop_no_light"

    def _from_member(self, port: int, kind: int, frame: bytes) -> bool:
        """Is it data that this member of a port-channel takes?"""
        if frame[:6] == _SLOW_PROTOCOLS and frame[12:14] == _SLOW_TYPE and port in self.partners:
            self._words[_SLOW_TAKEN + 3 * port + kind] += 1
            self.partners[port].receive(port, frame, self.now_ns)
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
        target = self.table.find(address, self.now_ns)
        if target is None:
            self._flood(logical, port, kind, frame, vid)
        elif target == logical:
            self._drop("in_drop_same_port", port, kind, frame)
        else:  # its port is up: addresses behind a port that goes down are forgotten at once
            if self.trace >> trace.FORWARD & 1:
                self._recorder.record(
                    self.now_ns, trace.FORWARD, a=packet_key(frame), b=port << 16 | target
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
        if self.trace >> trace.FLOOD & 1:
            self._recorder.record(
                self.now_ns, trace.FLOOD, a=packet_key(frame), b=port << 16 | len(targets)
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
        if self.taps.ports:
            self.taps.see(self.now_ns, port, frame, outgoing=True)
        if self.broken and self.cables[port].busy:
            self.cables[port].enter(RX, kind, frame, self.now_ns)
            return
        self._words[_OUT + 3 * port + kind] += 1
        if port != GATEWAY_PORT or not self._own_gateway:
            self._post(self._names[port], EthFrame(frame))
        else:
            self.host.take(kind, frame, self.now_ns)

    def arrive(self, port: int, way: int, kind: int, frame: bytes, bad: bool) -> None:
        """A frame came through the faulty cable of ``port``."""
        if way == RX and not self.link[port]:
            self._drop("out_drop_no_link", port, kind, frame)
        elif bad and (way == TX or not self._names[port]):  # the gateway's own cable
            self._drop("fault_fcs", port, kind, frame)
        elif way == TX:
            self.enter(port, frame, kind)
        else:
            self._words[_OUT + 3 * port + kind] += 1
            if not self._names[port]:
                self.host.take(kind, frame, self.now_ns)
            else:
                self._post(self._names[port], BadFrame(frame) if bad else EthFrame(frame))

    def drop_at(self, port: int, reason: str, kind: int, frame: bytes) -> None:
        self._drop(reason, port, kind, frame)

    def _drop(self, reason: str, port: int, kind: int, frame: bytes) -> None:
        at, number = _IN_DROP[reason]
        self._words[at + 3 * port + kind] += 1
        if self.trace >> trace.DROP & 1:
            self._recorder.record(self.now_ns, trace.DROP, number, packet_key(frame), port)
