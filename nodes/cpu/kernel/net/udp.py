"""UDP, after net/ipv4/udp.c: sockets of type SOCK_DGRAM, their ports, datagrams both ways.

A socket belongs to the CPU of its task, as raw ones do; the ports are everybody's
(``net.udp_table``). A datagram that nobody waits for is answered with an ICMP port unreachable; one
that comes back to a connected socket is the error of its next call. Memory is counted by truesize
against SO_RCVBUF. Left out: corking, multicast and broadcast, UDP-Lite, encapsulation, GRO (off by
default for UDP), the send buffer (a frame is in the ring when the call returns).
"""

from __future__ import annotations

from errno import EADDRINUSE, EADDRNOTAVAIL, EDESTADDRREQ, EINVAL, EMSGSIZE, ENETUNREACH
from typing import TYPE_CHECKING, Any

from nodes.checksum import checksum
from nodes.cpu.kernel.net.handover import sock_handover
from nodes.cpu.kernel.net.icmp import ICMP_PORT_UNREACH, icmp_send
from nodes.cpu.kernel.net.ip_output import (
    DEFAULT_TTL,
    IP_PMTUDISC_WANT,
    ip_send,
)
from nodes.cpu.kernel.net.protocols import ICMP_DEST_UNREACH, IPPROTO_UDP
from nodes.cpu.kernel.net.route import inet_iif, ip_route_output, ip_rt_put, martian_source
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.snmp import snmp_inc
from nodes.cpu.kernel.net.socket import (
    Socket,
    sk_dst_reset,
    skb_truesize,
    sock_poll,
    wake_reader,
)
from nodes.cpu.kernel.net.udp_table import Endpoint, give_port, take_port, udp_lookup
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

ANY = bytes(4)
UDP_HEADER = 8
DATAGRAM_MAX = 65507
_DELIVERED = CPU_SCHEMA.index("delivered")
_QUEUE_RCV = TRACEPOINTS["sock_queue_rcv"].number

#: ip_local_port_range, the last included in 6.1 only: nobody can tell.
LOCAL_PORTS = range(32768, 61000)


class UdpSock(Socket):
    """struct udp_sock. ``error`` (sk_err) is what the next call returns."""

    protocol = IPPROTO_UDP

    def __init__(self, number: int, ifindex: int = 0, *, pid: int = 0, name: str = "") -> None:
        super().__init__(number, 0, ifindex, 0)
        self.address = ANY
        self.port = 0
        self.peer, self.peer_port = ANY, 0
        self.inet_id = 0  # counts what a connected one sends
        self.rmem_alloc = 0
        self.error = 0
        self.pmtudisc = IP_PMTUDISC_WANT
        self.pid, self.name = pid, name  # of its program, for netstat

    def queue_rcv(self, cpu: Cpu, skb: SkBuff) -> None:
        """__udp_enqueue_schedule_skb."""
        size = skb_truesize(skb)
        if self.rmem_alloc + size > self.rcvbuf:
            self.drops += 1
            snmp_inc(cpu, "Udp RcvbufErrors")
            snmp_inc(cpu, "Udp InErrors")
            kfree_skb_reason(cpu, skb, "SOCKET_RCVBUFF")
            return
        self.rmem_alloc += size
        snmp_inc(cpu, "Udp InDatagrams")
        cpu.words[_DELIVERED + skb.cls] += 1
        self.receive_queue.append(skb)
        cpu.trace(_QUEUE_RCV, skb.key, self.number)
        wake_reader(cpu, self)

    def put_back(self, skb: SkBuff) -> None:
        self.rmem_alloc += skb_truesize(skb)
        self.receive_queue.append(skb)

    def hears_of(self, errno: int, _kind: int, _code: int) -> bool:
        """udp_err: a connected socket returns it from its next call."""
        if self.peer_port:
            self.error = errno
        return bool(self.peer_port)

    def announcement(self, owner: int) -> tuple[str, Any]:
        return "udp_socket", (
            owner, self.address, self.port, self.ifindex, self.peer, self.peer_port, self.pid,
            self.name,
        )  # fmt: skip


# ---------------------------------------------------------------- the calls of a program


def udp_open(cpu: Cpu, ifindex: int = 0) -> UdpSock:
    """socket(AF_INET, SOCK_DGRAM, 0): nobody can reach it before it has a port."""
    task = cpu.current
    sock = UdpSock(cpu.net.next_socket, ifindex, pid=task.pid, name=task.comm)
    cpu.net.next_socket += 1
    cpu.net.sockets[sock.number] = sock
    return sock


def udp_bind(cpu: Cpu, sock: UdpSock, address: bytes, port: int) -> Context:
    """bind(2), also udp_lib_get_port for port 0; returns 0 or a negative errno."""
    if any(address) and address not in cpu.net.addresses:
        return -EADDRNOTAVAIL
    if port:
        if not take_port(cpu, port):
            return -EADDRINUSE
    else:
        port = _free_port(cpu)
        if not port:
            return -EADDRINUSE
    sock.address, sock.port = address, port
    yield from _announce(cpu, sock)
    return 0


def _free_port(cpu: Cpu) -> int:
    first = cpu.rng.randrange(len(LOCAL_PORTS))
    for n in range(len(LOCAL_PORTS)):
        port = LOCAL_PORTS[(first + n) % len(LOCAL_PORTS)]
        if take_port(cpu, port):
            return port
    return 0


def udp_connect(cpu: Cpu, sock: UdpSock, peer: Endpoint) -> Context:
    """connect(2): the peer, and by its route our address; 0 or a negative errno."""
    rt = ip_route_output(cpu, peer[0], oif=sock.ifindex)
    if rt is None:
        return -ENETUNREACH
    source = rt.source
    ip_rt_put(cpu, rt)
    if not sock.port:
        error: int = yield from udp_bind(cpu, sock, ANY, 0)
        if error:
            return error
    if sock.address == ANY:
        sock.address = source
    sock.peer, sock.peer_port = peer
    sock.inet_id = cpu.rng.randrange(0xFFFF)
    yield from _announce(cpu, sock)
    return 0


def udp_close(cpu: Cpu, sock: UdpSock) -> Context:
    """close(2); what nobody read is gone."""
    sk_dst_reset(cpu, sock)
    cpu.net.sockets.pop(sock.number, None)
    if sock.port:
        yield from publish(cpu, "udp_socket", sock.number, None)
        give_port(cpu, sock.port)


def _announce(cpu: Cpu, sock: UdpSock) -> Context:
    kind, value = sock.announcement(cpu.number)
    yield from publish(cpu, kind, sock.number, value)


def udp_sendmsg(cpu: Cpu, sock: UdpSock, data: bytes, to: Endpoint | None = None) -> Context:
    """sendto(2); returns the number of bytes or a negative errno."""
    if sock.error:
        error, sock.error = sock.error, 0
        return -error
    if len(data) > DATAGRAM_MAX:
        return -EMSGSIZE
    daddr, dport = to or (sock.peer, sock.peer_port)
    if not dport:
        return -EDESTADDRREQ
    if not sock.port:
        bound: int = yield from udp_bind(cpu, sock, ANY, 0)
        if bound:
            return bound
    rt = ip_route_output(cpu, daddr, sock.address if any(sock.address) else b"", oif=sock.ifindex)
    if rt is None:
        snmp_inc(cpu, "Ip OutNoRoutes")
        return -ENETUNREACH
    saddr = sock.address if any(sock.address) else rt.source
    if saddr[0] == 127 and martian_source(cpu, rt, saddr):
        ip_rt_put(cpu, rt)
        return -EINVAL
    datagram = udp_datagram((saddr, sock.port), (daddr, dport), data)
    head = (IPPROTO_UDP, 0, DEFAULT_TTL, sock.pmtudisc)
    if sock.peer_port:
        sock.inet_id = sock.inet_id % 0xFFFF + 1
    error = yield from ip_send(
        cpu, rt, datagram, (saddr, daddr), head, inet_id=sock.inet_id, sock=True
    )
    if error:
        return error
    snmp_inc(cpu, "Udp OutDatagrams")
    return len(data)


def udp_datagram(source: Endpoint, destination: Endpoint, data: bytes) -> bytes:
    """Header and data, with the checksum over the pseudo header."""
    length = (UDP_HEADER + len(data)).to_bytes(2, "big")
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    pseudo = source[0] + destination[0] + b"\0\x11" + length
    check = checksum(pseudo + ports + length + b"\0\0" + data) or 0xFFFF
    return ports + length + check.to_bytes(2, "big") + data


def udp_recvmsg(cpu: Cpu, sock: UdpSock, deadline_ns: int | None = None) -> Context:
    """recvfrom(2): (data, sender); a negative errno; or None when the time is over or a signal
    came."""
    while True:
        sock.error_queue.clear()  # only IP_RECVERR would read it
        if sock.error:
            error, sock.error = sock.error, 0
            return -error
        if sock.receive_queue:
            skb = sock.receive_queue.popleft()
            sock.rmem_alloc -= skb_truesize(skb)
            frame = skb.frame
            length = frame[38] << 8 | frame[39]
            return frame[42 : 34 + length], (frame[26:30], frame[34] << 8 | frame[35])
        if not (yield from sock_poll(cpu, sock, deadline_ns)):
            return None


# ---------------------------------------------------------------- datagrams that arrive


def udp_rcv(cpu: Cpu, skb: SkBuff) -> Context:
    """__udp4_lib_rcv."""
    frame = skb.frame
    length = frame[38] << 8 | frame[39] if len(frame) >= 42 else 0
    if length < UDP_HEADER or length > len(frame) - 34:
        snmp_inc(cpu, "Udp InErrors")
        kfree_skb_reason(cpu, skb, "PKT_TOO_SMALL")
        return
    segment = frame[34 : 34 + length]
    good = frame[40:42] == b"\0\0" or not checksum(
        frame[26:34] + b"\0\x11" + frame[38:40] + segment
    )
    if not good:
        snmp_inc(cpu, "Udp InCsumErrors")
        snmp_inc(cpu, "Udp InErrors")
        kfree_skb_reason(cpu, skb, "UDP_CSUM")
        return
    local = (frame[30:34], frame[36] << 8 | frame[37])
    iif = skb.dev.ifindex if skb.dst is None else inet_iif(cpu, skb, cpu.params.udp_iif)
    entry = udp_lookup(cpu, local, (frame[26:30], frame[34] << 8 | frame[35]), iif)
    if entry is None:
        snmp_inc(cpu, "Udp NoPorts")
        yield from icmp_send(cpu, skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH)
        kfree_skb_reason(cpu, skb, "NO_SOCKET")
        return
    skb.tstamp_ns = cpu.now()
    sock = cpu.net.sockets.get(entry.number)
    if entry.owner != cpu.number:
        yield from sock_handover(cpu, entry.owner, entry.number, skb, True)
    elif sock is not None:
        sock.queue_rcv(cpu, skb)
    else:
        kfree_skb_reason(cpu, skb, "NO_SOCKET")  # closed since we looked
