"""Verbs of the hardware layer: what hands do to cables and cards."""

from __future__ import annotations

from collections.abc import Sequence

from nodes.machine import LAN
from orchestrator.errors import OK, BottomhalfError, did_you_mean
from orchestrator.session import Session, Steps
from orchestrator.verbs import parse, usage
from orchestrator.verbs.process import death, end, has_hotplug, note, who
from orchestrator.verbs.targets import nics_only, resolve

WAYS = ("out", "in")


def check_words(verb: str, argv: Sequence[str]) -> list[str]:
    """``NIC... out|in``; the message for anything else, for steps before anything runs."""
    words = parse(verb, argv).words
    if len(words) == 1 and words[0] in WAYS:
        raise BottomhalfError(f"{verb} of which NIC?", usage(verb))
    if len(words) < 2 or words[-1] not in WAYS:
        last = words[-1] if words else ""
        slip = did_you_mean(last, WAYS) if last else ""
        raise BottomhalfError(f"{verb}: out or in?{slip.replace(';', '')}", usage(verb))
    return words


def _nics_and_way(session: Session, verb: str, argv: Sequence[str]) -> tuple[list[str], str]:
    words = check_words(verb, argv)
    nics = resolve(session.machine, words[:-1])
    nics_only(session.machine, verb, nics)
    return nics, words[-1]


def cable(session: Session, argv: Sequence[str]) -> Steps:
    """Pull or plug cables at the switch."""
    machine = session.machine
    nics, way = _nics_and_way(session, "cable", argv)
    for nic in nics:
        if not machine.state(LAN).alive:
            raise BottomhalfError("the switch is dead, no port answers", "bottomhalf restart lan")
        request = yield from session.answer(machine.cable(nic, way == "in"))
        if request.failed or not request.ok:
            why = request.failed or request.value
            raise BottomhalfError(
                f"cable {nic} {way}: {why}", "bottomhalf ps shows the state of lan"
            )
        mend = f"cable {nic} in" if way == "out" else ""
        session.did(f"cable of {nic} is {way}", mend, node=nic, cable=way)
    return OK


def card(session: Session, argv: Sequence[str]) -> Steps:
    """Pull cards out of their slots while they run, or put new ones in; nothing else is done."""
    machine = session.machine
    nics, way = _nics_and_way(session, "card", argv)
    for nic in nics:
        state = machine.state(nic)
        if way == "out":
            if not state.alive:
                note(
                    session,
                    f"the card of {nic} is already out ({death(machine, state)})",
                    f"bottomhalf card {nic} in",
                )
                continue
            yield from end(session, nic, machine.pull)
            mend = f"card {nic} in"
            session.did(f"card of {who(state)} is out", mend, node=nic, pid=state.pid, card="out")
            continue
        if state.alive:
            note(session, f"the card of {who(state)} is in", f"bottomhalf card {nic} out")
            continue
        machine.restart(nic)
        new = machine.state(nic)
        session.did(f"card of {who(new)} is in", node=nic, pid=new.pid, card="in")
        if machine.settings.guest:
            from orchestrator.verbs import guest  # noqa: PLC0415

            session.remark(guest.after_card_in(session, nic))
        elif not has_hotplug(machine, nic):
            session.remark(
                "  its slot tells the kernel nothing (hotplug = false): "
                f"bottomhalf {session.on}restart {nic} removes, rescans and enslaves"
            )
    return OK
