"""Transmit queues: doorbell, descriptor fetch, frame, write-back.

Source: 82599 datasheet 7.2. Hardware owns TDH..TDT-1. A doorbell only moves the tail; the queues
whose tail moved are worked off when the device has taken all its writes, so several doorbells in
one inbox cost one pass. For each packet: fetch its descriptors, fetch the data, send, then write
back the descriptors with RS, then raise the queue's Tx cause.

Write-back (7.2.3.5): with TXDCTL.WTHRESH 0 or 1 each descriptor at once; with k > 1 when k are
done, together with the next message of the queue's vector, or when that vector's EITR has run down;
a vector without moderation has no timer, so then everything is written back when the pass ends.
With TDWBAL.0 the head is stored instead of descriptors.

While the link is down nothing is fetched: TDH stands still, the rings go on when it is up. With the
laser off frames complete as usual and end on the fibre.

Left out, dropped by name: checksum and segmentation offload, VLAN insertion. Context descriptors
are consumed without effect.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from bus.messages import FRAME_BYTES_MAX
from bus.recorder import Recorder
from nodes.ledger import classify, packet_key
from nodes.nic import trace
from nodes.nic.dma import Dma
from nodes.nic.interrupts import PCI_EXCEPTION, Interrupts, Now
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

MIN_FRAME = 60
_ENABLE = 1 << 25
_FLUSH = 1 << 26
_TXPADEN = 1 << 10
_LPBK = 1 << 15

# dword 2 of a descriptor, legacy and advanced alike
_EOP, _IFCS, _RS, _DEXT, _VLE, _TSE = 1 << 24, 1 << 25, 1 << 27, 1 << 29, 1 << 30, 1 << 31
_LEGACY_IC = 1 << 26
_DTYP = 0xF << 20
_DTYP_CONTEXT, _DTYP_DATA = 2 << 20, 3 << 20
_POPTS = 0x7 << 8  # dword 3
_DD = 1

_FETCHED = NIC_SCHEMA.index("tx_fetched")
_REFUSED = NIC_SCHEMA.index("tx_dma_refused")
_DROP = {name: NIC_SCHEMA.index(name) for name in TX_DROPS}
_HEAD = NIC_SCHEMA.index("tx_head")
_TAIL = NIC_SCHEMA.index("tx_tail")
_SIZE = NIC_SCHEMA.index("tx_size")
_BASE = NIC_SCHEMA.index("tx_base")
_PACKETS = NIC_SCHEMA.index("tx_packets")


class TxQueue:
    """State of one queue; addresses are physical."""

    __slots__ = (
        "base", "broken", "dirty", "enabled", "head", "head_writeback", "held", "number", "parts",
        "reason", "size", "tail", "threshold",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.base = 0
        self.size = 0
        self.head = 0
        self.tail = 0
        self.enabled = False
        self.threshold = 0
        self.head_writeback = 0
        self.held: list[int] = []  # descriptors done, DD not yet written
        self.parts: list[bytes] = []  # of a packet whose EOP has not come yet
        self.reason = ""  # why the packet being gathered must be dropped
        self.dirty = False
        self.broken = False  # a descriptor could not be fetched; stays until disabled


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
        self._dirty: list[TxQueue] = []
        self._configure(0, 0)
        self._attach()

    def _attach(self) -> None:
        attach = self._regs.attach
        attach("TDH", read=lambda i: self.queue(i).head, write=self._write_tdh)
        attach("TDT", read=lambda i: self.queue(i).tail, write=self.doorbell)
        attach("TXDCTL", after=self._after_txdctl)
        for name in ("TDBAL", "TDBAH", "TDLEN", "TDWBAL", "TDWBAH"):
            attach(name, after=self._after_base)
        attach("DMATXCTL", after=self._configure)
        attach("HLREG0", after=self._configure)

    def _configure(self, index: int, value: int) -> None:
        """Registers that every frame needs, as plain values."""
        self._te = bool(self._regs.get("DMATXCTL") & 1)
        hlreg0 = self._regs.get("HLREG0")
        self._padding = bool(hlreg0 & _TXPADEN)
        self._loopback = bool(hlreg0 & _LPBK)
        self.resume()

    def reset(self) -> None:
        self._queues = [None] * QUEUES
        self._dirty.clear()
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
            self._dirty.append(queue)

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
        if value & _FLUSH and self.allowed:
            self._write_back(queue)
        enabled = bool(value & _ENABLE)
        if enabled and not queue.enabled:
            queue.broken = False
            queue.parts.clear()
            queue.reason = ""
        queue.enabled = enabled
        self._mark(queue)

    # -- work

    def resume(self) -> None:
        """Look at every queue: the link, the right to DMA or TE changed."""
        for queue in self._queues:
            if queue is not None and (queue.head != queue.tail or queue.held):
                self._mark(queue)

    @property
    def dirty(self) -> bool:
        return bool(self._dirty)

    def run(self) -> int:
        """Work off the queues whose tail moved; number of frames fetched."""
        frames = 0
        dirty, self._dirty = self._dirty, []
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
            at = base + queue.head * 16
            found = dma.descriptor(at)
            if found is None:
                queue.broken = True
                self._interrupts.cause_other(PCI_EXCEPTION)
                break
            address, control = found
            if control & _EOP and self._is_plain(control) and not queue.parts and not queue.reason:
                data = dma.read(address, control & 0xFFFF)
                frames += 1
                if data is None:
                    self._words[_REFUSED] += 1
                else:
                    self._frame(queue, data, control)
            else:
                frames += self._gather(queue, address, control)
            queue.head = queue.head + 1 if queue.head + 1 < size else 0
            if control & _RS:
                queue.held.append(at)
                if len(queue.held) >= queue.threshold:
                    self._write_back(queue)
                    self._interrupts.cause(self._interrupts.tx_vector[queue.number])
        if queue.held and not self._interrupts.hold(self._interrupts.tx_vector[queue.number]):
            self._write_back(queue)
            self._interrupts.cause(self._interrupts.tx_vector[queue.number])
        return frames

    @staticmethod
    def _is_plain(control: int) -> bool:
        """A data descriptor without any offload?"""
        if control & _DEXT:
            wants = control & (_DTYP | _VLE | _TSE) != _DTYP_DATA or control >> 32 & _POPTS
        else:
            wants = control & (_LEGACY_IC | _VLE)
        return not wants and control & 0xFFFF != 0

    def _gather(self, queue: TxQueue, address: int, control: int) -> int:
        """A descriptor that is not a whole plain packet by itself; 1 if it ended one."""
        if control & _DEXT and control & _DTYP == _DTYP_CONTEXT:
            return 0
        if not queue.reason and not self._is_plain(control):
            known = not control & _DEXT or control & _DTYP == _DTYP_DATA
            queue.reason = "tx_drop_offload" if known and control & 0xFFFF else "tx_drop_descriptor"
        data = self._dma.read(address, control & 0xFFFF)
        if data is None:
            queue.reason = queue.reason or "refused"
        else:
            queue.parts.append(data)
        if not control & _EOP:
            return 0
        frame, reason = b"".join(queue.parts), queue.reason
        queue.parts.clear()
        queue.reason = ""
        if reason == "refused":
            self._words[_REFUSED] += 1
        elif reason:
            kind = classify(frame)
            self._words[_FETCHED + kind] += 1
            self._drop(reason, kind, frame)
        else:
            self._frame(queue, frame, control)
        return 1

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
        if not control & _IFCS:  # the buffer holds the FCS
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
        if not self.laser and not self._loopback:
            self._drop("tx_drop_laser_off", kind, data)
            return
        self._send(data, kind, self._loopback)

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
                store(at + 12, _DD)
        if self._now.trace >> trace.TX_WRITEBACK & 1:
            self._recorder.record(self._now.ns, trace.TX_WRITEBACK, a=len(held), b=queue.number)
        held.clear()

    def flush(self, vector: int) -> bool:
        """Write back what waits for ``vector`` (its message goes out, or its EITR has run down)."""
        found = False
        for queue in self._queues if self.allowed else ():
            if (
                queue is not None
                and queue.held
                and self._interrupts.tx_vector[queue.number] == vector
            ):
                self._write_back(queue)
                found = True
        return found
