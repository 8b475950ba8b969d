"""The verb ``trace``: what the flight recorders of the nodes hold, as ftrace text.

With ``--for`` it gathers, then prints as the file ``trace`` does; without, it prints as things
happen, until Ctrl-C. While it runs the recorders' masks are wider; looking is all it does besides,
and asking for names when a record names somebody new. A dead node's recorder is read as it was
left.

Nodes that are no CPU print in the same columns: their name as the comm, their process as the pid,
``---`` for the CPU, and no flags.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import NamedTuple

from nodes.cpu.kernel.params import PRESETS, Params, with_overrides
from nodes.cpu.trace import unpack_context
from orchestrator.configuration.tomlfile import duration_ns
from orchestrator.errors import OK, BottomhalfError, did_you_mean, hint_line, words
from orchestrator.machines.machine import Request
from orchestrator.session import ANSWER_TIMEOUT_MS, Session, Steps, Wait
from orchestrator.tracing import ftrace, ftracetable
from orchestrator.tracing.ftraceparts import Names
from orchestrator.tracing.ftracerows import DEFAULT_GROUPS, GROUPS, Row
from orchestrator.tracing.ftracetable import NAMES_TASKS, TABLES
from orchestrator.tracing.recording import Event, Recording
from orchestrator.verbs import parse
from orchestrator.verbs.targets import resolve
from orchestrator.views.follow import kind_of

#: A ring holds some thousand records: a flood fills it in about 50 ms.
LOOK_NS = 10_000_000
_PID_MASK = 0xFFFF_FFFF


class Asked(NamedTuple):
    """What stood behind the verb."""

    nodes: list[str]
    events: list[str]
    duration_ns: int | None


def trace(session: Session, argv: Sequence[str]) -> Steps:
    """Record, print, and leave the recorders as they were."""
    asked = _parse(session, argv)
    settings = session.machine.settings
    params = with_overrides(PRESETS[settings.era], settings.overrides)
    masks = _masks(session, asked, params)
    listing = Listing(session, params, masks)
    _say_if_there_is_no_ftrace(session, params)
    dead = [name for name in masks if not session.machine.state(name).alive]
    for name in dead:
        session.err(f"bottomhalf: {name} is dead; these are the last records it left\n")
    yield from listing.learn()
    recording = Recording(session.machine.ram, listing.recorded, dead)
    try:
        if len(dead) == len(masks):
            listing.gathered += recording.pull()
            listing.finish()
        elif asked.duration_ns is None:
            yield from _live(session, listing, recording)
        else:
            yield from _gather(session, listing, recording, asked.duration_ns)
    finally:
        recording.stop()
    _say_what_is_not_linux(session, params, listing.foreign)
    return OK


def _gather(
    session: Session, listing: Listing, recording: Recording, length_ns: int
) -> Generator[Wait, None, None]:
    until = session.machine.now_ns() + length_ns
    while session.machine.now_ns() < until and not session.signals:
        yield from session.sleep(min(LOOK_NS, until - session.machine.now_ns()))
        listing.gathered += recording.pull()
    recording.stop()
    yield from listing.learn()
    listing.finish()


def _live(session: Session, listing: Listing, recording: Recording) -> Generator[Wait, None, None]:
    """One look behind: what a node wrote before the last look is complete."""
    listing.begin()
    settled = session.machine.now_ns()
    while not session.signals:
        yield from session.sleep(LOOK_NS)
        now = session.machine.now_ns()
        listing.gathered += recording.pull()
        if listing.unknown():
            yield from listing.learn()
        listing.print_until(settled)
        settled = now
    listing.gathered += recording.pull()
    listing.print_until(None)


# ---------------------------------------------------------------- what is wanted


def _parse(session: Session, argv: Sequence[str]) -> Asked:
    given = parse("trace", argv, ("--json",), ("-e", "--for"))
    session.json |= "--json" in given.flags
    events = [word for value in given.values.get("-e", ()) for word in value.split(",") if word]
    known = [*GROUPS, *ftracetable.event_names()]
    for word in events:
        if word not in known:
            raise BottomhalfError(
                f"trace: no events `{word}`{did_you_mean(word, known)}",
                f"groups: {words(GROUPS)}; or a tracepoint's own name",
            )
    length: int | None = None
    text = given.value("--for")
    if text is not None:
        length = duration_ns(text)
        if not length:
            raise BottomhalfError(f"trace --for: `{text}` is not a length of time", "--for 2s")
    return Asked(resolve(session.machine, given.words), events, length)


def _masks(session: Session, asked: Asked, params: Params) -> dict[str, int]:
    """Shown events by node. Without ``-e``: the kernel's own of CPUs, all of other nodes."""
    settings = session.machine.settings
    masks: dict[str, int] = {}
    for name in asked.nodes or settings.node_names:
        kind = kind_of(settings, name)
        every = GROUPS if asked.nodes and kind != "cpu" else DEFAULT_GROUPS
        wanted = asked.events or every
        mask = ftracetable.select(kind, wanted, _form(params))
        if mask:
            masks[name] = mask
        elif asked.nodes:
            raise BottomhalfError(
                f"trace: {name} has no events {words(wanted)}",
                f"groups of {name}: {words(_groups(kind))}",
            )
    return masks


def _groups(kind: str) -> list[str]:
    return sorted({shown.row.group for shown in TABLES[kind].values()}, key=GROUPS.index)


def _form(params: Params) -> str:
    return params.ftrace_format if params.ftrace_format in ftrace.LAYOUTS else ftrace.STAND_IN


def _say_if_there_is_no_ftrace(session: Session, params: Params) -> None:
    if params.ftrace_format not in ftrace.LAYOUTS:
        session.err(
            hint_line(
                f"{params.release} has no ftrace (nor irq, softirq and workqueue tracepoints); "
                f"shown as {ftrace.STAND_IN} prints it"
            )
        )


def _say_what_is_not_linux(session: Session, params: Params, printed: Iterable[str]) -> None:
    """Which of the printed lines are no tracepoints of this kernel."""
    names = sorted(printed)
    if names and params.ftrace_format in ftrace.LAYOUTS:
        session.hint(f"no tracepoints of {params.release} on x86: {words(names)}")


# ---------------------------------------------------------------- the listing


def held(row: Row, columns: ftrace.Columns) -> int:
    """Levels of preemption that Linux holds at this point, in this task."""
    idle = columns.pid == 0 and row.idle_held is not None
    return row.idle_held or 0 if idle else row.held


class Listing:
    """Events on their way to lines: names, order, counts."""

    def __init__(self, session: Session, params: Params, shown: Mapping[str, int]) -> None:
        self._session = session
        self._machine = session.machine
        self._params = params
        self._layout = ftrace.layout_of(params.ftrace_format)
        settings = session.machine.settings
        self._cpus = settings.cpu_names
        self.shown = dict(shown)
        #: With a CPU's events goes the one that names new tasks.
        self.recorded = {
            name: mask | (1 << NAMES_TASKS if name in self._cpus else 0)
            for name, mask in shown.items()
        }
        self._comms: dict[int, str] = {}
        self._gone: set[int] = set()  # nobody could say who that was
        self._symbols: dict[str, list[str]] = {name: [] for name in shown}
        self._irqs: dict[int, str] = {}
        self._devices: dict[int, str] = {}
        self._pids = {name: self._machine.state(name).pid or 0 for name in shown}
        self.gathered: list[Event] = []
        #: Names that were printed though this kernel's CPUs have no such tracepoint.
        self.foreign: set[str] = set()

    # -- names

    def learn(self) -> Generator[Wait, None, None]:
        """Ask the living CPUs who is who; nobody waits for one that hangs for long."""
        if not self._cpus:
            return
        boot = self._cpus[0]
        wanted = [(name, what) for name in self._cpus for what in ("state", "symbols")]
        requests: dict[tuple[str, str], Request] = {}
        for name, what in [(boot, "kernel"), *wanted]:
            state = self._machine.state(name)
            if state.alive and not state.frozen:
                requests[name, what] = self._machine.ask(name, what)
        yield from self._session.until(
            lambda: all(request.done for request in requests.values()), ANSWER_TIMEOUT_MS
        )
        for (name, what), request in requests.items():
            if not request.done or not request.ok or request.failed:
                continue
            if what == "symbols":
                self._symbols[name] = list(request.value)
            elif what == "kernel":
                self._irqs = {irq: ", ".join(who) for irq, _, _, who in request.value["irqs"]}
            else:
                self._comms |= {task[0]: task[1] for task in request.value["tasks"]}
                if name == boot:
                    indexes = request.value["ifindexes"]
                    self._devices = {index: device for device, index in indexes.items()}
        self._gone |= self._strangers()

    def _strangers(self) -> set[int]:
        """Tasks that gathered records mean and nobody has named."""
        found: set[int] = set()
        for event in self.gathered:
            if event.node in self._cpus:
                found.add(unpack_context(event.record.context).pid)
        return {pid for pid in found if pid and pid not in self._comms}

    def unknown(self) -> bool:
        """Is there a name that asking may bring?"""
        self._name_new_tasks()
        for event in self.gathered:
            record = event.record
            if event.node not in self._cpus:
                continue
            number = record.b if record.event == NAMES_TASKS else None
            if record.event in TABLES["cpu"]:
                number = ftracetable.symbol_of(TABLES["cpu"][record.event].row, record) or number
            if number is not None and number >= len(self._symbols[event.node]):
                return True
        return bool(self._strangers() - self._gone)

    def _name_new_tasks(self) -> None:
        for event in self.gathered:
            if event.record.event == NAMES_TASKS and event.node in self._cpus:
                symbols = self._symbols[event.node]
                if event.record.b < len(symbols):
                    self._comms[event.record.a & _PID_MASK] = symbols[event.record.b]

    def _names(self, node: str) -> Names:
        number = self._cpus.index(node) if node in self._cpus else 0
        return Names(
            self._params, self._layout, self._machine.settings.nic_names, self._devices,
            self._irqs, self._comms, self._symbols.get(node, []), number,
            self._machine.ram.boot_ns,
        )  # fmt: skip

    # -- printing

    def begin(self) -> None:
        """The legend above a listing that is still growing."""
        if not self._session.json:
            self._say(ftrace.header(self._layout, len(self._cpus)))

    def print_until(self, time_ns: int | None) -> None:
        """Print what was recorded before that clock, oldest first; all if it is None."""
        self._name_new_tasks()
        self.gathered.sort()
        ready = [e for e in self.gathered if time_ns is None or e.time_ns < time_ns]
        self.gathered = self.gathered[len(ready) :]
        self._say(self._lines(ready))

    def finish(self) -> None:
        """The whole listing with its counts; lines of one node stay in the order of writing."""
        self._name_new_tasks()
        kept = sum(1 for event in self.gathered if self._is_shown(event))
        lost = sum(event.lost for event in self.gathered)
        if not self._session.json:
            self._say(ftrace.header(self._layout, len(self._cpus), (kept, kept + lost)))
        self.print_until(None)

    def _say(self, lines: Iterable[str]) -> None:
        text = "".join(line + "\n" for line in lines)
        if text:
            self._session.out(text)

    def _is_shown(self, event: Event) -> bool:
        return bool(self.shown[event.node] >> event.record.event & 1)

    def _lines(self, events: Iterable[Event]) -> Generator[str, None, None]:
        names = {node: self._names(node) for node in self.shown}
        kinds = {node: kind_of(self._machine.settings, node) for node in self.shown}
        boot_ns = self._machine.ram.boot_ns
        for event in events:
            columns = self._columns(event, boot_ns)
            if event.lost and not self._session.json:
                yield ftrace.lost(columns, event.lost)
            if not self._is_shown(event):
                continue
            name, row = TABLES[kinds[event.node]][event.record.event]
            if event.node in self._cpus and self._params.ftrace_format not in row.eras:
                self.foreign.add(name)
            fields = ftracetable.text(row, event.record, names[event.node])
            if self._session.json:
                yield self._json(event, columns, name, fields, row)
            else:
                yield ftrace.line(
                    self._layout, columns, f"{name}: {fields}", row.irqs_off, held(row, columns)
                )

    def _columns(self, event: Event, boot_ns: int) -> ftrace.Columns:
        since_boot = event.time_ns - boot_ns
        if event.node not in self._cpus:
            pid = self._pids[event.node]
            return ftrace.Columns(since_boot, event.node, pid, None, None)
        moment = unpack_context(event.record.context)
        comm = self._comms.get(moment.pid, ftrace.UNKNOWN_COMM)
        return ftrace.Columns(since_boot, comm, moment.pid, self._cpus.index(event.node), moment)

    def _json(self, event: Event, columns: ftrace.Columns, name: str, fields: str, row: Row) -> str:
        found: dict[str, object] = {
            "time_ns": columns.time_ns, "node": event.node, "cpu": columns.cpu,
            "comm": ftrace.comm(columns), "pid": columns.pid,
            "flags": ftrace.flags(self._layout, columns, row.irqs_off, held(row, columns)),
            "event": name, "fields": fields, "a": event.record.a, "b": event.record.b,
            "lost_before": event.lost,
        }  # fmt: skip
        if columns.moment is not None:
            found |= columns.moment._asdict()
        return json.dumps(found)
