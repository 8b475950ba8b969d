"""The garbage collector of dst entries: what was taken out of use while somebody held it.

After net/core/dst.c. ``dst_free`` frees an unused entry at once; a used one dies (obsolete = DEAD)
and goes to the front of ``dst_garbage.list``, and the collector comes in HZ/10. It frees what
nobody holds any more; when it finds (nearly) nothing it comes back later and later: after 0.1, 0.6,
1.6, 3.1 ... up to 120 s. The next entry that dies pulls it back to HZ/10. Behaviour ``dst_gc``:

* *timer* (2.6.18): ``dst_run_gc`` in the TIMER softirq walks the one list; it backs off only if it
  freed nothing.
* *work* (3.10): ``dst_gc_work`` on system_wq may sleep between two entries. It works on
  ``dst_busy_list``, which only it and device events touch, and fetches the garbage list when it is
  through; it backs off if it freed no more than a tenth of what stayed busy.
* *rcu* (6.1): there is none; ``dst_release`` frees by RCU.

Each CPU has its own garbage and its own work. A device event (``dst_dev_event``) passes no
boundary, so it needs no dst_gc_mutex (nor 2.6.18's timer its trylock): a run that it meets half way
goes on with what it has not looked at.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.jiffies import round_jiffies_relative
from nodes.cpu.kernel.net.dst import (
    DST_OBSOLETE_DEAD,
    DST_OBSOLETE_NONE,
    DstEntry,
    change_dev,
    dst_destroy,
)
from nodes.cpu.kernel.net.netdevice import IFF_UP, NETDEV_DOWN, NETDEV_UNREGISTER, NetDevice
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.sched import cond_resched
from nodes.cpu.kernel.timer import Timer
from nodes.cpu.kernel.workqueue import (
    INIT_DELAYED_WORK,
    cancel_delayed_work,
    mod_delayed_work,
)
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_FREE = TRACEPOINTS["dst_free"].number
_TASK = TRACEPOINTS["dst_gc_task"].number


class Backoff:
    """timer_inc and timer_expires, in jiffies: when the collector comes next."""

    def __init__(self, hz: int) -> None:
        self.DST_GC_MIN, self.DST_GC_INC, self.DST_GC_MAX = hz // 10, hz // 2, 120 * hz
        self.timer_inc = self.DST_GC_MAX
        self.timer_expires = 0

    def something_died(self) -> bool:
        """An entry came: must the collector come sooner than it meant to?"""
        if self.timer_inc <= self.DST_GC_INC:
            return False
        self.soon()
        return True

    def soon(self) -> None:
        self.timer_inc = self.DST_GC_INC
        self.timer_expires = self.DST_GC_MIN

    def later(self) -> None:
        """``timer_inc`` grows without a limit."""
        self.timer_expires = min(self.timer_expires + self.timer_inc, self.DST_GC_MAX)
        self.timer_inc += self.DST_GC_INC

    def idle(self) -> None:
        """Nothing is left, so the next entry will wake it."""
        self.timer_inc = self.DST_GC_MAX


class DstGarbage:
    """dst_garbage, dst_busy_list and dst_gc_work (or dst_gc_timer) of one CPU."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self.list: deque[DstEntry] = deque()  # newest first
        self.busy: list[DstEntry] = []  # dst_busy_list
        self.scan: deque[DstEntry] = deque()  # what a run has still to look at
        self.backoff = Backoff(cpu.params.hz)
        self.parked = False  # its CPU goes offline: nothing is armed
        self.runs = 0
        self.freed = 0
        self.work = INIT_DELAYED_WORK(
            cpu, words.DST_GC_WORK + cpu.number, "dst_gc_task", dst_gc_task
        )
        self.timer = Timer(dst_run_gc)

    def add(self, cpu: Cpu, dst: DstEntry) -> Context:
        """__dst_free: a used entry dies; the collector will free it."""
        mark_dead(dst)
        self.list.appendleft(dst)
        cpu.trace(_FREE, dst.number, dst.refcnt)
        if self.backoff.something_died():
            yield from self.mod(self.backoff.timer_expires)

    def mod(self, delay: int) -> Context:
        """mod_delayed_work(system_wq, ...), or mod_timer: in this many jiffies and not before."""
        cpu = self._cpu
        if self.parked:
            return
        if cpu.params.dst_gc == "timer":
            cpu.timers.mod_timer(self.timer, cpu.jiffies() + delay)
        else:
            yield from mod_delayed_work(cpu, cpu.wq.system_wq, self.work, delay)

    def entries(self) -> Iterator[DstEntry]:
        """All that wait to be freed."""
        yield from self.busy
        yield from self.scan
        yield from self.list


def mark_dead(dst: DstEntry) -> None:
    """___dst_free: nobody may begin to use it; without its device it leads nowhere."""
    if dst.dev is None or not dst.dev.flags & IFF_UP:
        dst.discard = True
    dst.obsolete = DST_OBSOLETE_DEAD


def dst_free(cpu: Cpu, dst: DstEntry) -> Context:
    """Its cache has forgotten it: free it, now or when the last one has let go of it."""
    if dst.obsolete > DST_OBSOLETE_NONE:
        return
    if not dst.refcnt:
        child = dst_destroy(cpu, dst)
        if child is None:
            return
        dst = child
    yield from __dst_free(cpu, dst)


def __dst_free(cpu: Cpu, dst: DstEntry) -> Context:
    yield from cpu.net.dst_garbage.add(cpu, dst)


# ---------------------------------------------------------------- the collector


def dst_gc_task(cpu: Cpu) -> Context:
    """The work: look at everything that waits, also at what comes meanwhile."""
    garbage = cpu.net.dst_garbage
    scan = garbage.scan
    scan.extend(garbage.busy)
    garbage.busy.clear()
    freed = 0
    while True:
        while scan:
            yield
            yield from cond_resched(cpu)
            dst = scan.popleft()
            if dst.refcnt > 0:
                garbage.busy.append(dst)
                continue
            freed += 1
            child = dst_destroy(cpu, dst)
            if child is not None and child.obsolete <= DST_OBSOLETE_NONE:
                mark_dead(child)
                scan.appendleft(child)
        if not garbage.list:
            break
        scan.extend(garbage.list)
        garbage.list.clear()
    delayed = len(garbage.busy)
    backoff = garbage.backoff
    expires = 0
    if not delayed:
        backoff.idle()
    else:
        if freed <= delayed // 10:
            backoff.later()
        else:
            backoff.soon()
        expires = backoff.timer_expires
        if expires > 4 * cpu.params.hz:
            expires = round_jiffies_relative(cpu, expires)
    _ran(cpu, garbage, freed, delayed, expires)
    if expires:
        yield from garbage.mod(expires)


def dst_run_gc(cpu: Cpu) -> Context:
    """2.6.18's timer: one walk over the one list. A child that its parent's end has brought here
    stands in the parent's place and is looked at in the next run."""
    garbage = cpu.net.dst_garbage
    kept: deque[DstEntry] = deque()
    freed = delayed = 0
    for dst in garbage.list:
        if dst.refcnt > 0:
            kept.append(dst)
            delayed += 1
            continue
        freed += 1
        child = dst_destroy(cpu, dst)
        if child is not None and child.obsolete < DST_OBSOLETE_DEAD:
            mark_dead(child)
            kept.append(child)
    garbage.list = kept
    backoff = garbage.backoff
    expires = 0
    if not kept:
        backoff.idle()
    else:
        if freed:
            backoff.soon()
        else:
            backoff.later()
        expires = backoff.timer_expires
    _ran(cpu, garbage, freed, delayed, expires)
    if expires:
        yield from garbage.mod(expires)


def _ran(cpu: Cpu, garbage: DstGarbage, freed: int, delayed: int, expires: int) -> None:
    garbage.runs += 1
    garbage.freed += freed
    cpu.trace(_TASK, freed | delayed << 32, expires)


# ---------------------------------------------------------------- devices


def dst_ifdown(cpu: Cpu, dst: DstEntry, dev: NetDevice, *, unregister: bool) -> None:
    """Down: packets of this way are discarded. Gone: the way holds another device instead, so that
    nobody has to wait for who holds the way."""
    dst.ops.ifdown(cpu, dst, dev, unregister=unregister)
    if dst.dev is not dev:
        return
    if unregister:
        change_dev(cpu, dst)
    else:
        dst.discard = True


def dst_dev_event(cpu: Cpu, dev: NetDevice, event: int) -> None:
    """The notifier: everything that waits to be freed and goes through ``dev``."""
    if event not in (NETDEV_DOWN, NETDEV_UNREGISTER):
        return
    garbage = cpu.net.dst_garbage
    for dst in garbage.entries():
        dst_ifdown(cpu, dst, dev, unregister=event != NETDEV_DOWN)
    if cpu.params.dst_gc == "work":  # splice
        (garbage.scan or garbage.busy).extend(garbage.list)
        garbage.list.clear()


# ---------------------------------------------------------------- a CPU that goes offline


def dst_cpu_down(cpu: Cpu) -> Context:
    """Its collector must not come any more: no other CPU knows its garbage. Linux has no such step,
    because it has one list for all."""
    garbage = cpu.net.dst_garbage
    garbage.parked = True
    if cpu.params.dst_gc == "timer":
        cpu.timers.del_timer(garbage.timer)
    elif cpu.params.dst_gc == "work":
        yield from cancel_delayed_work(cpu, garbage.work)


def dst_cpu_up(cpu: Cpu) -> Context:
    """It is back: what nobody let go of meanwhile is looked at again."""
    garbage = cpu.net.dst_garbage
    garbage.parked = False
    if any(True for _ in garbage.entries()):
        garbage.backoff.soon()
        yield from garbage.mod(garbage.backoff.timer_expires)


def dst_cpu_dead(cpu: Cpu) -> Context:
    """On the dying CPU, last: nothing looks a way up here. The cache is emptied, what nobody holds
    is freed, and what somebody holds does not hold its device."""
    yield from cpu.net.route_cache.drop()
    garbage = cpu.net.dst_garbage
    entries = [*garbage.entries()]
    garbage.list.clear()
    garbage.scan.clear()
    garbage.busy = []
    for dst in entries:
        if not dst.refcnt:
            dst_destroy(cpu, dst)
            garbage.freed += 1
            continue
        dst.discard = True
        if dst.dev is not None and dst.dev is not cpu.net.blackhole_netdev:
            change_dev(cpu, dst)
        garbage.list.append(dst)
