"""ICMP, after net/ipv4/icmp.c: messages that arrive, errors that leave; and delivery to raw sockets
(they come first).

Errors that arrive (types 3, 4, 11, 12) go to the socket whose packet they quote. A redirect is
counted and ignored, as with accept_redirects = 0; no path MTU is learned. Errors that leave are
limited: per host (icmp_ratelimit 1000 ms, a burst of six) and, behaviour ``icmp_global_limit``, in
all (icmp_msgs_per_sec 1000, icmp_msgs_burst 50; since 3.18). In Linux these buckets are the
machine's, here each CPU has its own.
"""

from __future__ import annotations

from errno import (
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EMSGSIZE,
    ENETUNREACH,
    ENONET,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPROTO,
)
from typing import TYPE_CHECKING

from nodes.checksum import checksum
from nodes.cpu.kernel.net.handover import sock_handover, socket_owner
from nodes.cpu.kernel.net.ip_output import (
    IP_PMTUDISC_DONT,
    ip_send_icmp,
)
from nodes.cpu.kernel.net.protocols import (
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    IPPROTO_ICMP,
    IPPROTO_UDP,
)
from nodes.cpu.kernel.net.route import inet_iif, ip_route_output
from nodes.cpu.kernel.net.skbuff import PACKET_HOST, PACKET_OUTGOING, SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.snmp import snmp_inc
from nodes.cpu.kernel.net.socket import SocketError, sock_queue_rcv, wake_reader
from nodes.cpu.kernel.net.udp_table import udp_lookup
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import queue_remote_wakeup, remote_function
from nodes.cpu.page import CPU_SCHEMA, ICMP_TYPES
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import REPLY

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

ICMP_HOST_UNREACH, ICMP_PROT_UNREACH, ICMP_PORT_UNREACH, ICMP_FRAG_NEEDED = 1, 2, 3, 4
ICMP_EXC_FRAGTIME = 1
SOCK_ERROR = 4
IPTOS_RT_MASK = 0x1C
IPTOS_TOS_MASK, IPTOS_PREC_INTERNETCONTROL = 0x1E, 0xC0
#: What an error message may quote fits with it into the smallest packet that all hosts take.
ICMP_TOTAL_MAX = 576

#: icmp_err_convert: errno of each code of an unreachable, and whether it is fatal.
ICMP_ERR_CONVERT = (
    (ENETUNREACH, False), (EHOSTUNREACH, False), (ENOPROTOOPT, True), (ECONNREFUSED, True),
    (EMSGSIZE, False), (EOPNOTSUPP, False), (ENETUNREACH, True), (EHOSTDOWN, True),
    (ENONET, True), (ENETUNREACH, True), (EHOSTUNREACH, True), (ENETUNREACH, False),
    (EHOSTUNREACH, False), (EHOSTUNREACH, True), (EHOSTUNREACH, True), (EHOSTUNREACH, True),
)  # fmt: skip
#: Error messages: they are not answered by another, and are what sockets hear of.
_ERRORS = (
    ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_REDIRECT, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB,
)  # fmt: skip

RATELIMIT_NS, BURST = 1_000_000_000, 6
GLOBAL_PER_SEC, GLOBAL_BURST = 1000, 50
#: inet_peers that a CPU remembers; at the limit all are forgotten.
PEERS_MAX = 256

_DELIVERED = CPU_SCHEMA.index("delivered")
_ICMP_IN = CPU_SCHEMA.index("icmp_in")
_ERRORS_OUT = CPU_SCHEMA.index("icmp_errors_out")
_RCV = TRACEPOINTS["icmp_rcv"].number


class RateLimit:
    """The token buckets of one CPU: time in ns, as inet_peer has jiffies."""

    def __init__(self) -> None:
        self.peers: dict[bytes, tuple[int, int]] = {}  # (tokens, when)
        self.credit, self.stamp = 0, -(1 << 62)

    def allows(self, now_ns: int, daddr: bytes, global_limit: bool) -> str:
        """icmp_global_allow and inet_peer_xrlim_allow; the counter of what forbids it."""
        if global_limit and not self._global_allow(now_ns):
            return "Icmp OutRateLimitGlobal"
        tokens, when = self.peers.get(daddr, (BURST * RATELIMIT_NS, now_ns))
        tokens = min(tokens + now_ns - when, BURST * RATELIMIT_NS)
        allowed = tokens >= RATELIMIT_NS
        if len(self.peers) >= PEERS_MAX:
            self.peers.clear()
        self.peers[daddr] = (tokens - RATELIMIT_NS * allowed, now_ns)
        return "" if allowed else "Icmp OutRateLimitHost"

    def _global_allow(self, now_ns: int) -> bool:
        gained = min(now_ns - self.stamp, 1_000_000_000) * GLOBAL_PER_SEC // 1_000_000_000
        if gained:
            self.credit, self.stamp = min(self.credit + gained, GLOBAL_BURST), now_ns
        if not self.credit:
            return False
        self.credit -= 1
        return True


def raw_local_deliver(cpu: Cpu, skb: SkBuff) -> Context:
    """A copy to every raw ICMP socket whose filter and device match; returns whether the socket
    that the packet's id belongs to got one: that copy is the packet, the others are further ones
    that the ledger does not follow."""
    icmp_type, ident, found = skb.frame[34], skb.key >> 16 & 0xFFFF, False
    for number, (owner, sock_ident, ifindex, icmp_filter, own) in list(cpu.net.raw_sockets.items()):
        if icmp_type < 32 and icmp_filter >> icmp_type & 1:
            continue
        if own and sock_ident != ident and icmp_type == ICMP_ECHOREPLY:
            continue
        if ifindex and ifindex != inet_iif(cpu, skb, cpu.params.raw_iif):
            continue
        mine = sock_ident == ident and skb.cls == REPLY
        skb.tstamp_ns = cpu.now()
        if owner == cpu.number:
            sock = cpu.net.sockets.get(number)
            if sock is None:
                continue  # closed since we began to look
            sock_queue_rcv(cpu, sock, skb)
        else:
            yield from sock_handover(cpu, owner, number, skb, mine)
        found = found or mine
        yield
    return found


def icmp_rcv(cpu: Cpu, skb: SkBuff, taken: bool) -> Context:
    """Verify and dispatch by type; an echo reply has nothing left to do here."""
    message = skb.frame[34:]
    kind = message[0] if message else 0xFF
    if cpu.trace_mask >> _RCV & 1:
        cpu.trace(_RCV, skb.key, kind)
    cpu.words[_ICMP_IN + (kind if kind < ICMP_TYPES else ICMP_TYPES)] += 1
    if len(message) < 8 or checksum(message):
        snmp_inc(cpu, "Icmp InErrors")
        if len(message) >= 8:
            snmp_inc(cpu, "Icmp InCsumErrors")
        if not taken:
            kfree_skb_reason(cpu, skb, "ICMP_CSUM")
        return
    if kind == ICMP_ECHO:
        cpu.words[_DELIVERED + skb.cls] += 1
        yield from _icmp_echo(cpu, skb, message)
    elif kind == ICMP_ECHOREPLY:
        if not taken:
            kfree_skb_reason(cpu, skb, "NO_SOCKET")
    elif kind in _ERRORS and kind != ICMP_REDIRECT:
        yield from _icmp_unreach(cpu, skb, message)
    elif kind >= ICMP_TYPES:
        snmp_inc(cpu, "Icmp InErrors")


def _icmp_echo(cpu: Cpu, skb: SkBuff, message: bytes) -> Context:
    """Answer an echo request from the address it was sent to: same id, sequence and data."""
    frame = skb.frame
    saddr, daddr, tos = frame[30:34], frame[26:30], frame[15]
    rt = ip_route_output(cpu, daddr, saddr, tos & IPTOS_RT_MASK)
    if rt is None:
        return
    body = b"\0\0\0\0" + message[4:]
    reply = b"\0\0" + checksum(body).to_bytes(2, "big") + message[4:]
    yield from ip_send_icmp(
        cpu, rt, reply, saddr, daddr, tos=tos, sock=False, pmtudisc=IP_PMTUDISC_DONT
    )


# ---------------------------------------------------------------- errors that leave


def icmp_send(cpu: Cpu, skb: SkBuff, kind: int, code: int, info: int = 0) -> Context:
    """Tell the sender of ``skb`` that it did not work; ``info`` is the header's last word."""
    frame = skb.frame
    if skb.pkt_type not in (PACKET_HOST, PACKET_OUTGOING) or frame[30] >= 224:
        return
    if frame[20] & 0x1F or frame[21]:
        return  # not of a fragment behind the first
    if frame[23] == IPPROTO_ICMP and (frame[34] in _ERRORS or frame[34] >= ICMP_TYPES):
        return  # no error about an error
    saddr, daddr = frame[30:34], frame[26:30]
    if saddr not in cpu.net.addresses and saddr[0] != 127:
        saddr = b""
    limited = not (kind == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED)
    if limited and daddr not in cpu.net.addresses:
        global_limit = cpu.params.icmp_global_limit == "yes"
        counter = cpu.net.icmp_limit.allows(cpu.now(), daddr, global_limit)
        if counter:
            snmp_inc(cpu, counter)
            return
    tos = frame[15] & IPTOS_TOS_MASK | IPTOS_PREC_INTERNETCONTROL
    rt = ip_route_output(cpu, daddr, saddr, tos & IPTOS_RT_MASK)
    if rt is None:
        snmp_inc(cpu, "Icmp OutErrors")
        return
    room = min(rt.dev.mtu, ICMP_TOTAL_MAX) - 28
    body = info.to_bytes(4, "big") + frame[14:][:room]
    head = bytes((kind, code))
    message = head + checksum(head + b"\0\0" + body).to_bytes(2, "big") + body
    cpu.words[_ERRORS_OUT + kind] += 1
    yield from ip_send_icmp(
        cpu, rt, message, saddr or rt.source, daddr, tos=tos, sock=False,
        pmtudisc=IP_PMTUDISC_DONT,
    )  # fmt: skip


# ---------------------------------------------------------------- errors that arrive


def _icmp_unreach(cpu: Cpu, skb: SkBuff, message: bytes) -> Context:
    """icmp_unreach: what it quotes says whose packet it was."""
    packet = message[8:]
    kind, code = message[0], message[1]
    if len(packet) < 28 or packet[0] != 0x45:
        snmp_inc(cpu, "Icmp InErrors")
        return
    if kind == ICMP_DEST_UNREACH and code >= len(ICMP_ERR_CONVERT):
        return
    yield from _sock_err(cpu, packet, skb.frame[26:30], kind, code)


def unreachable(cpu: Cpu, skb: SkBuff) -> Context:
    """arp_error_report, ipv4_link_failure: the neighbour could not be resolved. Whoever sent
    the packet is told, that is, we ourselves: by a message through lo."""
    yield from icmp_send(cpu, skb, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH)


def _sock_err(cpu: Cpu, packet: bytes, offender: bytes, kind: int, code: int) -> Context:
    """raw_err and udp_err: the sockets that may have sent ``packet`` (an IPv4 header and eight
    bytes at least)."""
    if packet[6] & 0x1F or packet[7]:
        return  # it has no ports, and no id
    sequence, found = 0, []
    if packet[9] == IPPROTO_ICMP and packet[20] == ICMP_ECHO:
        ident, sequence = packet[24] << 8 | packet[25], packet[26] << 8 | packet[27]
        for number, (owner, sock_ident, *_) in cpu.net.raw_sockets.items():
            if sock_ident == ident:
                found.append((number, owner))
    elif packet[9] == IPPROTO_UDP:
        sport, dport = packet[20] << 8 | packet[21], packet[22] << 8 | packet[23]
        there = udp_lookup(cpu, (packet[12:16], sport), (packet[16:20], dport), 0)
        if there is not None:
            found.append((there.number, there.owner))
    what = kind << 8 | code
    for number, owner in found:
        record = [SOCK_ERROR, number, sequence, int.from_bytes(offender, "big"), what]
        if owner == cpu.number:
            _queue_error(cpu, record)
        else:
            yield from queue_remote_wakeup(cpu, owner, record)


def _queue_error(cpu: Cpu, record: list[int]) -> None:
    """ip_icmp_error: an entry of the socket's error queue."""
    sock = cpu.net.sockets.get(record[1])
    if sock is None:
        return
    kind, code = record[4] >> 8, record[4] & 0xFF
    errno = EPROTO if kind == ICMP_PARAMETERPROB else EHOSTUNREACH
    if kind == ICMP_DEST_UNREACH:
        errno = ICMP_ERR_CONVERT[code][0]
    offender = record[3].to_bytes(4, "big")
    if sock.hears_of(errno, kind, code):
        sock.error_queue.append(SocketError(errno, kind, code, offender, record[2]))
        wake_reader(cpu, sock)


def error_record(number: int, error: SocketError) -> list[int]:
    """The record by which an entry of an error queue follows its socket."""
    offender = int.from_bytes(error.offender, "big")
    what = error.icmp_type << 8 | error.icmp_code
    return [SOCK_ERROR, number, error.sequence, offender, what]


@remote_function(SOCK_ERROR)
def _remote_error(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    owner = socket_owner(cpu, record[1])
    if owner is not None:
        return queue_remote_wakeup(cpu, owner, record[:5])
    _queue_error(cpu, record)
    return None
