"""Line 2 of every screen: what is going on now, in one sentence.

A table for each screen, read from the top: a row is a function that looks at the view and gives the
words of its sentence, or None when the row does not apply; the first row that applies wins. The
last row of each table always applies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.dashboards import apicfacts, cpufacts, facts, lanfacts, nicfacts
from orchestrator.dashboards.draw import duration, plural, rate
from orchestrator.dashboards.model import SECOND_NS, MachineView, NodeView

Words = dict[str, Any] | None


class Row(NamedTuple):
    """One row: its text with holes, and who fills them when it applies."""

    text: str
    words: Callable[[MachineView, NodeView], Words]


def sentence(rows: tuple[Row, ...], view: MachineView, node: NodeView) -> str:
    """Text of the first row that applies."""
    for row in rows:
        words = row.words(view, node)
        if words is not None:
            return row.text.format(**words)
    raise AssertionError("the last row of a table of sentences always applies")


def always(view: MachineView, node: NodeView) -> Words:
    return {}


# ---------------------------------------------------------------- any process


def _dead(view: MachineView, node: NodeView) -> Words:
    if node.alive:
        return None
    return {"name": node.name, "death": facts.death(view, node)}


def _frozen(view: MachineView, node: NodeView) -> Words:
    return {"name": node.name} if node.state.frozen else None


def _silent(view: MachineView, node: NodeView) -> Words:
    return {"name": node.name} if node.state.silent else None


DEAD = Row("{name}'s process is dead ({death}); this is the last page it wrote.", _dead)
FROZEN = Row("{name}'s process is frozen (SIGSTOP): what is sent to it waits or is lost.", _frozen)
SILENT = Row("{name}'s process does not answer heartbeats; its page may be old.", _silent)


# ---------------------------------------------------------------- overview


def _boot_cpu_dead(view: MachineView, node: NodeView) -> Words:
    return None if view.boot_cpu.alive else {"cpu": view.boot_cpu.name}


def _boot_cpu_frozen(view: MachineView, node: NodeView) -> Words:
    return {"cpu": view.boot_cpu.name} if view.boot_cpu.state.frozen else None


def _lan_dead(view: MachineView, node: NodeView) -> Words:
    return None if view.lan.alive else {"silence": facts.silence(facts.ping(view))}


def _lan_frozen(view: MachineView, node: NodeView) -> Words:
    return {"silence": facts.silence(facts.ping(view))} if view.lan.state.frozen else None


def _apic_down(view: MachineView, node: NodeView) -> Words:
    if view.apic.running:
        return None
    how = "frozen" if view.apic.alive else "dead"
    return {"how": how, "silence": facts.silence(facts.ping(view))}


def _booting(view: MachineView, node: NodeView) -> Words:
    return None if view.boot_cpu.get("online") else {"cpu": view.boot_cpu.name}


def _active_broken(view: MachineView, node: NodeView) -> Words:
    bond = facts.bond(view)
    if bond is None or not bond.active or not facts.trouble(view, bond.active):
        return None
    return {
        "trouble": facts.trouble(view, bond.active),
        "bond": bond.name,
        "silence": facts.silence(facts.ping(view)),
    }


def _no_active(view: MachineView, node: NodeView) -> Words:
    bond = facts.bond(view)
    if bond is None or bond.active or not bond.slaves:
        return None
    links = ", ".join(f"{s.nic} is {s.link}" for s in bond.slaves)
    return {"bond": bond.name, "links": links}


def _gap_over(view: MachineView, node: NodeView) -> Words:
    gap, bond = view.gap, facts.bond(view)
    if gap is None or view.age_ns(gap.end_ns) > facts.GAP_NEWS_NS:
        return None
    over = f" over {bond.active}" if bond is not None and bond.active else ""
    return {"over": over, "gap": duration(gap.end_ns - gap.start_ns)}


def _spare_broken(view: MachineView, node: NodeView) -> Words:
    bond = facts.bond(view)
    found = [t for nic in view.settings.nic_names if (t := facts.trouble(view, nic))]
    if not found or bond is None or not bond.active:
        return None
    return {"trouble": found[0], "bond": bond.name, "active": bond.active}


def _nic_broken(view: MachineView, node: NodeView) -> Words:
    found = [t for nic in view.settings.nic_names if (t := facts.trouble(view, nic))]
    return {"trouble": found[0]} if found else None


def _cpu_down(view: MachineView, node: NodeView) -> Words:
    for cpu in view.cpus:
        if not cpu.running:
            how = "frozen" if cpu.alive else "dead"
            return {"cpu": cpu.name, "how": how, "queue": cpu.number}
    return None


def _unexplained_silence(view: MachineView, node: NodeView) -> Words:
    ping = facts.ping(view)
    return {"silence": facts.silence(ping)} if ping is not None and ping.quiet else None


def _replies(view: MachineView, node: NodeView) -> Words:
    ping, bond = facts.ping(view), facts.bond(view)
    if ping is None or not ping.running or not ping.received or bond is None or not bond.active:
        return None
    spare = [s.nic for s in bond.slaves if not s.active and s.link == "up"]
    standby = f"; {' and '.join(spare)} {'stands' if len(spare) == 1 else 'stand'} by"
    return {"active": bond.active, "standby": standby if spare else "; there is no backup"}


def _pinging(view: MachineView, node: NodeView) -> Words:
    ping = facts.ping(view)
    if ping is None or not ping.running:
        return None
    return {"cpu": ping.cpu, "sent": ping.sent, "received": ping.received}


def _idle_bond(view: MachineView, node: NodeView) -> Words:
    bond = facts.bond(view)
    return {"bond": bond.name, "active": bond.active} if bond is not None and bond.active else None


def _guest_there(view: MachineView, node: NodeView) -> Words:
    driven = [nic.name for nic in view.nics if nic.alive and nic.get("guest")]
    return {"nics": " and ".join(driven)} if driven else None


#: Of a machine whose kernel is a guest's.
GUEST = (
    Row("The LAN's process is dead, so no NIC sees light.", _lan_dead),
    Row("The LAN's process is frozen, so frames wait for it.", _lan_frozen),
    Row("{trouble}: what is sent over it is lost.", _nic_broken),
    Row("A guest's kernel drives {nics}; what it sees stands on its own console.",
        _guest_there),
    Row("No guest is connected: the NICs wait at their vfio-user sockets.", always),
)  # fmt: skip

OVERVIEW = (
    Row("{cpu}'s process is dead and the kernel with it; NICs and LAN go on without one.",
        _boot_cpu_dead),
    Row("{cpu}'s process is frozen and the kernel with it; it goes on after a thaw.",
        _boot_cpu_frozen),
    Row("The LAN's process is dead, so no NIC sees light: {silence}.", _lan_dead),
    Row("The LAN's process is frozen, so frames wait for it: {silence}.", _lan_frozen),
    Row("The interrupt controller is {how}, so no interrupt arrives: {silence}.", _apic_down),
    Row("{cpu} boots the kernel: no CPU is online yet.", _booting),
    Row("{trouble} and {bond} still sends to it: {silence}.", _active_broken),
    Row("{bond} has no active slave, so nothing can be sent: {links}.", _no_active),
    Row("Replies are back{over}, after {gap} without one.", _gap_over),
    Row("{trouble}; {bond} sends over {active} and does not need it now.", _spare_broken),
    Row("{trouble}: what is sent over it is lost.", _nic_broken),
    Row("{cpu}'s process is {how}: interrupts of queue {queue} wait for it in vain.", _cpu_down),
    Row("Nothing is broken, yet a ping runs and has {silence}.", _unexplained_silence),
    Row("Replies come over {active}{standby}.", _replies),
    Row("A ping runs on {cpu}: {sent} sent, {received} answered.", _pinging),
    Row("Nobody pings; {bond} would send over {active}.", _idle_bond),
    Row("The kernel is up and nobody pings.", always),
)  # fmt: skip


# ---------------------------------------------------------------- CPU


def _offline(view: MachineView, node: NodeView) -> Words:
    return None if node.get("online") else {"boot": view.boot_cpu.name}


def _stalled(view: MachineView, node: NodeView) -> Words:
    nic = node.get("stalled_on")
    if not 0 < nic <= len(view.nics):
        return None
    read = cpufacts.stalled_read(view, node)
    name = view.nic(nic - 1)
    return {"nic": name, "for": f" for {duration(view.age_ns(read))}" if read else ""}


def _in_hardirq(view: MachineView, node: NodeView) -> Words:
    irq = node.get("hardirq_now")
    if not irq:
        return None
    return {
        "irq": cpufacts.irq_words(view, node, irq - 1),
        "over": cpufacts.interrupted(view, node),
    }


def _polling(view: MachineView, node: NodeView) -> Words:
    poll = cpufacts.napi(view, node)
    if poll is None or not node.get("softirq_now"):
        return None
    return {
        "device": poll.device,
        "queue": poll.queue,
        "polled": poll.polled,
        "weight": poll.weight,
        "softirq": cpufacts.softirq_name(view, node.get("softirq_now") - 1),
        "where": cpufacts.softirq_where(view, node),
    }


def _in_softirq(view: MachineView, node: NodeView) -> Words:
    vector = node.get("softirq_now")
    if not vector:
        return None
    return {
        "softirq": cpufacts.softirq_name(view, vector - 1),
        "where": cpufacts.softirq_where(view, node),
    }


def _in_task(view: MachineView, node: NodeView) -> Words:
    if not node.get("current_pid"):
        return None
    waiting = max(node.get("nr_running") - 1, 0)
    return {
        "task": cpufacts.task(node),
        "nice": node.get("current_nice") - 20,
        "others": f"{plural(waiting, 'other task')} waiting" if waiting else "nobody waits",
    }


def _pending(view: MachineView, node: NodeView) -> Words:
    names = cpufacts.pending(view, node)
    return {"names": " ".join(names)} if names else None


def _busy_lately(view: MachineView, node: NodeView) -> Words:
    interrupts = node.rate("vectors_taken")
    if interrupts < 0.5:
        return None
    return {
        "interrupts": rate(interrupts),
        "softirqs": rate(node.rate("softirqs")),
        "busy": f"{100 * sum(cpufacts.shares(node)):.0f}",
    }


CPU = (
    DEAD,
    FROZEN,
    Row("Offline: it waits for INIT and STARTUP from {boot}.", _offline),
    Row("Stalled{for}: a register read from {nic} has no answer yet.", _stalled),
    SILENT,
    Row("Handling interrupt {irq}{over}.", _in_hardirq),
    Row("Polling {device} queue {queue} ({polled} of {weight}) in {softirq}, {where}.", _polling),
    Row("Running softirq {softirq}, {where}.", _in_softirq),
    Row("Running {task} (nice {nice}); {others}.", _in_task),
    Row("Idle, but softirqs are pending: {names}.", _pending),
    Row("Idle now; in a second {interrupts} interrupts, {softirqs} softirqs, {busy} % busy.",
        _busy_lately),
    Row("Idle: no task can run and no interrupt came for a second.", always),
)  # fmt: skip


# ---------------------------------------------------------------- NIC


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


# ---------------------------------------------------------------- interrupt controller


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


# ---------------------------------------------------------------- LAN


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
