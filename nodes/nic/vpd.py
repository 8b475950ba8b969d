"""Vital product data behind the capability at E0h.

Source: PCI Local Bus 3.0 appendix I. Software writes an address; the flag in its bit 15 says which
way: 0 asks for four bytes and turns 1 when they are in the data word, 1 stores the data word and
turns 0 when that is done. Here both are done at once. All fields are read only, so a store is
completed and changes nothing.

The image is a resource list: the product's name, a read-only area with part and serial number and
its checksum, the end tag.
"""

from __future__ import annotations

from nodes.nic.configspace import VPD, ConfigSpace

_ADDRESS, _DATA = VPD + 2, VPD + 4
_FLAG = 0x8000
_NAME, _PART = b"X520 10GbE Controller", b"X520-DA2"
_TAG_NAME, _TAG_READ_ONLY, _TAG_END = 0x82, 0x90, 0x78


def _field(keyword: bytes, data: bytes) -> bytes:
    return keyword + bytes([len(data)]) + data


def make_image(mac: bytes) -> bytes:
    """The resource list; the bytes up to and with the checksum sum to 0."""
    fields = _field(b"PN", _PART) + _field(b"SN", mac.hex().encode())
    head = bytes([_TAG_NAME]) + len(_NAME).to_bytes(2, "little") + _NAME
    head += bytes([_TAG_READ_ONLY]) + (len(fields) + 4).to_bytes(2, "little") + fields + b"RV\x01"
    return head + bytes([-sum(head) & 0xFF, _TAG_END])


class Vpd:
    """The handshake."""

    def __init__(self, space: ConfigSpace, mac: bytes) -> None:
        self._space = space
        self.image = make_image(mac)

    def addressed(self) -> None:
        """The address word was written."""
        word = self._space.get(_ADDRESS)
        if not word & _FLAG:
            at = word & ~3
            self._space.put(
                _DATA, int.from_bytes(self.image[at : at + 4].ljust(4, b"\0"), "little")
            )
        self._space.put(_ADDRESS, word ^ _FLAG, 2)
