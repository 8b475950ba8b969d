"""Line 2 of the overview: what is broken, and do packets pass all the same?"""

from __future__ import annotations

from orchestrator.dashboards import facts
from orchestrator.dashboards.draw import duration
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.dashboards.sentences import Row, Words, always


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
