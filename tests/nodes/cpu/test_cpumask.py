"""CPU masks as text, with the errors that a real kernel gave."""

from __future__ import annotations

from errno import EINVAL, EOVERFLOW, ERANGE

import pytest

from nodes.cpu.kernel.irq.cpumask import format_list, format_mask, parse_list, parse_mask


@pytest.mark.parametrize(
    ("mask", "bits", "text"),
    [
        (0xF, 4, "f"),
        (0xFF, 8, "ff"),
        ((1 << 40) - 1, 40, "ff,ffffffff"),
        ((1 << 64) - 1, 64, "ffffffff,ffffffff"),
        (2, 2, "2"),
        (0, 2, "0"),
        (1, 64, "00000000,00000001"),
        (3, 33, "0,00000003"),
        ((1 << 255) - 1, 255, "7fffffff" + ",ffffffff" * 7),
    ],
)
def test_a_mask_has_as_many_digits_as_its_bits_need(mask: int, bits: int, text: str) -> None:
    assert format_mask(mask, bits) == text
    assert parse_mask(text + "\n", bits) == mask


@pytest.mark.parametrize(
    ("mask", "text"), [(0x10F, "0-3,8"), (1, "0"), (2, "1"), (0b1011, "0-1,3"), (0, "")]
)
def test_a_list_has_ranges(mask: int, text: str) -> None:
    assert format_list(mask) == text
    if text:
        assert parse_list(text + "\n", 64) == mask


@pytest.mark.parametrize(
    ("text", "errno"),
    [
        ("zz", EINVAL), ("", EINVAL), ("\n", EINVAL), ("1,", EINVAL), ("-1", EINVAL),
        ("0x3", EINVAL), ("10", EOVERFLOW), ("7", EOVERFLOW), ("1,00000000", EOVERFLOW),
        ("123456789", EOVERFLOW),
    ],
)  # fmt: skip
def test_what_is_no_mask_of_two_cpus(text: str, errno: int) -> None:
    with pytest.raises(OSError, match=r"no |more|past|backwards") as caught:
        parse_mask(text, 2)
    assert caught.value.errno == errno


def test_leading_zeros_are_no_further_bits() -> None:
    assert parse_mask("00000000,00000003\n", 2) == 3
    assert parse_mask("000000003", 2) == 3


@pytest.mark.parametrize(
    ("text", "errno"),
    [("2-9", ERANGE), ("2", ERANGE), ("1-0", EINVAL), ("x", EINVAL), ("", EINVAL), ("0-", EINVAL)],
)
def test_what_is_no_list_of_two_cpus(text: str, errno: int) -> None:
    with pytest.raises(OSError, match=r"no |more|past|backwards") as caught:
        parse_list(text, 2)
    assert caught.value.errno == errno
