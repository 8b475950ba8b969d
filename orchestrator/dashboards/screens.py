"""Which screen belongs to which node; the same content as text, SVG and JSON.

A screen's name is its node's; ``cpu1:pools`` is the second one that a CPU has, its worker pools.
"""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from orchestrator.dashboards import (
    apic,
    cpu,
    facts,
    lan,
    lanfacts,
    nic,
    overview,
    poolfacts,
    pools,
)
from orchestrator.dashboards.apicsentences import APIC
from orchestrator.dashboards.common import PLAIN, Size
from orchestrator.dashboards.cpusentences import CPU
from orchestrator.dashboards.draw import Frame
from orchestrator.dashboards.lansentences import LAN
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.dashboards.nicsentences import NIC
from orchestrator.dashboards.poolsentences import POOLS
from orchestrator.dashboards.sentences import sentence
from orchestrator.dashboards.svg import SVG_FORMAT

#: By kind of node, and what stands behind the colon.
_SCREENS = {
    ("cpu", ""): (cpu.render, CPU),
    ("cpu", "pools"): (pools.render, POOLS),
    ("apic", ""): (apic.render, APIC),
    ("nic", ""): (nic.render, NIC),
    ("lan", ""): (lan.render, LAN),
}
LOG_LINES = 20


def render(view: MachineView, node: str | None = None, size: Size = PLAIN) -> Frame:
    """The screen of a node, or the overview."""
    if node is None:
        return overview.render(view, size)
    found, part = _named(view, node)
    return _SCREENS[found.kind, part][0](view, found, size)


def sentence_of(view: MachineView, node: str | None = None) -> str:
    """Line 2 of a screen."""
    if node is None:
        return overview.sentence_of(view)
    found, part = _named(view, node)
    return sentence(_SCREENS[found.kind, part][1], view, found)


def _named(view: MachineView, screen: str) -> tuple[NodeView, str]:
    node, _, part = screen.partition(":")
    return view[node], part


def once(view: MachineView, node: str | None = None, size: Size = PLAIN) -> str:
    """One frame as plain text."""
    return render(view, node, size).plain


def svg(view: MachineView, node: str | None, path: str, size: Size = PLAIN) -> None:
    """Draw one frame to a file that browsers show; it refers to nothing outside of itself."""
    console = Console(
        record=True,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        width=size.width,
        height=size.height,
        legacy_windows=False,
    )
    console.print(render(view, node, size))
    title = view.settings.name if node is None else f"{view.settings.name} > {node}"
    console.save_svg(path, title=f"bottomhalf top   {title}", code_format=SVG_FORMAT)


def as_json(view: MachineView, node: str | None = None) -> dict[str, Any]:
    """The figures behind a screen; fields are only ever added."""
    if node is not None:
        found, part = _named(view, node)
        said: dict[str, Any] = {"sentence": sentence_of(view, node)}
        if part:
            said |= _pools(view, found)
        if found.kind == "lan":
            said |= _lan(view, found)
        return _world(view) | said | _node(view, found) | {"page": _page(found)}
    bond, ping = facts.bond(view), facts.ping(view)
    return _world(view) | {
        "sentence": sentence_of(view),
        "nodes": [_node(view, n) for n in view.nodes.values()],
        "bond": None
        if bond is None
        else bond._asdict() | {"slaves": [s._asdict() for s in bond.slaves]},
        "ping": None if ping is None else ping._asdict(),
        "waiting": facts.waiting(view),
        "broken": [b._asdict() for b in facts.breaks(view)],
        "log": [{"time_ns": t, "text": text} for t, text in view.kernel_log(LOG_LINES)],
    }


def _world(view: MachineView) -> dict[str, Any]:
    return {
        "machine": view.settings.name,
        "era": view.settings.era,
        "time": "virtual" if view.virtual else "real",
        "up_ns": view.up_ns,
    }


def _node(view: MachineView, node: NodeView) -> dict[str, Any]:
    state = node.state
    return {
        "name": node.name,
        "kind": node.kind,
        "pid": state.pid,
        "incarnation": node.incarnation,
        "alive": state.alive,
        "frozen": state.frozen,
        "silent": state.silent,
        "signal": state.signal,
        "exit": state.exit_code,
        "since_ns_ago": view.age_ns(state.since_ns),
        "rates": {name: node.rate(name) for name in ("turns", "msgs_in", "msgs_out")},
    }


def _lan(view: MachineView, node: NodeView) -> dict[str, Any]:
    """Ports with link, fault and rate; the MAC table with ages; drops by reason."""
    drops = [dict(zip(("why", "frames", "rate"), row, strict=True)) for row in lanfacts.drops(node)]
    return {
        "ports": [port._asdict() for port in lanfacts.ports(view)],
        "macs": [address._asdict() for address in lanfacts.addresses(view)],
        "drops": drops,
    }


def _pools(view: MachineView, node: NodeView) -> dict[str, Any]:
    return {
        "pools": [pool._asdict() for pool in poolfacts.pools(node)],
        "busy": [w._asdict() | {"state": w.state} for w in poolfacts.busy(node)],
        "delayed": [work._asdict() for work in poolfacts.delayed(view, node)],
    }


def _page(node: NodeView) -> dict[str, Any]:
    return {
        field.name: node.get(field.name) if field.words == 1 else node.run(field.name)
        for field in node.schema.fields
    }
