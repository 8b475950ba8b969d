"""Reassembly of fragmented datagrams, after net/ipv4/ip_fragment.c and inet_fragment.c.

A queue (ipq) for each datagram that is on its way: it ends when every byte is there, when its time
(ipfrag_time, 30 s) is over, or when the memory of all queues passes ipfrag_high_thresh. Whoever
waited in vain is told by an ICMP "fragment reassembly time exceeded", if the first fragment came.

Behaviours: ``ipfrag_limit``: *evict* throws the oldest queues away until low_thresh is
reached, *refuse* (4.17) takes no fragment while there is too much; ``frag_overlap``: *trim* what
overlaps, or (4.20) *discard* the whole queue, while an exact copy is ignored.

Multikernel: the queues belong to the boot CPU, because fragments of one datagram may arrive over
two slaves, on two CPUs; others hand theirs over. Left out: options, ``ipfrag_max_dist``, ECN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.checksum import checksum
from nodes.cpu.kernel.net.icmp import ICMP_EXC_FRAGTIME, icmp_send
from nodes.cpu.kernel.net.ip_output import IP_MAX_MTU, IP_MF, IP_OFFSET
from nodes.cpu.kernel.net.protocols import ICMP_TIME_EXCEEDED
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.snmp import snmp_inc
from nodes.cpu.kernel.net.socket import skb_truesize
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_INFO, printk
from nodes.cpu.kernel.timer import Timer, timer_setup

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_UNKNOWN = -1


class Ipq:
    """struct ipq: one datagram in pieces. ``pieces`` are (offset, data), in their order, without
    overlap; ``skbs`` are the frames that brought them."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.pieces: list[tuple[int, bytes]] = []
        self.skbs: list[SkBuff] = []
        self.first: SkBuff | None = None  # INET_FRAG_FIRST_IN
        self.last_in = False
        self.length = 0  # q.len: as far as is known
        self.mem = 0
        self.timer: Timer

    @property
    def meat(self) -> int:
        return sum(len(data) for _, data in self.pieces)


class Frags:
    """The queues, the one that was used last at the end, and what they take."""

    def __init__(self) -> None:
        self.queues: dict[bytes, Ipq] = {}
        self.mem = 0


def ip_defrag(cpu: Cpu, skb: SkBuff) -> SkBuff | None:
    """Take a fragment; the whole datagram, if it was the last that was missing."""
    frags = cpu.net.frags
    snmp_inc(cpu, "Ip ReasmReqds")
    if frags.mem > cpu.sysctl.ipfrag_high_thresh:
        if cpu.params.ipfrag_limit == "refuse":
            snmp_inc(cpu, "Ip ReasmFails")
            kfree_skb_reason(cpu, skb, "NOMEM")
            return None
        _ip_evictor(cpu)
    frame = skb.frame
    qp = _ip_find(cpu, frame[26:34] + frame[18:20] + frame[23:24])
    reason = _frag_queue(cpu, qp, skb)
    if reason:
        snmp_inc(cpu, "Ip ReasmFails", reason != "DUP_FRAG")
        kfree_skb_reason(cpu, skb, reason)
        return None
    if qp.first is None or not qp.last_in or qp.meat != qp.length:
        return None
    return _frag_reasm(cpu, qp, skb)


def _ip_find(cpu: Cpu, key: bytes) -> Ipq:
    queues = cpu.net.frags.queues
    qp = queues.pop(key, None)
    if qp is None:
        qp = made = Ipq(key)
        qp.timer = timer_setup(cpu, lambda cpu: _ip_expire(cpu, made), 0, "ip_expire")
        cpu.timers.mod_timer(qp.timer, cpu.jiffies() + cpu.sysctl.ipfrag_time * cpu.params.hz)
    queues[key] = qp
    return qp


def _frag_queue(cpu: Cpu, qp: Ipq, skb: SkBuff) -> str:
    """ip_frag_queue: put it into its place; the reason why it is of no use, or nothing."""
    frame = skb.frame
    flags = frame[20] << 8 | frame[21]
    offset = (flags & IP_OFFSET) << 3
    data = frame[34 : 14 + (frame[16] << 8 | frame[17])]
    end = offset + len(data)
    if not flags & IP_MF:
        if end < qp.length or (qp.last_in and end != qp.length):
            return "IP_INHDR"
        qp.last_in, qp.length = True, end
    else:
        data = data[: len(data) & ~7]  # what does not fill eight bytes cannot be placed
        end = offset + len(data)
        if end > qp.length:
            if qp.last_in:
                return "IP_INHDR"
            qp.length = end
    if not data:
        return "IP_INHDR"
    reason = _OVERLAP[cpu.params.frag_overlap](cpu, qp, offset, data)
    if reason:
        return reason
    qp.skbs.append(skb)
    qp.mem += skb_truesize(skb)
    cpu.net.frags.mem += skb_truesize(skb)
    if not offset:
        qp.first = skb
    return ""


def _insert_trimmed(_cpu: Cpu, qp: Ipq, offset: int, data: bytes) -> str:
    """What came first before this place stays, what lies behind it gives way."""
    end = offset + len(data)
    before = [piece for piece in qp.pieces if piece[0] < offset]
    if before:
        over = before[-1][0] + len(before[-1][1]) - offset
        if over > 0:
            offset, data = offset + over, data[over:]
    if not data:
        return "DUP_FRAG"
    pieces = [*before, (offset, data)]
    for at, old in qp.pieces[len(before) :]:
        if at + len(old) > end:
            cut = max(0, end - at)
            pieces.append((at + cut, old[cut:]))
    qp.pieces = pieces
    return ""


def _insert_or_discard(cpu: Cpu, qp: Ipq, offset: int, data: bytes) -> str:
    """inet_frag_queue_insert: a run of bytes that are there already is a copy; a part is foul."""
    end = offset + len(data)
    runs: list[list[int]] = []
    for at, old in qp.pieces:
        if runs and runs[-1][1] == at:
            runs[-1][1] += len(old)
        else:
            runs.append([at, at + len(old)])
    for start, stop in runs:
        if offset >= start and end <= stop:
            return "DUP_FRAG"
        if offset < stop and end > start:
            _kill(cpu, qp, "IP_INHDR")
            return "IP_INHDR"
    qp.pieces.append((offset, data))
    qp.pieces.sort()
    return ""


_OVERLAP = {"trim": _insert_trimmed, "discard": _insert_or_discard}


def _frag_reasm(cpu: Cpu, qp: Ipq, skb: SkBuff) -> SkBuff | None:
    """ip_frag_reasm: one datagram from the pieces; the frames besides the first are done with."""
    first = qp.first
    assert first is not None
    total = 20 + qp.length
    if total > IP_MAX_MTU:
        address = ".".join(str(octet) for octet in first.frame[26:30])
        printk(cpu, f"Oversized IP packet from {address}", KERN_INFO)
        snmp_inc(cpu, "Ip ReasmFails")
        _kill(cpu, qp, "IP_INHDR")
        return None
    _unlink(cpu, qp)
    head = first.frame
    header = (
        head[14:16] + total.to_bytes(2, "big") + head[18:20] + b"\0\0" + head[22:24] + b"\0\0"
        + head[26:34]
    )  # fmt: skip
    check = checksum(header).to_bytes(2, "big")
    payload = b"".join(data for _, data in qp.pieces)
    first.frame = head[:14] + header[:10] + check + header[12:] + payload
    first.dev = skb.dev
    snmp_inc(cpu, "Ip ReasmOKs")
    return first


def _ip_expire(cpu: Cpu, qp: Ipq) -> Context:
    """The rest did not come in time."""
    snmp_inc(cpu, "Ip ReasmTimeout")
    snmp_inc(cpu, "Ip ReasmFails")
    _unlink(cpu, qp)
    if qp.first is not None:
        yield from icmp_send(cpu, qp.first, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME)
    for skb in qp.skbs:
        kfree_skb_reason(cpu, skb, "FRAG_REASM_TIMEOUT")
        yield


def _ip_evictor(cpu: Cpu) -> None:
    """The oldest queues go until there is room."""
    frags = cpu.net.frags
    while frags.queues and frags.mem > cpu.sysctl.ipfrag_low_thresh:
        snmp_inc(cpu, "Ip ReasmFails")
        _kill(cpu, next(iter(frags.queues.values())), "NOMEM")


def _unlink(cpu: Cpu, qp: Ipq) -> None:
    cpu.timers.del_timer(qp.timer)
    if cpu.net.frags.queues.get(qp.key) is qp:
        del cpu.net.frags.queues[qp.key]
        cpu.net.frags.mem -= qp.mem


def _kill(cpu: Cpu, qp: Ipq, reason: str) -> None:
    _unlink(cpu, qp)
    for skb in qp.skbs:
        kfree_skb_reason(cpu, skb, reason)
    qp.skbs.clear()
