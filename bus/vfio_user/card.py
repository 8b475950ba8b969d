"""What the device shows of itself: the sizes of its regions, the vectors of its interrupt indexes.

The commands that ask for these, and the one that resets it all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bus.messages import GuestReset
from bus.vfio_user.owed import Owed
from bus.vfio_user.wire import INFO_BODY, REGION_INFO_BODY, RefusedError, unpack

#: GET_IRQ_INFO flags: eventfd 1, maskable 2, automasked 4, count is fixed 8.
_IRQ_FLAGS = (7, 9, 9, 9, 9)


class Card(NamedTuple):
    """What the device shows: bytes of its nine regions, vectors of its five interrupt indexes."""

    regions: tuple[int, ...]
    vectors: tuple[int, ...]


def get_info(card: Card, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
    unpack(INFO_BODY, body)
    owed.body = INFO_BODY.pack(INFO_BODY.size, 3, len(card.regions), len(card.vectors))
    return []


def get_region_info(card: Card, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
    index = unpack(REGION_INFO_BODY, body)[2]
    if index >= len(card.regions):
        raise RefusedError
    size = card.regions[index]
    owed.body = REGION_INFO_BODY.pack(REGION_INFO_BODY.size, 3 if size else 0, index, 0, size, 0)
    return []


def get_irq_info(card: Card, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
    index = unpack(INFO_BODY, body)[2]
    if index >= len(card.vectors):
        raise RefusedError
    count = card.vectors[index]
    owed.body = INFO_BODY.pack(INFO_BODY.size, _IRQ_FLAGS[index] if count else 0, index, count)
    return []


def device_reset(card: Card, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
    owed.waiting = 1
    return [GuestReset(owed.tag)]
