"""The 82599 itself: one port, without PCIe and without a network around it.

Whoever owns a device gives it memory (``Dma``), takes its messages (MSI-X vector n, or one line),
its frames and its laser, tells it of light, frames, bus mastering and time, and reads and writes
its registers. Our PCIe function (``pcie``) and bus node (``node``) are one such owner; a transport
that puts the device into a guest's PCIe slot is another.

A turn: ``begin(now, mask)``, then any of the calls, then ``finish()``; ``next_ns()`` says when the
device wants the next turn without a call.

Resets (datasheet 4.2), each puts the registers back, drops what is in the packet buffer and loads
the EEPROM, and then::

    kind                     link              semaphores, firmware status
    power-on                 negotiates anew   reset
    CTRL.RST                 stays up          stay
    CTRL.LNK_RST             negotiates anew   stay
    function (FLR, D3 to D0) stays up          stay

The MSI-X table and configuration space are the function's: CTRL does not touch them. Both bits of
CTRL read 0 at once. CTRL.GIO_DIS stops all DMA and messages, and STATUS says so at once, since a
DMA read takes no time here; any reset clears it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bus.recorder import Recorder
from nodes.ledger import classify, packet_key
from nodes.nic import trace
from nodes.nic.causes import EICR_QUEUES
from nodes.nic.dma import Dma
from nodes.nic.eeprom import Eeprom
from nodes.nic.interrupts import Interrupts
from nodes.nic.link import Link
from nodes.nic.mdio import Mdio
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.receive import Receive
from nodes.nic.regfile import RegisterFile
from nodes.nic.registers import CSR_BYTES, KEYS
from nodes.nic.semaphores import Semaphores
from nodes.nic.sfp import Cage
from nodes.nic.statistics import LOCAL_FAULTS, Statistics
from nodes.nic.transmit import Transmit
from nodes.nic.turn import Now

_GIO_DIS, _LNK_RST, _RST = 1 << 2, 1 << 3, 1 << 26
_STATUS_GIO = 1 << 19
_INIT_DONE = 1 << 3  # FDIRCTRL
#: Queues whose doorbells take the short way.
_FAST_QUEUES = 16

_RESETS = NIC_SCHEMA.index("resets")
_EICR = NIC_SCHEMA.index("eicr")
_EIMS = NIC_SCHEMA.index("eims")
_EICR_VECTORS = NIC_SCHEMA.index("eicr_vectors")
_EIMS_VECTORS = NIC_SCHEMA.index("eims_vectors")
_RXEN = NIC_SCHEMA.index("rxen")
_TXEN = NIC_SCHEMA.index("txen")
_DRV_LOAD = NIC_SCHEMA.index("drv_load")
_RX_IN = NIC_SCHEMA.index("rx_frames_in")
_TX_OUT = NIC_SCHEMA.index("tx_frames_out")


class Outside(NamedTuple):
    """What the device's owner takes from it."""

    message: Callable[[int], None]  # MSI-X vector
    line: Callable[[bool], None]  # INTx or MSI
    mastering: Callable[[bool], None]  # messages may leave: bus mastering and no GIO_DIS
    unpend: Callable[[int], None]  # clear pending bits of these vectors
    wire: Callable[[bytes], None]  # a frame without FCS
    laser: Callable[[bool], None]


class Device:
    """One port. ``words`` is its page, ``dma`` its way into memory, ``module`` what is in the
    SFP+ cage, ``port`` its number on the chip, ``chip`` what the ports of a chip share."""

    def __init__(
        self,
        words: memoryview,
        dma: Dma,
        recorder: Recorder,
        mac: bytes,
        outside: Outside,
        module: str | None = "da",
        port: int = 0,
        chip: dict[int, int] | None = None,
    ) -> None:
        self.now = Now()
        self.regs = RegisterFile(chip)
        self.dma = dma
        self._words = words
        self._recorder = recorder
        self._outside = outside
        self._bus_master = False
        self._no_dma = self._hung = 0
        #: called when a reset of the port has put everything back
        self.on_reset: Callable[[], None] = lambda: None
        self._lan_id = port << 2
        now, regs = self.now, self.regs
        self.statistics = Statistics(regs)
        self.eeprom = Eeprom(regs, now, mac)
        self.interrupts = Interrupts(
            regs, now, words, outside.message, outside.line, outside.unpend
        )
        self._timers = self.interrupts.timers
        self.transmit = Transmit(
            regs, now, words, dma, self.interrupts, self.statistics, recorder, self._send
        )
        self.receive = Receive(regs, now, words, dma, self.interrupts, self.statistics, recorder)
        self.interrupts.flush = self.transmit.flush
        self.cage = Cage(regs, module, mac.hex().upper())
        self.link = Link(
            regs, now, words, recorder, self.interrupts, self.cage,
            self._link_changed, self._laser_changed,
        )  # fmt: skip
        self.mdio = Mdio(regs)
        self.semaphores = Semaphores(regs)
        regs.attach("CTRL", after=self._after_ctrl)
        regs.attach("STATUS", read=self._read_status)
        regs.attach("FRTIMER", read=lambda i: now.ns // 1000 & 0xFFFF_FFFF)
        regs.attach("FDIRCTRL", after=self._after_fdirctrl)
        for name in ("RXCTRL", "DMATXCTL", "CTRL_EXT"):
            regs.attach(name, after=lambda i, value: self._publish_enables())
        self._fast: dict[int, tuple[Callable[[int, int], None], int]] = {}
        for q in range(_FAST_QUEUES):
            self._fast[KEYS["TDT"][q]] = (self.transmit.doorbell, q)
            self._fast[KEYS["RDT"][q]] = (self.receive.doorbell, q)

    # -- turns

    def begin(self, now_ns: int, trace_mask: int) -> None:
        """Time has come to ``now_ns``: timers that ran out act now."""
        self.now.ns = now_ns
        self.now.trace = trace_mask
        if not self.link.up:
            self.link.look()
        if now_ns >= self._timers.earliest_ns:
            self.interrupts.expire()

    def finish(self) -> int:
        """Do what the writes of this turn asked for; number of frames fetched."""
        frames = self.transmit.run() if self.transmit.dirty else 0
        words, interrupts = self._words, self.interrupts
        words[_EICR_VECTORS] = pending = interrupts.pending
        words[_EIMS_VECTORS] = enabled = interrupts.enabled
        words[_EICR] = pending & EICR_QUEUES | interrupts.other
        words[_EIMS] = enabled & EICR_QUEUES | interrupts.other_enabled
        return frames

    def next_ns(self) -> int | None:
        """When the device wants a turn by itself."""
        if self.transmit.dirty:  # a pass that was cut short
            return self.now.ns + 1
        timer = self._timers.next_ns()
        if self.link.up:
            return timer
        link = self.link.next_ns()
        if timer is None:
            return link
        return timer if link is None else min(timer, link)

    # -- registers

    def read32(self, offset: int) -> int:
        """A register read. All ones beyond the CSRs, where an absent flash would be."""
        value = self.regs.read(offset & ~3) if offset < CSR_BYTES else 0xFFFF_FFFF
        if self.now.trace >> trace.MMIO_READ & 1:
            self._recorder.record(self.now.ns, trace.MMIO_READ, a=offset, b=value)
        return value

    def peek32(self, offset: int) -> int:
        """What a read would give, without its side effects: for whoever only looks."""
        return self.regs.peek(offset & ~3) if offset < CSR_BYTES else 0xFFFF_FFFF

    def write32(self, offset: int, value: int) -> None:
        """A register write; accesses that are not 32-bit aligned are ignored."""
        if self.now.trace >> trace.MMIO_WRITE & 1:
            self._recorder.record(self.now.ns, trace.MMIO_WRITE, a=offset, b=value)
        fast = self._fast.get(offset)
        if fast is not None:
            fast[0](fast[1], value & 0xFFFF)
        elif not offset & 3 and offset < CSR_BYTES:
            self.regs.write(offset, value & 0xFFFF_FFFF)

    def _after_ctrl(self, index: int, value: int) -> None:
        if value & (_RST | _LNK_RST):
            self._recorder.record(self.now.ns, trace.RESET, a=value)
            self.reset(negotiate=bool(value & _LNK_RST))
        else:
            self._allow()

    def _read_status(self, index: int) -> int:
        return self._lan_id | (0 if self.regs.get("CTRL") & _GIO_DIS else _STATUS_GIO)

    def _after_fdirctrl(self, index: int, value: int) -> None:
        self.regs.put("FDIRCTRL", 0, value | _INIT_DONE)

    def _publish_enables(self) -> None:
        get, words = self.regs.get, self._words
        words[_RXEN] = get("RXCTRL") & 1
        words[_TXEN] = get("DMATXCTL") & 1
        words[_DRV_LOAD] = get("CTRL_EXT") >> 28 & 1

    # -- resets and bus mastering

    def power_on(self) -> None:
        """Power has come, or PERST# has gone."""
        self.regs.power_on()
        self.semaphores.firmware_holds = False
        self.reset(negotiate=True)

    def reset(self, negotiate: bool) -> None:
        """Everything back to its reset value; ``negotiate``: the link too."""
        self._words[_RESETS] += 1
        self.regs.clear()
        self.interrupts.reset()
        self.statistics.reset()
        self.transmit.reset()
        for name, value in (("RXPBSIZE", 0x80000), ("TXPBSIZE", 0x28000), ("TXPBTHRESH", 0x96)):
            self.regs.put(name, 0, value)
        self.receive.reset()
        self.eeprom.load()
        self.cage.reset()
        self._publish_enables()
        self.link.reset(negotiate)
        self.on_reset()
        self._allow()

    def set_bus_master(self, on: bool) -> None:
        """Command register's BME, and not in D3: without it neither DMA nor messages."""
        self._bus_master = on
        self._allow()

    def stall(self, no_dma: int, hung: int) -> None:
        """Broken parts: no way into memory at all, or the engines behind the rings stand still."""
        self._no_dma, self._hung = no_dma, hung
        self._allow()

    def _allow(self) -> None:
        allowed = self._bus_master and not self.regs.get("CTRL") & _GIO_DIS and not self._no_dma
        moving = allowed and not self._hung
        self.transmit.allowed = moving
        self.receive.allowed = moving
        self._outside.mastering(allowed)
        self.interrupts.set_allowed(allowed)
        if moving:
            self.transmit.resume()
            self.receive.drain()

    # -- the wire

    def light(self, on: bool) -> None:
        """The far end's light."""
        self.link.set_light(on)

    def frame(self, frame: bytes) -> None:
        """A frame from the wire, without FCS."""
        kind = classify(frame)
        self._words[_RX_IN + kind] += 1
        if self.transmit.loopback:
            self.receive.unheard(frame, kind)
        else:
            self.receive.frame(frame, kind)

    def bad_frame(self, frame: bytes) -> None:
        """A frame whose bits flipped on the wire."""
        kind = classify(frame)
        self._words[_RX_IN + kind] += 1
        if self.transmit.loopback:
            self.receive.unheard(frame, kind)
        else:
            self.receive.bad_frame(frame, kind)

    def _send(self, frame: bytes, kind: int, loopback: bool) -> None:
        self._words[_TX_OUT + kind] += 1
        if loopback:
            self._words[_RX_IN + kind] += 1
            self.receive.frame(frame, kind)
            return
        if self.now.trace >> trace.TX_WIRE & 1:
            self._recorder.record(self.now.ns, trace.TX_WIRE, a=packet_key(frame))
        self._outside.wire(frame)

    def _link_changed(self, up: bool) -> None:
        if not up:
            self.statistics.totals[LOCAL_FAULTS] += 1
        self.transmit.link_up = up
        self.receive.link_up = up
        if up:
            self.transmit.resume()

    def _laser_changed(self, on: bool) -> None:
        self.transmit.laser = on
        self._outside.laser(on)
