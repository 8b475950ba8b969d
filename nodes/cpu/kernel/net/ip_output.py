"""IPv4 output: headers, LOCAL_OUT and POST_ROUTING, after net/ipv4/ip_output.c.

Packets carry DF (but with IP_PMTUDISC_DONT) and no options; fragmentation comes with the network
issue, so what does not fit the device's MTU is refused with EMSGSIZE, as with ``ping -M do``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.checksum import checksum
from nodes.cpu.kernel.net.dst import dst_release
from nodes.cpu.kernel.net.neighbour import neigh_output
from nodes.cpu.kernel.net.netfilter import (
    EPERM,
    LOCAL_OUT,
    POST_ROUTING,
    nf_hook,
    nf_hook_slow,
)
from nodes.cpu.kernel.net.route import Rtable
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import OTHER, REPLY, REQUEST

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

EMSGSIZE = 90
IP_PMTUDISC_DONT, IP_PMTUDISC_WANT, IP_PMTUDISC_DO = 0, 1, 2
IPPROTO_ICMP = 1
DEFAULT_TTL = 64
#: Room for the Ethernet header; its type is already right.
ETHERNET_ROOM = bytes(12) + b"\x08\x00"

_SENT = CPU_SCHEMA.index("icmp_sent")
_GENERATED = CPU_SCHEMA.index("icmp_generated")
_OUTPUT = TRACEPOINTS["ip_output"].number
_CLASS = {8: REQUEST, 0: REPLY}


def ip_send_icmp(
    cpu: Cpu,
    rt: Rtable,
    message: bytes,
    saddr: bytes,
    daddr: bytes,
    *,
    ttl: int = DEFAULT_TTL,
    tos: int = 0,
    sock: bool,
    pmtudisc: int = IP_PMTUDISC_WANT,
) -> Context:
    """Put an IPv4 header before an ICMP message and send it; ``sock``: a socket asked for it.
    The caller's reference to ``rt`` becomes the packet's. Returns 0 or a negative errno."""
    total = 20 + len(message)
    if total > rt.dev.mtu:
        dst_release(cpu, rt)
        return -EMSGSIZE
    if cpu.params.ip_id == "zero":
        ident = 0
    else:
        ident = cpu.net.ip_id = cpu.net.ip_id % 0xFFFF + 1
    head = (
        b"\x45%c%c%c%c%c%c\x00%c\x01\x00\x00"
        % (
            tos,
            total >> 8,
            total & 0xFF,
            ident >> 8,
            ident & 0xFF,
            0 if pmtudisc == IP_PMTUDISC_DONT else 0x40,
            ttl,
        )
        + saddr
        + daddr
    )
    check = checksum(head)
    frame = ETHERNET_ROOM + head[:10] + check.to_bytes(2, "big") + head[12:] + message
    cls = _CLASS.get(message[0], OTHER)
    key = cls << 32 | int.from_bytes(message[4:8], "big") if cls else 0
    skb = SkBuff(frame, rt.dev, cls, key)
    skb.protocol = 0x0800
    skb.dst = rt
    cpu.words[(_SENT if sock else _GENERATED) + cls] += 1
    if not nf_hook(cpu, LOCAL_OUT, skb):
        passed = yield from nf_hook_slow(cpu, LOCAL_OUT, skb)
        if not passed:
            return -EPERM
    if rt.discard:  # dst_discard: its device went down since
        kfree_skb_reason(cpu, skb, "NOT_SPECIFIED")
        return 0
    cpu.trace(_OUTPUT, key, rt.dev.ifindex)
    if not nf_hook(cpu, POST_ROUTING, skb):
        passed = yield from nf_hook_slow(cpu, POST_ROUTING, skb)
        if not passed:
            return -EPERM
    yield
    yield from neigh_output(cpu, skb, rt.rt_gateway or daddr)
    return 0
