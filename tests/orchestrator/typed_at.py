"""A command line typed at a machine: its code, and all that was said."""

from __future__ import annotations

from orchestrator import verbs
from orchestrator.machines.simulated import SimulatedMachine
from orchestrator.session import Session, drive


class Said:
    def __init__(self, machine: SimulatedMachine, line: str) -> None:
        out: list[str] = []
        session = Session(machine, out=out.append, err=out.append)
        self.code = drive(session, verbs.start(session, line.split()))
        self.text = "".join(out)
