"""The verb ``wq``: counters of workqueues as the kernel's tool wq_monitor prints them, every second
on a terminal and once elsewhere, and with ``wq pools`` the worker pools as wq_dump does.

Every CPU is asked for a plain snapshot; the tables are made here (``orchestrator.views.wqtable``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from typing import Any

from nodes.cpu.kernel.params import PRESETS, Params, with_overrides
from orchestrator.configuration.tomlfile import duration_ns
from orchestrator.errors import OK, BottomhalfError, hint_line, words
from orchestrator.session import ANSWER_TIMEOUT_MS, ENDLESS, Session, Steps, Wait, stdout
from orchestrator.verbs import parse, usage
from orchestrator.views import wqtable

INTERVAL_NS = 1_000_000_000
INTERVAL_MAX_S = 86_400.0
POOLS = "pools"


def wq(session: Session, argv: Sequence[str]) -> Steps:
    """Ask, print, and again while it is wanted."""
    given = parse("wq", argv, ("--json",), ("-i", "--interval", "--for"))
    session.json |= "--json" in given.flags
    interval_ns = _interval(given.value("-i") or given.value("--interval"))
    length_ns = _length(given.value("--for"))
    if given.words[:1] == [POOLS]:
        if given.words[1:] or interval_ns is not None or length_ns is not None:
            raise BottomhalfError("wq pools prints all pools, once", usage("wq"))
        code = yield from _pools(session)
        return code
    patterns = _patterns(given.words)
    on_a_terminal = session.out is stdout and session.width != ENDLESS
    if interval_ns is None:
        again = on_a_terminal or length_ns is not None
        interval_ns = INTERVAL_NS if again else 0
    _say_what_there_is_not(session)
    code = yield from _monitor(session, patterns, interval_ns, length_ns)
    return code


def _monitor(
    session: Session, patterns: Sequence[str], interval_ns: int, length_ns: int | None
) -> Steps:
    machine = session.machine
    began = machine.now_ns()
    for number in range(1 << 31):
        snapshots = yield from _ask(session, quiet=number > 0)
        found = wqtable.workqueues(snapshots, patterns)
        if not found and patterns and number == 0:
            names = [row.name for row in wqtable.workqueues(snapshots)]
            raise BottomhalfError(f"wq: no workqueue `{' '.join(patterns)}`", words(names))
        if session.json:
            rows = [row.values(machine.now_ns() - machine.ram.boot_ns) for row in found]
            session.out(json.dumps(rows) + "\n")
        else:
            table = [wqtable.HEADER, *(row.row() for row in found)]
            session.out(("\n" if number else "") + "".join(f"{line}\n" for line in table))
        next_ns = began + (number + 1) * interval_ns
        over = length_ns is not None and next_ns - began > length_ns
        if not interval_ns or over or session.signals:
            break
        yield from session.sleep(max(next_ns - machine.now_ns(), 0))
        if session.signals:
            break
    return OK


def _pools(session: Session) -> Steps:
    snapshots = yield from _ask(session)
    if session.json:
        session.out(json.dumps({f"cpu{n}": snapshots[n] for n in sorted(snapshots)}) + "\n")
    elif _params(session).workqueue == "keventd":
        session.out(wqtable.threads(snapshots))
    else:
        session.out(wqtable.dump(snapshots, session.machine.settings.cpus))
        session.out(wqtable.workers(snapshots, _params(session).worker_comm))
    return OK


def _ask(session: Session, quiet: bool = False) -> Generator[Wait, None, dict[int, Any]]:
    """The snapshot of every CPU that answers; who does not is named once."""
    machine = session.machine
    requests, missing = {}, []
    for number, name in enumerate(machine.settings.cpu_names):
        state = machine.state(name)
        if state.alive and not state.frozen:
            requests[number] = machine.ask(name, "workqueues")
        else:
            missing.append(f"{name} is {'frozen' if state.alive else 'dead'}")
    yield from session.until(
        lambda: all(request.done for request in requests.values()), ANSWER_TIMEOUT_MS
    )
    found = {}
    for number, request in requests.items():
        if request.done and request.ok and not request.failed:
            found[number] = request.value
        else:
            missing.append(f"{request.node} does not answer")
    if not found:
        raise BottomhalfError(f"wq: {'; '.join(missing)}", "bottomhalf ps", 1)
    if missing and not quiet:
        session.err(f"bottomhalf: {'; '.join(missing)}: what it counted is missing here\n")
    return found


def names(session: Session) -> Generator[Wait, None, list[str]]:
    """Workqueues of a machine, for completion."""
    snapshots = yield from _ask(session)
    return [row.name for row in wqtable.workqueues(snapshots)]


def _say_what_there_is_not(session: Session) -> None:
    """Why columns are empty in a kernel without worker pools."""
    params = _params(session)
    if params.workqueue == "keventd":
        session.err(
            hint_line(
                f"{params.release} has a thread for each workqueue and CPU: no concurrency "
                "management, no rescuers, no counters of them (-)"
            )
        )


def _params(session: Session) -> Params:
    settings = session.machine.settings
    return with_overrides(PRESETS[settings.era], settings.overrides)


def _patterns(given: Sequence[str]) -> list[str]:
    for pattern in given:
        try:
            re.compile(pattern)
        except re.error as error:
            raise BottomhalfError(
                f"wq: `{pattern}` is no regular expression: {error}", usage("wq")
            ) from None
    return list(given)


def _interval(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,5}(\.\d*)?|\.\d+", text) or float(text) > INTERVAL_MAX_S:
        raise BottomhalfError(
            f"wq -i: `{text}` is no number of seconds", "-i 0.5     (0: print once)"
        )
    return int(float(text) * 1e9)


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    length = duration_ns(text)
    if not length:
        raise BottomhalfError(f"wq --for: `{text}` is not a length of time", "--for 2s")
    return length
