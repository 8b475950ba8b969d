"""Verbs of the hardware layer: what hands do to cables."""

from __future__ import annotations

from collections.abc import Sequence

from nodes.machine import LAN
from orchestrator.errors import OK, BottomhalfError, did_you_mean
from orchestrator.session import Session, Steps
from orchestrator.verbs import parse, usage
from orchestrator.verbs.targets import nics_only, resolve

WAYS = ("out", "in")


def cable(session: Session, argv: Sequence[str]) -> Steps:
    """Pull or plug cables at the switch."""
    options = parse("cable", argv)
    if len(options.words) < 2 or options.words[-1] not in WAYS:
        last = options.words[-1] if options.words else ""
        slip = did_you_mean(last, WAYS) if last else ""
        raise BottomhalfError(f"cable: out or in?{slip.replace(';', '')}", usage("cable"))
    machine = session.machine
    way = options.words[-1]
    nics = resolve(machine, options.words[:-1])
    nics_only(machine, "cable", nics)
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
