"""Machines that run now: which one a command means, and the connection to it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack

from nodes.machine import (
    BondSettings,
    ChannelSettings,
    GatewaySettings,
    LanSettings,
    MachineSettings,
    NicSettings,
    PortSettings,
)
from orchestrator.errors import BottomhalfError, did_you_mean, words
from orchestrator.machines.client import RemoteMachine
from orchestrator.machines.launch import RAM_FILE
from orchestrator.machines.rundir import RunningMachine, running_machines

SETTINGS_FILE = "settings"
CONTROL_SOCKET = "control"

NOTHING_RUNS = BottomhalfError(
    "no machine is running", "bottomhalf up -d          or watch one first: bottomhalf demo"
)


def find(name: str | None, host: str = "") -> RunningMachine:
    """The machine called ``name``, or the only one that runs; ``host``: who behind its switch is
    meant, for the hint."""
    machines = running_machines()
    names = [machine.name for machine in machines]
    if name is not None:
        for machine in machines:
            if machine.name == name:
                return machine
        if machines:
            raise BottomhalfError(
                f"no machine `{name}` is running{did_you_mean(name, names)}",
                f"running: {words(names)}",
            )
        raise NOTHING_RUNS
    served = [machine for machine in machines if (machine.directory / CONTROL_SOCKET).exists()]
    if not served:
        raise NOTHING_RUNS
    behind = f"/{host}" if host else ""
    if len(served) > 1:
        raise BottomhalfError(
            f"{len(served)} machines are running: which one?",
            f"bottomhalf --on {served[0].name}{behind} ...     "
            f"running: {words(m.name for m in served)}",
        )
    return served[0]


@contextmanager
def connect(name: str | None, host: str = "") -> Iterator[RemoteMachine]:
    """A connection to a running machine; the machine stays when it is closed."""
    found = find(name, host)
    machine = open_machine(found.directory, found.name)
    try:
        yield machine
    finally:
        machine.close()


def open_machine(directory: Path, name: str) -> RemoteMachine:
    """Connect to the machine whose run directory this is."""
    try:
        settings = unpack_settings((directory / SETTINGS_FILE).read_bytes())
        machine = RemoteMachine(
            str(directory / CONTROL_SOCKET), str(directory / RAM_FILE), settings
        )
    except OSError:
        raise BottomhalfError(
            f"machine {name} is starting or ending, or it belongs to a `run`",
            "bottomhalf doctor shows what runs",
        ) from None
    if settings.guest:
        from orchestrator.guest.qemu import CONSOLE_LOG  # noqa: PLC0415

        machine.own_guest = (directory / CONSOLE_LOG).exists()
    return machine


def addresses() -> dict[str, str]:
    """Addresses of the machines that run, by name."""
    found = {}
    for machine in running_machines():
        try:
            settings = unpack_settings((machine.directory / SETTINGS_FILE).read_bytes())
        except (OSError, ValueError, TypeError):
            continue  # it is starting or ending, or belongs to a `run`
        found[machine.name] = settings.hosts[settings.name]
    return found


def age(machine: RunningMachine) -> str:
    """``3 min``: how long it has been up."""
    seconds = max(0, int(time.time() - machine.started))
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def free_name(names: Iterable[str]) -> str:
    """The first of these names that no machine has."""
    taken = {machine.name for machine in running_machines()}
    return next(name for name in names if name not in taken)


def on_option(name: str, default: str) -> str:
    """What stands before a verb to mean this machine: nothing if it has the default name and no
    other one runs."""
    alone = all(machine.name == name for machine in running_machines())
    return "" if name == default and alone else f"--on {name} "


def already_running(
    machine: RunningMachine, verb: str = "up", differs: str = ""
) -> BottomhalfError:
    """The message for a name that is taken; ``verb`` starts another one, ``differs`` says in what
    the one that runs is not as asked."""
    prefix, first = ("guest", "guest") if verb == "guest" else ("m", "m2")
    second = free_name([first, *(f"{prefix}{n}" for n in range(2, 1000))])
    end = "down" if len(running_machines()) == 1 else f"down {machine.name}"
    return BottomhalfError(
        f"machine {machine.name} is already running "
        f"({machine.config}, pid {machine.pid}, up {age(machine)}){differs}",
        f"use it, end it with `bottomhalf {end}`, or start a second one: "
        f"bottomhalf {verb} --name {second}",
    )


# ---------------------------------------------------------------- settings as bytes


def pack_settings(settings: MachineSettings) -> bytes:
    """Settings for the run directory."""
    packed: bytes = msgpack.packb(settings)
    return packed


def unpack_settings(data: bytes) -> MachineSettings:
    """What ``pack_settings`` made."""
    row: dict[str, Any] = dict(
        zip(MachineSettings._fields, msgpack.unpackb(data, use_list=False), strict=True)
    )
    row["nics"] = tuple(NicSettings(*nic) for nic in row["nics"])
    row["bond"] = None if row["bond"] is None else BondSettings(*row["bond"])
    row["gateway"] = GatewaySettings(*row["gateway"])
    row["lan"] = _lan(*row["lan"])
    return MachineSettings(**row)


def _lan(*row: Any) -> LanSettings:
    lan = LanSettings(*row)
    return lan._replace(
        ports=tuple(PortSettings(*port) for port in lan.ports),
        channels=tuple(ChannelSettings(*channel) for channel in lan.channels),
    )
