"""Verbs that run a program of the emulated machine and pass its words through.

``taskset`` chooses the CPU: of several that are online the first is taken, because tasks do not
migrate here but when their CPU goes offline; then the next of the mask has the program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.programs.chcpu import ChcpuError, cpulist_parse, parse
from orchestrator import verbs
from orchestrator.errors import BottomhalfError, words
from orchestrator.hopeless import dead_cpus, kernel_waits, never_goes
from orchestrator.machines import procfiles
from orchestrator.session import Session, Steps

#: A command behind these runs by itself on a CPU that can be chosen.
_ON_A_CPU = ("ping", "arping", "insmod", "rmmod", "modinfo", "udp_echo", "udp_send")


def _run(
    session: Session,
    argv: tuple[str, ...],
    cpu: str | None = None,
    hopeless: Callable[[], str] | None = None,
) -> Steps:
    job = yield from session.program(argv, cpu, hopeless=hopeless)
    if job.failed:
        dead = hopeless is not None and hopeless()
        hint = kernel_waits(session.machine, session.on) if dead else "bottomhalf ps"
        raise BottomhalfError(job.failed, hint, code=1, program=argv[0])
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


def chcpu(session: Session, argv: Sequence[str]) -> Steps:
    """util-linux's tool, on the boot CPU; --json gives an object for each CPU."""
    names = session.machine.settings.cpu_names
    heard: list[str] = []

    def hearing(say: Callable[[str], None]) -> Callable[[str], None]:
        def hear(text: str) -> None:
            heard.append(text)
            if not session.json:
                say(text)

        return hear

    going = _going(session, argv)
    listening = replace(session, out=hearing(session.out), err=hearing(session.err))
    hopeless = never_goes(session.machine, going) if going else None
    code = yield from _run(listening, ("chcpu", *argv), names[0], hopeless)
    text = "".join(heard)
    if session.json:
        _chcpu_json(session, text)
    for match in re.finditer(r"^CPU (\d+) disabled$", text, re.MULTILINE):
        session.hint(f"mend: bottomhalf {session.on}chcpu -e {match[1]}")
    if "not hot pluggable" in text:
        more = f"; those that can go: {words(names[1:])}" if len(names) > 1 else ""
        session.hint(f"{names[0]} boots the machine and owns its tables{more}")
    if "does not exist" in text:
        session.hint(f"CPUs are {words(names)}")
    return code


def _chcpu_json(session: Session, text: str) -> None:
    for line in text.splitlines(keepends=True):
        match = re.fullmatch(r"(chcpu: )?CPU (\d+) (.*)\n", line)
        if match is None:
            session.err(line)
        else:
            row = {"cpu": int(match[2]), "ok": match[1] is None, "said": match[3]}
            session.out(json.dumps(row) + "\n")


def _going(session: Session, argv: Sequence[str]) -> list[int]:
    """The CPUs that are to go offline; a person is told of those that cannot answer."""
    try:
        letter, text = parse(tuple(argv))
        numbers = cpulist_parse(text) if letter in "de" else []
    except ChcpuError:
        return []
    for name in dead_cpus(session.machine, numbers):
        session.hint(f"{name}'s process is dead; the kernel does not know and waits for it")
    return numbers if letter == "d" else []


def iptables(session: Session, argv: Sequence[str]) -> Steps:
    """Rules are the boot CPU's."""
    return _run(session, ("iptables", *argv), session.machine.settings.cpu_names[0])


def ip(session: Session, argv: Sequence[str]) -> Steps:
    """Routes and devices are the boot CPU's."""
    return _run(session, ("ip", *argv), session.machine.settings.cpu_names[0])


def ethtool(session: Session, argv: Sequence[str]) -> Steps:
    """The driver is the boot CPU's."""
    return _run(session, ("ethtool", *argv), session.machine.settings.cpu_names[0])


def arping(session: Session, argv: Sequence[str]) -> Steps:
    """iputils' arping, on the session's CPU."""
    return _run(session, ("arping", *argv))


def udp_echo(session: Session, argv: Sequence[str]) -> Steps:
    """A server, on the session's CPU."""
    return _run(session, ("udp_echo", *argv))


def udp_send(session: Session, argv: Sequence[str]) -> Steps:
    """A client of it."""
    return _run(session, ("udp_send", *argv))


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
    online = [
        n for n, name in enumerate(names) if session.machine.ram.page(name, CPU_SCHEMA)["online"]
    ]
    there = [number for number in numbers if number in online]
    if not there:
        raise BottomhalfError(
            "failed to set pid 0's affinity: Invalid argument",
            f"CPUs online are {words([names[n] for n in online])}",
            1, "taskset",
        )  # fmt: skip
    if command[0] not in _ON_A_CPU:
        raise BottomhalfError(
            f"failed to execute {command[0]}: No such file or directory",
            f"programs that run on a CPU: {words(_ON_A_CPU)}",
            127,
            "taskset",
        )
    mask = sum(1 << number for number in set(numbers) if number < len(names))
    on_it = replace(session, cpu=names[there[0]], cpus_allowed=mask)
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
