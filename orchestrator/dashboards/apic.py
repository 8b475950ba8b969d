"""The interrupt controller: which vector goes where, what waits in each CPU, what was lost."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from nodes.apic.page import IPI_KINDS
from orchestrator.dashboards import apicfacts, facts
from orchestrator.dashboards.apicsentences import APIC
from orchestrator.dashboards.common import PLAIN, Size, footer, header
from orchestrator.dashboards.draw import (
    STYLES,
    Box,
    Frame,
    Line,
    Shelf,
    compose,
    count,
    duration,
    rate,
    spark,
    two,
)
from orchestrator.dashboards.model import SLOW_PERIOD_NS, MachineView, NodeView
from orchestrator.dashboards.sentences import sentence

KEYS = "Left Right other process   space hold view   k kill f freeze r restart   q quit"
_COLUMNS = 60
_MERGED = ("intx_repeated", "intx_shared", "ioapic_held")


def render(view: MachineView, node: NodeView, size: Size = PLAIN) -> Frame:
    """The dashboard of the interrupt controller in exactly the given size."""
    shelves = [
        Shelf((_rates(node),)),
        Shelf((_cpus(view),)),
        Shelf((_routes(view), _sources(view))),
        Shelf((_ends(view), _kinds(node))),
        Shelf((_pins(node),)),
    ]
    return compose(
        header(view, node, size),
        sentence(APIC, view, node),
        shelves,
        footer(KEYS, size)[:1],
        size.width,
        size.height,
    )


def _rates(node: NodeView) -> Box:
    """Sparklines of what it took."""

    def draw(columns: int, height: int) -> Sequence[Line]:
        lines = []
        for name, field in (("MSI", "msi_in"), ("IPI", "ipi_in")):
            values = node.series(field, None, _COLUMNS, SLOW_PERIOD_NS, slow=True)
            line = Text(f" {name:<4} ").append(spark(values), "bold")
            lines.append(two(line, f"{rate(node.rate(field)):>7}/s ", columns))
        return lines

    return Box("taken, last 15 s, a column is 1/4 s", draw, 2, note="now")


def _cpus(view: MachineView) -> Box:
    """What waits (IRR) and what is being served (ISR) in each CPU's local APIC."""
    apic = view.apic

    def line(cpu: NodeView) -> Text:
        irr, isr = (_vectors(cpu.run(name)) for name in ("irr", "isr"))
        text = Text(f" {cpu.name:<6}", style="" if cpu.alive else STYLES["X"])
        text.append(f"IRR {irr:<15} ISR {isr:<10}", "bold" if irr != "-" or isr != "-" else "")
        msi, ipi = (rate(apic.rate(f"{way}_routed", cpu.number)) for way in ("msi", "ipi"))
        merged = count(cpu.get("lapic_merged"))
        lost = count(apic.get("lost_dead", cpu.number) + apic.get("lost_full", cpu.number))
        return text.append(f"{msi:>7}{ipi:>7}{merged:>8}{lost:>8}")

    def draw(columns: int, height: int) -> Sequence[Line]:
        if len(view.cpus) <= height:
            return [line(cpu) for cpu in view.cpus]
        busy = sorted(view.cpus, key=lambda c: (-apic.delta("msi_routed", c.number), c.number))
        shown = sorted(busy[:height], key=lambda cpu: cpu.number)
        return [line(cpu) for cpu in shown]

    figures = f"{'MSI/s':>7}{'IPI/s':>7}{'merged':>8}{'lost':>8}"
    title = f"{'CPUs: IRR waits, ISR is served':<39}{figures}"
    return Box(title, draw, len(view.cpus), min(len(view.cpus), 4))


def _vectors(words: list[int]) -> str:
    found = apicfacts.vectors_of(words)
    shown = " ".join(f"{vector:#04x}" for vector in found[:2])
    return f"{shown} +{len(found) - 2}" if len(found) > 2 else shown or "-"


def _routes(view: MachineView) -> Box:
    """The routing table as far as it was seen in use."""

    def draw(columns: int, height: int) -> Sequence[Line]:
        found = apicfacts.routes(view)
        if not found:
            return [" none seen in use yet"]
        lines: list[Line] = []
        for seen in found[:height]:
            way = f" {seen.vector:#04x} {seen.source} > {seen.cpu} {seen.name}"
            lines.append(two(way, f"{duration(seen.age_ns)} ", columns))
        return lines

    return Box("routes in use", draw, 5, 2, grows=True, note="ago")


def _sources(view: MachineView) -> Box:
    """MSIs by source."""
    apic = view.apic

    def draw(columns: int, height: int) -> Sequence[Line]:
        rows = [(nic.name, n) for n, nic in enumerate(view.nics)]
        others = len(apic.run("msi_in")) - 1
        if apic.get("msi_in", others):
            rows.append(("other", others))
        lines: list[Line] = []
        for name, number in rows[:height]:
            figures = (
                f"{rate(apic.rate('msi_in', number)):>7}{count(apic.get('msi_in', number)):>8} "
            )
            lines.append(two(f" {name}", figures, columns))
        return lines

    return Box("MSIs by source", draw, 3, note="/s   total")


def _ends(view: MachineView) -> Box:
    """Where MSIs and IPIs ended."""
    apic = view.apic
    routed = sum(sum(apic.run(f"{way}_routed")) for way in ("msi", "ipi", "ioapic"))
    rows: list[tuple[str, int]] = [
        ("handed over to a CPU", routed),
        ("merged: IRR bit was set", facts.merged(view)),
        ("masked: held by the NIC", sum(nic.get("msi_pending") for nic in view.nics)),
        ("masked: held by the I/O APIC", apic.get("ioapic_masked")),
        ("merged: line or remote IRR was set", sum(apic.get(name) for name in _MERGED)),
        *((words, number) for _, words, number in apicfacts.drops(apic)),
        ("CPU's process was dead", sum(apic.run("lost_dead"))),
        ("CPU's queue was full", sum(apic.run("lost_full"))),
    ]
    shown = [row for n, row in enumerate(rows) if n < 3 or row[1]]

    def draw(columns: int, height: int) -> Sequence[Line]:
        return [two(f" {words}", f"{count(number)} ", columns) for words, number in shown[:height]]

    return Box("where they ended", draw, max(len(shown), 4), 3)


def _kinds(node: NodeView) -> Box:
    """IPIs by delivery mode."""

    def draw(columns: int, height: int) -> Sequence[Line]:
        kinds = [kind for kind in IPI_KINDS if node.get(f"ipi_{kind}")]
        if not kinds:
            return [" no IPI was sent yet"]
        lines: list[Line] = []
        for kind in kinds[:height]:
            per_second = rate(node.rate(f"ipi_{kind}"))
            figures = f"{per_second:>7}{count(node.get(f'ipi_{kind}')):>8} "
            lines.append(two(f" {kind}", figures, columns))
        return lines

    return Box("IPIs by kind", draw, 3, note="/s   total")


def _pins(node: NodeView) -> Box:
    """Redirection entries: PCI's level pins first, for the others are seldom looked at."""
    found = sorted(apicfacts.pins(node), key=lambda pin: (pin.trigger == "edge", pin.number))

    def draw(columns: int, height: int) -> Sequence[Line]:
        if not found:
            return [" no entry is routed"]
        lines: list[Line] = []
        for pin in found[:height]:
            state = "masked" if pin.masked else "open"
            level = "active" if pin.active else "-"
            irr = "remote IRR" if pin.remote_irr else ""
            way = f" {pin.number:>3} {pin.vector:#04x} {pin.trigger:<6}{pin.mode:<8}"
            lines.append(f"{way}{pin.destination:<14}{state:<8}{level:<8}{irr}")
        return lines

    return Box("I/O APIC: pin, vector, trigger, delivery, destination", draw, 3, 1, grows=True)
