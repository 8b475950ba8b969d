"""Who had each CPU when: intervals of contexts, put together from trace records.

A record tells the context it was made in, and what it says of itself: an interrupt or a softirq
begins or ends, another task gets the CPU. Letters are those of the dashboards (``H S T .``). An
interrupt whose end no record tells (IPIs, the timer) is given ``SHORT_NS``, or less if something
else follows sooner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bus.recorder import Record
from nodes.cpu.page import CONTEXTS
from nodes.cpu.trace import TRACEPOINTS

SHORT_NS = 750
#: Of a task in a record; above it there may be more.
PID_MASK = 0xFFFF_FFFF
#: Letter of each of CONTEXTS; a stalled CPU is still in the context that reads.
LETTER = dict(zip(CONTEXTS, ".TSHN--", strict=True))
IDLE, TASK, SOFTIRQ, HARDIRQ, NMI, DEAD = ".", "T", "S", "H", "N", "X"
#: The most urgent first.
URGENCY = "XNHST-."

_ENTRIES = ("irq_handler_entry", "local_timer_entry", "reschedule_entry", "call_function_entry",
            "call_function_single_entry", "spurious_apic_entry", "error_apic_entry",
            "nmi_handler")  # fmt: skip
_EXITS = ("irq_handler_exit", "local_timer_exit", "reschedule_exit", "call_function_exit",
          "call_function_single_exit", "spurious_apic_exit", "error_apic_exit")  # fmt: skip
#: Names of the events that are needed.
WANTED = (*_ENTRIES, *_EXITS, "softirq_entry", "softirq_exit", "sched_switch")


def _numbers(names: Iterable[str]) -> frozenset[int]:
    return frozenset(TRACEPOINTS[name].number for name in names if name in TRACEPOINTS)


_ENTRY, _EXIT = _numbers(_ENTRIES), _numbers(_EXITS)
_ENDED = _numbers(name for name in _ENTRIES if name.replace("_entry", "_exit") in TRACEPOINTS)
_SOFTIRQ_ENTRY = TRACEPOINTS["softirq_entry"].number
_SOFTIRQ_EXIT = TRACEPOINTS["softirq_exit"].number
_SWITCH = TRACEPOINTS["sched_switch"].number


class Interval(NamedTuple):
    """From ``begin_ns`` up to ``end_ns`` a CPU was in the context with this letter."""

    begin_ns: int
    end_ns: int
    letter: str


class _Track:
    """Intervals of one CPU in the making."""

    def __init__(self, begin_ns: int, letter: str) -> None:
        self.intervals: list[Interval] = []
        self.since, self.letter = begin_ns, letter

    def change(self, time_ns: int, letter: str) -> None:
        if letter == self.letter:
            return
        if time_ns > self.since:
            self.intervals.append(Interval(self.since, time_ns, self.letter))
            self.since = time_ns
        self.letter = letter


def intervals(
    records: Sequence[Record], begin_ns: int, end_ns: int, task_at_begin: bool = False
) -> list[Interval]:
    """Contexts of one CPU between two times, without gaps; records in the order of time."""
    base = TASK if task_at_begin else IDLE
    track = _Track(begin_ns, base)
    softirq = False
    short_until: int | None = None  # of an interrupt without an end

    def below() -> str:
        return SOFTIRQ if softirq else base

    for record in records:
        now, event = record.time_ns, record.event
        if short_until is not None:
            if now > short_until:
                track.change(short_until, below())
            short_until = None
        seen = LETTER[CONTEXTS[record.context & 0xFF]]
        if event in _ENTRY:
            track.change(now, NMI if seen == NMI else HARDIRQ)
            if event not in _ENDED:
                short_until = now + SHORT_NS
        elif event in _EXIT:
            track.change(now, below())
        elif event == _SOFTIRQ_ENTRY:
            softirq = True
            track.change(now, SOFTIRQ)
        elif event == _SOFTIRQ_EXIT:
            softirq = False
            track.change(now, base)
        elif event == _SWITCH:
            softirq = False  # one that slept went away with its task
            base = TASK if record.b & PID_MASK else IDLE
            track.change(now, below())
        elif seen in (TASK, SOFTIRQ, HARDIRQ):
            if seen == TASK:
                base = TASK
            if seen == HARDIRQ and track.letter != HARDIRQ:
                short_until = now + SHORT_NS  # of a vector whose entry is no event
            track.change(now, seen)
    if short_until is not None and short_until < end_ns:
        track.change(short_until, below())
    track.intervals.append(Interval(track.since, max(end_ns, track.since), track.letter))
    return cut(track.intervals, begin_ns, end_ns)


def cut(found: Iterable[Interval], begin_ns: int, end_ns: int) -> list[Interval]:
    """The part of the intervals between two times."""
    return [
        Interval(max(i.begin_ns, begin_ns), min(i.end_ns, end_ns), i.letter)
        for i in found
        if i.begin_ns < end_ns and i.end_ns > begin_ns
    ]


def with_death(found: list[Interval], dead_ns: int) -> list[Interval]:
    """The same for a CPU whose process was killed at ``dead_ns``."""
    end_ns = found[-1].end_ns if found else dead_ns
    alive = cut(found, 0, dead_ns)
    return [*alive, Interval(dead_ns, end_ns, DEAD)] if dead_ns < end_ns else alive


def shares(found: Iterable[Interval]) -> dict[str, float]:
    """Share of the time in each context, in percent."""
    spent: dict[str, int] = {}
    for interval in found:
        spent[interval.letter] = spent.get(interval.letter, 0) + interval.end_ns - interval.begin_ns
    total = sum(spent.values()) or 1
    return {letter: 100 * spent[letter] / total for letter in URGENCY if letter in spent}


def busy(cpus: Mapping[str, Sequence[Interval]], around_ns: int, gap_ns: int) -> tuple[int, int]:
    """The time around a moment in which some CPU was busy, with pauses of up to ``gap_ns``."""
    working = sorted(
        (i.begin_ns, i.end_ns) for found in cpus.values() for i in found if i.letter not in ".-X"
    )
    begin = end = around_ns
    groups: list[tuple[int, int]] = []
    for first, last in working:
        if groups and first - groups[-1][1] <= gap_ns:
            groups[-1] = (groups[-1][0], max(groups[-1][1], last))
        else:
            groups.append((first, last))
    for first, last in groups:
        if first <= around_ns <= last:
            begin, end = first, last
    return begin, end
