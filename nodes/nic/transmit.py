"""Transmit queues: doorbell, descriptor fetch, frame, write-back.

Source: 82599 datasheet 7.2. Hardware owns TDH..TDT-1. A doorbell only moves the tail; the queues
whose tail moved are worked off when the device has taken all its writes, so several doorbells in
one inbox cost one pass; a pass that has sent ``PASS_FRAMES`` frames goes on in another turn. For
each packet: fetch its descriptors, fetch the data, send, then write back the descriptors with RS,
then raise the queue's Tx cause. What a packet wants done to it is ``txoffload``'s work.

Write-back (7.2.3.5): with TXDCTL.WTHRESH 0 or 1 each descriptor at once; with k > 1 when k are
done, together with the next message of the queue's vector, or when that vector's EITR has run down;
a vector without moderation has no timer, so then everything is written back when the pass ends.
With TDWBAL.0 the head is stored instead of descriptors. Context descriptors are never written back.
A queue that is disabled writes back what it holds.

While the link is down nothing is fetched: TDH stands still, the rings go on when it is up. With the
laser off frames complete as usual and end on the fibre.

Descriptors that make no sense (unknown type, no data, legacy and advanced ones in one packet, more
data than a packet may have) cost their packet, by name, never the queue; a ring outside the mapped
windows stops its queue until it is enabled again.

Left out: DCB, rate limits, the limit of 40 descriptors a packet.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from bus.messages import FRAME_BYTES_MAX
from bus.recorder import Recorder
from nodes.ledger import classify, packet_key
from nodes.nic import trace
from nodes.nic.dma import Dma
from nodes.nic.interrupts import PCI_EXCEPTION, Interrupts
from nodes.nic.page import NIC_SCHEMA, QUEUE_ROWS, TX_DROPS
from nodes.nic.regfile import RegisterFile
from nodes.nic.registers import QUEUES
from nodes.nic.statistics import (
    BUCKET,
    TX_64,
    TX_BROADCAST,
    TX_DMA,
    TX_MULTICAST,
    TX_OCTETS,
    Statistics,
)
from nodes.nic.turn import Now
from nodes.nic.txoffload import DEXT, FlagMasks, Settings, decode, transform
from nodes.nic.txqueue import (
    CONTEXT,
    DD,
    EOP,
    IFCS,
    NOT_DATA,
    REFUSED,
    RS,
    Packet,
    TxQueue,
    is_plain,
)

MIN_FRAME = 60
#: Frames of one queue in one pass; a ring full of the longest packets would be millions.
PASS_FRAMES = 4096
_ENABLE = 1 << 25
_FLUSH = 1 << 26
_TXPADEN = 1 << 10
_TXCRCEN, _LPBK = 1 << 0, 1 << 15

_FETCHED = NIC_SCHEMA.index("tx_fetched")
_REFUSED = NIC_SCHEMA.index("tx_dma_refused")
_DROP = {name: NIC_SCHEMA.index(name) for name in TX_DROPS}
_HEAD = NIC_SCHEMA.index("tx_head")
_TAIL = NIC_SCHEMA.index("tx_tail")
_SIZE = NIC_SCHEMA.index("tx_size")
_BASE = NIC_SCHEMA.index("tx_base")
_PACKETS = NIC_SCHEMA.index("tx_packets")


class Transmit:
    """All transmit queues of a port. ``send(frame, class, loopback)`` takes what leaves."""

    def __init__(
        self,
        regs: RegisterFile,
        now: Now,
        words: memoryview,
        dma: Dma,
        interrupts: Interrupts,
        statistics: Statistics,
        recorder: Recorder,
        send: Callable[[bytes, int, bool], None],
    ) -> None:
        self._regs = regs
        self._now = now
        self._words = words
        self._dma = dma
        self._interrupts = interrupts
        self._statistics = statistics
        self._recorder = recorder
        self._send = send
        self.link_up = False
        self.allowed = False
        self.laser = True
        self._queues: list[TxQueue | None] = [None] * QUEUES
        self.dirty: list[TxQueue] = []  # a pass has something to look at
        self._configure(0, 0)
        self._attach()

    def _attach(self) -> None:
        attach = self._regs.attach
        attach("TDH", read=lambda i: self.queue(i).head, write=self._write_tdh)
        attach("TDT", read=lambda i: self.queue(i).tail, write=self.doorbell)
        attach("TXDCTL", after=self._after_txdctl)
        for name in ("TDBAL", "TDBAH", "TDLEN", "TDWBAL", "TDWBAH"):
            attach(name, after=self._after_base)
        for name in ("DMATXCTL", "HLREG0", "DTXTCPFLGL", "DTXTCPFLGH"):
            attach(name, after=self._configure)

    def _configure(self, index: int, value: int) -> None:
        """Registers that every frame needs, as plain values."""
        self._te = bool(self._regs.get("DMATXCTL") & 1)
        hlreg0 = self._regs.get("HLREG0")
        self._padding = bool(hlreg0 & _TXPADEN)
        self.loopback = bool(hlreg0 & _LPBK)
        self._ifcs = IFCS if hlreg0 & _TXCRCEN else 0
        low, high = self._regs.get("DTXTCPFLGL"), self._regs.get("DTXTCPFLGH")
        masks = FlagMasks(low & 0xFFF, low >> 16 & 0xFFF, high & 0xFFF)
        vlan_type = (self._regs.get("DMATXCTL") >> 16).to_bytes(2, "big")
        self._settings = Settings(self._ifcs, vlan_type, masks)
        self.resume()

    def reset(self) -> None:
        self._queues = [None] * QUEUES
        self.dirty.clear()
        self._configure(0, 0)
        words = self._words
        for at in (_HEAD, _TAIL, _SIZE, _BASE):
            for q in range(QUEUE_ROWS):
                words[at + q] = 0

    def queue(self, number: int) -> TxQueue:
        queue = self._queues[number]
        if queue is None:
            queue = self._queues[number] = TxQueue(number)
        return queue

    # -- registers

    def doorbell(self, number: int, value: int) -> None:
        """TDT was written."""
        queue = self._queues[number] or self.queue(number)
        queue.tail = value
        self._mark(queue)
        if self._now.trace >> trace.DOORBELL & 1:
            self._recorder.record(self._now.ns, trace.DOORBELL, a=value, b=number)

    def _mark(self, queue: TxQueue) -> None:
        if not queue.dirty:
            queue.dirty = True
            self.dirty.append(queue)

    def _write_tdh(self, number: int, value: int) -> None:
        queue = self.queue(number)
        if not queue.enabled:
            queue.head = value
            self._mark(queue)

    def _after_base(self, number: int, value: int) -> None:
        queue = self.queue(number)
        get = self._regs.get
        queue.base = get("TDBAL", number) | get("TDBAH", number) << 32
        queue.size = get("TDLEN", number) >> 4
        low = get("TDWBAL", number)
        queue.head_writeback = low & ~3 | get("TDWBAH", number) << 32 if low & 1 else 0

    def _after_txdctl(self, number: int, value: int) -> None:
        queue = self.queue(number)
        if value & _ENABLE and not self._regs.get("DMATXCTL") & 1:
            value &= ~_ENABLE  # DMATXCTL.TE comes first
            self._regs.put("TXDCTL", number, self._regs.get("TXDCTL", number) & ~_ENABLE)
        queue.threshold = value >> 16 & 0x7F
        enabled = bool(value & _ENABLE)
        if self.allowed and (value & _FLUSH or not enabled):
            self._dma.sync()
            self._write_back(queue)
        if not enabled:
            queue.held.clear()
        elif not queue.enabled:
            queue.broken = False
            queue.packet = None
            queue.contexts = [None, None]
        queue.enabled = enabled
        self._mark(queue)

    # -- work

    def resume(self) -> None:
        """Look at every queue: the link, the right to DMA or TE changed."""
        for queue in self._queues:
            if queue is not None and (queue.head != queue.tail or queue.held):
                self._mark(queue)

    def run(self) -> int:
        """Work off the queues whose tail moved; number of frames fetched."""
        frames = 0
        dirty, self.dirty = self.dirty, []
        running = self.link_up and self.allowed and self._te
        for queue in dirty:
            queue.dirty = False
            if running and queue.enabled and not queue.broken and queue.tail < queue.size:
                frames += self._run_queue(queue)
            self._publish(queue)
        return frames

    def _publish(self, queue: TxQueue) -> None:
        q = queue.number
        if q < QUEUE_ROWS:
            words = self._words
            words[_HEAD + q] = queue.head
            words[_TAIL + q] = queue.tail
            words[_SIZE + q] = queue.size if queue.enabled else 0
            words[_BASE + q] = queue.base

    def _run_queue(self, queue: TxQueue) -> int:
        frames = 0
        dma = self._dma
        dma.sync()
        size, base, tail = queue.size, queue.base, queue.tail
        if queue.head >= size:
            return 0
        while queue.head != tail:
            if frames >= PASS_FRAMES:
                self._mark(queue)
                break
            at = base + queue.head * 16
            found = dma.descriptor(at)
            if found is None:
                queue.broken = True
                self._interrupts.cause_other(PCI_EXCEPTION)
                break
            address, control = found
            if control & EOP and queue.packet is None and is_plain(control):
                data = dma.read(address, control & 0xFFFF)
                frames += 1
                if data is None:
                    self._words[_REFUSED] += 1
                else:
                    self._frame(queue, data, control)
            else:
                frames += self._gather(queue, address, control)
            queue.head = queue.head + 1 if queue.head + 1 < size else 0
            if control & RS and control & NOT_DATA != CONTEXT:
                queue.held.append(at)
                if len(queue.held) >= queue.threshold:
                    self._write_back(queue)
                    self._interrupts.cause(self._interrupts.tx_vector[queue.number])
        if queue.held and not self._interrupts.hold(self._interrupts.tx_vector[queue.number]):
            self._write_back(queue)
            self._interrupts.cause(self._interrupts.tx_vector[queue.number])
        return frames

    def _gather(self, queue: TxQueue, address: int, control: int) -> int:
        """A descriptor that is not a whole plain packet by itself; number of frames it ended."""
        if control & NOT_DATA == CONTEXT:
            slot, context = decode(address, control)
            queue.contexts[slot] = context
            return 0
        packet = queue.packet
        if packet is None:
            packet = queue.packet = Packet(control, queue.contexts[control >> 36 & 1])
        packet.add(self._dma, address, control)
        if not control & EOP:
            return 0
        queue.packet = None
        return self._packet(queue, packet, control)

    def _packet(self, queue: TxQueue, packet: Packet, control: int) -> int:
        """A packet is complete (``control`` of its last descriptor); number of frames."""
        data, reason = b"".join(packet.parts), packet.reason
        if reason == REFUSED:
            self._words[_REFUSED] += 1
            return 1
        frames = []
        if not reason:
            if packet.control & DEXT:
                control = packet.control
            frames = transform(data, control, packet.context, self._settings)
            reason = "" if frames else "tx_drop_offload"
        if reason:
            kind = classify(data)
            self._words[_FETCHED + kind] += 1
            self._drop(reason, kind, data)
            return 1
        for frame in frames:
            self._frame(queue, frame, control)
        return len(frames)

    def _drop(self, reason: str, kind: int, frame: bytes) -> None:
        self._words[_DROP[reason] + kind] += 1
        if self._now.trace >> trace.TX_DROP & 1:
            self._recorder.record(
                self._now.ns, trace.TX_DROP, a=packet_key(frame), b=TX_DROPS.index(reason)
            )

    def _frame(self, queue: TxQueue, data: bytes, control: int) -> None:
        """A whole packet is in the packet buffer: put it on the wire."""
        words = self._words
        kind = classify(data)
        words[_FETCHED + kind] += 1
        if self._now.trace >> trace.TX_DMA & 1:
            self._recorder.record(
                self._now.ns, trace.TX_DMA, queue.number, packet_key(data),
                queue.number << 32 | queue.head,
            )  # fmt: skip
        if not control & self._ifcs:  # the buffer holds the FCS
            if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
                self._drop("tx_drop_fcs", kind, data)
                return
            data = data[:-4]
        size = len(data)
        if size < MIN_FRAME and self._padding:
            data = data.ljust(MIN_FRAME, b"\0")
            size = MIN_FRAME
        if not 0 < size <= FRAME_BYTES_MAX:
            self._drop("tx_drop_oversize" if size else "tx_drop_descriptor", kind, data)
            return
        self._count(queue.number, data, size + 4)
        if not self.laser and not self.loopback:
            self._drop("tx_drop_laser_off", kind, data)
            return
        self._send(data, kind, self.loopback)

    def _count(self, number: int, data: bytes, size: int) -> None:
        """Statistics of one frame; ``size`` with FCS."""
        statistics = self._statistics
        totals = statistics.totals
        totals[TX_64 + (BUCKET[size] if size < 1024 else 5)] += 1
        totals[TX_OCTETS] += size
        totals[TX_DMA] += 1
        if data[0] & 1:
            totals[TX_BROADCAST if data[:6] == b"\xff" * 6 else TX_MULTICAST] += 1
        counter = statistics.tx_counter[number]
        statistics.queue_tx[counter] += 1
        statistics.queue_tx_octets[counter] += size
        if number < QUEUE_ROWS:
            self._words[_PACKETS + number] += 1

    # -- write-back

    def _write_back(self, queue: TxQueue) -> None:
        """DD into every descriptor that is done, or the head into memory."""
        held = queue.held
        if not held:
            return
        if queue.head_writeback:
            self._dma.store32(queue.head_writeback, queue.head)
        else:
            store = self._dma.store32
            for at in held:
                store(at + 12, DD)
        if self._now.trace >> trace.TX_WRITEBACK & 1:
            self._recorder.record(self._now.ns, trace.TX_WRITEBACK, a=len(held), b=queue.number)
        held.clear()

    def flush(self, vector: int) -> bool:
        """Write back what waits for ``vector`` (its message goes out, or its EITR has run down)."""
        found = False
        self._dma.sync()
        for queue in self._queues if self.allowed else ():
            if (
                queue is not None
                and queue.held
                and self._interrupts.tx_vector[queue.number] == vector
            ):
                self._write_back(queue)
                found = True
        return found
