"""Holds the way to an address, as a connected socket does, until it is removed.

``insmod dst_gc`` opens a raw socket and connects it: its ``sk_dst_cache`` holds the dst entry of
that way on the CPU that loaded the module. With ``leak=1`` one reference more is taken and
forgotten, as a driver does that misses a dst_release on an error path; it never comes back.
``rmmod dst_gc`` closes the socket and tells how the entry stands::

    dst_gc: entry=0:4 held=2
    dst_gc: held=1 obsolete=2 runs=6 freed=0
"""

from __future__ import annotations

import ipaddress
from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.dst import DstEntry, dst_hold
from nodes.cpu.kernel.net.socket import Socket, ip4_datagram_connect, sock_close, sock_open
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "dst_gc"
EVERY_TYPE = 0xFFFF_FFFF  # blocked by the socket's filter: it reads nothing


def dst_gc_exit(cpu: Cpu) -> Context:
    """Close the socket; what was leaked stays."""
    sock, dst = cpu.module_data.pop(NAME)
    assert isinstance(sock, Socket)
    assert isinstance(dst, DstEntry)
    yield from sock_close(cpu, sock)
    garbage = cpu.net.dst_garbage
    report(
        cpu,
        NAME,
        held=dst.refcnt,
        obsolete=dst.obsolete,
        runs=garbage.runs,
        freed=garbage.freed,
    )


@module(
    NAME,
    params={
        "to": ("192.168.1.1", "the way to this address is held"),
        "leak": (0, "1: one reference is taken and forgotten"),
    },
    exit=dst_gc_exit,
)
def init(cpu: Cpu, params: Values) -> Context:
    """A socket that holds a dst entry, and perhaps a reference that nobody gives back."""
    try:
        daddr = ipaddress.IPv4Address(params["to"]).packed
    except ValueError:
        return -EINVAL
    if params["leak"] not in (0, 1):
        return -EINVAL
    sock: Socket = yield from sock_open(cpu, 0, 0, EVERY_TYPE)
    error = ip4_datagram_connect(cpu, sock, daddr)
    if error:
        yield from sock_close(cpu, sock)
        return error
    dst = sock.sk_dst_cache
    assert dst is not None
    if params["leak"]:
        dst_hold(dst)
    cpu.module_data[NAME] = (sock, dst)
    report(cpu, NAME, entry=f"{dst.number >> 24}:{dst.number & 0xFF_FFFF}", held=dst.refcnt)
    return 0
