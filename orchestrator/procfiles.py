"""Files of the emulated /proc: ask the CPUs for plain snapshots, render Linux's text here.

The renderers are ``nodes.cpu.kernel.procfs`` (pure functions of snapshots and pages), so that a
reader costs the machine one control message. The boot CPU holds the tables; when it is dead its
last snapshot, kept in RAM, answers with the pages as they are now, and a word on stderr says so.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgpack

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
    tables = yield from _tables(session, boot, path)
    pages = {name: machine.ram.page(name, CPU_SCHEMA) for name in machine.settings.cpu_names}
    try:
        return procfs.render(path, {boot: tables}, pages)
    except FileNotFoundError:
        raise NoSuchFileError(path) from None


def _tables(session: Session, boot: str, path: str) -> Generator[Wait, None, Any]:
    """The boot CPU's tables: as it says, or as it last left them."""
    machine = session.machine
    if machine.state(boot).alive:
        request: Request = yield from session.answer(machine.ask(boot, "kernel"))
        if request.ok and not request.failed:
            return request.value
        why = str(request.failed or request.value)
    else:
        why = f"{boot} is dead"
    last = machine.ram.last_words().load()
    if last is None:
        raise BottomhalfError(
            f"{path}: no kernel answers: {why}",
            "bottomhalf ps shows its state",
            code=1,
            program="cat",
        )
    tables = msgpack.unpackb(last, use_list=False, strict_map_key=False)
    at_s = tables["uptime_ns"] / 1e9
    session.err(f"bottomhalf: {why}; this is what its last page holds, tables as of {at_s:.3f} s\n")
    return tables


def paths(settings: MachineSettings) -> list[str]:
    """All files there are."""
    bonds = [procfs.BONDING_DIRECTORY + settings.bond.name] if settings.bond else []
    return sorted([*procfs.FILES, *bonds])
