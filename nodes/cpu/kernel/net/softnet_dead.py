"""The softnet data of a CPU that goes offline, after dev_cpu_callback and dev_cpu_dead of dev.c.

In Linux another CPU reaches into the dead one's lists; here the dying CPU sends what they hold to
the adopter, in Linux's order: what waits to be sent, the NAPI instances that are to be polled, the
input backlog. Behaviour ``offline_poll_list``: *left* (before 3.0) the poll list stays where it is:
its queues stall, SCHED set, until the CPU is back and polls for some other reason.

A transmit queue of a NIC has no CPU of its own in Linux; here each CPU keeps what its transmit
queue has no room for (``NetDevice.qdisc``), and that is what moves. There is no completion queue:
an skb's memory is Python's. A packet that moves holds no dst entry any more: its way is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus.ram import BUFFER_BYTES
from nodes.cpu.kernel.net.dst import skb_dst_drop
from nodes.cpu.kernel.net.handover import BACKLOG_RX, send_pieces, whole_frame
from nodes.cpu.kernel.net.napi import NAPI_STATE_MISSED, NAPI_STATE_SCHED
from nodes.cpu.kernel.net.qdisc import netif_schedule
from nodes.cpu.kernel.net.skbuff import SkBuff, count_drop, packet_key
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.kernel.softirq import NET_RX_SOFTIRQ, __raise_softirq_irqoff
from nodes.cpu.page import CPU_SCHEMA
from nodes.ledger import classify

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

DEAD_SKB, DEAD_NAPI = 133, 134
#: Kind of a DEAD_SKB beside those of the backlog: it waits for room in a transmit queue.
OUTPUT_QUEUE = 2

_OUT = CPU_SCHEMA.index("handover_out")
_IN = CPU_SCHEMA.index("handover_in")
_DROPPED = CPU_SCHEMA.index("softnet") + 1


def dev_cpu_dead(cpu: Cpu, adopter: int) -> Context:
    """On the dying CPU, when none of its interrupts can come any more and nothing polls: the
    adopter must be able to take interrupts meanwhile."""
    net = cpu.net
    for dev in list(net.devices.values()):
        while (skb := dev.qdisc.dequeue(cpu)) is not None:
            yield from _send(cpu, adopter, OUTPUT_QUEUE, skb, bytes(4))
        dev.queue_stopped = False
    if cpu.params.offline_poll_list == "moved":
        while net.poll_list:
            napi = net.poll_list.pop(0)
            record = [DEAD_NAPI, napi.ifindex, napi.queue, napi.word]
            yield from call_function_single(cpu, adopter, record)
    while net.backlog:
        kind, skb, nexthop = net.backlog.popleft()
        yield from _send(cpu, adopter, kind, skb, nexthop)


def _send(cpu: Cpu, adopter: int, kind: int, skb: SkBuff, nexthop: bytes) -> Context:
    frame = skb.frame
    if len(frame) > BUFFER_BYTES:
        frame = yield from send_pieces(cpu, adopter, frame)
    while (buffer := cpu.handover.put(frame)) is None:
        yield
    skb_dst_drop(cpu, skb)
    cpu.words[_OUT + skb.cls] += 1
    where = int.from_bytes(nexthop, "big") << 16 | skb.dev.ifindex
    what = kind | skb.priority << 8
    record = [DEAD_SKB, buffer, len(frame), what, where, skb.protocol, skb.pkt_type]
    yield from call_function_single(cpu, adopter, record)


@remote_function(DEAD_SKB)
def adopt_skb(cpu: Cpu, source: int, record: list[int]) -> Context | None:
    """A frame of the dead CPU: to the end of the device's queue here, or netif_rx."""
    frame = whole_frame(cpu, source, record)
    kind, where = record[3] & 0xFF, record[4]
    cls = classify(frame)
    cpu.words[_IN + cls] += 1
    dev = cpu.net.devices.get(where & 0xFFFF)
    if dev is None:
        count_drop(cpu, "NOT_SPECIFIED", None, cls)
        return None
    skb = SkBuff(frame, dev, cls, packet_key(frame, cls))
    skb.protocol, skb.pkt_type, skb.priority = record[5], record[6], record[3] >> 8
    if kind == OUTPUT_QUEUE:
        if dev.qdisc.enqueue(cpu, skb):
            netif_schedule(cpu, dev)
        else:
            count_drop(cpu, "QDISC_DROP", dev.nic, cls)
    elif kind == BACKLOG_RX and len(cpu.net.backlog) >= cpu.sysctl.netdev_max_backlog:
        cpu.words[_DROPPED] += 1
        count_drop(cpu, "CPU_BACKLOG", dev.nic, cls)
    else:
        cpu.net.backlog.append((kind, skb, (where >> 16).to_bytes(4, "big")))
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
    return None


@remote_function(DEAD_NAPI)
def adopt_napi(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    """A queue that the dead CPU was to poll; SCHED is set, and this CPU has it now."""
    _, ifindex, queue, word = record[:4]
    dev = cpu.net.devices.get(ifindex)
    if dev is None or dev.adapter is None:
        cpu.ram.atomics.clear_bits(word, NAPI_STATE_SCHED | NAPI_STATE_MISSED)
        return None
    cpu.net.poll_list.append(dev.adapter.napi[queue])
    __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
    return None
