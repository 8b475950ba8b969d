"""The books of interrupts: from what raised one, through the controller, to the CPU that took it.

An MSI, an IPI, a level at a pin and a timer are sources; delivered, merged and refused are ends.
INTx messages tell both changes of a level, so they have edges (``wire``) and no book of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nodes.apic.page import INTX_ENDS, IOAPIC_DROPS, IPI_DROPS, MSI_DROPS
from nodes.machine import APIC
from orchestrator.ledger.books import Account, Edge
from orchestrator.ledger.excuses import end_edges
from orchestrator.ledger.sums import over_cpus
from orchestrator.machines.counts import Counts


def interrupt_edges(counts: Counts) -> Iterator[Edge]:
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


def interrupts_within(counts: Counts) -> Iterator[Edge]:
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


def interrupt_book(counts: Counts, edges: list[Edge]) -> Account:
    book = Account()
    settings = counts.settings
    cpus: Callable[[str], int] = lambda name: over_cpus(counts, name, 0)  # noqa: E731
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
    end_edges(counts, book, edges, "interrupt")
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
