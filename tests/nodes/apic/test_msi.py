"""Decoding of interrupt messages and ICR writes, against worked examples."""

from __future__ import annotations

import pytest

from nodes.apic import ipi, msi
from nodes.apic.destination import Destinations

#: Address, data -> (destination, logical, vector, mode, trigger, one).
WORKED = [
    (0xFEE00000, 0x00000041, (0x00, False, 0x41, msi.FIXED, 0, False)),
    (0xFEE02004, 0x00000055, (0x02, True, 0x55, msi.FIXED, 0, False)),
    (0xFEE04000, 0x00004061, (0x04, False, 0x61, msi.FIXED, 0, False)),
    (0xFEEFF00C, 0x00000161, (0xFF, True, 0x61, msi.LOWEST, 0, True)),
    (0xFEE02008, 0x00000071, (0x02, False, 0x71, msi.FIXED, 0, False)),
    (0xFEEFF000, 0x00000081, (0xFF, False, 0x81, msi.FIXED, 0, False)),
    (0xFEE00000, 0x00000400, (0x00, False, 0x00, msi.NMI, 0, False)),
    (0xFEE00000, 0x0000C041, (0x00, False, 0x41, msi.FIXED, 1, False)),
    (0xFEE00000, 0x00008041, (0x00, False, 0x41, msi.FIXED, 1, False)),
    (0xFEE03000, 0x00004041, (0x03, False, 0x41, msi.FIXED, 0, False)),
    (0xFEE0300C, 0x00000141, (0x03, True, 0x41, msi.LOWEST, 0, True)),
    (0xFEE01000, 0x00000200, (0x01, False, 0x00, msi.SMI, 0, False)),
    (0xFEE01000, 0x00000500, (0x01, False, 0x00, msi.INIT, 0, False)),
    (0xFEE01000, 0x00000700, (0x01, False, 0x00, msi.EXTINT, 0, False)),
]


@pytest.mark.conformance("A5-1")
@pytest.mark.parametrize(("address", "data", "meaning"), WORKED)
def test_worked_decodes(
    address: int, data: int, meaning: tuple[int, bool, int, int, int, bool]
) -> None:
    got = msi.decode(address, data)
    assert got.drop == ""
    assert (
        got.destination, got.logical, got.vector, got.mode, got.trigger, got.one,
    ) == meaning  # fmt: skip


@pytest.mark.conformance("A5-2")
@pytest.mark.parametrize(
    ("address", "data", "drop"),
    [
        (0xFEE00010, 0x41, "msi_drop_remappable"),
        (0xFEE03010, 0x41, "msi_drop_remappable"),
        (0x1FEE00000, 0x41, "msi_drop_window"),
        (0xFED00000, 0x41, "msi_drop_window"),
        (0, 0, "msi_drop_window"),
        (0xFEE00000, 0x0341, "msi_drop_mode"),
        (0xFEE00000, 0x0641, "msi_drop_mode"),
    ],
)
def test_what_is_not_an_interrupt_has_a_reason(address: int, data: int, drop: str) -> None:
    assert msi.decode(address, data).drop == drop


def test_redirection_hint_with_logical_mode_picks_one() -> None:
    assert msi.decode(0xFEE0300C, 0x41).one
    assert not msi.decode(0xFEE03008, 0x41).one


def test_lowest_priority_to_everybody_by_physical_broadcast_is_not_arbitrated() -> None:
    assert not msi.decode(0xFEEFF000, 0x141).one


@pytest.mark.parametrize(
    ("cpus", "destination", "logical", "expected"),
    [
        (4, 2, False, (2,)),
        (4, 4, False, ()),
        (4, 0xFF, False, (0, 1, 2, 3)),
        (4, 0b0101, True, (0, 2)),
        (4, 0b10000, True, ()),
        (4, 0xFF, True, (0, 1, 2, 3)),
        (32, 31, False, (31,)),
        (32, 0xFF, True, tuple(range(8))),
    ],
)
def test_destination_match(
    cpus: int, destination: int, logical: bool, expected: tuple[int, ...]
) -> None:
    assert Destinations(cpus).match(destination, logical) == expected


@pytest.mark.parametrize(
    ("icr", "expected"),
    [
        (0x40 | 3 << 56, ipi.Command(0x40, msi.FIXED, 0, 3, False)),
        (0x40 | 1 << 11 | 2 << 56, ipi.Command(0x40, msi.FIXED, 0, 2, True)),
        (0xFD | 3 << 18, ipi.Command(0xFD, msi.FIXED, ipi.OTHERS, 0, False)),
        (0xC500 | 1 << 56, ipi.Command(0, msi.INIT, 0, 1, False)),
        (0x8500 | 1 << 56, ipi.Command(drop="ipi_drop_deassert")),
        (0x0007 | 0x600 | 1 << 56, ipi.Command(7, msi.STARTUP, 0, 1, False)),
        (0x400 | 1 << 56, ipi.Command(0, msi.NMI, 0, 1, False)),
        (0x0F | 1 << 56, ipi.Command(drop="ipi_drop_vector")),
        (0x200 | 1 << 56, ipi.Command(0, msi.SMI, 0, 1, False)),
        (0x700 | 1 << 56, ipi.Command(drop="ipi_drop_mode")),
        (0x300 | 1 << 56, ipi.Command(drop="ipi_drop_mode")),
        (0x400 | 2 << 18, ipi.Command(drop="ipi_drop_shorthand")),
        (0x400 | 3 << 18, ipi.Command(0, msi.NMI, ipi.OTHERS, 0, False)),
    ],
)
def test_icr_decodes(icr: int, expected: ipi.Command) -> None:
    assert ipi.decode(icr) == expected
