"""Sockets: their queues and how a task waits for them (net/core/sock.c), and raw ICMP sockets,
which ping opens (net/ipv4/raw.c); ``net.udp`` has the others.

A socket belongs to the CPU of its task; every other CPU holds a replica of the little that matching
needs. Data for a socket of another CPU is handed over (``net.handover``).
"""

from __future__ import annotations

from collections import deque
from errno import ENETUNREACH
from typing import TYPE_CHECKING, Any, NamedTuple

from nodes.cpu.kernel.hrtimer import schedule_hrtimeout
from nodes.cpu.kernel.net.dst import DstEntry, dst_check, dst_release
from nodes.cpu.kernel.net.protocols import IPPROTO_ICMP
from nodes.cpu.kernel.net.route import Rtable, ip_route_output
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Task, wake_up_process
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

SKB_TRUESIZE = 768
RCVBUF_BYTES = 212992
#: IXGBE_RX_HDR_SIZE: a frame up to here lies in the skb itself.
COPIED_BYTES = 256

_DELIVERED = CPU_SCHEMA.index("delivered")
_DUPS = CPU_SCHEMA.index("sock_dups")
_QUEUE_RCV = TRACEPOINTS["sock_queue_rcv"].number


class SocketError(NamedTuple):
    """An entry of the socket's error queue (IP_RECVERR)."""

    errno: int
    icmp_type: int
    icmp_code: int
    offender: bytes  # address the error came from
    sequence: int  # of the echo request it is about


class RawSocket(NamedTuple):
    """What every CPU knows of a raw socket."""

    owner: int  # CPU of its task
    ident: int
    ifindex: int  # 0: any
    icmp_filter: int
    own_replies: bool


def skb_truesize(skb: SkBuff) -> int:
    """What a received frame takes: the driver copies small ones, else half a page is the skb's."""
    length = len(skb.frame)
    return (
        SKB_TRUESIZE if length <= COPIED_BYTES else SKB_TRUESIZE - COPIED_BYTES + max(2048, length)
    )


class Socket:
    """struct sock of a raw ICMP socket. ``ident`` is the echo id its program uses; the kernel does
    not match by it, the ledger does: other programs' copies are duplicates, not deliveries."""

    protocol = IPPROTO_ICMP

    def __init__(self, number: int, ident: int, ifindex: int, icmp_filter: int) -> None:
        self.number = number
        self.ident = ident
        self.ifindex = ifindex  # SO_BINDTODEVICE, 0: any
        self.icmp_filter = icmp_filter  # bit set: that type is blocked
        self.own_replies = False  # SO_ATTACH_FILTER: see ``sock_attach_filter``
        self.receive_queue: deque[SkBuff] = deque()
        self.error_queue: deque[SocketError] = deque()
        self.rcvbuf = RCVBUF_BYTES
        self.waiter: Task | None = None
        self.drops = 0
        self.sk_dst_cache: DstEntry | None = None  # a reference

    def queue_rcv(self, cpu: Cpu, skb: SkBuff) -> None:
        """sk_backlog_rcv: what arrived for it, here or on another CPU."""
        sock_queue_rcv(cpu, self, skb)

    def put_back(self, skb: SkBuff) -> None:
        """What was queued already, elsewhere, and came with the socket."""
        self.receive_queue.append(skb)

    def hears_of(self, _errno: int, _kind: int, _code: int) -> bool:
        """Does an ICMP error become an entry of the error queue? ping asks for that."""
        return True

    def announcement(self, owner: int) -> tuple[str, Any]:
        """Kind and value of the replica that every CPU holds of it, on CPU ``owner``."""
        return "raw_socket", RawSocket(
            owner, self.ident, self.ifindex, self.icmp_filter, self.own_replies
        )


@replica("raw_socket")
def apply_raw_socket(cpu: Cpu, number: int, value: RawSocket | None) -> None:
    """What every CPU knows of a socket; None: it was closed."""
    if value is None:
        cpu.net.raw_sockets.pop(number, None)
    else:
        cpu.net.raw_sockets[number] = RawSocket(*value)


def sock_open(cpu: Cpu, ident: int, ifindex: int, icmp_filter: int) -> Context:
    """socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) with its options; returns the socket."""
    sock = Socket(cpu.net.next_socket, ident, ifindex, icmp_filter)
    cpu.net.next_socket += 1
    cpu.net.sockets[sock.number] = sock
    kind, value = sock.announcement(cpu.number)
    yield from publish(cpu, kind, sock.number, value)
    return sock


def sock_attach_filter(cpu: Cpu, sock: Socket) -> Context:
    """SO_ATTACH_FILTER with the one program that ping has for it: an echo reply with another's id
    does not pass (SOCKET_FILTER), everything else does. Every CPU hears of it, so that a reply is
    not carried to another CPU only to be thrown away there."""
    sock.own_replies = True
    kind, value = sock.announcement(cpu.number)
    yield from publish(cpu, kind, sock.number, value)


def sock_close(cpu: Cpu, sock: Socket) -> Context:
    """Close; what nobody read is gone (it had been delivered)."""
    sk_dst_reset(cpu, sock)
    cpu.net.sockets.pop(sock.number, None)
    yield from publish(cpu, sock.announcement(cpu.number)[0], sock.number, None)


def ip4_datagram_connect(cpu: Cpu, sock: Socket, daddr: bytes) -> int:
    """connect(2): from now on the socket holds the way to its peer; 0 or a negative errno."""
    rt = ip_route_output(cpu, daddr, oif=sock.ifindex)
    if rt is None:
        return -ENETUNREACH
    sk_dst_set(cpu, sock, rt)
    return 0


def sk_dst_set(cpu: Cpu, sock: Socket, dst: DstEntry | None) -> None:
    """The caller's reference becomes the socket's; the old entry is let go."""
    old, sock.sk_dst_cache = sock.sk_dst_cache, dst
    if old is not None:
        dst_release(cpu, old)


def sk_dst_reset(cpu: Cpu, sock: Socket) -> None:
    sk_dst_set(cpu, sock, None)


def sk_dst_check(cpu: Cpu, sock: Socket) -> Rtable | None:
    """The cached way, held once more, if it is still good; else the socket forgets it."""
    dst = sock.sk_dst_cache
    if dst is None:
        return None
    if not dst_check(cpu, dst):
        sk_dst_reset(cpu, sock)
        return None
    assert isinstance(dst, Rtable)
    dst.refcnt += 1
    return dst


def sock_queue_rcv(cpu: Cpu, sock: Socket, skb: SkBuff) -> None:
    """Append to the receive queue and wake the reader."""
    mine = skb.key >> 16 & 0xFFFF == sock.ident
    if (len(sock.receive_queue) + 1) * SKB_TRUESIZE > sock.rcvbuf:
        sock.drops += 1
        if mine:
            kfree_skb_reason(cpu, skb, "SOCKET_RCVBUFF")
        return
    cpu.words[(_DELIVERED if mine else _DUPS) + skb.cls] += 1
    sock.receive_queue.append(skb)
    if cpu.trace_mask >> _QUEUE_RCV & 1:
        cpu.trace(_QUEUE_RCV, skb.key, sock.number)
    wake_reader(cpu, sock)


def wake_reader(cpu: Cpu, sock: Socket) -> None:
    """sk_data_ready."""
    if sock.waiter is not None:
        wake_up_process(cpu, sock.waiter)


def sock_poll(cpu: Cpu, sock: Socket, deadline_ns: int | None) -> Context:
    """poll(2): wait for data, an error, a signal or the time; returns True if there is something
    to read."""
    task = cpu.current
    while True:
        if sock.receive_queue or sock.error_queue:
            return True
        if task.signals or (deadline_ns is not None and cpu.now() >= deadline_ns):
            return False
        task.state = TASK_INTERRUPTIBLE
        sock.waiter = task
        yield from schedule_hrtimeout(cpu, deadline_ns)
        task.state = TASK_RUNNING
        sock.waiter = None
