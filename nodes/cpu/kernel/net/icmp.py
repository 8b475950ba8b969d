"""ICMP input, after net/ipv4/icmp.c, and delivery to raw sockets (they come first)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.checksum import checksum
from nodes.cpu.kernel.net.handover import sock_handover, socket_owner
from nodes.cpu.kernel.net.ip_output import ip_send_icmp
from nodes.cpu.kernel.net.route import ip_route_output
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.socket import SocketError, sock_queue_rcv, wake_reader
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import queue_remote_wakeup, remote_function
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import REPLY, REQUEST

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

ICMP_ECHOREPLY, ICMP_DEST_UNREACH, ICMP_ECHO = 0, 3, 8
ICMP_HOST_UNREACH = 1
EHOSTUNREACH = 113
SOCK_ERROR = 4
IPTOS_RT_MASK = 0x1C

_DELIVERED = CPU_SCHEMA.index("delivered")
_RCV = TRACEPOINTS["icmp_rcv"].number


def raw_local_deliver(cpu: Cpu, skb: SkBuff) -> Context:
    """A copy to every raw ICMP socket whose filter and device match; returns whether the socket
    that the packet's id belongs to got one: that copy is the packet, the others are further ones
    that the ledger does not follow."""
    icmp_type, ident, found = skb.frame[34], skb.key >> 16 & 0xFFFF, False
    for number, (owner, sock_ident, ifindex, icmp_filter) in list(cpu.net.raw_sockets.items()):
        if icmp_type < 32 and icmp_filter >> icmp_type & 1:
            continue
        if ifindex and ifindex != skb.dev.ifindex:
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
    cpu.trace(_RCV, skb.key, message[0] if message else 0xFF)
    if len(message) < 8 or checksum(message):
        if not taken:
            kfree_skb_reason(cpu, skb, "ICMP_CSUM")
        return
    if message[0] == ICMP_ECHO:
        cpu.words[_DELIVERED + skb.cls] += 1
        yield from _icmp_echo(cpu, skb, message)
    elif not taken:
        kfree_skb_reason(cpu, skb, "NO_SOCKET")


def _icmp_echo(cpu: Cpu, skb: SkBuff, message: bytes) -> Context:
    """Answer an echo request from the address it was sent to: same id, sequence and data."""
    frame = skb.frame
    saddr, daddr, tos = frame[30:34], frame[26:30], frame[15]
    rt = ip_route_output(cpu, daddr, saddr, tos & IPTOS_RT_MASK)
    if rt is None:
        return
    body = b"\0\0\0\0" + message[4:]
    reply = b"\0\0" + checksum(body).to_bytes(2, "big") + message[4:]
    yield from ip_send_icmp(cpu, rt, reply, saddr, daddr, tos=tos, sock=False)


def unreachable(cpu: Cpu, skb: SkBuff) -> Context:
    """The neighbour could not be resolved: tell the socket that sent the packet.

    Linux sends itself an ICMP host-unreachable; what arrives at the socket is the same entry of
    its error queue, with our own address as the offender."""
    if skb.cls != REQUEST:
        return
    ident, sequence = skb.key >> 16 & 0xFFFF, skb.key & 0xFFFF
    offender = int.from_bytes(skb.frame[26:30], "big")
    for number, (owner, sock_ident, _, _) in list(cpu.net.raw_sockets.items()):
        if sock_ident != ident:
            continue
        if owner == cpu.number:
            _queue_error(cpu, number, sequence, offender)
        else:
            yield from queue_remote_wakeup(cpu, owner, [SOCK_ERROR, number, sequence, offender])


def _queue_error(cpu: Cpu, number: int, sequence: int, offender: int) -> None:
    sock = cpu.net.sockets.get(number)
    if sock is not None:
        sock.error_queue.append(
            SocketError(
                EHOSTUNREACH,
                ICMP_DEST_UNREACH,
                ICMP_HOST_UNREACH,
                offender.to_bytes(4, "big"),
                sequence,
            )
        )
        wake_reader(cpu, sock)


@remote_function(SOCK_ERROR)
def _remote_error(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    owner = socket_owner(cpu, record[1])
    if owner is not None:
        return queue_remote_wakeup(cpu, owner, record)
    _queue_error(cpu, record[1], record[2], record[3])
    return None
