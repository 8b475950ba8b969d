"""The books of packets: over the edges between nodes, within each node, and where each one ended.

Echo requests go from sockets to the gateway, replies from the gateway to sockets, or both ways
between machines: each has its own book, what came from and went to others is named there. What is
neither is counted over the edges alone. The switch may flood a frame whose destination it has not
learned; the copies are a source, and end at a filter.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodes.cpu.page import DROP_REASONS
from nodes.lan.page import GATEWAY_PORT, GW_DROPS, IN_DROPS
from nodes.ledger import OTHER, REPLY, REQUEST
from nodes.machine import CLASSES, GATEWAY, LAN
from nodes.nic.page import RX_DROPS, TX_DROPS
from orchestrator.ledger.books import Account, Edge
from orchestrator.ledger.excuses import end_edges, polled
from orchestrator.ledger.sums import (
    OF_RINGS,
    RX_RESET,
    TX_RESET,
    cpu_drops,
    over_cpus,
    over_ports,
    ring_drops,
)
from orchestrator.machines.counts import Counts

#: What enters the switch, and where it goes; frames that wait in its cables are a gauge.
_LAN_SOURCES = ("frames_in", "fault_dup", "slow_sent")
_LAN_ENDS = ("frames_out", "fault_held", "slow_taken", *IN_DROPS)


def packet_edges(counts: Counts) -> Iterator[Edge]:
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
            over_cpus(counts, "handover_out", kind),
            over_cpus(counts, "handover_in", kind),
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
        over_cpus(counts, "tx_posted", at) - ring_drops(counts, TX_RESET, number, kind),
        counts.get(nic, "tx_fetched", kind),
    )
    yield Edge(
        polled(nic),
        nodes,
        CLASSES[kind],
        counts.get(nic, "rx_dma", kind) - ring_drops(counts, RX_RESET, number, kind),
        over_cpus(counts, "rx_polled", at),
    )


def packets_within(counts: Counts) -> Iterator[Edge]:
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
            sum(over_ports(counts, source, kind) for source in _LAN_SOURCES)
            + counts.get(LAN, "flood_copies", kind),
            sum(over_ports(counts, end, kind) for end in _LAN_ENDS),
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


def _killed_cpus(counts: Counts) -> list[str]:
    return [cpu for cpu in counts.settings.cpu_names if counts.killed(cpu)]


def _within_cpu(counts: Counts, cpu: str, kind: int) -> Edge:
    """What a CPU that was killed had taken from a ring, and not yet given to anybody. Of the living
    the books of all CPUs together say it: what rests in one has no end there."""
    ports = range(len(counts.settings.nics))
    entered = ("handover_in", "icmp_sent", "icmp_generated", "bond_copies")
    left = ("handover_out", "delivered")
    drops = sum(
        cpu_drops(counts, cpu, reason, device, kind)
        for reason in range(len(DROP_REASONS))
        if reason not in OF_RINGS
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


def requests(counts: Counts, edges: list[Edge]) -> Account:
    book = Account()
    book.source("sent", over_cpus(counts, "icmp_sent", REQUEST))
    book.source("sent by kernel", over_cpus(counts, "icmp_generated", REQUEST))
    book.source("sent by gateway", counts.get(LAN, "gw_generated", REQUEST))
    _named_sources(counts, book, REQUEST)
    book.end("answered", counts.get(LAN, "gw_answered", REQUEST))
    book.end("delivered", over_cpus(counts, "delivered", REQUEST))
    _named_ends(counts, book, REQUEST)
    end_edges(counts, book, edges, "request")
    return book


def replies(counts: Counts, edges: list[Edge]) -> Account:
    book = Account()
    book.source("sent by gateway", counts.get(LAN, "gw_generated", REPLY))
    book.source("sent by kernel", over_cpus(counts, "icmp_generated", REPLY))
    _named_sources(counts, book, REPLY)
    book.end("delivered", over_cpus(counts, "delivered", REPLY))
    book.end("gw_answered", counts.get(LAN, "gw_answered", REPLY))
    _named_ends(counts, book, REPLY)
    end_edges(counts, book, edges, "reply")
    return book


def _named_sources(counts: Counts, book: Account, kind: int) -> None:
    """Where packets of this class come from beside those who send them."""
    book.source("doubled: fault dup", over_ports(counts, "fault_dup", kind))
    book.source("flood copies", counts.get(LAN, "flood_copies", kind))
    book.source("bond copies", over_cpus(counts, "bond_copies", kind))
    _outside(counts, book, kind)
    _guest(counts, book, kind)


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


def _named_ends(counts: Counts, book: Account, kind: int) -> None:
    """Every place of every node where a packet of this class can end."""
    settings = counts.settings
    for cpu in settings.cpu_names:
        for device in range(len(settings.nics) + 1):
            where = f"{cpu} {settings.nic_names[device - 1]}" if device else cpu
            for number, reason in enumerate(DROP_REASONS):
                book.end(f"{where} {reason}", cpu_drops(counts, cpu, number, device, kind))
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
