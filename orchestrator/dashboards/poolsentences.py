"""Line 2 of the screen of worker pools: is anything stalled, and on what?"""

from __future__ import annotations

from typing import Any

from orchestrator.dashboards import poolfacts
from orchestrator.dashboards.draw import duration, plural
from orchestrator.dashboards.model import MachineView, NodeView
from orchestrator.dashboards.poolfacts import STALL_NS, Busy, Pool
from orchestrator.dashboards.sentences import DEAD, FROZEN, SILENT, Row, Words, always


def _offline(view: MachineView, node: NodeView) -> Words:
    return None if node.get("online") else {"cpu": node.name}


def _behind(view: MachineView, pool: Pool) -> dict[str, Any]:
    """What a sentence of a stalled pool says in any case."""
    return {
        "works": plural(pool.worklist, "work"),
        "wait": "waits" if pool.worklist == 1 else "wait",
        "pool": pool.words,
        "age": duration(poolfacts.stalled_ns(view, pool)),
    }


def _workers(node: NodeView, pool: Pool) -> list[Busy]:
    return [worker for worker in poolfacts.busy(node) if worker.pool == pool.row]


def _thread_busy(view: MachineView, node: NodeView) -> Words:
    """keventd: the one thread of a workqueue is in a work."""
    pool = poolfacts.stalled(view, node)
    if pool is None or not pool.name:
        return None
    found = _workers(node, pool)
    if not found:
        return None
    how = "sleeps" if found[0].asleep else "runs"
    return _behind(view, pool) | {"work": found[0].work, "how": how}


def _hogged(view: MachineView, node: NodeView) -> Words:
    """A worker counts as running, so that no other is woken."""
    pool = poolfacts.stalled(view, node)
    if pool is None or not pool.running:
        return None
    running = [worker for worker in _workers(node, pool) if worker.state == "R"]
    if not running:
        return None
    return _behind(view, pool) | {
        "work": running[0].work,
        "ran": duration(view.age_ns(running[0].since_ns)),
    }


def _no_worker(view: MachineView, node: NodeView) -> Words:
    """Nobody is idle: the manager has to make a worker first."""
    pool = poolfacts.stalled(view, node)
    if pool is None or pool.idle:
        return None
    return _behind(view, pool) | {"workers": plural(pool.workers, "worker")}


def _not_on_cpu(view: MachineView, node: NodeView) -> Words:
    pool = poolfacts.stalled(view, node)
    return None if pool is None else _behind(view, pool) | {"cpu": node.name}


def _held_back(view: MachineView, node: NodeView) -> Words:
    held = [pool for pool in poolfacts.pools(node) if pool.inactive]
    if not held:
        return None
    works = sum(pool.inactive for pool in held)
    return {
        "works": plural(works, "work"),
        "wait": "is" if works == 1 else "are",
        "pool": held[0].words,
    }


def _long_running(view: MachineView, node: NodeView) -> Words:
    found = poolfacts.busy(node)
    if not found or view.age_ns(found[0].since_ns) < STALL_NS:
        return None
    longest = found[0]
    return {
        "work": longest.work,
        "how": "sleeps in it" if longest.asleep else "runs",
        "age": duration(view.age_ns(longest.since_ns)),
    }


def _running(view: MachineView, node: NodeView) -> Words:
    works = len(poolfacts.busy(node))
    waiting = sum(pool.worklist for pool in poolfacts.pools(node))
    if not works and not waiting:
        return None
    return {"works": plural(works, "work"), "runs": "runs" if works == 1 else "run",
            "waiting": waiting or "none", "wait": "wait" if waiting > 1 else "waits"}  # fmt: skip


def _delayed(view: MachineView, node: NodeView) -> Words:
    found = poolfacts.delayed(view, node)
    if not found:
        return None
    left = poolfacts.left_ns(view, found[0])
    return {"work": found[0].work, "when": f"in {duration(left)}" if left else "now"}


def _last(view: MachineView, node: NodeView) -> Words:
    work = node.text("wq_last_work")
    return {"work": work, "age": duration(view.age_ns(node.get("wq_last_ns")))} if work else None


POOLS = (
    DEAD,
    FROZEN,
    Row("Offline: another CPU runs the works of {cpu} until it is back.", _offline),
    SILENT,
    Row("Stalled {age}: {works} {wait} in {pool} behind {work}, which {how}.", _thread_busy),
    Row("Stalled {age}: {works} {wait} in {pool} while {work} runs, for {ran}.", _hogged),
    Row("Stalled {age}: {works} {wait} in {pool} for a worker; {workers} busy.", _no_worker),
    Row("Stalled {age}: {works} {wait} in {pool}; a woken worker cannot run.", _not_on_cpu),
    Row("{works} of {pool} {wait} held back by max_active.", _held_back),
    Row("Nothing is stalled; longest: {work}, for {age} ({how}).", _long_running),
    Row("Nothing is stalled: {works} {runs}, {waiting} {wait}.", _running),
    Row("Nothing to do; the next is {work}, {when}.", _delayed),
    Row("Nothing to do; the last was {work}, {age} ago.", _last),
    Row("Nothing to do: no work has run here yet.", always),
)  # fmt: skip
