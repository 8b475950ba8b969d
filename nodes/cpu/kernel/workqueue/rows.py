"""What a CPU's page says of its worker pools, for those who look at RAM only (``nodes.cpu.page``,
fields ``wq_*``).

Written where it changes, a few stores each: a pool's figures when a work is queued, begins or ends,
and when one of its workers falls asleep, wakes or becomes idle; a worker's row from the begin of a
work to its end; a delayed work's row from the arming of its timer on this CPU until it goes off. A
timer that another CPU deletes or takes over leaves its row behind: the row has the number of the
timer's atomic word, which tells. When rows run out the newest are not shown, only counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.jiffies import jiffy_ns
from nodes.cpu.kernel.timer_shared import SharedTimer, pending_on
from nodes.cpu.page import (
    CPU_SCHEMA,
    WQ_BUSY_ROWS,
    WQ_BUSY_WORDS,
    WQ_DELAYED_ROWS,
    WQ_DELAYED_WORDS,
    WQ_NAME_WORDS,
    WQ_POOLS,
    WQ_WORK_WORDS,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodes.cpu.kernel.percpu import Cpu
    from nodes.cpu.kernel.sched import Task
    from nodes.cpu.kernel.workqueue.pool import WorkerPool
    from nodes.cpu.kernel.workqueue.work import Work

_POOL = CPU_SCHEMA.index("wq_pool")
_POOL_NAME = CPU_SCHEMA.index("wq_pool_name")
_WORKERS = CPU_SCHEMA.index("wq_workers")
_IDLE = CPU_SCHEMA.index("wq_idle")
_RUNNING = CPU_SCHEMA.index("wq_running")
_WORKLIST = CPU_SCHEMA.index("wq_worklist")
_INACTIVE = CPU_SCHEMA.index("wq_inactive")
_EXECUTED = CPU_SCHEMA.index("wq_executed")
_PROGRESS = CPU_SCHEMA.index("wq_watchdog_ts")
_NEXT = CPU_SCHEMA.index("wq_next")
_BUSY = CPU_SCHEMA.index("wq_busy")
_DELAYED = CPU_SCHEMA.index("wq_delayed")
_TIMERS = CPU_SCHEMA.index("wq_timers")
_LAST_NS = CPU_SCHEMA.index("wq_last_ns")
_LAST_WORK = CPU_SCHEMA.index("wq_last_work")

#: No row.
NO_ROW = -1
#: The longest name, of a work.
_NAME_BYTES = 8 * WQ_WORK_WORDS
#: Bits of a busy row's first word.
_ASLEEP, _FLAGS_SHIFT = 1 << 40, 44


class Rows:
    """The rows of one CPU's page and who has which."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self._words = cpu.words
        self._pools: dict[int, int] = {}  # by number of the pool
        self._busy = [True] * WQ_BUSY_ROWS  # is the row free?
        self._heads = [""] * WQ_POOLS  # the work that the page calls the next, by row
        self._timers: dict[int, int] = {}  # by number of the timer
        self._names: dict[str, memoryview] = {}

    def _put(self, at: int, name: str, words: int) -> None:
        """A name, cut to so many words."""
        found = self._names.get(name)
        if found is None:
            raw = name.encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
            found = self._names[name] = memoryview(raw).cast("Q")
        self._words[at : at + words] = found[:words]

    # -- pools

    def add(self, number: int, cpu: int, nice: int, flags: int = 0, name: str = "") -> None:
        """A pool (or keventd's thread for the workqueue ``name``) is hosted here from now on, or
        its flags have changed; ``cpu`` is -1 if it is unbound."""
        row = self._pools.get(number)
        if row is None:
            used = self._pools.values()
            row = next((row for row in range(WQ_POOLS) if row not in used), NO_ROW)
            self._pools[number] = row
        if row != NO_ROW:
            self._put(_POOL_NAME + row * WQ_NAME_WORDS, name, WQ_NAME_WORDS)
            self._words[_POOL + row] = number + 1 | cpu + 1 << 16 | nice + 20 << 32 | flags << 40

    def add_pool(self, pool: WorkerPool) -> None:
        """As ``add``, with its figures; also when it came from another CPU."""
        self.add(pool.id, pool.cpu, pool.nice, pool.flags)
        self.pool(pool)

    def remove(self, number: int) -> None:
        """It moved to another CPU."""
        row = self._pools.pop(number, NO_ROW)
        if row != NO_ROW:
            self._words[_POOL + row] = 0
            for field in (_INACTIVE, _WORKLIST, _EXECUTED):
                self._words[field + row] = 0

    def pool(self, pool: WorkerPool) -> None:
        """Its figures."""
        row = self._pools.get(pool.id, NO_ROW)
        if row != NO_ROW:
            workers, idle = len(pool.workers), len(pool.idle_list)
            self._figures(row, workers, idle, max(pool.nr_running, 0), pool.worklist)

    def thread(self, number: int, worklist: Sequence[Work], *, idle: bool) -> None:
        """The figures of keventd's one thread for a workqueue."""
        row = self._pools.get(number, NO_ROW)
        if row != NO_ROW:
            self._figures(row, 1, int(idle), 0, worklist)

    def _figures(
        self, row: int, workers: int, idle: int, running: int, worklist: Sequence[Work]
    ) -> None:
        words = self._words
        words[_WORKERS + row] = workers
        words[_IDLE + row] = idle
        words[_RUNNING + row] = running
        self._waiting(row, worklist)

    def queued(self, pool: WorkerPool) -> None:
        """A work came to its worklist."""
        row = self._pools.get(pool.id, NO_ROW)
        if row != NO_ROW:
            self._waiting(row, pool.worklist)

    def _waiting(self, row: int, worklist: Sequence[Work]) -> None:
        """How many works wait, and which is the next; the first one starts the clock."""
        waiting = len(worklist)
        if waiting:
            if not self._words[_WORKLIST + row]:
                self._words[_PROGRESS + row] = self._cpu.now()
            head = worklist[0].name
            if self._heads[row] != head:
                self._heads[row] = head
                self._put(_NEXT + row * WQ_WORK_WORDS, head, WQ_WORK_WORDS)
        self._words[_WORKLIST + row] = waiting

    def inactive(self, number: int, change: int) -> None:
        """max_active holds back more works of a pool, or fewer."""
        row = self._pools.get(number, NO_ROW)
        if row != NO_ROW:
            self._words[_INACTIVE + row] += change

    # -- works

    def begin(self, number: int, task: Task, work: Work, workqueue: str, flags: int = 0) -> int:
        """A worker of pool ``number`` begins a work: progress. Gives the row of the worker."""
        words, now, pool = self._words, self._cpu.now(), self._pools.get(number, NO_ROW)
        words[_LAST_NS] = now
        self._put(_LAST_WORK, work.name, WQ_WORK_WORDS)
        if pool == NO_ROW:
            return NO_ROW
        words[_PROGRESS + pool] = now
        if True not in self._busy:
            return NO_ROW
        row = self._busy.index(True)
        self._busy[row] = False
        at = _BUSY + row * WQ_BUSY_WORDS
        words[at + 1] = now
        words[at + 2], words[at + 3] = task.comm_words
        self._put(at + 4, work.name, WQ_WORK_WORDS)
        self._put(at + 4 + WQ_WORK_WORDS, workqueue, WQ_NAME_WORDS)
        words[at] = task.pid | pool << 32 | flags << _FLAGS_SHIFT
        return row

    def asleep(self, row: int, asleep: bool) -> None:
        """The worker blocks in its work, or goes on."""
        if row != NO_ROW:
            at = _BUSY + row * WQ_BUSY_WORDS
            who = self._words[at] & ~_ASLEEP
            self._words[at] = who | (_ASLEEP if asleep else 0)

    def end(self, number: int, row: int) -> None:
        """The work is done."""
        pool = self._pools.get(number, NO_ROW)
        if pool != NO_ROW:
            self._words[_EXECUTED + pool] += 1
        if row != NO_ROW:
            self._busy[row] = True
            self._words[_BUSY + row * WQ_BUSY_WORDS] = 0

    # -- delayed works

    def timer(self, timer: SharedTimer, name: str, armed: bool) -> None:
        """The timer of delayed work ``name`` was armed on this CPU, or went off or was deleted."""
        if armed:
            row = self._timers.get(timer.number, NO_ROW)
            if row == NO_ROW:
                row = self._timers[timer.number] = self._free_timer_row()
            if row != NO_ROW:
                at = _TIMERS + row * WQ_DELAYED_WORDS
                self._words[at] = 0
                self._words[at + 1] = jiffy_ns(self._cpu, timer.entry.expires)
                self._put(at + 2, name, WQ_WORK_WORDS)
                self._words[at] = timer.word + 1
        else:
            row = self._timers.pop(timer.number, NO_ROW)
            if row != NO_ROW:
                self._words[_TIMERS + row * WQ_DELAYED_WORDS] = 0
        self._words[_DELAYED] = len(self._timers)

    def _free_timer_row(self) -> int:
        """A free row, or one whose timer is another CPU's by now."""
        used = list(self._timers.values())
        for row in range(WQ_DELAYED_ROWS):
            if row not in used:
                return row
        for number, row in self._timers.items():
            if row != NO_ROW:
                word = self._words[_TIMERS + row * WQ_DELAYED_WORDS] - 1
                if pending_on(self._cpu.ram.atomics.load(word)) != self._cpu.number:
                    del self._timers[number]
                    return row
        return NO_ROW
