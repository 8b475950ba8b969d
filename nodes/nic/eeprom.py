"""The EEPROM: its image, the registers to read and write it, and what a reset loads from it.

Source: 82599 datasheet 6 (NVM map) and 8.2.3.2. The image is a small healthy one, with what drivers
read in it: a MAC section with the station address, the board's part number, a firmware module whose
version is no pre-production one and that has no link-establishment machine (LESM), initialisation
words for each kind of SFP+ module, any module allowed, and the checksum that Linux insists on:
words 0..3Eh, the sections that words 3..Eh point to, and word 3Fh sum to 0xBABA.

EERD answers a microsecond after the write, EEC.ARD comes 10 ms after a reset. GNT follows REQ at
once. Left out: the SPI pins behind EEC (only drivers that write need them), VPD.
"""

from __future__ import annotations

from nodes.nic.regfile import RegisterFile
from nodes.nic.turn import Now

CHECKSUM = 0xBABA
CHECKSUM_WORD = 0x3F
MAC_POINTER = 0x0B
FIRMWARE_POINTER = 0x0F
PBA_FLAG, PBA_POINTER = 0x15, 0x16
SFP_POINTER = 0x2B
DEVICE_CAPS = 0x2C
#: Where the blocks lie in our image.
MAC_SECTION, PBA_BLOCK, SFP_LIST, FIRMWARE, PATCHES = 0x40, 0x50, 0x100, 0x180, 0x1A0
#: Kinds of modules as drivers number them: passive copper and optics, each for port 0 and 1.
SFP_TYPES = {3: 0x140, 4: 0x140, 5: 0x150, 6: 0x150}
#: What goes to CORECTL for them.
SFP_WORDS = {0x140: (0x1100,), 0x150: (0x1200, 0x1210)}
PBA = b"BH8259-001"
EERD_NS = 1000
AUTO_READ_NS = 10_000_000

_ABSENT = 0xFFFF
_PBA_STRING = 0xFAFA
_ANY_SFP = 0x0001
_FIRMWARE_VERSION = 6
_EEC_REQ, _EEC_GNT, _EEC_ARD = 1 << 6, 1 << 7, 1 << 9
_DMAIDONE = 1 << 3


def checksum_sum(image: dict[int, int]) -> int:
    """Sum over all words the checksum covers; healthy images give ``CHECKSUM``."""
    total = sum(image.get(word, _ABSENT) for word in range(CHECKSUM_WORD + 1))
    for pointer in range(0x03, 0x0F):
        section = image.get(pointer, _ABSENT)
        if section in (0, _ABSENT):
            continue
        length = image.get(section, _ABSENT)
        if length not in (0, _ABSENT):
            total += sum(image.get(section + 1 + i, _ABSENT) for i in range(length))
    return total & 0xFFFF


def _put(image: dict[int, int], at: int, *words: int) -> None:
    image.update(enumerate(words, at))


def make_image(mac: bytes) -> dict[int, int]:
    """Words of a healthy image; words that are not in it read 0xFFFF."""
    image = dict.fromkeys(range(CHECKSUM_WORD), 0)
    _put(image, 0x00, 0x0020)
    for pointer in (*range(0x03, 0x0F), 0x27, 0x28):  # sections, SAN addresses
        image[pointer] = _ABSENT
    _put(image, 0x29, 0x8001)  # version, as old drivers read it
    _put(image, 0x2D, 0x8000, 0x1234)  # EtrackId, as new ones do
    image[DEVICE_CAPS] = _ANY_SFP

    image[MAC_POINTER] = MAC_SECTION
    mac_words = (int.from_bytes(mac[i : i + 2], "little") for i in (0, 2, 4))
    _put(image, MAC_SECTION, 3, *mac_words)

    image[PBA_FLAG], image[PBA_POINTER] = _PBA_STRING, PBA_BLOCK
    digits = [int.from_bytes(PBA[i : i + 2], "big") for i in range(0, len(PBA), 2)]
    _put(image, PBA_BLOCK, len(digits) + 1, *digits)

    image[FIRMWARE_POINTER] = FIRMWARE
    _put(image, FIRMWARE + 2, _ABSENT)  # no LESM
    _put(image, FIRMWARE + 4, PATCHES)
    _put(image, PATCHES + 7, _FIRMWARE_VERSION)

    image[SFP_POINTER] = SFP_LIST
    pairs = [word for pair in SFP_TYPES.items() for word in pair]
    _put(image, SFP_LIST, len(pairs), *pairs, _ABSENT)
    for block, words in SFP_WORDS.items():
        _put(image, block, len(words), *words, _ABSENT)

    image[CHECKSUM_WORD] = 0
    image[CHECKSUM_WORD] = CHECKSUM - checksum_sum(image) & 0xFFFF
    return image


class Eeprom:
    """EEC, EERD, EEWR and the registers loaded at reset."""

    def __init__(self, regs: RegisterFile, now: Now, mac: bytes) -> None:
        self.image = make_image(mac)
        self._regs = regs
        self._now = now
        self._done_ns = 0
        self._loaded_ns = 0
        regs.attach("EEC", read=self._read_eec)
        regs.attach("EERD", read=self._read_eerd, write=self._write_eerd)
        regs.attach("EEWR", after=self._after_eewr)
        regs.attach("RDRXCTL", read=self._read_rdrxctl)

    def load(self) -> None:
        """A reset: address of the station into RAL(0)/RAH(0)."""
        section = self.image.get(MAC_POINTER, _ABSENT)
        low, middle, high = (self.image.get(section + 1 + i, _ABSENT) for i in range(3))
        self._regs.put("RAL", 0, low | middle << 16)
        self._regs.put("RAH", 0, high | 1 << 31)
        self._loaded_ns = self._now.ns + AUTO_READ_NS
        self._done_ns = 0

    def _read_eec(self, index: int) -> int:
        ready = self._now.ns >= self._loaded_ns
        value = self._regs.get("EEC")
        granted = _EEC_GNT if value & _EEC_REQ else 0
        return value | granted | (_EEC_ARD if ready else 0)

    def _read_rdrxctl(self, index: int) -> int:
        ready = self._now.ns >= self._loaded_ns
        return self._regs.get("RDRXCTL") | (_DMAIDONE if ready else 0)

    def _write_eerd(self, index: int, value: int) -> None:
        address = value >> 2 & 0x3FFF
        data = self.image.get(address, _ABSENT)
        self._regs.put("EERD", 0, data << 16 | address << 2)
        self._done_ns = self._now.ns + EERD_NS if value & 1 else 0

    def _read_eerd(self, index: int) -> int:
        value = self._regs.get("EERD")
        if self._done_ns and self._now.ns >= self._done_ns:
            return value | 2
        return value & 0xFFFC

    def _after_eewr(self, index: int, value: int) -> None:
        """The word is written at once; DONE says so."""
        if value & 1:
            self.image[value >> 2 & 0x3FFF] = value >> 16
        self._regs.put("EEWR", 0, value & 0xFFFF_FFFC | 2)
