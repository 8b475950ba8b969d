"""The LAN: ports of the switch, its table of addresses, and where frames ended."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from orchestrator.dashboards import lanfacts
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
    static,
    two,
)
from orchestrator.dashboards.lansentences import LAN
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.dashboards.sentences import sentence

KEYS = "Left Right other process   space hold view   k kill f freeze r restart   q quit"
_COLUMNS = 17


def render(view: MachineView, node: NodeView, size: Size = PLAIN) -> Frame:
    """The dashboard of the LAN in exactly the given size."""
    shelves = [
        Shelf((_ports(view, _COLUMNS + max(size.width - 80, 0)),)),
        Shelf((_addresses(view), _drops(node))),
        Shelf((_gateway(node), _switch(node))),
    ]
    return compose(
        header(view, node, size),
        sentence(LAN, view, node),
        shelves,
        footer(KEYS, size)[:1],
        size.width,
        size.height,
    )


def _ports(view: MachineView, columns: int) -> Box:
    """A line for each port: why it is up or down, and what passes."""
    ports = lanfacts.ports(view, columns)
    top = max((max(port.history) for port in ports), default=0.0)

    def line(port: lanfacts.Port) -> Text:
        style = STYLES["T"] if port.link else STYLES["X"]
        text = (
            Text()
            .append(f" {port.name:<8}", "bold")
            .append(f"{'up' if port.link else 'DOWN':<5}", style)
        )
        text.append(
            f"cable {'in ' if port.cable else 'OUT'} light {'yes' if port.light else 'NO '} "
        )
        text.append(f"{spark(port.history, top)} ", "bold")
        return text.append(f"{rate(port.came):>7}{rate(port.went):>7}{count(port.lost):>8}")

    def state(port: lanfacts.Port) -> list[Text]:
        """What is broken in it, and what it does in its port-channel."""
        parts = [f"fault {' '.join(port.faults)}"] if port.faults else []
        parts += [f"{count(port.held)} wait"] if port.held else []
        parts += [f"{port.channel}: {port.carries}"] if port.channel else []
        style = STYLES["X"] if port.faults else ""
        return [Text(f"          {', '.join(parts)}", style)] if parts else []

    lines = [text for port in ports for text in (line(port), *state(port))]
    note = f"in/s{'out/s':>7}{'ended':>8}"
    return Box("ports, a column is 1/4 s", static(lines), len(lines), note=note)


def _addresses(view: MachineView) -> Box:
    """The table of addresses."""
    found = lanfacts.addresses(view)

    def draw(columns: int, height: int) -> Sequence[Line]:
        if not found:
            return [" no address is known yet"]
        lines: list[Line] = [
            two(f" {a.mac}  {a.port}{_vlan(a)}", f"{duration(a.age_ns)} ", columns)
            for a in found[:height]
        ]
        if len(found) > height:
            lines[-1] = f" and {len(found) - height + 1} more"
        return lines

    title = f"MAC table, {view.lan.get('mac_entries')} of 1024, {view.lan.get('ageing_s')} s"
    return Box(title, draw, min(max(len(found), 4), 8), 3, grows=True, note="ago")


def _vlan(address: lanfacts.Address) -> str:
    return f" {address.vlan}" if address.vlan else ""


def _drops(node: NodeView) -> Box:
    """Where frames ended."""
    found = lanfacts.drops(node)

    def draw(columns: int, height: int) -> Sequence[Line]:
        if not found:
            return [" no frame ended here"]
        return [
            two(f" {words}", f"{count(frames)} ({rate(per_second)}/s) ", columns)
            for words, frames, per_second in found[:height]
        ]

    return Box("frames that ended here, and why", draw, 4, 3, grows=True)


def _gateway(node: NodeView) -> Box:
    """What the gateway did, by class of frame."""

    def classes(name: str) -> str:
        other, request, reply = (count(value) for value in node.run(name))
        return f"request {request}  reply {reply}  other {other}"

    lines = [
        f" took  {classes('gw_answered')}",
        f" made  {classes('gw_generated')}",
        f" {rate(node.rate('gw_answered'))} answered/s  errors {count(node.get('gw_errors'))}"
        f"  hosts {count(node.get('gw_neighbours'))}",
    ]
    return Box("gateway", static(lines), 3)


def _switch(node: NodeView) -> Box:
    """What the switch learned and forgot."""
    get = node.get
    lines = [
        f" flooded {count(get('flooded'))}  copies {count(sum(node.run('flood_copies')))}",
        f" learned {count(get('learned'))}  moved {count(get('moved'))}",
        f" aged {count(get('aged'))}  forgotten {count(get('flushed'))}"
        f"  table full {count(get('table_full'))}",
    ]
    return Box("switch", static(lines), 3)
