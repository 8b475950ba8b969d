"""A socket goes with its task to another CPU, and nothing that is on its way to it is lost.

In Linux a socket belongs to no CPU. Here its queues are its owner's: they are packed with the task
(``sock_pack``) and unpacked where that goes on (``sock_unpack``). Until it is known to be there,
the old owner keeps queueing; then it sends what came meanwhile after it, and tells all CPUs whose
the socket is (``sock_moved``). Whoever has not heard of it yet sends to the old owner, which passes
it on by its replica (``handover``).

A datagram is counted as delivered once, by the CPU that queued it first; what moves is not handed
over in the ledger's sense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.net.af_packet import PacketSock
from nodes.cpu.kernel.net.handover import SOCK_MOVE_SKB, TYPE_SHIFT, skb_of
from nodes.cpu.kernel.net.icmp import error_record
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.net.socket import Socket, SocketError, sk_dst_reset
from nodes.cpu.kernel.net.udp import UdpSock
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import queue_remote_wakeup
from nodes.cpu.kernel.tables import KINDS, publish

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu


def sock_pack(sock: Socket) -> Any:
    """The socket with its unread queues, which are empty then, as plain values."""
    unread = [
        (skb.frame, skb.dev.ifindex, skb.tstamp_ns, skb.pkt_type) for skb in sock.receive_queue
    ]
    errors = [tuple(error) for error in sock.error_queue]
    sock.receive_queue.clear()
    sock.error_queue.clear()
    if isinstance(sock, UdpSock):
        own: tuple[Any, ...] = (
            sock.address, sock.port, sock.peer, sock.peer_port, sock.pid, sock.name, sock.error,
            sock.pmtudisc, sock.inet_id,
        )  # fmt: skip
    elif isinstance(sock, PacketSock):
        own = (sock.ethertype,)
    else:
        own = (sock.ident, sock.icmp_filter, sock.own_replies)
    return type(sock).__name__, sock.number, sock.ifindex, sock.drops, own, unread, errors


def sock_unpack(cpu: Cpu, packed: Any) -> Socket:
    """The socket is this CPU's from now on; the others hear of it from its old owner."""
    kind, number, ifindex, drops, own, unread, errors = packed
    sock: Socket
    if kind == UdpSock.__name__:
        sock = udp = UdpSock(number, ifindex)
        udp.address, udp.port, udp.peer, udp.peer_port, udp.pid, udp.name = own[:6]
        udp.error, udp.pmtudisc, udp.inet_id = own[6:]
    elif kind == PacketSock.__name__:
        sock = PacketSock(number, ifindex, own[0])
    else:
        sock = Socket(number, own[0], ifindex, own[1])
        sock.own_replies = own[2]
    sock.drops = drops
    for frame, device, tstamp_ns, pkt_type in unread:
        skb = skb_of(cpu, frame, device, tstamp_ns, pkt_type)
        if skb is not None:
            sock.put_back(skb)
    sock.error_queue.extend(SocketError(*error) for error in errors)
    cpu.net.sockets[number] = sock
    kind, value = sock.announcement(cpu.number)
    KINDS[kind](cpu, number, value)
    return sock


def sock_moved(cpu: Cpu, sock: Socket, target: int) -> Context:
    """The socket has arrived: send what came here meanwhile after it, and say whose it is. The way
    to its peer stays here: the entry is this CPU's, there it is looked up anew."""
    sk_dst_reset(cpu, sock)
    while sock.receive_queue or sock.error_queue:
        if sock.error_queue:
            error = sock.error_queue.popleft()
            record = error_record(sock.number, error)
        else:
            record = yield from _put(cpu, sock, sock.receive_queue.popleft())
        yield from queue_remote_wakeup(cpu, target, record)
    del cpu.net.sockets[sock.number]
    kind, value = sock.announcement(target)
    yield from publish(cpu, kind, sock.number, value)


def _put(cpu: Cpu, sock: Socket, skb: SkBuff) -> Context:
    while (buffer := cpu.handover.put(skb.frame)) is None:
        yield
    dev = skb.dev.ifindex | skb.pkt_type << TYPE_SHIFT
    return [SOCK_MOVE_SKB, buffer, len(skb.frame), sock.number, dev, skb.tstamp_ns]
