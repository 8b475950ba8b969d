"""The adapter: one 82599 as every CPU's driver sees it, with its rings in RAM.

A queue pair's whole state (descriptors, buffers, next_to_use, next_to_clean, counters) lives in the
machine's RAM, so that any CPU can transmit on it and whoever the interrupt reaches can poll it; its
writer is the holder of the tx lock or of NAPI_STATE_SCHED. Every ring entry has a 2 KiB buffer of
its own: frames are copied into it to send and out of it on receipt, as with swiotlb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus.messages import MemWrite
from nodes.cpu.kernel import words
from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.net.napi import Napi
from nodes.cpu.kernel.net.skbuff import SkBuff, count_drop
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import classify
from nodes.machine import QUEUE_DMA_BYTES, QUEUES_MAX, RING_ENTRIES

if TYPE_CHECKING:
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

BUFFER_BYTES = 2048
RING_BYTES = RING_ENTRIES * 16
STATE_BYTES = 256
IXGBE_MIN_FRAME = 17

# words of a queue's state
NTU, NTC, TX_PACKETS, TX_BYTES, RX_NTC, RX_PACKETS, RX_BYTES, RX_TAIL, TX_BUSY = range(9)
TX_STOPPED = 9  # bit n: CPU n waits for room; written under the tx lock
#: A ring is full when there is less room than a frame may need.
DESC_NEEDED = 4

#: Atomic words of the driver (see Ram.atomics): NAPI state and tx lock of each queue.

_MMIO_WRITES = CPU_SCHEMA.index("mmio_writes")
_TX_POSTED = CPU_SCHEMA.index("tx_posted")
_XMIT = TRACEPOINTS["net_dev_xmit"].number
_DOORBELL = TRACEPOINTS["doorbell"].number
_MMIO_WRITE = TRACEPOINTS["mmio_write"].number


class Ring:
    """One queue pair: where its parts lie in RAM."""

    def __init__(self, cpu: Cpu, nic: int, queue: int) -> None:
        per_nic = cpu.machine.queues * QUEUE_DMA_BYTES + 65536
        base = cpu.ram.layout.dma + nic * per_nic
        at = base + queue * QUEUE_DMA_BYTES
        self.queue = queue
        self.tx_desc = at
        self.rx_desc = at + RING_BYTES
        self.tx_buffers = at + 2 * RING_BYTES
        self.rx_buffers = self.tx_buffers + RING_ENTRIES * BUFFER_BYTES
        state = base + cpu.machine.queues * QUEUE_DMA_BYTES + queue * STATE_BYTES
        self.state = state // 8
        self.lock_word = words.TX_LOCK + nic * QUEUES_MAX + queue

    def clear_counters(self, cpu: Cpu) -> None:
        """A new netdev counts from zero."""
        for word in (TX_PACKETS, TX_BYTES, RX_PACKETS, RX_BYTES, TX_BUSY):
            cpu.ram.words64[self.state + word] = 0

    def reset(self, cpu: Cpu) -> None:
        """Empty rings; the counters stay."""
        words = cpu.ram.words64
        for word in (NTU, NTC, RX_NTC, RX_TAIL, TX_STOPPED):
            words[self.state + word] = 0
        for ring in (self.tx_desc, self.rx_desc):
            cpu.ram.bytes[ring : ring + RING_BYTES] = bytes(RING_BYTES)


class Adapter:
    """struct ixgbe_adapter, this CPU's replica."""

    def __init__(self, cpu: Cpu, nic: int, netdev: NetDevice, poll: object) -> None:
        self.cpu = cpu
        self.nic = nic
        self.name = cpu.machine.nics[nic].name  # of the node on the bus
        self.netdev = netdev
        self.rings = [Ring(cpu, nic, queue) for queue in range(cpu.machine.queues)]
        self.napi = [
            Napi(words.NAPI + nic * QUEUES_MAX + ring.queue, netdev.ifindex, ring.queue, poll)  # type: ignore[arg-type]
            for ring in self.rings
        ]
        self.down = True
        self.removed = False
        self.irqs: list[int] = []  # on the boot CPU
        self.service: object | None = None  # watchdog.Service, on the boot CPU
        self._writes = _MMIO_WRITES + nic

    # -- registers

    def write_reg(self, register: int, value: int) -> None:
        """Posted write; nothing happens once the adapter is known to be gone."""
        if self.removed:
            return
        self.cpu.words[self._writes] += 1
        self.cpu.trace(_MMIO_WRITE, self.nic, register << 32 | value)
        self.cpu.post(self.name, MemWrite(0, register, value))

    def irq_enable_queue(self, queue: int) -> None:
        self.write_reg(regs.eims_ex(queue >> 5), 1 << (queue & 31))

    # -- transmit

    def tx_ring(self, cpu_number: int) -> Ring:
        """XPS: CPU n sends on queue n."""
        return self.rings[cpu_number % len(self.rings)]

    def xmit_frame(self, cpu: Cpu, skb: SkBuff, ring: Ring) -> bool:
        """ixgbe_xmit_frame: buffer, descriptor, doorbell. False if the ring is full."""
        if self.down:
            count_drop(cpu, "DEV_READY", self.nic, skb.cls)
            return True
        ram = cpu.ram
        words, state = ram.words64, ring.state
        entry: int = words[state + NTU]
        if (words[state + NTC] - entry - 1) % RING_ENTRIES < DESC_NEEDED:
            words[state + TX_STOPPED] |= 1 << cpu.number
            if (words[state + NTC] - entry - 1) % RING_ENTRIES < DESC_NEEDED:
                words[state + TX_BUSY] += 1
                return False
            words[state + TX_STOPPED] &= ~(1 << cpu.number)  # there is room again since we looked
        frame = skb.frame
        length = len(frame)
        if length < IXGBE_MIN_FRAME:
            frame = frame.ljust(IXGBE_MIN_FRAME, b"\0")
            length = IXGBE_MIN_FRAME
        address = ring.tx_buffers + entry * BUFFER_BYTES
        ram.bytes[address : address + length] = frame
        at = ring.tx_desc + entry * 16
        words[at >> 3] = address
        ram.words32[(at >> 2) + 3] = length << 14  # PAYLEN; DD is 0
        ram.words32[(at >> 2) + 2] = regs.TXD_CMD | length
        cpu.words[_TX_POSTED + self.nic * 3 + skb.cls] += 1
        if cpu.trace_mask >> _XMIT & 1:
            place = entry | ring.queue << 16 | self.netdev.ifindex << 32
            cpu.trace(_XMIT, skb.key, place | len(skb.frame) << 48)
        entry = (entry + 1) % RING_ENTRIES
        words[state + NTU] = entry
        self.write_reg(regs.tx_queue(ring.queue) + 0x18, entry)
        cpu.trace(_DOORBELL, self.nic, ring.queue | entry << 16)
        return True

    def clean_tx(self, cpu: Cpu, ring: Ring, limit: int = 256) -> int:
        """ixgbe_clean_tx_irq: count and forget what the NIC has sent."""
        ram = cpu.ram
        words, words32, state = ram.words64, ram.words32, ring.state
        entry: int = words[state + NTC]
        end: int = words[state + NTU]
        packets = octets = 0
        while entry != end and packets < limit:
            at = (ring.tx_desc >> 2) + entry * 4
            if not words32[at + 3] & regs.TXD_STAT_DD:
                break
            octets += words32[at + 2] & 0xFFFF
            packets += 1
            entry = (entry + 1) % RING_ENTRIES
        if packets:
            words[state + TX_PACKETS] += packets
            words[state + TX_BYTES] += octets
            words[state + NTC] = entry
        return packets

    def count_unsent(self, cpu: Cpu, ring: Ring, head: int) -> None:
        """A reset throws away what stands between the NIC's head and our tail."""
        words = cpu.ram.words64
        entry, end = head, words[ring.state + NTU]
        while entry != end:
            at = ring.tx_desc + entry * 16
            length = cpu.ram.words32[(at >> 2) + 2] & 0xFFFF
            address = ring.tx_buffers + entry * BUFFER_BYTES
            frame = bytes(cpu.ram.bytes[address : address + length])
            count_drop(cpu, "TX_RING_RESET", self.nic, classify(frame))
            entry = (entry + 1) % RING_ENTRIES

    def pending_tx(self) -> bool:
        words = self.cpu.ram.words64
        return any(words[r.state + NTU] != words[r.state + NTC] for r in self.rings)
