"""ftrace's text: header, columns and flag characters, by the behaviour ``ftrace_format``.

After kernel/trace/trace.c and trace_output.c as 2.6.39, 3.10 and 6.1 have them (and a capture of
6.1's): pure functions of what a trace record holds. ``trace`` is the text of the file of that name;
what is printed while a trace goes on has no line of counts, because nobody knows them yet.

Left out: latency format, clocks that do not count in ns, and migrate-disable (nothing here uses
it, so the fifth flag of 6.1 is always a dot).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nodes.cpu.trace import TraceContext

COMM_MAX = 15
UNKNOWN_COMM = "<...>"
IDLE_COMM = "<idle>"


def _flags_310(moment: TraceContext) -> str:
    """Bottom halves that are merely off count as a softirq here."""
    softirq = moment.softirq_field != 0
    return (
        ("d" if moment.irqs_off else ".")
        + ("N" if moment.need_resched else ".")
        + _hardsoft(moment.hardirq, softirq)
        + _depth(moment.preempt_depth)
    )


def _flags_61(moment: TraceContext) -> str:
    """The softirq field's lowest bit is a softirq being served, the others are BH off."""
    bh_off = moment.softirq_field >> 1 != 0
    if moment.irqs_off:
        first = "D" if bh_off else "d"
    else:
        first = "b" if bh_off else "."
    if moment.nmi:
        third = "Z" if moment.hardirq else "z"
    else:
        third = _hardsoft(moment.hardirq, bool(moment.softirq_field & 1))
    return (
        first + ("N" if moment.need_resched else ".") + third + _depth(moment.preempt_depth) + "."
    )


def _hardsoft(hardirq: bool, softirq: bool) -> str:
    if hardirq:
        return "H" if softirq else "h"
    return "s" if softirq else "."


def _depth(depth: int) -> str:
    return f"{min(depth, 0xF):x}" if depth else "."


class Layout(NamedTuple):
    """One way of printing trace records."""

    legend: tuple[str, ...]
    pid_width: int
    flags: Callable[[TraceContext], str] | None  # None: the columns were not there yet
    flag_count: int
    counts: bool  # the line entries-in-buffer/entries-written
    new_texts: bool  # event fields as 6.1 has them
    hashed_pointers: bool  # %p prints a hash (4.15), not the address
    idle_depth: int  # what the idle task's own preempt_disable adds, where the kernel counts it


LAYOUTS: dict[str, Layout] = {
    "2.6.39": Layout(
        (
            "#           TASK-PID    CPU#    TIMESTAMP  FUNCTION",
            "#              | |       |          |         |",
        ),
        5, None, 0, False, False, False, 0,
    ),
    "3.10": Layout(
        (
            "#                              _-----=> irqs-off",
            "#                             / _----=> need-resched",
            "#                            | / _---=> hardirq/softirq",
            "#                            || / _--=> preempt-depth",
            "#                            ||| /     delay",
            "#           TASK-PID   CPU#  ||||    TIMESTAMP  FUNCTION",
            "#              | |       |   ||||       |         |",
        ),
        5, _flags_310, 4, True, False, False, 0,
    ),
    "6.1": Layout(
        (
            "#                                _-----=> irqs-off/BH-disabled",
            "#                               / _----=> need-resched",
            "#                              | / _---=> hardirq/softirq",
            "#                              || / _--=> preempt-depth",
            "#                              ||| / _-=> migrate-disable",
            "#                              |||| /     delay",
            "#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION",
            "#              | |         |   |||||     |         |",
        ),
        7, _flags_61, 5, True, True, True, 1,
    ),
}  # fmt: skip

#: The form in which a kernel without ftrace is shown.
STAND_IN = "3.10"


class Columns(NamedTuple):
    """What stands before the event's text. ``cpu`` is None for a node that is no CPU."""

    time_ns: int  # since boot
    comm: str
    pid: int
    cpu: int | None
    moment: TraceContext | None


def layout_of(ftrace_format: str) -> Layout:
    """The layout of a kernel; of the stand-in's for one without ftrace."""
    return LAYOUTS.get(ftrace_format, LAYOUTS[STAND_IN])


def header(layout: Layout, cpus: int, counts: tuple[int, int] | None = None) -> list[str]:
    """Comment lines; ``counts`` are entries in the buffer and entries written."""
    lines = ["# tracer: nop", "#"]
    if layout.counts and counts is not None:
        kept, written = counts
        lines += [f"# entries-in-buffer/entries-written: {kept}/{written}   #P:{cpus}", "#"]
    return [*lines, *layout.legend]


def flags(layout: Layout, columns: Columns, irqs_off: bool = False, held: int = 0) -> str:
    """The flag characters. ``irqs_off`` and ``held`` are what Linux has at this tracepoint always:
    interrupts off, and this many levels of preemption by its locks."""
    if layout.flags is None:
        return ""
    moment = columns.moment
    if moment is None:
        return "." * layout.flag_count
    depth = moment.preempt_depth
    if layout.idle_depth:  # preemption is counted
        depth += held + (layout.idle_depth if columns.pid == 0 else 0)
    return layout.flags(moment._replace(irqs_off=moment.irqs_off or irqs_off, preempt_depth=depth))


def comm(columns: Columns) -> str:
    """The task's name as the columns have it."""
    idle = columns.pid == 0 and columns.moment is not None
    return IDLE_COMM if idle else columns.comm[:COMM_MAX]


def line(
    layout: Layout, columns: Columns, event: str, irqs_off: bool = False, held: int = 0
) -> str:
    """One entry: ``event`` is its name, a colon and its fields."""
    where = "---" if columns.cpu is None else f"{columns.cpu:03d}"
    shown = flags(layout, columns, irqs_off, held)
    seconds, us = divmod((columns.time_ns + 500) // 1000, 1_000_000)
    return (
        f"{comm(columns):>16}-{columns.pid:<{layout.pid_width}d} [{where}] "
        f"{shown}{' ' if shown else ''}{seconds:5d}.{us:06d}: {event}"
    )


def lost(columns: Columns, count: int) -> str:
    """The line before the first entry behind overwritten ones."""
    where = columns.comm if columns.cpu is None else f"CPU:{columns.cpu}"
    return f"{where} [LOST {count} EVENTS]"


def pointer(layout: Layout, kind: str, number: int) -> str:
    """What ``%p`` prints for an object. It is made up from the object's number: the same object
    has the same address in a listing, and no byte stands there."""
    low = number * 0x9E3779B1 + sum(byte << 8 * (i % 4) for i, byte in enumerate(kind.encode()))
    low &= 0xFFFF_FFFF
    low ^= low >> 15
    return f"{low:016x}" if layout.hashed_pointers else f"ffff8800{low & ~7:08x}"
