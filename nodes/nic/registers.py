"""BAR0 of the 82599 as a table: name, address, reset value, access rule, fields, meaning.

Source: Intel 82599 datasheet, chapter 8 (programming interface); each row names the group of the
chapter that describes it. The table is laid out whole in ``table``, behaviour is attached to it by
name (``regfile``): a register that stands there without behaviour stores what is written to it, as
silicon does with bits whose effect is not modelled. Offsets that are not listed behave as plain
RAM, reset 0.

Left out: behaviour of virtualisation, DCB, IPsec, FCoE and IEEE 1588, whose registers only store.
"""

from __future__ import annotations

from typing import NamedTuple

from nodes.nic.table import general, interrupt, link, offload, receive, statistics, transmit
from nodes.nic.table.row import ACCESS, QUEUES, VECTORS, Field, Register, Run

__all__ = [
    "ACCESS", "BY_NAME", "CSR_BYTES", "DECODE", "KEYS", "QUEUES", "STATISTICS",
    "TABLE", "VECTORS", "Field", "Register", "Run", "Slot", "address_of", "decode", "name_of",
]  # fmt: skip

#: CSRs end here; what lies above in BAR0 is the flash window.
CSR_BYTES = 0x20000


class Slot(NamedTuple):
    """What an address means: an element of ``register``, stored under ``key``."""

    register: Register
    element: int
    key: int


STATISTICS: tuple[Register, ...] = statistics.TABLE
TABLE: tuple[Register, ...] = (
    *general.TABLE, *link.TABLE, *interrupt.TABLE, *receive.TABLE, *transmit.TABLE,
    *offload.TABLE, *STATISTICS,
)  # fmt: skip
BY_NAME: dict[str, Register] = {register.name: register for register in TABLE}


def _decode() -> tuple[dict[int, Slot], dict[str, tuple[int, ...]]]:
    """Address -> Slot, and name -> storage key (first address) of each element."""
    slots: dict[int, Slot] = {}
    keys: dict[str, tuple[int, ...]] = {}
    for register in TABLE:
        own = [run.offset + i * run.stride for run in register.runs for i in range(run.elements)]
        keys[register.name] = tuple(own)
        places = list(enumerate(own))
        for run in register.aliases:
            places += [(i, run.offset + i * run.stride) for i in range(run.elements)]
        for index, offset in places:
            if offset in slots:
                raise ValueError(f"{register.name} and {slots[offset].register.name} overlap")
            slots[offset] = Slot(register, index, own[index])
    return slots, keys


DECODE, KEYS = _decode()


def name_of(offset: int) -> str:
    """Name of the register at a BAR0 offset, with its index; the offset itself if unlisted."""
    slot = DECODE.get(offset)
    if slot is None:
        return f"{offset:05x}"
    return (
        slot.register.name
        if slot.register.elements == 1
        else f"{slot.register.name}[{slot.element}]"
    )


def address_of(name: str) -> int:
    """BAR0 offset of ``EICR``, ``RDT[3]`` or ``0x800``, in any case; KeyError if there is none."""
    text = name.strip().upper()
    if text.startswith("0X"):
        return int(text, 16)
    plain, _, index = text.partition("[")
    element = int(index.rstrip("]")) if index else 0
    if element >= len(KEYS[plain]):
        raise KeyError(name)
    return KEYS[plain][element]


def decode(offset: int, value: int) -> list[tuple[Field, int, str]]:
    """The fields of a register's value, highest first: (field, its value, its value's name)."""
    slot = DECODE.get(offset)
    if slot is None:
        return []
    fields = ((field, field.of(value)) for field in slot.register.fields)
    return [(field, bits, field.values.get(bits, "")) for field, bits in fields]
