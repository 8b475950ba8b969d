"""What a run measured, phase by phase: counters before and after, the log, the trace, reports.

A phase reaches from a step to the next. Lab modules (and nobody else) report figures in the kernel
log as lines of nothing but ``key=value`` behind their name::

    softirq_order: first=HI order=HI,TIMER,NET_TX n=10
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bus.recorder import Record
from nodes.cpu.kernel.params import Params
from nodes.cpu.trace import TRACEPOINTS
from orchestrator.machines.counts import Counts
from orchestrator.machines.kernellog import LogLine
from orchestrator.scenarios.expect import (
    ACCESSED,
    COUNTERS,
    NIC_COUNTERS,
    RECORDED,
    Value,
    arch_irq,
    hotplug_steps,
    take_apart,
)
from orchestrator.scenarios.phases import Phase
from orchestrator.views import accesses

_REPORT = re.compile(r'^([a-z]\w*): (\w+=(?:"[^"]*"|\S+)(?: \w+=(?:"[^"]*"|\S+))*)$')
_PAIR = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')
_INTEGER = re.compile(r"^-?(\d+|0x[0-9a-fA-F]+)$")
_DECIMAL = re.compile(r"^-?\d+\.\d+$")


def report_in(line: str) -> tuple[str, dict[str, Value]] | None:
    """Module and figures of a log line that is a report."""
    match = _REPORT.match(line)
    if match is None:
        return None
    pairs = _PAIR.findall(match[2])
    return match[1], {key: _value(quoted or plain) for key, quoted, plain in pairs}


def _value(text: str) -> Value:
    if _INTEGER.match(text):
        return int(text, 0) if "x" in text else int(text)
    return float(text) if _DECIMAL.match(text) else text


@dataclass
class Stretch:
    """One phase as it was measured."""

    phase: Phase
    before: Counts
    after: Counts
    lines: list[LogLine]
    #: (name of the CPU, record), in the order of time
    records: list[tuple[str, Record]] = field(default_factory=list)
    exit_code: int | None = None
    begin_ns: int = 0
    #: what the step's verb measured
    figures: dict[str, dict[str, int]] = field(default_factory=dict)


class Facts:
    """Values of quantities (``orchestrator.scenarios.expect``) over the phases of a run."""

    def __init__(
        self,
        stretches: Sequence[Stretch],
        params: Params,
        irqs: Mapping[str, int],
        preempt: Callable[[Record], int | None] | None = None,
    ) -> None:
        self._stretches = stretches
        self._params = params
        self._irqs = irqs
        self._preempt = preempt

    def value(self, text: str, step: int | None = None) -> Value | None:
        """The quantity in the phase of ``step`` (or of the step it names); without one: over the
        whole run, reports and ``dmesg`` included."""
        found = take_apart(text)
        if found is None:
            return None
        if found.step is not None:
            step = found.step
        chosen = list(self._stretches) if step is None else list(self._stretches[step : step + 1])
        if not chosen:
            return None
        name, key, arguments, _ = found
        if key:
            return self._dotted(name, key, chosen)
        if name == "dmesg":
            return "\n".join(line.text for part in chosen for line in part.lines)
        if arguments is None:
            return chosen[-1].exit_code if name == "exit" else chosen[-1].phase.measure(name)
        if name in RECORDED:
            return self._recorded(name, arguments, chosen)
        if name in ACCESSED:
            return _accessed(name, arguments, chosen)
        return self._counted(name, arguments, chosen[0].before, chosen[-1].after)

    def reports(self) -> dict[str, dict[str, Value]]:
        """All that modules reported; a later figure replaces an earlier one."""
        found: dict[str, dict[str, Value]] = {}
        for part in self._stretches:
            for line in part.lines:
                report = report_in(line.text)
                if report is not None:
                    found.setdefault(report[0], {}).update(report[1])
        return found

    def figures(self) -> dict[str, dict[str, Value]]:
        """All that the steps' verbs measured, and what modules reported."""
        found = self.reports()
        for part in self._stretches:
            for name, values in part.figures.items():
                found.setdefault(name, {}).update(values)
        return found

    def _dotted(self, name: str, key: str, chosen: Sequence[Stretch]) -> Value | None:
        if name == "param":
            value = getattr(self._params, key, None)
            return value if isinstance(value, (int, float, str)) else None
        for part in reversed(chosen):
            if key in part.figures.get(name, ()):
                return part.figures[name][key]
            if name in part.figures:
                return 0  # it counted, and there was none
            for line in reversed(part.lines):
                report = report_in(line.text)
                if report is not None and report[0] == name and key in report[1]:
                    return report[1][key]
        return None

    def _counted(
        self, name: str, arguments: Sequence[str], before: Counts, after: Counts
    ) -> Value | None:
        cpus = before.settings.cpu_names
        chosen = [word for word in arguments if word in cpus] or list(cpus)
        items = [word for word in arguments if word not in cpus]
        if name in NIC_COUNTERS:
            nics = before.settings.nic_names
            at = (NIC_COUNTERS[name], nics.index(items[0])) if items[0] in nics else None
        else:
            at = self._word(name, items[0] if items else "")
        if at is None:
            return None
        return sum(after.get(cpu, *at) - before.get(cpu, *at) for cpu in chosen)

    def _word(self, name: str, item: str) -> tuple[str, int] | None:
        """Field of the page and index in it."""
        if not item:
            return name, 0
        if name != "irqs":
            return COUNTERS[name], self._params.softirq_names.index(item)
        row = arch_irq(item)
        if row is not None:
            return "arch_irqs", row
        irq = int(item) if item.isdecimal() else self._irqs.get(item)
        return None if irq is None else ("irqs", irq)

    def _recorded(
        self, name: str, arguments: Sequence[str], chosen: Sequence[Stretch]
    ) -> Value | None:
        if name == "began" and arguments[0] not in TRACEPOINTS:
            return self._step_began(arguments[0], chosen)
        number = TRACEPOINTS[arguments[0]].number
        cpus = {"event": (), "most": arguments[2:]}.get(name, arguments[1:])
        records = [
            (cpu, record)
            for part in chosen
            for cpu, record in part.records
            if record.event == number and (not cpus or cpu in cpus)
        ]
        if name == "seen":
            return len(records)
        if name == "where":
            return ", ".join(dict.fromkeys(cpu for cpu, _ in records)) or "nowhere"
        if not records:
            return None
        if name == "most":
            return max(record.a if arguments[1] == "a" else record.b for _, record in records)
        first = records[0][1]
        if name == "began":
            return (first.time_ns - chosen[0].begin_ns) / 1000
        if name == "event":
            return first.a if arguments[1] == "a" else first.b
        return self._preempt(first) if self._preempt is not None else None

    def _step_began(self, name: str, chosen: Sequence[Stretch]) -> Value | None:
        """When a step of CPU hot-plug began, in us after the phase."""
        step, enter = hotplug_steps(self._params)[name], TRACEPOINTS["cpuhp_enter"].number
        for part in chosen:
            for _, record in part.records:
                if record.event == enter and (record.a >> 8 & 0xFF, record.a >> 16) in step:
                    return (record.time_ns - chosen[0].begin_ns) / 1000
        return None


def _accessed(name: str, arguments: Sequence[str], chosen: Sequence[Stretch]) -> Value | None:
    """Register accesses of a group and of a NIC, or of all; ``spent`` is in ms."""
    nics = chosen[0].before.settings.nic_names
    nic = next((nics.index(word) for word in arguments if word in nics), None)
    groups = [word for word in arguments if word in accesses.GROUPS] or accesses.GROUPS
    records = [record for part in chosen for record in part.records]
    rows = [row for row in accesses.table(accesses.of(records, nic)) if row.group in groups]
    if name == "first":
        return rows[0].names[0] if rows else None
    if name == "spent":
        return round(sum(row.spent_ns for row in rows) / 1e6, 3)
    return sum(row.reads if name == "reads" else row.writes for row in rows)
