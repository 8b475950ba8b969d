"""dev_watchdog: a transmit queue that has been stopped for long (net/sched/sch_generic.c).

A timer of each device that has a queueing discipline and a driver with ndo_tx_timeout looks every
``watchdog_timeo`` at the queues. One that is stopped because its ring is full or over its byte
limit, and has not been given a frame for that long, has timed out: the driver is told. Others are
none of its business, and without a carrier nobody expects frames to leave. A bond has none.

Behaviour ``tx_watchdog_text``: 2.6.18 has one queue to speak of and prints a line each time; later
the queue is named, once a boot, in a warning with a call trace. Left out: round_jiffies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.net.dql import TRANS_TIMEOUT
from nodes.cpu.kernel.net.netdevice import IFF_UP, NetDevice
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_INFO, printk
from nodes.cpu.kernel.timer import timer_setup

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

WATCHDOG_TIMEO_S = 5
_SOURCE = "net/sched/sch_generic.c"


def netdev_watchdog_up(cpu: Cpu, dev: NetDevice) -> None:
    """dev_activate, netif_carrier_on: the timer runs, if it does not yet."""
    if dev.ndo_tx_timeout is None:
        return
    timer = dev.watchdog_timer
    if timer is None:
        timer = timer_setup(cpu, lambda cpu: dev_watchdog(cpu, dev), 0, "dev_watchdog")
        dev.watchdog_timer = timer
    if not timer.pending():
        cpu.timers.mod_timer(timer, cpu.jiffies() + WATCHDOG_TIMEO_S * cpu.params.hz)


def netdev_watchdog_down(cpu: Cpu, dev: NetDevice) -> None:
    """dev_deactivate."""
    if dev.watchdog_timer is not None:
        cpu.timers.del_timer(dev.watchdog_timer)


def dev_watchdog(cpu: Cpu, dev: NetDevice) -> Context:
    """The timer's function, on the boot CPU."""
    adapter = dev.adapter
    if adapter is None or not dev.qdisc_active:
        return
    if dev.flags & IFF_UP and dev.carrier:
        timeout = WATCHDOG_TIMEO_S * cpu.params.hz
        for queue, since in adapter.stopped_queues():
            if cpu.jiffies() > since + timeout:
                cpu.ram.words64[adapter.rings[queue].state + TRANS_TIMEOUT] += 1
                if cpu.params.tx_watchdog_text == "device":
                    text = f"NETDEV WATCHDOG: {dev.name}: transmit timed out"
                    printk(cpu, text, KERN_INFO)
                else:
                    text = f"NETDEV WATCHDOG: {dev.name} (ixgbe): transmit queue {queue} timed out"
                    warn_once(cpu, _SOURCE, text)
                assert dev.ndo_tx_timeout is not None
                yield from dev.ndo_tx_timeout()
                break
    netdev_watchdog_up(cpu, dev)
