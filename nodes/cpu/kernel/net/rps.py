"""Receive packet steering: a queue's frames are received by other CPUs, after get_rps_cpu of
net/core/dev.c. Since 2.6.35; off until somebody writes a mask to ``queues/rx-N/rps_cpus``.

The CPU follows from the flow (addresses, and the ports of UDP), so that a flow stays in order. The
frame goes into that CPU's backlog, its own included, before any tap has seen it; what Linux puts
into another CPU's queue goes there by IPI. Linux takes the NIC's hash if there is one, else jhash
with a seed of the boot; here it is jhash with seed 0. Left out: RFS, the flow limit.
"""

from __future__ import annotations

from errno import EINVAL, ENOENT
from typing import TYPE_CHECKING

from nodes.cpu.kernel.files import store
from nodes.cpu.kernel.irq.affinity import cpumask_bits
from nodes.cpu.kernel.irq.cpumask import parse_mask
from nodes.cpu.kernel.net.handover import BACKLOG_RPS, enqueue_to_backlog
from nodes.cpu.kernel.net.skbuff import SkBuff, kfree_skb_reason
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.softirq import NET_RX_SOFTIRQ, __raise_softirq_irqoff
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.page import CPU_SCHEMA

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

JHASH_INITVAL = 0xDEADBEEF
_MASK = 0xFFFF_FFFF
#: (which of a, b, c; with which; rotated by) of each step.
_FINAL = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))

_DROPPED = CPU_SCHEMA.index("softnet") + 1
_RX_DROPPED = CPU_SCHEMA.index("rx_dropped")


def rps_steer(cpu: Cpu, dev: NetDevice, queue: int, skbs: list[SkBuff]) -> Context:
    """Give frames of a steered queue away; returns those that stay here."""
    cpus = [number for number in dev.rps.get(queue, ()) if number in cpu.online_cpus]
    if not cpus:
        return skbs
    for skb in skbs:
        target = cpus[flow_hash(skb.frame) * len(cpus) >> 32]
        if target != cpu.number:
            yield from enqueue_to_backlog(cpu, target, skb, BACKLOG_RPS)
        elif len(cpu.net.backlog) >= cpu.sysctl.netdev_max_backlog:
            cpu.words[_DROPPED] += 1
            cpu.words[_RX_DROPPED + dev.slot] += 1
            kfree_skb_reason(cpu, skb, "CPU_BACKLOG")
        else:
            cpu.net.backlog.append((BACKLOG_RPS, skb, b""))
            __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
    return []


def flow_hash(frame: bytes) -> int:
    """32 bits that all frames of a flow have in common: __flow_hash_3words."""
    if frame[12:14] != b"\x08\x00" or len(frame) < 38:
        words = (frame[:4], frame[4:8], frame[8:12])
    elif frame[23] in (6, 17) and not (frame[20] & 0x3F or frame[21]):
        words = (frame[30:34], frame[26:30], frame[34:38])
    else:
        words = (frame[30:34], frame[26:30], b"")
    return jhash_3words(*(int.from_bytes(word, "big") for word in words))


def jhash_3words(a: int, b: int, c: int) -> int:
    """include/linux/jhash.h, with initval 0: __jhash_final."""
    a, b, c = (value + JHASH_INITVAL + (3 << 2) & _MASK for value in (a, b, c))
    for target, source, bits in _FINAL:
        values = [a, b, c]
        mixed = values[target] ^ values[source]
        values[target] = mixed - _rol(values[source], bits) & _MASK
        a, b, c = values
    return c


def _rol(value: int, bits: int) -> int:
    return (value << bits | value >> 32 - bits) & _MASK


@replica("rps")
def apply_rps(cpu: Cpu, key: tuple[int, int], numbers: tuple[int, ...]) -> None:
    """The CPUs of a device's receive queue."""
    dev = cpu.net.devices.get(key[0])
    if dev is None:
        return
    if numbers:
        dev.rps[key[1]] = tuple(numbers)
    else:
        dev.rps.pop(key[1], None)


@store("/sys/class/net/{port}/queues/rx-{rxq}/rps_cpus")
def store_rps_map(cpu: Cpu, groups: dict[str, str], text: str) -> Context:
    """bitmap_parse; CPUs that are not online are left out of the map."""
    dev = cpu.net.device(groups["port"])
    if dev is None:
        return -ENOENT
    try:
        mask = parse_mask(text, cpumask_bits(cpu))
    except OSError as error:
        return -(error.errno or EINVAL)
    numbers = tuple(number for number in cpu.online_cpus if mask >> number & 1)
    yield from publish(cpu, "rps", (dev.ifindex, int(groups["rxq"])), numbers)
    return 0
