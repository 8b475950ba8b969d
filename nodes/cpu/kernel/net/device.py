"""Devices come, change and go: registration, open and close, carrier and linkwatch.

All of it under RTNL, that is, in tasks of the boot CPU; every change is published to the replicas.
After net/core/dev.c, net/sched/sch_generic.c (dev_activate) and net/core/link_watch.c: the carrier
bit changes at once (bonding polls it), the queueing discipline follows when linkwatch runs: at most
once a second, but (behaviour ``carrier_loss``) at once where a carrier comes, since 2.6.22, and in
6.1 for a bond's slaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel import words
from nodes.cpu.kernel.drivers.ixgbe.configure import write_fctrl
from nodes.cpu.kernel.net.dst import netdev_refcnt_read
from nodes.cpu.kernel.net.fib import fib_add_ifaddr, fib_disable_ip
from nodes.cpu.kernel.net.netdevice import (
    IFF_PROMISC,
    IFF_UP,
    NETDEV_CHANGE,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NetDevice,
    call_netdevice_notifiers,
)
from nodes.cpu.kernel.net.rtnetlink import RTM_DELLINK, rtmsg_ifinfo
from nodes.cpu.kernel.net.watchdog import netdev_watchdog_down, netdev_watchdog_up
from nodes.cpu.kernel.percpu import SCHEDULE, Context
from nodes.cpu.kernel.printk import KERN_EMERG, printk
from nodes.cpu.kernel.rcu import synchronize_net
from nodes.cpu.kernel.sched import TASK_UNINTERRUPTIBLE, Task, wake_up_process
from nodes.cpu.kernel.tables import publish
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.workqueue import INIT_DELAYED_WORK, schedule_delayed_work
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel import words
from nodes.cpu.kernel.percpu import Cpu

NIC_REGISTERED, NIC_UP, NIC_CARRIER, NIC_SLAVE, NIC_REMOVED = 1, 2, 4, 8, 16

#: netdev_wait_allrefs: how long it sleeps, when it repeats the event, when it complains.
WAIT_MS, REBROADCAST_MS, WARN_NS = 250, 1000, 10_000_000_000

_NIC_FLAGS = CPU_SCHEMA.index("nic_flags")


class Rtnl:
    """The mutex of the network configuration; tasks of the boot CPU wait for it in order."""

    def __init__(self) -> None:
        self.held = False
        self._waiters: list[Task] = []

    def lock(self, cpu: Cpu) -> Context:
        """rtnl_lock; sleeps."""
        task = cpu.current
        while not self.trylock():
            if task not in self._waiters:
                self._waiters.append(task)
            task.state = TASK_UNINTERRUPTIBLE
            yield SCHEDULE

    def trylock(self) -> bool:
        if self.held:
            return False
        self.held = True
        return True

    def unlock(self, cpu: Cpu) -> None:
        self.held = False
        if self._waiters:
            wake_up_process(cpu, self._waiters.pop(0))


class Linkwatch:
    """Devices whose carrier changed and whose qdisc has not followed yet."""

    def __init__(self, cpu: Cpu) -> None:
        self.pending: list[NetDevice] = []
        self.next_event = 0
        self.work = INIT_DELAYED_WORK(
            cpu, words.LINKWATCH_WORK, "linkwatch_event", _linkwatch_event
        )


def new_ifindex(cpu: Cpu) -> int:
    ifindex = cpu.net.next_ifindex
    cpu.net.next_ifindex += 1
    return ifindex


def register_netdevice(cpu: Cpu, dev: NetDevice) -> Context:
    """Make the device known everywhere."""
    cpu.net.devices[dev.ifindex] = dev
    cpu.net.by_name[dev.name] = dev
    yield from changed(cpu, dev)
    rtmsg_ifinfo(cpu, dev)


def unregister_netdevice(cpu: Cpu, dev: NetDevice) -> Context:
    """NETDEV_UNREGISTER to the listeners, then gone."""
    for listener in cpu.net.unregister_listeners:
        yield from listener(cpu, dev)
    rtmsg_ifinfo(cpu, dev, RTM_DELLINK)
    if dev in cpu.net.linkwatch.pending:
        cpu.net.linkwatch.pending.remove(dev)
    for address, ifindex in list(cpu.net.addresses.items()):
        if ifindex == dev.ifindex:
            yield from publish(cpu, "address", address, 0)
    yield from fib_disable_ip(cpu, dev)
    yield from call_netdevice_notifiers(cpu, dev, NETDEV_UNREGISTER)
    yield from netdev_wait_allrefs(cpu, dev)
    yield from publish(cpu, "netdev", dev.ifindex, None)
    yield from synchronize_net(cpu)
    if dev.nic is not None:
        cpu.words[_NIC_FLAGS + dev.nic] = 0


def netdev_wait_allrefs(cpu: Cpu, dev: NetDevice) -> Context:
    """Sleep until nobody holds the device; who waits for a grace period may have come to hold it
    since the event, so that is repeated each second."""
    base = cpu.params.dev_refcnt_base
    if netdev_refcnt_read(cpu, dev) == base:
        return
    yield from synchronize_net(cpu)
    warn_ns = cpu.now() + WARN_NS
    while netdev_refcnt_read(cpu, dev) != base:
        yield from call_netdevice_notifiers(cpu, dev, NETDEV_UNREGISTER)
        for _ in range(REBROADCAST_MS // WAIT_MS):
            if netdev_refcnt_read(cpu, dev) == base:
                return
            yield from msleep(cpu, WAIT_MS)
        if cpu.now() >= warn_ns:
            count = netdev_refcnt_read(cpu, dev)
            text = f"unregister_netdevice: waiting for {dev.name} to become free. Usage count"
            printk(cpu, f"{text} = {count}", KERN_EMERG)
            warn_ns = cpu.now() + WARN_NS


def changed(cpu: Cpu, dev: NetDevice) -> Context:
    """Publish the device's shared state."""
    yield from publish(cpu, "netdev", dev.ifindex, dev.shared())
    if dev.nic is not None:
        cpu.words[_NIC_FLAGS + dev.nic] = (
            NIC_REGISTERED
            | (NIC_UP if dev.flags & IFF_UP else 0)
            | (NIC_CARRIER if dev.carrier else 0)
            | (NIC_SLAVE if dev.master is not None else 0)
            | (NIC_REMOVED if dev.adapter is not None and dev.adapter.removed else 0)
        )


def dev_open(cpu: Cpu, dev: NetDevice, ndo_open: Callable[[], Context]) -> Context:
    """ip link set up: ndo_open, IFF_UP, dev_activate if there is carrier."""
    if dev.flags & IFF_UP:
        return 0
    error: int = yield from ndo_open()
    if error:
        return error
    dev.flags |= IFF_UP
    dev.qdisc_attached = True
    _activate(cpu, dev, dev.carrier)
    yield from changed(cpu, dev)
    rtmsg_ifinfo(cpu, dev)
    yield from fib_add_ifaddr(cpu, dev)
    return 0


def _activate(cpu: Cpu, dev: NetDevice, active: bool) -> None:
    """dev_activate and dev_deactivate: a real queueing discipline or noop, and the watchdog."""
    dev.qdisc_active = active
    if active:
        netdev_watchdog_up(cpu, dev)
    else:
        netdev_watchdog_down(cpu, dev)


def dev_close(cpu: Cpu, dev: NetDevice, ndo_stop: Callable[[], Context]) -> Context:
    """ip link set down: dev_deactivate empties the queue on every CPU, then ndo_stop."""
    if not dev.flags & IFF_UP:
        return
    _activate(cpu, dev, False)
    dev.flags &= ~IFF_UP
    yield from changed(cpu, dev)
    yield from fib_disable_ip(cpu, dev)
    yield from call_netdevice_notifiers(cpu, dev, NETDEV_DOWN)
    rtmsg_ifinfo(cpu, dev)
    yield from ndo_stop()


def dev_set_promiscuity(cpu: Cpu, dev: NetDevice, change: int) -> None:
    """Count who wants every frame; a bond passes it on to its active slave, or to all
    of them, as its mode has it."""
    if cpu.net.devices.get(dev.ifindex) is not dev:
        return  # unregistered meanwhile
    dev.promiscuity += change
    on = dev.promiscuity > 0
    if on == bool(dev.flags & IFF_PROMISC):
        return
    dev.flags = dev.flags | IFF_PROMISC if on else dev.flags & ~IFF_PROMISC
    printk(cpu, f"device {dev.name} {'entered' if on else 'left'} promiscuous mode")
    if dev.adapter is not None:
        write_fctrl(dev.adapter)
    for slave in dev.bonding.promiscuous() if dev.bonding is not None else ():
        dev_set_promiscuity(cpu, slave, change)


def move_promiscuity(dev: NetDevice | None, change: int) -> None:
    """The task that asked for it moves: this CPU counts it no more (-1), or from now on (1). The
    device itself notices nothing."""
    if dev is None:
        return
    dev.promiscuity += change
    on = dev.promiscuity > 0
    dev.flags = dev.flags | IFF_PROMISC if on else dev.flags & ~IFF_PROMISC
    for slave in dev.bonding.promiscuous() if dev.bonding is not None else ():
        move_promiscuity(slave, change)


def carrier_on(cpu: Cpu, dev: NetDevice) -> Context:
    """netif_carrier_on."""
    if not dev.carrier:
        dev.carrier = True
        yield from changed(cpu, dev)
        yield from _fire(cpu, dev)


def carrier_off(cpu: Cpu, dev: NetDevice) -> Context:
    """netif_carrier_off."""
    if dev.carrier:
        dev.carrier = False
        yield from changed(cpu, dev)
        yield from _fire(cpu, dev)


def _fire(cpu: Cpu, dev: NetDevice) -> Context:
    watch = cpu.net.linkwatch
    if dev not in watch.pending:
        watch.pending.append(dev)
    how = cpu.params.carrier_loss
    urgent = dev.carrier and how != "no-urgency"
    urgent = urgent or (how == "at-once-for-slaves" and dev.master is not None)
    delay = 0 if urgent else max(0, watch.next_event - cpu.jiffies())
    yield from schedule_delayed_work(cpu, watch.work, delay)


def _linkwatch_event(cpu: Cpu) -> Context:
    watch = cpu.net.linkwatch
    yield from cpu.net.rtnl.lock(cpu)
    pending, watch.pending = watch.pending, []
    watch.next_event = cpu.jiffies() + cpu.params.hz
    for dev in pending:
        active = dev.carrier and bool(dev.flags & IFF_UP)
        if active != dev.qdisc_active:
            _activate(cpu, dev, active)
            yield from changed(cpu, dev)
        if dev.flags & IFF_UP:
            yield from call_netdevice_notifiers(cpu, dev, NETDEV_CHANGE)  # netdev_state_change
            rtmsg_ifinfo(cpu, dev)
        yield
    cpu.net.rtnl.unlock(cpu)
