"""Line 2 of the interrupt controller's screen: where do vectors go, and which reach nobody?"""

from __future__ import annotations

from typing import Any

from orchestrator.dashboards import apicfacts
from orchestrator.dashboards.draw import duration, plural, rate
from orchestrator.dashboards.model import SECOND_NS, MachineView, NodeView
from orchestrator.dashboards.sentences import DEAD, FROZEN, SILENT, Row, Words, always


def _dropping(view: MachineView, node: NodeView) -> Words:
    found = apicfacts.dropping(node)
    return {"why": found[0], "lost": found[1]} if found else None


def _lost_dead(view: MachineView, node: NodeView) -> Words:
    found = apicfacts.losing(view, "lost_dead")
    return {"cpu": found[0], "lost": plural(found[1], "interrupt")} if found else None


def _lost_full(view: MachineView, node: NodeView) -> Words:
    found = apicfacts.losing(view, "lost_full")
    return {"cpu": found[0], "lost": plural(found[1], "interrupt")} if found else None


def _held_back(view: MachineView, node: NodeView) -> Words:
    found = apicfacts.holding(view)
    return {"nic": found[0], "held": plural(found[1], "vector")} if found else None


def _last_route(view: MachineView) -> dict[str, Any] | None:
    found = apicfacts.routes(view)
    if not found:
        return None
    seen = found[0]
    name = f" ({seen.name})" if seen.name else ""
    return {
        "vector": f"{seen.vector:#04x}{name}",
        "source": seen.source,
        "cpu": seen.cpu,
        "age": duration(seen.age_ns),
        "age_ns": seen.age_ns,
    }


def _routing(view: MachineView, node: NodeView) -> Words:
    found = _last_route(view)
    if found is None or found["age_ns"] > SECOND_NS:
        return None
    return found | {"msi": rate(node.rate("msi_in")), "ipi": rate(node.rate("ipi_in"))}


def _routed_long_ago(view: MachineView, node: NodeView) -> Words:
    return _last_route(view)


APIC = (
    DEAD,
    FROZEN,
    SILENT,
    Row("{lost} in the last second reached nobody: {why}.", _dropping),
    Row("{cpu}'s process is dead: {lost} for it lost in the last second.", _lost_dead),
    Row("{cpu} takes nothing: {lost} for it lost in the last second.", _lost_full),
    Row("{nic} holds back {held}: masked, so no message is sent.", _held_back),
    Row("{vector} went from {source} to {cpu}; in a second {msi} MSIs, {ipi} IPIs.", _routing),
    Row("Quiet: the last was {vector} from {source} to {cpu}, {age} ago.", _routed_long_ago),
    Row("Quiet: it has not routed a vector yet.", always),
)  # fmt: skip
