"""The transmit watchdog, after dev_watchdog of net/sched/sch_generic.c.

A timer for each device whose driver can be told (ndo_tx_timeout), armed while its real queueing
discipline is active. Every ``WATCHDOG_TIMEO_S`` it looks for a queue that has been stopped for
longer, by its ring or by its byte limit; without carrier it says nothing: then the driver's own
logic has the word. Behaviour ``netdev_watchdog``: a *line* each time, or (2.6.27) a warning *once*
a boot.

A frame is not stamped when it is sent: the only stamp that matters is that of the last one before a
queue stopped, and it is written there (``dql.TRANS_START``). Boot CPU; the words lie in RAM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.drivers.ixgbe.adapter import TX_STOPPED
from nodes.cpu.kernel.net.dql import STACK_XOFF, TRANS_START, TRANS_TIMEOUT
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_INFO, printk
from nodes.cpu.kernel.timer import timer_setup

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

WATCHDOG_TIMEO_S = 5


def netdev_watchdog_up(cpu: Cpu, dev: NetDevice) -> None:
    """__netdev_watchdog_up: from dev_activate, and when the carrier comes."""
    if dev.adapter is None or not cpu.boot:
        return
    if dev.watchdog_timer is None:
        dev.watchdog_timer = timer_setup(
            cpu, lambda cpu: _dev_watchdog(cpu, dev), 0, "dev_watchdog"
        )
    if not dev.watchdog_timer.pending():
        _arm(cpu, dev)


def netdev_watchdog_down(cpu: Cpu, dev: NetDevice) -> None:
    """dev_watchdog_down."""
    if dev.watchdog_timer is not None:
        cpu.timers.del_timer(dev.watchdog_timer)


def _arm(cpu: Cpu, dev: NetDevice) -> None:
    assert dev.watchdog_timer is not None
    cpu.timers.mod_timer(dev.watchdog_timer, cpu.jiffies() + WATCHDOG_TIMEO_S * cpu.params.hz)


def _dev_watchdog(cpu: Cpu, dev: NetDevice) -> Context:
    if not dev.qdisc_active or dev.adapter is None or cpu.net.devices.get(dev.ifindex) is not dev:
        return
    if dev.carrier:
        queue = _timed_out(cpu, dev)
        if queue is not None:
            _say(cpu, dev, queue)
            assert cpu.net.tx_timeout is not None
            yield from cpu.net.tx_timeout(cpu, dev, queue)
    _arm(cpu, dev)


def _timed_out(cpu: Cpu, dev: NetDevice) -> int | None:
    """The first queue that is stopped and has been for too long."""
    assert dev.adapter is not None
    words, late = cpu.ram.words64, cpu.jiffies() - WATCHDOG_TIMEO_S * cpu.params.hz
    for ring in dev.adapter.rings:
        state = ring.state
        since = words[state + TRANS_START]
        if (words[state + TX_STOPPED] or words[state + STACK_XOFF]) and since and since < late:
            words[state + TRANS_TIMEOUT] += 1
            return ring.queue
    return None


def _say(cpu: Cpu, dev: NetDevice, queue: int) -> None:
    if cpu.params.netdev_watchdog == "line":
        printk(cpu, f"NETDEV WATCHDOG: {dev.name}: transmit timed out", KERN_INFO)
    else:
        text = f"NETDEV WATCHDOG: {dev.name} (ixgbe): transmit queue {queue} timed out"
        warn_once(cpu, "net/sched/sch_generic.c", text)
