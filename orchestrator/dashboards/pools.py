"""The worker pools of one CPU: who runs what, what waits, and what comes when a timer is over."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from orchestrator.dashboards import poolfacts
from orchestrator.dashboards.common import PLAIN, Size, footer, header
from orchestrator.dashboards.cpufacts import params
from orchestrator.dashboards.draw import (
    FRAME,
    Box,
    Frame,
    Line,
    Shelf,
    compose,
    count,
    duration,
    rate,
    two,
)
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.dashboards.poolsentences import POOLS
from orchestrator.dashboards.sentences import sentence

KEYS = "w Esc the CPU again   Left Right other process   space hold view   q quit"
_COLUMNS = f"{'running':>9}{'idle':>5}{'busy':>5}{'waits':>6}{'held':>5}{'/s':>6}{'total':>7}  for"


def render(view: MachineView, node: NodeView, size: Size = PLAIN) -> Frame:
    """The screen of one CPU's worker pools in exactly the given size."""
    shelves = [
        Shelf((_pools(view, node),)),
        Shelf((_busy(view, node),)),
        Shelf((_worklists(view, node), _timers(view, node))),
        Shelf((_words(view),)),
    ]
    return compose(
        header(view, node, size), sentence(POOLS, view, node), shelves, footer(KEYS, size)[:1],
        size.width, size.height,
    )  # fmt: skip


def _pools(view: MachineView, node: NodeView) -> Box:
    """A line a pool: nr_running, workers, worklist, and for how long it has stood still."""
    found = poolfacts.pools(node)
    keventd = params(view.settings).workqueue == "keventd"

    def line(pool: poolfacts.Pool) -> Text:
        stuck = poolfacts.stalled_ns(view, pool)
        style = "bold red" if stuck >= poolfacts.STALL_NS else "" if pool.workers else FRAME
        running = "-" if keventd or pool.cpu is None else str(pool.running)
        flags = " unbound" if pool.flags & poolfacts.DISASSOCIATED and pool.cpu is not None else ""
        who = pool.where if keventd else f"{pool.id} {pool.where}{flags}"
        text = f" {who:<16.16} nice {pool.nice:<3}{running:>7}{pool.idle:>5}"
        text += f"{pool.workers - pool.idle:>5}{pool.worklist:>6}{pool.inactive:>5}"
        text += f"{rate(node.rate('wq_executed', pool.row)):>6}{count(pool.executed):>7}"
        return Text(text + f"  {duration(stuck) if stuck else '-'}", style=style)

    def draw(columns: int, height: int) -> Sequence[Line]:
        lines: list[Line] = [line(pool) for pool in found[:height]]
        none = " it has none yet" if node.get("online") else " none while it is offline"
        return lines or [none]

    title = f"{'workqueue threads' if keventd else 'pools':<20}{_COLUMNS}"
    return Box(title, draw, max(len(found), 3), 3)


def _busy(view: MachineView, node: NodeView) -> Box:
    """Workers that run a work, the longest-running first."""
    found = poolfacts.busy(node)

    def line(worker: poolfacts.Busy, columns: int) -> Text:
        name = poolfacts.task_name(view, worker)
        text = Text(f" {worker.state} ", style="bold").append(f"{name:<27} ")
        text.append(worker.work, "bold")
        return two(text, f" {duration(view.age_ns(worker.since_ns))} ", columns)

    def draw(columns: int, height: int) -> Sequence[Line]:
        lines: list[Line] = [line(worker, columns) for worker in found[:height]]
        if len(found) > height:
            lines[-1] = f"   and {len(found) - height + 1} more"
        return lines or [" no worker runs a work now"]

    return Box("in a work, the longest first", draw, max(len(found), 3), 3, True, note="for")


def _worklists(view: MachineView, node: NodeView) -> Box:
    """Pools whose works wait, with the work at the head."""

    def draw(columns: int, height: int) -> Sequence[Line]:
        lines: list[Line] = []
        for pool in poolfacts.pools(node):
            if pool.worklist:
                lines.append(two(f" {pool.where}: {pool.next}", f" {pool.worklist} ", columns))
        return lines[:height] or [" no work waits for a worker"]

    return Box("worklists: next", draw, 3, 2, True, note="waiting")


def _timers(view: MachineView, node: NodeView) -> Box:
    """Delayed works on timers of this CPU, and the time that is left."""
    found = poolfacts.delayed(view, node)
    more = node.get("wq_delayed") - len(found)

    def draw(columns: int, height: int) -> Sequence[Line]:
        lines: list[Line] = []
        for work in found[:height]:
            left = poolfacts.left_ns(view, work)
            lines.append(two(f" {work.work}", f" {duration(left) if left else 'due'} ", columns))
        hidden = len(found) - height + max(more, 0)
        if hidden > 0 and len(lines) == height:
            lines[-1] = f" and {hidden + 1} more"
        return lines or [" no delayed work is on a timer"]

    return Box("delayed works", draw, 3, 2, True, note="left")


def _words(view: MachineView) -> Box:
    """What the letters and columns mean."""
    if params(view.settings).workqueue == "keventd":
        lines = [
            " One thread a workqueue and CPU takes one work after the other (keventd):",
            " a work that sleeps holds up all that wait behind it.  R runs  S sleeps",
        ]
    else:
        lines = [
            " R counts in nr_running  S sleeps in its work: the next may start",
            " C CPU_INTENSIVE  u unbound   waits for a worker, held by max_active",
        ]
    return Box("", lambda columns, height: lines, 2, 2)
