"""Interrupt and poll: ixgbe_msix_clean_rings, ixgbe_poll, ixgbe_clean_rx_irq."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import hw, itr, regs, watchdog
from nodes.cpu.kernel.drivers.ixgbe.adapter import (
    BUFFER_BYTES,
    CHECK_FOR_TX_HANG,
    HANG_CHECK_ARMED,
    ITR_SETTING,
    NTC,
    NTU,
    RX_BYTES,
    RX_NTC,
    RX_PACKETS,
    RX_TAIL,
    TIME_STAMP,
    TX_DONE_OLD,
    TX_PACKETS,
    TX_RESTART,
    TX_STOPPED,
    Adapter,
    Ring,
)
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.net.dql import ADJ_LIMIT, NUM_QUEUED, STACK_XOFF, TRANS_START
from nodes.cpu.kernel.net.eth import eth_type_trans
from nodes.cpu.kernel.net.napi import GRO_NORMAL_BATCH, Napi, napi_complete_done, napi_schedule
from nodes.cpu.kernel.net.qdisc import netif_schedule
from nodes.cpu.kernel.net.rps import rps_steer
from nodes.cpu.kernel.net.skbuff import SkBuff, count_drop, received_skb
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.smp import call_function_single, remote_function
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

WAKE_QUEUE = 135
IXGBE_RX_BUFFER_WRITE = 16

_RX_POLLED = CPU_SCHEMA.index("rx_polled")
_CLEAN = TRACEPOINTS["rx_clean"].number


def msix_clean_rings(adapter: Adapter, queue: int) -> int:
    """The queue vector's handler: no register access, the hardware masked the vector itself."""
    napi_schedule(adapter.cpu, adapter.napi[queue])
    return IRQ_HANDLED


def ixgbe_poll(cpu: Cpu, napi: Napi, budget: int) -> Context:
    """Clean both rings of a queue pair; returns the work to charge."""
    netdev = cpu.net.devices.get(napi.ifindex)
    adapter = netdev.adapter if netdev is not None else None
    if adapter is None:
        napi_complete_done(cpu, napi)
        return 0
    ring = adapter.all_rings[napi.queue]
    words, state = cpu.ram.words64, ring.state
    if adapter.clean_tx(cpu, ring) and (words[state + TX_STOPPED] or words[state + STACK_XOFF]):
        if words[state + TX_STOPPED]:
            words[state + TX_RESTART] += 1
        yield from _wake_subqueue(cpu, adapter, ring)
    if cpu.ram.words64[ring.state + CHECK_FOR_TX_HANG]:
        yield from _check_tx_hang(cpu, adapter, ring)
    yield
    work: int = yield from clean_rx_irq(cpu, adapter, ring, budget)
    if work >= budget:
        return budget
    if napi_complete_done(cpu, napi):
        if words[state + ITR_SETTING] == itr.DYNAMIC:
            itr.ADAPTIVE[cpu.params.adaptive_itr].set_itr(cpu, adapter, ring)
        if not adapter.down:
            adapter.irq_enable_queue(napi.queue)
    return min(work, budget - 1) if cpu.params.poll_return == "work" else 0


def _check_tx_hang(cpu: Cpu, adapter: Adapter, ring: Ring) -> Context:
    """ixgbe_check_tx_hang: work is pending and none was done since the last look, twice in a row.
    A reset of the adapter is all that helps."""
    words, state = cpu.ram.words64, ring.state
    words[state + CHECK_FOR_TX_HANG] = 0
    done = words[state + TX_PACKETS]
    if words[state + TX_DONE_OLD] != done or words[state + NTU] == words[state + NTC]:
        words[state + TX_DONE_OLD] = done
        words[state + HANG_CHECK_ARMED] = 0
        return
    if not words[state + HANG_CHECK_ARMED]:
        words[state + HANG_CHECK_ARMED] = 1
        words[state + TIME_STAMP] = cpu.jiffies() & 0xFFFF_FFFF
        return
    base = regs.tx_queue(ring.queue)
    head = yield from hw.read_reg(cpu, adapter, base + 0x10)
    tail = yield from hw.read_reg(cpu, adapter, base + 0x18)
    if adapter.removed:
        return
    for line in (
        "Detected Tx Unit Hang",
        f"  Tx Queue             <{ring.queue}>",
        f"  TDH, TDT             <{head:x}>, <{tail:x}>",
        f"  next_to_use          <{words[state + NTU]:x}>",
        f"  next_to_clean        <{words[state + NTC]:x}>",
        "tx_buffer_info[next_to_clean]",
        f"  time_stamp           <{words[state + TIME_STAMP]:x}>",
        f"  jiffies              <{cpu.jiffies() & 0xFFFF_FFFF:x}>",
    ):
        prefixed = line.startswith(("Detected", "tx_buffer"))
        if prefixed:
            hw.e_err(cpu, adapter, line)
        else:
            printk(cpu, line, KERN_ERR)
    words[state + HANG_CHECK_ARMED] = 0
    yield from watchdog.tx_timeout_reset(cpu, adapter, ring.queue)


def _wake_subqueue(cpu: Cpu, adapter: Adapter, ring: Ring) -> Context:
    """netif_wake_subqueue: the CPUs that found no room in the ring, whoever polls it, go on."""
    atomics, words, state = cpu.ram.atomics, cpu.ram.words64, ring.state
    while atomics.test_and_set(ring.lock_word):
        yield
    stopped: int = words[state + TX_STOPPED] | words[state + STACK_XOFF]
    if adapter.bql and words[state + ADJ_LIMIT] < words[state + NUM_QUEUED]:
        stopped = 0  # still over its byte limit
    else:
        words[state + TX_STOPPED] = words[state + STACK_XOFF] = words[state + TRANS_START] = 0
    atomics.release(ring.lock_word)
    for number in cpu.online_cpus:  # what an offline one had waiting, another has adopted
        if not stopped >> number & 1:
            continue
        if number == cpu.number:
            netif_tx_wake_queue(cpu, adapter.netdev)
        else:
            yield from call_function_single(cpu, number, [WAKE_QUEUE, adapter.netdev.ifindex])


@remote_function(WAKE_QUEUE)
def netif_wake_queue(cpu: Cpu, _source: int, record: list[int]) -> Context | None:
    """There is room again in the ring that this CPU sends on."""
    dev = cpu.net.devices.get(record[1])
    if dev is not None:
        netif_tx_wake_queue(cpu, dev)
    return None


def netif_tx_wake_queue(cpu: Cpu, dev: NetDevice) -> None:
    """This CPU's queue of the device goes on, if it was stopped."""
    if not dev.queue_stopped:
        return
    dev.queue_stopped = False
    if dev.qdisc.qlen:
        netif_schedule(cpu, dev)


def clean_rx_irq(cpu: Cpu, adapter: Adapter, ring: Ring, budget: int) -> Context:
    """Take frames from the ring, give their buffers back, hand them to the stack. A frame longer
    than a buffer comes in several; it is taken when its last descriptor (EOP) is there."""
    ram, netdev, state, count = cpu.ram, adapter.netdev, ring.state, ring.rx_count
    words, words32, memory = ram.words64, ram.words32, ram.bytes
    polled = _RX_POLLED + adapter.nic * 3
    entry: int = words[state + RX_NTC]
    done = octets = 0
    batch: list[SkBuff] = []
    while done < budget:
        at = (ring.rx_desc >> 2) + entry * 4
        status = words32[at + 2]
        if not status & regs.RXD_STAT_DD:
            break
        if not status & regs.RXD_STAT_EOP:
            chained = _chained(cpu, ring, entry)
            if chained is None:
                break
            frame, entry, status = chained
            length = len(frame)
        else:
            length = words32[at + 3] & 0xFFFF
            address = ring.rx_buffers + entry * BUFFER_BYTES
            frame = bytes(memory[address : address + length])
            words[at >> 1] = address
            words[(at >> 1) + 1] = 0
        skb = received_skb(frame, netdev)
        cpu.words[polled + skb.cls] += 1
        if cpu.trace_mask >> _CLEAN & 1:
            cpu.trace(_CLEAN, skb.key, entry | ring.queue << 16 | netdev.ifindex << 32)
        entry = (entry + 1) % count
        done += 1
        if status & regs.RXD_ERR_RXE or length < 14:
            count_drop(cpu, "PKT_TOO_SMALL", adapter.nic, skb.cls)
            continue
        octets += length
        eth_type_trans(skb, netdev)
        batch.append(skb)
        words[state + RX_NTC] = entry
        _refill(adapter, ring, entry)
        if len(batch) >= GRO_NORMAL_BATCH:
            if netdev.rps:
                batch = yield from rps_steer(cpu, netdev, ring.queue, batch)
            yield from cpu.net.receive_list(cpu, batch)
            batch = []
        yield
    words[state + RX_NTC] = entry
    if done:
        words[state + RX_PACKETS] += done
        words[state + RX_BYTES] += octets
    if batch:
        if netdev.rps:
            batch = yield from rps_steer(cpu, netdev, ring.queue, batch)
        yield from cpu.net.receive_list(cpu, batch)
    return done


def _chained(cpu: Cpu, ring: Ring, entry: int) -> tuple[bytes, int, int] | None:
    """A frame in several buffers: (frame, its last entry, that one's status), None while it is not
    whole. The buffers are given back."""
    words, words32, memory = cpu.ram.words64, cpu.ram.words32, cpu.ram.bytes
    pieces: list[bytes] = []
    last = entry
    while True:
        at = (ring.rx_desc >> 2) + last * 4
        status = words32[at + 2]
        if not status & regs.RXD_STAT_DD or len(pieces) >= ring.rx_count:
            return None
        address = ring.rx_buffers + last * BUFFER_BYTES
        pieces.append(bytes(memory[address : address + (words32[at + 3] & 0xFFFF)]))
        if status & regs.RXD_STAT_EOP:
            break
        last = (last + 1) % ring.rx_count
    for n in range(len(pieces)):
        number = (entry + n) % ring.rx_count
        at = (ring.rx_desc >> 3) + number * 2
        words[at] = ring.rx_buffers + number * BUFFER_BYTES
        words[at + 1] = 0
    return b"".join(pieces), last, status


def _refill(adapter: Adapter, ring: Ring, entry: int) -> None:
    """Give buffers back to the NIC, sixteen at a time: tail is the last entry it may fill, + 1."""
    words = adapter.cpu.ram.words64
    tail: int = words[ring.state + RX_TAIL]
    wanted = (entry - 1) % ring.rx_count
    if (wanted - tail) % ring.rx_count >= IXGBE_RX_BUFFER_WRITE:
        words[ring.state + RX_TAIL] = wanted
        adapter.write_reg(regs.rx_queue(ring.queue) + 0x18, wanted)
