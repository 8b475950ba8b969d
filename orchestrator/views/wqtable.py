"""Tables of workqueues and worker pools, after the kernel's tools/workqueue/wq_monitor.py (with the
columns of its documentation) and wq_dump.py: pure functions of the CPUs' ``workqueues`` snapshots.

wq_monitor reads counters that Linux has since 6.5; here every kernel with pools keeps them. What a
kernel has not (keventd knows no concurrency management and no rescuers) is None, printed as ``-``.
wq_dump's affinity scopes are left out: here every CPU is a node of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

#: One CPU's answer, by its number.
Snapshots = Mapping[int, Mapping[str, Any]]

WQ_UNBOUND, WQ_MEM_RECLAIM, WQ_ORDERED = 1 << 1, 1 << 3, 1 << 17
NAME_CHARS = 24
#: Counters of a pool_workqueue, as enum pool_workqueue_stats has them.
STATS = (
    "started", "completed", "cpu_time_us", "cpu_intensive", "cm_wakeup", "repatriated", "mayday",
    "rescued",
)  # fmt: skip

#: ps's letters of task states.
STATES = {0: "R", 1: "S", 2: "D", 0x402: "I"}

HEADER = (
    f"{'':>24} {'total':>8} {'infl':>5} {'CPUtime':>8} {'CPUhog':>7} {'CMW/RPR':>7} "
    f"{'mayday':>7} {'rescued':>7}"
)


class WqStats(NamedTuple):
    """One workqueue: its counters over all CPUs; None where its kernel has no such counter."""

    name: str
    flags: int
    stats: Mapping[str, int | None]

    @property
    def unbound(self) -> bool:
        return bool(self.flags & WQ_UNBOUND)

    @property
    def mem_reclaim(self) -> bool:
        return bool(self.flags & WQ_MEM_RECLAIM)

    def row(self) -> str:
        """The line of the table."""
        stats = self.stats
        started, completed = stats["started"] or 0, stats["completed"] or 0
        cpu_us = stats["cpu_time_us"]
        cells = (
            f"{'-' if cpu_us is None else f'{cpu_us / 1_000_000:.1f}':>8}",
            f"{_shown(None if self.unbound else stats['cpu_intensive']):>7}",
            f"{_shown(stats['repatriated' if self.unbound else 'cm_wakeup']):>7}",
            f"{_shown(stats['mayday'] if self.mem_reclaim else None):>7}",
            f"{_shown(stats['rescued'] if self.mem_reclaim else None):>7}",
        )
        infl = max(started - completed, 0)
        return f"{self.name[-NAME_CHARS:]:24} {started:8} {infl:5} {' '.join(cells)}"

    def values(self, time_ns: int) -> dict[str, Any]:
        """The same for programs, with the tool's names."""
        return {
            "time_ns": time_ns,
            "name": self.name,
            "unbound": self.unbound,
            "ordered": bool(self.flags & WQ_ORDERED),
            "mem_reclaim": self.mem_reclaim,
            **self.stats,
        }


def _shown(value: int | None) -> str:
    return "-" if value is None else str(value)


def workqueues(snapshots: Snapshots, patterns: Sequence[str] = ()) -> list[WqStats]:
    """Workqueues whose name one of the patterns finds, in the order of their making."""
    wanted = re.compile("|".join(patterns))
    found: dict[str, WqStats] = {}
    for number in sorted(snapshots):
        for wq in snapshots[number]["workqueues"]:
            if not wanted.search(wq["name"]):
                continue
            before = found.get(wq["name"], WqStats(wq["name"], wq["flags"], {}))
            rows = [before.stats] if before.stats else []
            stats = _sums([*rows, *wq["pwqs"]])
            found[wq["name"]] = before._replace(stats=stats)
    return list(found.values())


def _sums(rows: Iterable[Mapping[str, int | None]]) -> dict[str, int | None]:
    rows = list(rows)
    sums: dict[str, int | None] = {}
    for name in STATS:
        known = [value for row in rows if (value := row.get(name)) is not None]
        sums[name] = sum(known) if known else None
    return sums


# ---------------------------------------------------------------- pools


def dump(snapshots: Snapshots, cpus: int) -> str:
    """Worker pools, and which pool a workqueue has on which CPU."""
    pools = pools_of(snapshots)
    lines = ["Worker Pools", "============"]
    widest = max((len(str(pool["id"])) for pool in pools), default=1)
    refs = _references(snapshots)
    ref_width = max((len(str(count)) for count in refs.values()), default=1)
    for pool in pools:
        where = f"cpu={pool['cpu']:3}" if pool["cpu"] >= 0 else f"cpus={_mask(pool['node'])}"
        lines.append(
            f"pool[{pool['id']:0{widest}}] ref={refs.get(pool['id'], 0):{ref_width}} "
            f"nice={pool['nice']:3} "
            f"idle/workers={pool['nr_idle']:3}/{pool['nr_workers']:3} {where}{_flags(pool)}"
        )
    widest = max(widest, len(str(cpus - 1)))
    head = f"[{'workqueue':^{NAME_CHARS - 2}}\\ {'type   CPU':9}"
    head += "".join(f" {cpu:{widest}}" for cpu in range(cpus)) + " dfl]"
    lines += ["", "Workqueue CPU -> pool", "=====================", head]
    for name, (flags, by_cpu, default) in _maps(snapshots).items():
        cells = "".join(f" {by_cpu.get(cpu, default):>{widest}}" for cpu in range(cpus))
        kind = "ordered" if flags & WQ_ORDERED else "unbound" if flags & WQ_UNBOUND else "percpu"
        last = f" {default:>{widest}}" if flags & WQ_UNBOUND else ""
        lines.append(f"{name:{NAME_CHARS}} {kind:10}{cells}{last}")
    return "\n".join(lines) + "\n"


def workers(snapshots: Snapshots, comm: str) -> str:
    """The workers of each pool as ps shows them, and what they run; ``comm`` is the behaviour
    ``worker_comm``."""
    lines = []
    for pool in pools_of(snapshots):
        for worker in pool["workers"]:
            state = STATES.get(worker["state"], "?") + ("<" if worker["nice"] < 0 else "")
            name = wq_worker_comm(worker, comm)
            lines.append(f"{worker['pid']:>7} {state:<4} {name:<40} {worker['work'] or '-'}")
    return "\n".join(["", f"{'PID':>7} STAT {'COMMAND':<40} WORK", *lines]) + "\n"


def wq_worker_comm(worker: Mapping[str, Any], comm: str) -> str:
    """A kworker's name in /proc/PID/comm: newer kernels add for which workqueue it works (+), or
    worked last (-)."""
    name: str = worker["name"]
    if comm == "plain" or not worker["desc"]:
        return name
    return f"{name}{'+' if worker['work'] else '-'}{worker['desc']}"


def threads(snapshots: Snapshots) -> str:
    """Of a kernel without pools: the thread of each workqueue on each CPU (or on one)."""
    lines = ["Workqueue threads", "================="]
    lines.append(f"{'PID':>7} STAT {'COMMAND':<24} {'queued':>7} {'done':>7} {'waits':>6} WORK")
    for number in sorted(snapshots):
        for thread in snapshots[number]["threads"]:
            state = STATES.get(thread["state"], "?") + ("<" if thread["nice"] < 0 else "")
            lines.append(
                f"{thread['pid']:>7} {state:<4} {thread['name']:<24} {thread['insert_sequence']:>7}"
                f" {thread['remove_sequence']:>7} {len(thread['worklist']):>6}"
                f" {thread['work'] or '-'}"
            )
    return "\n".join(lines) + "\n"


def pools_of(snapshots: Snapshots) -> list[dict[str, Any]]:
    """All pools in the order of their ids."""
    found = [pool for number in snapshots for pool in snapshots[number]["pools"]]
    return sorted(found, key=lambda pool: (pool["id"], pool["host"]))


def _references(snapshots: Snapshots) -> dict[int, int]:
    """pool_workqueues of each pool; a pool of a CPU has a reference besides."""
    refs = {pool["id"]: 1 for pool in pools_of(snapshots) if pool["cpu"] >= 0}
    for snapshot in snapshots.values():
        for wq in snapshot["workqueues"]:
            for pwq in wq["pwqs"]:
                refs[pwq["pool"]] = refs.get(pwq["pool"], 0) + 1
    return refs


def _maps(snapshots: Snapshots) -> dict[str, tuple[int, dict[int, int], int | str]]:
    """For each workqueue: its flags, pool by CPU, and the default pool."""
    found: dict[str, tuple[int, dict[int, int], int | str]] = {}
    nodes = {pool["id"]: pool["node"] for pool in pools_of(snapshots)}
    for number in sorted(snapshots):
        for wq in snapshots[number]["workqueues"]:
            flags, by_cpu, default = found.get(wq["name"], (wq["flags"], {}, "-"))
            for pwq in wq["pwqs"]:
                node = nodes[pwq["pool"]]
                if not flags & WQ_ORDERED:
                    by_cpu[node] = pwq["pool"]
                if flags & WQ_UNBOUND and node == 0:
                    default = pwq["pool"]
            found[wq["name"]] = flags, by_cpu, default
    return found


def _mask(cpu: int) -> str:
    return f"{1 << cpu:08x}"


def _flags(pool: Mapping[str, Any]) -> str:
    """Behind what wq_dump prints; unbound pools are always DISASSOCIATED."""
    shown = (n for n in pool["flags"] if pool["cpu"] >= 0 or n != "DISASSOCIATED")
    return "".join(f" {name}" for name in shown)
