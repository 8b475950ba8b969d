"""The verb ``fault``: breaks a part of a device, lists what is broken, mends it.

It acts on the device alone; the kernel has to notice. Faults of a cable (``loss``, ``silent``, ...)
are the switch's to keep, by the name of the NIC at the other end or as ``lan:1``; the gateway has a
cable, too: ``gateway`` or ``lan:gateway``. A fault with ``--for`` is ended by the device itself, so
that it ends also when nobody waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import NamedTuple

from bus.faults import KINDS, NIC, PORT, Kind, show
from nodes.machine import GATEWAY, LAN, MachineSettings
from orchestrator import faults
from orchestrator.configuration.tomlfile import duration_ns
from orchestrator.errors import OK, BottomhalfError, words
from orchestrator.faults import Place
from orchestrator.machines.machine import Machine
from orchestrator.session import Session, Steps, Wait
from orchestrator.verbs import parse, usage
from orchestrator.verbs.targets import GATEWAY_PORT, check, port_nic, resolve

LIST, CLEAR = "list", "clear"
#: A kind of fault, and the mode of the port-channels that can have it.
LACP = "lacp"


class Line(NamedTuple):
    """A command line that says something: a target or ``list`` or ``clear``, and what follows."""

    head: str
    rest: list[str]
    length_ns: int
    json: bool


def fault(session: Session, argv: Sequence[str]) -> Steps:
    """One command line."""
    line = _read(argv)
    session.json |= line.json
    if line.head == LIST:
        return _list(session)
    if line.head == CLEAR:
        return (yield from _clear(session, line.rest))
    return (yield from _break(session, line.head, line.rest, line.length_ns))


def _read(argv: Sequence[str]) -> Line:
    given = parse("fault", argv, ("--json",), ("--for",))
    if not given.words:
        raise BottomhalfError("fault in what?", usage("fault"))
    head, *rest = given.words
    length = given.value("--for")
    if head in (LIST, CLEAR) and length is not None:
        raise BottomhalfError(f"fault {head} takes no --for", usage("fault"))
    if head == LIST and rest:
        raise BottomhalfError("fault list takes no target", usage("fault"))
    if head == CLEAR and len(rest) > 2:
        raise BottomhalfError("fault clear takes a target and a kind", usage("fault"))
    return Line(head, rest, _length(length), "--json" in given.flags)


def _length(text: str | None) -> int:
    if text is None:
        return 0
    length = duration_ns(text)
    if not length:
        raise BottomhalfError(f"fault --for: `{text}` is not a length of time", "--for 2s")
    return length


def check_words(settings: MachineSettings, argv: Sequence[str]) -> None:
    """A step of a scenario: the same messages, before anything runs."""
    line = _read(argv)
    clear = line.head == CLEAR
    said = line.rest if clear else [line.head, *line.rest]
    if line.head == LIST or not said:
        return
    where, *kinds = said
    if where == GATEWAY_PORT:
        where = GATEWAY
    if where != GATEWAY:
        check(settings, where)
    where = port_nic(settings, where) or where
    known = where == GATEWAY or where in settings.node_names
    targets = [p.target for p in faults.places(settings, where)] if known else [NIC, PORT]
    if clear:
        for word in kinds:
            faults.kind_of(word, targets)
    else:
        found = _wanted(where, targets, kinds)
        if known:
            _check_lacp(settings, where, found)


def _wanted(where: str, targets: Sequence[str], kinds: Sequence[str]) -> list[tuple[Kind, int]]:
    """Kinds and values for what has places of these sorts."""
    if not targets:
        if where == LAN:
            example = f"{LAN}:1, or the NIC at its other end; kinds: bottomhalf fault --help"
            raise BottomhalfError("fault: the switch breaks a port at a time", example)
        raise BottomhalfError(
            f"fault: there is no fault for {where} yet",
            f"kill {where} · freeze {where}; kinds: bottomhalf fault --help",
        )
    if not kinds:
        able = [name for target in targets for name in faults.kinds_of(target)]
        raise BottomhalfError(f"fault {where}: which one?", f"kinds: {words(able)}")
    return [faults.wanted(word, targets, where) for word in kinds]


def _check_lacp(settings: MachineSettings, name: str, kinds: Sequence[tuple[Kind, int]]) -> None:
    """What nobody speaks, nobody speaks wrongly."""
    speaks = {nic for c in settings.lan.channels if c.mode == LACP for nic in c.members}
    if name not in speaks and any(kind.name == LACP for kind, _ in kinds):
        raise BottomhalfError(
            f"fault {LACP}: the port of {name} is in no port-channel that speaks LACP",
            f"ports that do: {words(sorted(speaks))}" if speaks else "bottomhalf up bond-lacp -d",
        )


# ---------------------------------------------------------------- break


def _targets(machine: Machine, words: Sequence[str]) -> list[str]:
    """Nodes; and the gateway, which has a cable."""
    at_gateway = list(words) in ([GATEWAY], [GATEWAY_PORT])
    return [GATEWAY] if at_gateway else resolve(machine, words)


def _break(session: Session, where: str, kinds: Sequence[str], length_ns: int) -> Steps:
    machine = session.machine
    plan: list[tuple[Place, Kind, int]] = []
    for node in _targets(machine, [where]):
        places = faults.places(machine.settings, node)
        found = _wanted(node, [place.target for place in places], kinds)
        _check_lacp(machine.settings, node, found)
        for kind, value in found:
            place = next(place for place in places if place.target in kind.targets)
            plan.append((place, kind, value))
    for place, _, _ in plan:
        _reachable(machine, place.node)
    for place, kind, value in plan:
        yield from _ask(session, place, kind.name, value, length_ns, True)
        text = show(kind, value)
        until = f" for {length_ns / 1e9:g} s" if length_ns else ""
        session.did(
            f"{place.name} has fault {text}{until}",
            f"fault clear {place.name} {kind.name}",
            node=place.name, fault=text, for_ns=length_ns or None,
        )  # fmt: skip
    return OK


def _reachable(machine: Machine, node: str) -> None:
    state = machine.state(node)
    if not state.alive:
        raise BottomhalfError(
            f"{node} is dead; its faults died with it", f"bottomhalf restart {node}"
        )
    if state.frozen:
        raise BottomhalfError(f"{node} is frozen and takes nothing", f"bottomhalf thaw {node}")


def _ask(
    session: Session, place: Place, kind: str, value: int, length_ns: int, on: bool
) -> Generator[Wait, None, int]:
    asked = session.machine.fault(place.node, kind, value, length_ns, on, place.port)
    request = yield from session.answer(asked)
    if request.failed or not request.ok:
        raise BottomhalfError(
            f"fault {place.name}: {request.failed or request.value}", "bottomhalf fault list"
        )
    mended: int = request.value
    return mended


# ---------------------------------------------------------------- clear


def _clear(session: Session, rest: Sequence[str]) -> Steps:
    machine = session.machine
    settings = machine.settings
    nodes, kind = list(faults.names(settings)), ""
    if rest:
        nodes = _targets(machine, rest[:1])
        for node in nodes:
            places = faults.places(settings, node)
            if rest[1:]:
                kind = faults.kind_of(rest[1], [place.target for place in places]).name
            for place in _concerned(places, kind):
                _reachable(machine, place.node)
    mended = 0
    for node in nodes:
        for place in _concerned(faults.places(settings, node), kind):
            state = machine.state(place.node)
            if not state.alive or state.frozen:
                continue
            before = [f.text for f in faults.at(machine.ram, settings, place)
                      if kind in ("", f.kind.name)]  # fmt: skip
            if place.target == PORT and not before:
                continue
            count = yield from _ask(session, place, kind, 0, 0, False)
            mended += count
            if count:
                text = " ".join(before)
                session.did(f"{place.name}: mended {text}", node=place.name, mended=text)
    if not mended:
        session.did("no fault to mend", node=None, mended="")
    return OK


def _concerned(places: Sequence[Place], kind: str) -> list[Place]:
    """Those that can have this kind (any, if it is none)."""
    return [p for p in places if not kind or p.target in KINDS[kind].targets]


# ---------------------------------------------------------------- list


def _list(session: Session) -> int:
    """All that is broken now, whoever broke it: what the box on ``top`` shows."""
    from orchestrator.dashboards import facts  # noqa: PLC0415  (rich is slow to import)
    from orchestrator.verbs.process import view_of  # noqa: PLC0415

    broken = facts.breaks(view_of(session.machine))
    if session.json:
        session.out(json.dumps([b._asdict() for b in broken]) + "\n")
    elif not broken:
        session.out("nothing is broken\n")
    else:
        width = max(len(b.what) for b in broken)
        for b in broken:
            mend = f"bottomhalf {session.on}{b.mend}"
            session.out(f"{b.node:<6} {b.what:<{width}}  mend: {mend}\n")
    return OK
