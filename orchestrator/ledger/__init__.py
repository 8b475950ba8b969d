"""The ledger: every packet and every interrupt ends in exactly one named place.

No loss is a remainder. Each *edge* between two nodes is counted twice, ``out`` before the hand-over
and ``in`` after taking; each place where something can end is a counter of the node where it ends.
The books are then compared:

* an edge must be exactly zero after a drain; only edges of a node that was killed may keep a
  difference, and that difference *is* the named loss ``lost: killed NODE``;
* so is the way *within* a NIC, the switch and the interrupt controller: what entered against what
  left or ended there (the sums of their pages), since a SIGKILL may fall in the middle of a turn;
  and within a CPU once it was killed;
* for each class of packets, and for interrupts, sources must equal ends.

``books`` is what a book is made of, ``packets`` and ``interrupts`` are the books, ``excuses`` says
which difference is explained and by what. The counters themselves, former lives included, are
``orchestrator.machines.counts``.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.books import Account, Edge
from orchestrator.ledger.excuses import UNTOLD, edge_faults
from orchestrator.ledger.interrupts import interrupt_book, interrupt_edges, interrupts_within
from orchestrator.ledger.packets import packet_edges, packets_within, replies, requests
from orchestrator.machines.counts import Counts
from orchestrator.machines.machine import Machine

__all__ = ["UNTOLD", "Account", "Ledger", "account", "read", "settled"]

_SETTLE_NS = 50_000_000
_SETTLE_LOOKS = 40


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
        *packet_edges(counts),
        *packets_within(counts),
        *interrupt_edges(counts),
        *interrupts_within(counts),
    ]
    packets = {
        "requests": requests(counts, edges),
        "replies": replies(counts, edges),
    }
    interrupts = interrupt_book(counts, edges)
    faults = edge_faults(counts, edges)
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
