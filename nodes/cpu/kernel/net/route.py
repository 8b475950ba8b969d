"""Routes of packets that leave, as dst entries: lookup, caching, flushing; after net/ipv4/route.c.

Behaviour ``route_cache``:

* *hash* (2.6.18): one entry for each (destination, source, tos, device), in the hash table of the
  routing cache. A flush empties it: at once when a device changes, but two seconds after the
  routing table did (rt_cache_flush(-1), never more than ten seconds after the first of several).
* *nexthop* (3.6 and later): one entry for each route of the table (and CPU); a flush counts
  ``rt_genid`` up, and the next lookup replaces an entry of an older one. What was bound to a device
  without a route through it is made for one use: DST_NOCACHE.

An entry for an address of ours (``local``, RTCF_LOCAL) leads through lo. It remembers which device
a packet shall seem to have come by; where that is another than lo, *nexthop* makes it for one use.

``ip_route_output`` returns an entry that is held. Whoever is replaced or flushed may be in use
still: it is freed after a grace period, or waits for ``dst_gc``. In 6.1 the cache holds a reference
itself and lets go of it. Left out: input routes (what is for us is known by its address), the
cache's own garbage collection by age and by size (rt_check_expire, rt_garbage_collect, the
ten-minute rebuild), redirects, PMTU and other exceptions.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel.files import store
from nodes.cpu.kernel.jiffies import signed_difference
from nodes.cpu.kernel.net.dst import (
    DST_HOST,
    DST_NOCACHE,
    DST_OBSOLETE_FORCE_CHK,
    DST_OBSOLETE_NONE,
    DstEntry,
    DstOps,
    change_dev,
    dst_alloc,
    dst_dev_put,
    dst_release,
    dst_release_immediate,
)
from nodes.cpu.kernel.net.dst_gc import DstGarbage, dst_dev_event, dst_free
from nodes.cpu.kernel.net.fib import RTN_LOCAL, Fib, FibInfo
from nodes.cpu.kernel.net.netdevice import (
    LOOPBACK_IFINDEX,
    NETDEV_CHANGE,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NetDevice,
    register_netdevice_notifier,
)
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.rcu import call_rcu
from nodes.cpu.kernel.sysctl import dointvec
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.kernel.timer import Timer
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.skbuff import SkBuff
    from nodes.cpu.kernel.percpu import Cpu

#: Seconds: ip_rt_min_delay and ip_rt_max_delay.
FLUSH_MIN_S, FLUSH_MAX_S = 2, 10
#: Entries of the hash table; at the limit it is flushed.
RT_MAX_SIZE = 4096

_RT_CACHE = CPU_SCHEMA.index("rt_cache")
_OUT_HIT, _OUT_SLOW_TOT = _RT_CACHE + 1, _RT_CACHE + 2


class Rtable(DstEntry):
    """struct rtable: a dst entry of IPv4."""

    __slots__ = ("local", "rt_gateway", "rt_genid", "rt_iif", "source")

    dev: NetDevice

    def __init__(
        self, ops: Ipv4DstOps, dev: NetDevice, obsolete: int, flags: int, gateway: bytes
    ) -> None:
        super().__init__(ops, dev, 1, obsolete, flags)
        self.rt_gateway = gateway  # empty: the destination itself
        self.rt_genid = 0
        self.rt_iif = 0  # which device a packet to ourselves seems to have come by; 0: lo
        self.local = False  # RTCF_LOCAL: input is ip_local_deliver
        self.source = b""  # for packets that do not say


class Ipv4DstOps(DstOps):
    """ipv4_dst_ops."""

    def __init__(self) -> None:
        super().__init__("ip_dst_cache")
        self.uncached: dict[int, Rtable] = {}  # rt_uncached_list, by number

    def add_entries(self, cpu: Cpu, change: int) -> None:
        self.entries += change
        cpu.words[_RT_CACHE] = self.entries

    def check(self, cpu: Cpu, dst: DstEntry) -> bool:
        """ipv4_dst_check."""
        return (
            isinstance(dst, Rtable)
            and dst.obsolete == DST_OBSOLETE_FORCE_CHK
            and dst.rt_genid == cpu.net.route_cache.genid
        )

    def destroy(self, _cpu: Cpu, dst: DstEntry) -> None:
        self.uncached.pop(dst.number, None)


class RouteCache:
    """The entries that one CPU can find again."""

    obsolete = DST_OBSOLETE_FORCE_CHK

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu
        self.ops = Ipv4DstOps()
        self.genid = 0
        self._fib = cpu.net.fib
        self._counted = cpu.params.dst_gc == "rcu"  # does the cache hold a reference?

    def output(self, daddr: bytes, saddr: bytes, tos: int, oif: int) -> Rtable | None:
        raise NotImplementedError

    def flush(self, delay: int) -> None:
        """rt_cache_flush: nothing that is cached is true any more; ``delay`` as in 2.6.18."""
        raise NotImplementedError

    def free_fib_info(self, info: FibInfo) -> None:
        """A route is gone."""

    def fib_local(self, address: bytes, ifindex: int) -> None:
        """fib_add_ifaddr and fib_del_ifaddr: the local route of an address."""
        gone = self._fib.set_local(address, ifindex)
        if gone is not None:
            self.free_fib_info(gone)

    def forget_all(self) -> list[Rtable]:
        """Empty the cache; returns what was in it."""
        raise NotImplementedError

    def drop(self) -> Context:
        """Its CPU goes offline: nobody looks here any more, so no grace period is needed."""
        for rt in self.forget_all():
            if self._counted:
                _put_nexthop(self._cpu, rt)
            else:
                yield from dst_free(self._cpu, rt)
        for rt in list(self.ops.uncached.values()):
            change_dev(self._cpu, rt)

    def flush_dev(self, dev: NetDevice) -> None:
        """rt_flush_dev: entries that no cache knows let go of a device that goes."""
        for rt in list(self.ops.uncached.values()):
            if rt.dev is dev:
                change_dev(self._cpu, rt)

    def _make(self, info: FibInfo | None, oif: int, *, cached: bool) -> Rtable | None:
        """__mkroute_output: a new entry, held by the caller; None if it cannot lead anywhere."""
        net = self._cpu.net
        dev = net.devices.get(info.out_ifindex if info is not None else oif)
        if dev is None:
            return None
        source = info.route.prefsrc.to_bytes(4, "big") if info and info.route.prefsrc else b""
        if source not in net.addresses:  # inet_select_addr
            # those of lo are of scope host: for nobody else
            own = [
                a for a, index in net.addresses.items() if index == dev.ifindex != LOOPBACK_IFINDEX
            ]
            if not own and (info is None or dev is net.loopback_dev):
                own = [a for a, index in net.addresses.items() if index != LOOPBACK_IFINDEX]
            if not own:
                return None
            source = own[0]
        gateway = info.route.gateway.to_bytes(4, "big") if info and info.route.gateway else b""
        flags = DST_HOST if cached else DST_HOST | DST_NOCACHE
        rt = Rtable(self.ops, dev, self.obsolete, flags, gateway)
        rt.rt_genid = self.genid
        rt.source = source
        if info is not None and info.type == RTN_LOCAL:
            rt.local, rt.rt_iif = True, self._local_iif(info, oif)
        dst_alloc(self._cpu, rt)
        self._cpu.words[_OUT_SLOW_TOT] += 1
        return rt

    def _local_iif(self, info: FibInfo, oif: int) -> int:
        """Behaviour ``local_iif``: what inet_iif shall say of a packet to ourselves: the device
        that was *asked* for, or the *route*'s (6.1)."""
        return info.route.ifindex if self._cpu.params.local_iif == "route" else oif

    def _free(self, rt: Rtable) -> None:
        """rt_free: the cache has forgotten it, others may still be looking at it."""
        if self._counted:
            dst_release(self._cpu, rt)
        else:
            call_rcu(self._cpu, lambda cpu: dst_free(cpu, rt))


class NexthopCache(RouteCache):
    """One entry a route."""

    def output(self, daddr: bytes, saddr: bytes, tos: int, oif: int) -> Rtable | None:
        info = self._fib.lookup_oif(daddr, oif) if oif else self._fib.lookup(daddr)
        if info is None:
            # wrong tables: assume it is on the link
            return self._uncached(None, oif) if oif else None
        rt = info.nh_rth_output
        if (
            rt is not None
            and rt.obsolete == DST_OBSOLETE_FORCE_CHK
            and rt.rt_genid == self.genid  # rt_cache_valid
            and not (oif and rt.local)
        ):
            rt.refcnt += 1  # dst_hold
            return rt
        if info.type == RTN_LOCAL and self._local_iif(info, oif) not in (0, LOOPBACK_IFINDEX):
            return self._uncached(info, oif)  # the next one may have to say another device
        new = self._make(info, oif, cached=True)
        if new is not None:  # rt_cache_route
            info.nh_rth_output = new
            new.refcnt += self._counted
            if rt is not None:
                if self._counted:
                    self.ops.uncached[rt.number] = rt
                self._free(rt)
        return new

    def _uncached(self, info: FibInfo | None, oif: int) -> Rtable | None:
        """rt_add_uncached_list."""
        rt = self._make(info, oif, cached=False)
        if rt is not None:
            self.ops.uncached[rt.number] = rt
        return rt

    def flush(self, delay: int) -> None:
        self.genid += 1

    def forget_all(self) -> list[Rtable]:
        entries = []
        for info in self._fib.both_tables():
            if info.nh_rth_output is not None:
                entries.append(info.nh_rth_output)
                info.nh_rth_output = None
        return entries

    def free_fib_info(self, info: FibInfo) -> None:
        """free_fib_info_rcu, rt_fibinfo_free_cpus."""
        rt = info.nh_rth_output
        if rt is None:
            return
        info.nh_rth_output = None
        if self._counted:
            call_rcu(self._cpu, lambda cpu: _put_nexthop(cpu, rt))
        else:
            call_rcu(self._cpu, lambda cpu: dst_free(cpu, rt))


def _put_nexthop(cpu: Cpu, rt: Rtable) -> None:
    dst_dev_put(cpu, rt)
    dst_release_immediate(cpu, rt)


class HashCache(RouteCache):
    """rt_hash_table."""

    obsolete = DST_OBSOLETE_NONE

    def __init__(self, cpu: Cpu) -> None:
        super().__init__(cpu)
        self.table: dict[tuple[bytes, bytes, int, int], Rtable] = {}
        self.timer = Timer(self._run_flush, name="rt_run_flush")  # rt_flush_timer
        self._deadline = 0  # rt_deadline; 0: none

    def output(self, daddr: bytes, saddr: bytes, tos: int, oif: int) -> Rtable | None:
        cpu, key = self._cpu, (daddr, saddr, tos, oif)
        rt = self.table.get(key)
        if rt is not None:
            rt.refcnt += 1  # dst_use; lastuse is for the collection by age, and costs a look
            rt.use += 1
            cpu.words[_OUT_HIT] += 1
            return rt
        info = self._fib.lookup_oif(daddr, oif)
        if info is None and not oif:
            return None
        rt = self._make(info, oif, cached=True)
        if rt is not None:  # rt_intern_hash
            if len(self.table) >= RT_MAX_SIZE:
                self._run_flush(cpu)
            rt.refcnt += self._counted
            self.table[key] = rt
        return rt

    def flush(self, delay: int) -> None:
        """Jiffies; below 0: as long as usual."""
        cpu = self._cpu
        hz, now = cpu.params.hz, cpu.jiffies()
        if delay < 0:
            delay = FLUSH_MIN_S * hz
        if cpu.timers.del_timer(self.timer) and delay > 0 and self._deadline:
            left = signed_difference(self._deadline, now)
            if not cpu.in_softirq() and left < (FLUSH_MAX_S - FLUSH_MIN_S) * hz:
                left = 0  # who asks again from a terminal gets it now
            delay = min(delay, left)
        if delay <= 0:
            self._run_flush(cpu)
            return
        if not self._deadline:
            self._deadline = now + FLUSH_MAX_S * hz
        cpu.timers.mod_timer(self.timer, now + delay)

    def forget_all(self) -> list[Rtable]:
        self._cpu.timers.del_timer(self.timer)
        self._deadline = 0
        old, self.table = self.table, {}
        return list(old.values())

    def _run_flush(self, _cpu: Cpu) -> None:
        """rt_run_flush."""
        self._deadline = 0
        old, self.table = self.table, {}
        for rt in old.values():
            self._free(rt)


_CACHES: dict[str, Callable[[Cpu], RouteCache]] = {"hash": HashCache, "nexthop": NexthopCache}


def ip_route_output(
    cpu: Cpu, daddr: bytes, saddr: bytes = b"", tos: int = 0, oif: int = 0
) -> Rtable | None:
    """The way to ``daddr``, held for the caller; None: network is unreachable."""
    return cpu.net.route_cache.output(daddr, saddr, tos, oif)


def martian_source(cpu: Cpu, rt: Rtable, saddr: bytes) -> bool:
    """__mkroute_output: 127.0.0.0/8 does not leave the machine (EINVAL)."""
    return saddr[:1] == b"\x7f" and rt.dev is not cpu.net.loopback_dev


def inet_iif(cpu: Cpu, skb: SkBuff, how: str) -> int:
    """The device that a packet came by, for sockets that are bound to one. What we sent to
    ourselves came by lo (*dev*), or as its *route* says."""
    rt = skb.dst
    if how == "route" and isinstance(rt, Rtable) and rt.rt_iif:
        return rt.rt_iif
    return skb.dev.ifindex


def ip_rt_put(cpu: Cpu, rt: Rtable) -> None:
    dst_release(cpu, rt)


def fib_netdev_event(cpu: Cpu, dev: NetDevice, event: int) -> None:
    """This CPU's part of fib_netdev_event; the table itself is the boot CPU's."""
    if event in (NETDEV_DOWN, NETDEV_CHANGE, NETDEV_UNREGISTER):
        cpu.net.route_cache.flush(0)
    if event == NETDEV_UNREGISTER:
        cpu.net.route_cache.flush_dev(dev)


def setup(cpu: Cpu) -> None:
    """ip_rt_init, dst_init."""
    cpu.net.fib = Fib()
    cpu.net.route_cache = _CACHES[cpu.params.route_cache](cpu)
    cpu.net.dst_garbage = DstGarbage(cpu)
    register_netdevice_notifier(cpu, fib_netdev_event)
    register_netdevice_notifier(cpu, dst_dev_event, -10)


# ---------------------------------------------------------------- /proc/sys/net/ipv4/route/flush


@replica("route_flush")
def apply_route_flush(cpu: Cpu, _key: int, delay: int) -> None:
    cpu.net.route_cache.flush(delay)


@store("/proc/sys/net/ipv4/route/flush")
def store_flush(cpu: Cpu, _groups: dict[str, str], text: str) -> Context:
    """``ip route flush cache`` writes -1."""
    delay = dointvec(text)
    if delay is None:
        return -EINVAL
    yield from publish(cpu, "route_flush", 0, delay)
    return 0
