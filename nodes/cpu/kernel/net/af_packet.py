"""Packet sockets of the kernel's own programs, after net/packet/af_packet.c: bound to a device (or
none) and to one ethertype or ETH_P_ALL; what they send goes straight to a device.

What a capture's socket receives lies in the packet rings (``net.taps``), marked with its session. A
``PacketSock`` has a queue that its program reads; it is for one ethertype, because what its own
machine sends it must not see. A frame that a session sends keeps the socket (skb->sk), through a
bond too: so its own ETH_P_ALL tap never shows it.
"""

from __future__ import annotations

from errno import ENETDOWN, ENOBUFS
from typing import TYPE_CHECKING, Any

from nodes.cpu.kernel.net.handover import sock_handover
from nodes.cpu.kernel.net.netdevice import IFF_UP, NETDEV_DOWN, NETDEV_UNREGISTER
from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.net.socket import Socket, SocketError, skb_truesize, wake_reader
from nodes.cpu.kernel.net.taps import ETH_P_ALL, NO_SESSION, SESSIONS_MAX, TapSession
from nodes.cpu.kernel.net.xmit import NET_XMIT_DROP, dev_queue_xmit
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish, replica
from nodes.ledger import OTHER

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

SNAPLEN = 65535


def packet_open(cpu: Cpu, ifindex: int, protocol: int = ETH_P_ALL) -> Context:
    """socket(AF_PACKET) and bind(2), on the boot CPU; its session, None if there are too many."""
    used = [tap.session for tap in (*cpu.net.taps, *cpu.net.ptypes)]
    session = next((n for n in range(SESSIONS_MAX) if n not in used), None)
    if session is not None:
        yield from publish(cpu, "tap", session, (ifindex, SNAPLEN, protocol))
    return session


def packet_close(cpu: Cpu, session: int) -> Context:
    yield from publish(cpu, "tap", session, None)


def packet_sendmsg(cpu: Cpu, session: int, dev: NetDevice, frame: bytes) -> Context:
    """send(2) of a whole frame (SOCK_RAW); returns what dev_queue_xmit says."""
    skb = SkBuff(frame, dev, OTHER, 0)
    skb.protocol = frame[12] << 8 | frame[13]
    skb.sk = session
    code: int = yield from dev_queue_xmit(cpu, skb, dev)
    return code


# ---------------------------------------------------------------- sockets that a program reads


class PacketSock(Socket):
    """struct packet_sock of one ethertype, bound to a device. Its error queue has what recvfrom
    returns instead of data (sk_err)."""

    protocol = 0

    def __init__(self, number: int, ifindex: int, ethertype: int) -> None:
        super().__init__(number, 0, ifindex, 0)
        self.ethertype = ethertype
        self.rmem_alloc = 0

    def queue_rcv(self, cpu: Cpu, skb: SkBuff) -> None:
        """The end of packet_rcv; a full queue counts in tp_drops."""
        if self.rmem_alloc + skb_truesize(skb) > self.rcvbuf:
            self.drops += 1
            return
        self.put_back(skb)
        wake_reader(cpu, self)

    def put_back(self, skb: SkBuff) -> None:
        self.rmem_alloc += skb_truesize(skb)
        self.receive_queue.append(skb)

    def read(self) -> SkBuff:
        """recvfrom(2), when there is something."""
        skb = self.receive_queue.popleft()
        self.rmem_alloc -= skb_truesize(skb)
        return skb

    def announcement(self, owner: int) -> tuple[str, Any]:
        return "packet_socket", (owner, self.ifindex, self.ethertype)


@replica("packet_socket")
def apply_packet_socket(cpu: Cpu, number: int, value: tuple[int, int, int] | None) -> None:
    """(owner CPU, ifindex, ethertype) of a socket; None: it was closed."""
    ptypes = [tap for tap in cpu.net.ptypes if tap.number != number]
    if value is not None:
        owner, ifindex, ethertype = value
        ptypes.append(TapSession(NO_SESSION, ifindex, 0, ethertype, number, owner))
    cpu.net.ptypes = ptypes


def packet_socket(cpu: Cpu, dev: NetDevice, ethertype: int) -> Context:
    """socket(AF_PACKET, SOCK_DGRAM) and bind(2); returns the socket."""
    sock = PacketSock(cpu.net.next_socket, dev.ifindex, ethertype)
    cpu.net.next_socket += 1
    cpu.net.sockets[sock.number] = sock
    kind, value = sock.announcement(cpu.number)
    yield from publish(cpu, kind, sock.number, value)
    return sock


def packet_socket_send(cpu: Cpu, sock: PacketSock, frame: bytes) -> Context:
    """packet_snd; 0 or a negative errno."""
    dev = cpu.net.devices.get(sock.ifindex)
    if dev is None or not dev.flags & IFF_UP:
        return -ENETDOWN
    skb = SkBuff(frame, dev, OTHER, 0)
    skb.protocol = sock.ethertype
    code = yield from dev_queue_xmit(cpu, skb, dev)
    return -ENOBUFS if code == NET_XMIT_DROP else 0


def packet_rcv(cpu: Cpu) -> Context:
    """Give each socket what matched it; one of another CPU gets it there."""
    while cpu.net.packet_pending:
        tap, skb = cpu.net.packet_pending.pop(0)
        if tap.owner != cpu.number:
            yield from sock_handover(cpu, tap.owner, tap.number, skb, False)
            continue
        sock = cpu.net.sockets.get(tap.number)
        if sock is not None:  # else it was closed since
            sock.queue_rcv(cpu, skb)


def packet_notifier(cpu: Cpu, dev: NetDevice, event: int) -> None:
    """A device goes down under its sockets."""
    if event not in (NETDEV_DOWN, NETDEV_UNREGISTER):
        return
    for sock in cpu.net.sockets.values():
        if isinstance(sock, PacketSock) and sock.ifindex == dev.ifindex and not sock.error_queue:
            sock.error_queue.append(SocketError(ENETDOWN, 0, 0, b"", 0))
            wake_reader(cpu, sock)
