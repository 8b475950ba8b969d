"""Who may use the EEPROM, the PHY, the MAC's shared registers (ixgbe_common.c: SWSM and GSSR).

SWSM guards GSSR, in which software and firmware each have a bit for a resource. With ``fast_probe``
nobody else is taken to be there, and nothing is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.hw import EBUSY, flush, read_reg
from nodes.cpu.kernel.hrtimer import usleep_range
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.timer import msleep

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

SEMAPHORE_TRIES, SWFW_TRIES = 2000, 200
FIRMWARE_SHIFT = 5


def get_eeprom_semaphore(cpu: Cpu, adapter: Adapter) -> Context:
    """SMBI against other drivers, SWESMBI against the firmware; 0 or a negative errno."""
    for _ in range(SEMAPHORE_TRIES):
        swsm = yield from read_reg(cpu, adapter, regs.SWSM)
        if not swsm & regs.SWSM_SMBI or adapter.removed:
            break
        yield from usleep_range(cpu, 50, 100)
    else:  # a driver that died held it
        yield from release_eeprom_semaphore(cpu, adapter)
        yield from usleep_range(cpu, 50, 100)
        swsm = yield from read_reg(cpu, adapter, regs.SWSM)
        if swsm & regs.SWSM_SMBI:
            return -EBUSY
    for _ in range(SEMAPHORE_TRIES):
        swsm = yield from read_reg(cpu, adapter, regs.SWSM)
        adapter.write_reg(regs.SWSM, swsm | regs.SWSM_SWESMBI)
        swsm = yield from read_reg(cpu, adapter, regs.SWSM)
        if swsm & regs.SWSM_SWESMBI:
            return 0
        yield from usleep_range(cpu, 50, 100)
    yield from release_eeprom_semaphore(cpu, adapter)
    return -EBUSY


def release_eeprom_semaphore(cpu: Cpu, adapter: Adapter) -> Context:
    swsm = yield from read_reg(cpu, adapter, regs.SWSM)
    adapter.write_reg(regs.SWSM, swsm & ~(regs.SWSM_SWESMBI | regs.SWSM_SMBI))
    yield from flush(cpu, adapter)


def acquire_swfw_sync(cpu: Cpu, adapter: Adapter, mask: int) -> Context:
    """Own a resource of GSSR; 0 or a negative errno."""
    if adapter.fast:
        return 0
    both = mask | mask << FIRMWARE_SHIFT
    for _ in range(SWFW_TRIES):
        error: int = yield from get_eeprom_semaphore(cpu, adapter)
        if error:
            return error
        gssr = yield from read_reg(cpu, adapter, regs.GSSR)
        if not gssr & both:
            adapter.write_reg(regs.GSSR, gssr | mask)
            yield from release_eeprom_semaphore(cpu, adapter)
            return 0
        yield from release_eeprom_semaphore(cpu, adapter)
        yield from msleep(cpu, 5)
    yield from release_swfw_sync(cpu, adapter, gssr & both)  # so that the next one gets it
    return -EBUSY


def release_swfw_sync(cpu: Cpu, adapter: Adapter, mask: int) -> Context:
    if adapter.fast:
        return
    yield from get_eeprom_semaphore(cpu, adapter)
    gssr = yield from read_reg(cpu, adapter, regs.GSSR)
    adapter.write_reg(regs.GSSR, gssr & ~mask)
    yield from release_eeprom_semaphore(cpu, adapter)
