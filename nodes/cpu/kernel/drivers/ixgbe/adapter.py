"""The adapter: one 82599 as every CPU's driver sees it, with its rings in RAM.

A queue pair's whole state (descriptors, buffers, next_to_use, next_to_clean, counters) lives in the
machine's RAM, so that any CPU can transmit on it and whoever the interrupt reaches can poll it; its
writer is the holder of the tx lock or of NAPI_STATE_SCHED. Every ring entry has a 2 KiB buffer of
its own: frames are copied into it to send and out of it on receipt, as with swiotlb. A jumbo frame
takes as many entries as it needs; only the last has EOP, and RS, so that one completion tells all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bus.messages import MemWrite
from nodes.cpu.kernel import words
from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.net.dql import (
    ADJ_LIMIT,
    LAST_OBJ,
    NUM_QUEUED,
    STACK_XOFF,
    TRANS_START,
    dql_completed,
    dql_init,
    dql_reset,
)
from nodes.cpu.kernel.net.napi import Napi
from nodes.cpu.kernel.net.skbuff import SkBuff, count_drop
from nodes.cpu.page import CPU_SCHEMA
from nodes.cpu.trace import TRACEPOINTS
from nodes.ledger import classify
from nodes.machine import QUEUE_DMA_BYTES, QUEUES_MAX, RING_ENTRIES, RING_ENTRIES_MAX

if TYPE_CHECKING:
    from nodes.cpu.kernel.drivers.ixgbe.phy import PhyType, SfpType
    from nodes.cpu.kernel.drivers.ixgbe.watchdog import Service
    from nodes.cpu.kernel.net.netdevice import NetDevice
    from nodes.cpu.kernel.percpu import Cpu

BUFFER_BYTES = 2048
RING_BYTES = RING_ENTRIES_MAX * 16
STATE_BYTES = 512
#: Sizes that ``ethtool -G`` may ask for are multiples of this, in these limits.
RING_MULTIPLE, RING_ENTRIES_MIN = 8, 64
IXGBE_MIN_FRAME = 17

# words of a queue's state
NTU, NTC, TX_PACKETS, TX_BYTES, RX_NTC, RX_PACKETS, RX_BYTES, RX_TAIL, TX_BUSY = range(9)
TX_STOPPED = 9  # bit n: CPU n waits for room; written under the tx lock
#: The service task asks for a look at the ring, what was done at the last look, one look has found
#: it stuck, and its jiffies (Linux stamps each frame; that would cost each packet something).
CHECK_FOR_TX_HANG, TX_DONE_OLD, HANG_CHECK_ARMED, TIME_STAMP = 10, 11, 12, 13
TX_RESTART = 14  # queue was woken after it had been full
#: Of its vector (``itr``), behind ``net.dql``'s: rx_itr_setting, and the first of eight words.
ITR_SETTING, ITR = 32, 33
#: A ring is full when there is less room than a frame may need.
DESC_NEEDED = 4
#: Largest frame without its FCS: IXGBE_MAX_JUMBO_FRAME_SIZE, and MTU.
MAX_JUMBO_FRAME, ETH_FRAMING = 9728, 18
MAX_MTU = MAX_JUMBO_FRAME - ETH_FRAMING

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
        self.nic = nic
        self.queue = queue
        self.tx_count = self.rx_count = RING_ENTRIES
        self.tx_desc = at
        self.rx_desc = at + RING_BYTES
        self.tx_buffers = at + 2 * RING_BYTES
        self.rx_buffers = self.tx_buffers + RING_ENTRIES_MAX * BUFFER_BYTES
        self.tail = regs.tx_queue(queue) + 0x18  # TDT
        state = base + cpu.machine.queues * QUEUE_DMA_BYTES + queue * STATE_BYTES
        self.state = state // 8
        self.lock_word = words.TX_LOCK + nic * QUEUES_MAX + queue

    def clear_counters(self, cpu: Cpu) -> None:
        """A new netdev counts from zero."""
        for word in (TX_PACKETS, TX_BYTES, RX_PACKETS, RX_BYTES, TX_BUSY, TX_RESTART):
            cpu.ram.words64[self.state + word] = 0
        dql_init(cpu, self.state)

    def reset(self, cpu: Cpu) -> None:
        """Empty rings; the counters stay."""
        self._clean_rx(cpu)
        words = cpu.ram.words64
        for word in _EMPTY:
            words[self.state + word] = 0
        words[self.state + TX_DONE_OLD] = words[self.state + TX_PACKETS]
        dql_reset(cpu, self.state)
        for at, count in ((self.tx_desc, self.tx_count), (self.rx_desc, self.rx_count)):
            cpu.ram.bytes[at : at + count * 16] = bytes(count * 16)

    def _clean_rx(self, cpu: Cpu) -> None:
        """ixgbe_clean_rx_ring: frames that the NIC wrote and nobody polled (their interrupt was
        held, masked or lost) end here."""
        words32, memory = cpu.ram.words32, cpu.ram.bytes
        first = cpu.ram.words64[self.state + RX_NTC]
        frame = b""
        for n in range(self.rx_count):
            entry = (first + n) % self.rx_count
            at = (self.rx_desc >> 2) + entry * 4
            status = words32[at + 2]
            if not status & regs.RXD_STAT_DD:
                return
            address = self.rx_buffers + entry * BUFFER_BYTES
            frame += bytes(memory[address : address + (words32[at + 3] & 0xFFFF)])
            if status & regs.RXD_STAT_EOP:
                count_drop(cpu, "RX_RING_RESET", self.nic, classify(frame))
                frame = b""


_EMPTY = (NTU, NTC, RX_NTC, RX_TAIL, TX_STOPPED, CHECK_FOR_TX_HANG, HANG_CHECK_ARMED, TIME_STAMP)


@dataclass
class Hw:
    """struct ixgbe_hw: what the driver knows of the hardware; on the boot CPU."""

    sfp_type: SfpType
    phy_type: PhyType
    sfp_setup_needed: bool = False
    mdio_scanned: bool = False
    need_crosstalk_fix: bool = False
    double_reset: bool = False
    lan_id: int = 0
    addr: bytes = b""  # the address that software has set
    perm_addr: bytes = b""
    orig_autoc: int | None = None
    orig_autoc2: int = 0
    eeprom_words: int = 0
    firmware: str = ""
    fw_version: int | None = None
    stats: dict[str, int] = field(default_factory=dict)


class Adapter:
    """struct ixgbe_adapter, this CPU's replica."""

    def __init__(self, cpu: Cpu, nic: int, netdev: NetDevice, poll: object) -> None:
        self.cpu = cpu
        self.nic = nic
        self.name = cpu.machine.nics[nic].name  # of the node on the bus
        self.netdev = netdev
        self.fast = cpu.machine.fast_probe
        self.bql = cpu.params.bql == "dql"
        #: All queue pairs there may be; ``rings`` and ``napi`` are those in use.
        self.all_rings = [Ring(cpu, nic, queue) for queue in range(cpu.machine.queues)]
        self.all_napi = [
            Napi(words.NAPI + nic * QUEUES_MAX + ring.queue, netdev.ifindex, ring.queue, poll)  # type: ignore[arg-type]
            for ring in self.all_rings
        ]
        self.rings, self.napi = self.all_rings, self.all_napi
        self.down = True
        self.removed = False
        # on the boot CPU:
        self.hw: Hw
        self.service: Service
        self.probed = False
        self.irqs: list[int] = []
        #: us << 2 as EITR has it; 0 no moderation, 1 the driver's choice (``itr``)
        self.rx_itr_setting = 1
        self.tx_timeout_count = 0
        self._writes = _MMIO_WRITES + nic

    def resize(self, queues: int, tx_count: int, rx_count: int) -> None:
        """Use this many queue pairs, with rings of these sizes."""
        self.rings, self.napi = self.all_rings[:queues], self.all_napi[:queues]
        for ring in self.all_rings:
            ring.tx_count, ring.rx_count = tx_count, rx_count

    # -- registers

    def write_reg(self, register: int, value: int) -> None:
        """Posted write; nothing happens once the adapter is known to be gone."""
        if self.removed:
            return
        self.cpu.words[self._writes] += 1
        if self.cpu.trace_mask >> _MMIO_WRITE & 1:
            self.cpu.trace(_MMIO_WRITE, self.nic, register << 32 | value)
        self.cpu.post(self.name, MemWrite(0, register, value))

    def write_table(self, writes: Sequence[MemWrite]) -> None:
        """As many calls of ``write_reg``, one after the other: what is cleared at each reset."""
        if self.removed:
            return
        cpu, name = self.cpu, self.name
        cpu.words[self._writes] += len(writes)
        if cpu.trace_mask >> _MMIO_WRITE & 1:
            for write in writes:
                cpu.trace(_MMIO_WRITE, self.nic, write.offset << 32 | write.value)
        post = cpu.post
        for write in writes:
            post(name, write)

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
        words, state, count = ram.words64, ring.state, ring.tx_count
        frame = skb.frame
        length = len(frame)
        entry: int = words[state + NTU]
        needed = DESC_NEEDED + length // BUFFER_BYTES
        if (words[state + NTC] - entry - 1) % count < needed:
            if not words[state + TX_STOPPED]:
                words[state + TRANS_START] = cpu.jiffies()
            words[state + TX_STOPPED] |= 1 << cpu.number
            if (words[state + NTC] - entry - 1) % count < needed:
                words[state + TX_BUSY] += 1
                return False
            words[state + TX_STOPPED] &= ~(1 << cpu.number)  # there is room again since we looked
        if length < IXGBE_MIN_FRAME:
            frame = frame.ljust(IXGBE_MIN_FRAME, b"\0")
            length = IXGBE_MIN_FRAME
        bql = self.bql
        if bql and words[state + ADJ_LIMIT] < words[state + NUM_QUEUED]:  # somebody else's frames
            words[state + STACK_XOFF] |= 1 << cpu.number
            if words[state + ADJ_LIMIT] < words[state + NUM_QUEUED]:
                return False
            words[state + STACK_XOFF] &= ~(1 << cpu.number)
        cpu.words[_TX_POSTED + self.nic * 3 + skb.cls] += 1
        if cpu.trace_mask >> _XMIT & 1:
            place = entry | ring.queue << 16 | self.netdev.ifindex << 32
            cpu.trace(_XMIT, skb.key, place | len(skb.frame) << 48)
        if length > BUFFER_BYTES:
            entry = self.tx_map(cpu, frame, ring, entry)
        else:
            address = ring.tx_buffers + entry * BUFFER_BYTES
            ram.bytes[address : address + length] = frame
            at = ring.tx_desc + entry * 16
            words[at >> 3] = address
            ram.words32[(at >> 2) + 3] = length << 14  # PAYLEN; DD is 0
            ram.words32[(at >> 2) + 2] = _TXD_WHOLE | length
            entry = (entry + 1) % count
        words[state + NTU] = entry
        if bql:  # netdev_tx_sent_queue
            queued = words[state + NUM_QUEUED] + length
            words[state + NUM_QUEUED], words[state + LAST_OBJ] = queued, length
            if words[state + ADJ_LIMIT] < queued:
                self._stack_xoff(cpu, state, queued)
        self.write_reg(ring.tail, entry)
        if cpu.trace_mask >> _DOORBELL & 1:
            cpu.trace(_DOORBELL, self.nic, ring.queue | entry << 16)
        return True

    def _stack_xoff(self, cpu: Cpu, state: int, queued: int) -> None:
        """The limit is reached: this CPU's queue stops, unless the ring was cleaned meanwhile."""
        words = cpu.ram.words64
        words[state + STACK_XOFF] |= 1 << cpu.number
        if words[state + ADJ_LIMIT] < queued:
            words[state + TRANS_START] = cpu.jiffies()
            self.netdev.queue_stopped = True
        else:
            words[state + STACK_XOFF] &= ~(1 << cpu.number)

    def tx_map(self, cpu: Cpu, frame: bytes, ring: Ring, entry: int) -> int:
        """ixgbe_tx_map: a frame into as many descriptors as it takes; returns the next free one."""
        ram = cpu.ram
        for begin in range(0, len(frame), BUFFER_BYTES):
            piece = frame[begin : begin + BUFFER_BYTES]
            address = ring.tx_buffers + entry * BUFFER_BYTES
            ram.bytes[address : address + len(piece)] = piece
            last = begin + BUFFER_BYTES >= len(frame)
            at = ring.tx_desc + entry * 16
            ram.words64[at >> 3] = address
            ram.words32[(at >> 2) + 3] = len(frame) << 14
            command = _TXD_WHOLE if last else regs.TXD_CMD
            ram.words32[(at >> 2) + 2] = command | len(piece)
            entry = (entry + 1) % ring.tx_count
        return entry

    def clean_tx(self, cpu: Cpu, ring: Ring, limit: int = 256) -> int:
        """ixgbe_clean_tx_irq: count and forget what the NIC has sent, whole frames only."""
        ram = cpu.ram
        words, words32, state, count = ram.words64, ram.words32, ring.state, ring.tx_count
        entry = first = words[state + NTC]
        end: int = words[state + NTU]
        packets = octets = pending = 0
        while entry != end and packets < limit:
            at = (ring.tx_desc >> 2) + entry * 4
            done, command = words32[at + 3], words32[at + 2]
            pending += command & 0xFFFF
            entry = (entry + 1) % count
            if not command & _TXD_EOP:
                continue  # DD comes with the last descriptor of the frame
            if not done & regs.TXD_STAT_DD:
                break
            octets += pending
            packets += 1
            first, pending = entry, 0
        if packets:
            words[state + TX_PACKETS] += packets
            words[state + TX_BYTES] += octets
            words[state + NTC] = first
            if self.bql:
                dql_completed(cpu, state, octets)
        return packets

    def count_unsent(self, cpu: Cpu, ring: Ring, head: int) -> None:
        """A reset throws away what stands between the NIC's head and our tail."""
        words = cpu.ram.words64
        entry, end = head % ring.tx_count, words[ring.state + NTU]
        frame = b""
        while entry != end:
            at = ring.tx_desc + entry * 16
            command = cpu.ram.words32[(at >> 2) + 2]
            address = ring.tx_buffers + entry * BUFFER_BYTES
            frame += bytes(cpu.ram.bytes[address : address + (command & 0xFFFF)])
            if command & _TXD_EOP:
                count_drop(cpu, "TX_RING_RESET", self.nic, classify(frame))
                frame = b""
            entry = (entry + 1) % ring.tx_count

    def stopped_queues(self) -> list[tuple[int, int]]:
        """Queues that found no room in their rings or went over their byte limit, and their
        jiffies then."""
        words = self.cpu.ram.words64
        return [
            (r.queue, words[r.state + TRANS_START])
            for r in self.rings
            if words[r.state + TX_STOPPED] or words[r.state + STACK_XOFF]
        ]

    def pending_tx(self) -> bool:
        words = self.cpu.ram.words64
        return any(words[r.state + NTU] != words[r.state + NTC] for r in self.rings)


_TXD_WHOLE = regs.TXD_CMD | regs.TXD_LAST
_TXD_EOP = 0x0100_0000
