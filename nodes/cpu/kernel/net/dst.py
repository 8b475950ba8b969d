"""dst_entry: where packets of one way go, and who still holds it; after net/core/dst.c.

A dst is counted by those who hold it: skbs, sockets, a parent (an xfrm bundle holds its child). The
last one to let go frees it at once only where there is no garbage collector (behaviour ``dst_gc``:
*rcu*, 6.1) or the entry was never in a cache (DST_NOCACHE, with *work*); else ``dst_release`` does
nothing at 0, and whoever takes the entry out of its cache frees it or leaves it to ``dst_gc``.

Multikernel: the entries of a CPU are that CPU's alone, so ``refcnt`` is a plain int where Linux has
an atomic_t, and its locks are stretches without a boundary. An skb that goes to another CPU gives
its reference back and gets one there (``handover``). Left out: metrics, xfrm, IPv6, the limit of
entries (``ops->gc``), neighbours held by a dst (2.6.18).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn, warn_once
from nodes.cpu.kernel.rcu import call_rcu
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.net.skbuff import SkBuff
    from nodes.cpu.kernel.percpu import Context, Cpu

DST_OBSOLETE_NONE, DST_OBSOLETE_DEAD = 0, 2
DST_OBSOLETE_FORCE_CHK, DST_OBSOLETE_KILL = -1, -2
DST_HOST, DST_NOXFRM, DST_NOPOLICY, DST_NOHASH = 0x1, 0x2, 0x4, 0x8
DST_NOCACHE, DST_NOCOUNT = 0x10, 0x20

_SOURCE = {"timer": "include/net/dst.h", "work": "net/core/dst.c", "rcu": "net/core/dst.c"}
_REFCNT = CPU_SCHEMA.index("dev_refcnt")
_FREE = TRACEPOINTS["dst_free"].number

#: dst->input and dst->output: what to do with a packet of this way.
Handler = Callable[["Cpu", "SkBuff"], "Context"]


class DstOps:
    """struct dst_ops of one family on one CPU; ``entries`` is how many there are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries = 0

    def add_entries(self, _cpu: Cpu, change: int) -> None:
        self.entries += change

    def check(self, _cpu: Cpu, _dst: DstEntry) -> bool:
        """Is an obsolete entry still good?"""
        return False

    def destroy(self, _cpu: Cpu, _dst: DstEntry) -> None:
        """What the family holds besides."""

    def ifdown(self, _cpu: Cpu, _dst: DstEntry, _dev: NetDevice, *, unregister: bool) -> None:
        """A device goes down."""


class DstEntry:
    """struct dst_entry."""

    __slots__ = (
        "child",
        "dev",
        "discard",
        "flags",
        "lastuse",
        "number",
        "obsolete",
        "ops",
        "refcnt",
        "use",
    )  # fmt: skip

    def __init__(
        self, ops: DstOps, dev: NetDevice | None, refcnt: int, obsolete: int, flags: int
    ) -> None:
        self.ops = ops
        self.dev = dev
        self.refcnt = refcnt  # __refcnt
        self.obsolete = obsolete
        self.flags = flags
        self.discard = False  # input and output are dst_discard
        self.child: DstEntry | None = None
        self.use = 0  # __use
        self.lastuse = 0  # jiffies
        self.number = 0  # of its CPU, for the trace


def dst_alloc(cpu: Cpu, dst: DstEntry) -> None:
    """Count a new entry and hold its device."""
    if not dst.flags & DST_NOCOUNT:
        dst.ops.add_entries(cpu, 1)
    cpu.net.dst_numbers += 1
    dst.number = cpu.number << 24 | cpu.net.dst_numbers
    if dst.dev is not None:
        dev_hold(cpu, dst.dev)


# ---------------------------------------------------------------- references


def dst_hold(dst: DstEntry) -> None:
    dst.refcnt += 1


def dst_clone(dst: DstEntry) -> DstEntry:
    """One more holder; returns the entry."""
    dst.refcnt += 1
    return dst


def dst_use(dst: DstEntry, jiffies: int) -> None:
    """Hold it and note when."""
    dst.refcnt += 1
    dst.use += 1
    dst.lastuse = jiffies


def dst_release(cpu: Cpu, dst: DstEntry) -> None:
    """Let go of it."""
    dst.refcnt -= 1
    if dst.refcnt > 0:
        return
    how = cpu.params.dst_gc
    if dst.refcnt < 0:
        if how == "rcu":
            warn_once(cpu, _SOURCE[how], "dst_release underflow")
        else:
            warn(cpu, _SOURCE[how])
    elif how == "rcu":
        call_rcu(cpu, lambda cpu: dst_destroy_rcu(cpu, dst))
    elif how == "work" and dst.flags & DST_NOCACHE:
        child = dst_destroy(cpu, dst)
        if child is not None:  # arming the collector may take a while, and this is no context
            orphan = child
            call_rcu(cpu, lambda cpu: cpu.net.dst_garbage.add(cpu, orphan))


def dst_release_immediate(cpu: Cpu, dst: DstEntry) -> None:
    """As ``dst_release`` where a grace period is over already (6.1)."""
    dst.refcnt -= 1
    if not dst.refcnt:
        dst_destroy(cpu, dst)


def dst_destroy_rcu(cpu: Cpu, dst: DstEntry) -> None:
    dst_destroy(cpu, dst)


def dst_check(cpu: Cpu, dst: DstEntry) -> bool:
    """May a cached entry still be used?"""
    return not dst.obsolete or dst.ops.check(cpu, dst)


def skb_dst_drop(cpu: Cpu, skb: SkBuff) -> None:
    """The packet does not need its way any more."""
    dst = skb.dst
    if dst is not None:
        skb.dst = None
        dst_release(cpu, dst)


# ---------------------------------------------------------------- the end of an entry


def dst_destroy(cpu: Cpu, dst: DstEntry) -> DstEntry | None:
    """Free it, and its child if nobody else holds that. Returns a child that lives on and that
    only its parent knew (DST_NOHASH): somebody has to free it later."""
    while True:
        child = dst.child
        if not dst.flags & DST_NOCOUNT:
            dst.ops.add_entries(cpu, -1)
        dst.ops.destroy(cpu, dst)
        if dst.dev is not None:
            dev_put(cpu, dst.dev)
            dst.dev = None
        cpu.trace(_FREE, dst.number, 0)
        if child is None:
            return None
        dst.child = None
        child.refcnt -= 1
        if child.refcnt:
            return child if child.flags & DST_NOHASH else None
        if not child.flags & DST_NOHASH:
            return None  # still in its table
        dst = child


def dst_dev_put(cpu: Cpu, dst: DstEntry) -> None:
    """6.1: the way is over, its device is let go at once, whoever holds the entry."""
    dst.obsolete = DST_OBSOLETE_DEAD
    if dst.dev is not None:
        dst.ops.ifdown(cpu, dst, dst.dev, unregister=True)
        change_dev(cpu, dst)
    dst.discard = True


def change_dev(cpu: Cpu, dst: DstEntry) -> None:
    """Another device takes the place of one that goes: lo, or blackhole_netdev since 5.3."""
    assert dst.dev is not None
    new = cpu.net.blackhole_netdev
    dev_hold(cpu, new)
    dev_put(cpu, dst.dev)
    dst.dev = new


# ---------------------------------------------------------------- references to devices


def dev_hold(cpu: Cpu, dev: NetDevice) -> None:
    """One more reference of this CPU's (pcpu_refcnt; 2.6.18 has one count for all)."""
    dev.refcnt += 1
    cpu.words[_REFCNT + dev.slot] += 1


def dev_put(cpu: Cpu, dev: NetDevice) -> None:
    dev.refcnt -= 1
    cpu.words[_REFCNT + dev.slot] -= 1


def netdev_refcnt_read(cpu: Cpu, dev: NetDevice) -> int:
    """References of all CPUs; what holds a registered device anyway is not counted here."""
    total: int = cpu.params.dev_refcnt_base
    for name in cpu.machine.cpu_names:
        total += cpu.ram.page(name, CPU_SCHEMA).words[_REFCNT + dev.slot]
    return total
