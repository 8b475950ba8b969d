"""What all MACs of the family share (ixgbe_common.c): stop, addresses, filters, start, pause.

``hw.known`` reads are those of registers that a reset or the driver itself has just set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bus.messages import MemWrite
from nodes.cpu.kernel import pci
from nodes.cpu.kernel.delay import udelay
from nodes.cpu.kernel.drivers.ixgbe import eeprom, regs, stats
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.hw import EIO, flush, known, read_reg
from nodes.cpu.kernel.hrtimer import usleep_range
from nodes.cpu.kernel.percpu import ALL_ONES, Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

QUEUES = 128
PCI_MASTER_DISABLE_TIMEOUT = 800  # polls, 100 us apart
PCI_DEVICE_STATUS, TRANSACTION_PENDING = 0xAA, 0x20
#: Writes that are the same at each reset: all receive addresses but the first, filters, VLANs.
CLEAR_RX_ADDRS = [
    *(
        MemWrite(0, regs.ral(index) + half, 0)
        for index in range(1, regs.RAR_ENTRIES)
        for half in (0, 4)
    ),
    MemWrite(0, regs.MCSTCTRL, 0),
    *(MemWrite(0, regs.mta(index), 0) for index in range(128)),
    *(MemWrite(0, regs.pfuta(index), 0) for index in range(128)),
]
CLEAR_VFTA = [MemWrite(0, regs.vfta(index), 0) for index in range(128)]


def set_lan_id(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_set_lan_id_multi_port_pcie: which port of the chip this is."""
    status = yield from known(cpu, adapter, regs.STATUS, 0)
    adapter.hw.lan_id = (status & regs.STATUS_LAN_ID) >> regs.STATUS_LAN_ID_SHIFT
    factps = yield from known(cpu, adapter, regs.FACTPS, 0)
    if factps & regs.FACTPS_LFS:
        adapter.hw.lan_id ^= 1


# ---------------------------------------------------------------- stop


def disable_rx(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_disable_rx_generic."""
    control = yield from read_reg(cpu, adapter, regs.RXCTRL)
    if control & regs.RXCTRL_RXEN:
        switch = yield from known(cpu, adapter, regs.PFDTXGSWC, 0)
        if switch & 1:
            adapter.write_reg(regs.PFDTXGSWC, switch & ~1)
        adapter.write_reg(regs.RXCTRL, control & ~regs.RXCTRL_RXEN)


def stop_adapter(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_stop_adapter_generic: no receive, no interrupts, no queue, no bus master."""
    yield from disable_rx(cpu, adapter)
    adapter.write_reg(regs.EIMC, ALL_ONES)
    yield from known(cpu, adapter, regs.EICR, 0)
    for queue in range(QUEUES):
        adapter.write_reg(regs.tx_queue(queue) + 0x28, regs.DCTL_SWFLSH)
    for queue in range(QUEUES):
        register = regs.rx_queue(queue) + 0x28
        control = yield from known(cpu, adapter, register, 0)
        adapter.write_reg(register, control & ~regs.DCTL_ENABLE | regs.DCTL_SWFLSH)
    yield from flush(cpu, adapter)
    yield from usleep_range(cpu, 1000, 2000)
    return (yield from disable_pcie_master(cpu, adapter))


def disable_pcie_master(cpu: Cpu, adapter: Adapter) -> Context:
    """Block new requests and wait for those outstanding; 0 or a negative errno.

    Behaviour ``master_disable``: 2.6.18's driver did nothing if the master was not enabled, later
    ones always write the bit, the newest also see it before they go on."""
    how = cpu.params.master_disable
    if how == "if-enabled":
        status = yield from read_reg(cpu, adapter, regs.STATUS)
        if not status & regs.STATUS_GIO:
            return 0
        control = yield from known(cpu, adapter, regs.CTRL, 0)
        adapter.write_reg(regs.CTRL, control | regs.CTRL_GIO_DIS)
    else:
        adapter.write_reg(regs.CTRL, regs.CTRL_GIO_DIS)
    adapter.hw.double_reset = False
    if how == "with-readback":
        for _ in range(PCI_MASTER_DISABLE_TIMEOUT):
            control = yield from known(cpu, adapter, regs.CTRL, regs.CTRL_GIO_DIS)
            if control & regs.CTRL_GIO_DIS:
                break
            yield from usleep_range(cpu, 100, 120)
        else:
            adapter.hw.double_reset = True
    for _ in range(PCI_MASTER_DISABLE_TIMEOUT):
        status = yield from read_reg(cpu, adapter, regs.STATUS)
        if not status & regs.STATUS_GIO or adapter.removed:
            return 0
        yield from udelay(cpu, 100)
    adapter.hw.double_reset = True
    for _ in range(PCI_MASTER_DISABLE_TIMEOUT):
        yield from udelay(cpu, 100)
        state = yield from pci.read_config(cpu, adapter.nic, PCI_DEVICE_STATUS, 2)
        if not state & TRANSACTION_PENDING:
            return 0
    return -EIO


# ---------------------------------------------------------------- addresses and filters


def get_mac_addr(cpu: Cpu, adapter: Adapter) -> Context:
    """The station address in RAL/RAH 0, where a reset puts the EEPROM's."""
    high = yield from read_reg(cpu, adapter, regs.ral(0) + 4)
    low = yield from read_reg(cpu, adapter, regs.ral(0))
    return low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")


def set_rar(cpu: Cpu, adapter: Adapter, index: int, mac: bytes) -> Context:
    """An address that is received, for pool 0."""
    pools = yield from known(cpu, adapter, regs.mpsar(index), 0)
    adapter.write_reg(regs.mpsar(index), pools | 1)
    high = yield from known(cpu, adapter, regs.ral(index) + 4, 0)
    high &= ~(0xFFFF | regs.RAH_AV)
    adapter.write_reg(regs.ral(index), int.from_bytes(mac[:4], "little"))
    yield from flush(cpu, adapter)
    high |= int.from_bytes(mac[4:], "little") | regs.RAH_AV
    adapter.write_reg(regs.ral(index) + 4, high)


def clear_rar(cpu: Cpu, adapter: Adapter, index: int) -> Context:
    high = yield from known(cpu, adapter, regs.ral(index) + 4, 0)
    adapter.write_reg(regs.ral(index) + 4, high & ~(0xFFFF | regs.RAH_AV))
    yield from flush(cpu, adapter)
    adapter.write_reg(regs.ral(index), 0)
    yield from clear_vmdq(cpu, adapter, index)


def clear_vmdq(cpu: Cpu, adapter: Adapter, index: int, pools: int = 0) -> Context:
    """No pool has this address; ``pools`` are those the driver gave it to."""
    low = yield from known(cpu, adapter, regs.mpsar(index), pools)
    high = yield from known(cpu, adapter, regs.mpsar(index) + 4, 0)
    if low:
        adapter.write_reg(regs.mpsar(index), 0)
    if high:
        adapter.write_reg(regs.mpsar(index) + 4, 0)


def init_rx_addrs(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_init_rx_addrs_generic: the one address, and nothing else is received."""
    given = bool(adapter.hw.addr)
    if given:
        yield from set_rar(cpu, adapter, 0, adapter.hw.addr)
    else:
        adapter.hw.addr = yield from get_mac_addr(cpu, adapter)
    yield from clear_vmdq(cpu, adapter, 0, pools=1 if given else 0)
    adapter.write_table(CLEAR_RX_ADDRS)


def clear_vfta(adapter: Adapter) -> None:
    adapter.write_table(CLEAR_VFTA)
    for index in range(64):
        adapter.write_reg(regs.vlvf(index), 0)
        adapter.write_reg(regs.vlvfb(2 * index), 0)
        adapter.write_reg(regs.vlvfb(2 * index + 1), 0)


# ---------------------------------------------------------------- start


def start_hw(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_start_hw_82599: tables, counters, flow control, rate limiters. Errors are not fatal."""
    clear_vfta(adapter)
    yield from stats.clear_hw_cntrs(cpu, adapter)
    control = yield from known(cpu, adapter, regs.CTRL_EXT, 0)
    adapter.write_reg(regs.CTRL_EXT, control | regs.CTRL_EXT_NS_DIS)
    yield from flush(cpu, adapter)
    yield from setup_fc(cpu, adapter)
    if cpu.params.ixgbe_health_checks == "on":  # a port without a module must not see a link
        caps = yield from eeprom.read_word(cpu, adapter, eeprom.DEVICE_CAPS)
        adapter.hw.need_crosstalk_fix = not caps & eeprom.CAPS_NO_CROSSTALK_WR
    for queue in range(QUEUES):
        adapter.write_reg(regs.RTTDQSEL, queue)
        adapter.write_reg(regs.RTTBCNRC, 0)
    yield from flush(cpu, adapter)
    adapter.hw.fw_version = yield from eeprom.fw_version(cpu, adapter)


def setup_fc(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_setup_fc_generic: both kinds of pause are offered, for a partner at 1 Gb/s."""
    advertised = yield from known(cpu, adapter, regs.PCS1GANA, 0)
    adapter.write_reg(regs.PCS1GANA, advertised | 0x180)
    control = yield from known(cpu, adapter, regs.PCS1GLCTL, 0)
    adapter.write_reg(regs.PCS1GLCTL, control & ~0x40000)


def fc_enable(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_fc_enable_generic: pause frames both ways, with the watermarks of the packet buffer."""
    mflcn = yield from known(cpu, adapter, regs.MFLCN, 0)
    fccfg = yield from known(cpu, adapter, regs.FCCFG, 0)
    adapter.write_reg(regs.MFLCN, mflcn & ~0xFFC | regs.MFLCN_DPF | regs.MFLCN_RFCE)
    adapter.write_reg(regs.FCCFG, fccfg & ~0x18 | regs.FCCFG_TFCE_802_3X)
    low, high = water_marks(adapter.netdev.mtu)
    adapter.write_reg(regs.fcrtl(0), low << 10 | regs.FCRTL_XONE)
    adapter.write_reg(regs.fcrth(0), high << 10 | regs.FCRTH_FCEN)
    for index in range(1, 8):
        adapter.write_reg(regs.fcrtl(index), 0)
        size = yield from known(cpu, adapter, regs.rxpbsize(index), 0)
        adapter.write_reg(regs.fcrth(index), size - 24576 & ALL_ONES)
    for index in range(4):
        adapter.write_reg(regs.fcttv(index), ALL_ONES)
    adapter.write_reg(regs.FCRTV, 0x7FFF)


def water_marks(mtu: int) -> tuple[int, int]:
    """(low, high) in KB of the 512 KB buffer: ixgbe_lpbthresh and ixgbe_hpbthresh.

    In bits: what may still arrive after XOFF was asked for (a frame under way in each direction,
    the pause frame, cables, MAC and PHY, the partner's response), and what the host must take
    before XON."""
    frame = (mtu + 14 + 4) * 8
    on_wire = frame + 20 * 8
    after_xoff = 36 * (on_wire + 672 + 2 * 5556 + 2 * 18944 + 6144) // 25 + 1 + 2 * on_wire
    before_xon = 2 * (2 * frame + 36 * 10000 // 25 + 1)
    return (before_xon + 8191) // 8192, 512 - (after_xoff + 8191) // 8192
