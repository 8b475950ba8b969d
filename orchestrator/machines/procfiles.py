"""Files of the emulated /proc and /sys: ask the CPUs for plain snapshots, render Linux's text here.

The renderers are ``nodes.cpu.kernel.procfs`` (pure functions of snapshots and pages), so that a
reader costs the machine one control message. The boot CPU holds the tables; when it is dead its
last snapshot, kept in RAM, answers with the pages as they are now, and a word on stderr says so.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import msgpack

from nodes.cpu.kernel import procfs
from nodes.cpu.page import CPU_SCHEMA
from orchestrator.captures.capture import epoch_ns
from orchestrator.errors import BottomhalfError
from orchestrator.machines.machine import Request
from orchestrator.session import Session, Wait


def read(session: Session, path: str) -> Generator[Wait, None, str]:
    """Text of one file; OSError with an errno as open(2) and read(2) give it."""
    machine = session.machine
    snapshots = dict((yield from tables(session, path)))
    boot, *_ = machine.settings.cpu_names
    booted_s = (epoch_ns(machine) + machine.ram.boot_ns) // 1_000_000_000
    snapshots[boot] = {**snapshots[boot], "btime": booted_s}
    owner = procfs.also_asked(path, snapshots[boot])
    if owner is not None and machine.state(owner[0]).alive:
        request: Request = yield from session.answer(machine.ask(*owner))
        if request.ok and not request.failed:
            snapshots[owner[0]] = {**snapshots.get(owner[0], {}), **request.value}
    pages = {name: machine.ram.page(name, CPU_SCHEMA) for name in machine.settings.cpu_names}
    return procfs.render(path, snapshots, pages)


def paths(session: Session) -> Generator[Wait, None, list[str]]:
    """All files there are now."""
    snapshots = yield from tables(session, "/")
    return procfs.paths(snapshots)


def tables(session: Session, path: str) -> Generator[Wait, None, Mapping[str, Any]]:
    """What the renderers take: the boot CPU's tables by its name."""
    boot = session.machine.settings.cpu_names[0]
    value = yield from _tables(session, boot, path)
    return {boot: value}


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
