"""What a CPU tells of its workqueues, for `bottomhalf wq` and the pool screen.

``snapshot(cpu, "workqueues")`` is a plain value::

    {"model": "cmwq" or "keventd", "now_ns": clock,
     "pools": [{"id", "cpu" (-1: unbound), "node", "nice", "flags": ["DISASSOCIATED", ...],
                "nr_running", "nr_workers", "nr_idle", "manager": name or "", "host": this CPU,
                "workers": [{"name", "pid", "flags": ["IDLE", "PREP", ...], "state", "work": name
                             or "", "wq": name or "", "since_ns": clock when the work began,
                             "desc": name of the last workqueue it worked for, "nice": n,
                             "last_active_ms": ago, "scheduled": [names]}],
                "worklist": [names]}],
     "workqueues": [{"id", "name", "flags": int, "max_active",
                     "pwqs": [{"pool", "max_active", "nr_active", "nr_in_flight": int,
                               "inactive": [names], "started", "completed", "cpu_time_us",
                               "cpu_intensive", "cm_wakeup", "repatriated", "mayday", "rescued"}]}],
     "delayed": [{"name", "wq", "expires_in_jiffies"}]}

Flag names are Linux's without POOL_ and WORKER_. Lists of names hold 64 at most, with ``"..."``
behind. Under keventd ``pools`` is empty; a workqueue has one "pwqs" with "started" and "completed"
alone, and ``threads`` are {"wq", "name", "pid", "state", "nice", "work": name or "", "worklist":
[names], "insert_sequence", "remove_sequence"}.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.jiffies import signed_difference
from nodes.cpu.kernel.workqueue.delayed import delayed_for
from nodes.cpu.kernel.workqueue.pool import PoolWorkqueue, WorkerPool
from nodes.cpu.kernel.workqueue.work import Work
from nodes.cpu.kernel.workqueue.worker import Worker

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.workqueue.alloc import Workqueue
    from nodes.cpu.kernel.workqueue.keventd import CpuWorkqueue

NAMES_MAX = 64

_POOL_FLAGS = {0: "MANAGER_ACTIVE", 2: "DISASSOCIATED", 3: "FREEZING"}
_WORKER_FLAGS = {
    0: "STARTED", 1: "DIE", 2: "IDLE", 3: "PREP", 6: "CPU_INTENSIVE", 7: "UNBOUND", 8: "REBOUND",
}  # fmt: skip


def workqueues(cpu: Cpu) -> dict[str, Any]:
    """The value of ``snapshot(cpu, "workqueues")``."""
    keventd = cpu.wq.keventd
    value: dict[str, Any] = {
        "model": cpu.params.workqueue,
        "now_ns": cpu.now(),
        "pools": [_pool(cpu, pool) for pool in cpu.wq.pools.values()],
        "workqueues": [_workqueue(wq) for _, wq in sorted(cpu.wq.workqueues.items())],
        "delayed": [
            {
                "name": dwork.name,
                "wq": delayed_for(cpu, dwork),
                "expires_in_jiffies": signed_difference(dwork.timer.entry.expires, cpu.jiffies()),
            }
            for dwork in cpu.wq.delayed_works.values()
            if dwork.timer.entry.pending()
        ],
    }
    if keventd is not None:
        value["threads"] = [_thread(cwq) for cwq in keventd.cwqs.values() if cwq.thread is not None]
        for wq in value["workqueues"]:
            cwq = keventd.cwqs.get(wq["id"])
            if cwq is None:
                continue  # it is being destroyed
            done = cwq.remove_sequence
            wq["pwqs"] = [{"started": done + len(cwq.running), "completed": done}]
    return value


def _thread(cwq: CpuWorkqueue) -> dict[str, Any]:
    assert cwq.thread is not None
    return {
        "wq": cwq.wq.name,
        "name": cwq.thread.comm,
        "pid": cwq.thread.pid,
        "state": cwq.thread.state,
        "nice": cwq.thread.nice,
        "work": cwq.running[-1].name if cwq.running else "",
        "worklist": _names(cwq.worklist),
        "insert_sequence": cwq.insert_sequence,
        "remove_sequence": cwq.remove_sequence,
    }


def _names(works: deque[Work]) -> list[str]:
    names = [work.name for work in islice(works, NAMES_MAX)]
    return names + ["..."] * (len(works) > NAMES_MAX)


def _flags(flags: int, names: dict[int, str]) -> list[str]:
    return [name for bit, name in names.items() if flags >> bit & 1]


def _pool(cpu: Cpu, pool: WorkerPool) -> dict[str, Any]:
    manager = pool.manager
    return {
        "id": pool.id,
        "cpu": pool.cpu,
        "node": pool.node,
        "nice": pool.nice,
        "flags": _flags(pool.flags, _POOL_FLAGS),
        "nr_running": pool.nr_running,
        "nr_workers": pool.nr_workers,
        "nr_idle": pool.nr_idle,
        "manager": manager.task.comm if manager is not None and manager.task is not None else "",
        "host": cpu.number,
        "workers": [_worker(cpu, worker) for worker in cpu.wq.all_workers(pool)],
        "worklist": _names(pool.worklist),
    }


def _worker(cpu: Cpu, worker: Worker) -> dict[str, Any]:
    task, work, pwq = worker.task, worker.current_work, worker.current_pwq
    idle_jiffies = signed_difference(cpu.jiffies(), worker.last_active)
    return {
        "name": task.comm if task is not None else "",
        "pid": task.pid if task is not None else 0,
        "state": task.state if task is not None else 0,
        "flags": _flags(worker.flags, _WORKER_FLAGS),
        "work": work.name if work is not None else "",
        "desc": worker.desc,
        "nice": task.nice if task is not None else 0,
        "wq": pwq.wq.name if pwq is not None else "",
        "since_ns": worker.current_since if work is not None else 0,
        "last_active_ms": idle_jiffies * 1000 // cpu.params.hz,
        "scheduled": _names(worker.scheduled),
    }


def _workqueue(wq: Workqueue) -> dict[str, Any]:
    return {
        "id": wq.id,
        "name": wq.name,
        "flags": wq.flags,
        "max_active": wq.saved_max_active,
        "pwqs": [_pwq(pwq) for _, pwq in sorted(wq.pwqs.items())],
    }


def _pwq(pwq: PoolWorkqueue) -> dict[str, Any]:
    stats = pwq.stats
    return {
        "pool": pwq.pool.id,
        "max_active": pwq.max_active,
        "nr_active": pwq.nr_active,
        "nr_in_flight": sum(pwq.nr_in_flight),
        "inactive": _names(pwq.inactive_works),
        "started": stats.started,
        "completed": stats.completed,
        "cpu_time_us": stats.cpu_time_ns // 1000,
        "cpu_intensive": stats.cpu_intensive,
        "cm_wakeup": stats.cm_wakeup,
        "repatriated": stats.repatriated,
        "mayday": stats.mayday,
        "rescued": stats.rescued,
    }
