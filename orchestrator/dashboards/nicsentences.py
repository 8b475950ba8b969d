"""Line 2 of a NIC's screen: is the link up, and what keeps frames from passing?"""

from __future__ import annotations

from orchestrator.dashboards import facts, nicfacts
from orchestrator.dashboards.draw import plural, rate
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.dashboards.sentences import DEAD, FROZEN, SILENT, Row, Words, always


def _no_driver(view: MachineView, node: NodeView) -> Words:
    return None if node.get("drv_load") else {}


def _no_bus_master(view: MachineView, node: NodeView) -> Words:
    return None if node.get("pci_command") & nicfacts.BUS_MASTER else {}


def _cable_out(view: MachineView, node: NodeView) -> Words:
    return {"name": node.name} if facts.cable_out(view, node.name) else None


def _no_light(view: MachineView, node: NodeView) -> Words:
    if node.get("light"):
        return None
    return {"why": "its process is dead" if not view.lan.alive else "its port is dark"}


def _laser_off(view: MachineView, node: NodeView) -> Words:
    return None if node.get("laser") else {}


def _link_down(view: MachineView, node: NodeView) -> Words:
    return None if node.get("link_up") else {}


def _starved(view: MachineView, node: NodeView) -> Words:
    queue = nicfacts.starved_queue(node)
    if queue is None:
        return None
    return {"queue": queue, "lost": rate(node.rate("rx_no_descriptor", queue))}


def _overrun(view: MachineView, node: NodeView) -> Words:
    return {"lost": rate(node.rate("rx_drop_missed"))} if node.delta("rx_drop_missed") else None


def _dma_refused(view: MachineView, node: NodeView) -> Words:
    refused = node.delta("dma_refused")
    return {"refused": plural(refused, "access", "accesses")} if refused else None


def _standing_still(view: MachineView, node: NodeView) -> Words:
    if node.running and any(f.kind.name in facts.STILL for f in facts.faults_of(node)):
        return {"trouble": facts.trouble(view, node.name)}
    return None


def _msi_fault(view: MachineView, node: NodeView) -> Words:
    texts = [f.text for f in facts.faults_of(node) if f.kind.name.endswith("-msi")]
    if not texts:
        return None
    lost, doubled = node.get("msi_lost_fault"), node.get("msi_dup_fault")
    return {"faults": " ".join(texts), "lost": lost, "doubled": doubled}


def _apic_gone(view: MachineView, node: NodeView) -> Words:
    if view.settings.guest or view.apic.alive:
        return None
    return {"lost": node.get("msi_lost_peer_dead")}


def _buffered(view: MachineView, node: NodeView) -> Words:
    waiting = sum(node.run("rx_buffered"))
    return {"waiting": plural(waiting, "frame")} if waiting else None


def _flowing(view: MachineView, node: NodeView) -> Words:
    came, went = node.rate("rx_frames_in"), node.rate("tx_frames_out")
    if not came and not went:
        return None
    bond = facts.bond(view)
    role = f" as {bond.name}'s active slave" if bond and bond.active == node.name else ""
    sent = rate(node.rate("msi_out"))
    return {"came": rate(came), "went": rate(went), "msi": sent, "role": role}


NIC = (
    DEAD,
    FROZEN,
    SILENT,
    Row("No driver has this port open (CTRL_EXT.DRV_LOAD is 0).", _no_driver),
    Row("The driver has not let it be bus master: it can read no descriptor.", _no_bus_master),
    Row("No light: {name}'s cable is out, so the link is down.", _cable_out),
    Row("Its laser is off (ESDP.SDP3), so the far end sees no link.", _laser_off),
    Row("No light from the switch ({why}), so the link is down.", _no_light),
    Row("Light comes in, but the link is not up yet (LINKS.UP is 0).", _link_down),
    Row("{trouble}: descriptors stay where they are.", _standing_still),
    Row("Starved: the driver gives receive queue {queue} no descriptors, {lost} frames/s lost.",
        _starved),
    Row("Overrun: its packet buffer is full, {lost} frames/s lost (MPC).", _overrun),
    Row("DMA refused: {refused} outside of what the driver mapped in the last second.",
        _dma_refused),
    Row("The interrupt controller is dead: {lost} of its MSIs reached nobody.", _apic_gone),
    Row("Its interrupt messages suffer {faults}: {lost} lost, {doubled} doubled.", _msi_fault),
    Row("Link up; {waiting} in its packet buffer for want of descriptors.", _buffered),
    Row("Link up at 10G{role}: in {came} frames/s, out {went}, {msi} MSIs/s.", _flowing),
    Row("Link up at 10G, and no frame passed for a second.", always),
)  # fmt: skip
