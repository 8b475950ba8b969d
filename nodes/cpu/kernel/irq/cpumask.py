"""CPU masks as text: what smp_affinity and smp_affinity_list print and understand.

Models bitmap_scnprintf, bitmap_parse and bitmap_parselist of lib/bitmap.c. A mask is printed with
as many bits as the era's masks have, in groups of 32 separated by commas, the first group as wide
as its bits need. Errors are OSError with the kernel's errno: a digit that is none EINVAL, a bit
past the end EOVERFLOW (in a list ERANGE). Left out: the list words of later kernels (``all``,
``N``) and the strided ranges (``0-7:2/4``).
"""

from __future__ import annotations

from errno import EINVAL, EOVERFLOW, ERANGE

_GROUP_BITS = 32
_GROUP_DIGITS = 8
_HEX = "0123456789abcdefABCDEF"
#: A CPU number with more digits is past the last CPU, whatever it is.
_CPU_DIGITS_MAX = 10


def format_mask(mask: int, bits: int) -> str:
    """``%*pb``: hexadecimal groups of 32 bits."""
    groups = []
    for low in range(0, bits, _GROUP_BITS):
        width = min(bits - low, _GROUP_BITS)
        groups.append(f"{mask >> low & (1 << width) - 1:0{(width + 3) // 4}x}")
    return ",".join(reversed(groups))


def format_list(mask: int) -> str:
    """``%*pbl``: numbers and ranges, ``0-3,8``; nothing for an empty mask."""
    ranges, number = [], 0
    while mask >> number:
        if not mask >> number & 1:
            number += 1
            continue
        first = number
        while mask >> number & 1:
            number += 1
        ranges.append(str(first) if number - 1 == first else f"{first}-{number - 1}")
    return ",".join(ranges)


def parse_mask(text: str, bits: int) -> int:
    """bitmap_parse: what was written to smp_affinity."""
    mask = 0
    for group in text.strip().split(","):
        if not group or any(digit not in _HEX for digit in group):
            raise OSError(EINVAL, "no mask")
        if len(group.lstrip("0")) > _GROUP_DIGITS:
            raise OSError(EOVERFLOW, "more than 32 bits in a group")
        mask = mask << _GROUP_BITS | int(group, 16)
        if mask >> bits:
            raise OSError(EOVERFLOW, "more bits than a mask has")
    return mask


def parse_list(text: str, bits: int) -> int:
    """bitmap_parselist: what was written to smp_affinity_list."""
    mask = 0
    for piece in text.strip().split(","):
        low, dash, high = piece.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise OSError(EINVAL, "no list")
        if max(len(low), len(high)) > _CPU_DIGITS_MAX:
            raise OSError(EOVERFLOW, "no unsigned int")
        first, last = int(low), int(high if dash else low)
        if first > last:
            raise OSError(EINVAL, "a range that runs backwards")
        if last >= bits:
            raise OSError(ERANGE, "a CPU past the last")
        mask |= (1 << last + 1) - (1 << first)
    return mask
