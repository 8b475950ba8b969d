"""Connection tracking: who talks with whom, in one table of all CPUs, and the lock around it.

After net/netfilter/nf_conntrack_core.c (2.6.18: net/ipv4/netfilter/ip_conntrack_core.c). A packet
is looked up once, at PRE_ROUTING or LOCAL_OUT (priority -200), and remembers its connection
(``skb.nfct``). That enters the table when its first packet has got through everything else, at
LOCAL_IN or POST_ROUTING (``confirm``, the last of all). LOCAL_OUT runs in processes, the others in
softirqs too: so whoever writes keeps bottom halves off. Behaviour ``conntrack_lock``:

* *rwlock* (2.6.18): ip_conntrack_lock. A look-up is a reader; entering, leaving and every new
  timeout are writers;
* *spinlock* (3.10): nf_conntrack_lock for entering and leaving; look-ups are RCU readers and take
  nothing, a timeout is moved without it;
* *buckets* (6.1): a lock for each bucket instead of the one.

The table is memory that all CPUs see: atomic words, five an entry, of which the first (both
addresses) is written last and cleared first: a reader without a lock never sees half an entry.
``conntrack_icmp``: 2.6.18 forgets an echo's connection with its last reply. ``conntrack_stream``:
a UDP connection is a stream once there was a reply, in 6.1 once it lasted two seconds.

Different from Linux: a connection has one place, not one for each direction; an entry whose time is
over is not seen any more, and its place is taken by the next (no timers, no gc_worker); there are
128, 8 in a bucket, no early_drop. Left out: TCP (there is none), fragments, ICMP errors (RELATED),
expectations, helpers, NAT, accounting, zones, events; skb->nfctinfo, for which no rule asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel import words
from nodes.cpu.kernel.jiffies import signed_difference
from nodes.cpu.kernel.locks.rwlock import (
    RwLock,
    read_lock,
    read_unlock,
    write_lock,
    write_unlock,
)
from nodes.cpu.kernel.locks.spinlock import Spinlock, spin_lock, spin_unlock
from nodes.cpu.kernel.net.netfilter import (
    LOCAL_IN,
    LOCAL_OUT,
    NF_ACCEPT,
    NF_DROP,
    NF_IP_PRI_CONNTRACK,
    NF_IP_PRI_CONNTRACK_CONFIRM,
    POST_ROUTING,
    PRE_ROUTING,
    nf_register_hook,
    nf_unregister_hook,
)
from nodes.cpu.kernel.net.protocols import ICMP_ECHO, ICMP_ECHOREPLY, IPPROTO_ICMP, IPPROTO_UDP
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_WARNING, printk
from nodes.cpu.kernel.softirq import local_bh_disable, local_bh_enable
from nodes.cpu.kernel.tables import replica

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

BUCKETS, ENTRIES = 16, 8
MAX = BUCKETS * ENTRIES
#: Words of an entry. EXTRA: requests without a reply (ICMP), when it may become a stream (UDP).
ADDRESSES, PORTS, EXPIRES, STATUS, EXTRA, ENTRY_WORDS = range(6)
IPS_SEEN_REPLY, IPS_ASSURED = 1 << 1, 1 << 2
TIMEOUT_S = {IPPROTO_ICMP: 30, IPPROTO_UDP: 30}
STREAM_AFTER_S = 2
#: In 4.x pr_fmt came to a line that had the name already.
_TABLE_FULL = {
    "2.6.18": "ip_conntrack: table full, dropping packet.",
    "3.10": "nf_conntrack: table full, dropping packet",
    "6.1": "nf_conntrack: nf_conntrack: table full, dropping packet",
}
#: Numbers of the table's lock, and of the buckets' (which share a class).
LOCK, BUCKET_LOCKS, BUCKET_CLASS = 24, 224, 25


class Tuple(NamedTuple):
    """nf_conntrack_tuple: one direction."""

    addresses: int  # source << 32 | destination
    ports: int  # protocol << 48 | a << 16 | b: ports, or an echo's type << 32 | identifier << 16

    @property
    def protocol(self) -> int:
        return self.ports >> 48

    @property
    def bucket(self) -> int:
        """hash_conntrack, the same for both directions."""
        both = (self.addresses >> 32 ^ self.addresses) ^ (self.ports >> 16 ^ self.ports) & 0xFFFF
        return (both ^ both >> 8 ^ both >> 4) % BUCKETS

    @property
    def inverse(self) -> Tuple:
        """nf_ct_invert_tuple."""
        turned = (self.addresses & 0xFFFF_FFFF) << 32 | self.addresses >> 32
        if self.protocol == IPPROTO_ICMP:
            return Tuple(turned, self.ports ^ (ICMP_ECHO ^ ICMP_ECHOREPLY) << 32)
        a, b = self.ports >> 16 & 0xFFFF, self.ports & 0xFFFF
        return Tuple(turned, self.protocol << 48 | b << 16 | a)

    @property
    def may_begin(self) -> bool:
        """icmp_new: an echo reply that nobody asked for is INVALID."""
        return self.protocol != IPPROTO_ICMP or self.ports >> 32 & 0xFF == ICMP_ECHO


class NfConn(NamedTuple):
    """struct nf_conn, as a packet remembers it."""

    tuple: Tuple
    entry: int | None  # its place in the table; None: not confirmed, this is its first packet


def get_tuple(frame: bytes) -> Tuple | None:
    """nf_ct_get_tuple; None: the packet is not tracked."""
    protocol = frame[23]
    if protocol not in TIMEOUT_S or (frame[20] << 8 | frame[21]) & 0x3FFF or len(frame) < 42:
        return None
    addresses = int.from_bytes(frame[26:34], "big")
    if protocol == IPPROTO_UDP:
        return Tuple(addresses, protocol << 48 | int.from_bytes(frame[34:38], "big"))
    if frame[34] not in (ICMP_ECHO, ICMP_ECHOREPLY):
        return None
    ident = int.from_bytes(frame[38:40], "big")
    return Tuple(addresses, protocol << 48 | frame[34] << 32 | ident << 16)


class Conntrack:
    """The table as one CPU reaches it."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.rule = cpu.params.conntrack_lock
        self.lock: Spinlock | RwLock
        if self.rule == "rwlock":
            self.lock = RwLock(LOCK, "ip_conntrack_lock")
        else:
            self.lock = Spinlock(LOCK, "nf_conntrack_lock")
        self.locks = [
            Spinlock(BUCKET_LOCKS + n, "nf_conntrack_locks[i]", BUCKET_CLASS)
            for n in range(BUCKETS)
        ]
        self.hooks = (
            (PRE_ROUTING, NF_IP_PRI_CONNTRACK, self.nf_conntrack_in),
            (LOCAL_OUT, NF_IP_PRI_CONNTRACK, self.nf_conntrack_in),
            (LOCAL_IN, NF_IP_PRI_CONNTRACK_CONFIRM, self.nf_conntrack_confirm),
            (POST_ROUTING, NF_IP_PRI_CONNTRACK_CONFIRM, self.nf_conntrack_confirm),
        )

    # -- the lock

    def _begin_write(self, bucket: int) -> Context:
        local_bh_disable(self.cpu)
        if isinstance(self.lock, RwLock):
            yield from write_lock(self.cpu, self.lock)
        else:
            lock = self.locks[bucket] if self.rule == "buckets" else self.lock
            yield from spin_lock(self.cpu, lock)

    def _end_write(self, bucket: int) -> Context:
        if isinstance(self.lock, RwLock):
            yield from write_unlock(self.cpu, self.lock)
        else:
            lock = self.locks[bucket] if self.rule == "buckets" else self.lock
            yield from spin_unlock(self.cpu, lock)
        yield from local_bh_enable(self.cpu)

    # -- entries

    def _entries(self, bucket: int) -> range:
        size = ENTRIES * ENTRY_WORDS
        return range(words.CONNTRACK + bucket * size, words.CONNTRACK + (bucket + 1) * size,
                     ENTRY_WORDS)  # fmt: skip

    def _left(self, entry: int) -> int:
        """Jiffies until its time is over."""
        return signed_difference(self.cpu.ram.atomics.load(entry + EXPIRES), self.cpu.jiffies())

    def _lookup(self, wanted: Tuple) -> tuple[int, bool] | None:
        """A connection's place, and is ``wanted`` its answering direction?"""
        load, inverse = self.cpu.ram.atomics.load, wanted.inverse
        for entry in self._entries(wanted.bucket):
            found = Tuple(load(entry), load(entry + PORTS))
            if found in (wanted, inverse):
                return (entry, found == inverse) if self._left(entry) > 0 else None
        return None

    def find(self, wanted: Tuple) -> Context:
        """nf_conntrack_find_get, a reader; returns what ``_lookup`` does."""
        if not isinstance(self.lock, RwLock):
            return self._lookup(wanted)
        local_bh_disable(self.cpu)
        yield from read_lock(self.cpu, self.lock)
        found = self._lookup(wanted)
        yield from read_unlock(self.cpu, self.lock)
        yield from local_bh_enable(self.cpu)
        return found

    def _refresh(self, entry: int, bucket: int, seconds: int) -> Context:
        """nf_ct_refresh_acct."""
        until = self.cpu.jiffies() + seconds * self.cpu.params.hz
        if self.rule == "rwlock":
            yield from self._begin_write(bucket)
        self.cpu.ram.atomics.store(entry + EXPIRES, until)
        if self.rule == "rwlock":
            yield from self._end_write(bucket)

    def _kill(self, entry: int, bucket: int) -> Context:
        """death_by_timeout, before its time."""
        yield from self._begin_write(bucket)
        self.cpu.ram.atomics.store(entry, 0)
        yield from self._end_write(bucket)

    # -- the hooks

    def nf_conntrack_in(self, cpu: Cpu, _hook: int, skb: SkBuff) -> Context:
        """A packet comes or is sent: what does it do to its connection? One that comes through lo
        knows it: it has been here when it was sent."""
        if getattr(skb, "nfct", None) is not None:
            return NF_ACCEPT
        skb.nfct = None
        wanted = get_tuple(skb.frame)
        if wanted is None:
            return NF_ACCEPT
        found: tuple[int, bool] | None = yield from self.find(wanted)
        if found is None:
            if wanted.may_begin:
                skb.nfct = NfConn(wanted, None)
            return NF_ACCEPT
        entry, reply = found
        skb.nfct = NfConn(wanted, entry)
        packet = self._udp_packet if wanted.protocol == IPPROTO_UDP else self._icmp_packet
        kept = yield from packet(entry, wanted.bucket, reply=reply)
        if kept and reply and not cpu.ram.atomics.load(entry + STATUS) & IPS_SEEN_REPLY:
            cpu.ram.atomics.test_and_set(entry + STATUS, IPS_SEEN_REPLY)
        return NF_ACCEPT

    def _icmp_packet(self, entry: int, bucket: int, *, reply: bool) -> Context:
        """Returns whether the connection goes on."""
        atomics = self.cpu.ram.atomics
        if self.cpu.params.conntrack_icmp == "until-answered":
            if reply:
                last = atomics.add(entry + EXTRA, -1) == 0
                if last:
                    yield from self._kill(entry, bucket)
                return not last
            atomics.add(entry + EXTRA, 1)
        yield from self._refresh(entry, bucket, TIMEOUT_S[IPPROTO_ICMP])
        return True

    def _udp_packet(self, entry: int, bucket: int, *, reply: bool) -> Context:
        """Whichever way it goes: was there a reply before it?"""
        cpu, atomics = self.cpu, self.cpu.ram.atomics
        status, seconds = atomics.load(entry + STATUS), TIMEOUT_S[IPPROTO_UDP]
        if status & IPS_SEEN_REPLY and (
            cpu.params.conntrack_stream == "any-reply"
            or signed_difference(cpu.jiffies(), atomics.load(entry + EXTRA)) > 0
        ):
            seconds = cpu.params.conntrack_stream_s
            if not status & IPS_ASSURED:
                atomics.test_and_set(entry + STATUS, IPS_ASSURED)
        yield from self._refresh(entry, bucket, seconds)
        return True

    def nf_conntrack_confirm(self, cpu: Cpu, _hook: int, skb: SkBuff) -> Context:
        """__nf_conntrack_confirm: the first packet of a connection got through."""
        # one that was under way when the hooks came has nothing there
        ct: NfConn | None = getattr(skb, "nfct", None)
        if ct is None or ct.entry is not None:
            return NF_ACCEPT
        bucket = ct.tuple.bucket
        yield from self._begin_write(bucket)
        entry = self._insert(ct.tuple)
        yield from self._end_write(bucket)
        if entry is not None:
            skb.nfct = NfConn(ct.tuple, entry)
            return NF_ACCEPT
        printk(cpu, _TABLE_FULL[cpu.params.log_format], KERN_WARNING)
        return NF_DROP

    def _insert(self, new: Tuple) -> int | None:
        """Under the lock; its place. Another CPU may have been faster; None: there is no room."""
        atomics, jiffies, hz = self.cpu.ram.atomics, self.cpu.jiffies(), self.cpu.params.hz
        found = self._lookup(new)
        if found is not None:
            return found[0]
        for entry in self._entries(new.bucket):
            if atomics.load(entry) and self._left(entry) > 0:
                continue
            icmp = new.protocol == IPPROTO_ICMP
            atomics.store(entry, 0)
            atomics.store(entry + PORTS, new.ports)
            atomics.store(entry + EXPIRES, jiffies + TIMEOUT_S[new.protocol] * hz)
            atomics.store(entry + STATUS, 0)
            atomics.store(entry + EXTRA, 1 if icmp else jiffies + STREAM_AFTER_S * hz)
            atomics.store(entry, new.addresses)
            return entry
        return None

    # -- who looks

    def row(self, entry: int) -> dict[str, Any]:
        load = self.cpu.ram.atomics.load
        addresses, ports, status = load(entry), load(entry + PORTS), load(entry + STATUS)
        return {
            "protocol": ports >> 48,
            "source": _dotted(addresses >> 32),
            "destination": _dotted(addresses & 0xFFFF_FFFF),
            "a": ports >> 16 & 0xFFFF,
            "b": ports & 0xFFFF,
            "seconds": self._left(entry) // self.cpu.params.hz,
            "seen_reply": bool(status & IPS_SEEN_REPLY),
            "assured": bool(status & IPS_ASSURED),
        }

    def shown(self) -> list[dict[str, Any]]:
        load = self.cpu.ram.atomics.load
        places = [entry for n in range(BUCKETS) for entry in self._entries(n)]
        return [self.row(entry) for entry in places if load(entry) and self._left(entry) > 0]


def _dotted(address: int) -> str:
    return ".".join(str(octet) for octet in address.to_bytes(4, "big"))


@replica("nf_conntrack")
def apply_nf_conntrack(cpu: Cpu, _key: int, loaded: bool) -> None:
    """The module came or went: its hooks on this CPU."""
    table = cpu.net.conntrack
    if table is not None:
        for hook, _, function in table.hooks:
            nf_unregister_hook(cpu, hook, function)
    cpu.net.conntrack = table = Conntrack(cpu) if loaded else None
    if table is not None:
        for hook, priority, function in table.hooks:
            nf_register_hook(cpu, hook, priority, function)


def rows(cpu: Cpu) -> dict[str, Any] | None:
    """For /proc; None while the module is not loaded."""
    table = cpu.net.conntrack
    if table is None:
        return None
    return {"proc": cpu.params.conntrack_proc, "rows": table.shown()}
