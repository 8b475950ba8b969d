"""``run`` and ``demo``: a scenario on a machine of its own, in processes or in virtual time."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.configuration import tomlfile
from orchestrator.errors import EXPECTATION_FAILED, INTERRUPTED, OK, BottomhalfError
from orchestrator.verbs import parse, usage

if TYPE_CHECKING:
    from orchestrator.cli import Options
    from orchestrator.machines.machine import Machine
    from orchestrator.scenarios.scenario import Scenario
    from orchestrator.scenarios.story import Story
    from orchestrator.session import Session, Wait

_FLAGS = ("--json", "--simulate", "--processes", "--list")
_VALUES = ("--seed", "--report", "--era")
#: A line of the opening, and its rest before the scenario begins.
_FOLLOW_LINE_NS = 250_000_000
_FOLLOW_REST_NS = 1_000_000_000


def run(options: Options, argv: Sequence[str]) -> int:
    """Play a scenario and judge it."""
    given = parse("run", argv, _FLAGS, _VALUES)
    if "--list" in given.flags:
        return _list()
    if len(given.words) > 1:
        raise BottomhalfError("run plays one scenario at a time", usage("run"))
    if "--processes" in given.flags and {"--simulate", "--seed"} & {*given.flags, *given.values}:
        raise BottomhalfError("--processes has no seed and no virtual time", "run --processes")
    report = given.value("--report")
    return _perform(
        given.words[0] if given.words else "failover",
        seed=seed_of(given.value("--seed"), "--simulate" in given.flags),
        era=given.value("--era"),
        as_json=options.json or "--json" in given.flags,
        directory=Path(report) if report else None,
        opening=False,
        processes="--processes" in given.flags,
    )


def demo(options: Options, argv: Sequence[str]) -> int:
    """``run failover`` with captions: opens with one ping followed, keeps its files."""
    given = parse("demo", argv, ("--json", "--simulate"), ("--seed", "--report", "--era"))
    if given.words:
        raise BottomhalfError(
            f"demo plays one story, not `{given.words[0]}`", f"bottomhalf run {given.words[0]}"
        )
    report = given.value("--report")
    directory = Path(report) if report else Path(tempfile.mkdtemp(prefix="bottomhalf-demo-"))
    return _perform(
        "failover",
        seed=seed_of(given.value("--seed"), "--simulate" in given.flags),
        era=given.value("--era"),
        as_json=options.json or "--json" in given.flags,
        directory=directory,
        opening=True,
    )


def _list() -> int:
    from orchestrator.scenarios import scenario  # noqa: PLC0415

    for name in tomlfile.bundled("scenarios"):
        loaded = scenario.load(name)
        print(f"{name:<16}{loaded.until_ns / 1e9:>5g} s  {loaded.title}")
    return OK


def seed_of(text: str | None, simulate: bool) -> int | None:
    """The seed of the simulation; None for processes."""
    if text is None:
        return 0 if simulate else None
    if not text.isdecimal():
        raise BottomhalfError(f"--seed {text}: a whole number is needed", "--seed 7")
    return int(text)


def _perform(
    name: str,
    *,
    seed: int | None,
    era: str | None,
    as_json: bool,
    directory: Path | None,
    opening: bool,
    processes: bool = False,
) -> int:
    from orchestrator.scenarios import scenario  # noqa: PLC0415

    loaded = scenario.load(name, era=era)
    if seed is None and loaded.runtime == "simulation" and not processes:
        seed = 0
    began = time.monotonic()
    machine = machine_for(loaded, seed)
    try:
        if opening and not as_json:
            _introduce(machine, time.monotonic() - began)
        return _on(machine, loaded, seed, as_json, directory, opening)
    finally:
        machine.close()


def machine_for(loaded: Scenario, seed: int | None) -> Machine:
    """A machine of its own for a run: simulated if there is a seed, else of processes."""
    settings = loaded.machine
    if seed is not None:
        from orchestrator.machines.simulated import SimulatedMachine  # noqa: PLC0415

        return SimulatedMachine(settings._replace(name="m1"), seed=seed)
    from orchestrator.machines.owning import new_machine  # noqa: PLC0415
    from orchestrator.machines.running import free_name  # noqa: PLC0415

    free = free_name([loaded.name, *(f"{loaded.name}-{n}" for n in range(2, 1000))])
    return new_machine(settings._replace(name=free), settings.name)


def _on(
    machine: Machine,
    loaded: Scenario,
    seed: int | None,
    as_json: bool,
    directory: Path | None,
    opening: bool,
) -> int:
    from orchestrator.dashboards import facts  # noqa: PLC0415
    from orchestrator.ledger import settled  # noqa: PLC0415
    from orchestrator.machines.ready import wait_until_ready  # noqa: PLC0415
    from orchestrator.scenarios import result  # noqa: PLC0415
    from orchestrator.scenarios.play import Player  # noqa: PLC0415
    from orchestrator.scenarios.report import Report  # noqa: PLC0415
    from orchestrator.verbs.process import view_of  # noqa: PLC0415

    quiet = as_json
    if not wait_until_ready(machine):
        raise BottomhalfError(
            "the machine's network did not come up", "a fault of ours: bottomhalf doctor", code=3
        )
    if opening and not quiet:
        _open_with_one_ping(machine)
    report = Report(directory) if directory is not None else None
    if report is not None:
        report.begin(machine)
    player = Player(
        machine, loaded, _story(quiet, seed), seed, report.pull if report is not None else None
    )
    played = player.play()
    ledger = settled(machine)
    tables = _tables(machine)
    broken = [b._asdict() for b in facts.breaks(view_of(machine))]
    if report is not None:
        report.end(player.lines)
    width = shutil.get_terminal_size((result.WIDTH, 24)).columns
    machine.close()
    nodes = result.nodes_json(machine.settings, played.buried, machine.states())
    artefacts = dict(report.artefacts) if report is not None else {}
    value = result.as_json(played, ledger, nodes, artefacts, broken)
    text = result.as_text(played, ledger, tables, str(directory or ""), artefacts, width)
    if report is not None:
        report.keep_result(value, text)
    sys.stdout.write(json.dumps(value) + "\n" if as_json else text)
    if as_json:
        sys.stderr.writelines(f"{line}\n" for line in result.failures(played, ledger))
    if played.cut_short == "interrupted":  # by Ctrl-C
        return INTERRUPTED
    return OK if value["passed"] else EXPECTATION_FAILED


def _introduce(machine: Machine, took_s: float) -> None:
    """A line a process, and how long it took."""
    if machine.runtime == "simulation":
        return
    for name, state in machine.states().items():
        print(f"  bh:{name:<6} pid {state.pid}")
    print(f"{len(machine.settings.node_names)} processes in {took_s:.1f} s\n", flush=True)


def _story(quiet: bool, seed: int | None) -> Story | None:
    from orchestrator.scenarios.story import LiveStory, PlainStory, for_terminal  # noqa: PLC0415

    if quiet:
        return None
    if seed is None and for_terminal():
        return LiveStory()

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    return PlainStory(write)


def _tables(machine: Machine) -> dict[str, str]:
    """Interrupts and softirqs of each CPU, in the kernel's own text."""
    from orchestrator.machines import procfiles  # noqa: PLC0415
    from orchestrator.session import Session, drive  # noqa: PLC0415

    found: dict[str, str] = {}
    session = Session(machine)

    def gather() -> Generator[Wait, None, int]:
        for path in ("/proc/interrupts", "/proc/softirqs"):
            with suppress(OSError):  # 2.6.18 has no /proc/softirqs
                found[path] = yield from procfiles.read(session, path)
        return OK

    drive(session, gather())
    return found


def _open_with_one_ping(machine: Machine) -> None:
    """One ping, followed; a line every quarter of a second on a terminal."""
    from orchestrator.session import Session, drive, terminal_width  # noqa: PLC0415
    from orchestrator.views.follow import follow  # noqa: PLC0415

    slowly = sys.stdout.isatty() and machine.runtime == "processes"
    session: Session = Session(machine, width=terminal_width())
    lines: list[str] = []
    session.out = lines.append
    gateway = machine.settings.gateway.addresses[0]

    def show() -> Generator[Wait, Any, int]:
        # the first one asks for the gateway's address; the second is the usual case
        yield from session.program(("ping", "-c", "1", gateway), show=False)
        yield from follow(session, ["ping", "-c", "1", "gateway"])
        for line in "".join(lines).splitlines():
            print(line, flush=True)
            if slowly:
                yield from session.sleep(_FOLLOW_LINE_NS)
        print("this is what you will now break\n", flush=True)
        if slowly:
            yield from session.sleep(_FOLLOW_REST_NS)
        return OK

    drive(session, show())
