"""The verb ``ladder``: run commands, then draw the LACPDUs that went over the wires meanwhile.

It listens at the NICs' ports of the switch and draws a ladder for each NIC: time, who speaks, the
state it says it is in, its key, whom it has heard, and what of that is new. A rung that says what
its speaker's last one said is counted, not drawn. Commands are verbs of ours (``cable eth1 in``)
and programs, parted by ``+`` and run one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import NamedTuple

from bus.ram import TapPacket
from nodes.lan.taps import PORT_IFINDEX
from nodes.slowproto import (
    COLLECTING,
    DEFAULTED,
    DISTRIBUTING,
    EXPIRED,
    STATE_NAMES,
    SYNCHRONIZATION,
    PortParams,
    lacpdu_from,
)
from orchestrator.captures.capture import SETTLE_NS, TapReader, close_tap, open_tap
from orchestrator.captures.tcpdumptext import leaves
from orchestrator.errors import BottomhalfError
from orchestrator.session import Session, Steps
from orchestrator.views.flows import apart

#: A letter for each bit of a state, as tcpdump's and wireshark's; ``.``: not set.
LETTERS = "ATGSCDFE"
LEGEND = ", ".join(
    f"{letter} {name}" for letter, name in zip(LETTERS, STATE_NAMES, strict=True)
).replace("_", " ")
#: The mode of a bond that speaks LACP.
LACP_MODE = "802.3ad"
_TRAFFIC = COLLECTING | DISTRIBUTING
_WIDTH = 79


class Rung(NamedTuple):
    """One LACPDU: when after the begin, on which NIC's wire, from the bond or from the switch."""

    ms: float
    nic: str
    out: bool
    actor: PortParams
    partner: PortParams


def ladder(session: Session, argv: Sequence[str]) -> Steps:
    """Run the commands with a capture on the wires."""
    commands = apart(argv)
    if not commands:
        raise BottomhalfError("the ladder of what?", "bottomhalf ladder sleep 3")
    nics = session.machine.settings.nic_names
    reader = TapReader(session.machine.ram)
    tap = yield from open_tap(session, "lan")
    begin_ns, code = session.machine.now_ns(), 0
    quiet = replace(session, out=lambda text: None)
    try:
        for command in commands:
            code = max(code, (yield from _run(quiet, command)))
        yield from session.sleep(SETTLE_NS)
        packets = [packet for packet in reader.rest() if tap.wants(packet)]
    finally:
        yield from close_tap(session, tap)
    found = rungs(packets, nics, begin_ns)
    session.figures["ladder"] = figures(found, nics)
    if session.json:
        session.out(json.dumps({"exit": code, "rungs": [_row(rung) for rung in found]}) + "\n")
    else:
        session.out("\n".join(draw(found, nics)) + "\n")
        bond = session.machine.settings.bond
        if not found and (bond is None or bond.mode != LACP_MODE):
            session.err("a bond speaks LACP in mode 802.3ad: bottomhalf up bond-lacp -d\n")
    return code


def _run(session: Session, command: tuple[str, ...]) -> Steps:
    """A verb of ours, or a program of the machine."""
    from orchestrator import verbs  # noqa: PLC0415  (it names this module)

    if command[0] in verbs.TABLE:
        return (yield from verbs.start(session, list(command)))
    job = yield from session.program(command)
    return job.exit_code or 0


def rungs(packets: Iterable[TapPacket], nics: Sequence[str], begin_ns: int) -> list[Rung]:
    """The LACPDUs among them, in the order of time; what Linux would not take for one is none."""
    found = []
    for packet in packets:
        port = packet.ifindex - PORT_IFINDEX
        pdu = lacpdu_from(packet.data, strict=False) if port < len(nics) else None
        if pdu is not None:
            ms = (packet.time_ns - begin_ns) / 1e6
            found.append(Rung(ms, nics[port], leaves(packet), pdu.actor, pdu.partner))
    return found


def figures(found: Sequence[Rung], nics: Sequence[str]) -> dict[str, int]:
    """Of each NIC: PDUs that the bond (``eth0_out``) and the switch (``eth0_in``) sent; the state
    that each said last (``eth0_bond``, ``eth0_switch``); PDUs of the bond that said expired and
    defaulted; ``eth0_agreed_ms``: when both had said that they collect and distribute."""
    counts: dict[str, int] = {"pdus": len(found)}
    for nic in nics:
        mine = [rung for rung in found if rung.nic == nic]
        last: dict[bool, int] = {}
        for rung in mine:
            last[rung.out] = rung.actor.port_state
            both = last.get(True, 0) & last.get(False, 0) & _TRAFFIC == _TRAFFIC
            if both and f"{nic}_agreed_ms" not in counts:
                counts[f"{nic}_agreed_ms"] = round(rung.ms)
        said = [rung.actor.port_state for rung in mine if rung.out]
        counts |= {
            f"{nic}_out": len(said),
            f"{nic}_in": len(mine) - len(said),
            f"{nic}_bond": last.get(True, 0),
            f"{nic}_switch": last.get(False, 0),
            f"{nic}_expired": sum(bool(state & EXPIRED) for state in said),
            f"{nic}_defaulted": sum(bool(state & DEFAULTED) for state in said),
            f"{nic}_switch_in_sync": sum(
                bool(rung.actor.port_state & SYNCHRONIZATION) for rung in mine if not rung.out
            ),
        }
    return counts


# ---------------------------------------------------------------- the drawing


def letters(state: int) -> str:
    """``A.GS....``"""
    return "".join(letter if state >> bit & 1 else "." for bit, letter in enumerate(LETTERS))


def draw(found: Sequence[Rung], nics: Sequence[str]) -> list[str]:
    """A ladder for each NIC on whose wire there was a PDU."""
    lines = wrap(LEGEND, _WIDTH)
    for nic in nics:
        mine = [rung for rung in found if rung.nic == nic]
        if mine:
            lines += ["", f"{'ms':>9}  {nic:<6}      switch  state     key  heard", *_rungs(mine)]
    return lines if len(lines) > len(wrap(LEGEND, _WIDTH)) else ["no LACPDU on any wire"]


def _rungs(mine: Sequence[Rung]) -> list[str]:
    lines: list[str] = []
    before: dict[bool, Rung] = {}
    same = 0
    for rung in mine:
        earlier = before.get(rung.out)
        before[rung.out] = rung
        if earlier is not None and earlier[2:] == rung[2:]:
            same += 1
            continue
        lines += _more(same)
        same = 0
        arrow = "|--------->|" if rung.out else "|<---------|"
        heard = f"{rung.partner.key:<4} {letters(rung.partner.port_state)}"
        if rung.partner.system == bytes(6):
            heard = "nobody"
        head = f"{rung.ms:9.1f}  {arrow}    {letters(rung.actor.port_state)}  {rung.actor.key:<4} "
        news = wrap(_news(earlier, rung), _WIDTH - len(head) - 14) or [""]
        lines.append(f"{head}{heard:<14}{news[0]}".rstrip())
        side = f"{'':9}  |          |"
        lines += [f"{side:<{len(head) + 14}}{more}" for more in news[1:]]
    return lines + _more(same)


def _more(same: int) -> list[str]:
    words = "one more that says" if same == 1 else f"{same} more that say"
    return [f"{'':9}  |    ...   |    {words} the same"] if same else []


def _news(earlier: Rung | None, rung: Rung) -> str:
    """What its speaker had not said before."""
    if earlier is None:
        return ""
    was, now = earlier.actor.port_state, rung.actor.port_state
    words = [
        ("" if now >> bit & 1 else "not ") + name.replace("_", " ")
        for bit, name in enumerate(STATE_NAMES)
        if (was ^ now) >> bit & 1
    ]
    return ", ".join(words)


def _row(rung: Rung) -> dict[str, object]:
    ends = {
        name: end._asdict() | {"system": end.system.hex(":")}
        for name, end in (("actor", rung.actor), ("partner", rung.partner))
    }
    return {"ms": rung.ms, "nic": rung.nic, "from": "bond" if rung.out else "switch", **ends}


__all__ = ["LEGEND", "Rung", "draw", "figures", "ladder", "letters", "rungs"]
