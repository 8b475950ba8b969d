"""The PCIe function around the device: configuration space, BAR decoding, MSI and MSI-X.

Source: PCI Express base specification 2.1 chapter 7, 82599 datasheet 9 (values as real cards show
them). Configuration space is bytes with two masks, writable and write-1-to-clear; the words below
that do more than store act in ``config_write`` and ``_apply``.

* Memory decode off, or the function in D3hot: reads give all ones, writes vanish.
* Bus master off: no DMA, no MSI, no MSI-X; causes stay in EICR, pending bits stay.
* D3hot -> D0 (No_Soft_Reset is 0) and FLR reset the function: device, command, BARs, MSI-X table.

Left out: INTx messages (the vocabulary has none; status bit 3 shows the request), AER reporting,
VPD contents, SR-IOV, the flash behind BAR 0.
"""

from __future__ import annotations

from collections.abc import Callable

from nodes.nic.device import Device
from nodes.nic.msix import BAR4_BYTES, Msix
from nodes.nic.page import NIC_SCHEMA
from nodes.nic.registers import BAR0_BYTES

CONFIG_BYTES = 4096
ALL_ONES = 0xFFFF_FFFF
BAR2_BYTES = 32

COMMAND, PMCSR, MSI_CONTROL, MSIX_CONTROL, DEVCTL, VPD_ADDRESS = (
    0x04, 0x44, 0x52, 0x72, 0xA8, 0xE2,
)  # fmt: skip
_IO, _MEM, _BME = 1 << 0, 1 << 1, 1 << 2

#: (offset, value at reset, writable bits, write-1-to-clear bits), 32 bits each.
CONFIG: tuple[tuple[int, int, int, int], ...] = (
    (0x00, 0x10FB8086, 0, 0),
    (0x04, 0x00100000, 0x00000547, 0xF9000000),
    (0x08, 0x02000001, 0, 0),
    (0x0C, 0x00000000, 0x000000FF, 0),
    (0x10, 0x0000000C, ALL_ONES & -BAR0_BYTES, 0),  # BAR 0, 64 bits, prefetchable
    (0x14, 0x00000000, ALL_ONES, 0),
    (0x18, 0x00000001, ALL_ONES & -BAR2_BYTES, 0),  # BAR 2, I/O
    (0x20, 0x0000000C, ALL_ONES & -BAR4_BYTES, 0),  # BAR 4, 64 bits, MSI-X
    (0x24, 0x00000000, ALL_ONES, 0),
    (0x2C, 0x00038086, 0, 0),  # X520-DA2
    (0x34, 0x00000040, 0, 0),
    (0x3C, 0x00000100, 0x000000FF, 0),
    (0x40, 0xC8235001, 0, 0),  # power management
    (0x44, 0x00002000, 0x00000103, 0x00008000),
    (0x50, 0x01807005, 0x00010000, 0),  # MSI: one message, 64 bits, maskable
    (0x54, 0x00000000, 0xFFFFFFFC, 0),
    (0x58, 0x00000000, ALL_ONES, 0),
    (0x5C, 0x00000000, 0x0000FFFF, 0),
    (0x60, 0x00000000, 0x00000001, 0),
    (0x70, 0x003FA011, 0xC0000000, 0),  # MSI-X: 64 vectors
    (0x74, 0x00000004, 0, 0),
    (0x78, 0x00002004, 0, 0),
    (0xA0, 0x0002E010, 0, 0),  # PCI Express endpoint, version 2
    (0xA4, 0x10008CC2, 0, 0),
    (0xA8, 0x00002810, 0x00007FFF, 0x000F0000),
    (0xAC, 0x00000482, 0, 0),
    (0xB0, 0x10820000, 0x000001FB, 0),  # 5 GT/s x8
    (0xC4, 0x0000001F, 0, 0),
    (0xC8, 0x00000000, 0x0000001F, 0),
    (0xD0, 0x00000002, 0x0000FFFF, 0),
    (0xE0, 0x00000003, 0xFFFF0000, 0),  # VPD
    (0xE4, 0x00000000, ALL_ONES, 0),
    (0x100, 0x14010001, 0, 0),  # AER
    (0x104, 0x00000000, 0, ALL_ONES),
    (0x108, 0x00000000, 0x003FF030, 0),
    (0x10C, 0x00062010, 0x003FF030, 0),
    (0x110, 0x00000000, 0, 0x000031C1),
    (0x114, 0x00002000, 0x000031C1, 0),
    (0x118, 0x00000000, 0x00000140, 0),
    (0x140, 0x00010003, 0, 0),  # device serial number
)

_COMMAND = NIC_SCHEMA.index("pci_command")
_ENABLED = NIC_SCHEMA.index("msix_enabled")
_UNSUPPORTED = NIC_SCHEMA.index("unsupported_requests")
_RAISED = NIC_SCHEMA.index("msi_raised")
_OUT = NIC_SCHEMA.index("msi_out")
_CLEARED = NIC_SCHEMA.index("msi_cleared")


class Function:
    """One PCIe function; ``write(address, data)`` takes its interrupt messages."""

    def __init__(
        self, words: memoryview, msix: Msix, mac: bytes, write: Callable[[int, int], None]
    ) -> None:
        self._words = words
        self._write = write
        self._mac = mac
        self.msix = msix
        self.device: Device | None = None
        self._in_d3 = False
        self._io_address = 0
        self._space = bytearray(CONFIG_BYTES)
        self._writable = bytearray(CONFIG_BYTES)
        self._clearing = bytearray(CONFIG_BYTES)
        self._load()
        self._decode = False

    def _load(self) -> None:
        for offset, value, writable, clearing in CONFIG:
            span = slice(offset, offset + 4)
            self._space[span] = value.to_bytes(4, "little")
            self._writable[span] = writable.to_bytes(4, "little")
            self._clearing[span] = clearing.to_bytes(4, "little")
        mac = self._mac  # the serial number is the MAC with ff-ff in the middle
        self._space[0x144:0x14C] = (mac[:3] + b"\xff\xff" + mac[3:])[::-1]

    def _word(self, offset: int, size: int = 2) -> int:
        return int.from_bytes(self._space[offset : offset + size], "little")

    # -- configuration space

    def config_read(self, offset: int, size: int) -> int:
        """``size`` bytes; beyond the end of the space zero."""
        return self._word(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        """Write by the rules of each bit, then let the words act that do more than store."""
        data = value & (1 << 8 * size) - 1
        for i in range(min(size, CONFIG_BYTES - offset)):
            at = offset + i
            byte = data >> 8 * i & 0xFF
            old, writable = self._space[at], self._writable[at]
            new = old & ~writable | byte & writable
            self._space[at] = new & ~(byte & self._clearing[at])
        end = offset + size
        if offset < PMCSR + 2 and end > PMCSR:
            self._power(data >> 8 * (PMCSR - offset) & 3 if offset <= PMCSR else None)
        if offset <= DEVCTL + 1 < end and data >> 8 * (DEVCTL + 1 - offset) & 0x80:
            self.reset()  # function level reset
        if offset < VPD_ADDRESS + 2 and end > VPD_ADDRESS:
            self._space[VPD_ADDRESS + 1] ^= 0x80
        self._apply()

    def _power(self, state: int | None) -> None:
        """PMCSR was written; leaving D3hot resets the function."""
        if state in (1, 2):  # not supported: the state stays
            self._space[PMCSR] = self._space[PMCSR] & ~3 | (3 if self._in_d3 else 0)
        elif state == 0 and self._in_d3:
            self._in_d3 = False
            self.reset()
        elif state == 3:
            self._in_d3 = True

    def reset(self) -> None:
        """Function reset: configuration, MSI-X table, device."""
        self._load()
        self._in_d3 = False
        self.msix.reset()
        if self.device is not None:
            self.device.reset(negotiate=False)
        self._apply()

    def _apply(self) -> None:
        """Let the command and control words take effect."""
        command = self._word(COMMAND)
        self._words[_COMMAND] = command
        self._decode = bool(command & _MEM) and not self._in_d3
        master = bool(command & _BME) and not self._in_d3
        control = self._word(MSIX_CONTROL)
        if self.device is not None:
            self.device.set_bus_master(master)
        enabled, masked = bool(control >> 15), bool(control >> 14 & 1)
        self._words[_ENABLED] = enabled
        if master != self.msix.bus_master:
            self.msix.set_bus_master(master)
        if (enabled, masked) != (self.msix.enabled, self.msix.function_masked):
            self.msix.control(enabled, masked)

    # -- BARs

    def mem_read(self, bar: int, offset: int) -> int:
        """A 32-bit read of a BAR."""
        if bar == 2 and self._word(COMMAND) & _IO and offset in (0, 4) and not self._in_d3:
            return self._io_address if offset == 0 else self._device.read32(self._io_address)
        if self._decode and not offset & 3:
            if bar == 0 and offset < BAR0_BYTES:
                return self._device.read32(offset)
            if bar == 4 and offset < BAR4_BYTES:
                return self.msix.read32(offset)
        self._words[_UNSUPPORTED] += 1
        return ALL_ONES

    def mem_write(self, bar: int, offset: int, value: int) -> None:
        """A posted 32-bit write of a BAR."""
        if self._decode:
            if bar == 0 and offset < BAR0_BYTES:
                self._device.write32(offset, value)
                return
            if bar == 4 and offset < BAR4_BYTES:
                self.msix.write32(offset, value)
                return
        if bar == 2 and self._word(COMMAND) & _IO and offset in (0, 4) and not self._in_d3:
            if offset == 0:
                self._io_address = value
            else:
                self._device.write32(self._io_address, value)
            return
        self._words[_UNSUPPORTED] += 1

    @property
    def _device(self) -> Device:
        assert self.device is not None
        return self.device

    # -- INTx and MSI

    def line(self, level: bool) -> None:
        """The single interrupt request of a device that does not use MSI-X."""
        status = self._space[COMMAND + 2]
        self._space[COMMAND + 2] = status | 8 if level else status & ~8
        if not level or not self._word(MSI_CONTROL) & 1:
            return
        self._words[_RAISED] += 1
        if self._word(0x60) & 1:
            self._words[_CLEARED] += 1  # masked: the request itself stays visible in EICR
            return
        self._words[_OUT] += 1
        self._write(self._word(0x54, 4) | self._word(0x58, 4) << 32, self._word(0x5C))
