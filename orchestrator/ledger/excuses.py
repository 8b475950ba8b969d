"""Why the two ends of an edge may differ: a death, a freeze or a fault explains it, or nothing.

A difference that is explained is an end with a name (``lost: killed eth1``); one that is not is a
fault of the books.
"""

from __future__ import annotations

from bus.faults import KINDS, ROW_WORDS, ROWS
from nodes.ledger import OTHER, REPLY, REQUEST
from nodes.machine import APIC
from orchestrator.ledger.books import Account, Edge
from orchestrator.ledger.sums import RX_RESET, over_cpus, ring_drops
from orchestrator.machines.counts import Counts

#: Why frames may lie in a ring when all has settled.
UNTOLD = "waiting: fault lose-msi, nobody polls"
#: Faults that leave descriptors where they are.
_STILL = ("hang", "no-dma")


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
        if edge.name == polled(node) and _untold(counts, node):
            return UNTOLD
    return ""


def polled(nic: str) -> str:
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
    written = counts.get(nic, "rx_dma", kind) - ring_drops(counts, RX_RESET, number, kind)
    return written - over_cpus(counts, "rx_polled", 3 * number + kind)


def _standing_still(counts: Counts, node: str) -> str:
    """The fault that keeps this node from taking what waits for it in memory."""
    if node not in counts.settings.nic_names:
        return ""
    rows = range(0, ROWS * ROW_WORDS, ROW_WORDS)
    numbers = [counts.now(node, "faults", at) - 1 for at in rows]
    return next((name for name in _STILL if KINDS[name].number in numbers), "")


def edge_faults(counts: Counts, edges: list[Edge]) -> list[str]:
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


def end_edges(counts: Counts, book: Account, edges: list[Edge], kind: str) -> None:
    """Differences of edges are ends: lost with the killed, or still on their way between two nodes.

    What a living node took and did not finish has not ended: the book shows it as a difference."""
    for edge in edges:
        if edge.kind == kind:
            why = may_differ(counts, edge)
            if why or not edge.within:
                book.end(why or "in flight", edge.difference)
