"""What is behind the MAC (ixgbe_phy.c): an MDIO PHY, or a module in the SFP+ cage.

A cage is empty when nobody acknowledges address A0h; that is no error. ``CACHED`` are the bytes of
the module that an earlier probe has found: with ``fast_probe`` it is taken to be there still."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from nodes.cpu.kernel.delay import udelay
from nodes.cpu.kernel.drivers.ixgbe import eeprom, regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.common import set_lan_id
from nodes.cpu.kernel.drivers.ixgbe.hw import ENOENT, EOPNOTSUPP, read_reg
from nodes.cpu.kernel.drivers.ixgbe.i2c import EEPROM_DEV_ADDR, read_i2c_byte
from nodes.cpu.kernel.drivers.ixgbe.semaphore import acquire_swfw_sync, release_swfw_sync
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

MDIO_PHYS, MDIO_DEVICES, MDIO_STAT2 = 32, 5, 8
MDIO_DEVPRST, MDIO_DEVPRST_MASK = 0x8000, 0xC000
MDIO_POLLS, MDIO_POLL_US = 100, 10

# offsets in the module's chip A0h
SFF_IDENTIFIER, SFF_10GBE_COMP, SFF_1GBE_COMP, SFF_CABLE_TECHNOLOGY = 0x0, 0x3, 0x6, 0x8
SFF_VENDOR_OUI, SFF_CABLE_SPEC_COMP = 0x25, 0x3C
IDENTIFIER_SFP, DA_PASSIVE, DA_ACTIVE, DA_ACTIVE_LIMITING = 0x3, 0x4, 0x8, 0x4
SR_LR, BASESX, BASELX, BASET = 0x30, 0x1, 0x2, 0x8
OUI_TYCO, OUI_FTL, OUI_AVAGO, OUI_INTEL = 0x004076, 0x009065, 0x00176A, 0x001B21
CACHED = {0x00: 0x03, 0x03: 0x00, 0x06: 0x00, 0x08: 0x04, 0x25: 0x00, 0x26: 0x1B, 0x27: 0x21}


class SfpType(Enum):
    """enum ixgbe_sfp_type: the key of the EEPROM's list for port 0; port 1 has the next number."""

    DA_CU = 3
    SRLR = 5
    DA_ACT_LMT = 7
    CU_1G = 9
    SX_1G = 11
    LX_1G = 13
    NOT_PRESENT = 0xFFFE
    UNKNOWN = 0xFFFF


class PhyType(Enum):
    """enum ixgbe_phy_type, its run of SFP+ modules, counted from the passive cable of an unknown
    vendor: what is before it grew over the years (``phy_sfp_passive``)."""

    SFP_PASSIVE_TYCO = -1
    SFP_PASSIVE_UNKNOWN = 0
    SFP_ACTIVE_UNKNOWN = 1
    SFP_AVAGO = 2
    SFP_FTL = 3
    SFP_FTL_ACTIVE = 4
    SFP_UNKNOWN = 5
    SFP_INTEL = 6


_1G = (SfpType.CU_1G, SfpType.SX_1G, SfpType.LX_1G)
#: Optics of 1 Gb/s and active cables are initialised as SR/LR are.
_INIT_AS_SRLR = (SfpType.DA_ACT_LMT, *_1G)


def init_key(sfp_type: SfpType, lan_id: int) -> int:
    """The number under which the EEPROM lists what to write for this module."""
    kind = SfpType.SRLR if sfp_type in _INIT_AS_SRLR else sfp_type
    return kind.value + lan_id


# ---------------------------------------------------------------- MDIO


def _mdio_command(cpu: Cpu, adapter: Adapter, command: int) -> Context:
    adapter.write_reg(regs.MSCA, command | regs.MSCA_MDI_COMMAND)
    for _ in range(MDIO_POLLS):
        yield from udelay(cpu, MDIO_POLL_US)
        value = yield from read_reg(cpu, adapter, regs.MSCA)
        if not value & regs.MSCA_MDI_COMMAND:
            return


def read_phy_reg(cpu: Cpu, adapter: Adapter, phy: int, device: int, register: int) -> Context:
    """ixgbe_read_phy_reg_generic: an address cycle and a read cycle, with the PHY's semaphore."""
    mask = regs.GSSR_PHY1_SM if adapter.hw.lan_id else regs.GSSR_PHY0_SM
    if (yield from acquire_swfw_sync(cpu, adapter, mask)):
        return 0
    command = register | device << 16 | phy << 21
    yield from _mdio_command(cpu, adapter, command)
    yield from _mdio_command(cpu, adapter, command | regs.MSCA_READ)
    value = yield from read_reg(cpu, adapter, regs.MSRWD)
    yield from release_swfw_sync(cpu, adapter, mask)
    return value >> 16


def identify_phy_generic(cpu: Cpu, adapter: Adapter) -> Context:
    """Is there an MDIO PHY? All 32 addresses are asked; this board has none."""
    if adapter.fast:
        return False
    for phy in range(MDIO_PHYS):
        for device in range(1, MDIO_DEVICES + 1):
            value = yield from read_phy_reg(cpu, adapter, phy, device, MDIO_STAT2)
            if value & MDIO_DEVPRST_MASK == MDIO_DEVPRST:
                return True
            if adapter.removed:
                return False
    return False


# ---------------------------------------------------------------- SFP+


def read_i2c_eeprom(cpu: Cpu, adapter: Adapter, offset: int) -> Context:
    """A byte of the module, or a negative errno."""
    if adapter.fast and offset in CACHED:
        return CACHED[offset]
    return (yield from read_i2c_byte(cpu, adapter, offset, EEPROM_DEV_ADDR))


def identify_phy(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_identify_phy_82599, when nothing is known yet; 0 or a negative errno."""
    hw = adapter.hw
    if hw.sfp_type not in (SfpType.UNKNOWN, SfpType.NOT_PRESENT):
        return 0
    if not hw.mdio_scanned:
        hw.mdio_scanned = True
        yield from identify_phy_generic(cpu, adapter)
    return (yield from identify_sfp_module(cpu, adapter))


def identify_sfp_module(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_identify_sfp_module_generic: 0, -ENOENT (the cage is empty) or -EOPNOTSUPP."""
    hw = adapter.hw
    yield from set_lan_id(cpu, adapter)
    stored = hw.sfp_type
    found: dict[int, int] = {}
    for offset in (SFF_IDENTIFIER, SFF_1GBE_COMP, SFF_10GBE_COMP, SFF_CABLE_TECHNOLOGY):
        byte = yield from read_i2c_eeprom(cpu, adapter, offset)
        if byte < 0:
            return _not_present(adapter)
        found[offset] = byte
        if found[SFF_IDENTIFIER] != IDENTIFIER_SFP:
            hw.sfp_type = SfpType.UNKNOWN
            return -EOPNOTSUPP
    cable = found[SFF_CABLE_TECHNOLOGY]
    limiting = 0
    if cable & DA_ACTIVE and not cable & DA_PASSIVE:
        limiting = yield from read_i2c_eeprom(cpu, adapter, SFF_CABLE_SPEC_COMP)
    hw.sfp_type = _sfp_type(cable, found[SFF_10GBE_COMP], found[SFF_1GBE_COMP], limiting)
    if hw.sfp_type is not stored:
        hw.sfp_setup_needed = True
    oui = 0
    for offset in range(SFF_VENDOR_OUI, SFF_VENDOR_OUI + 3):
        byte = yield from read_i2c_eeprom(cpu, adapter, offset)
        if byte < 0:
            return _not_present(adapter)
        oui = oui << 8 | byte
    hw.phy_type = _phy_type(cable, oui, hw.phy_type)
    if cable & (DA_PASSIVE | DA_ACTIVE) or hw.sfp_type in _1G:
        return 0
    caps = yield from eeprom.read_word(cpu, adapter, eeprom.DEVICE_CAPS)
    if caps & eeprom.CAPS_ALLOW_ANY_SFP or oui == OUI_INTEL:
        return 0
    hw.sfp_type = SfpType.UNKNOWN
    return -EOPNOTSUPP


def _not_present(adapter: Adapter) -> int:
    adapter.hw.sfp_type = SfpType.NOT_PRESENT
    return -ENOENT


def _phy_type(cable: int, oui: int, before: PhyType) -> PhyType:
    """The vendor tells the type first; only for one that nobody knows does the cable."""
    if oui == OUI_TYCO:
        return PhyType.SFP_PASSIVE_TYCO if cable & DA_PASSIVE else before
    if oui == OUI_FTL:
        return PhyType.SFP_FTL_ACTIVE if cable & DA_ACTIVE else PhyType.SFP_FTL
    if oui in (OUI_AVAGO, OUI_INTEL):
        return PhyType.SFP_AVAGO if oui == OUI_AVAGO else PhyType.SFP_INTEL
    if cable & DA_PASSIVE:
        return PhyType.SFP_PASSIVE_UNKNOWN
    return PhyType.SFP_ACTIVE_UNKNOWN if cable & DA_ACTIVE else PhyType.SFP_UNKNOWN


def _sfp_type(cable: int, comp_10g: int, comp_1g: int, limiting: int) -> SfpType:
    if cable & DA_PASSIVE:
        return SfpType.DA_CU
    if cable & DA_ACTIVE:
        return SfpType.DA_ACT_LMT if limiting & DA_ACTIVE_LIMITING else SfpType.UNKNOWN
    if comp_10g & SR_LR:
        return SfpType.SRLR
    for bit, kind in ((BASET, SfpType.CU_1G), (BASESX, SfpType.SX_1G), (BASELX, SfpType.LX_1G)):
        if comp_1g & bit:
            return kind
    return SfpType.UNKNOWN
