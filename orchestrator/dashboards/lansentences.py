"""Line 2 of the LAN's screen: who talks, and where do frames end?"""

from __future__ import annotations

from orchestrator.dashboards import facts, lanfacts
from orchestrator.dashboards.draw import plural, rate
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.dashboards.sentences import DEAD, FROZEN, SILENT, Row, Words


def _port_cable_out(view: MachineView, node: NodeView) -> Words:
    for number, nic in enumerate(view.settings.nic_names):
        if facts.cable_out(view, nic):
            ended = node.delta("in_drop_cable_out", lanfacts.words(number))
            return {"nic": nic, "ended": plural(ended, "frame"), "talk": lanfacts.talk(view)}
    return None


def _port_fault(view: MachineView, node: NodeView) -> Words:
    """The first port with a fault."""
    for port in lanfacts.ports(view):
        if port.faults:
            mine = lanfacts.words(port.number)
            ended = sum(node.delta(name, mine) for name in lanfacts.FAULT_DROPS)
            text = f"fault {' '.join(port.faults)}"
            lost = plural(ended, "frame")
            return {"port": port.name, "fault": text, "lost": lost, "talk": lanfacts.talk(view)}
    return None


def _port_dark(view: MachineView, node: NodeView) -> Words:
    for number, nic in enumerate(view.nics):
        if not node.get("light", number):
            why = "its laser is off" if nic.alive else "its process is dead"
            return {"nic": nic.name, "why": why, "talk": lanfacts.talk(view)}
    return None


def _frames_end(view: MachineView, node: NodeView) -> Words:
    found = lanfacts.dropping(view)
    if found is None:
        return None
    port, why, frames = found
    return {"port": port, "why": why, "frames": plural(frames, "frame")}


def _talk(view: MachineView, node: NodeView) -> Words:
    if not node.delta("frames_in"):
        return None
    frames = rate(node.rate("frames_in"))
    return {"talk": lanfacts.talk(view), "frames": frames}


def _links(view: MachineView, node: NodeView) -> Words:
    up = sum(port.link for port in lanfacts.ports(view))
    return {"ports": plural(up, "port")}


LAN = (
    DEAD,
    FROZEN,
    SILENT,
    Row("{nic}'s cable is out, {ended} lost there in 1 s; {talk}.", _port_cable_out),
    Row("No light from {nic} ({why}): its port is down; {talk}.", _port_dark),
    Row("{port} has {fault}: {lost} lost by it in 1 s; {talk}.", _port_fault),
    Row("{frames} from or to {port} ended here in the last second: {why}.", _frames_end),
    Row("{talk}; the switch takes {frames} frames/s.", _talk),
    Row("Quiet: {ports} up, and no frame came for a second.", _links),
)
