"""What the pages of several nodes say together: the bond, the ping, what is broken, who waits.

Pure functions from a view to small values; screens and sentences are made of these. The kernel's
part comes from the boot CPU's page, which is the kernel's own belief: it may differ from the state
of a process for as long as the kernel has not noticed, and that difference is what people watch.
"""

from __future__ import annotations

from typing import NamedTuple

from bus.faults import APIC, NIC
from nodes.machine import GATEWAY
from orchestrator import faults
from orchestrator.dashboards.draw import duration
from orchestrator.dashboards.model import SECOND_NS, MachineView, NodeView
from orchestrator.dashboards.pinggap import GAP_INTERVALS, gap_limit_ns

BOND_MODES = (
    "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
    "balance-alb",
)  # fmt: skip
#: Words of /proc/net/bonding for BOND_LINK_UP, FAIL, DOWN, BACK; word 0 of the page: no slave.
LINK_WORDS = ("", "up", "going down", "down", "going back")
CARRIER = 4  # of ``nic_flags`` (nodes/cpu/page.py)
#: Faults that keep a NIC from carrying frames, as the middle of a sentence.
STILL = {"hang": "hangs (fault hang)", "no-dma": "reaches no memory (fault no-dma)"}
#: And those of its cable.
STILL_CABLE = {
    "silent": "cable is silent (fault silent)",
    "one-way": "cable is half broken (fault one-way)",
    "down": "port is shut (fault down)",
}
#: For how long a gap that is over is worth a sentence.
GAP_NEWS_NS = 4 * SECOND_NS


class Slave(NamedTuple):
    """One slave of bond0 as the kernel sees it."""

    nic: str
    link: str  # LINK_WORDS
    failures: int
    active: bool
    carrier: bool


class Bond(NamedTuple):
    """bond0 as the kernel sees it."""

    name: str
    mode: str
    miimon_ms: int
    slaves: tuple[Slave, ...]
    active: str  # name of the NIC, or nothing
    next_look_ns: int  # until miimon looks again; 0 if it is due or does not run


class Ping(NamedTuple):
    """The last ping of the machine."""

    cpu: str
    running: bool
    sent: int
    received: int
    lost: int  # without those on their way
    duplicates: int
    interval_ns: int
    rtt_ns: int
    silence_ns: int | None  # since the last reply; None if none ever came
    quiet: bool  # the silence is longer than it should be
    window: str  # oldest first: "!" answered, "." not


class Break(NamedTuple):
    """One thing that is broken now, and the command that mends it."""

    node: str
    what: str
    mend: str
    fault: str = ""  # as one types it, if it is one of ``bottomhalf fault``
    hits: int = 0
    left_ns: int | None = None  # until it ends by itself


def death(view: MachineView, node: NodeView) -> str:
    """How a dead node ended: ``SIGKILL 64 ms ago``."""
    state = node.state
    return f"{state.cause} {duration(view.age_ns(state.since_ns))} ago"


def cable_out(view: MachineView, nic: str) -> bool:
    """Somebody pulled the cable of this NIC out of the switch."""
    number = view.settings.nic_names.index(nic)
    return not view.lan.get("cable", number) and view.lan.incarnation > 0


def bond(view: MachineView) -> Bond | None:
    """The bond, or None when the kernel has none (yet)."""
    settings = view.settings.bond
    if settings is None or view.settings.guest:
        return None
    page = view.boot_cpu
    if not page.get("bond_present"):
        return None
    active = page.get("bond_active")
    slaves = tuple(
        Slave(
            nic=nic,
            link=LINK_WORDS[min(page.get("bond_slave_link", n), len(LINK_WORDS) - 1)],
            failures=page.get("bond_failures", n),
            active=active == n + 1,
            carrier=bool(page.get("nic_flags", n) & CARRIER),
        )
        for n, nic in enumerate(view.settings.nic_names)
        if page.get("bond_slave_link", n)
    )
    miimon = page.get("bond_miimon_ms")
    return Bond(
        name=settings.name,
        mode=BOND_MODES[min(page.get("bond_mode"), len(BOND_MODES) - 1)],
        miimon_ms=miimon,
        slaves=slaves,
        active=view.nic(active - 1) if 0 < active <= len(view.nics) else "",
        next_look_ns=max(page.get("bond_next_mii_ns") - view.now_ns, 0) if miimon else 0,
    )


def ping(view: MachineView) -> Ping | None:
    """The ping that sent last; None if there was none."""
    if not view.cpus:
        return None
    cpu = max(view.cpus, key=lambda node: node.get("ping_last_sent_ns"))
    sent, received = cpu.get("ping_sent"), cpu.get("ping_received")
    if not sent:
        return None
    interval = cpu.get("ping_interval_ns")
    bits = cpu.get("ping_window")
    running = bool(cpu.get("ping_running"))
    last_reply = cpu.get("ping_last_reply_ns")
    silence = view.age_ns(last_reply) if last_reply else None
    # The newest request may still be on its way: it is neither answered nor lost.
    fresh = running and not bits & 1 and view.age_ns(cpu.get("ping_last_sent_ns")) <= interval
    newest = 1 if fresh else 0
    columns = range(min(sent, 64) - 1, newest - 1, -1)
    limit = gap_limit_ns(interval)
    return Ping(
        cpu=cpu.name,
        running=running,
        sent=sent,
        received=received,
        lost=max(sent - received - newest, 0),
        duplicates=cpu.get("ping_duplicates"),
        interval_ns=interval,
        rtt_ns=cpu.get("ping_last_rtt_ns"),
        silence_ns=silence,
        quiet=running and (sent - newest > GAP_INTERVALS if silence is None else silence > limit),
        window="".join("!" if bits >> n & 1 else "." for n in columns),
    )


def breaks(view: MachineView) -> list[Break]:
    """Everything that is broken now: processes first, then hands, in the order of the nodes."""
    found = []
    for node in view.nodes.values():
        state = node.state
        if not state.alive:
            how = f"killed ({state.cause})" if state.signal else "ended by itself"
            if state.pulled:
                how = state.cause
            what = f"{how} {duration(view.age_ns(state.since_ns))} ago"
            mend = f"card {node.name} in" if state.pulled else f"restart {node.name}"
            found.append(Break(node.name, what, mend))
        elif state.frozen:
            found.append(Break(node.name, "frozen (SIGSTOP)", f"thaw {node.name}"))
        elif state.silent:
            found.append(Break(node.name, "does not answer", f"thaw {node.name}"))
    found.extend(
        Break(nic, "cable out", f"cable {nic} in")
        for nic in view.settings.nic_names
        if cable_out(view, nic)
    )
    for node in view.nodes.values():
        found.extend(_fault(view, node.name, fault) for fault in faults_of(node))
    for port in (*view.settings.nic_names, GATEWAY):
        found.extend(_fault(view, port, fault) for fault in faults_of_port(view, port))
    return found


def faults_of(node: NodeView) -> list[faults.Active]:
    """Faults that a living device has now."""
    if node.kind not in (NIC, APIC) or not node.alive:
        return []
    return faults.rows(node.run("faults"))


def faults_of_port(view: MachineView, port: str) -> list[faults.Active]:
    """Faults that a port of the living switch and its cable have now."""
    return faults_at(view, faults.port_number(view.settings, port))


def faults_at(view: MachineView, number: int) -> list[faults.Active]:
    """The same, by the port's number."""
    if not view.lan.alive:
        return []
    return faults.rows_of_port(view.lan.run("faults"), number)


def _age(view: MachineView, since_ns: int) -> str:
    return duration(view.age_ns(since_ns))


def _fault(view: MachineView, name: str, fault: faults.Active) -> Break:
    left = max(fault.until_ns - view.now_ns, 0) if fault.until_ns else None
    when = f"{duration(left)} left" if left is not None else f"{_age(view, fault.since_ns)} ago"
    what = f"fault {fault.text}{f' hit {fault.hits}' if fault.hits else ''}, {when}"
    mend = f"fault clear {name} {fault.kind.name}"
    return Break(name, what, mend, fault.text, fault.hits, left)


def trouble(view: MachineView, nic: str) -> str:
    """What is wrong with a NIC or its cable, as the middle of a sentence; or nothing."""
    node = view[nic]
    if not node.alive:
        return f"{nic}'s process is dead"
    if node.state.frozen:
        return f"{nic}'s process is frozen"
    if cable_out(view, nic):
        return f"{nic}'s cable is out"
    for fault in faults_of(node):
        if fault.kind.name in STILL:
            return f"{nic} {STILL[fault.kind.name]}"
    for fault in faults_of_port(view, nic):
        if fault.kind.name in STILL_CABLE:
            return f"{nic}'s {STILL_CABLE[fault.kind.name]}"
    return ""


def silence(found: Ping | None) -> str:
    """``no reply for 64 ms``; says so when nobody pings."""
    if found is None or not found.running:
        return "no ping runs"
    if found.silence_ns is None:
        return "no reply yet"
    if not found.quiet:
        return "replies still come"
    return f"no reply for {duration(found.silence_ns)}"


def waiting(view: MachineView) -> str:
    """Whom the failover waits for; nothing if it waits for nobody."""
    found = bond(view)
    if found is None or not found.active or not trouble(view, found.active):
        return ""
    slave = next(s for s in found.slaves if s.active)
    if not found.miimon_ms:
        return f"waiting: {found.name} has no miimon; nobody looks at {slave.nic}'s link"
    due = found.next_look_ns
    look = f"miimon looks again in {duration(due)}" if due else "miimon is about to look"
    if slave.link != "up":
        return f"waiting: {slave.nic} is {slave.link} for {found.name}; {look}"
    carrier = "carrier is still on" if slave.carrier else "carrier is off"
    return f"waiting: {slave.nic}'s {carrier}; {look}"


def merged(view: MachineView) -> int:
    """Vectors that met their IRR bit set."""
    return sum(cpu.get("lapic_merged") for cpu in view.cpus)
