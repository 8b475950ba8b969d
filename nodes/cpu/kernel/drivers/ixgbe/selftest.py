"""``ethtool -t`` (ixgbe_ethtool.c: ixgbe_diag_test): registers, EEPROM, interrupt, loopback, link.

The offline tests close the port, reset it between two tests, and open it again. With MSI-X the
interrupt test does nothing, as in the real driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nodes.cpu.kernel.drivers.ixgbe import common, configure, eeprom, hw, mac82599, main, regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import BUFFER_BYTES, Adapter
from nodes.cpu.kernel.hrtimer import usleep_range
from nodes.cpu.kernel.percpu import ALL_ONES, Context
from nodes.cpu.kernel.timer import msleep

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAMES = (
    "Register test  (offline)", "Eeprom test    (offline)", "Interrupt test (offline)",
    "Loopback test  (offline)", "Link test   (on/offline)",
)  # fmt: skip
_REGISTERS, _EEPROM, _INTERRUPT, _LOOPBACK, _LINK = range(5)
_PATTERNS = (0x5A5A_5A5A, 0xA5A5_A5A5, 0x0000_0000, ALL_ONES)
_STATUS_TOGGLE = 0x7FFF_F30F
_PFCTOP = 0x03008
_LOOPBACK_ERROR, _NO_AUTOC = 13, 10
_FRAME_BYTES, _FRAMES, _AUTOC_FLU = 1024, 64, 0x1


class _Row(NamedTuple):
    """Registers from ``offset`` on: ``kind`` p patterns, s set and read, w write only."""

    offset: int
    elements: int
    step: int
    kind: str
    mask: int
    write: int


_TABLE = (
    _Row(regs.fcrtl(0), 1, 4, "p", 0x8007_FFF0, 0x8007_FFF0),
    _Row(regs.fcrth(0), 1, 4, "p", 0x8007_FFF0, 0x8007_FFF0),
    _Row(_PFCTOP, 1, 4, "p", ALL_ONES, ALL_ONES),
    _Row(regs.VLNCTRL, 1, 4, "p", 0, 0),
    _Row(regs.rx_queue(0), 4, 0x40, "p", 0xFFFF_FF80, 0xFFFF_FF80),
    _Row(regs.rx_queue(0) + 0x04, 4, 0x40, "p", ALL_ONES, ALL_ONES),
    _Row(regs.rx_queue(0) + 0x08, 4, 0x40, "p", 0x000F_FF80, 0x000F_FFFF),
    _Row(regs.rx_queue(0) + 0x28, 4, 0x40, "w", 0, regs.DCTL_ENABLE),
    _Row(regs.rx_queue(0) + 0x18, 4, 0x40, "p", 0xFFFF, 0xFFFF),
    _Row(regs.rx_queue(0) + 0x28, 4, 0x40, "w", 0, 0),
    _Row(regs.tx_queue(0), 4, 0x40, "p", 0xFFFF_FF80, ALL_ONES),
    _Row(regs.tx_queue(0) + 0x04, 4, 0x40, "p", ALL_ONES, ALL_ONES),
    _Row(regs.tx_queue(0) + 0x08, 4, 0x40, "p", 0x000F_FF80, 0x000F_FF80),
    _Row(regs.RXCTRL, 1, 4, "s", 1, 1),
    _Row(regs.ral(0), 16, 8, "p", ALL_ONES, ALL_ONES),
    _Row(regs.ral(0) + 4, 16, 8, "p", 0x8001_FFFF, 0x800C_FFFF),
    _Row(regs.mta(0), 128, 4, "p", ALL_ONES, ALL_ONES),
)


def self_test(cpu: Cpu, adapter: Adapter, offline: bool) -> Context:
    """Results in the order of ``NAMES``; 0 is passed."""
    data = [0] * len(NAMES)
    if not offline:
        data[_LINK] = yield from _link_test(cpu, adapter)
        yield from msleep(cpu, 4000)
        return data
    running = not adapter.down
    data[_LINK] = yield from _link_test(cpu, adapter)
    if running:
        yield from main.close(cpu, adapter)
    else:
        yield from main.reset(cpu, adapter)
    data[_REGISTERS] = yield from _reg_test(cpu, adapter)
    yield from main.reset(cpu, adapter)
    data[_EEPROM] = 1 if (yield from eeprom.validate_checksum(cpu, adapter)) else 0
    yield from main.reset(cpu, adapter)
    data[_INTERRUPT] = 0
    yield from main.reset(cpu, adapter)
    data[_LOOPBACK] = yield from _loopback_test(cpu, adapter)
    yield from main.reset(cpu, adapter)
    if running:
        yield from main.open_(cpu, adapter)
    else:
        yield from mac82599.disable_tx_laser(cpu, adapter)
    yield from msleep(cpu, 4000)
    return data


def _link_test(cpu: Cpu, adapter: Adapter) -> Context:
    up, _ = yield from mac82599.check_link(cpu, adapter)
    return 0 if up else 1


# ---------------------------------------------------------------- registers


def _reg_test(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_reg_test: 0, or the address of the register that failed."""
    before = yield from hw.read_reg(cpu, adapter, regs.STATUS)
    adapter.write_reg(regs.STATUS, _STATUS_TOGGLE)
    after = yield from hw.read_reg(cpu, adapter, regs.STATUS)
    if (before ^ after) & _STATUS_TOGGLE:
        return 1
    adapter.write_reg(regs.STATUS, before)
    for row in _TABLE:
        for index in range(row.elements):
            offset = row.offset + index * row.step
            if row.kind == "w":
                adapter.write_reg(offset, row.write)
                continue
            if not (yield from _try(cpu, adapter, row, offset)):
                return offset
    return 0


def _try(cpu: Cpu, adapter: Adapter, row: _Row, offset: int) -> Context:
    """reg_pattern_test: a pattern comes back as what ``mask`` leaves of it; reg_set_and_check:
    other bits than those of ``mask`` do not count."""
    for value in _PATTERNS if row.kind == "p" else (ALL_ONES,):
        before = yield from hw.read_reg(cpu, adapter, offset)
        adapter.write_reg(offset, value & row.write)
        got = yield from hw.read_reg(cpu, adapter, offset)
        adapter.write_reg(offset, before)
        if row.kind == "s":
            got &= row.mask
        if adapter.removed or got != value & row.write & row.mask:
            return False
    return True


# ---------------------------------------------------------------- loopback


def _loopback_test(cpu: Cpu, adapter: Adapter) -> Context:
    """Transmit comes back as receive: twice round the rings, 64 frames at a time."""
    ring = adapter.all_rings[0]
    ring.reset(cpu)
    if adapter.hw.orig_autoc is None:
        return _NO_AUTOC
    yield from _setup_desc_rings(cpu, adapter)
    value = yield from hw.read_reg(cpu, adapter, regs.HLREG0)
    adapter.write_reg(regs.HLREG0, value | regs.HLREG0_LPBK)
    value = yield from hw.read_reg(cpu, adapter, regs.FCTRL)
    adapter.write_reg(regs.FCTRL, value | regs.FCTRL_BAM | regs.FCTRL_SBP | regs.FCTRL_MPE)
    adapter.write_reg(regs.AUTOC, adapter.hw.orig_autoc | _AUTOC_FLU)
    yield from hw.flush(cpu, adapter)
    yield from usleep_range(cpu, 10_000, 20_000)
    result: int = yield from _run_loopback(cpu, adapter)
    value = yield from hw.read_reg(cpu, adapter, regs.HLREG0)
    adapter.write_reg(regs.HLREG0, value & ~regs.HLREG0_LPBK)
    adapter.write_reg(regs.AUTOC, adapter.hw.orig_autoc)
    ring.reset(cpu)
    return result


def _setup_desc_rings(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_setup_desc_rings: queue 0 alone, both ways."""
    ring = adapter.all_rings[0]
    value = yield from hw.read_reg(cpu, adapter, regs.DMATXCTL)
    adapter.write_reg(regs.DMATXCTL, value | regs.DMATXCTL_TE)
    yield from configure.configure_tx_ring(cpu, adapter, ring)
    yield from common.disable_rx(cpu, adapter)
    yield from configure.configure_rx_ring(cpu, adapter, ring)
    value = yield from hw.read_reg(cpu, adapter, regs.RXCTRL)
    adapter.write_reg(regs.RXCTRL, value | regs.RXCTRL_RXEN)


def _frame() -> bytes:
    """ixgbe_create_lbtest_frame: ones, then AAh, with two marks in the second half."""
    half = _FRAME_BYTES // 2
    frame = bytearray(b"\xff" * half + b"\xaa" * half)
    frame[half + 10], frame[half + 12] = 0xBE, 0xAF
    return bytes(frame)


def _run_loopback(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_run_loopback_test: 0, or the error of the real one."""
    ram, ring, frame = cpu.ram, adapter.all_rings[0], _frame()
    entry = clean = 0
    rounds = max(ring.rx_count, ring.tx_count) // _FRAMES * 2 + 2
    for _ in range(rounds):
        for _ in range(_FRAMES):
            entry = adapter.tx_map(cpu, frame, ring, entry)
            adapter.write_reg(regs.tx_queue(0) + 0x18, entry)
            yield
        yield from msleep(cpu, 200)
        good = 0
        while good < _FRAMES:
            at = (ring.rx_desc >> 2) + clean * 4
            if not ram.words32[at + 2] & regs.RXD_STAT_DD:
                break
            address = ring.rx_buffers + clean * BUFFER_BYTES
            if bytes(ram.bytes[address : address + len(frame)]) != frame:
                break
            ram.words64[at >> 1] = address
            ram.words64[(at >> 1) + 1] = 0
            clean = (clean + 1) % ring.rx_count
            good += 1
        adapter.write_reg(regs.rx_queue(0) + 0x18, (clean - 1) % ring.rx_count)
        if good != _FRAMES or adapter.removed:
            return _LOOPBACK_ERROR
    return 0
