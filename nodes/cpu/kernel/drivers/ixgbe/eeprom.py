"""The EEPROM through EERD (ixgbe_common.c): words, checksum, versions, and the lists in it.

``CACHED`` is what an earlier probe of such a card has read: with ``fast_probe`` the driver takes
these words for granted, and the checksum with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.delay import udelay
from nodes.cpu.kernel.drivers.ixgbe import regs
from nodes.cpu.kernel.drivers.ixgbe.adapter import Adapter
from nodes.cpu.kernel.drivers.ixgbe.hw import EIO, EOPNOTSUPP, known, read_reg
from nodes.cpu.kernel.percpu import Context

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

CHECKSUM, CHECKSUM_WORD, ABSENT = 0xBABA, 0x3F, 0xFFFF
FIRST_SECTION, FW_PTR = 0x03, 0x0F
PBANUM0, PBANUM1, PBANUM_STRING = 0x15, 0x16, 0xFAFA
OROM, OEM_VERSION, ETS_CFG, ALT_SAN_MAC, SAN_MAC, PHY_INIT = 0x17, 0x1B, 0x26, 0x27, 0x28, 0x2B
DEVICE_CAPS, ETRACK_LOW, ETRACK_HIGH, VERSION_29 = 0x2C, 0x2D, 0x2E, 0x29
CAPS_ALLOW_ANY_SFP, CAPS_NO_CROSSTALK_WR = 0x1, 0x80
EERD_POLLS, EERD_POLL_US = 100_000, 5
#: Firmware module: word 2 points to the LESM block, word 4 to the patches; their word 7 is a
#: version.
FW_LESM_PARAMETERS, FW_PATCHES, FW_PATCH_VERSION = 0x2, 0x4, 0x7
LESM_STATE_1, LESM_ENABLED = 0x1, 0x8000

CACHED = {
    OROM: 0x0000, OEM_VERSION: 0x0000, ETS_CFG: 0x0000, ALT_SAN_MAC: ABSENT, SAN_MAC: ABSENT,
    DEVICE_CAPS: CAPS_ALLOW_ANY_SFP, ETRACK_LOW: 0x8000, ETRACK_HIGH: 0x1234, VERSION_29: 0x8001,
    PHY_INIT: 0x100, 0x101: 3, 0x102: 0x140, 0x141: 0x1100, 0x142: ABSENT,
    PBANUM0: PBANUM_STRING, PBANUM1: 0x50,
    0x50: 6, 0x51: 0x4248, 0x52: 0x3832, 0x53: 0x3539, 0x54: 0x2D30, 0x55: 0x3031,
    FW_PTR: 0x180, 0x182: ABSENT, 0x184: 0x1A0, 0x1A7: 6,
}  # fmt: skip


def read_eerd(cpu: Cpu, adapter: Adapter, word: int) -> Context:
    """ixgbe_read_eerd: one word; None when DONE never comes."""
    adapter.write_reg(regs.EERD, word << 2 | regs.EERD_START)
    for _ in range(EERD_POLLS):
        value = yield from read_reg(cpu, adapter, regs.EERD)
        if adapter.removed:
            return None
        if value & regs.EERD_DONE:
            return value >> 16
        yield from udelay(cpu, EERD_POLL_US)
    return None


def read_word(cpu: Cpu, adapter: Adapter, word: int) -> Context:
    """hw->eeprom.ops.read; a word that cannot be read counts as absent."""
    if adapter.fast and word in CACHED:
        return CACHED[word]
    value = yield from read_eerd(cpu, adapter, word)
    return ABSENT if value is None else value


def init_eeprom_params(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_init_eeprom_params_generic: how many words there are."""
    eec = yield from known(cpu, adapter, regs.EEC, regs.EEC_PRES | 8 << regs.EEC_SIZE_SHIFT)
    if eec & regs.EEC_PRES:
        adapter.hw.eeprom_words = 1 << ((eec & regs.EEC_SIZE) >> regs.EEC_SIZE_SHIFT) + 6


def calc_checksum(cpu: Cpu, adapter: Adapter) -> Context:
    """Words 0..3Eh and the sections that words 3..Eh point to; None if a word cannot be read."""
    total = 0
    for word in range(CHECKSUM_WORD):
        value = yield from read_eerd(cpu, adapter, word)
        if value is None:
            return None
        total += value
    for at in range(FIRST_SECTION, FW_PTR):
        pointer = yield from read_eerd(cpu, adapter, at)
        if pointer in (None, 0, ABSENT):
            continue
        length = yield from read_eerd(cpu, adapter, pointer)
        if length in (None, 0, ABSENT):
            continue
        for word in range(pointer + 1, pointer + 1 + length):
            total += (yield from read_eerd(cpu, adapter, word)) or 0
    return CHECKSUM - total & 0xFFFF


def validate_checksum(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_validate_eeprom_checksum_generic; 0 or a negative errno."""
    if (yield from read_eerd(cpu, adapter, 0)) is None:  # else it would wait for each word
        return -EIO
    wanted = yield from calc_checksum(cpu, adapter)
    stored = yield from read_eerd(cpu, adapter, CHECKSUM_WORD)
    return 0 if wanted is not None and wanted == stored else -EIO


def get_sfp_init_sequence_offsets(cpu: Cpu, adapter: Adapter, sfp_type: int) -> Context:
    """Address of the words for this type of module, or a negative errno."""
    at = yield from read_word(cpu, adapter, PHY_INIT)
    if at in (0, ABSENT):
        return -EIO  # SFP_NO_INIT_SEQ_PRESENT
    while True:
        at += 1
        entry = yield from read_word(cpu, adapter, at)
        if entry == ABSENT:
            return -EOPNOTSUPP
        at += 1
        data = yield from read_word(cpu, adapter, at)
        if adapter.removed:
            return -EIO
        if entry == sfp_type:
            return -EOPNOTSUPP if data in (0, ABSENT) else data


def verify_lesm_fw_enabled(cpu: Cpu, adapter: Adapter) -> Context:
    """Does the firmware's link-establishment machine run, so that AUTOC needs a lock?"""
    firmware = yield from read_word(cpu, adapter, FW_PTR)
    if firmware in (0, ABSENT):
        return False
    block = yield from read_word(cpu, adapter, firmware + FW_LESM_PARAMETERS)
    if block in (0, ABSENT):
        return False
    state = yield from read_word(cpu, adapter, block + LESM_STATE_1)
    return state != ABSENT and bool(state & LESM_ENABLED)


def fw_version(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_verify_fw_version_82599; None: there is none."""
    firmware = yield from read_word(cpu, adapter, FW_PTR)
    if firmware in (0, ABSENT):
        return None
    patches = yield from read_word(cpu, adapter, firmware + FW_PATCHES)
    if patches in (0, ABSENT):
        return None
    return (yield from read_word(cpu, adapter, patches + FW_PATCH_VERSION))


def read_nvm_version(cpu: Cpu, adapter: Adapter) -> Context:
    """What ``ethtool -i`` calls firmware-version: the EtrackId, or word 29h in old drivers."""
    if cpu.params.nvm_version == "word-29":
        value = yield from read_word(cpu, adapter, VERSION_29)
        adapter.hw.firmware = f"{value >> 12 & 0xF}.{value >> 4 & 0xFF}-{value & 0xF}"
        return
    yield from read_word(cpu, adapter, OEM_VERSION)
    low = yield from read_word(cpu, adapter, ETRACK_LOW)
    high = yield from read_word(cpu, adapter, ETRACK_HIGH)
    yield from read_word(cpu, adapter, OROM)
    adapter.hw.firmware = f"0x{high << 16 | low:08x}"


def read_pba(cpu: Cpu, adapter: Adapter) -> Context:
    """ixgbe_read_pba_string_generic: the board's part number."""
    first = yield from read_word(cpu, adapter, PBANUM0)
    second = yield from read_word(cpu, adapter, PBANUM1)
    if first != PBANUM_STRING:
        return f"{first:04X}{second >> 8:02X}-0{second & 0xFF:02X}"
    length = yield from read_word(cpu, adapter, second)
    text = bytearray()
    for word in range(second + 1, second + min(length, 16)):
        value = yield from read_word(cpu, adapter, word)
        text += value.to_bytes(2, "big")
    return text.rstrip(b"\0").decode("ascii", "replace")
