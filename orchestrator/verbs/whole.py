"""Verbs of the whole: up, down, era, completion."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.configuration import eras
from orchestrator.errors import OK, BottomhalfError, did_you_mean, words
from orchestrator.verbs import parse, usage
from orchestrator.verbs.targets import WITH_ACTIVE

if TYPE_CHECKING:
    from nodes.machine import MachineSettings
    from orchestrator.cli import Options
    from orchestrator.machines.client import RemoteMachine
    from orchestrator.machines.rundir import RunningMachine

DEFAULT_NAME = "m1"
#: Names of hosts on the LAN that are no machines.
HOSTS = ("gateway", "uplink")
_DOWN_TIMEOUT_S = 15.0


def up(options: Options, argv: Sequence[str]) -> int:
    """Start a machine and leave it running, or show it until the dashboard is closed."""
    from orchestrator.configuration import config  # noqa: PLC0415
    from orchestrator.machines import owning, running  # noqa: PLC0415
    from orchestrator.machines.rundir import running_machines  # noqa: PLC0415

    given = parse("up", argv, ("-d", "--detach"), ("--name", "--era", "--bond", "--set", "--lan"))
    if len(given.words) > 1:
        raise BottomhalfError(f"up takes one machine, not {len(given.words)}", usage("up"))
    name = given.value("--name", options.on)
    name = DEFAULT_NAME if name is None else name
    settings = config.load(
        given.words[0] if given.words else config.DEFAULT_MACHINE,
        era=given.value("--era"),
        bond=given.value("--bond"),
        overrides=given.values.get("--set", ()),
    )
    config_name, settings = settings.name, settings._replace(name=name, hostname=name)
    if name in HOSTS:
        raise BottomhalfError(f"a machine cannot be called {name}", "that is a host of the LAN")
    host = given.value("--lan", settings.lan.join)
    if host:
        settings = _join(settings, host)
    for machine in running_machines():
        if machine.name == name:
            return _already_up(options, machine, settings)
    said = owning.start(settings, config_name)
    if options.json:
        print(json.dumps({"name": name, **said}))
    else:
        sys.stdout.write(_up_text(settings, config_name, said))
        sys.stdout.flush()
    if {"-d", "--detach"} & set(given.flags):
        return OK
    with running.connect(name) as remote:
        return _show(remote, name)


def _join(settings: MachineSettings, host: str) -> MachineSettings:
    """With its switch on the LAN of the running machine ``host``."""
    from orchestrator.configuration import lanconfig  # noqa: PLC0415
    from orchestrator.machines import running  # noqa: PLC0415

    if settings.lan.uplink == "tap":
        raise BottomhalfError("--lan: this machine has an uplink", "[lan] uplink or --lan")
    running.find(host)
    if host == settings.name:
        raise BottomhalfError("a machine cannot join itself", usage("up"))
    return lanconfig.joined(settings, host)


def _already_up(options: Options, machine: RunningMachine, settings: MachineSettings) -> int:
    """The name is taken: fine if it is the same machine, else refused."""
    from orchestrator.machines import running  # noqa: PLC0415

    try:
        runs = running.unpack_settings((machine.directory / running.SETTINGS_FILE).read_bytes())
    except (OSError, ValueError):
        raise running.already_running(machine) from None
    if runs != settings:
        raise running.already_running(machine, differs=f", not as asked: {_other(runs, settings)}")
    sys.stderr.write(running.already_running(machine).text())
    if options.json:
        print(json.dumps({"name": machine.name, "directory": str(machine.directory),
                          "pid": machine.pid, "already": True}))  # fmt: skip
    return OK


#: Settings that are no single word, as a person asks for them.
_ASKED_AS = {"nics": "other NICs", "bond": "another bond", "overrides": "another --set"}


def _other(runs: MachineSettings, asked: MachineSettings) -> str:
    """In what the machine that runs is another one: its first setting that differs, in words."""
    name, old, new = _difference(runs, asked)
    if name == "bond" and old is not None and new is not None:
        name, old, new = _difference(old, new)
        name = f"bond's {name}"
    if name != "guest" and isinstance(old, str | int) and isinstance(new, str | int):
        return f"its {name} is {old}, not {new}"
    return f"it has {_ASKED_AS.get(name, f'another {name}')}"


def _difference(old: Any, new: Any) -> tuple[str, Any, Any]:
    """Name of the first field that differs, and both values."""
    rows = zip(old._fields, old, new, strict=True)
    return next((name, a, b) for name, a, b in rows if a != b)


def _up_text(settings: MachineSettings, config_name: str, said: dict[str, Any]) -> str:
    from orchestrator.machines.running import on_option  # noqa: PLC0415

    name = settings.name
    on = on_option(name, DEFAULT_NAME)
    if settings.guest:
        from nodes.machine import vfio_socket  # noqa: PLC0415

        sockets = " ".join(vfio_socket(nic) for nic in settings.nic_names)
        return (
            f"{name} is up: {config_name}, {len(settings.node_names)} processes "
            f"in {said['launched_ms'] / 1000:.1f} s, for a guest\n"
            f"  vfio-user sockets in its run directory: {sockets}\n"
            f"  bottomhalf {on}top                     watch it     (bottomhalf {on}down ends it)\n"
        )
    state = "" if said["ready"] else "  its network is not up yet: bottomhalf dmesg\n"
    active = settings.bond is not None and settings.bond.mode in WITH_ACTIVE
    break_it = f"kill {'active' if active else settings.nic_names[0]}"
    return (
        f"{name} is up: {config_name}, era {settings.era}, {len(settings.node_names)} processes "
        f"in {said['launched_ms'] / 1000:.1f} s\n{state}{_lan_text(settings)}"
        f"  bottomhalf {on}ping -c 5 gateway       from inside the machine\n"
        f"  bottomhalf {on}{break_it:<24}then ping again, and: bottomhalf {on}dmesg\n"
        f"  bottomhalf {on}top                     watch it     (bottomhalf {on}down ends it)\n"
    )


def _lan_text(settings: MachineSettings) -> str:
    """A line about what is behind its switch, if that is not its own gateway."""
    address = settings.bond.address if settings.bond else settings.address
    if settings.lan.join:
        return f"  {address} on the LAN of {settings.lan.join}\n"
    if settings.lan.uplink:
        return "  bottomhalf --on uplink CMD   runs a program of this host behind the switch\n"
    return ""


def _show(machine: RemoteMachine, name: str) -> int:
    """Hold the machine and show it; it ends with us unless the person detaches."""
    machine.hold()
    if sys.stdin.isatty() and sys.stdout.isatty():
        from orchestrator.dashboards.live import DETACH  # noqa: PLC0415
        from orchestrator.machines.running import on_option  # noqa: PLC0415
        from orchestrator.verbs.process import run_dashboard  # noqa: PLC0415

        if run_dashboard(machine, None) == DETACH:
            machine.release()
            on = on_option(name, DEFAULT_NAME)
            print(f"{name} goes on: bottomhalf {on}top shows it, bottomhalf {on}down ends it")
            return OK
    else:
        signals: list[int] = []
        machine.catch_signals(signals, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        while not signals and not machine.lost:
            machine.pump(machine.now_ns() + 60_000_000_000, lambda: bool(signals) or machine.lost)
    machine.shut_down()
    print(f"{name} is down")
    return OK


def down(options: Options, argv: Sequence[str]) -> int:
    """End a machine; fine when nothing runs."""
    from orchestrator.machines import running  # noqa: PLC0415
    from orchestrator.machines.rundir import running_machines  # noqa: PLC0415

    given = parse("down", argv)
    if len(given.words) > 1:
        raise BottomhalfError(f"down ends one machine, not {len(given.words)}", usage("down"))
    name = given.words[0] if given.words else options.on
    try:
        found = running.find(name)
    except BottomhalfError as error:
        if error is running.NOTHING_RUNS:
            sys.stderr.write(error.text())
            return OK
        raise
    try:
        machine = running.open_machine(found.directory, found.name)
    except BottomhalfError:
        if found.pid:
            os.kill(found.pid, signal.SIGTERM)  # a `run`, or an owner that hangs
    else:
        machine.shut_down()
        machine.close()
    deadline = time.monotonic() + _DOWN_TIMEOUT_S
    while any(m.name == found.name for m in running_machines()):
        if time.monotonic() > deadline:
            raise BottomhalfError(
                f"machine {found.name} does not end (pid {found.pid})", f"kill -9 {found.pid}"
            )
        time.sleep(0.005)
    said = f"{found.name} is down"
    print(json.dumps({"name": found.name, "down": True}) if options.json else said)
    return OK


def era(options: Options, argv: Sequence[str]) -> int:
    """The presets; one preset's behaviours; what differs between two."""
    given = parse("era", argv, ("--json",))
    as_json = options.json or "--json" in given.flags
    if len(given.words) > 2:
        raise BottomhalfError("era takes at most two eras", usage("era"))
    if len(given.words) == 2:
        old, new = given.words
        rows: Any = [{"behaviour": key, old: a, new: b} for key, a, b in eras.differences(old, new)]
        if not as_json:
            print(f"{'behaviour':<28}{old:<28}{new}")
            for key, a, b in eras.differences(old, new):
                print(f"{key:<28}{_cell(a):<28}{_cell(b)}")
    elif given.words:
        rows = eras.behaviours(given.words[0])
        if not as_json:
            for key, value in rows.items():
                print(f"{key:<28}{_cell(value)}")
    else:
        rows = list(eras.names())
        if not as_json:
            print("presets: " + ", ".join(rows))
            print(f"  bottomhalf era {rows[-2]} {rows[-1]}     what differs")
    if as_json:
        print(json.dumps(rows))
    return OK


def _cell(value: Any) -> str:
    text = words(value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 26 else text[:24] + ".."


def completion(options: Options, argv: Sequence[str]) -> int:
    """Print click's completion script for a shell."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    from orchestrator.cli import grammar  # noqa: PLC0415

    given = parse("completion", argv)
    shells = ("bash", "zsh", "fish")
    shell = given.words[0] if given.words else ""
    if shell not in shells:
        raise BottomhalfError(
            f"no completion for shell `{shell}`{did_you_mean(shell, shells)}"
            if shell
            else "completion for which shell?",
            'eval "$(bottomhalf completion bash)"          also zsh and fish',
        )
    found = get_completion_class(shell)
    assert found is not None
    for program in ("bottomhalf", "bh"):
        print(found(grammar, {}, program, "_BOTTOMHALF_COMPLETE").source())
    return OK
