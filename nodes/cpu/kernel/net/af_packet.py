"""Packet sockets of the kernel's own programs, after net/packet/af_packet.c: bound to a device (or
none) and to one ethertype or ETH_P_ALL; what they send goes straight to a device.

What a socket receives lies in the packet rings (``net.taps``), marked with its session. A frame
that it sends keeps the socket (skb->sk), through a bond too: so its own ETH_P_ALL tap never shows
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.net.taps import ETH_P_ALL, SESSIONS_MAX
from nodes.cpu.kernel.net.xmit import dev_queue_xmit
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.tables import publish
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
