"""The ledger: every packet and every interrupt ends in exactly one named place.

No loss is a remainder. Each *edge* between two nodes is counted twice, ``out`` before the hand-over
and ``in`` after taking; each place where something can end is a counter of the node where it ends.
The books are then compared:

* so is the way *within* a NIC, the switch and the interrupt controller: what entered against what
  left or ended there (the sums of their pages), since a SIGKILL may fall in the middle of a turn;
  and within a CPU once it was killed;
* an edge must be exactly zero after a drain; only edges of a node that was killed may keep a
  difference, and that difference *is* the named loss ``lost: killed NODE``;
* for each class of packets, and for interrupts, sources must equal ends.

Echo requests go from sockets to the gateway, replies from the gateway to sockets, or both ways
between machines: each has its own books, what came from and went to others is named there. The
switch may
flood a frame whose destination it has not learned; the copies are a source, and end at a filter.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bus.faults import KINDS, ROW_WORDS, ROWS
from nodes.apic.page import INTX_ENDS, IOAPIC_DROPS, IPI_DROPS, MSI_DROPS
from nodes.cpu.page import DROP_REASONS
from nodes.lan.page import GATEWAY_PORT, GW_DROPS, IN_DROPS, PORTS
from nodes.ledger import OTHER, REPLY, REQUEST
from nodes.machine import APIC, CLASSES, GATEWAY, LAN
from nodes.nic.page import RX_DROPS, TX_DROPS
from orchestrator.counts import Counts
from orchestrator.machine import Machine

#: Drops of the driver that end frames between the CPU's books and the NIC's.
_TX_RESET = DROP_REASONS.index("TX_RING_RESET")
_RX_RESET = DROP_REASONS.index("RX_RING_RESET")
_DROP_WORDS = 3 * len(DROP_REASONS)

#: What enters the switch, and where it goes; frames that wait in its cables are a gauge.
_LAN_SOURCES = ("frames_in", "fault_dup", "slow_sent")
_LAN_ENDS = ("frames_out", "fault_held", "slow_taken", *IN_DROPS)
#: Why frames may lie in a ring when all has settled.
UNTOLD = "waiting: fault lose-msi, nobody polls"
#: Faults that leave descriptors where they are.
_STILL = ("hang", "no-dma")
_SETTLE_NS = 50_000_000
_SETTLE_LOOKS = 40


class Edge(NamedTuple):
    """One hand-over: what was given and what was taken, [other, request, reply] or one number."""

    name: str
    nodes: tuple[str, ...]
    kind: str  # "request", "reply", "other", "interrupt", "wire"
    out: int
    taken: int

    @property
    def difference(self) -> int:
        return self.out - self.taken

    @property
    def within(self) -> bool:
        """Inside one node?"""
        return len(self.nodes) == 1


@dataclass
class Account:
    """Sources and ends of one kind of thing."""

    sources: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)

    def source(self, name: str, count: int) -> None:
        if count:
            self.sources[name] = self.sources.get(name, 0) + count

    def end(self, name: str, count: int) -> None:
        if count:
            self.ends[name] = self.ends.get(name, 0) + count

    @property
    def difference(self) -> int:
        return sum(self.sources.values()) - sum(self.ends.values())

    def as_json(self) -> dict[str, Any]:
        return {"sources": self.sources, "ends": self.ends, "difference": self.difference}

    def text(self) -> str:
        """``1213 sent = 1200 answered + 13 lan cable_out``."""
        left = " + ".join(f"{n} {name}" for name, n in self.sources.items()) or "0"
        right = " + ".join(f"{n} {name}" for name, n in self.ends.items()) or "0"
        return f"{left} = {right}"


@dataclass
class Ledger:
    """The books of a machine at one time."""

    packets: dict[str, Account]
    interrupts: Account
    edges: list[Edge]
    faults: list[str]

    @property
    def balanced(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        return {
            "packets": {name: account.as_json() for name, account in self.packets.items()},
            "interrupts": self.interrupts.as_json(),
            "edges": [
                {"edge": e.name, "kind": e.kind, "out": e.out, "in": e.taken}
                for e in self.edges
                if e.difference
            ],
            "faults": self.faults,
            "balanced": self.balanced,
        }

    def text(self, width: int = 1000) -> str:
        """A line a book (broken at ``width`` columns), then whatever does not fit."""
        books = {**self.packets, "interrupts": self.interrupts}
        lines = [
            textwrap.fill(
                f"  {name:<11}{account.text()}",
                width,
                subsequent_indent=" " * 13,
                break_long_words=False,
            )
            for name, account in books.items()
        ]
        lines += [f"  !! {fault}" for fault in self.faults]
        lines.append("  balanced" if self.balanced else "  DOES NOT BALANCE")
        return "\n".join(lines)


def account(counts: Counts) -> Ledger:
    """Compare the books."""
    edges = [
        *_packet_edges(counts),
        *_packets_within(counts),
        *_interrupt_edges(counts),
        *_interrupts_within(counts),
    ]
    packets = {
        "requests": _requests(counts, edges),
        "replies": _replies(counts, edges),
    }
    interrupts = _interrupts(counts, edges)
    faults = _edge_faults(counts, edges)
    for name, book in (*packets.items(), ("interrupts", interrupts)):
        if book.difference:
            faults.append(f"{name}: {book.difference} not accounted for")
    return Ledger(packets, interrupts, edges, faults)


def read(machine: Machine) -> Ledger:
    """The ledger of a machine now."""
    return account(Counts.of(machine))


def settled(machine: Machine) -> Ledger:
    """The ledger after a drain: look until it balances, or nothing moves any more."""
    before: list[Edge] = []
    ledger = read(machine)
    for _ in range(_SETTLE_LOOKS):
        if ledger.balanced and ledger.edges == before:
            break
        before = ledger.edges
        machine.pump(machine.now_ns() + _SETTLE_NS)
        ledger = read(machine)
    return ledger


def may_differ(counts: Counts, edge: Edge) -> str:
    """Whose death or standstill explains a difference on this edge; empty: nobody's."""
    for node in edge.nodes:
        if counts.killed(node):
            return f"lost: killed {node}"
    for node in edge.nodes:
        if counts.frozen(node):
            return f"waiting: frozen {node}"
    for node in edge.nodes:
        if fault := _standing_still(counts, node):
            return f"waiting: fault {fault} of {node}"
        if edge.name == _polled(node) and _untold(counts, node):
            return UNTOLD
    return ""


def _polled(nic: str) -> str:
    """Name of the edge over which a driver takes what the NIC received."""
    return f"{nic} -> cpus (descriptors)"


def _untold(counts: Counts, nic: str) -> bool:
    """Do the frames that are missing lie in the rings, because a fault lost the interrupt message
    that would have told? All of them, and no others: they are counted there."""
    known = [node for node in (nic, APIC) if node in counts.settings.node_names]
    if not any(counts.get(node, "msi_lost_fault") for node in known):
        return False
    number = counts.settings.nic_names.index(nic)
    missing = sum(_not_polled(counts, nic, number, kind) for kind in (OTHER, REQUEST, REPLY))
    return missing == counts.in_rings(nic)


def _not_polled(counts: Counts, nic: str, number: int, kind: int) -> int:
    written = counts.get(nic, "rx_dma", kind) - _ring_drops(counts, _RX_RESET, number, kind)
    return written - _over_cpus(counts, "rx_polled", 3 * number + kind)


def _standing_still(counts: Counts, node: str) -> str:
    """The fault that keeps this node from taking what waits for it in memory."""
    if node not in counts.settings.nic_names:
        return ""
    rows = range(0, ROWS * ROW_WORDS, ROW_WORDS)
    numbers = [counts.now(node, "faults", at) - 1 for at in rows]
    return next((name for name in _STILL if KINDS[name].number in numbers), "")


def _edge_faults(counts: Counts, edges: list[Edge]) -> list[str]:
    faults = []
    for edge in edges:
        if not edge.difference:
            continue
        if not may_differ(counts, edge):
            faults.append(
                f"edge {edge.name}: {edge.out} {edge.kind} handed over, {edge.taken} taken"
            )
        elif edge.difference < 0:
            faults.append(f"edge {edge.name}: more {edge.kind} taken than handed over")
    return faults


def _end_edges(counts: Counts, book: Account, edges: list[Edge], kind: str) -> None:
    """Differences of edges are ends: lost with the killed, or still on their way between two nodes.

    What a living node took and did not finish has not ended: the book shows it as a difference."""
    for edge in edges:
        if edge.kind == kind:
            why = may_differ(counts, edge)
            if why or not edge.within:
                book.end(why or "in flight", edge.difference)


# ---------------------------------------------------------------- packets

#: Reasons of drops that happen to descriptors of a ring, not to what a CPU has in its hands.
_OF_RINGS = (_TX_RESET, _RX_RESET)


def _cpu_drops(counts: Counts, cpu: str, reason: int, device: int, kind: int) -> int:
    return counts.get(cpu, "drops", device * _DROP_WORDS + reason * 3 + kind)


def _ring_drops(counts: Counts, reason: int, nic: int, kind: int) -> int:
    return sum(_cpu_drops(counts, cpu, reason, nic + 1, kind) for cpu in counts.settings.cpu_names)


def _over_cpus(counts: Counts, name: str, index: int) -> int:
    return sum(counts.get(cpu, name, index) for cpu in counts.settings.cpu_names)


def _over_ports(counts: Counts, name: str, kind: int) -> int:
    return sum(counts.get(LAN, name, 3 * port + kind) for port in range(PORTS))


def _packet_edges(counts: Counts) -> Iterator[Edge]:
    settings = counts.settings
    cpus = settings.cpu_names
    for kind in (OTHER, REQUEST, REPLY):
        name = CLASSES[kind]
        for number, nic in enumerate(settings.nic_names):
            at = 3 * number + kind
            if not settings.guest:
                yield from _ring_edges(counts, nic, kind)
            yield Edge(
                f"{nic} -> lan",
                (nic, LAN),
                name,
                counts.get(nic, "tx_frames_out", kind)
                - counts.get(nic, "tx_lost_peer_dead", kind)
                - counts.get(nic, "tx_lost_peer_full", kind),
                counts.get(LAN, "frames_in", at),
            )
            yield Edge(
                f"lan -> {nic}",
                (nic, LAN),
                name,
                counts.get(LAN, "frames_out", at)
                - counts.get(LAN, "lost_dead", at)
                - counts.get(LAN, "lost_full", at),
                counts.get(nic, "rx_frames_in", kind),
            )
        if settings.guest:
            continue
        yield Edge(
            "cpu -> cpu",
            cpus,
            name,
            _over_cpus(counts, "handover_out", kind),
            _over_cpus(counts, "handover_in", kind),
        )


def _ring_edges(counts: Counts, nic: str, kind: int) -> Iterator[Edge]:
    """What goes through the rings of a NIC, between it and the CPUs."""
    number = counts.settings.nic_names.index(nic)
    at = 3 * number + kind
    nodes = (nic, *counts.settings.cpu_names)
    yield Edge(
        f"cpus -> {nic} (descriptors)",
        nodes,
        CLASSES[kind],
        _over_cpus(counts, "tx_posted", at) - _ring_drops(counts, _TX_RESET, number, kind),
        counts.get(nic, "tx_fetched", kind),
    )
    yield Edge(
        _polled(nic),
        nodes,
        CLASSES[kind],
        counts.get(nic, "rx_dma", kind) - _ring_drops(counts, _RX_RESET, number, kind),
        _over_cpus(counts, "rx_polled", at),
    )


def _packets_within(counts: Counts) -> Iterator[Edge]:
    """What entered a node against what left it or ended there."""
    for kind in (OTHER, REQUEST, REPLY):
        name = CLASSES[kind]
        for nic in counts.settings.nic_names:
            yield Edge(
                f"within {nic} (transmit)",
                (nic,),
                name,
                counts.get(nic, "tx_fetched", kind),
                counts.get(nic, "tx_frames_out", kind)
                + sum(counts.get(nic, drop, kind) for drop in TX_DROPS),
            )
            yield Edge(
                f"within {nic} (receive)",
                (nic,),
                name,
                counts.get(nic, "rx_frames_in", kind),
                sum(counts.get(nic, end, kind) for end in ("rx_dma", "rx_buffered", *RX_DROPS)),
            )
        if kind != OTHER:
            yield from (_within_cpu(counts, cpu, kind) for cpu in _killed_cpus(counts))
        yield Edge(
            "within lan (switch)",
            (LAN,),
            name,
            sum(_over_ports(counts, source, kind) for source in _LAN_SOURCES)
            + counts.get(LAN, "flood_copies", kind),
            sum(_over_ports(counts, end, kind) for end in _LAN_ENDS),
        )
        if counts.settings.lan.uplink:
            continue  # what is behind the last port is another machine's
        yield Edge(
            "within lan (gateway)",
            (LAN,),
            name,
            counts.get(LAN, "frames_out", 3 * GATEWAY_PORT + kind),
            sum(counts.get(LAN, end, kind) for end in ("gw_answered", *GW_DROPS)),
        )


def _outside(counts: Counts, book: Account, kind: int) -> None:
    """Frames that came from other machines and went there, by guests' ports and the uplink."""
    settings = counts.settings
    ports = [*range(len(settings.nics), GATEWAY_PORT)]
    for port in (*ports, GATEWAY_PORT) if settings.lan.uplink else ports:
        at = 3 * port + kind
        book.source("from outside", counts.get(LAN, "frames_in", at))
        lost = counts.get(LAN, "lost_dead", at) + counts.get(LAN, "lost_full", at)
        book.end("to outside", counts.get(LAN, "frames_out", at) - lost)


def _guest(counts: Counts, book: Account, kind: int) -> None:
    """A guest keeps books of its own: its memory is where our packets begin and end."""
    if counts.settings.guest:
        for nic in counts.settings.nic_names:
            book.source("sent by the guest", counts.get(nic, "tx_fetched", kind))
            book.end("in the guest's memory", counts.get(nic, "rx_dma", kind))


def _killed_cpus(counts: Counts) -> list[str]:
    return [cpu for cpu in counts.settings.cpu_names if counts.killed(cpu)]


def _within_cpu(counts: Counts, cpu: str, kind: int) -> Edge:
    """What a CPU that was killed had taken from a ring, and not yet given to anybody. Of the living
    the books of all CPUs together say it: what rests in one has no end there."""
    ports = range(len(counts.settings.nics))
    entered = ("handover_in", "icmp_sent", "icmp_generated", "bond_copies")
    left = ("handover_out", "delivered")
    drops = sum(
        _cpu_drops(counts, cpu, reason, device, kind)
        for reason in range(len(DROP_REASONS))
        if reason not in _OF_RINGS
        for device in range(len(ports) + 1)
    )
    return Edge(
        f"within {cpu}",
        (cpu,),
        CLASSES[kind],
        sum(counts.get(cpu, name, kind) for name in entered)
        + sum(counts.get(cpu, "rx_polled", 3 * port + kind) for port in ports),
        sum(counts.get(cpu, name, kind) for name in left)
        + sum(counts.get(cpu, "tx_posted", 3 * port + kind) for port in ports)
        + drops,
    )


def _requests(counts: Counts, edges: list[Edge]) -> Account:
    book = Account()
    book.source("sent", _over_cpus(counts, "icmp_sent", REQUEST))
    book.source("sent by kernel", _over_cpus(counts, "icmp_generated", REQUEST))
    book.source("sent by gateway", counts.get(LAN, "gw_generated", REQUEST))
    book.source("doubled: fault dup", _over_ports(counts, "fault_dup", REQUEST))
    book.source("flood copies", counts.get(LAN, "flood_copies", REQUEST))
    book.source("bond copies", _over_cpus(counts, "bond_copies", REQUEST))
    _outside(counts, book, REQUEST)
    _guest(counts, book, REQUEST)
    book.end("answered", counts.get(LAN, "gw_answered", REQUEST))
    book.end("delivered", _over_cpus(counts, "delivered", REQUEST))
    _named_ends(counts, book, REQUEST)
    _end_edges(counts, book, edges, "request")
    return book


def _replies(counts: Counts, edges: list[Edge]) -> Account:
    book = Account()
    book.source("sent by gateway", counts.get(LAN, "gw_generated", REPLY))
    book.source("sent by kernel", _over_cpus(counts, "icmp_generated", REPLY))
    book.source("doubled: fault dup", _over_ports(counts, "fault_dup", REPLY))
    book.source("flood copies", counts.get(LAN, "flood_copies", REPLY))
    book.source("bond copies", _over_cpus(counts, "bond_copies", REPLY))
    _outside(counts, book, REPLY)
    _guest(counts, book, REPLY)
    book.end("delivered", _over_cpus(counts, "delivered", REPLY))
    book.end("gw_answered", counts.get(LAN, "gw_answered", REPLY))
    _named_ends(counts, book, REPLY)
    _end_edges(counts, book, edges, "reply")
    return book


def _named_ends(counts: Counts, book: Account, kind: int) -> None:
    """Every place of every node where a packet of this class can end."""
    settings = counts.settings
    for cpu in settings.cpu_names:
        for device in range(len(settings.nics) + 1):
            where = f"{cpu} {settings.nic_names[device - 1]}" if device else cpu
            for number, reason in enumerate(DROP_REASONS):
                book.end(f"{where} {reason}", _cpu_drops(counts, cpu, number, device, kind))
        book.end(f"{cpu} waits in a queue", counts.now(cpu, "qdisc_waiting", kind))
        book.end(f"lost: killed {cpu}", counts.left(cpu, "qdisc_waiting", kind))
    for nic in settings.nic_names:
        for name in (*TX_DROPS, *RX_DROPS, "tx_lost_peer_dead", "tx_lost_peer_full"):
            book.end(f"{nic} {name}", counts.get(nic, name, kind))
        book.end(f"{nic} rx_buffered", counts.now(nic, "rx_buffered", kind))
        book.end(f"lost: killed {nic}", counts.left(nic, "rx_buffered", kind))
    guests = [(port, f"port {port + 1}") for port in range(len(settings.nics), GATEWAY_PORT)]
    ports = [*enumerate(settings.nic_names), *guests, (GATEWAY_PORT, GATEWAY)]
    for port, name in ports:
        for reason in (*IN_DROPS, "lost_dead", "lost_full"):
            book.end(f"lan {reason} ({name})", counts.get(LAN, reason, 3 * port + kind))
        book.end(f"lan fault_held ({name})", counts.now(LAN, "fault_held", 3 * port + kind))
        book.end(f"lost: killed {LAN}", counts.left(LAN, "fault_held", 3 * port + kind))
    for reason in GW_DROPS:
        book.end(f"lan {reason}", counts.get(LAN, reason, kind))


# ---------------------------------------------------------------- interrupts


def _interrupt_edges(counts: Counts) -> Iterator[Edge]:
    settings = counts.settings
    if settings.guest:
        return  # its eventfds tell nobody here
    for number, nic in enumerate(settings.nic_names):
        yield Edge(
            f"{nic} -> apic",
            (nic, APIC),
            "interrupt",
            counts.get(nic, "msi_out")
            - counts.get(nic, "msi_lost_peer_dead")
            - counts.get(nic, "msi_lost_peer_full")
            - counts.get(nic, "msi_lost_fault")
            + counts.get(nic, "msi_dup_fault"),
            counts.get(APIC, "msi_in", number),
        )
        yield Edge(  # a level: both its changes are messages, and only a rise may interrupt
            f"{nic} -> apic (INTx)",
            (nic, APIC),
            "wire",
            counts.get(nic, "intx_asserts")
            + counts.get(nic, "intx_deasserts")
            - counts.get(nic, "intx_lost_peer_dead")
            - counts.get(nic, "intx_lost_peer_full"),
            counts.get(APIC, "intx_in", number) + counts.get(APIC, "intx_deassert_in", number),
        )
    for number, cpu in enumerate(settings.cpu_names):
        yield Edge(
            f"{cpu} -> apic",
            (cpu, APIC),
            "interrupt",
            counts.get(cpu, "ipi_sent"),
            counts.get(APIC, "ipi_in", number),
        )
        yield Edge(
            f"apic -> {cpu}",
            (APIC, cpu),
            "interrupt",
            counts.get(APIC, "msi_routed", number)
            + counts.get(APIC, "ipi_routed", number)
            + counts.get(APIC, "ioapic_routed", number)
            - counts.get(APIC, "lost_dead", number)
            - counts.get(APIC, "lost_full", number),
            counts.get(cpu, "lapic_in"),
        )


def _interrupts_within(counts: Counts) -> Iterator[Edge]:
    """What a node raised or took against what left it or ended there."""
    for nic in counts.settings.nic_names:
        yield Edge(
            f"within {nic} (interrupts)",
            (nic,),
            "interrupt",
            counts.get(nic, "msi_raised"),
            sum(
                counts.get(nic, end)
                for end in ("msi_out", "msi_merged_pba", "msi_cleared", "msi_pending")
            ),
        )
    if counts.settings.guest:
        return
    for what, drops in (("msi", MSI_DROPS), ("ipi", IPI_DROPS)):
        yield Edge(
            f"within {APIC} ({what})",
            (APIC,),
            "interrupt",
            counts.total(APIC, f"{what}_in") + counts.get(APIC, f"{what}_copies"),
            counts.total(APIC, f"{what}_routed") + sum(counts.get(APIC, drop) for drop in drops),
        )
    yield Edge(
        f"within {APIC} (INTx)",
        (APIC,),
        "interrupt",
        counts.total(APIC, "intx_in")
        + counts.get(APIC, "ioapic_again")
        + counts.get(APIC, "ioapic_copies"),
        counts.total(APIC, "ioapic_routed")
        + sum(counts.get(APIC, end) for end in (*INTX_ENDS, *IOAPIC_DROPS)),
    )


def _interrupts(counts: Counts, edges: list[Edge]) -> Account:
    book = Account()
    settings = counts.settings
    cpus: Callable[[str], int] = lambda name: _over_cpus(counts, name, 0)  # noqa: E731
    book.source("MSIs", sum(counts.get(nic, "msi_raised") for nic in settings.nic_names))
    if settings.guest:
        _interrupts_of_guest(counts, book)
        return book
    book.source("MSIs of root ports", counts.total(APIC, "port_msi"))
    book.source("INTx asserted", counts.total(APIC, "intx_in"))
    book.source("level still there", counts.get(APIC, "ioapic_again"))
    book.source("IPIs", cpus("ipi_sent"))
    book.source("timer", cpus("lapic_timer"))
    doubled = counts.get(APIC, "msi_dup_fault")
    copies = sum(counts.get(APIC, f"{way}_copies") for way in ("msi", "ipi", "ioapic"))
    book.source("copies", copies - doubled)
    book.source(
        "doubled: fault dup-msi",
        doubled + sum(counts.get(nic, "msi_dup_fault") for nic in settings.nic_names),
    )
    book.end("delivered", cpus("vectors_taken") - cpus("msi_no_handler"))
    book.end("INIT, STARTUP, NMI, SMI, ExtINT", cpus("lapic_other"))
    book.end("merged", cpus("lapic_merged"))
    book.end("no irq handler", cpus("msi_no_handler"))
    book.end("APIC disabled", cpus("lapic_disabled"))
    book.end("illegal", cpus("lapic_illegal"))
    book.end("cleared by INIT", cpus("lapic_cleared"))
    for cpu in settings.cpu_names:
        book.end(f"in IRR of {cpu}", counts.bits(cpu, "irr"))
    _held_by_nics(counts, book)
    for reason in (*MSI_DROPS, *IPI_DROPS, *INTX_ENDS, *IOAPIC_DROPS):
        fault = reason == "msi_lost_fault"
        book.end("lost: fault lose-msi" if fault else f"apic {reason}", counts.get(APIC, reason))
    for reason in ("lost_dead", "lost_full"):
        book.end(f"apic {reason}", counts.total(APIC, reason))
    _end_edges(counts, book, edges, "interrupt")
    return book


def _held_by_nics(counts: Counts, book: Account) -> None:
    """Messages that ended in a NIC, or on the way out of it."""
    for nic in counts.settings.nic_names:
        book.end("merged while masked", counts.get(nic, "msi_merged_pba"))
        book.end("cleared while masked", counts.get(nic, "msi_cleared"))
        book.end("masked", counts.now(nic, "msi_pending"))
        book.end(f"lost: killed {nic}", counts.left(nic, "msi_pending"))
        for reason in ("msi_lost_peer_dead", "msi_lost_peer_full"):
            book.end(f"{nic} {reason}", counts.get(nic, reason))
        book.end("lost: fault lose-msi", counts.get(nic, "msi_lost_fault"))


def _interrupts_of_guest(counts: Counts, book: Account) -> None:
    """Messages as far as the eventfds of a guest."""
    for nic in counts.settings.nic_names:
        doubled = counts.get(nic, "msi_dup_fault")
        lost = ("msi_lost_peer_dead", "msi_lost_peer_full", "msi_lost_fault")
        gone = sum(counts.get(nic, name) for name in lost)
        book.source("doubled: fault dup-msi", doubled)
        book.end("told the guest", counts.get(nic, "msi_out") + doubled - gone)
    _held_by_nics(counts, book)
