"""Longer moves of a driver on registers: I2C by two pins, the semaphores, EEPROM words."""

from __future__ import annotations

from nodes.nic.registers import KEYS
from tests.nodes.nic.rig import Rig

_I2CCTL, _SWSM, _GSSR, _EERD = (KEYS[n][0] for n in ("I2CCTL", "SWSM", "GSSR", "EERD"))
_CLK_IN, _CLK_OUT, _DATA_IN, _DATA_OUT = 1, 2, 4, 8
EERD_POLLS_MAX = 100


class NoAckError(Exception):
    """Data stayed high in the ninth clock."""


class I2cHands:
    """The host of an I2C bus whose two lines are bits of a register."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.accesses = 0

    def _in(self) -> int:
        self.accesses += 1
        return self._rig.read_at(_I2CCTL)

    def _set(self, bit: int, level: int) -> None:
        value = self._in() & ~bit
        self.accesses += 1
        self._rig.write_at(_I2CCTL, value | (bit if level else 0))

    def clock(self, level: int) -> None:
        self._set(_CLK_OUT, level)
        assert bool(self._in() & _CLK_IN) == bool(level), "the clock does not follow"

    def data(self, level: int) -> None:
        self._set(_DATA_OUT, level)

    def start(self) -> None:
        self.data(1)
        self.clock(1)
        self.data(0)
        self.clock(0)

    def stop(self) -> None:
        self.data(0)
        self.clock(1)
        self.data(1)

    def _bit_in(self) -> int:
        self.clock(1)
        bit = self._in() >> 2 & 1
        self.clock(0)
        return bit

    def _bit_out(self, bit: int) -> None:
        self.data(bit)
        self.clock(1)
        self.clock(0)

    def send(self, byte: int) -> None:
        for i in range(7, -1, -1):
            self._bit_out(byte >> i & 1)
        self.data(1)
        if self._bit_in():
            self.stop()
            raise NoAckError(f"{byte:02x}")

    def receive(self, acknowledge: bool) -> int:
        self.data(1)
        byte = 0
        for _ in range(8):
            byte = byte << 1 | self._bit_in()
        self._bit_out(0 if acknowledge else 1)
        return byte

    def read(self, chip: int, offset: int, count: int = 1) -> bytes:
        """Random read, then on from there."""
        self.start()
        self.send(chip)
        self.send(offset)
        self.start()
        self.send(chip | 1)
        data = bytes(self.receive(i + 1 < count) for i in range(count))
        self.stop()
        return data

    def write(self, chip: int, offset: int, data: bytes) -> None:
        self.start()
        for byte in (chip, offset, *data):
            self.send(byte)
        self.stop()


def take(rig: Rig, bits: int) -> bool:
    """One try to own resources of GSSR, as a driver does; False if somebody has them."""
    while rig.read_at(_SWSM) & 1:
        pass
    rig.write_at(_SWSM, rig.read_at(_SWSM) | 2)
    if not rig.read_at(_SWSM) & 2:
        rig.write_at(_SWSM, 0)
        return False
    owners = rig.read_at(_GSSR)
    free = not owners & (bits | bits << 5)
    if free:
        rig.write_at(_GSSR, owners | bits)
    rig.write_at(_SWSM, rig.read_at(_SWSM) & ~3)
    return free


def give(rig: Rig, bits: int) -> None:
    """Let go of resources of GSSR."""
    rig.read_at(_SWSM)
    rig.write_at(_SWSM, rig.read_at(_SWSM) | 2)
    rig.write_at(_GSSR, rig.read_at(_GSSR) & ~bits)
    rig.write_at(_SWSM, 0)


def eeprom_word(rig: Rig, word: int) -> int:
    """Write EERD, poll DONE."""
    rig.write_at(_EERD, word << 2 | 1)
    for _ in range(EERD_POLLS_MAX):
        value = rig.read_at(_EERD)
        if value & 2:
            assert value >> 2 & 0x3FFF == word
            return value >> 16
        rig.advance(1000)
    raise AssertionError("EERD never got DONE")
