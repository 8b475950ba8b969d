"""Verbs that run a program of the emulated machine and pass its words through.

``taskset`` chooses the CPU: tasks never migrate here, so of several CPUs the first is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from orchestrator import procfiles, verbs
from orchestrator.errors import BottomhalfError, words
from orchestrator.session import Session, Steps

#: A command behind these runs by itself on a CPU that can be chosen.
_ON_A_CPU = ("ping", "insmod", "rmmod", "modinfo")


def _run(session: Session, argv: tuple[str, ...], cpu: str | None = None) -> Steps:
    job = yield from session.program(argv, cpu)
    if job.failed:
        raise BottomhalfError(job.failed, "bottomhalf ps", code=1, program=argv[0])
    assert job.exit_code is not None
    return job.exit_code


def insmod(session: Session, argv: Sequence[str]) -> Steps:
    """Load a module on the session's CPU."""
    code = yield from _run(session, ("insmod", *argv))
    if code:
        session.hint(f"modules are {words(module_names())}; bottomhalf dmesg says what they said")
    return code


def module_names() -> list[str]:
    """Lab modules that there are."""
    from nodes.cpu import modules  # noqa: PLC0415

    return modules.names()


def rmmod(session: Session, argv: Sequence[str]) -> Steps:
    """Remove a module."""
    return _run(session, ("rmmod", *argv))


def modinfo(session: Session, argv: Sequence[str]) -> Steps:
    """Description and parameters."""
    return _run(session, ("modinfo", *argv))


def iptables(session: Session, argv: Sequence[str]) -> Steps:
    """Rules are the boot CPU's."""
    return _run(session, ("iptables", *argv), session.machine.settings.cpu_names[0])


def ip(session: Session, argv: Sequence[str]) -> Steps:
    """Routes are the boot CPU's."""
    return _run(session, ("ip", *argv), session.machine.settings.cpu_names[0])


def lsmod(session: Session, argv: Sequence[str]) -> Steps:
    """kmod's table of /proc/modules."""
    if argv:
        raise BottomhalfError("too many arguments", "bottomhalf lsmod", code=1, program="lsmod")
    text = yield from procfiles.read(session, "/proc/modules")
    session.out("Module                  Size  Used by\n")
    for line in text.splitlines():
        name, size, users = line.split()[:3]
        session.out(f"{name:<19} {size:>8}  {users}\n")
    return 0


def taskset(session: Session, argv: Sequence[str]) -> Steps:
    """``taskset -c 1 ping gateway``; without -c the mask is hexadecimal."""
    rest = list(argv)
    listed = rest[:1] in (["-c"], ["--cpu-list"])
    if listed:
        rest.pop(0)
    if len(rest) < 2 or rest[0].startswith("-"):
        raise BottomhalfError(
            "bad usage", "taskset -c 1 ping gateway     (-p is not modelled)", 1, "taskset"
        )
    text, command = rest[0], rest[1:]
    numbers = _cpulist(text) if listed else _mask(text)
    what = "list" if listed else "mask"
    if numbers is None:
        raise BottomhalfError(f"failed to parse CPU {what}: {text}", "", 1, "taskset")
    names = session.machine.settings.cpu_names
    there = [number for number in numbers if number < len(names)]
    if not there:
        raise BottomhalfError(
            "failed to set pid 0's affinity: Invalid argument", f"CPUs are {words(names)}",
            1, "taskset",
        )  # fmt: skip
    if command[0] not in _ON_A_CPU:
        raise BottomhalfError(
            f"failed to execute {command[0]}: No such file or directory",
            f"programs that run on a CPU: {words(_ON_A_CPU)}",
            127,
            "taskset",
        )
    on_it = replace(session, cpu=names[there[0]])
    code = yield from verbs.start(on_it, command)
    return code


def _cpulist(text: str) -> list[int] | None:
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if match is None:
            return None
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return found or None


def _mask(text: str) -> list[int] | None:
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{1,16}", text):
        return None
    mask = int(text, 16)
    return [bit for bit in range(64) if mask >> bit & 1]
