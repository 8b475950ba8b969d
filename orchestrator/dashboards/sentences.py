"""Line 2 of every screen: what is going on now, in one sentence.

A table for each screen (``cpusentences`` and its like), read from the top: a row is a function that
looks at the view and gives the words of its sentence, or None when the row does not apply; the
first row that applies wins. The last row of each table always applies. Here is what a row is, and
those rows that hold for any process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.dashboards import facts
from orchestrator.dashboards.model import MachineView, NodeView

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
