"""What a run says at its end: one JSON object, and the tables that a person reads."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nodes.machine import MachineSettings
from orchestrator.ledger import Ledger
from orchestrator.machines.machine import NodeState, signal_name
from orchestrator.scenarios.phases import Phase, ping_totals
from orchestrator.scenarios.played import INTERRUPTED, Played

TRY_NEXT = (
    "bottomhalf up -d                    the same machine, to break by hand",
    "bottomhalf follow ping -c 1 gateway the way of one packet, a line a step",
    "bottomhalf run --seed 7             the same in virtual time, twice the same",
)
WIDTH = 80


def as_json(
    played: Played,
    ledger: Ledger,
    nodes: list[dict[str, Any]],
    artefacts: Mapping[str, Any],
    broken: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The result; fields are only ever added. ``broken`` is what is still broken at the end."""
    return {
        "scenario": played.scenario.name,
        "runtime": played.runtime,
        "seed": played.seed,
        "passed": played.passed and ledger.balanced,
        "era": played.scenario.machine.era,
        "cut_short": played.cut_short or None,
        "pings": ping_totals(played.times),
        "phases": [phase.as_json() for phase in played.phases],
        "expectations": [verdict.as_json() for verdict in played.verdicts],
        "ledger": ledger.as_json(),
        "nodes": nodes,
        "artefacts": dict(artefacts),
        "broken": [dict(row) for row in broken],
    }


def nodes_json(
    settings: MachineSettings, buried: Iterable[NodeState], states: Mapping[str, NodeState]
) -> list[dict[str, Any]]:
    """Every process that took part, in the order of the nodes and their lives."""
    lives = [*buried, *states.values()]
    order = {name: number for number, name in enumerate(settings.node_names)}
    lives.sort(key=lambda state: (order[state.name], state.incarnation))
    return [
        {
            "name": state.name,
            "pid": state.pid,
            "exit": signal_name(state.signal) if state.signal else state.exit_code,
            "incarnation": state.incarnation,
        }
        for state in lives
    ]


# ---------------------------------------------------------------- for people


def as_text(
    played: Played,
    ledger: Ledger,
    tables: Mapping[str, str],
    directory: str = "",
    artefacts: Mapping[str, Any] | None = None,
    width: int = WIDTH,
) -> str:
    """The sentence, the phases, interrupts and softirqs, the ledger, files, what to try next."""
    parts = [verdict_line(played, ledger), "", phases_text(played.phases, width)]
    for path, text in tables.items():
        parts += [f"{path} (rows that moved)", busy_rows(text, width), ""]
    parts += ["ledger", ledger.text(width), ""]
    if artefacts:
        parts += [f"files in {directory}", *_files(artefacts), ""]
    parts += ["try next", *(f"  {line}" for line in TRY_NEXT)]
    failed = failures(played, ledger, directory)
    if failed:
        parts += ["", *failed]
    return "\n".join(parts) + "\n"


def verdict_line(played: Played, ledger: Ledger) -> str:
    """One plain sentence."""
    totals = ping_totals(played.times)
    name = played.scenario.name
    world = "in virtual time" if played.runtime == "simulation" else "in real time"
    gaps = [phase.gap_ms for phase in played.phases if phase.lost]
    known = [gap for gap in gaps if gap is not None]
    if played.cut_short:
        head = f"{name} was cut short: {played.cut_short}"
    elif not played.passed:
        head = f"{name} FAILED"
    elif not ledger.balanced:
        head = f"{name}: the ledger does not balance"
    else:
        head = f"{name} passed"
    lost = f"{totals['lost']} of {totals['sent']} pings lost"
    longest = f", longest gap {max(known):g} ms" if known else ""
    return f"{head} ({world}): {lost}{longest}."


def phases_text(phases: Sequence[Phase], width: int) -> str:
    """The table of phases, and the kernel lines that ended gaps."""
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.ASCII2, expand=False, show_lines=False, pad_edge=False)
    table.add_column("at s", justify="right")
    table.add_column("phase")
    for column in ("sent", "received", "lost", "gap ms"):
        table.add_column(column, justify="right")
    table.add_column("active", justify="left")
    for phase in phases:
        table.add_row(
            f"{phase.start_ms / 1000:.1f}",
            phase.name,
            str(phase.sent),
            str(phase.received),
            str(phase.lost),
            "no end" if phase.gap_ms is None else f"{phase.gap_ms:g}",
            phase.active or "none",
        )
    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None, highlight=False).print(table)
    text = "\n".join(line.rstrip() for line in sink.getvalue().splitlines()) + "\n"
    for phase in phases:
        if phase.cause:
            text += f"{phase.name}: ended by\n  {phase.cause}\n"
    return text


def busy_rows(text: str, width: int = WIDTH) -> str:
    """The heading and the rows of /proc/interrupts or /proc/softirqs that are not all zero."""
    lines = text.splitlines()
    if not lines:
        return ""
    columns = len(lines[0].split())
    kept = [lines[0]]
    for line in lines[1:]:
        counts = line.split(":", 1)[-1].split()[:columns]
        if any(count.isdecimal() and int(count) for count in counts):
            kept.append(line)
    return "\n".join(line[:width].rstrip() for line in kept)


def _files(artefacts: Mapping[str, Any]) -> list[str]:
    lines = []
    for what, where in artefacts.items():
        if isinstance(where, str):
            names = where
        elif what.startswith("proc_"):
            folder = next(iter(where.values())).split("/")[0]
            names = f"{folder}/proc/: {' '.join(path.rsplit('/', 1)[-1] for path in where)}"
        else:
            names = "  ".join(where.values())
        lines.append(f"  {what:<12} {names}")
    return lines


def failures(played: Played, ledger: Ledger, directory: str = "") -> list[str]:
    """``FAILED failover step 3: gap 2104 ms, expected <= 250`` and what helps to see why."""
    name = played.scenario.name
    lines = []
    for verdict in played.verdicts:
        if verdict.passed:
            continue
        lines.append(f"FAILED {name} step {verdict.step}: {verdict.text}")
        if verdict.cause:
            lines.append(f"  ended by {verdict.cause}")
    interrupted = played.cut_short == INTERRUPTED  # by Ctrl-C: something may be on its way
    if played.cut_short and not interrupted:
        lines.append(f"FAILED {name}: {played.cut_short}")
    if not ledger.balanced and not interrupted:
        lines.extend(f"FAILED {name} ledger: {fault}" for fault in ledger.faults)
    if lines and directory:
        lines.append(f"  report: {directory}")
    if lines and played.seed is not None:
        lines.append(f"  replay: bottomhalf run {played.scenario.again} --seed {played.seed}")
    return lines
