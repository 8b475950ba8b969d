"""``guest run``: a scenario in a real kernel, judged as on the emulated machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.errors import EXPECTATION_FAILED, OK, BottomhalfError
from orchestrator.verbs import parse, usage

if TYPE_CHECKING:
    from orchestrator.cli import Options
    from orchestrator.guest.play import GuestPlayed
    from orchestrator.scenarios.scenario import Scenario
    from orchestrator.verbs import Options as Given

_FLAGS = ("--json",)
_VALUES = ("--kernel", "--modules", "--smp", "--accel", "--append")
WIDTH = 80


def run(options: Options, argv: Sequence[str]) -> int:
    """Play a scenario in a guest of its own and judge it."""
    from orchestrator.scenarios import scenario  # noqa: PLC0415

    given = parse("guest", argv, _FLAGS, _VALUES)
    if len(given.words) > 1:
        raise BottomhalfError("guest run plays one scenario at a time", usage("guest"))
    loaded = scenario.load(given.words[0] if given.words else scenario.DEFAULT_SCENARIO)
    as_json = options.json or "--json" in given.flags
    played = play(loaded, given, quiet=as_json)
    sys.stdout.write(json.dumps(_as_json(played)) + "\n" if as_json else as_text(played))
    return OK if played.passed else EXPECTATION_FAILED


def play(loaded: Scenario, given: Given, quiet: bool = False) -> GuestPlayed:
    """A guest for the scenario's machine, and the scenario on it."""
    from orchestrator.guest import fetch  # noqa: PLC0415
    from orchestrator.guest import play as player  # noqa: PLC0415
    from orchestrator.guest.machine import GuestMachine  # noqa: PLC0415
    from orchestrator.machines.owning import new_machine  # noqa: PLC0415
    from orchestrator.machines.running import free_name  # noqa: PLC0415
    from orchestrator.verbs.guest import SMP_MAX, check_files, make_plan, number  # noqa: PLC0415

    check_files(given)
    player.check(loaded)
    cpus = number(given, "--smp", min(loaded.machine.cpus, SMP_MAX))
    name = f"guest-{loaded.name}"
    name = free_name([name, *(f"{name}-{n}" for n in range(2, 1000))])
    settings = loaded.machine._replace(name=name, guest=True, cpus=cpus)
    loaded = loaded._replace(machine=settings)
    fetched = fetch.everything(given.value("--kernel") or "", given.value("--modules") or "")
    plan = make_plan(given, settings, fetched)

    def say(at_ns: int, line: str) -> None:
        if not quiet:
            print(f"{at_ns / 1e9:7.2f} s  {line}", flush=True)

    if not quiet:
        print(f"booting Linux {plan.release} on {plan.smp} CPUs of QEMU ({plan.accel})", flush=True)
    machine = new_machine(settings, loaded.name, plan)
    try:
        assert isinstance(machine, GuestMachine)
        return player.GuestPlayer(machine, loaded, say).play()
    finally:
        machine.close()


def as_text(played: GuestPlayed) -> str:
    """The sentence, the phases, the kernel log, the bond."""
    from orchestrator.labs.guestlab import interesting  # noqa: PLC0415
    from orchestrator.scenarios.phases import ping_totals  # noqa: PLC0415
    from orchestrator.scenarios.result import phases_text  # noqa: PLC0415

    totals = ping_totals(played.times)
    name = played.scenario.name
    if played.cut_short:
        head = f"{name} was cut short: {played.cut_short}"
    else:
        head = f"{name} {'passed' if played.passed else 'FAILED'}"
    lines = [
        f"{head} (a real kernel): {totals['lost']} of {totals['sent']} pings lost.",
        "",
        phases_text(played.phases, WIDTH),
        "kernel log, seconds of the scenario",
        *(f"{at / 1e9:8.3f}  {line.text}" for at, line in played.log if interesting(line.text)),
    ]
    if played.bond:
        lines += ["", played.bond.rstrip()]
    failed = [
        f"FAILED {name} step {verdict.step}: {verdict.text}"
        for verdict in played.verdicts
        if not verdict.passed
    ]
    return "\n".join([*lines, *([""] if failed else []), *failed]) + "\n"


def _as_json(played: GuestPlayed) -> dict[str, Any]:
    from orchestrator.scenarios.phases import ping_totals  # noqa: PLC0415

    return {
        "scenario": played.scenario.name,
        "runtime": "guest",
        "passed": played.passed,
        "cut_short": played.cut_short or None,
        "pings": ping_totals(played.times),
        "phases": [phase.as_json() for phase in played.phases],
        "expectations": [verdict.as_json() for verdict in played.verdicts],
        "log": [{"at_ms": round(at / 1e6, 1), "line": line.stamped()} for at, line in played.log],
        "bond": played.bond,
    }
