"""The PCIe function around the device: what configuration space does to it.

Source: PCI Express base specification 2.1 chapter 7, 82599 datasheet 9. The words of configuration
space are in ``configspace``; this module lets those act that do more than store, decodes the BARs
and turns the device's requests into INTx, MSI or MSI-X messages.

* Memory decode off, the function in D3hot, or a BAR that holds all ones (as while it is sized):
  nobody answers there. Reads give all ones, writes vanish; both are unsupported requests (``aer``).
* Bus master off, or CTRL.GIO_DIS: no DMA, no MSI, no MSI-X; causes stay in EICR, pending bits stay.
* D3hot -> D0 (No_Soft_Reset is 0) and FLR reset the function: device, command, BARs, MSI-X table;
  PME and AER words survive, of FLR also what belongs to the link.
* The single request of a device without MSI-X mode is a level, shown in status bit 3. With MSI its
  rising edge is the message, with MSI-X that of vector 0. Else the level is INTA: an Assert_INTx or
  Deassert_INTx message at each change, unless command bit 10 or D3hot holds the wire down.

An access names its BAR, not an address: where BARs lie is the root complex's business. A
configuration access that is not naturally aligned is answered as unsupported.

Left out: SR-IOV, the flash behind BAR 0, the time that a reset of the function takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bus.recorder import Recorder
from nodes.configspace import aligned
from nodes.nic.aer import Aer, memory_header
from nodes.nic.configspace import (
    ALL_ONES,
    BAR0,
    BAR0_BYTES,
    BAR2,
    BAR2_BYTES,
    BAR4,
    BAR4_BYTES,
    COMMAND,
    DEVCTL,
    MSIX_CONTROL,
    PMCSR,
    STATUS,
    VPD,
    ConfigSpace,
)
from nodes.nic.device import Device
from nodes.nic.guestmsi import GuestMsi, GuestMsix
from nodes.nic.msi import Msi
from nodes.nic.msix import Msix
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.vpd import Vpd

_IO, _MEM, _BME, _INTX_DISABLE = 1 << 0, 1 << 1, 1 << 2, 1 << 10
_INTERRUPT_STATUS = 1 << 3
_INTERRUPT_PIN = 0x3D
_FLR = 1 << 15

_COMMAND = NIC_SCHEMA.index("pci_command")
_ENABLED = NIC_SCHEMA.index("msix_enabled")
_UNSUPPORTED = NIC_SCHEMA.index("unsupported_requests")


class Bus(NamedTuple):
    """Where the function's own requests go."""

    write: Callable[[int, int], None]  # MSI, MSI-X: (address, data)
    intx: Callable[[int, bool], None]  # (pin, asserted)
    #: a guest's: (interrupt index, vector), in place of ``write``
    trigger: Callable[[int, int], None] | None = None


class Function:
    """One PCIe function; ``attach`` puts the device into it."""

    def __init__(self, words: memoryview, recorder: Recorder, mac: bytes, bus: Bus) -> None:
        self._words = words
        self._bus = bus
        self.space = ConfigSpace(mac)
        if bus.trigger is None:
            self.msi = Msi(self.space, words, recorder, bus.write)
            self.msix = Msix(words, recorder, bus.write)
        else:
            self.msi = GuestMsi(self.space, words, recorder, bus.trigger)
            self.msix = GuestMsix(words, recorder, bus.trigger)
        self.aer = Aer(self.space, words)
        self._vpd = Vpd(self.space, mac)
        self._device: Device
        self._in_d3 = False
        self._request = False
        self._wire = False
        self._io_address = 0
        #: How much of each BAR is decoded: all of it or nothing.
        self._bar0_bytes = self._bar2_bytes = self._bar4_bytes = 0

    def attach(self, device: Device) -> None:
        """The device behind the registers; called once."""
        self._device = device
        self.msi.now = self.msix.now = device.now
        device.dma.master_abort = self.aer.master_abort

    # -- configuration space

    def config_read(self, offset: int, size: int) -> int:
        """``size`` bytes, naturally aligned; else all ones."""
        if not aligned(offset, size):
            return (1 << 8 * size) - 1
        return self.space.get(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write by the rules of each bit, then let the words act that do more than store."""
        if not aligned(offset, size):
            return
        data = value & (1 << 8 * size) - 1
        self.space.write(offset, size, data)
        end = offset + size
        if offset <= PMCSR < end:
            self._power(data >> 8 * (PMCSR - offset) & 3)
        if offset <= DEVCTL + 1 < end and data << 8 * (offset - DEVCTL) & _FLR:
            self.reset(function_level=True)
        if offset < VPD + 4 and end > VPD + 2:
            self._vpd.addressed()
        self._apply()

    def _power(self, state: int) -> None:
        """PMCSR was written; leaving D3hot resets the function."""
        if state in (1, 2):  # not supported: the state stays
            self.space.change(PMCSR, 3, self._in_d3)
        elif state == 3:
            self._in_d3 = True
        elif self._in_d3:
            self.reset()

    def reset(self, function_level: bool = False) -> None:
        """Function reset: configuration, MSI-X table, device."""
        self.msix.reset()
        self.msi.clear()
        self.space.reset(function_level)
        self._apply()  # nothing may leave any more
        self._device.reset(negotiate=False)
        self._in_d3 = False
        self._apply()

    def power_on(self) -> None:
        """Power came, or went: nothing survives, not even what is sticky."""
        self.msix.reset()
        self.msi.clear()
        self.space.power_on()
        self._in_d3 = False
        self._apply()  # nothing may leave any more
        self._device.power_on()
        self._apply()

    def _apply(self) -> None:
        """Let the command and control words take effect."""
        space = self.space
        command = space.get(COMMAND)
        self._words[_COMMAND] = command
        memory = bool(command & _MEM) and not self._in_d3
        self._bar0_bytes = BAR0_BYTES if memory and self._placed(BAR0, BAR0_BYTES) else 0
        self._bar4_bytes = BAR4_BYTES if memory and self._placed(BAR4, BAR4_BYTES) else 0
        ports = bool(command & _IO) and not self._in_d3
        self._bar2_bytes = BAR2_BYTES if ports and self._placed(BAR2, BAR2_BYTES) else 0
        self._device.set_bus_master(bool(command & _BME) and not self._in_d3)
        control = space.get(MSIX_CONTROL)
        enabled, masked = bool(control >> 15), bool(control >> 14 & 1)
        self._words[_ENABLED] = enabled
        if (enabled, masked) != (self.msix.enabled, self.msix.function_masked):
            self.msix.control(enabled, masked)
        self.msi.release()
        self._drive()

    def _placed(self, bar: int, size: int) -> bool:
        """A BAR that holds all ones is being sized and lies nowhere."""
        return self.space.get(bar, 4) & -size & ALL_ONES != -size & ALL_ONES

    def mastering(self, allowed: bool) -> None:
        """The device may, or may no longer, send requests (BME, D3hot, GIO_DIS)."""
        self.msi.set_allowed(allowed)
        self.msix.set_allowed(allowed)

    # -- BARs

    def mem_read(self, bar: int, offset: int) -> int:
        """A 32-bit read of a BAR."""
        if not offset & 3:
            if bar == 0 and offset < self._bar0_bytes:
                return self._device.read32(offset)
            if bar == 4 and offset < self._bar4_bytes:
                return self.msix.read32(offset)
            if bar == 2 and offset < self._bar2_bytes:
                return self._port_read(offset)
        self._unsupported(bar, offset, posted=False)
        return ALL_ONES

    def mem_write(self, bar: int, offset: int, value: int) -> None:
        """A posted 32-bit write of a BAR."""
        if bar == 0 and offset < self._bar0_bytes:
            self._device.write32(offset, value)
        elif bar == 4 and offset < self._bar4_bytes:
            self.msix.write32(offset, value)
        elif bar == 2 and offset < self._bar2_bytes:
            self._port_write(offset, value)
        else:
            self._unsupported(bar, offset, posted=True)

    def _port_read(self, offset: int) -> int:
        """IOADDR at 0, IODATA at 4; nothing else."""
        if offset == 4:
            return self._device.read32(self._io_address)
        return self._io_address if offset == 0 else 0

    def _port_write(self, offset: int, value: int) -> None:
        if offset == 0:
            self._io_address = value
        elif offset == 4:
            self._device.write32(self._io_address, value)

    def _unsupported(self, bar: int, offset: int, posted: bool) -> None:
        self._words[_UNSUPPORTED] += 1
        at = BAR0 + 4 * bar
        base = self.space.get(at, 8 if bar in (0, 4) else 4) & ~0xF if bar < 6 else 0
        self.aer.unsupported_request(memory_header(posted, base + offset), posted)

    # -- INTx, MSI, vector 0

    def line(self, level: bool) -> None:
        """The single interrupt request of a device that does not use MSI-X mode."""
        self._request = level
        self.space.change(STATUS, _INTERRUPT_STATUS, level)
        if level and self.msix.enabled:
            self.msix.message(0)
        elif level and self.msi.enabled:
            self.msi.message(0)
        self._drive()

    def _drive(self) -> None:
        """Bring the INTx wire in line with the request."""
        wire = (
            self._request
            and not self.msix.enabled
            and not self.msi.enabled
            and not self._in_d3
            and not self.space.get(COMMAND) & _INTX_DISABLE
        )
        if wire != self._wire:
            self._wire = wire
            self._bus.intx(self.space.get(_INTERRUPT_PIN, 1), wire)
