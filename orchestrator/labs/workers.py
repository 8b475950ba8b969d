"""The picture of works: a lane for each worker, a step line of nr_running, marks for wake-ups.

Put together from trace records, one picture for each CPU and step of a lab in which works of
modules ran: from the first one's beginning to a little after the last one's end. There is a lane
for each task that ran a work meanwhile, be it the kernel's::

                  |0 ns            |8 ms
      kworker/1:0   000000000zzzzzzzzzzzzz000000000
      kworker/1:2   .........1111zzzzzzzzzzzzz1
      woken         ^        ^            ^   ^
      nr_running  2                       2
        pool 2    1 111111111111           1111
                  0 0            000000000

A digit is the work that the worker runs, ``z`` its sleep inside it, ``=`` waiting for the CPU.
In a column of the step line stand all values that nr_running had in it, however briefly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bus.recorder import Record
from nodes.cpu.kernel import words
from nodes.cpu.trace import TRACEPOINTS, unpack_context
from orchestrator.labs import timeline
from orchestrator.labs.contexts import PID_MASK, Interval

#: Events that the picture needs.
WANTED = (
    "sched_switch", "sched_wakeup", "sched_wakeup_new", "workqueue_execute_start",
    "workqueue_execute_end", "worker_pool_nr_running",
)  # fmt: skip
#: Works of modules; the kernel's own are not drawn.
SLEEPS, WAITS, AWAKE, IDLE = "z", "=", "+", "."
#: Which work runs.
DIGITS = "0123456789abcdefghijklmnopqrstuvwxy"
URGENCY = DIGITS + WAITS + SLEEPS + AWAKE + IDLE
MARGIN = 18
COLUMNS = 60
#: The picture goes on for this part of it.
AFTER = 10
WIDTH = 74
LEGEND = (
    (SLEEPS, "sleeps in its work"), (WAITS, "waits for the CPU"), (AWAKE, "awake without a work"),
    (IDLE, "no work"), ("^", "a worker is woken"),
)  # fmt: skip

_SWITCH, _WAKEUP, _NEW, _START, _END, _NR_RUNNING = (TRACEPOINTS[name].number for name in WANTED)


class Step(NamedTuple):
    """From ``time_ns`` on, nr_running of a pool."""

    time_ns: int
    value: int


@dataclass
class Picture:
    """What one CPU's workers did in one step."""

    cpu: str
    begin_ns: int
    end_ns: int
    lanes: dict[str, list[Interval]] = field(default_factory=dict)  # by the worker's name
    pools: dict[int, list[Step]] = field(default_factory=dict)
    woken_ns: list[int] = field(default_factory=list)
    works: dict[str, str] = field(default_factory=dict)  # name -> its digit


class _Lane:
    """One worker's intervals in the making."""

    def __init__(self) -> None:
        self.found: list[Interval] = []
        self.since = 0
        self.letter = IDLE
        self.work: str | None = None  # its digit
        self.running = self.woken = False

    def update(self, time_ns: int) -> None:
        """The letter for what is so from now on."""
        if self.running:
            letter = self.work or AWAKE
        elif self.woken:
            letter = WAITS
        else:
            letter = SLEEPS if self.work else IDLE
        if letter != self.letter:
            if time_ns > self.since or self.letter in DIGITS:
                time_ns = max(time_ns, self.since + 1)  # a work that took no time is seen
                self.found.append(Interval(self.since, time_ns, self.letter))
            self.since, self.letter = time_ns, letter

    def close(self, time_ns: int) -> list[Interval]:
        return [*self.found, Interval(self.since, max(time_ns, self.since), self.letter)]


def picture(
    cpu: str, records: Sequence[Record], symbols: Sequence[str], comms: Mapping[int, str]
) -> Picture | None:
    """Of the records of one CPU; None if no module's work ran."""
    found = [r for r in records if r.event in (_START, _END)]
    ours = [r.time_ns for r in found if r.a in words.MODULE_WORKS]
    if not ours:
        return None
    shown = Picture(cpu, ours[0], ours[-1] + (ours[-1] - ours[0]) // AFTER)
    if len(ours) % 2:
        shown.end_ns = records[-1].time_ns  # one goes on
    ran = [r for r in found if shown.begin_ns <= r.time_ns <= shown.end_ns]
    lanes = {unpack_context(r.context).pid: _Lane() for r in ran}
    pools = _pools(records, shown)
    for record in records:
        if record.time_ns > shown.end_ns:
            break
        event, now = record.event, record.time_ns
        if event == _SWITCH:
            _switch(record, lanes)
        elif event in (_WAKEUP, _NEW):
            lane = lanes.get(record.a & PID_MASK)
            if lane is not None:
                lane.woken = not lane.running
                lane.update(now)
                if now >= shown.begin_ns:
                    shown.woken_ns.append(now)
        elif event in (_START, _END) and now >= shown.begin_ns:
            lane = lanes.get(unpack_context(record.context).pid)
            if lane is not None:
                name = symbols[record.b] if record.b < len(symbols) else f"#{record.b}"
                lane.work = _digit(shown.works, name) if event == _START else None
                lane.running = True
                lane.update(now)
    for pid, lane in lanes.items():
        shown.lanes[comms.get(pid, f"pid {pid}")] = lane.close(shown.end_ns)
    shown.pools = pools
    return shown


def _digit(works: dict[str, str], name: str) -> str:
    """Of a work: the one its name ends in, or the next that is free."""
    if name not in works:
        free = [digit for digit in DIGITS if digit not in works.values()] or [DIGITS[-1]]
        works[name] = name[-1] if name[-1:] in free and name[-1:].isdecimal() else free[0]
    return works[name]


def _switch(record: Record, lanes: Mapping[int, _Lane]) -> None:
    state = record.a >> 48
    before, after = lanes.get(record.a & PID_MASK), lanes.get(record.b & PID_MASK)
    if before is not None:
        before.running, before.woken = False, state == 0  # preempted: it waits
        before.update(record.time_ns)
    if after is not None:
        after.running, after.woken = True, False
        after.update(record.time_ns)


def _pools(records: Sequence[Record], shown: Picture) -> dict[int, list[Step]]:
    """nr_running of the pools in which it moved meanwhile."""
    found: dict[int, list[Step]] = {}
    for record in records:
        if record.event == _NR_RUNNING:
            found.setdefault(record.a & PID_MASK, []).append(Step(record.time_ns, record.b))
    within = {
        pool: steps
        for pool, steps in found.items()
        if any(shown.begin_ns <= step.time_ns <= shown.end_ns for step in steps)
    }
    return dict(sorted(within.items()))


# ---------------------------------------------------------------- drawing


def draw(shown: Picture) -> list[str]:
    """Ruler, lanes, wake-ups, step lines, and what the letters mean."""
    column_ns = timeline.scale(max(1, shown.end_ns - shown.begin_ns), COLUMNS)
    columns = max(1, -(-(shown.end_ns - shown.begin_ns) // column_ns))
    begin = shown.begin_ns
    lines = [timeline.ruler(column_ns, columns, MARGIN)]
    used: set[str] = set()
    for name, found in shown.lanes.items():
        letters = timeline.row(found, begin, column_ns, columns, URGENCY)
        lines.append(f"    {name:<{MARGIN - 4}}{letters}")
        used |= set(letters)
    marks = [" "] * columns
    for at in shown.woken_ns:
        marks[min(columns - 1, (at - begin) // column_ns)] = "^"
    lines.append(f"    {'woken':<{MARGIN - 4}}{''.join(marks)}")
    for pool, steps in shown.pools.items():
        lines += _step_line(pool, steps, begin, column_ns, columns)
    return [*(line.rstrip() for line in lines), *_legend(shown.works, used | set(marks))]


def _legend(works: Mapping[str, str], used: set[str]) -> list[str]:
    """What the letters that occur mean, in lines that fit a page."""
    texts = sorted(f"{digit} {name}" for name, digit in works.items())
    texts += [f"{letter} {text}" for letter, text in LEGEND if letter in used]
    lines = [""]
    for text in texts:
        if len(lines[-1]) + len(text) > WIDTH:
            lines.append("")
        lines[-1] += f"  {text}"
    return [f"  {line}" for line in lines]


def _step_line(
    pool: int, steps: Sequence[Step], begin: int, column_ns: int, columns: int
) -> list[str]:
    """A row for each value, the highest first; in a column all values that there were in it."""
    held: list[set[int]] = [set() for _ in range(columns)]
    value, since = 0, begin
    for step in [*steps, Step(begin + columns * column_ns, -1)]:
        if step.time_ns > begin:
            first = (since - begin) // column_ns
            last = min(columns - 1, (step.time_ns - 1 - begin) // column_ns)
            for column in range(first, last + 1):
                held[column].add(value)
            since = step.time_ns
        if since >= begin + columns * column_ns:
            break
        value = step.value
    top = max((max(values, default=0) for values in held), default=0)
    lines = []
    for level in range(top, -1, -1):
        digits = "".join(str(level % 10) if level in values else " " for values in held)
        head = {top: "nr_running", top - 1: f"  pool {pool}"}.get(level, "")
        lines.append(f"    {head:<{MARGIN - 7}}{level:>2} {digits}")
    return lines
