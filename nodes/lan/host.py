"""The host behind the last port: the gateway, its accounts, and the pings that run on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bus.messages import Signal, Spawn, TaskExit, TaskOutput
from bus.recorder import Recorder
from nodes.faults import NEVER_NS
from nodes.iputils import UsageError
from nodes.lan import trace
from nodes.lan.fragments import Fragments, split
from nodes.lan.gateway import ARP_ANSWER, ARP_TAKEN, UDP_DISCARD, UDP_ECHO, Gateway
from nodes.lan.hostping import HostPing, Options
from nodes.lan.page import GW_DROPS, LAN_SCHEMA
from nodes.ledger import classify, packet_key
from nodes.machine import LOCALHOST, MachineSettings, with_lines

PINGS_MAX = 16
_STDOUT, _STDERR = 1, 2
_USAGE_EXIT = 2
_SIGQUIT = 3

_ANSWERED = LAN_SCHEMA.index("gw_answered")
_GENERATED = LAN_SCHEMA.index("gw_generated")
_ERRORS = LAN_SCHEMA.index("gw_errors")
_NEIGHBOURS = LAN_SCHEMA.index("gw_neighbours")
_MOVED = LAN_SCHEMA.index("gw_neighbour_moved")
_PINGS = LAN_SCHEMA.index("gw_pings")
_UDP = {
    UDP_ECHO: LAN_SCHEMA.index("gw_udp_echoed"),
    UDP_DISCARD: LAN_SCHEMA.index("gw_udp_discarded"),
}
_FRAGMENTS = LAN_SCHEMA.index("gw_fragment")
_ARP = (ARP_ANSWER, ARP_TAKEN)
_DROP = {name: (LAN_SCHEMA.index(name), i) for i, name in enumerate(GW_DROPS)}


class Host:
    """``emit`` puts a frame on the gateway's cable, ``post`` a message on the bus."""

    def __init__(
        self,
        machine: MachineSettings,
        words: memoryview,
        recorder: Recorder,
        emit: Callable[[bytes], None],
        post: Callable[[str, Any], None],
    ) -> None:
        settings = machine.gateway
        self.gateway = Gateway(settings.mac, settings.addresses, settings.vlans)
        self._fragments = Fragments()
        self._words = words
        self._recorder = recorder
        self._emit = emit
        self._post = post
        # it sends nothing to itself
        self._hosts = {name: of for name, of in machine.hosts.items() if name != LOCALHOST}
        self.trace = 0  # the recorder's mask, as of this turn
        self.pings: dict[int, HostPing] = {}
        self._callers: dict[int, str] = {}

    def take(self, kind: int, frame: bytes, now_ns: int) -> None:
        """A frame arrives, already counted as handed over."""
        words = self._words
        if (
            (frame[20] & 0x3F or frame[21])
            and frame[12:14] == b"\x08\0"
            and frame[:6] == self.gateway.mac
        ):
            self._take_fragment(kind, frame, now_ns)
            return
        reply, outcome = self.gateway.take(frame)
        mask = self.trace
        if isinstance(outcome, str):
            at, number = _DROP[outcome]
            words[at + kind] += 1
            words[_ERRORS] += reply is not None
            if mask >> trace.GATEWAY_DROP & 1:
                self._recorder.record(now_ns, trace.GATEWAY_DROP, number, packet_key(frame))
        else:
            words[_ANSWERED + kind] += 1
            if mask >> trace.GATEWAY & 1:
                self._recorder.record(now_ns, trace.GATEWAY, a=packet_key(frame), b=outcome)
            if outcome in _UDP:
                words[_UDP[outcome]] += 1
            elif outcome in _ARP:
                words[_NEIGHBOURS] = len(self.gateway.neighbours)
                words[_MOVED] = self.gateway.moved
        if reply is not None:
            words[_GENERATED + classify(reply)] += 1
            self._emit(reply)
        if self.pings:
            self._tell_pings(now_ns)

    def _take_fragment(self, kind: int, frame: bytes, now_ns: int) -> None:
        """It ends here; the answer to the whole datagram leaves in pieces."""
        self._words[_FRAGMENTS + kind] += 1
        whole, size = self._fragments.take(frame, now_ns)
        if not whole:
            return
        reply, outcome = self.gateway.take(whole)
        if not isinstance(outcome, str) and outcome in _UDP:
            self._words[_UDP[outcome]] += 1
        if reply is not None:
            long = (reply[16] << 8 | reply[17]) - 20 > size
            for piece in split(reply, size) if long else (reply,):
                self._send(piece)

    def _send(self, frame: bytes) -> None:
        self._words[_GENERATED + classify(frame)] += 1
        self._emit(frame)

    # -- pings

    def spawn(self, sender: str, message: Spawn, now_ns: int) -> None:
        """Run a program: ``ping`` is all there is."""
        if message.argv[:1] != ("ping",):
            self.refuse(sender, message, f"{' '.join(message.argv[:1])}: command not found", 127)
            return
        hosts = with_lines(self._hosts, message.hosts)
        try:
            options = Options(message.argv[1:], hosts)
        except UsageError as error:
            self.refuse(sender, message, str(error), error.code)
            return
        if len(self.pings) >= PINGS_MAX:
            self.refuse(sender, message, "ping: too many run here", _USAGE_EXIT)
            return
        request = message.request

        def say(text: str) -> None:
            self._post(sender, TaskOutput(request, _STDOUT, text))

        ping = HostPing(options, request & 0xFFFF, self.gateway, hosts, now_ns, self._send, say)
        self.pings[request] = ping
        self._callers[request] = sender
        self._tidy()

    def refuse(self, sender: str, message: Spawn, text: str, code: int) -> None:
        """End a program before it began."""
        self._post(sender, TaskOutput(message.request, _STDERR, text + "\n"))
        self._post(sender, TaskExit(message.request, code))

    def signal(self, message: Signal) -> None:
        """Any signal but SIGQUIT ends a ping as SIGINT does."""
        ping = self.pings.get(message.request)
        if ping is not None and message.signo != _SIGQUIT:
            ping.finish()
            self._tidy()

    def _tell_pings(self, now_ns: int) -> None:
        heard, self.gateway.heard = self.gateway.heard, []
        for ping in list(self.pings.values()):
            for packet in heard:
                ping.hear(packet, now_ns)
            ping.resolved(now_ns)
        self._tidy()

    def tick(self, now_ns: int) -> None:
        """Pings whose time has come."""
        for ping in list(self.pings.values()):
            if now_ns >= ping.next_ns():
                ping.tick(now_ns)
        self._tidy()

    def next_ns(self) -> int:
        return min((ping.next_ns() for ping in self.pings.values()), default=NEVER_NS)

    def _tidy(self) -> None:
        """Pings that ended say so and are gone."""
        for request, ping in list(self.pings.items()):
            if ping.exit_code is not None:
                del self.pings[request]
                self._post(self._callers.pop(request), TaskExit(request, ping.exit_code))
        self.gateway.listens = bool(self.pings)
        self._words[_PINGS] = len(self.pings)
