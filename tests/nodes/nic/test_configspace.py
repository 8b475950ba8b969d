"""Configuration space: rules of single words, VPD, power states, what resets keep."""

from __future__ import annotations

import pytest

from nodes.configspace import CONFIG_BYTES
from nodes.nic.configspace import CONFIG
from tests.nodes.nic.rig import MAC, Rig, frame

ALL = 0xFFFFFFFF


@pytest.fixture
def rig() -> Rig:
    return Rig()


def vpd_read(rig: Rig, address: int) -> int:
    """The handshake of a read, four bytes."""
    rig.set_config(0xE2, address)
    assert rig.config(0xE2, 2) == address | 0x8000
    return rig.config(0xE4)


# -- plain words


@pytest.mark.conformance("A1.4-2")
def test_bar_decodes_again_when_its_address_is_put_back(rig: Rig) -> None:
    rig.set_config(0x10, 0xFEA80000, 4)
    rig.enable()
    assert rig.read("STATUS") != ALL
    rig.set_config(0x10, ALL, 4)
    rig.set_config(0x14, ALL, 4)
    assert rig.read("STATUS") == ALL
    rig.write("WUC", 5)
    rig.set_config(0x10, 0xFEA80000, 4)
    rig.set_config(0x14, 0, 4)
    assert rig.config(0x10) == 0xFEA8000C
    assert rig.read("STATUS") != ALL
    assert rig.read("WUC") == 0


def test_sizing_one_bar_leaves_the_others_where_they_are(rig: Rig) -> None:
    rig.set_config(4, 7)
    rig.set_config(0x20, ALL, 4)
    assert rig.read_at(0xC, bar=4) == ALL
    assert rig.read("STATUS") != ALL
    assert rig.read_at(0, bar=2) == 0


@pytest.mark.parametrize(("offset", "size"), [(1, 2), (2, 4), (0, 3), (0xFFF, 2)])
def test_access_that_is_not_naturally_aligned_reaches_nothing(
    rig: Rig, offset: int, size: int
) -> None:
    assert rig.config(offset, size) == (1 << 8 * size) - 1
    before = bytes(rig.nic.function.space)
    rig.set_config(offset, 0, size)
    assert bytes(rig.nic.function.space) == before


def test_space_in_one_piece_is_what_single_reads_give(rig: Rig) -> None:
    whole = bytes(rig.nic.function.space)
    assert len(whole) == CONFIG_BYTES
    for offset in range(0, 0x200, 4):
        assert rig.config(offset) == int.from_bytes(whole[offset : offset + 4], "little")


def test_every_bit_follows_its_rule(rig: Rig) -> None:
    acting = {0x44, 0xA8, 0xE0}  # a power state, a reset, a handshake
    for word in CONFIG:
        if word.offset in acting:
            continue
        rig.set_config(word.offset, ALL, 4)
        expected = (word.value | word.writable) & ~word.clearing
        assert rig.config(word.offset) == expected, hex(word.offset)
        rig.set_config(word.offset, 0, 4)
        assert rig.config(word.offset) == word.value & ~word.writable & ~word.clearing


def test_bytes_of_a_word_are_written_one_by_one(rig: Rig) -> None:
    rig.set_config(0x3C, 0x0B, 1)
    rig.set_config(0x3D, 0xFF, 1)
    assert rig.config(0x3C) == 0x10B
    rig.set_config(0x55, 0xE0, 1)
    rig.set_config(0x56, 0xFEE0, 2)
    assert rig.config(0x54) == 0xFEE0E000


def test_serial_number_is_the_address_of_the_station(rig: Rig) -> None:
    low, high = rig.config(0x144), rig.config(0x148)
    serial = (high << 32 | low).to_bytes(8, "big")
    assert serial == MAC[:3] + b"\xff\xff" + MAC[3:]


# -- vital product data


@pytest.mark.conformance("A2.5-2")
def test_product_data_comes_by_the_handshake(rig: Rig) -> None:
    data = b"".join(vpd_read(rig, at).to_bytes(4, "little") for at in range(0, 80, 4))
    assert data[:24] == b"\x82\x15\x00X520 10GbE Controller"
    assert data[24] == 0x90
    length = int.from_bytes(data[25:27], "little")
    end = 27 + length
    fields, at = {}, 27
    while at < end:
        size = data[at + 2]
        fields[data[at : at + 2]] = data[at + 3 : at + 3 + size]
        at += 3 + size
    assert at == end
    assert fields[b"SN"] == MAC.hex().encode()
    assert list(fields)[-1] == b"RV"
    assert sum(data[:end]) & 0xFF == 0
    assert data[end] == 0x78
    assert set(data[end + 1 :]) == {0}


@pytest.mark.conformance("A2.5-2")
def test_store_of_product_data_is_completed_and_changes_nothing(rig: Rig) -> None:
    before = vpd_read(rig, 4)
    rig.set_config(0xE4, ~before & ALL, 4)
    rig.set_config(0xE2, 0x8004)
    assert rig.config(0xE2, 2) == 4
    assert vpd_read(rig, 4) == before


# -- power states and resets


def test_d1_and_d2_are_not_there(rig: Rig) -> None:
    for state in (1, 2):
        rig.set_config(0x44, state)
        assert rig.config(0x44, 2) & 3 == 0
    rig.set_config(0x44, 3)
    rig.set_config(0x44, 1)
    assert rig.config(0x44, 2) & 3 == 3


def test_d3hot_answers_configuration_and_nothing_else() -> None:
    rig = Rig()
    rig.up()
    rig.rx_queue(0)
    rig.set_config(0x44, 3)
    assert rig.read("STATUS") == ALL
    assert rig.read_at(0, bar=4) == ALL
    assert rig.read_at(0, bar=2) == ALL
    assert rig.msis(rig.wire(frame())) == []
    assert rig.page["dma_writes"] == 0
    assert rig.config(0) == 0x10FB8086
    assert rig.config(4, 2) == 6


def test_wake_event_words_survive_d3_and_a_function_reset(rig: Rig) -> None:
    rig.set_config(0x44, 0x103)
    rig.set_config(0x44, 0x100)
    assert rig.config(0x44, 2) == 0x2100
    rig.set_config(0xA8, 0x8000)
    assert rig.config(0x44, 2) == 0x2100


def test_function_reset_spares_payload_size_and_link_control(rig: Rig) -> None:
    rig.set_config(0xA8, 0x2857)
    rig.set_config(0xB0, 0x0042)
    rig.set_config(0xC8, 0x0005)
    rig.set_config(0xA8, 0xA857)
    assert rig.config(0xA8, 2) == 0x2850
    assert rig.config(0xB0, 2) == 0x0042
    assert rig.config(0xC8, 2) == 0


def test_reset_by_the_upper_byte_alone(rig: Rig) -> None:
    rig.enable()
    rig.set_config(0xA9, 0x80, 1)
    assert rig.config(4, 2) == 0


def test_nothing_pending_speaks_after_a_function_reset() -> None:
    rig = Rig()
    rig.up()
    rig.set_config(0x72, 0xC000)
    rig.write("EICS_EX", 1)
    assert rig.read_at(0x2000, bar=4) == 1
    assert rig.msis(rig.set_config(0xA8, 0x8000)) == []
    rig.enable()
    rig.program_msix()
    assert rig.page["msi_out"] == 0


# -- order


@pytest.mark.conformance("A11-3")
def test_read_returns_behind_the_dma_of_everything_before_it() -> None:
    rig = Rig()
    rig.up()
    ring, buffers = rig.rx_queue(0)
    seen: list[list[int]] = []
    answer = rig.nic.post

    def spy(peer: str, message: object) -> None:
        if peer == "cpu0":
            seen.append([rig.dwords(ring, i)[2] & 1 for i in range(3)])
            assert rig.ram.bytes[buffers + 2048 * 2] == MAC[0]
            assert rig.ram.bytes[buffers + 2048 * 2 + 5] == MAC[5]
        answer(peer, message)

    rig.nic.post = spy  # type: ignore[method-assign]
    rig.inbox_with_read(frame(), frame(), frame())
    assert seen == [[1, 1, 1]]
