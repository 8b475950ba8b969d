"""IPv4 output: headers, LOCAL_OUT and POST_ROUTING, fragments; after net/ipv4/ip_output.c.

No options. A datagram that is longer than its device's MTU leaves in fragments, unless its sender
forbids it: ``pmtudisc`` is the socket's IP_MTU_DISCOVER. WANT (the default) sets DF on what fits;
the kernel's own messages use DONT, as icmp_sk_init has it. Behaviour ``ip_id``: a datagram with DF
has identification 0 (*zero*, 2.6.18) or one of the generator's; without DF always the generator's.
"""

from __future__ import annotations

from errno import EMSGSIZE
from typing import TYPE_CHECKING

from nodes.checksum import checksum
from nodes.cpu.kernel.net.dst import dst_clone, dst_release, skb_dst_drop
from nodes.cpu.kernel.net.neighbour import neigh_output
from nodes.cpu.kernel.net.netfilter import (
    EPERM,
    LOCAL_OUT,
    POST_ROUTING,
    nf_hook,
    nf_hook_slow,
)
from nodes.cpu.kernel.net.protocols import IPPROTO_ICMP
from nodes.cpu.kernel.net.route import Rtable
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.net.snmp import snmp_inc
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import OTHER, REPLY, REQUEST

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

DEFAULT_TTL = 64
IP_PMTUDISC_DONT, IP_PMTUDISC_WANT, IP_PMTUDISC_DO = 0, 1, 2
IP_DF, IP_MF, IP_OFFSET = 0x4000, 0x2000, 0x1FFF
IP_MAX_MTU = 0xFFFF
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
    """Send an ICMP message, with its class in the ledger; as ``ip_send``."""
    cls = _CLASS.get(message[0], OTHER)
    key = cls << 32 | int.from_bytes(message[4:8], "big") if cls else 0
    head = (IPPROTO_ICMP, tos, ttl, pmtudisc)
    return ip_send(cpu, rt, message, (saddr, daddr), head, cls=cls, key=key, sock=sock)


def ip_send(
    cpu: Cpu,
    rt: Rtable,
    payload: bytes,
    addresses: tuple[bytes, bytes],
    head: tuple[int, int, int, int],
    *,
    cls: int = OTHER,
    key: int = 0,
    inet_id: int = 0,
    sock: bool,
) -> Context:
    """Put an IPv4 header before ``payload`` and send it; ``addresses`` are source and destination,
    ``head`` is (protocol, tos, ttl, pmtudisc), ``inet_id`` is a connected socket's
    own counter, which 2.6.18 uses with DF, ``sock``: a socket asked for it. The caller's
    reference to ``rt`` becomes the packet's. Returns 0 or a negative errno."""
    protocol, tos, ttl, pmtudisc = head
    saddr, daddr = addresses
    total = 20 + len(payload)
    fits = total <= rt.dev.mtu
    if not fits and (pmtudisc == IP_PMTUDISC_DO or total > IP_MAX_MTU):
        dst_release(cpu, rt)
        return -EMSGSIZE
    dont = pmtudisc and fits
    if dont and cpu.params.ip_id == "zero":
        ident = inet_id
    else:
        ident = cpu.net.ip_id = cpu.net.ip_id % 0xFFFF + 1
    header = (
        b"\x45%c%c%c%c%c%c\x00%c%c\x00\x00"
        % (tos, total >> 8, total & 0xFF, ident >> 8, ident & 0xFF, 0x40 if dont else 0, ttl,
           protocol)
        + saddr
        + daddr
    )  # fmt: skip
    check = checksum(header)
    frame = ETHERNET_ROOM + header[:10] + check.to_bytes(2, "big") + header[12:] + payload
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
    if cpu.trace_mask >> _OUTPUT & 1:
        cpu.trace(_OUTPUT, key, rt.dev.ifindex)
    if not nf_hook(cpu, POST_ROUTING, skb):
        passed = yield from nf_hook_slow(cpu, POST_ROUTING, skb)
        if not passed:
            return -EPERM
    yield
    if fits:
        yield from neigh_output(cpu, skb, rt.rt_gateway or daddr)
    else:
        yield from ip_fragment(cpu, skb, rt)
    return 0


def ip_fragment(cpu: Cpu, skb: SkBuff, rt: Rtable) -> Context:
    """Send the datagram in pieces that fit; all but the last hold a multiple of eight bytes. Only
    the first is what the ledger follows: the others are further frames."""
    frame, nexthop = skb.frame, rt.rt_gateway or skb.frame[30:34]
    size = (rt.dev.mtu - 20) & ~7
    payload = frame[34:]
    for begin in range(0, len(payload), size):
        piece = payload[begin : begin + size]
        flags = begin >> 3 | (IP_MF if begin + size < len(payload) else 0)
        total = 20 + len(piece)
        header = (
            frame[14:16] + total.to_bytes(2, "big") + frame[18:20] + flags.to_bytes(2, "big")
            + frame[22:24] + b"\0\0" + frame[26:34]
        )  # fmt: skip
        check = checksum(header).to_bytes(2, "big")
        data = ETHERNET_ROOM + header[:10] + check + header[12:] + piece
        fragment = SkBuff(data, rt.dev, skb.cls if not begin else OTHER, 0 if begin else skb.key)
        fragment.protocol, fragment.priority = skb.protocol, skb.priority
        fragment.dst = dst_clone(rt)
        snmp_inc(cpu, "Ip FragCreates")
        yield from neigh_output(cpu, fragment, nexthop)
    snmp_inc(cpu, "Ip FragOKs")
    skb_dst_drop(cpu, skb)
