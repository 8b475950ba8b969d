"""Trace events by kind of node and number: which are wanted, and the text of a record.

The events' texts are ``ftracerows``, what fills them in is ``ftraceparts``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bus.recorder import Record, Tracepoint
from nodes.apic.trace import TRACEPOINTS as APIC_EVENTS
from nodes.cpu.trace import TRACEPOINTS as CPU_EVENTS
from nodes.lan.trace import TRACEPOINTS as LAN_EVENTS
from nodes.nic.trace import TRACEPOINTS as NIC_EVENTS
from orchestrator.tracing.ftraceparts import PARTS, Names, low
from orchestrator.tracing.ftracerows import APIC_ROWS, CPU_ROWS, GROUPS, LAN_ROWS, NIC_ROWS, Row


class Shown(NamedTuple):
    """A tracepoint of one kind of node and its row."""

    name: str  # as it is printed
    row: Row


def _by_number(events: Mapping[str, Tracepoint], rows: Mapping[str, Row]) -> dict[int, Shown]:
    return {
        point.number: Shown(rows[name].name or name, rows[name])
        for name, point in events.items()
        if name in rows
    }


TABLES: dict[str, Mapping[int, Shown]] = {
    "cpu": _by_number(CPU_EVENTS, CPU_ROWS),
    "nic": _by_number(NIC_EVENTS, NIC_ROWS),
    "apic": _by_number(APIC_EVENTS, APIC_ROWS),
    "lan": _by_number(LAN_EVENTS, LAN_ROWS),
}
#: Recorded with any of a CPU's events, shown only if asked for: it names new tasks.
NAMES_TASKS = CPU_EVENTS["sched_wakeup_new"].number


def event_names() -> list[str]:
    """Every name that ``-e`` takes beside the groups."""
    return sorted({shown.name for table in TABLES.values() for shown in table.values()})


def select(kind: str, wanted: Sequence[str], ftrace_format: str) -> int:
    """Recorder mask of the events of one kind of node that ``-e`` means; groups leave out what
    another era prints instead."""
    mask = 0
    for number, (name, row) in TABLES[kind].items():
        by_group = row.group in wanted and (row.anyway or ftrace_format in row.eras)
        if by_group or (name in wanted and name not in GROUPS):
            mask |= 1 << number
    return mask


def text(row: Row, record: Record, names: Names) -> str:
    """The fields of one record."""
    form = row.new if row.new and names.layout.new_texts else row.text
    parts: dict[str, object] = {
        part: PARTS[part](record, names) for part in re.findall(r"{(\w+)", form) if part in PARTS
    }
    return form.format(a=record.a, b=record.b, context=record.context, cpu=names.cpu, **parts)


def symbol_of(row: Row, record: Record) -> int | None:
    """Number of the name that a record of this row means, if it means one; the larger of two."""
    if "{workqueue_name}" in row.new:
        return max(low(record.b), record.b >> 32)
    if "{function}" in row.text + row.new:
        return low(record.b)
    return record.a >> 32 & 0xFFFF if "{timer_function}" in row.text else None
