"""The ledger's box of the overview: where every packet and every interrupt ended, in two lines.

The books are the ledger's own (``orchestrator.ledger``), read while the machine runs: a node in the
middle of its turn has written one side of a book and not yet the other, so a difference counts
only when it stays. What is between two nodes is ``in flight``, or the named loss of a death.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.text import Text

from orchestrator import ledger
from orchestrator.dashboards.draw import STYLES, Box, Line, Shelf, two
from orchestrator.dashboards.model import SECOND_NS, MachineView
from orchestrator.machines.counts import Counts

#: The books are read this often; it takes a while with many CPUs.
PERIOD_NS = SECOND_NS // 2
#: A difference that stays longer than this is one.
PATIENCE_NS = 3 * SECOND_NS
_ARRIVED = ("answered", "delivered")
_SHORTER = re.compile(r"\b(?:in|gw|rx|tx|msi|ipi)_(?:drop|lost)_|\blost: ")


class Sum(NamedTuple):
    """One line: what there was, and where it ended, the most frequent end first."""

    name: str
    total: int
    ends: tuple[tuple[str, int], ...]
    difference: int


class Books(NamedTuple):
    """The sums at one time, and since when each does not balance (0: it does)."""

    read_ns: int
    sums: tuple[Sum, ...]
    off_since: tuple[int, ...]


def shelf(view: MachineView) -> list[Shelf]:
    """The box, as long as all lives of all nodes are known."""
    books = read(view)
    if books is None:
        return []
    lines = lambda columns, height: _lines(view, books, columns)[:height]  # noqa: E731
    return [Shelf((Box("ledger", lines, len(books.sums)),))]


def read(view: MachineView) -> Books | None:
    """The books, read anew when they are old; None without the pages of former lives."""
    before: Books | None = view.kept.get("ledger")
    if before is not None and view.now_ns - before.read_ns < PERIOD_NS:
        return before
    states = {name: node.state for name, node in view.nodes.items()}
    if view.archived is None and any(state.incarnation > 1 for state in states.values()):
        return None
    found = ledger.account(
        Counts(view.ram, view.settings, states, lambda *life: _archived(view, *life))
    )
    sums = (
        _sum("packets", list(found.packets.values())),
        _sum("interrupts", [found.interrupts]),
    )
    since = before.off_since if before is not None else (0,) * len(sums)
    off = tuple(
        (then or view.now_ns) if one.difference else 0
        for one, then in zip(sums, since, strict=True)
    )
    books = Books(view.now_ns, sums, off)
    view.kept["ledger"] = books
    return books


def _archived(
    view: MachineView, node: str, incarnation: int
) -> Mapping[str, int | list[int]] | None:
    """Page of a former life; it changes no more, so it is asked for once."""
    pages: dict[tuple[str, int], Mapping[str, int | list[int]] | None]
    pages = view.kept.setdefault("former lives", {})
    life = node, incarnation
    if life not in pages:
        pages[life] = view.archived(node, incarnation) if view.archived is not None else None
    return pages[life]


def _sum(name: str, accounts: Sequence[ledger.Account]) -> Sum:
    """Several books as one line; what arrived comes first."""
    ends: dict[str, int] = {"delivered": 0}
    for account in accounts:
        for end, count in account.ends.items():
            word = "delivered" if end in _ARRIVED else _SHORTER.sub("", end)
            ends[word] = ends.get(word, 0) + count
    first = ("delivered", ends.pop("delivered"))
    rest = sorted(ends.items(), key=lambda item: (-item[1], item[0]))
    total = sum(sum(account.sources.values()) for account in accounts)
    difference = sum(account.difference for account in accounts)
    return Sum(name, total, (first, *(item for item in rest if item[1] > 0)), difference)


def _lines(view: MachineView, books: Books, columns: int) -> list[Line]:
    lines: list[Line] = []
    for one, off_since in zip(books.sums, books.off_since, strict=True):
        off = off_since and view.now_ns - off_since > PATIENCE_NS
        verdict = Text(f"off by {one.difference} " if off else "ok ", STYLES["X"] if off else "")
        text = f" {one.name:<10} {one.total} = "
        room = columns - len(text) - len(verdict) - 1
        lines.append(two(text + _ends(one, room), verdict, columns))
    return lines


def _ends(one: Sum, room: int) -> str:
    """As many ends as have room, the others together."""
    shown = [f"{count} {name}" for name, count in one.ends]
    for kept in range(len(shown), 0, -1):
        rest = sum(count for _, count in one.ends[kept:])
        text = " + ".join([*shown[:kept], *([f"{rest} elsewhere"] if rest else [])])
        if len(text) <= room:
            return text
    return shown[0]
