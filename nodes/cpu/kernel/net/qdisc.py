"""pfifo_fast, the queueing discipline of a transmit queue, after net/sched/sch_generic.c.

Three bands, the lowest number first; the band follows from the packet's priority (prio2band). In
Linux a queue belongs to a NIC's ring (mq); here to a CPU, since CPU n sends on ring n (XPS), and
its numbers stand in that CPU's page. Behaviour ``pfifo_fast_limit``: tx_queue_len is a limit for
*each band* (2.6.18; since 4.16 each band is a ring of that size) or for the three *together*. A
bond has noqueue: nothing waits there. noop, while a device is down or linkwatch saw its carrier go,
is ``NetDevice.qdisc_active``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nodes.cpu.kernel.net.skbuff import SkBuff
from nodes.cpu.kernel.softirq import NET_TX_SOFTIRQ, __raise_softirq_irqoff
from nodes.cpu.page import CPU_SCHEMA, QDISC_WORDS

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

TX_QUEUE_LEN = 1000
PRIO2BAND = (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
TC_PRIO_CONTROL = 7
#: Words of a device's row in ``qdisc`` of the page.
SENT_BYTES, SENT_PACKETS, DROPS, REQUEUES, BACKLOG_BYTES, BACKLOG_PACKETS = range(QDISC_WORDS)

_QDISC = CPU_SCHEMA.index("qdisc")
_WAITING = CPU_SCHEMA.index("qdisc_waiting")


class PfifoFast:
    """What waits in one CPU's transmit queue of a device."""

    def __init__(self, slot: int) -> None:
        self.bands: tuple[deque[SkBuff], ...] = (deque(), deque(), deque())
        self.qlen = 0
        self.requeued: deque[SkBuff] = deque()  # gso_skb: what the driver did not take goes first
        self.scheduled = False  # __QDISC_STATE_SCHED: on the output queue
        self.stats = _QDISC + slot * QDISC_WORDS

    def __len__(self) -> int:
        return self.qlen

    def __iter__(self) -> Iterator[SkBuff]:
        for queue in (self.requeued, *self.bands):
            yield from queue

    def enqueue(self, cpu: Cpu, skb: SkBuff) -> bool:
        """Behind the others of its band; False: no room."""
        band = self.bands[PRIO2BAND[skb.priority & 15]]
        together = cpu.params.pfifo_fast_limit == "together"
        if (self.qlen if together else len(band)) >= TX_QUEUE_LEN:
            cpu.words[self.stats + DROPS] += 1
            return False
        band.append(skb)
        self._count(cpu, skb, 1)
        return True

    def dequeue(self, cpu: Cpu) -> SkBuff | None:
        for queue in (self.requeued, *self.bands):
            if queue:
                skb = queue.popleft()
                self._count(cpu, skb, -1)
                return skb
        return None

    def requeue(self, cpu: Cpu, skb: SkBuff) -> None:
        """dev_requeue_skb: the driver was busy."""
        self.requeued.append(skb)
        self._count(cpu, skb, 1)
        cpu.words[self.stats + REQUEUES] += 1

    def _count(self, cpu: Cpu, skb: SkBuff, sign: int) -> None:
        self.qlen += sign
        cpu.words[self.stats + BACKLOG_BYTES] += sign * len(skb.frame)
        cpu.words[self.stats + BACKLOG_PACKETS] += sign
        cpu.words[_WAITING + skb.cls] += sign


def netif_schedule(cpu: Cpu, dev: NetDevice) -> None:
    """__netif_schedule: the device's queue runs in the NET_TX softirq, once however often it was
    asked for. Behaviour ``output_queue``: the last one asked for runs first, or the first."""
    if dev.qdisc.scheduled:
        return
    dev.qdisc.scheduled = True
    queue = cpu.net.output_queue
    if cpu.params.output_queue == "lifo":
        queue.insert(0, dev)
    else:
        queue.append(dev)
    __raise_softirq_irqoff(cpu, NET_TX_SOFTIRQ)
