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
from nodes.cpu.kernel.params import PRESETS, with_overrides
from nodes.cpu.page import CPU_SCHEMA
from nodes.machine import MachineSettings
from orchestrator.capture import epoch_ns
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
    tables = {**tables, "btime": (epoch_ns(machine) + machine.ram.boot_ns) // 1_000_000_000}
    owner = procfs.also_asked(path, tables)
    snapshots = {boot: tables}
    if owner is not None and machine.state(owner[0]).alive:
        request: Request = yield from session.answer(machine.ask(*owner))
        if request.ok and not request.failed:
            snapshots[owner[0]] = {**snapshots.get(owner[0], {}), **request.value}
    pages = {name: machine.ram.page(name, CPU_SCHEMA) for name in machine.settings.cpu_names}
    try:
        return procfs.render(path, snapshots, pages)
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
    """Files that every machine with these settings has; which irqs there are its kernel knows."""
    params = with_overrides(PRESETS[settings.era], settings.overrides)
    files = [path for path in procfs.FILES if path not in procfs.ABSENT[params.proc_format]]
    bonds = [procfs.BONDING_DIRECTORY + settings.bond.name] if settings.bond else []
    return sorted([*files, *bonds])
