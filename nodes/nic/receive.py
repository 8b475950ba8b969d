"""Receive: checks of the MAC, filter, queue choice, packet buffer, delivery.

Source: 82599 datasheet 7.1. A frame passes length check, address and VLAN filter, RSS; then it
needs descriptors. Hardware owns RDH..RDT-1 and never uses the descriptor at the tail. The
write-back of a packet is: data into the buffers, first descriptor word, then length, status and DD
as one aligned 64-bit store, so that whoever sees DD (or, as Linux does, a length) sees all of it;
then the head moves, then the queue's cause.

No descriptor: with SRRCTL.DROP_EN the frame is dropped (QPRDC), without it the frame stays in the
packet buffer and everything behind it waits; when RXPBSIZE is full, arrivals are missed (MPC,
EICR.RX_MISS). A frame also waits there while the function may not master the bus. One that takes
more descriptors than its ring can ever offer is dropped at once.

What the MAC itself drops or marks is in ``macframe``. RXDCTL.RLPML is stored only: other chips of
the family have it.

One deliberate difference: a real posted write that the IOMMU refuses is not noticed by the device.
Here the frame is dropped by name and no descriptor is used up.

A frame with a wrong FCS ends at the MAC (CRCERRS), also with FCTRL.SBP.

Left out: RSC, bad-CRC frames in memory, extended VLAN, filters that choose queues
other than RSS; received pause frames are counted, but do not stop the transmitter.
"""

from __future__ import annotations

import zlib
from collections import deque

from bus.recorder import Recorder
from nodes.ledger import packet_key
from nodes.nic import trace
from nodes.nic.dma import Dma
from nodes.nic.filters import INEXACT, Filters
from nodes.nic.interrupts import PCI_EXCEPTION, RX_MISS, Interrupts
from nodes.nic.macframe import FRAME_BYTES_MIN, MacFrames
from nodes.nic.page import NIC_SCHEMA, QUEUE_ROWS, RX_DROPS
from nodes.nic.regfile import RegisterFile
from nodes.nic.registers import QUEUES
from nodes.nic.rss import NOT_HASHED, Rss
from nodes.nic.rxdesc import PIF, RXE, Describer
from nodes.nic.rxqueue import RxQueue, Waiting, cut, spread
from nodes.nic.statistics import (
    BUCKET,
    RX_64,
    RX_ALL,
    RX_ALL_OCTETS,
    RX_BROADCAST,
    RX_CRC_ERROR,
    RX_DMA,
    RX_DMA_OCTETS,
    RX_MULTICAST,
    RX_OCTETS,
    Statistics,
)
from nodes.nic.turn import Now

_ENABLE = 1 << 25
_VME = 1 << 30
_JUMBOEN, _RXCRCSTRP = 1 << 2, 1 << 1
_CRCSTRIP = 1 << 1  # RDRXCTL
_FCS = 4
_IPV4 = b"\x08\x00"

_DMA = NIC_SCHEMA.index("rx_dma")
_BUFFERED = NIC_SCHEMA.index("rx_buffered")
_DROP = {name: (NIC_SCHEMA.index(name), i) for i, name in enumerate(RX_DROPS)}
_HEAD = NIC_SCHEMA.index("rx_head")
_TAIL = NIC_SCHEMA.index("rx_tail")
_SIZE = NIC_SCHEMA.index("rx_size")
_BASE = NIC_SCHEMA.index("rx_base")
_PACKETS = NIC_SCHEMA.index("rx_packets")
_NO_DESCRIPTOR = NIC_SCHEMA.index("rx_no_descriptor")


class Receive:
    """All receive queues of a port and its packet buffer."""

    def __init__(
        self,
        regs: RegisterFile,
        now: Now,
        words: memoryview,
        dma: Dma,
        interrupts: Interrupts,
        statistics: Statistics,
        recorder: Recorder,
    ) -> None:
        self._regs = regs
        self._now = now
        self._words = words
        self._dma = dma
        self._interrupts = interrupts
        self._statistics = statistics
        self._recorder = recorder
        self.filters = Filters(regs)
        self.rss = Rss(regs)
        self._mac = MacFrames(regs, statistics)
        self._describer = Describer(regs, statistics)
        self._describe = self._describer.describe
        self.link_up = False
        self.allowed = False
        self._queues: list[RxQueue | None] = [None] * QUEUES
        self._waiting: deque[Waiting] = deque()
        self._waiting_bytes = 0
        self._configure(0, 0)
        self._attach()

    def _attach(self) -> None:
        attach = self._regs.attach
        attach("RDH", read=lambda i: self.queue(i).head, write=self._write_rdh)
        attach("RDT", read=lambda i: self.queue(i).tail, write=self.doorbell)
        for name in ("RDBAL", "RDBAH", "RDLEN", "SRRCTL"):
            attach(name, after=self._after_queue)
        attach("RXDCTL", after=self._after_rxdctl)
        for name in ("RXCTRL", "HLREG0", "MAXFRS", "VLNCTRL", "RDRXCTL", "RXPBSIZE",
                     "PSRTYPE"):  # fmt: skip
            attach(name, after=self._configure)

    def reset(self) -> None:
        """CTRL.RST: queues off, packet buffer empty."""
        for waiting in self._waiting:
            self._words[_BUFFERED + waiting.kind] -= 1
            self._drop("rx_drop_reset", waiting.kind, waiting.frame)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._queues = [None] * QUEUES
        words = self._words
        for at in (_HEAD, _TAIL, _SIZE, _BASE):
            for q in range(QUEUE_ROWS):
                words[at + q] = 0
        self.filters.reset()
        self.rss.reset()
        self._describer.configure(0, 0)
        self._configure(0, 0)

    def queue(self, number: int) -> RxQueue:
        queue = self._queues[number]
        if queue is None:
            queue = self._queues[number] = RxQueue(number)
        return queue

    # -- registers

    def _configure(self, index: int, value: int) -> None:
        """Registers that every frame needs, as plain values."""
        get = self._regs.get
        hlreg0 = get("HLREG0")
        self._rxen = bool(get("RXCTRL") & 1)
        self._frame_bytes_max = get("MAXFRS") >> 16 if hlreg0 & _JUMBOEN else 1518
        self._keep_fcs = not (hlreg0 & _RXCRCSTRP or get("RDRXCTL") & _CRCSTRIP)
        self._psrtype = get("PSRTYPE")
        self._vet = (get("VLNCTRL") & 0xFFFF).to_bytes(2, "big")
        self._buffer_bytes_max = (get("RXPBSIZE") >> 10 & 0x3FF) * 1024

    def doorbell(self, number: int, value: int) -> None:
        """RDT was written: buffers for hardware."""
        queue = self._queues[number] or self.queue(number)
        queue.tail = value
        if number < QUEUE_ROWS:
            self._words[_TAIL + number] = value
        if self._waiting:
            self.drain()

    def _write_rdh(self, number: int, value: int) -> None:
        queue = self.queue(number)
        if not queue.enabled:
            queue.head = value
            self._publish(queue)

    def _after_queue(self, number: int, value: int) -> None:
        queue = self.queue(number)
        get = self._regs.get
        queue.base = get("RDBAL", number) | get("RDBAH", number) << 32
        queue.size = get("RDLEN", number) >> 4
        queue.configure(get("SRRCTL", number))

    def _after_rxdctl(self, number: int, value: int) -> None:
        queue = self.queue(number)
        queue.enabled = bool(value & _ENABLE)
        queue.strip = bool(value & _VME)
        self._after_queue(number, 0)
        self._publish(queue)
        if self._waiting:
            self.drain()

    def _publish(self, queue: RxQueue) -> None:
        q = queue.number
        if q < QUEUE_ROWS:
            words = self._words
            words[_HEAD + q] = queue.head
            words[_TAIL + q] = queue.tail
            words[_SIZE + q] = queue.size if queue.enabled else 0
            words[_BASE + q] = queue.base

    # -- frames

    def frame(self, frame: bytes, kind: int) -> None:
        """A frame from the wire (without FCS), already counted as in."""
        now = self._now
        if now.trace >> trace.RX_WIRE & 1:
            self._recorder.record(now.ns, trace.RX_WIRE, a=packet_key(frame))
        if not self.link_up:
            self._drop("rx_drop_link_down", kind, frame)
            return
        size = len(frame) + _FCS
        statistics = self._statistics
        totals = statistics.totals
        totals[RX_ALL] += 1
        totals[RX_ALL_OCTETS] += size
        if not self._rxen:
            self._drop("rx_drop_rx_off", kind, frame)
            return
        marks, good, tagged = 0, True, False
        if frame[12:14] != _IPV4 or size < FRAME_BYTES_MIN or size > self._frame_bytes_max:
            tagged = frame[12:14] == self._vet
            reason, marks, good = self._mac.judge(frame, self._frame_bytes_max + 4 * tagged)
            if reason:
                self._drop(reason, kind, frame)
                return
        verdict = self.filters.address(frame[:6])
        if not verdict:
            self._drop("rx_drop_filter", kind, frame)
            return
        tag = None
        if tagged:
            tag = int.from_bytes(frame[14:16], "big")
            if not self.filters.vlan(tag):
                self._drop("rx_drop_vlan", kind, frame)
                return
        if verdict == INEXACT:
            marks |= PIF
        if good:
            totals[RX_64 + (BUCKET[size] if size < 1024 else 5)] += 1
            totals[RX_OCTETS] += size
            if frame[0] & 1:
                totals[RX_BROADCAST if frame[:6] == b"\xff" * 6 else RX_MULTICAST] += 1
            hashed = self.rss.queue(frame if tag is None else frame[:12] + frame[16:])
        else:
            hashed = NOT_HASHED
        queue = self._queues[hashed[0]] or self.queue(hashed[0])
        if not queue.enabled:
            self._no_descriptor("rx_drop_queue_off", queue, kind, frame)
            return
        if (
            self._waiting
            or not self.allowed
            or not self._deliver(frame, kind, queue, hashed, marks, tag)
        ):
            self._wait(Waiting(frame, kind, queue, hashed, marks, tag))

    def bad_frame(self, frame: bytes, kind: int) -> None:
        """A frame whose FCS is wrong, already counted as in."""
        if not self.link_up:
            self._drop("rx_drop_link_down", kind, frame)
            return
        totals = self._statistics.totals
        totals[RX_ALL] += 1
        totals[RX_ALL_OCTETS] += len(frame) + _FCS
        if not self._rxen:
            self._drop("rx_drop_rx_off", kind, frame)
            return
        totals[RX_CRC_ERROR] += 1
        self._drop("rx_drop_crc", kind, frame)

    def unheard(self, frame: bytes, kind: int) -> None:
        """A frame that the wire brought while the receiver's ear is at our own transmitter."""
        self._drop("rx_drop_loopback", kind, frame)

    def _drop(self, reason: str, kind: int, frame: bytes) -> None:
        at, number = _DROP[reason]
        self._words[at + kind] += 1
        if self._now.trace >> trace.RX_DROP & 1:
            self._recorder.record(self._now.ns, trace.RX_DROP, a=packet_key(frame), b=number)

    def _no_descriptor(self, reason: str, queue: RxQueue, kind: int, frame: bytes) -> None:
        statistics = self._statistics
        statistics.queue_dropped[statistics.rx_counter[queue.number]] += 1
        if queue.number < QUEUE_ROWS:
            self._words[_NO_DESCRIPTOR + queue.number] += 1
        self._drop(reason, kind, frame)

    def _wait(self, waiting: Waiting) -> None:
        """Into the packet buffer, if there is room."""
        size = len(waiting.frame)
        if self._waiting_bytes + size > self._buffer_bytes_max:
            self._statistics.missed += 1
            self._drop("rx_drop_missed", waiting.kind, waiting.frame)
            self._interrupts.cause_other(RX_MISS)
            return
        self._waiting.append(waiting)
        self._waiting_bytes += size
        self._words[_BUFFERED + waiting.kind] += 1

    def drain(self) -> None:
        """Deliver from the packet buffer in order, as far as there are descriptors."""
        while self._waiting and self.allowed:
            head = self._waiting[0]
            # out of the buffer before it is anywhere else: a SIGKILL never leaves it counted twice
            self._words[_BUFFERED + head.kind] -= 1
            if not head.queue.enabled:
                self._no_descriptor("rx_drop_queue_off", head.queue, head.kind, head.frame)
            elif not self._deliver(
                head.frame, head.kind, head.queue, head.hashed, head.marks, head.tag
            ):
                self._words[_BUFFERED + head.kind] += 1
                return
            self._waiting.popleft()
            self._waiting_bytes -= len(head.frame)

    def _deliver(
        self,
        frame: bytes,
        kind: int,
        queue: RxQueue,
        hashed: tuple[int, int, int],
        marks: int,
        tag: int | None,
    ) -> bool:
        """Give the frame to memory or drop it; False when it has to wait for a descriptor."""
        data = frame
        if tag is not None and queue.strip:
            data = frame[:12] + frame[16:]
        if self._keep_fcs:
            data += zlib.crc32(frame).to_bytes(4, "little")
        stored = length = len(data)
        room = queue.buffer_bytes
        simple = length <= room and not queue.split
        if not simple:
            header = first = late = 0
            if queue.split:
                tagged = tag is not None and not queue.strip
                header, first, late = cut(queue, data, tagged, 0 if marks & RXE else self._psrtype)
            length -= header
        size, head = queue.size, queue.head
        needed = 1 if length <= room else -(-length // room)
        if (queue.tail - head) % size < needed if size else True:
            if queue.drop_en or needed >= size > 0:
                self._no_descriptor("rx_drop_no_descriptor", queue, kind, frame)
                return True
            return False
        dma = self._dma
        dma.sync()
        words = self._describe(frame, queue, hashed, marks, tag)
        self._words[_DMA + kind] += 1  # before the CPU can see DD: ``out`` is never behind
        if simple:
            at = queue.base + head * 16
            found = dma.descriptor(at)
            done = (
                found is not None
                and dma.write(found[0], data)
                and (
                    dma.write_back(at, words[0], words[1] | length << 32)
                    if queue.advanced
                    else dma.write_back(at, found[0], words[1] | length)
                )
            )
        else:
            words = (words[0] | first, words[1] | late)
            done = spread(dma, queue, data, header, words, needed)
        if not done:
            self._words[_DMA + kind] -= 1
            self._interrupts.cause_other(PCI_EXCEPTION)
            self._drop("rx_drop_dma", kind, frame)
            return True
        queue.head = (head + needed) % size
        self._delivered(stored, frame, queue, head, hashed[1])
        return True

    def _delivered(self, length: int, frame: bytes, queue: RxQueue, head: int, value: int) -> None:
        """Statistics, and the queue's cause."""
        number = queue.number
        words = self._words
        if number < QUEUE_ROWS:
            words[_PACKETS + number] += 1
            words[_HEAD + number] = queue.head
        statistics = self._statistics
        totals = statistics.totals
        totals[RX_DMA] += 1
        totals[RX_DMA_OCTETS] += length
        counter = statistics.rx_counter[number]
        statistics.queue_rx[counter] += 1
        statistics.queue_rx_octets[counter] += length
        if self._now.trace >> trace.RX_DMA & 1:
            self._recorder.record(
                self._now.ns, trace.RX_DMA, value, packet_key(frame), number << 32 | head
            )
        interrupts = self._interrupts
        interrupts.cause(interrupts.rx_vector[number])
