"""A NIC on the bus: an 82599 in its PCIe slot with a fibre to the switch.

It takes register and configuration accesses from the CPUs, answers reads with completions, sends
its interrupts as posted writes to the interrupt controller, and frames and light to the switch. A
read is answered after all writes before it in the inbox took effect; doorbells are worked off when
the inbox is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bus.faults import KINDS, NIC, UNTIL_RESET
from bus.messages import (
    BadFrame,
    CfgRead,
    CfgWrite,
    Completion,
    EthFrame,
    Fault,
    GuestTrigger,
    IntxMessage,
    LinkState,
    MemRead,
    MemWrite,
    MsiWrite,
    PeerBack,
    PeerLost,
    PeerSilent,
    SlotPower,
    Snapshot,
)
from bus.node import Inbox, Node, Surroundings
from bus.recorder import Recorder
from nodes.answers import answer
from nodes.faults import Faults
from nodes.ledger import classify
from nodes.machine import APIC, CONTROL, LAN, MachineSettings, NicSettings
from nodes.nic import trace
from nodes.nic.device import Device, Outside
from nodes.nic.dma import Dma, RamDma
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.pcie import Bus, Function
from nodes.nic.snapshot import SNAPSHOTS

SPEED_MBPS = 10000

_MMIO_WRITES = NIC_SCHEMA.index("mmio_writes")
_MMIO_READS = NIC_SCHEMA.index("mmio_reads")
_CONFIG_WRITES = NIC_SCHEMA.index("config_writes")
_CONFIG_READS = NIC_SCHEMA.index("config_reads")
_UNEXPECTED = NIC_SCHEMA.index("unexpected")
_COMPLETIONS_LOST = NIC_SCHEMA.index("completions_lost")
_TX_LOST = {True: NIC_SCHEMA.index("tx_lost_peer_dead"),
            False: NIC_SCHEMA.index("tx_lost_peer_full")}  # fmt: skip
_ALL_ONES = 0xFFFF_FFFF
_INTX = {True: NIC_SCHEMA.index("intx_asserts"), False: NIC_SCHEMA.index("intx_deasserts")}
_INTX_LOST = {True: NIC_SCHEMA.index("intx_lost_peer_dead"),
              False: NIC_SCHEMA.index("intx_lost_peer_full")}  # fmt: skip
_MSI_LOST = {True: NIC_SCHEMA.index("msi_lost_peer_dead"),
             False: NIC_SCHEMA.index("msi_lost_peer_full")}  # fmt: skip
_LOST_FAULT = NIC_SCHEMA.index("msi_lost_fault")
_DUP_FAULT = NIC_SCHEMA.index("msi_dup_fault")
_LOSE_MSI, _DUP_MSI = KINDS["lose-msi"].number, KINDS["dup-msi"].number
_NO_DMA, _HANG = KINDS["no-dma"].number, KINDS["hang"].number


class NicNode(Node):
    """One NIC of a machine."""

    #: Who takes its interrupts.
    upstream = APIC

    def __init__(self, around: Surroundings, machine: MachineSettings, nic: NicSettings) -> None:
        super().__init__(around)
        self.page = self.ram.page(self.name, NIC_SCHEMA)
        self.settings = nic
        words = self.page.words
        self._words = words
        self._switch_there = False
        self._powered = True
        self._recorder = Recorder(self.ram.recorder_words(self.name))
        dma = self.memory()
        self.function = Function(words, self._recorder, nic.mac, self.bus())
        self.msix = self.function.msix
        outside = Outside(
            message=self.msix.message,
            line=self.function.line,
            mastering=self.function.mastering,
            unpend=self.msix.clear,
            wire=self._wire,
            laser=self._laser,
        )
        self.device = Device(words, dma, self._recorder, nic.mac, outside)
        self.device.interrupts.timers.slack_ns = around.timer_slack_ns
        self.function.attach(self.device)
        self._handlers: dict[type[Any], Callable[[str, Any], None]] = {
            MemRead: self._mem_read,
            CfgRead: self._cfg_read,
            CfgWrite: self._cfg_write,
            BadFrame: self._bad_frame,
            LinkState: self._link_state,
            PeerBack: self._peer_back,
            PeerLost: self._peer_lost,
            PeerSilent: lambda sender, message: None,
            SlotPower: self._slot_power,
            Snapshot: self._snapshot,
            Fault: self._fault,
        }
        self.faults = Faults(
            words, NIC_SCHEMA.index("faults"), NIC, around.rng, self._fault_changed
        )
        self.device.on_reset = self._after_reset
        self.device.begin(self.clock(), self._recorder.mask)
        self.device.power_on()

    # -- what the card is plugged into

    def memory(self) -> Dma:
        """The card's way into memory."""
        return RamDma(self.ram, self.ram.iommu(self.settings.slot), self._words)

    def bus(self) -> Bus:
        """Where its requests go."""
        return Bus(self._msi, self._intx)

    def turn(self, inbox: Inbox, budget: int) -> int | None:
        device, words = self.device, self._words
        now_ns = self.clock()
        device.begin(now_ns, self._recorder.mask)
        if now_ns >= self.faults.until_ns:
            self.faults.expire(now_ns)
        frame = device.frame
        mem_write = self.function.mem_write
        for sender, message in inbox:
            kind = type(message)
            if kind is MemWrite:
                words[_MMIO_WRITES] += 1
                if self._powered:
                    mem_write(*message)
            elif kind is EthFrame:
                if sender == LAN:
                    frame(message.frame)
                else:
                    words[_UNEXPECTED] += 1
            else:
                handler = self._handlers.get(kind)
                if handler is None:
                    words[_UNEXPECTED] += 1
                else:
                    handler(sender, message)
        self.steps = len(inbox) + device.finish()
        wanted = device.next_ns()
        return self.faults.sooner(wanted) if self.faults.on else wanted

    # -- what comes in

    def _mem_read(self, sender: str, message: MemRead) -> None:
        self._words[_MMIO_READS] += 1
        value = _ALL_ONES
        if self._powered:
            value = self.function.mem_read(message.bar, message.offset)
        self.post(sender, Completion(message.tag, value))

    def _cfg_read(self, sender: str, message: CfgRead) -> None:
        self._words[_CONFIG_READS] += 1
        value = _ALL_ONES >> 32 - 8 * message.size_bytes
        if self._powered and not message.function:
            value = self.function.config_read(message.offset, message.size_bytes)
        self.post(sender, Completion(message.tag, value))

    def _cfg_write(self, sender: str, message: CfgWrite) -> None:
        self._words[_CONFIG_WRITES] += 1
        if self._powered and not message.function:
            self.function.config_write(message.offset, message.size_bytes, message.value)
        self.post(sender, Completion(message.tag, 0))

    def _bad_frame(self, sender: str, message: BadFrame) -> None:
        if sender == LAN:
            self.device.bad_frame(message.frame)
        else:
            self._words[_UNEXPECTED] += 1

    def _link_state(self, sender: str, message: LinkState) -> None:
        if sender == LAN:
            self.device.light(bool(message.up))
        else:
            self._words[_UNEXPECTED] += 1

    def _peer_back(self, sender: str, message: PeerBack) -> None:
        if sender == LAN:
            self._switch_there = True
            self._laser(self.device.link.laser)

    def _peer_lost(self, sender: str, message: PeerLost) -> None:
        if sender == LAN:
            self._switch_there = False
            self.device.light(False)

    def _slot_power(self, sender: str, message: SlotPower) -> None:
        """Without power the card knows nothing, answers nothing and is dark."""
        if sender != APIC:
            self._words[_UNEXPECTED] += 1
        elif self._powered != bool(message.on):
            self._powered = bool(message.on)
            self.function.power_on()
            self._laser(self.device.link.laser)

    def _snapshot(self, sender: str, message: Snapshot) -> None:
        self.post(sender, answer(message, SNAPSHOTS, self))

    # -- what is broken

    def _fault(self, sender: str, message: Fault) -> None:
        if sender == CONTROL:
            self.post(sender, self.faults.take(message, self.device.now.ns))
        else:
            self._words[_UNEXPECTED] += 1

    def _fault_changed(self, kind: int, on: bool) -> None:
        device = self.device
        self._recorder.record(device.now.ns, trace.FAULT, a=kind, b=int(on))
        if kind in (_NO_DMA, _HANG):
            device.stall(self.faults.on >> _NO_DMA & 1, self.faults.on >> _HANG & 1)

    def _after_reset(self) -> None:
        """The port was reset: a datapath that merely hung starts anew."""
        if self.faults.on:
            self.faults.end(_HANG, UNTIL_RESET)

    def _hit(self, kind: int, message: MsiWrite | GuestTrigger) -> bool:
        if not (self.faults.on >> kind & 1 and self.faults.hits(kind)):
            return False
        now = self.device.now
        if now.trace >> trace.MSI_FAULT & 1:
            self._recorder.record(now.ns, trace.MSI_FAULT, kind, *message)
        return True

    # -- what goes out

    def _msi(self, address: int, data: int) -> None:
        self.interrupt(MsiWrite(address, data))

    def interrupt(self, message: MsiWrite | GuestTrigger) -> None:
        """An MSI or MSI-X message leaves, if nothing is broken."""
        if self.faults.on:
            if self._hit(_LOSE_MSI, message):
                self._words[_LOST_FAULT] += 1
                return
            if self._hit(_DUP_MSI, message):
                self._words[_DUP_FAULT] += 1
                self.post(self.upstream, message)
        self.post(self.upstream, message)

    def _intx(self, pin: int, asserted: bool) -> None:
        self._words[_INTX[asserted]] += 1
        self.post(self.upstream, IntxMessage(pin, int(asserted)))

    def _wire(self, frame: bytes) -> None:
        self.post(LAN, EthFrame(frame))

    def _laser(self, on: bool) -> None:
        if self._switch_there:  # told when it comes up
            self.post(LAN, LinkState(int(on and self._powered), SPEED_MBPS))

    def undelivered(self, peer: str, messages: Sequence[Any], dead: bool) -> None:
        words = self._words
        for message in messages:
            kind = type(message)
            if kind is EthFrame:
                words[_TX_LOST[dead] + classify(message.frame)] += 1
            elif kind is MsiWrite or kind is GuestTrigger:
                words[_MSI_LOST[dead]] += 1
            elif kind is IntxMessage:
                words[_INTX_LOST[dead]] += 1
            elif kind is Completion:
                words[_COMPLETIONS_LOST] += 1
