"""The 82599's own steps (ixgbe_82599.c): reset, AUTOC, the module's initialisation, link, laser.

Behaviours: ``ixgbe_reset`` (2.6.18's driver always resets the MAC alone; later ones reset the link
too when it is down), ``autoc_write`` (*plain*: AUTOC with AN_RESTART; *pipeline*: the data path is
reset by toggling the top bit of LMS and waiting for negotiation to leave its first state)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.delay import udelay
from nodes.cpu.kernel.drivers.ixgbe import common, eeprom, phy, regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.hw import EIO, EOPNOTSUPP, driver_prefix, flush, known, read_reg
from nodes.cpu.kernel.drivers.ixgbe.semaphore import acquire_swfw_sync, release_swfw_sync
from nodes.cpu.kernel.hrtimer import usleep_range
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import KERN_ERR, printk
from nodes.cpu.kernel.timer import msleep

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

_LMS_TOP_BIT = 4 << 13
#: ESDP as an SFP+ board's EEPROM sets it: SDP3 and SDP5 are outputs, a module is there.
_PINS = regs.ESDP_SDP2 | regs.ESDP_SDP3_DIR | 0x2000
_RESET_POLLS, _PIPELINE_POLLS = 10, 10


def reset_hw(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_reset_hw_82599: stop, identify, reset, restore; 0 or a negative errno."""
    error: int = yield from common.stop_adapter(cpu, adapter)
    if error and cpu.params.master_disable != "if-enabled":  # the oldest driver went on
        return error
    error = yield from phy.identify_phy(cpu, adapter)
    yield from mng_enabled(cpu, adapter)
    if error == -EOPNOTSUPP:
        return error
    if adapter.hw.sfp_setup_needed and not adapter.fast:
        error = yield from setup_sfp_modules(cpu, adapter)
        adapter.hw.sfp_setup_needed = False
        if error:
            return error
    yield from known(cpu, adapter, regs.AUTOC, 0)
    for _ in range(2 if adapter.hw.double_reset else 1):
        error = yield from _mac_reset(cpu, adapter)
        if error:
            return error
    yield from msleep(cpu, 50)
    yield from _restore_autoc(cpu, adapter)
    adapter.hw.perm_addr = yield from common.get_mac_addr(cpu, adapter)
    yield from common.init_rx_addrs(cpu, adapter)
    yield from eeprom.read_word(cpu, adapter, eeprom.SAN_MAC)
    yield from eeprom.read_word(cpu, adapter, eeprom.ALT_SAN_MAC)
    return 0


def _mac_reset(cpu: Cpu, adapter: Adapter) -> Context:
    """mac_reset_top: with the link up the MAC alone."""
    reset = regs.CTRL_RST
    if cpu.params.ixgbe_reset == "link-if-down":
        up, _ = yield from check_link(cpu, adapter)
        reset = regs.CTRL_RST if up else regs.CTRL_LNK_RST
    control = yield from known(cpu, adapter, regs.CTRL, regs.CTRL_GIO_DIS)
    adapter.write_reg(regs.CTRL, control | reset)
    yield from flush(cpu, adapter)
    if cpu.params.ixgbe_reset == "link-if-down":
        yield from usleep_range(cpu, 1000, 1200)
    for _ in range(_RESET_POLLS):
        control = yield from read_reg(cpu, adapter, regs.CTRL)
        if not control & regs.CTRL_RST_MASK:
            return 0
        yield from udelay(cpu, 1)
    printk(cpu, f"{driver_prefix(cpu, adapter)}: Reset polling failed to complete.", KERN_ERR)
    return -EIO


def _restore_autoc(cpu: Cpu, adapter: Adapter) -> Context:
    """The first reset shows what the EEPROM sets; later ones must end with the same."""
    hw = adapter.hw
    autoc = yield from known(cpu, adapter, regs.AUTOC, regs.AUTOC_LMS_10G_SERIAL)
    autoc2 = yield from known(cpu, adapter, regs.AUTOC2, 0x0002_0000)
    if autoc2 & regs.AUTOC2_LINK_DISABLE_MASK:
        autoc2 &= ~regs.AUTOC2_LINK_DISABLE_MASK
        adapter.write_reg(regs.AUTOC2, autoc2)
        yield from flush(cpu, adapter)
    if hw.orig_autoc is None:
        hw.orig_autoc, hw.orig_autoc2 = autoc, autoc2
        return
    if autoc != hw.orig_autoc:
        yield from prot_autoc_write(cpu, adapter, hw.orig_autoc)
    if (autoc2 ^ hw.orig_autoc2) & regs.AUTOC2_UPPER_MASK:
        upper = hw.orig_autoc2 & regs.AUTOC2_UPPER_MASK
        adapter.write_reg(regs.AUTOC2, autoc2 & ~regs.AUTOC2_UPPER_MASK | upper)


def mng_enabled(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_mng_enabled: firmware in pass-through mode wants the link kept."""
    fwsm = yield from known(cpu, adapter, regs.FWSM, regs.FWSM_FW_VALID)
    if fwsm & regs.FWSM_MODE_MASK != regs.FWSM_MODE_PT:
        return False
    manc = yield from read_reg(cpu, adapter, regs.MANC)
    factps = yield from read_reg(cpu, adapter, regs.FACTPS)
    return bool(manc & regs.MANC_RCV_TCO_EN) and not factps & regs.FACTPS_MNGCG


# ---------------------------------------------------------------- module and AUTOC


def setup_sfp_modules(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_setup_sfp_modules_82599: what the EEPROM lists for this module goes to CORECTL, then
    AUTOC selects SFI; 0 or a negative errno."""
    hw = adapter.hw
    if hw.sfp_type is phy.SfpType.UNKNOWN:
        return 0
    yield from mng_enabled(cpu, adapter)
    key = phy.init_key(hw.sfp_type, hw.lan_id)
    at: int = yield from eeprom.get_sfp_init_sequence_offsets(cpu, adapter, key)
    if at < 0:
        return at
    if (yield from acquire_swfw_sync(cpu, adapter, regs.GSSR_MAC_CSR_SM)):
        return -EIO
    while True:
        at += 1
        word = yield from eeprom.read_word(cpu, adapter, at)
        if word == eeprom.ABSENT or adapter.removed:
            break
        adapter.write_reg(regs.CORECTL, word)
        yield from flush(cpu, adapter)
    yield from release_swfw_sync(cpu, adapter, regs.GSSR_MAC_CSR_SM)
    yield from usleep_range(cpu, 10_000, 20_000)
    autoc = (hw.orig_autoc or 0) | regs.AUTOC_LMS_10G_SERIAL
    error: int = yield from prot_autoc_write(cpu, adapter, autoc)
    if error:
        printk(cpu, f"{driver_prefix(cpu, adapter)}: sfp module setup not complete", KERN_ERR)
    return error


def prot_autoc_write(cpu: Cpu, adapter: Adapter, autoc: int) -> Context:
    """prot_autoc_write_82599: AUTOC, unless management forbids it; 0 or a negative errno."""
    if cpu.params.autoc_write == "plain":
        adapter.write_reg(regs.AUTOC, autoc | regs.AUTOC_AN_RESTART)
        return 0
    veto = yield from known(cpu, adapter, regs.MMNGC, 0)
    if veto & regs.MMNGC_MNG_VETO:
        return 0
    locked = yield from eeprom.verify_lesm_fw_enabled(cpu, adapter)
    if locked and (yield from acquire_swfw_sync(cpu, adapter, regs.GSSR_MAC_CSR_SM)):
        return -EIO
    adapter.write_reg(regs.AUTOC, autoc)
    error: int = yield from reset_pipeline(cpu, adapter, autoc)
    if locked:
        yield from release_swfw_sync(cpu, adapter, regs.GSSR_MAC_CSR_SM)
    return error


def reset_pipeline(cpu: Cpu, adapter: Adapter, written: int) -> Context:
    """ixgbe_reset_pipeline_82599: restart negotiation with another LMS, then with the right one."""
    autoc2 = yield from known(cpu, adapter, regs.AUTOC2, 0x0002_0000)
    if autoc2 & regs.AUTOC2_LINK_DISABLE_MASK:
        adapter.write_reg(regs.AUTOC2, autoc2 & ~regs.AUTOC2_LINK_DISABLE_MASK)
        yield from flush(cpu, adapter)
    autoc = yield from known(cpu, adapter, regs.AUTOC, written)
    autoc |= regs.AUTOC_AN_RESTART
    adapter.write_reg(regs.AUTOC, autoc ^ _LMS_TOP_BIT)
    for _ in range(_PIPELINE_POLLS):
        yield from usleep_range(cpu, 4000, 8000)
        state = yield from read_reg(cpu, adapter, regs.ANLP1)
        if state & regs.ANLP1_AN_STATE_MASK:
            break
    else:
        return -EIO
    adapter.write_reg(regs.AUTOC, autoc)
    yield from flush(cpu, adapter)
    return 0


def setup_mac_link(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_setup_mac_link_82599: 10 Gb/s serial is what AUTOC says already, so nothing is
    written."""
    yield from known(cpu, adapter, regs.AUTOC2, 0)
    yield from known(cpu, adapter, regs.AUTOC, 0)


# ---------------------------------------------------------------- link and laser


def check_link(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_check_mac_link_generic: (is it up?, speed in Mb/s). LINKS is read twice: the first is
    history. An empty cage has no link, whatever the lanes hear."""
    if adapter.hw.need_crosstalk_fix:
        pins = yield from read_reg(cpu, adapter, regs.ESDP)
        if not pins & regs.ESDP_SDP2:
            return False, 0
    yield from read_reg(cpu, adapter, regs.LINKS)
    links = yield from read_reg(cpu, adapter, regs.LINKS)
    if adapter.removed:
        return False, 0
    speed = {3: 10_000, 2: 1_000, 1: 100}.get((links & regs.LINKS_SPEED) >> 28, 0)
    return bool(links & regs.LINKS_UP), speed


def disable_tx_laser(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_disable_tx_laser_multispeed_fiber: the partner loses its link."""
    pins = yield from known(cpu, adapter, regs.ESDP, _PINS)
    yield from known(cpu, adapter, regs.MMNGC, 0)
    adapter.write_reg(regs.ESDP, pins | regs.ESDP_SDP3_DIR | regs.ESDP_SDP3)
    yield from flush(cpu, adapter)


def enable_tx_laser(cpu: Cpu, adapter: Adapter) -> Context:
    pins = yield from known(cpu, adapter, regs.ESDP, _PINS)
    adapter.write_reg(regs.ESDP, (pins | regs.ESDP_SDP3_DIR) & ~regs.ESDP_SDP3)
    yield from flush(cpu, adapter)
