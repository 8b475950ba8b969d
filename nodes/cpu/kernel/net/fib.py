"""The forwarding table: which routes there are, after net/ipv4/fib_{frontend,semantics,trie}.c.

Two tables. *main*: the boot CPU writes it and publishes it whole; every CPU keeps a ``FibInfo`` for
each route, which is where its cached dst entry hangs (nh_pcpu_rth_output). A route that is no more
takes its entry with it. The longest prefix wins, then the lowest metric. A device that goes down
takes its routes along; when it is up again those of its addresses come back, others do not.

*local*, which is asked first: a host route for each address of ours, and 127.0.0.0/8. It follows
from the addresses. Its routes belong to the device that has the address, but what goes there goes
through lo; they stay while that device is down. Left out: rules, multipath, broadcast routes.
"""

from __future__ import annotations

from errno import EEXIST, ENOBUFS, ESRCH
from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.net.netdevice import LOOPBACK_IFINDEX, NetDevice
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish, replica

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.route import Rtable
    from nodes.cpu.kernel.percpu import Cpu

RTN_UNICAST, RTN_LOCAL = 1, 2
RTPROT_KERNEL, RTPROT_BOOT, RTPROT_STATIC = 2, 3, 4
#: Destinations whose lookup is remembered; at the limit all are forgotten.
LOOKUPS_MAX = 1024
FIB_ROUTES_MAX = 64

INADDR_LOOPBACK = bytes((127, 0, 0, 1))
_HOST = 0xFFFF_FFFF


class FibRoute(NamedTuple):
    """A route as it is published; addresses as numbers, ``gateway`` 0: on the link."""

    network: int
    mask: int
    gateway: int
    ifindex: int
    protocol: int = RTPROT_BOOT
    prefsrc: int = 0
    metric: int = 0

    def order(self) -> tuple[int, int, int]:
        return -self.mask, self.network, self.metric


class FibInfo:
    """struct fib_info with its one nexthop, as this CPU has it."""

    __slots__ = ("nh_rth_output", "route", "type")

    def __init__(self, route: FibRoute, kind: int = RTN_UNICAST) -> None:
        self.route = route
        self.type = kind
        self.nh_rth_output: Rtable | None = None

    @property
    def out_ifindex(self) -> int:
        """The device that packets leave by."""
        return LOOPBACK_IFINDEX if self.type == RTN_LOCAL else self.route.ifindex


class Fib:
    """The tables of one CPU, the longest prefix first."""

    def __init__(self) -> None:
        self.infos: list[FibInfo] = []
        self.local: dict[bytes, FibInfo] = {}  # by address
        lo = FibRoute(127 << 24, 0xFF << 24, 0, LOOPBACK_IFINDEX, RTPROT_KERNEL, 127 << 24 | 1)
        self.loopback = FibInfo(lo, RTN_LOCAL)
        self.connected: dict[bytes, FibRoute] = {}  # by local address; on the boot CPU
        self.lookups: dict[bytes, FibInfo | None] = {}  # what has been looked up since it changed

    def routes(self) -> list[FibRoute]:
        """Of the table main."""
        return [info.route for info in self.infos]

    def both_tables(self) -> list[FibInfo]:
        return [self.loopback, *self.local.values(), *self.infos]

    def set_local(self, address: bytes, ifindex: int) -> FibInfo | None:
        """An address of ours, or (ifindex 0) not any more; returns the entry that is gone."""
        gone = self.local.pop(address, None)
        number = int.from_bytes(address, "big")
        if ifindex:
            route = FibRoute(number, _HOST, 0, ifindex, RTPROT_KERNEL, number)
            self.local[address] = FibInfo(route, RTN_LOCAL)
        self.lookups.clear()
        return gone

    def lookup(self, daddr: bytes) -> FibInfo | None:
        """fib_lookup without a device."""
        try:
            return self.lookups[daddr]
        except KeyError:
            if len(self.lookups) >= LOOKUPS_MAX:
                self.lookups.clear()
            found = self.lookups[daddr] = self.lookup_oif(daddr, 0)
            return found

    def lookup_oif(self, daddr: bytes, oif: int) -> FibInfo | None:
        """Only routes through device ``oif``, if that is not 0."""
        local = self.loopback if daddr[0] == 127 else self.local.get(daddr)
        if local is not None and (not oif or local.route.ifindex == oif):
            return local
        wanted = int.from_bytes(daddr, "big")
        for info in self.infos:
            route = info.route
            if wanted & route.mask == route.network and (not oif or route.ifindex == oif):
                return info
        return None


@replica("routes")
def apply_routes(cpu: Cpu, _key: int, routes: tuple[tuple[int, ...], ...]) -> None:
    """The whole table; a route that stays keeps its FibInfo."""
    fib = cpu.net.fib
    gone = {info.route: info for info in fib.infos}
    fib.infos = []
    for route in [FibRoute(*fields) for fields in routes]:
        info = gone.pop(route, None)
        fib.infos.append(info if info is not None else FibInfo(route))
    fib.lookups.clear()
    cpu.net.route_cache.flush(-1)
    for info in gone.values():
        cpu.net.route_cache.free_fib_info(info)


def _publish(cpu: Cpu, routes: list[FibRoute]) -> Context:
    routes.sort(key=FibRoute.order)
    yield from publish(cpu, "routes", 0, tuple(tuple(route) for route in routes))


def fib_table_insert(cpu: Cpu, new: FibRoute) -> Context:
    """Add a route (boot CPU, RTNL held); 0 or a negative errno."""
    routes = cpu.net.fib.routes()
    keys = [(route.network, route.mask, route.metric) for route in routes]
    if (new.network, new.mask, new.metric) in keys:
        return -EEXIST
    if len(routes) >= FIB_ROUTES_MAX:
        return -ENOBUFS
    yield from _publish(cpu, [*routes, new])
    return 0


def fib_table_delete(
    cpu: Cpu, network: int, mask: int, gateway: int = 0, ifindex: int = 0, metric: int = 0
) -> Context:
    """Remove the first route that fits (0: any); 0 or a negative errno."""
    routes = cpu.net.fib.routes()
    for route in routes:
        if (route.network, route.mask) != (network, mask):
            continue
        wanted = (gateway or route.gateway, ifindex or route.ifindex, metric or route.metric)
        if wanted == (route.gateway, route.ifindex, route.metric):
            routes.remove(route)
            yield from _publish(cpu, routes)
            return 0
    return -ESRCH


def inet_insert_ifa(cpu: Cpu, address: bytes, network: int, mask: int, ifindex: int) -> Context:
    """ip addr add: the address, and the route to its network."""
    prefsrc = int.from_bytes(address, "big")
    route = FibRoute(network, mask, 0, ifindex, RTPROT_KERNEL, prefsrc)
    cpu.net.fib.connected[address] = route
    yield from publish(cpu, "address", address, ifindex)
    yield from fib_table_insert(cpu, route)


def fib_add_ifaddr(cpu: Cpu, dev: NetDevice) -> Context:
    """A device is up: so are the routes of its addresses."""
    for address, route in list(cpu.net.fib.connected.items()):
        if route.ifindex == dev.ifindex and address in cpu.net.addresses:
            yield from fib_table_insert(cpu, route)


def fib_disable_ip(cpu: Cpu, dev: NetDevice) -> Context:
    """A device goes down: so do its routes."""
    routes = cpu.net.fib.routes()
    left = [route for route in routes if route.ifindex != dev.ifindex]
    if len(left) < len(routes):
        yield from _publish(cpu, left)
