"""Candidates for shell completion: what may stand behind a verb."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from orchestrator.configuration import tomlfile

if TYPE_CHECKING:
    from nodes.machine import MachineSettings
    from orchestrator.session import Session, Wait

_NODES = ("kill", "freeze", "thaw", "restart", "top")


def candidates(verb: str) -> list[str]:
    """Words for the shell; of the machine that runs, or of the default one."""
    if verb == "up":
        return tomlfile.bundled("machines")
    if verb == "run":
        return tomlfile.bundled("scenarios")
    if verb == "lab":
        return [
            "list",
            "show",
            "run",
            "sheet",
            *tomlfile.bundled("labs"),
            *tomlfile.bundled("guestlabs"),
        ]
    if verb == "check":
        kinds = ("machines", "scenarios", "labs")
        return [*(name for kind in kinds for name in tomlfile.bundled(kind)), "--keys"]
    if verb == "completion":
        return ["bash", "zsh", "fish"]
    if verb == "era":
        from orchestrator.configuration import eras  # noqa: PLC0415

        return list(eras.names())
    settings = _settings()
    if verb in _NODES:
        options = ("--pools", "--once", "--svg", "--json") if verb == "top" else ()
        return [*settings.node_names, "active", "backup", *options]
    if verb in ("cable", "card"):
        return [*settings.nic_names, "active", "backup", "in", "out"]
    if verb == "fault":
        from bus.faults import KINDS  # noqa: PLC0415

        targets = (*settings.nic_names, "apic", "active", "backup", "gateway")
        return ["list", "clear", *targets, *KINDS, "--for"]
    if verb == "regs":
        from nodes.nic.registers import BY_NAME  # noqa: PLC0415

        return [*settings.nic_names, *BY_NAME, "--json"]
    if verb == "ring":
        queues = map(str, range(settings.queues))
        return [*settings.nic_names, "rx", "tx", *queues, "--all", "--json"]
    if verb in ("ping", "arping"):
        return ["gateway", *settings.gateway.addresses]
    if verb == "tcpdump":
        ports = [f"lan:{number}" for number in range(1, len(settings.nics) + 1)]
        return ["-i", "bond0", *settings.nic_names, "any", *ports, "lan:gateway"]
    if verb in ("cat", "ls"):
        return _files()
    if verb in ("insmod", "modinfo"):
        from orchestrator.verbs.programs import module_names  # noqa: PLC0415

        return module_names()
    if verb == "taskset":
        return ["-c", *map(str, range(settings.cpus)), "ping", "arping", "insmod"]
    if verb == "wq":
        return ["pools", *_workqueues(), "-i", "--for", "--json"]
    if verb == "chcpu":
        return ["-d", "-e", *map(str, range(1, settings.cpus))]
    if verb == "sh":
        return ["-c"]
    if verb in ("follow", "taps", "drops"):
        return ["ping"]
    if verb == "trace":
        from orchestrator.tracing.ftracerows import GROUPS  # noqa: PLC0415

        return [*settings.node_names, "-e", "--for", *GROUPS]
    return []


def _files() -> list[str]:
    """Files of the machine that runs; those that every machine has if there is none."""
    from nodes.cpu.kernel import procfs  # noqa: PLC0415
    from orchestrator.machines import procfiles  # noqa: PLC0415

    return _ask(procfiles.paths) or list(procfs.FILES)


def _workqueues() -> list[str]:
    """Workqueues of the machine that runs."""
    from orchestrator.verbs import workqueue  # noqa: PLC0415

    return _ask(workqueue.names)


def _ask(question: Callable[[Session], Generator[Wait, None, list[str]]]) -> list[str]:
    """What the machine that runs answers; nothing if there is none."""
    from orchestrator.errors import OK, BottomhalfError  # noqa: PLC0415
    from orchestrator.machines import running  # noqa: PLC0415
    from orchestrator.session import Session, drive  # noqa: PLC0415

    found: list[str] = []

    def look(session: Session) -> Generator[Wait, None, int]:
        found.extend((yield from question(session)))
        return OK

    try:
        with running.connect(None) as machine:
            session = Session(machine, err=lambda text: None)
            drive(session, look(session))
    except (BottomhalfError, OSError):
        return []
    return found


def _settings() -> MachineSettings:
    from orchestrator.configuration import config  # noqa: PLC0415
    from orchestrator.errors import BottomhalfError  # noqa: PLC0415
    from orchestrator.machines import running  # noqa: PLC0415

    try:
        machine = running.find(None)
        return running.unpack_settings((machine.directory / running.SETTINGS_FILE).read_bytes())
    except (BottomhalfError, OSError):
        return config.load()
