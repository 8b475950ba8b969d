"""What a CPU's page says of its worker pools: who runs what since when, what waits, and for what.

The rows are written by ``nodes.cpu.kernel.workqueue.show``. A pool is *stalled* when works wait on
it and none was begun for ``STALL_NS``; Linux's own watchdog speaks after 30 s only.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.cpu.kernel.timer_shared import pending_on
from nodes.cpu.page import (
    WQ_BUSY_ROWS,
    WQ_BUSY_WORDS,
    WQ_DELAYED_ROWS,
    WQ_DELAYED_WORDS,
    WQ_NAME_WORDS,
    WQ_POOLS,
    WQ_WORK_WORDS,
)
from orchestrator.dashboards.cpufacts import params, run_queue
from orchestrator.dashboards.model import MachineView, NodeView

#: Works that wait for longer than this without progress of their pool are worth a sentence.
STALL_NS = 100_000_000
DISASSOCIATED = 1 << 2
CPU_INTENSIVE, UNBOUND, REBOUND = 1 << 6, 1 << 7, 1 << 8


class Pool(NamedTuple):
    """One row of pools."""

    row: int
    id: int
    cpu: int | None  # None: unbound
    nice: int
    flags: int
    name: str  # of the workqueue, where a thread serves one
    workers: int
    idle: int
    running: int
    worklist: int
    inactive: int
    executed: int
    watchdog_ts: int
    next: str  # the work at the head of the worklist

    @property
    def where(self) -> str:
        """``cpu1``, ``unbound``, or the workqueue that has threads of its own."""
        if self.name:
            return self.name
        return "unbound" if self.cpu is None else f"cpu{self.cpu}"

    @property
    def words(self) -> str:
        """How a sentence calls it."""
        if self.name:
            return f"workqueue {self.name}"
        kind = "unbound" if self.cpu is None else "highpri" if self.nice < 0 else "normal"
        return f"the {kind} pool"


class Busy(NamedTuple):
    """A worker that runs a work."""

    pid: int
    pool: int  # row
    asleep: bool
    flags: int
    since_ns: int
    comm: str
    work: str
    workqueue: str

    @property
    def state(self) -> str:
        """``R`` counts in nr_running, ``S`` sleeps in its work; of those that never count ``C`` is
        CPU_INTENSIVE, ``u`` unbound or just bound again."""
        if self.asleep:
            return "S"
        if self.flags & CPU_INTENSIVE:
            return "C"
        return "u" if self.flags & (UNBOUND | REBOUND) else "R"


class Delayed(NamedTuple):
    """A delayed work on its timer."""

    word: int  # of its timer
    expires_ns: int
    work: str


def pools(node: NodeView) -> list[Pool]:
    """All pools that this CPU hosts."""
    columns = [
        node.run(f"wq_{name}")
        for name in (
            "workers", "idle", "running", "worklist", "inactive", "executed", "watchdog_ts",
        )
    ]  # fmt: skip
    names, heads = node.run("wq_pool_name"), node.run("wq_next")
    found = []
    for row, word in enumerate(node.run("wq_pool")[:WQ_POOLS]):
        if not word:
            continue
        cpu = word >> 16 & 0xFFFF
        workers, idle, running, worklist, inactive, executed, progress = (
            column[row] for column in columns
        )
        name = _text(names, row * WQ_NAME_WORDS, WQ_NAME_WORDS)
        head = _text(heads, row * WQ_WORK_WORDS, WQ_WORK_WORDS) if worklist else ""
        found.append(
            Pool(
                row, (word & 0xFFFF) - 1, cpu - 1 if cpu else None, (word >> 32 & 0xFF) - 20,
                word >> 40, name, workers, idle, running, worklist, inactive, executed, progress,
                head,
            )
        )  # fmt: skip
    return found


def busy(node: NodeView) -> list[Busy]:
    """Workers that run a work, the longest-running first."""
    words = node.run("wq_busy")
    threads = {pool.row for pool in pools(node) if pool.name}
    found = []
    for at in range(0, WQ_BUSY_ROWS * WQ_BUSY_WORDS, WQ_BUSY_WORDS):
        who, since = words[at : at + 2]
        pid, pool = who & 0xFFFF_FFFF, who >> 32 & 0xFF
        if pid:
            asleep = bool(who >> 40 & 1)
            if pool in threads:  # the scheduler tells nobody of keventd's sleep
                asleep = pid not in runnable(node)
            found.append(
                Busy(
                    pid, pool, asleep, who >> 44, since,
                    _text(words, at + 2, 2), _text(words, at + 4, WQ_WORK_WORDS),
                    _text(words, at + 4 + WQ_WORK_WORDS, WQ_NAME_WORDS),
                )
            )  # fmt: skip
    return sorted(found, key=lambda worker: (worker.since_ns, worker.pid))


def runnable(node: NodeView) -> list[int]:
    """Tasks that could run, by pid, as far as the page has rows for them."""
    return [node.get("current_pid"), *(task.pid for task in run_queue(node))]


def delayed(view: MachineView, node: NodeView) -> list[Delayed]:
    """Delayed works whose timer is still this CPU's, the next first."""
    words = node.run("wq_timers")
    number = view.cpus.index(node)
    found = []
    for at in range(0, WQ_DELAYED_ROWS * WQ_DELAYED_WORDS, WQ_DELAYED_WORDS):
        word, expires = words[at : at + 2]
        if word and pending_on(view.ram.atomics.load(word - 1)) == number:
            found.append(Delayed(word - 1, expires, _text(words, at + 2, WQ_WORK_WORDS)))
    return sorted(found, key=lambda work: (work.expires_ns, work.word))


def left_ns(view: MachineView, work: Delayed) -> int:
    """Time until its timer is due; 0 when it is."""
    return max(work.expires_ns - view.now_ns, 0)


def stalled_ns(view: MachineView, pool: Pool) -> int:
    """For how long works have waited on it without progress; 0 if none waits."""
    return view.age_ns(pool.watchdog_ts) if pool.worklist else 0


def stalled(view: MachineView, node: NodeView) -> Pool | None:
    """The pool that has made no progress for longest."""
    waiting = [pool for pool in pools(node) if stalled_ns(view, pool) >= STALL_NS]
    return min(waiting, key=lambda pool: (pool.watchdog_ts, pool.row), default=None)


def task_name(view: MachineView, worker: Busy) -> str:
    """As /proc/PID/comm has it: ``kworker/1:0+events`` where the kernel adds what it runs."""
    if params(view.settings).worker_comm == "plain" or not worker.workqueue:
        return worker.comm
    return f"{worker.comm}+{worker.workqueue}"


def _text(words: list[int], at: int, length: int) -> str:
    raw = b"".join(word.to_bytes(8, "little") for word in words[at : at + length])
    return raw.rstrip(b"\0").decode("utf-8", "replace")
