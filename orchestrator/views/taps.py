"""The verb ``taps``: run a command, capture everywhere at once, say who saw each frame and why.

It listens on the bond, on each NIC, on ``any`` and on the NICs' ports of the switch: the last tell
which wire a frame really went over, seen or not. Each frame's captures are compared with what
the era's rule (``tapreasons``) says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bus.ram import TapPacket
from nodes.cpu.kernel.net.netdevice import LOOPBACK_IFINDEX
from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.lan.taps import PORT_IFINDEX
from orchestrator.captures.capture import SETTLE_NS, TapReader, close_tap, open_tap
from orchestrator.captures.packettext import describe
from orchestrator.captures.tcpdumptext import device_name, leaves, side_by_side
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, Steps
from orchestrator.verbs.kernel import spoken
from orchestrator.verbs.targets import active_slave
from orchestrator.views import tapreasons
from orchestrator.views.tapreasons import ACTIVE, ALONE, ANY, BOND, ELSEWHERE, HERE, INACTIVE, OUT

#: Modes in which no slave is ever inactive.
_ALL_ACTIVE = ("balance-rr", "balance-xor", "broadcast")
#: Sightings of one frame lie closer together than this (processes on a busy host are slow).
_SAME_NS = 300_000_000
_REST_NS = 20_000_000
_TEXT_WIDTH = 79


@dataclass
class Frame:
    """One frame on one wire (or, sent by several slaves, on theirs), and who showed it."""

    number: int
    time_ns: int
    out: bool
    nics: list[str]
    data: bytes
    length: int
    seen: dict[str, list[TapPacket]] = field(default_factory=dict)  # by device tapped

    @property
    def kind(self) -> str:
        """request, reply, who_has, is_at or other."""
        if self.data[12:14] == b"\x08\x06":
            return {1: "who_has", 2: "is_at"}.get(self.data[21], "other")
        if self.data[12:14] == b"\x08\x00" and self.data[23] == 1:
            return {8: "request", 0: "reply"}.get(self.data[34], "other")
        return "other"

    @property
    def way(self) -> str:
        return f"{'out' if self.out else 'in'} {'+'.join(self.nics) or '-'}"


class World:
    """What the rules depend on."""

    def __init__(self, session: Session) -> None:
        settings = session.machine.settings
        params = with_overrides(PRESETS[settings.era], settings.overrides)
        self.rule = params.packet_tap
        self.counter = params.inactive_slave_counter
        self.era = settings.era
        self.bond = settings.bond.name if settings.bond else ""
        self.slaves = settings.bond.slaves if settings.bond else ()
        self.mode = settings.bond.mode if settings.bond else ""
        self.nics = settings.nic_names
        self.active = active_slave(session.machine) if settings.bond else None

    @property
    def devices(self) -> list[str]:
        """Where one listens."""
        return [*([self.bond] if self.bond else []), *self.nics, "any"]

    def case(self, frame: Frame) -> str:
        """Which way of the table a frame took."""
        if frame.out:
            return OUT
        if not frame.nics:
            return ACTIVE if self.bond else ALONE  # the switch's ring lost it
        if frame.nics[0] not in self.slaves:
            return ALONE
        lively = self.mode in _ALL_ACTIVE or frame.nics[0] == self.active
        return ACTIVE if lively else INACTIVE

    def reason(self, frame: Frame, device: str) -> tapreasons.Reason:
        """How often a tap on ``device`` shows the frame by the rule, and why."""
        place = HERE if device in frame.nics else ELSEWHERE
        place = {self.bond: BOND, "any": ANY}.get(device, place) if self.bond else place
        place = ANY if device == "any" else place
        by_bond = bool(frame.seen.get(self.bond)) or not frame.out
        bonded = bool(self.bond)
        found = tapreasons.reason(self.rule, self.case(frame), place, bonded, by_bond)
        nic = frame.nics[0] if frame.nics else "?"
        text = found.text.format(bond=self.bond, nic=nic, tap=device, counter=self.counter)
        extra = len(frame.nics) - 1 if frame.out and device == "any" else 0
        return tapreasons.Reason(found.times + extra, text)


def taps(session: Session, argv: Sequence[str]) -> Steps:
    """Run the command with all captures on."""
    if not argv:
        raise BottomhalfError("taps of what?", "bottomhalf taps ping -c 2 gateway")
    world = World(session)
    names = [*world.devices, "lan"]
    reader = TapReader(session.machine.ram)
    opened = []
    packets: list[TapPacket] = []
    try:
        for name in names:
            tap = yield from open_tap(session, name, promiscuous=False)
            opened.append(tap)
        # no promiscuous mode: with it a flooded frame for others would be shown as well
        hearing = replace(session, out=lambda text: None)
        job = yield from hearing.program(spoken(argv))
        yield from session.sleep(_REST_NS + SETTLE_NS)
        packets = reader.rest()
        sightings = [
            (number, packet)
            for packet in packets
            for number, tap in enumerate(opened)
            if tap.wants(packet) and packet.ifindex != LOOPBACK_IFINDEX  # it is on no wire
        ]
    finally:
        for tap in opened:
            yield from close_tap(session, tap)
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf ps", code=1)
    frames = _frames(session, world, sightings, len(names) - 1)
    session.figures["taps"] = figures(world, frames)
    if session.json:
        _print_json(session, world, frames)
    else:
        _print(session, world, frames)
    if reader.lost:
        session.err(f"bottomhalf: {reader.lost} packets were overwritten before they were read\n")
    assert job.exit_code is not None
    return job.exit_code


def _frames(
    session: Session, world: World, sightings: Sequence[tuple[int, TapPacket]], wire: int
) -> list[Frame]:
    """Rows of sightings taken apart by the wire that each copy came in by."""
    settings = session.machine.settings
    devices = world.devices
    found: list[Frame] = []
    everything = range(len(devices) + 1)
    rows = side_by_side(
        [(n, p) for n, p in sightings if not _gateways(settings.nic_names, p)],
        everything,
        _SAME_NS,
    )
    for row in rows:
        first = row.first
        wires = [settings.nic_names[packet.ifindex - PORT_IFINDEX] for packet in row.of(wire)]
        out = leaves(first)
        data, length = (first.data, first.length)
        if out:
            frames = [Frame(0, first.time_ns, True, wires, data, length)]
        else:
            frames = [
                Frame(0, packet.time_ns, False, [nic], packet.data, packet.length)
                for nic, packet in zip(wires, row.of(wire), strict=True)
            ] or [Frame(0, first.time_ns, False, [], data, length)]
        for column, packet in row.sightings:
            if column != wire:
                name = device_name(settings, packet.ifindex)
                owner = _owner(world, frames, name, devices[column])
                owner.seen.setdefault(devices[column], []).append(packet)
        found += frames
    found.sort(key=lambda frame: frame.time_ns)
    for number, frame in enumerate(found, 1):
        frame.number = number
    return found


def _gateways(nics: Sequence[str], packet: TapPacket) -> bool:
    """Seen at the gateway's port: no copy of the machine's."""
    return packet.ifindex - PORT_IFINDEX >= len(nics)


def _owner(world: World, frames: list[Frame], device: str, tap: str) -> Frame:
    """Which copy a sighting is of: the one of its device; a bond's is an active slave's, and of
    several such copies the first that has none yet."""
    for frame in frames:
        if device in frame.nics:
            return frame
    able = [frame for frame in frames if world.case(frame) != INACTIVE] or frames
    return next((frame for frame in able if tap not in frame.seen), able[0])


# ---------------------------------------------------------------- what came out


def figures(world: World, frames: Sequence[Frame]) -> dict[str, int]:
    """``reply_in_eth0``: frames of that kind on that wire; ``reply_in_eth0_any``: how often a tap
    showed them; ``surprises``: where that is not what the rule says."""
    counts: dict[str, int] = {"frames": len(frames)}
    surprises = 0
    for frame in frames:
        name = f"{frame.kind}_{frame.way.replace(' ', '_').replace('+', '_')}"
        counts[name] = counts.get(name, 0) + 1
        for device in world.devices:
            seen = len(frame.seen.get(device, ()))
            key = f"{name}_{device}"
            counts[key] = counts.get(key, 0) + seen
            surprises += seen != world.reason(frame, device).times
    counts["surprises"] = surprises
    return counts


def _cell(frame: Frame, device: str) -> str:
    seen = len(frame.seen.get(device, ()))
    word = "Out" if frame.out else "In"
    return "-" if not seen else word if seen == 1 else f"{word} {seen}x"


def _print(session: Session, world: World, frames: Sequence[Frame]) -> None:
    virtual = "   (virtual time)" if session.machine.runtime == "simulation" else ""
    active = f"; {world.active} is {world.bond}'s active slave" if world.active else ""
    session.out(f"era {world.era}, packet_tap = {world.rule}{active}{virtual}\n")
    width = max([6, *(len(device) for device in world.devices)])
    heads = "".join(f"{device:<{width}}  " for device in world.devices)
    session.out(f"  #  wire      {heads}frame\n")
    for frame in frames:
        cells = "".join(f"{_cell(frame, device):<{width}}  " for device in world.devices)
        text = describe(frame.data, frame.length)
        session.out(f"{frame.number:3}  {frame.way:<8}  {cells}{_short(text)}\n")
    cases: dict[tuple[object, ...], list[Frame]] = {}
    for frame in frames:
        reasons = tuple(world.reason(frame, device) for device in world.devices)
        shown = tuple(_cell(frame, device) for device in world.devices)
        cases.setdefault((world.case(frame), tuple(frame.nics), reasons, shown), []).append(frame)
    for same in cases.values():
        session.out(_why(world, same))


def _short(text: str) -> str:
    """Without addresses that every line repeats."""
    head, _, rest = text.partition(": ICMP ")
    return f"{head}: {rest}" if rest else text


def _why(world: World, same: Sequence[Frame]) -> str:
    """One line of reasoning for each tap."""
    from textwrap import wrap  # noqa: PLC0415

    frame = same[0]
    numbers = ", ".join(str(one.number) for one in same)
    nics = " and ".join(frame.nics) or "no wire"
    role = {ACTIVE: ", the active slave", INACTIVE: ", an inactive slave"}
    words = f"{'out' if frame.out else 'in'} by {nics}{role.get(world.case(frame), '')}"
    plural = "frames" if len(same) > 1 else "frame"
    lines = [f"{plural} {numbers}: {words}"]
    for device in world.devices:
        found = world.reason(frame, device)
        seen = len(frame.seen.get(device, ()))
        text = found.text
        if seen != found.times:
            text = f"NOT AS THE RULE SAYS ({found.times}): {text}"
        head = f"  {device:<6} {_cell(frame, device):<6} "
        parts = wrap(text, _TEXT_WIDTH - len(head))
        lines.append(head + parts[0])
        lines += [" " * len(head) + part for part in parts[1:]]
    return "\n".join(lines) + "\n"


def _print_json(session: Session, world: World, frames: Sequence[Frame]) -> None:
    rows = [
        {
            "frame": frame.number,
            "time_ns": frame.time_ns,
            "kind": frame.kind,
            "way": "out" if frame.out else "in",
            "wire": frame.nics,
            "text": describe(frame.data, frame.length),
            "taps": {
                device: {
                    "seen": len(frame.seen.get(device, ())),
                    "expected": world.reason(frame, device).times,
                    "why": world.reason(frame, device).text,
                    "as": [
                        device_name(session.machine.settings, packet.ifindex)
                        for packet in frame.seen.get(device, ())
                    ],
                }
                for device in world.devices
            },
        }
        for frame in frames
    ]
    session.out(json.dumps({"era": world.era, "rule": world.rule, "frames": rows}) + "\n")
