"""The neighbour table and its state machine, after net/core/neighbour.c.

States and what moves them (times are the defaults of net.ipv4.neigh.*):

    NONE        first packet                          -> INCOMPLETE, ARP request
    INCOMPLETE  reply                                 -> REACHABLE, the queue leaves in order
                3 requests, 1 s apart, no reply       -> FAILED, the queue is reported unreachable
    REACHABLE   not confirmed for reachable_time      -> STALE (DELAY if it was just used); that is
                30 s, times 0.5 to 1.5, drawn anew every 300 s
    STALE       a packet leaves (with the old MAC)    -> DELAY
    DELAY       5 s; confirmed meanwhile?             -> REACHABLE, else PROBE
    PROBE       3 unicast requests without an answer  -> FAILED
    FAILED      a packet                              -> INCOMPLETE again

The boot CPU owns the table; the other CPUs hold (MAC, state) of valid entries and give frames for
anybody else to the boot CPU. Behaviours: ``neigh_first_probe`` (at once, or from a timer one jiffy
later) and ``neigh_queue_bytes`` (0: three packets).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.handover import BACKLOG_TX, enqueue_to_backlog
from nodes.cpu.kernel.net.netdevice import IFF_LOOPBACK, NetDevice
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.socket import SKB_TRUESIZE
from nodes.cpu.kernel.net.xmit import dev_queue_xmit
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.kernel.timer import Timer, timer_setup
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NUD_NONE, NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE = 0x00, 0x01, 0x02, 0x04
NUD_DELAY, NUD_PROBE, NUD_FAILED, NUD_NOARP, NUD_PERMANENT = 0x08, 0x10, 0x20, 0x40, 0x80
NUD_VALID = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY

BASE_REACHABLE_NS = 30_000_000_000
#: neigh_periodic_work: reachable_time is drawn anew after this.
RANDOM_REACHABLE_NS = 300_000_000_000
RETRANS_NS = 1_000_000_000
DELAY_PROBE_NS = 5_000_000_000
UCAST_SOLICIT = MCAST_SOLICIT = 3
LOCKTIME_NS = 1_000_000_000
QUEUE_PACKETS_OLD = 3

Solicit = Callable[["Cpu", "Neighbour", bytes | None], Context]
ErrorReport = Callable[["Cpu", SkBuff], Context]

_NEIGH_QUEUE = TRACEPOINTS["neigh_queue"].number


class Neighbour:
    """struct neighbour."""

    def __init__(self, address: bytes, dev: NetDevice) -> None:
        self.address = address
        self.dev = dev
        self.mac = bytes(6)
        self.state = NUD_NONE
        self.queue: deque[SkBuff] = deque()
        self.probes = 0
        self.confirmed_ns = 0
        self.used_ns = 0
        self.updated_ns = 0
        self.timer: Timer | None = None


class NeighbourTable:
    """arp_tbl on the boot CPU; replicas of valid entries elsewhere. ``solicit`` and
    ``error_report`` are its neigh_ops."""

    def __init__(self, cpu: Cpu, solicit: Solicit, error_report: ErrorReport) -> None:
        self.solicit = solicit
        self.error_report = error_report
        self.entries: dict[bytes, Neighbour] = {}
        self.valid: dict[bytes, bytes] = {}  # replica: address -> MAC
        self._cpu = cpu
        self._last_rand_ns = cpu.now()
        self._reachable_ns = self._rand_reach_time()

    @property
    def reachable_ns(self) -> int:
        """reachable_time now. Linux draws it in a periodic work; here it is looked at when an entry
        needs it, so that an idle machine need not wake up."""
        now = self._cpu.now()
        if now - self._last_rand_ns > RANDOM_REACHABLE_NS:
            self._last_rand_ns = now
            self._reachable_ns = self._rand_reach_time()
        return self._reachable_ns

    def _rand_reach_time(self) -> int:
        """neigh_rand_reach_time: half to three halves of base_reachable_time."""
        return BASE_REACHABLE_NS // 2 + self._cpu.rng.randrange(BASE_REACHABLE_NS)


@replica("neigh")
def apply_neigh(cpu: Cpu, address: bytes, mac: bytes | None) -> None:
    """A neighbour has this MAC now; None: it is not valid any more."""
    if mac is None:
        cpu.net.neighbours.valid.pop(address, None)
    else:
        cpu.net.neighbours.valid[address] = mac


def neigh_output(cpu: Cpu, skb: SkBuff, nexthop: bytes) -> Context:
    """Put the Ethernet header before an IP packet and send it, resolving the next hop first.

    ``skb.frame`` begins with 14 bytes left free for the header. lo needs no neighbour: its entries,
    which Linux makes and does not show, are always valid and say what its own address is."""
    if skb.dev.flags & IFF_LOOPBACK:  # NUD_NOARP
        yield from _send(cpu, skb, skb.dev.dev_addr)
        return
    table = cpu.net.neighbours
    if not cpu.boot:
        mac = table.valid.get(nexthop)
        if mac is None:
            yield from enqueue_to_backlog(cpu, 0, skb, BACKLOG_TX, nexthop)
            return
        yield from _send(cpu, skb, mac)
        return
    neigh = table.entries.get(nexthop)
    if neigh is None:
        neigh = table.entries[nexthop] = Neighbour(nexthop, skb.dev)
    now = cpu.now()
    neigh.used_ns = now
    if neigh.state & NUD_VALID:
        if neigh.state == NUD_STALE:
            neigh.state = NUD_DELAY
            _arm(cpu, neigh, DELAY_PROBE_NS)
        yield from _send(cpu, skb, neigh.mac)
        return
    _enqueue(cpu, neigh, skb)
    if neigh.state != NUD_INCOMPLETE:
        neigh.state = NUD_INCOMPLETE
        neigh.probes = 0
        neigh.updated_ns = now
        if cpu.params.neigh_first_probe == "at-once":
            yield from _solicit(cpu, neigh)
            _arm(cpu, neigh, RETRANS_NS)
        else:
            _arm(cpu, neigh, 1)


def _enqueue(cpu: Cpu, neigh: Neighbour, skb: SkBuff) -> None:
    limit = cpu.params.neigh_queue_bytes // SKB_TRUESIZE or QUEUE_PACKETS_OLD
    while len(neigh.queue) >= limit:
        kfree_skb_reason(cpu, neigh.queue.popleft(), "NEIGH_QUEUEFULL")
    neigh.queue.append(skb)
    cpu.trace(_NEIGH_QUEUE, skb.key, len(neigh.queue))


def _send(cpu: Cpu, skb: SkBuff, mac: bytes) -> Context:
    dev = skb.dev
    skb.frame = mac + dev.dev_addr + b"\x08\x00" + skb.frame[14:]
    return dev_queue_xmit(cpu, skb, dev)


def neigh_confirm(cpu: Cpu, nexthop: bytes) -> None:
    """MSG_CONFIRM: a reply came, so the way there works (boot CPU's table only)."""
    neigh = cpu.net.neighbours.entries.get(nexthop)
    if neigh is not None:
        neigh.confirmed_ns = cpu.now()


def neigh_update(
    cpu: Cpu, address: bytes, mac: bytes, *, reachable: bool, create: NetDevice | None
) -> Context:
    """An ARP packet says that ``address`` has ``mac``; a unicast reply also proves reachability."""
    table = cpu.net.neighbours
    neigh = table.entries.get(address)
    if neigh is None:
        if create is None:
            return
        neigh = table.entries[address] = Neighbour(address, create)
    if neigh.state & (NUD_PERMANENT | NUD_NOARP):
        return  # only an administrator changes those
    now = cpu.now()
    changed = neigh.mac != mac
    if changed and neigh.state & NUD_VALID and now - neigh.updated_ns < LOCKTIME_NS:
        return
    was_valid = bool(neigh.state & NUD_VALID)
    neigh.mac = mac
    neigh.updated_ns = now
    if reachable:
        neigh.confirmed_ns = now
        neigh.state = NUD_REACHABLE
        _arm(cpu, neigh, table.reachable_ns)
    elif changed or not was_valid:
        neigh.state = NUD_STALE
        _disarm(cpu, neigh)
    if changed or not was_valid:
        yield from publish(cpu, "neigh", address, mac)
    while neigh.queue:
        yield from _send(cpu, neigh.queue.popleft(), mac)
        yield


def neigh_add(cpu: Cpu, address: bytes, dev: NetDevice, mac: bytes, state: int) -> Context:
    """RTM_NEWNEIGH: an administrator's entry; PERMANENT and NOARP have no timer, and no ARP packet
    changes them."""
    table = cpu.net.neighbours
    neigh = table.entries.get(address)
    if neigh is None:
        neigh = table.entries[address] = Neighbour(address, dev)
    _disarm(cpu, neigh)
    neigh.dev, neigh.mac, neigh.state = dev, mac or neigh.mac, state
    neigh.updated_ns = neigh.confirmed_ns = cpu.now()
    if state == NUD_REACHABLE:
        _arm(cpu, neigh, table.reachable_ns)
    yield from publish(cpu, "neigh", address, neigh.mac)
    while neigh.queue:
        yield from _send(cpu, neigh.queue.popleft(), neigh.mac)
        yield


def neigh_delete(cpu: Cpu, neigh: Neighbour) -> Context:
    """RTM_DELNEIGH: it fails what waits for it, and is gone."""
    _disarm(cpu, neigh)
    yield from _failed(cpu, neigh)
    if cpu.net.neighbours.entries.get(neigh.address) is neigh:
        del cpu.net.neighbours.entries[neigh.address]


def _arm(cpu: Cpu, neigh: Neighbour, delay_ns: int) -> None:
    if neigh.timer is None:
        neigh.timer = timer_setup(cpu, lambda cpu: _timer(cpu, neigh), 0, "neigh_timer_handler")
    delay_jiffies = max(1, delay_ns * cpu.params.hz // 1_000_000_000)
    cpu.timers.mod_timer(neigh.timer, cpu.jiffies() + delay_jiffies)


def _disarm(cpu: Cpu, neigh: Neighbour) -> None:
    if neigh.timer is not None:
        cpu.timers.del_timer(neigh.timer)


def _timer(cpu: Cpu, neigh: Neighbour) -> Context:
    """neigh_timer_handler."""
    now, reachable_ns = cpu.now(), cpu.net.neighbours.reachable_ns
    if neigh.state == NUD_REACHABLE:
        if now - neigh.confirmed_ns < reachable_ns:
            _arm(cpu, neigh, neigh.confirmed_ns + reachable_ns - now)
        elif now - neigh.used_ns < DELAY_PROBE_NS:
            neigh.state = NUD_DELAY
            neigh.updated_ns = now
            _arm(cpu, neigh, DELAY_PROBE_NS)
        else:
            neigh.state = NUD_STALE
    elif neigh.state == NUD_DELAY:
        if now - neigh.confirmed_ns < DELAY_PROBE_NS:
            neigh.state = NUD_REACHABLE
            _arm(cpu, neigh, reachable_ns)
        else:
            neigh.state = NUD_PROBE
            neigh.probes = 0
            yield from _solicit(cpu, neigh)
            _arm(cpu, neigh, RETRANS_NS)
    elif neigh.state in (NUD_INCOMPLETE, NUD_PROBE):
        limit = MCAST_SOLICIT if neigh.state == NUD_INCOMPLETE else UCAST_SOLICIT
        if neigh.probes >= limit:
            yield from _failed(cpu, neigh)
        else:
            yield from _solicit(cpu, neigh)
            _arm(cpu, neigh, RETRANS_NS)


def _failed(cpu: Cpu, neigh: Neighbour) -> Context:
    was_valid = bool(neigh.state & NUD_VALID)
    neigh.state = NUD_FAILED
    if was_valid:
        yield from publish(cpu, "neigh", neigh.address, None)
    while neigh.queue:
        skb = neigh.queue.popleft()
        yield from cpu.net.neighbours.error_report(cpu, skb)
        kfree_skb_reason(cpu, skb, "NEIGH_FAILED")
        yield


def _solicit(cpu: Cpu, neigh: Neighbour) -> Context:
    """Send one ARP request: broadcast while the MAC is unknown, unicast to verify it."""
    neigh.probes += 1
    known = neigh.mac if neigh.state == NUD_PROBE else None
    yield from cpu.net.neighbours.solicit(cpu, neigh, known)
