"""The EEPROM: its image, the read register, and what a reset loads from it.

Source: 82599 datasheet 6 (NVM map) and 8.2.3.2. The image is the smallest healthy one: no PHY, SFP
or firmware sections, any SFP+ allowed and no crosstalk check (word 2Ch = 0x81), one MAC section
with the station address, and the checksum that Linux insists on: words 0..3Eh, the sections that
words 3..Eh point to, and word 3Fh sum to 0xBABA.

EERD answers a microsecond after the write, EEC.ARD comes 10 ms after a reset. Left out: writing,
bit-banging through EEC, VPD.
"""

from __future__ import annotations

from nodes.nic.interrupts import Now
from nodes.nic.regfile import RegisterFile

CHECKSUM = 0xBABA
CHECKSUM_WORD = 0x3F
MAC_POINTER = 0x0B
MAC_SECTION = 0x40
DEVICE_CAPS = 0x2C
EERD_NS = 1000
AUTO_READ_NS = 10_000_000

_ABSENT = 0xFFFF
_ZERO_WORDS = frozenset((*range(0x03), 0x0F, 0x17, 0x27, 0x28, 0x2D, 0x2E))
_EEC_ARD = 1 << 9


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


def make_image(mac: bytes) -> dict[int, int]:
    """Words of a healthy image; words that are not in it read 0xFFFF."""
    image = {word: 0 if word in _ZERO_WORDS else _ABSENT for word in range(CHECKSUM_WORD)}
    image[DEVICE_CAPS] = 0x0081
    image[0x15], image[0x16] = 0x4248, 0x0000  # printed board assembly, old form
    image[MAC_POINTER] = MAC_SECTION
    image[MAC_SECTION] = 3
    for i in range(3):
        image[MAC_SECTION + 1 + i] = int.from_bytes(mac[2 * i : 2 * i + 2], "little")
    image[CHECKSUM_WORD] = 0
    image[CHECKSUM_WORD] = CHECKSUM - checksum_sum(image) & 0xFFFF
    return image


class Eeprom:
    """EEC, EERD and the registers loaded at reset."""

    def __init__(self, regs: RegisterFile, now: Now, mac: bytes) -> None:
        self.image = make_image(mac)
        self._regs = regs
        self._now = now
        self._done_ns = 0
        self._loaded_ns = 0
        regs.attach("EEC", read=self._read_eec)
        regs.attach("EERD", read=self._read_eerd, write=self._write_eerd)
        regs.attach("RDRXCTL", read=self._read_rdrxctl)

    def load(self) -> None:
        """A reset: address of the station into RAL(0)/RAH(0)."""
        section = self.image.get(MAC_POINTER, _ABSENT)
        low, middle, high = (self.image.get(section + 1 + i, _ABSENT) for i in range(3))
        self._regs.put("RAL", 0, low | middle << 16)
        self._regs.put("RAH", 0, high | 1 << 31)
        self._loaded_ns = self._now.ns + AUTO_READ_NS

    def _read_eec(self, index: int) -> int:
        ready = self._now.ns >= self._loaded_ns
        return self._regs.get("EEC") | (_EEC_ARD if ready else 0)

    def _read_rdrxctl(self, index: int) -> int:
        ready = self._now.ns >= self._loaded_ns
        return self._regs.get("RDRXCTL") | (8 if ready else 0)  # DMAIDONE

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
