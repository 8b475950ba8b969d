"""Two pins of I2CCTL as an I2C bus (ixgbe_phy.c): bits, bytes, and one byte of a module.

Each write is flushed by a read, as in the real driver; that takes longer than the few microseconds
which the bus wants between two edges, so these are not waited for. Reading a byte with the
module's ACK missing clears the bus and tries again: twice for the first byte, ten times for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.hw import EIO, read_reg
from nodes.cpu.kernel.drivers.ixgbe.semaphore import acquire_swfw_sync, release_swfw_sync
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.timer import msleep

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

EEPROM_DEV_ADDR = 0xA0
IDENTIFIER = 0x0
RETRIES_IDENTIFIER, RETRIES, ACK_POLLS, CLOCK_STRETCHING_POLLS = 2, 10, 10, 500


class NoAckError(Exception):
    """Nobody pulled the data line low, or it does not follow."""


class _Bus:
    """The pins as the driver drives them; every change is flushed."""

    def __init__(self, cpu: Cpu, adapter: Adapter) -> None:
        self._cpu = cpu
        self._adapter = adapter
        self._i2cctl = 0

    def _read(self) -> Context:
        return (yield from read_reg(self._cpu, self._adapter, regs.I2CCTL))

    def _write(self) -> Context:
        self._adapter.write_reg(regs.I2CCTL, self._i2cctl)
        yield from read_reg(self._cpu, self._adapter, regs.STATUS)

    def take(self) -> Context:
        self._i2cctl = yield from self._read()

    def set_data(self, high: int) -> Context:
        """ixgbe_set_i2c_data: drive the line, and see that it follows when it is let go."""
        self._i2cctl &= ~regs.I2C_DATA_OUT
        self._i2cctl |= regs.I2C_DATA_OUT if high else 0
        yield from self._write()
        if high:
            value = yield from self._read()
            if not value & regs.I2C_DATA_IN:
                raise NoAckError

    def release_data(self) -> Context:
        """After a byte: whoever answers may pull."""
        yield from self.take()
        self._i2cctl |= regs.I2C_DATA_OUT
        yield from self._write()

    def raise_clk(self) -> Context:
        """The other side may hold the clock low."""
        for _ in range(CLOCK_STRETCHING_POLLS):
            self._i2cctl |= regs.I2C_CLK_OUT
            yield from self._write()
            value = yield from self._read()
            if value & regs.I2C_CLK_IN or self._adapter.removed:
                return

    def lower_clk(self) -> Context:
        self._i2cctl &= ~regs.I2C_CLK_OUT
        yield from self._write()

    def start(self) -> Context:
        """Data falls while the clock is high."""
        yield from self.take()
        yield from self.set_data(1)
        yield from self.raise_clk()
        yield from self.set_data(0)
        yield from self.lower_clk()

    def stop(self) -> Context:
        """Data rises while the clock is high."""
        yield from self.take()
        yield from self.set_data(0)
        yield from self.raise_clk()
        yield from self.set_data(1)

    def out_bit(self, bit: int) -> Context:
        yield from self.set_data(bit)
        yield from self.raise_clk()
        yield from self.lower_clk()

    def in_bit(self) -> Context:
        yield from self.raise_clk()
        value = yield from self._read()
        yield from self.lower_clk()
        return 1 if value & regs.I2C_DATA_IN else 0

    def out_byte(self, byte: int) -> Context:
        """Highest bit first, then the ACK."""
        for shift in range(7, -1, -1):
            yield from self.out_bit(byte >> shift & 1)
        yield from self.release_data()
        yield from self._get_ack()

    def in_byte(self) -> Context:
        byte = 0
        for _ in range(8):
            byte = byte << 1 | (yield from self.in_bit())
        return byte

    def _get_ack(self) -> Context:
        yield from self.raise_clk()
        for _ in range(ACK_POLLS):
            value = yield from self._read()
            if not value & regs.I2C_DATA_IN:
                yield from self.lower_clk()
                return
        yield from self.lower_clk()
        raise NoAckError

    def clear(self) -> Context:
        """ixgbe_i2c_bus_clear: nine clocks end whatever a chip was sending."""
        yield from self._quietly(self.start())
        yield from self.take()
        yield from self._quietly(self.set_data(1))
        for _ in range(9):
            yield from self.raise_clk()
            yield from self.lower_clk()
        yield from self._quietly(self.start())
        yield from self._quietly(self.stop())

    def _quietly(self, steps: Context) -> Context:
        try:
            yield from steps
        except NoAckError:
            return


def read_i2c_byte(cpu: Cpu, adapter: Adapter, offset: int, device: int) -> Context:
    """ixgbe_read_i2c_byte_generic: a byte of the module's chip ``device``, or a negative errno."""
    mask = regs.GSSR_PHY1_SM if adapter.hw.lan_id else regs.GSSR_PHY0_SM
    tries = RETRIES_IDENTIFIER if offset == IDENTIFIER else RETRIES
    bus = _Bus(cpu, adapter)
    for attempt in range(tries + 1):
        if adapter.removed or (yield from acquire_swfw_sync(cpu, adapter, mask)):
            return -EIO
        try:
            yield from bus.start()
            yield from bus.out_byte(device)
            yield from bus.out_byte(offset)
            yield from bus.start()
            yield from bus.out_byte(device | 1)
            byte: int = yield from bus.in_byte()
            yield from bus.out_bit(1)  # NACK: that was all
            yield from bus.stop()
            yield from release_swfw_sync(cpu, adapter, mask)
            return byte
        except NoAckError:
            yield from bus.clear()
            yield from release_swfw_sync(cpu, adapter, mask)
            if attempt < tries:
                yield from msleep(cpu, 100)
    return -EIO
