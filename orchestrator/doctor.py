"""The verb ``doctor``: is this host fit, which tools are there, where do runs live, what runs."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import OK, BottomhalfError
from orchestrator.verbs import parse, usage

if TYPE_CHECKING:
    from orchestrator.cli import Options

PYTHON_NEEDED = (3, 11)
MEMORY_NEEDED_MIB = 256
#: Tools of the host that read what we write, or that later verbs use; none is needed.
TOOLS = {
    "tcpdump": "reads captures: bottomhalf tcpdump -i eth0 -w - | tcpdump -r -",
    "tshark": "reads captures",
    "qemu-system-x86_64": "runs real guests; bottomhalf guest --fetch gets it",
}


class Finding(NamedTuple):
    """One line: what was looked at, what was found, is it good, what mends it."""

    name: str
    found: str
    ok: bool
    mend: str = ""


def doctor(options: Options, argv: Sequence[str]) -> int:
    """Look and say; exit code 1 if something needed is missing."""
    given = parse("doctor", argv, ("--json",))
    if given.words:
        raise BottomhalfError(f"doctor takes no `{given.words[0]}`", usage("doctor"))
    findings = examine()
    if options.json or "--json" in given.flags:
        print(json.dumps([finding._asdict() for finding in findings]))
    else:
        print(summary(findings))
        for finding in findings:
            print(f"  {'ok' if finding.ok else '!!':<3}{finding.name:<19} {finding.found}")
            if finding.mend:
                print(f"       {'hint: ' + finding.mend}")
    return OK if all(finding.ok for finding in findings) else 1


def summary(findings: Sequence[Finding]) -> str:
    """The sentence first."""
    bad = [finding.name for finding in findings if not finding.ok]
    return f"Missing: {', '.join(bad)}." if bad else "This host can run machines."


def examine() -> list[Finding]:
    """All findings."""
    return [_python(), *_packages(), _cores(), _memory(), _place(), *_tools(), *_machines()]


def _python() -> Finding:
    fits = sys.version_info >= PYTHON_NEEDED
    needed = ".".join(map(str, PYTHON_NEEDED))
    return Finding(
        "python",
        f"{platform.python_version()} ({sys.executable})",
        fits,
        "" if fits else f"Python {needed} or later",
    )


def _packages() -> list[Finding]:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    found, missing = [], []
    for name in ("pyzmq", "msgpack", "psutil", "rich", "click", "pydantic"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    mend = f"pip install {' '.join(missing)}" if missing else ""
    return [Finding("packages", ", ".join(found), not missing, mend)]


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0))
    mend = "" if count > 1 else "one core works; times will be longer and less even"
    return Finding("cores", str(count), True, mend)


def _memory() -> Finding:
    import psutil  # noqa: PLC0415

    free = psutil.virtual_memory().available >> 20
    fits = free >= MEMORY_NEEDED_MIB
    return Finding("memory", f"{free} MiB free", fits, "" if fits else "close something large")


def _place() -> Finding:
    from orchestrator.machines.rundir import bases  # noqa: PLC0415

    for base in bases():
        above = base if base.exists() else base.parent
        if os.access(above, os.W_OK):
            room = shutil.disk_usage(above).free >> 20
            return Finding("runs live in", f"{base} ({room} MiB free)", True)
    return Finding(
        "runs live in", "no directory can be written", False, "export XDG_RUNTIME_DIR=DIR"
    )


def _tools() -> list[Finding]:
    found = []
    for name, use in TOOLS.items():
        path = shutil.which(name)
        found.append(Finding(name, path or f"not found; {use}", True))
    return found


def _machines() -> list[Finding]:
    from orchestrator.machines.rundir import running_machines  # noqa: PLC0415
    from orchestrator.machines.running import age  # noqa: PLC0415

    machines = running_machines()
    if not machines:
        return [Finding("running", "no machine", True)]
    return [
        Finding("running", f"{m.name}: {m.config}, pid {m.pid}, up {age(m)}, {m.directory}", True)
        for m in machines
    ]
