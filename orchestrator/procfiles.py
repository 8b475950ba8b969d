"""Files of the emulated /proc: ask the CPUs for plain snapshots, render Linux's text here.

The renderers are ``nodes.cpu.kernel.procfs`` (pure functions of snapshots and pages), so that a
reader costs the machine one control message. The boot CPU holds the tables; when it is dead there
is no kernel to ask, and the message says so.
"""

from __future__ import annotations

from collections.abc import Generator

from nodes.cpu.kernel import procfs
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import MachineSettings
from orchestrator.errors import BottomhalfError
from orchestrator.machine import Request
from orchestrator.session import Session, Wait


class NoSuchFileError(Exception):
    """The emulated kernel has no such file."""


def read(session: Session, path: str) -> Generator[Wait, None, str]:
    """Text of one file; NoSuchFileError if there is none."""
    machine = session.machine
    boot = machine.settings.cpu_names[0]
    request: Request = yield from session.answer(machine.ask(boot, "kernel"))
    if request.failed or not request.ok:
        raise BottomhalfError(
            f"{path}: no kernel answers: {request.failed or request.value}",
            "bottomhalf ps shows its state",
            code=1,
            program="cat",
        )
    pages = {name: machine.ram.page(name, CPU_SCHEMA) for name in machine.settings.cpu_names}
    try:
        return procfs.render(path, {boot: request.value}, pages)
    except FileNotFoundError:
        raise NoSuchFileError(path) from None


def paths(settings: MachineSettings) -> list[str]:
    """All files there are."""
    bonds = [procfs.BONDING_DIRECTORY + settings.bond.name] if settings.bond else []
    return sorted([*procfs.FILES, *bonds])
