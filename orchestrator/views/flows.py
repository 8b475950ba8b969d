"""The verb ``flows``: run commands, then say which wire each of their flows took, both ways.

It listens at the NICs' ports of the switch: what arrives there tells which slave the bond chose for
a flow, what leaves tells which member of a port-channel (or which learned port) the switch did. A
flow is what a hash could tell apart: addresses, protocol, ports or an echo's id. Commands are
parted by ``+`` and run one after the other. ARP is not a flow.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from bus.ram import TapPacket
from nodes.lan.taps import PORT_IFINDEX
from orchestrator.captures.capture import SETTLE_NS, TapReader, close_tap, open_tap
from orchestrator.captures.tcpdumptext import leaves
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, Steps, Wait
from orchestrator.verbs.kernel import spoken

_REST_NS = 20_000_000
_IPV4, _ICMP, _UDP = b"\x08\x00", 1, 17
_ECHO_REPLY, _ECHO = 0, 8
_KINDS = ("echo", "udp")


@dataclass
class Flow:
    """One conversation, named as this machine sends it; NICs with the number of frames."""

    protocol: str
    peer: str
    told_apart: str  # by what else: ``id 23``, ``port 40001 -> 7``
    out: dict[str, int] = field(default_factory=dict)
    back: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.protocol} {self.peer} {self.told_apart}".rstrip()


def flows(session: Session, argv: Sequence[str]) -> Steps:
    """Run the commands with a capture on the wires."""
    commands = apart(argv)
    if not commands:
        raise BottomhalfError("flows of what?", "bottomhalf flows ping -c 2 gateway + ping -c 2 m2")
    reader = TapReader(session.machine.ram)
    tap = yield from open_tap(session, "lan")
    code = 0
    try:
        for command in commands:
            code = max(code, (yield from _run(session, command)))
        yield from session.sleep(_REST_NS + SETTLE_NS)
        packets = [packet for packet in reader.rest() if tap.wants(packet)]
    finally:
        yield from close_tap(session, tap)
    found = collected(packets, session.machine.settings.nic_names)
    session.figures["flows"] = figures(found, session.machine.settings.nic_names)
    if session.json:
        session.out(json.dumps({"exit": code, "flows": [vars(flow) for flow in found]}) + "\n")
    else:
        _print(session, found)
    if reader.lost:
        session.err(f"bottomhalf: {reader.lost} packets were overwritten before they were read\n")
    return code


def apart(argv: Sequence[str]) -> list[tuple[str, ...]]:
    """Command lines between words ``+``; each may be quoted as a whole."""
    commands: list[list[str]] = [[]]
    for word in argv:
        if word == "+":
            commands.append([])
        else:
            commands[-1].append(word)
    return [spoken(command) for command in commands if command]


def _run(session: Session, command: tuple[str, ...]) -> Generator[Wait, None, int]:
    hearing = replace(session, out=lambda text: None)
    job = yield from hearing.program(command)
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf ps", code=1)
    assert job.exit_code is not None
    return job.exit_code


def collected(packets: Iterable[TapPacket], nics: Sequence[str]) -> list[Flow]:
    """The flows in the order in which they began; frames at the gateway's port are copies."""
    found: dict[tuple[str, str, str], Flow] = {}
    for packet in packets:
        port = packet.ifindex - PORT_IFINDEX
        if port >= len(nics):
            continue
        out = leaves(packet)
        key = _key(packet.data, out)
        if key is None:
            continue
        flow = found.setdefault(key, Flow(*key))
        wires = flow.out if out else flow.back
        wires[nics[port]] = wires.get(nics[port], 0) + 1
    return list(found.values())


def _key(frame: bytes, out: bool) -> tuple[str, str, str] | None:
    """Protocol, peer and what else tells it apart, the same for both directions; None: no IPv4."""
    if frame[12:14] != _IPV4 or len(frame) < 42:
        return None
    at = 14 + 4 * (frame[14] & 15)
    peer = socket.inet_ntoa(frame[30:34] if out else frame[26:30])
    protocol = frame[23]
    if frame[20] & 0x1F or frame[21]:  # a fragment that is not the first: no header in it
        return "fragment", peer, ""
    if protocol == _ICMP and frame[at] in (_ECHO, _ECHO_REPLY):
        return "echo", peer, f"id {int.from_bytes(frame[at + 4 : at + 6], 'big')}"
    if protocol == _UDP:
        ports = [int.from_bytes(frame[n : n + 2], "big") for n in (at, at + 2)]
        mine, its = ports if out else reversed(ports)
        return "udp", peer, f"port {mine} -> {its}"
    return f"protocol {protocol}", peer, ""


def figures(found: Sequence[Flow], nics: Sequence[str]) -> dict[str, int]:
    """``eth0``: flows that left by it; ``back_eth0``: that came back by it; ``split``: flows that
    left by several; ``wires``: NICs that sent any; of pings and of UDP alone ``echo_eth0``, and
    ``echo_apart``: hosts to which several such flows went by different NICs."""
    counts = {"flows": len(found), "split": sum(len(flow.out) > 1 for flow in found)}
    for kind in _KINDS:
        by_peer: dict[str, list[str]] = {}
        for flow in found:
            if flow.protocol == kind:
                by_peer.setdefault(flow.peer, []).extend(flow.out)
        counts[f"{kind}_apart"] = sum(len(dict.fromkeys(used)) > 1 for used in by_peer.values())
    for nic in nics:
        counts[nic] = sum(nic in flow.out for flow in found)
        counts[f"back_{nic}"] = sum(nic in flow.back for flow in found)
        for kind in _KINDS:
            counts[f"{kind}_{nic}"] = sum(nic in f.out for f in found if f.protocol == kind)
    counts["wires"] = sum(counts[nic] > 0 for nic in nics)
    return counts


def _print(session: Session, found: Sequence[Flow]) -> None:
    width = max([4, *(len(flow.name) for flow in found)])
    session.out(f"{'flow':<{width}}  {'leaves by':<18}  comes back by\n")
    for flow in found:
        session.out(f"{flow.name:<{width}}  {_wires(flow.out):<18}  {_wires(flow.back)}\n")


def _wires(wires: dict[str, int]) -> str:
    """``eth0 2``, or ``eth0 1, eth1 1``; ``-``: none did."""
    return ", ".join(f"{nic} {count}" for nic, count in sorted(wires.items())) or "-"


__all__ = ["Flow", "apart", "collected", "figures", "flows"]
