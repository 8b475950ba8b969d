"""rtnetlink's multicast group for links, after rtmsg_ifinfo of net/core/rtnetlink.c.

Whoever listens (``ip monitor link``) gets a message, the state of the device at that moment, when
it is registered, opened, closed or gone, and when linkwatch or bonding say that it changed. Boot
CPU: all of that happens there. Left out: requests (programs look at the tables themselves), other
groups.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.sched import Task, wake_up_process

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

RTM_NEWLINK, RTM_DELLINK = 16, 17
#: Messages that wait for a listener; more are lost (ENOBUFS), as a full receive buffer has it.
MESSAGES_MAX = 256


class LinkMessage(NamedTuple):
    """An RTM_NEWLINK or RTM_DELLINK."""

    kind: int
    ifindex: int
    name: str
    flags: int
    carrier: bool
    qdisc_active: bool
    mtu: int
    address: bytes
    master: str


class Listener:
    """A netlink socket that is in the group."""

    def __init__(self) -> None:
        self.queue: deque[LinkMessage] = deque()
        self.waiter: Task | None = None
        self.lost = 0


def link_message(dev: NetDevice, kind: int = RTM_NEWLINK) -> LinkMessage:
    """rtnl_fill_ifinfo."""
    return LinkMessage(
        kind, dev.ifindex, dev.name, dev.flags, dev.carrier, dev.qdisc_active, dev.mtu,
        dev.dev_addr, dev.master.name if dev.master is not None else "",
    )  # fmt: skip


def rtmsg_ifinfo(cpu: Cpu, dev: NetDevice, kind: int = RTM_NEWLINK) -> None:
    """Tell the group."""
    for listener in cpu.net.link_listeners:
        if len(listener.queue) >= MESSAGES_MAX:
            listener.lost += 1
            continue
        listener.queue.append(link_message(dev, kind))
        if listener.waiter is not None:
            wake_up_process(cpu, listener.waiter)
