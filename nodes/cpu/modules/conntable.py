"""A connection table at the hooks of netfilter, with a lock that can be chosen: right or wrong.

LOCAL_OUT counts what is sent, in the sender's own context (ping's ``sendmsg``); PRE_ROUTING counts
what is received, in NET_RX. Both change one table of the machine: they load its count, look the
connection up, store the count plus one. ``out`` is the lock that LOCAL_OUT takes; PRE_ROUTING takes
``spin_lock``, which is enough for a softirq, or nothing if LOCAL_OUT takes no spinlock. LOCAL_OUT
looks longer (``walk_ms``), so that a reply comes while it does. ``rmmod`` tells what the table
has::

    conntable: out=spin_lock_bh updates=40 table=40 lost=0 forced=0

A deadlock would last for ever. So that a lab can end, an hrtimer (hard interrupts still come in)
looks after ``limit_ms``, opens the lock by force and lets packets pass from then on. No kernel
does that: its watchdog only speaks. The hooks are registered on every CPU, as Linux
has them.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.delay import mdelay
from nodes.cpu.kernel.hrtimer import HrTimer, nanosleep
from nodes.cpu.kernel.locks.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_bh,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_bh,
    spin_unlock_irqrestore,
)
from nodes.cpu.kernel.net.netfilter import (
    LOCAL_OUT,
    NF_ACCEPT,
    PRE_ROUTING,
    HookFunction,
    nf_register_hook,
    nf_unregister_hook,
)
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "conntable"
NF_IP_PRI_CONNTRACK = -200
WAYS = ("none", "local_bh_disable", "spin_lock", "spin_lock_bh", "spin_lock_irqsave")
#: Record: register (1) or remove (0) the hooks; the way, walk_ms, limit_ms.
HOOKS_RECORD = 82
#: Each way has a lock of its own: one that is wrong must not be judged by what another did.
LOCK = 40
#: Atomic words: the table's count, updates that were made, CPUs that have the hooks, and how often
#: a lock was opened by force.
TABLE, UPDATES, CPUS, FORCED = range(words.LAB_MODULES, words.LAB_MODULES + 4)
POLL_NS = 50_000


class Hooks:
    """The two hook functions as one CPU has them."""

    def __init__(self, way: str, walk_ms: int, limit_ms: int) -> None:
        self.way = way
        self.walk_ms = walk_ms
        self.limit_ns = limit_ms * 1_000_000
        self.lock = Spinlock(LOCK + WAYS.index(way), "conntable_lock")
        self.locks = way.startswith("spin_lock")
        self.watchdog = HrTimer(self.open_by_force, NAME)

    def entries(self) -> tuple[tuple[int, HookFunction], ...]:
        return (LOCAL_OUT, self.conntable_out), (PRE_ROUTING, self.conntable_in)

    def conntable_out(self, cpu: Cpu, _hook: int, _skb: SkBuff) -> Context:
        """LOCAL_OUT: often a process, with interrupts and bottom halves on."""
        way, lock = self.way, self.lock
        if cpu.ram.atomics.load(FORCED):
            return NF_ACCEPT
        if way == "spin_lock":
            yield from spin_lock(cpu, lock)
        elif way == "spin_lock_bh":
            yield from spin_lock_bh(cpu, lock)
        elif way == "spin_lock_irqsave":
            flags = yield from spin_lock_irqsave(cpu, lock)
        elif way == "local_bh_disable":
            local_bh_disable(cpu)
        cpu.timers.hrtimer_start(self.watchdog, cpu.now() + self.limit_ns)
        yield from update(cpu, self.walk_ms)
        cpu.timers.hrtimer_cancel(self.watchdog)
        if way == "spin_lock":
            yield from spin_unlock(cpu, lock)
        elif way == "spin_lock_bh":
            yield from spin_unlock_bh(cpu, lock)
        elif way == "spin_lock_irqsave":
            yield from spin_unlock_irqrestore(cpu, lock, flags)
        elif way == "local_bh_disable":
            yield from local_bh_enable(cpu)
        return NF_ACCEPT

    def conntable_in(self, cpu: Cpu, _hook: int, _skb: SkBuff) -> Context:
        """PRE_ROUTING: NET_RX always."""
        if cpu.ram.atomics.load(FORCED):
            return NF_ACCEPT
        if self.locks:
            yield from spin_lock(cpu, self.lock)
        yield from update(cpu, 0)
        if self.locks:
            yield from spin_unlock(cpu, self.lock)
        return NF_ACCEPT

    def open_by_force(self, cpu: Cpu) -> None:
        """The lab's limit: LOCAL_OUT does not come to its end."""
        cpu.ram.atomics.add(FORCED, 1)
        ms = self.limit_ns // 1_000_000
        printk(cpu, f"{NAME}: CPU{cpu.number} is stuck for {ms} ms, the lock is opened by force")
        cpu.ram.atomics.store(self.lock.word, 0)


def update(cpu: Cpu, walk_ms: int) -> Context:
    """One more connection in the table: load, look, store."""
    atomics = cpu.ram.atomics
    count = atomics.load(TABLE)
    yield from mdelay(cpu, walk_ms)
    yield
    atomics.store(TABLE, count + 1)
    atomics.add(UPDATES, 1)


# ---------------------------------------------------------------- on all CPUs


def _register(cpu: Cpu, way: str, walk_ms: int, limit_ms: int) -> None:
    hooks = cpu.module_data[NAME] = Hooks(way, walk_ms, limit_ms)
    for hook, function in hooks.entries():
        nf_register_hook(cpu, hook, NF_IP_PRI_CONNTRACK, function)
    cpu.ram.atomics.test_and_set(CPUS, 1 << cpu.number)


def _unregister(cpu: Cpu) -> Hooks:
    hooks: Hooks = cpu.module_data.pop(NAME)
    for hook, function in hooks.entries():
        nf_unregister_hook(cpu, hook, function)
    cpu.ram.atomics.clear_bits(CPUS, 1 << cpu.number)
    return hooks


@remote_function(HOOKS_RECORD)
def _hooks_record(cpu: Cpu, _source: int, record: list[int]) -> None:
    if record[1]:
        _register(cpu, WAYS[record[2]], record[3], record[4])
    else:
        _unregister(cpu)


def _on_the_others(cpu: Cpu, *record: int) -> Context:
    """Every other CPU does it; returns when all have."""
    others = [number for number in cpu.online_cpus if number != cpu.number]
    for number in others:
        yield from call_function_single(cpu, number, [HOOKS_RECORD, *record])
    mask = sum(1 << number for number in others)
    wanted = mask if record[0] else 0
    while cpu.ram.atomics.load(CPUS) & mask != wanted:
        yield from nanosleep(cpu, POLL_NS)


def conntable_exit(cpu: Cpu) -> Context:
    """Take the hooks away and tell what the table has."""
    yield from _on_the_others(cpu, 0)
    hooks = _unregister(cpu)
    updates, table, forced = (cpu.ram.atomics.load(word) for word in (UPDATES, TABLE, FORCED))
    lost = updates - table
    report(cpu, NAME, out=hooks.way, updates=updates, table=table, lost=lost, forced=forced)


@module(
    NAME,
    params={
        "out": ("spin_lock_bh", f"how LOCAL_OUT protects the table: {', '.join(WAYS)}"),
        "walk_ms": (5, "how long LOCAL_OUT looks a connection up"),
        "limit_ms": (4000, "how long a deadlock may last"),
    },
    exit=conntable_exit,
)
def init(cpu: Cpu, params: Values) -> Context:
    """A table of connections, counted at LOCAL_OUT and PRE_ROUTING."""
    way, walk_ms, limit_ms = params["out"], params["walk_ms"], params["limit_ms"]
    if way not in WAYS or not 0 <= walk_ms <= 100 or not walk_ms < limit_ms <= 600_000:
        return -EINVAL
    for word in (TABLE, UPDATES, FORCED):
        cpu.ram.atomics.store(word, 0)
    yield from _on_the_others(cpu, 1, WAYS.index(way), walk_ms, limit_ms)
    _register(cpu, way, walk_ms, limit_ms)
    return 0
