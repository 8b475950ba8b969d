"""Frames and socket data that move to another CPU: a handover buffer, a record, an IPI.

Where Linux takes a lock and touches the other CPU's queue, this kernel gives the data to the CPU
that owns the queue: ``enqueue_to_backlog`` for frames (receive: ARP goes to the boot CPU, which
owns the neighbour table; transmit: frames whose neighbour only the boot CPU can resolve), and
``sock_handover`` for data of a socket whose task lives elsewhere, which also wakes that task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus.ram import BUFFER_BYTES
from nodes.cpu.kernel.net.dst import skb_dst_drop
from nodes.cpu.kernel.net.route import ip_route_output
from nodes.cpu.kernel.net.skbuff import (
    PACKET_HOST,
    SkBuff,
    count_drop,
    kfree_skb_reason,
    packet_key,
)
from nodes.cpu.kernel.net.socket import wake_reader
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import call_function_single, queue_remote_wakeup, remote_function
from nodes.cpu.kernel.softirq import NET_RX_SOFTIRQ, __raise_softirq_irqoff
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import classify

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

ENQUEUE_TO_BACKLOG, SOCK_QUEUE_RCV, SOCK_MOVE_SKB, SOCK_PIECE = 2, 3, 132, 160
#: A frame for its protocol; one to be sent; what a bond's mode wants to see; a fragment; one that
#: no tap has seen yet (RPS). 2 is the output queue of a dead CPU (``softnet_dead``).
BACKLOG_RX, BACKLOG_TX, BACKLOG_BOND, BACKLOG_DEFRAG, BACKLOG_RPS = 0, 1, 3, 5, 6
#: In a SOCK_PIECE, whose piece it is: a frame's.
NO_SOCKET = 0
#: In the device word of a SOCK_QUEUE_RCV record: it is the packet, not a further copy; its type.
_MINE_SHIFT, TYPE_SHIFT = 16, 17

_OUT = CPU_SCHEMA.index("handover_out")
_IN = CPU_SCHEMA.index("handover_in")
_DROPPED = CPU_SCHEMA.index("softnet") + 1
_RPS = CPU_SCHEMA.index("softnet") + 4
_HANDOVER = TRACEPOINTS["sock_handover"].number


def enqueue_to_backlog(
    cpu: Cpu, target: int, skb: SkBuff, kind: int, nexthop: bytes = b"\0\0\0\0"
) -> Context:
    """Give a frame to the backlog of CPU ``target``; ``kind`` is BACKLOG_RX, _TX
    or _BOND (a slave's frame for its bond's mode)."""
    frame = skb.frame
    if len(frame) > BUFFER_BYTES:
        frame = yield from send_pieces(cpu, target, frame)
    buffer = cpu.handover.put(frame)
    if buffer is None:
        kfree_skb_reason(cpu, skb, "HANDOVER_FULL")
        return
    skb_dst_drop(cpu, skb)
    cpu.words[_OUT + skb.cls] += 1
    where = int.from_bytes(nexthop, "big") << 16 | skb.dev.ifindex
    record = [ENQUEUE_TO_BACKLOG, buffer, len(frame), kind, where, skb.protocol, skb.pkt_type]
    yield from call_function_single(cpu, target, record)


def send_pieces(cpu: Cpu, target: int, frame: bytes) -> Context:
    """What is longer than a buffer, as only lo has it, goes ahead in pieces; returns the rest."""
    while len(frame) > BUFFER_BYTES:
        while (buffer := cpu.handover.put(frame[:BUFFER_BYTES])) is None:
            yield
        record = [SOCK_PIECE, buffer, BUFFER_BYTES, NO_SOCKET]
        yield from call_function_single(cpu, target, record)
        frame = frame[BUFFER_BYTES:]
    return frame


def whole_frame(cpu: Cpu, source: int, record: list[int]) -> bytes:
    """The frame of a record, with what went ahead of it."""
    frame = cpu.ram.handover(source).take(record[1], record[2])
    if cpu.net.pieces:
        frame = cpu.net.pieces.pop((source, NO_SOCKET), b"") + frame
    return frame


@remote_function(ENQUEUE_TO_BACKLOG)
def _enqueue(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    frame = whole_frame(cpu, source, record)
    kind, where = record[3], record[4]
    cls = classify(frame)
    cpu.words[_IN + cls] += 1
    if kind == BACKLOG_RPS and not cpu.net.backlog:
        cpu.words[_RPS] += 1  # its backlog's NAPI was idle: this is the IPI that Linux sends
    dev = cpu.net.devices.get(where & 0xFFFF)
    if dev is None or len(cpu.net.backlog) >= cpu.sysctl.netdev_max_backlog:
        cpu.words[_DROPPED] += 1
        count_drop(cpu, "CPU_BACKLOG", None if dev is None else dev.nic, cls)
        return None
    skb = SkBuff(frame, dev, cls, packet_key(frame, cls))
    skb.protocol, skb.pkt_type = record[5], record[6]
    if kind == BACKLOG_TX:  # dst entries are a CPU's own
        skb.dst = ip_route_output(cpu, frame[30:34], frame[26:30], frame[15] & 0x1C)
    cpu.net.backlog.append((kind, skb, (where >> 16).to_bytes(4, "big")))
    __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
    return None


def sock_handover(cpu: Cpu, target: int, sock_id: int, skb: SkBuff, mine: bool) -> Context:
    """Queue the datagram on a socket of CPU ``target`` and wake its task there.

    ``mine``: this copy is the packet itself, for the socket whose echo id it has. Only that one is
    counted: another socket's copy may be lost on the way and nothing is missing."""
    frame = skb.frame
    if len(frame) > BUFFER_BYTES:  # a datagram that came in fragments: ahead of its last piece
        for at in range(0, len(frame) - BUFFER_BYTES, BUFFER_BYTES):
            piece = frame[at : at + BUFFER_BYTES]
            while (buffer := cpu.handover.put(piece)) is None:
                yield
            yield from queue_remote_wakeup(cpu, target, [SOCK_PIECE, buffer, len(piece), sock_id])
        frame = frame[at + BUFFER_BYTES :]
    buffer = cpu.handover.put(frame)
    if buffer is None:
        if mine:
            kfree_skb_reason(cpu, skb, "HANDOVER_FULL")
        return
    if mine:
        cpu.words[_OUT + skb.cls] += 1
    cpu.trace(_HANDOVER, skb.key, target)
    dev = skb.dev.ifindex | mine << _MINE_SHIFT | skb.pkt_type << TYPE_SHIFT
    record = [SOCK_QUEUE_RCV, buffer, len(frame), sock_id, dev, skb.tstamp_ns]
    yield from queue_remote_wakeup(cpu, target, record)


@remote_function(SOCK_PIECE)
def _piece(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    data = cpu.ram.handover(source).take(record[1], record[2])
    pieces = cpu.net.pieces
    pieces[source, record[3]] = pieces.get((source, record[3]), b"") + data
    return None


@remote_function(SOCK_QUEUE_RCV)
def _queue_rcv(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    frame = cpu.ram.handover(source).take(record[1], record[2])
    number, mine = record[3], bool(record[4] >> _MINE_SHIFT & 1)
    if cpu.net.pieces:
        frame = cpu.net.pieces.pop((source, number), b"") + frame
    if mine:
        cpu.words[_IN + classify(frame)] += 1
    skb = skb_of(cpu, frame, record[4] & 0xFFFF, record[5], record[4] >> TYPE_SHIFT)
    sock = cpu.net.sockets.get(number)
    if skb is not None and sock is not None:
        sock.queue_rcv(cpu, skb)
        return None
    owner = socket_owner(cpu, number)
    if skb is not None and owner is not None:
        return sock_handover(cpu, owner, number, skb, mine)
    if mine:
        count_drop(cpu, "NO_SOCKET", None, classify(frame))
    return None


def socket_owner(cpu: Cpu, number: int) -> int | None:
    """The CPU to which a socket that was here has moved; None: it is closed. It may be the very CPU
    that sent this: what it sends, it may have begun to send before the socket came to it."""
    owner = _owner(cpu, number)
    return None if owner == cpu.number else owner


def _owner(cpu: Cpu, number: int) -> int:
    if number in cpu.net.raw_sockets:
        return cpu.net.raw_sockets[number][0]
    for tap in cpu.net.ptypes:
        if tap.number == number:
            return tap.owner
    for entries in cpu.net.udp_table.values():
        for entry in entries:
            if entry.number == number:
                return entry.owner
    return cpu.number


@remote_function(SOCK_MOVE_SKB)
def _move_skb(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    """What its old owner had queued (and counted) for a socket that moved here."""
    frame = cpu.ram.handover(source).take(record[1], record[2])
    skb = skb_of(cpu, frame, record[4] & 0xFFFF, record[5], record[4] >> TYPE_SHIFT)
    sock = cpu.net.sockets.get(record[3])
    if skb is not None and sock is not None:
        sock.put_back(skb)
        wake_reader(cpu, sock)
    return None


def skb_of(
    cpu: Cpu, frame: bytes, ifindex: int, tstamp_ns: int, pkt_type: int = PACKET_HOST
) -> SkBuff | None:
    """An skb that came from another CPU; None if its device is gone."""
    dev = cpu.net.devices.get(ifindex)
    if dev is None:
        return None
    cls = classify(frame)
    skb = SkBuff(frame, dev, cls, packet_key(frame, cls))
    skb.tstamp_ns, skb.pkt_type = tstamp_ns, pkt_type
    return skb
