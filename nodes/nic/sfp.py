"""The SFP+ cage: the pin that says it is full, and a module's memory chips behind I2CCTL.

Source: SFF-8472 (chip A0h: identity; A2h: diagnostics), 82599 datasheet 8.2.3.1 (I2CCTL, ESDP). A
module is one of ``MODULES``: the bytes by which drivers tell modules apart, vendor, part and serial
number, both checksums. Optical modules have a chip A2h with thresholds and readings; their received
power follows the light.

The two pins are open drain: an input shows low when anybody pulls. An empty cage leaves data high,
so nothing is ever acknowledged.

Left out: module writes that would change its identity, alarm flags, soft rate select's effect.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.nic.i2c import CHIP_BYTES, Chip, I2cBus
from nodes.nic.regfile import RegisterFile

IDENTITY, DIAGNOSTICS = 0xA0, 0xA2
_CLK_OUT, _DATA_OUT = 1 << 1, 1 << 3
_RX_POWER = 104  # of chip A2h, in 0.1 uW


class Kind(NamedTuple):
    """What tells one module from another, by offset in chip A0h."""

    part: str
    connector: int  # 2
    compliance_10g: int  # 3
    compliance_1g: int  # 6
    cable: int  # 8: 4 passive, 8 active
    rate_100mbd: int  # 12
    lengths: bytes  # 14..19: single mode km, 100 m, 50 um, 62.5 um, copper m, OM3
    wavelength_nm: int  # 60, 61
    optical: bool


#: Kinds of modules by the name under which a driver's user knows them.
MODULES = {
    "da": Kind("BH-SFP-DA3M", 0x21, 0, 0, 0x04, 103, bytes((0, 0, 0, 0, 3, 0)), 0, False),
    "sr": Kind("BH-SFP-SR", 0x07, 0x10, 0, 0, 103, bytes((0, 0, 8, 3, 0, 30)), 850, True),
    "lr": Kind("BH-SFP-LR", 0x07, 0x20, 0, 0, 103, bytes((10, 100, 0, 0, 0, 0)), 1310, True),
}
VENDOR, OUI = "Bottomhalf", bytes.fromhex("001b21")


def identity(kind: Kind, serial: str) -> bytes:
    """Chip A0h of a module."""
    image = bytearray(CHIP_BYTES)
    image[0:3] = 0x03, 0x04, kind.connector  # SFP, known by serial number
    image[3], image[6], image[8] = kind.compliance_10g, kind.compliance_1g, kind.cable
    image[11] = 0x06 if kind.optical else 0x00  # 64B/66B
    image[12] = kind.rate_100mbd
    image[14:20] = kind.lengths
    image[20:36] = VENDOR.encode().ljust(16)
    image[37:40] = OUI
    image[40:56] = kind.part.encode().ljust(16)
    image[56:60] = b"1.0 "
    image[60:62] = kind.wavelength_nm.to_bytes(2, "big")
    image[63] = sum(image[:63]) & 0xFF
    image[64:66] = (0x00, 0x1A) if kind.optical else (0, 0)  # LOS, TX_FAULT, TX_DISABLE
    image[68:84] = serial.encode()[:16].ljust(16)
    image[84:92] = b"200101  "
    if kind.optical:
        image[92], image[94] = 0x68, 0x05  # diagnostics, calibrated inside; SFF-8472 rev 11
    image[95] = sum(image[64:95]) & 0xFF
    return bytes(image)


#: Readings of chip A2h and their limits: value, high alarm, low alarm, high and low warning, in
#: 1/256 degrees, 100 uV, 2 uA, 0.1 uW, 0.1 uW.
_READINGS = (
    (35 << 8, 75 << 8, 0, 70 << 8, 5 << 8),
    (33000, 36000, 30000, 35000, 31000),
    (3000, 6000, 500, 5500, 1000),
    (6000, 12000, 1500, 10000, 2000),
    (5000, 12000, 400, 10000, 600),
)


def diagnostics() -> bytes:
    """Chip A2h of an optical module: limits, constants of a module calibrated inside, readings."""
    image = bytearray(CHIP_BYTES)
    for i, (value, *limits) in enumerate(_READINGS):
        for k, limit in enumerate(limits):
            image[8 * i + 2 * k : 8 * i + 2 * k + 2] = limit.to_bytes(2, "big")
        image[96 + 2 * i : 98 + 2 * i] = value.to_bytes(2, "big")
    for slope in (76, 80, 84, 88):
        image[slope : slope + 2] = b"\x01\x00"
    image[95] = sum(image[:95]) & 0xFF
    return bytes(image)


class Cage:
    """A cage with a module in it, or without (``None``)."""

    def __init__(self, regs: RegisterFile, module: str | None, serial: str) -> None:
        self._regs = regs
        self._serial = serial
        self._chips: dict[int, Chip] = {}
        self.bus = I2cBus(self._chips)
        self.module: str | None = None
        self.fill(module)
        regs.attach("I2CCTL", read=self._read, after=self._after)

    def fill(self, module: str | None) -> None:
        """Put a module in, or take it out."""
        self.module = module
        self._chips.clear()
        self.bus.reset()
        if module is not None:
            kind = MODULES[module]
            self._chips[IDENTITY] = Chip(identity(kind, self._serial))
            if kind.optical:
                self._chips[DIAGNOSTICS] = Chip(diagnostics(), writable=True)

    def reset(self) -> None:
        """A reset of the port lets go of both pins."""
        self.bus.drive(True, True)

    def light(self, on: bool) -> None:
        """Received power, as the module measures it."""
        chip = self._chips.get(DIAGNOSTICS)
        if chip is not None:
            power = _READINGS[-1][0] if on else 0
            chip.image[_RX_POWER : _RX_POWER + 2] = power.to_bytes(2, "big")

    def _after(self, index: int, value: int) -> None:
        self.bus.drive(bool(value & _CLK_OUT), bool(value & _DATA_OUT))

    def _read(self, index: int) -> int:
        outputs = self._regs.get("I2CCTL") & (_CLK_OUT | _DATA_OUT)
        return outputs | (outputs & _CLK_OUT) >> 1 | self.bus.data << 2
