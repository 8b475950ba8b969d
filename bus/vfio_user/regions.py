"""Accesses to BARs and configuration space, cut into reads and writes as the device takes them.

Regions are the BARs (0 to 5) and configuration space (7). BARs take 32-bit accesses (and 64-bit
ones as two); a narrower read is cut out of one, a narrower write has no effect, as in the registers
behind. Configuration space takes 8, 16 and 32 bits. A write to a BAR is posted, nobody answers it.

``regions`` are the sizes of all nine; each command returns its requests for the device.
"""

from __future__ import annotations

from typing import Any

from bus.messages import CfgRead, CfgWrite, MemRead, MemWrite
from bus.vfio_user.owed import Owed
from bus.vfio_user.wire import MULTI_BODY, MULTI_MAX, REGION_BODY, RefusedError, unpack

CONFIG = 7
_CONFIG_WIDTHS = (4, 2, 1)
Regions = tuple[int, ...]


def region_read(regions: Regions, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
    offset, region, count = unpack(REGION_BODY, body)
    _check_access(regions, offset, region, count)
    requests: list[Any] = []
    tag = owed.tag
    if region == CONFIG:
        for at, size in _pieces(offset, count):
            owed.cuts.append((size, 0))
            requests.append(CfgRead(tag, at, size))
            tag += 1
    elif count < 4:
        owed.cuts.append((count, 8 * (offset & 3)))
        requests.append(MemRead(tag, region, offset & ~3))
    else:
        for at in range(offset, offset + count, 4):
            owed.cuts.append((4, 0))
            requests.append(MemRead(tag, region, at))
            tag += 1
    owed.waiting = len(owed.cuts)
    owed.body = body
    return requests


def region_write(regions: Regions, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
    if len(body) < REGION_BODY.size:
        raise RefusedError
    offset, region, count = REGION_BODY.unpack_from(body)
    if len(body) != REGION_BODY.size + count:
        raise RefusedError
    _check_access(regions, offset, region, count)
    owed.body = body[: REGION_BODY.size]
    return _writes(owed, region, offset, body[REGION_BODY.size :])


def write_multi(regions: Regions, owed: Owed, body: bytes, fds: list[int]) -> list[Any]:
    """All of them, or none."""
    count = int.from_bytes(body[:8], "little")
    if not 0 < count <= MULTI_MAX or len(body) != 8 + count * MULTI_BODY.size:
        raise RefusedError
    writes = list(MULTI_BODY.iter_unpack(body[8:]))
    for offset, region, size, _ in writes:
        if size > 8:
            raise RefusedError
        _check_access(regions, offset, region, size)
    owed.body = body[:8]
    requests = []
    for offset, region, size, value in writes:
        requests += _writes(owed, region, offset, value.to_bytes(8, "little")[:size])
    return requests


def _check_access(regions: Regions, offset: int, region: int, count: int) -> None:
    size = regions[region] if region < len(regions) else 0
    if not count or offset + count > size:
        raise RefusedError
    if region != CONFIG and (count not in (1, 2, 4, 8) or offset % min(count, 4)):
        raise RefusedError


def _writes(owed: Owed, region: int, offset: int, data: bytes) -> list[Any]:
    requests: list[Any] = []
    if region == CONFIG:
        for at, size in _pieces(offset, len(data)):
            value = int.from_bytes(data[at - offset : at - offset + size], "little")
            requests.append(CfgWrite(owed.tag + owed.waiting, at, size, value))
            owed.waiting += 1
    elif len(data) >= 4:
        for i in range(0, len(data), 4):
            value = int.from_bytes(data[i : i + 4], "little")
            requests.append(MemWrite(region, offset + i, value))
    return requests


def _pieces(offset: int, count: int) -> list[tuple[int, int]]:
    """Naturally aligned accesses that configuration space takes."""
    out = []
    end = offset + count
    while offset < end:
        size = next(s for s in _CONFIG_WIDTHS if not offset % s and offset + s <= end)
        out.append((offset, size))
        offset += size
    return out
