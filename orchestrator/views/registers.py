"""Registers of a NIC as values, names and fields: what ``regs`` shows.

The NIC's snapshot has every register whose value differs from its reset value; the table of the
datasheet (``nodes.nic.registers``) has the rest. A NIC that cannot answer left some of its
registers in its page: what ``of_page`` finds there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bus.ram import Page
from nodes.nic.page import QUEUE_ROWS
from nodes.nic.registers import BY_NAME, DECODE, KEYS, address_of, decode, name_of
from orchestrator.errors import BottomhalfError, nearest

_HINT = "prefixes, RDT[3] and offsets work too; bottomhalf regs eth0 lists what differs from reset"
_LOW = 0xFFFF_FFFF


class Value(NamedTuple):
    """One register and what it holds."""

    name: str
    offset: int
    value: int
    reset: int
    section: str
    access: str
    doc: str

    def fields(self, every: bool = True) -> list[tuple[str, str, int, str]]:
        """(name, bits, value, the value's name), highest first; only those set unless ``every``."""
        found = []
        for field, value, text in decode(self.offset, self.value):
            if every or value:
                bits = str(field.low) if field.high == field.low else f"{field.high}:{field.low}"
                found.append((field.name, bits, value, text))
        return found

    def as_json(self) -> dict[str, Any]:
        fields = [
            {"name": name, "bits": bits, "value": value, "text": text}
            for name, bits, value, text in self.fields()
        ]
        return self._asdict() | {"fields": fields}


def at(offset: int, value: int) -> Value:
    """The register at an address; one that the table does not know is plain memory."""
    slot = DECODE.get(offset)
    if slot is None:
        return Value(name_of(offset), offset, value, 0, "", "RW", "not in the table")
    row = slot.register
    return Value(name_of(offset), offset, value, row.reset, row.section, row.access, row.doc)


def matching(word: str, known: Mapping[str, int]) -> list[int]:
    """Addresses that a word means: a name in any case, an element of an array, an offset, or the
    beginning of names. Of an array those in ``known``, and its first element."""
    text = word.strip().upper()
    if text in BY_NAME:
        return _elements(text, known)
    try:
        offset = address_of(text)
    except (KeyError, ValueError):
        pass
    else:
        if offset % 4 or offset >= 0x20000:
            raise BottomhalfError(
                f"regs: no register at {word}", "offsets are multiples of 4 below 0x20000"
            )
        return [offset]
    names = [name for name in BY_NAME if name.startswith(text)]
    if not names:
        near = nearest(text, BY_NAME)
        slip = f"; did you mean `{near}`?" if near else ""
        raise BottomhalfError(f"regs: no register `{word}`{slip}", _HINT)
    return [offset for name in names for offset in _elements(name, known)]


def _elements(name: str, known: Mapping[str, int]) -> list[int]:
    keys = KEYS[name]
    return [
        key for number, key in enumerate(keys)
        if number == 0 or name_of(key) in known
    ]  # fmt: skip


def value_of(offset: int, known: Mapping[str, int]) -> Value:
    """The register at ``offset`` with its value of a snapshot; its reset value if it has none."""
    slot = DECODE.get(offset)
    own = offset if slot is None else slot.key
    reset = 0 if slot is None else slot.register.reset
    return at(own, known.get(name_of(own), reset))


def of_page(page: Page) -> dict[str, int]:
    """The registers that a NIC's page shows, by name: causes and masks, and its rings."""
    found = {"EICR": page["eicr"], "EIMS": page["eims"]}
    for field, name in (("eicr_vectors", "EICR_EX"), ("eims_vectors", "EIMS_EX")):
        found |= {f"{name}[{n}]": page[field] >> 32 * n & _LOW for n in range(2)}
    for way, letter in (("rx", "R"), ("tx", "T")):
        heads, tails, sizes, bases = (
            page.run(f"{way}_{what}") for what in ("head", "tail", "size", "base")
        )
        for q in range(QUEUE_ROWS):
            if not (sizes[q] or heads[q] or tails[q]):
                continue
            found |= {
                f"{letter}DBAL[{q}]": bases[q] & _LOW,
                f"{letter}DBAH[{q}]": bases[q] >> 32,
                f"{letter}DLEN[{q}]": sizes[q] * 16,
                f"{letter}DH[{q}]": heads[q],
                f"{letter}DT[{q}]": tails[q],
            }
    return found
