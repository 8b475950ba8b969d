"""NAPI and the two network softirqs, after net/core/dev.c.

A driver's interrupt schedules its ``Napi`` on this CPU's poll list; NET_RX polls each with its
weight until the budget or the time is used up. NAPI_STATE_SCHED is an atomic word in RAM, so that a
queue is polled by one CPU at a time wherever its interrupt went. The backlog carries frames that
other CPUs handed over, both ways, and what came through lo.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.net.handover import (
    BACKLOG_BOND,
    BACKLOG_DEFRAG,
    BACKLOG_RPS,
    BACKLOG_RX,
)
from nodes.cpu.kernel.net.neighbour import neigh_output
from nodes.cpu.kernel.net.xmit import qdisc_run
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.softirq import (
    NET_RX_SOFTIRQ,
    NET_TX_SOFTIRQ,
    __raise_softirq_irqoff,
    open_softirq,
)
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAPI_WEIGHT = 64
NAPI_STATE_SCHED, NAPI_STATE_MISSED = 1, 2
GRO_NORMAL_BATCH = 8
DISABLE_LOOKS = 100

_SQUEEZE = CPU_SCHEMA.index("softnet") + 2
_NAPI_NOW = CPU_SCHEMA.index("napi_now")
_POLL = TRACEPOINTS["napi_poll"].number

#: poll(cpu, napi, budget) is a context that returns the work it did.
Poll = Callable[["Cpu", "Napi", int], Context]


class Napi:
    """struct napi_struct of one queue."""

    def __init__(self, word: int, ifindex: int, queue: int, poll: Poll) -> None:
        self.word = word  # NAPI_STATE_* bits, an atomic word
        self.ifindex = ifindex
        self.queue = queue
        self.poll = poll
        self.enabled = False


def napi_schedule(cpu: Cpu, napi: Napi) -> None:
    """From the driver's hard interrupt.

    One atomic step takes SCHED or, if somebody polls already, notes in 6.1 that there is more
    (MISSED); before, such an interrupt was lost on purpose."""
    if not napi.enabled:
        return
    cmpxchg, remembers = cpu.ram.atomics.cmpxchg, cpu.params.napi_missed == "remembered"
    while state := cmpxchg(napi.word, 0, NAPI_STATE_SCHED):
        if not remembers or state & NAPI_STATE_MISSED:
            return
        if cmpxchg(napi.word, state, state | NAPI_STATE_MISSED) == state:
            return
    cpu.net.poll_list.append(napi)
    __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)


def napi_complete_done(cpu: Cpu, napi: Napi) -> bool:
    """Polling is over; False if an interrupt came meanwhile and it goes on."""
    atomics = cpu.ram.atomics
    if atomics.cmpxchg(napi.word, NAPI_STATE_SCHED, 0) != NAPI_STATE_SCHED:
        atomics.clear_bits(napi.word, NAPI_STATE_MISSED)
        cpu.net.poll_list.append(napi)
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        return False
    return True


def napi_disable(cpu: Cpu, napi: Napi) -> Context:
    """Wait until nobody polls it; none begins any more, it is not ``enabled``. Who was killed while
    it polled polls for ever: Linux would wait as long, here it is given up."""
    for _ in range(DISABLE_LOOKS):
        if not cpu.ram.atomics.load(napi.word) & NAPI_STATE_SCHED:
            return
        yield from nanosleep(cpu, 1_000_000)


def net_rx_action(cpu: Cpu) -> Context:
    """The NET_RX softirq."""
    net, words = cpu.net, cpu.words
    after_poll = cpu.params.time_squeeze == "after-poll"
    budget = cpu.sysctl.netdev_budget
    end_ns = cpu.now() + cpu.sysctl.netdev_budget_usecs * 1000
    repoll: list[Napi] = []
    waiting, net.poll_list = net.poll_list, []
    quota = cpu.sysctl.dev_weight
    net.backlog_polled = True
    while net.backlog and quota > 0:
        yield from _process_backlog(cpu)
        quota -= 1
    net.backlog_polled = False
    squeezed = False
    while waiting:
        if not after_poll and (budget <= 0 or cpu.now() > end_ns):
            squeezed = True
            break
        napi = waiting.pop(0)
        words[_NAPI_NOW] = napi.ifindex | napi.queue << 16 | NAPI_WEIGHT << 48
        work: int = yield from napi.poll(cpu, napi, NAPI_WEIGHT)
        if cpu.trace_mask >> _POLL & 1:
            cpu.trace(_POLL, napi.ifindex | napi.queue << 16, work | NAPI_WEIGHT << 32)
        words[_NAPI_NOW] = 0
        budget -= work
        if work == NAPI_WEIGHT:
            repoll.append(napi)
        if not after_poll and not waiting and repoll:
            waiting, repoll = repoll, []
        if after_poll and (budget <= 0 or cpu.now() > end_ns):
            squeezed = True
            break
    if squeezed:
        words[_SQUEEZE] += 1
    net.poll_list = waiting + net.poll_list + repoll
    if net.poll_list or net.backlog:
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)


def _process_backlog(cpu: Cpu) -> Context:
    kind, skb, nexthop = cpu.net.backlog.popleft()
    if kind == BACKLOG_RX:
        yield from cpu.net.deliver(cpu, skb)
    elif kind == BACKLOG_BOND:
        yield from cpu.net.bond_received(cpu, skb, skb.dev)
    elif kind == BACKLOG_DEFRAG:
        yield from cpu.net.defrag(cpu, skb)
    elif kind == BACKLOG_RPS:
        yield from cpu.net.receive(cpu, skb)
    else:
        yield from neigh_output(cpu, skb, nexthop)
    yield


def net_tx_action(cpu: Cpu) -> Context:
    """The NET_TX softirq: queues that were woken send what waited."""
    queue, cpu.net.output_queue = cpu.net.output_queue, []
    for dev in queue:
        dev.qdisc.scheduled = False
        if dev.qdisc.qlen and not dev.queue_stopped:
            yield from qdisc_run(cpu, dev)


def setup(cpu: Cpu) -> None:
    open_softirq(cpu, NET_TX_SOFTIRQ, net_tx_action)
    open_softirq(cpu, NET_RX_SOFTIRQ, net_rx_action)
