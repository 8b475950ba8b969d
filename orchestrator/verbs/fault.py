"""The verb ``fault``: breaks a part of a device, lists what is broken, mends it.

It acts on the device alone; the kernel has to notice. A fault with ``--for`` is ended by the device
itself, so that it ends also when nobody waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import NamedTuple

from bus.faults import NIC, Kind, show
from nodes.machine import MachineSettings
from orchestrator import faults
from orchestrator.errors import OK, BottomhalfError, words
from orchestrator.machine import Machine
from orchestrator.session import Session, Steps, Wait
from orchestrator.tomlfile import duration_ns
from orchestrator.verbs import parse, usage
from orchestrator.verbs.targets import check, resolve

LIST, CLEAR = "list", "clear"


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
    check(settings, where)
    target = faults.target_of(settings, where) if where in settings.node_names else NIC
    if clear:
        for word in kinds:
            faults.kind_of(word, [target])
    else:
        _wanted(where, target, kinds)


def _wanted(node: str, target: str, kinds: Sequence[str]) -> list[tuple[Kind, int]]:
    """Kinds and values for a node (or ``active``) of this sort."""
    able = faults.kinds_of(target)
    if not able:
        raise BottomhalfError(
            f"fault: there is no fault for {node} yet",
            f"kill {node} · freeze {node}; kinds: bottomhalf fault --help",
        )
    if not kinds:
        raise BottomhalfError(f"fault {node}: which one?", f"kinds: {words(able)}")
    return [faults.wanted(word, [target]) for word in kinds]


# ---------------------------------------------------------------- break


def _break(session: Session, where: str, kinds: Sequence[str], length_ns: int) -> Steps:
    machine = session.machine
    nodes = resolve(machine, [where])
    plan: list[tuple[str, Kind, int]] = []
    for node in nodes:
        target = faults.target_of(machine.settings, node)
        plan += [(node, *found) for found in _wanted(node, target, kinds)]
    for node in nodes:
        _reachable(machine, node)
    for node, kind, value in plan:
        yield from _ask(session, node, kind.name, value, length_ns, True)
        text = show(kind, value)
        until = f" for {length_ns / 1e9:g} s" if length_ns else ""
        session.did(
            f"{node} has fault {text}{until}",
            f"fault clear {node} {kind.name}",
            node=node, fault=text, for_ns=length_ns or None,
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
    session: Session, node: str, kind: str, value: int, length_ns: int, on: bool
) -> Generator[Wait, None, int]:
    request = yield from session.answer(session.machine.fault(node, kind, value, length_ns, on))
    if request.failed or not request.ok:
        raise BottomhalfError(
            f"fault {node}: {request.failed or request.value}", "bottomhalf fault list"
        )
    mended: int = request.value
    return mended


# ---------------------------------------------------------------- clear


def _clear(session: Session, rest: Sequence[str]) -> Steps:
    machine = session.machine
    settings = machine.settings
    if rest:
        nodes = resolve(machine, rest[:1])
        kind = ""
        for node in nodes:
            if rest[1:]:
                kind = faults.kind_of(rest[1], [faults.target_of(settings, node)]).name
            if faults.target_of(settings, node):
                _reachable(machine, node)
    else:
        nodes, kind = list(settings.node_names), ""
    mended = 0
    for node in nodes:
        state = machine.state(node)
        if not faults.target_of(settings, node) or not state.alive or state.frozen:
            continue
        before = [f.text for f in faults.of(machine.ram, settings, node)
                  if kind in ("", f.kind.name)]  # fmt: skip
        count = yield from _ask(session, node, kind, 0, 0, False)
        mended += count
        if count:
            session.did(f"{node}: mended {' '.join(before)}", node=node, mended=" ".join(before))
    if not mended:
        session.did("no fault to mend", node=None, mended="")
    return OK


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
