"""BAR0's table: addresses, aliases, masks, self-clearing bits, EEPROM, semaphores, pins."""

from __future__ import annotations

import pytest

from nodes.nic import registers
from nodes.nic.eeprom import checksum_sum, make_image
from nodes.nic.registers import ACCESS, DECODE, TABLE
from tests.nodes.nic.rig import MAC, MS, Rig, frame


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.enable()
    return rig


def eeprom_word(rig: Rig, word: int) -> int:
    """As the driver reads one: write EERD, poll DONE."""
    rig.write("EERD", word << 2 | 1)
    for _ in range(10):
        value = rig.read("EERD")
        if value & 2:
            assert value >> 2 & 0x3FFF == word
            return value >> 16
        rig.advance(1000)
    raise AssertionError("EERD never got DONE")


def test_table_has_no_overlap_and_only_known_access_rules() -> None:
    assert len({r.name for r in TABLE}) == len(TABLE)
    for register in TABLE:
        assert register.access in ACCESS
        assert register.reset <= 0xFFFF_FFFF
    assert all(offset % 4 == 0 and offset < registers.CSR_BYTES for offset in DECODE)


@pytest.mark.conformance("H2-1")
@pytest.mark.conformance("H2-2")
@pytest.mark.parametrize(
    ("canonical", "alias", "mask"),
    [
        (0x01014 + 0x40 * 3, 0x02100 + 4 * 3, 0xFFFFFFFF),  # SRRCTL(3)
        (0x0100C + 0x40 * 15, 0x02200 + 4 * 15, 0xFFFFFFFF),  # DCA_RXCTRL(15)
        (0x0A228, 0x05428, 0xFFFFFFFF),  # RAL(5)
        (0x0A22C, 0x0542C, 0x8000FFFF),  # RAH(5)
        (0x0EA00 + 4 * 7, 0x05480 + 4 * 7, 0xFFFFFFFF),  # PSRTYPE(7)
        (0x0EC80, 0x05818, 0xFFFFFFFF),  # MRQC
        (0x0EB00, 0x05C00, 0xFFFFFFFF),  # RETA(0)
        (0x0EB80 + 4 * 9, 0x05C80 + 4 * 9, 0xFFFFFFFF),  # RSSRK(9)
    ],
)
def test_alias_is_the_same_storage(rig: Rig, canonical: int, alias: int, mask: int) -> None:
    rig.write_at(alias, 0xA5A5_1234)
    assert rig.read_at(canonical) == 0xA5A5_1234 & mask
    rig.write_at(canonical, 0x5A5A_4321)
    assert rig.read_at(alias) == 0x5A5A_4321 & mask


@pytest.mark.conformance("H2-3")
def test_unlisted_offset_is_memory_and_odd_accesses_touch_nothing(rig: Rig) -> None:
    assert 0x08F00 not in DECODE
    rig.write_at(0x08F00, 0xDEADBEEF)
    rig.write_at(0x08F02, 0)
    assert rig.read_at(0x08F00) == 0xDEADBEEF
    assert rig.read_at(0x08F04) == 0


@pytest.mark.conformance("H9.6-10")
@pytest.mark.conformance("H11.5-9")
@pytest.mark.conformance("H11.5-10")
@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        ("RDBAL", 0x12345, 0x12300),
        ("TDBAL", 0x123FF, 0x12380),
        ("RDLEN", 0xFFFFFFFF, 0xFFF80),
        ("TDLEN", 100, 0),
        ("DTXMXSZRQ", 0xFFFF, 0xFFF),
        ("RAH", 0xFFFFFFFF, 0x8000FFFF),
        ("RXCTRL", 0xFFFFFFFE, 0),
        ("FCRTL", 0xFFFFFFFF, 0x8007FFF0),
        ("STATUS", 0, 0x80000),
        ("EIAC", 0xFFFFFFFF, 0x4000FFFF),
    ],
)
def test_reserved_bits_do_not_stick(rig: Rig, name: str, written: int, read: int) -> None:
    rig.write(name, written)
    assert rig.read(name) == read


@pytest.mark.conformance("H3-1")
@pytest.mark.conformance("H3-2")
@pytest.mark.conformance("H6.4-3")
def test_master_disable_shows_in_status_until_a_reset(rig: Rig) -> None:
    assert rig.read("STATUS") & 0xC == 0
    assert rig.read("STATUS") & 1 << 19
    rig.write("CTRL", 4)
    assert rig.read("CTRL") == 4
    assert not rig.read("STATUS") & 1 << 19
    rig.write("CTRL", 1 << 26)
    assert rig.read("CTRL") == 0
    assert rig.read("STATUS") & 1 << 19


@pytest.mark.conformance("H3-3")
@pytest.mark.conformance("H6.4-5")
def test_reset_restores_registers_but_not_pcie(rig: Rig) -> None:
    rig.program_msix(4)
    for name in ("RDBAL", "EIMS", "GPIE", "IVAR", "MRQC", "RXCTRL", "TDBAL", "FCTRL"):
        rig.write(name, 0x8080_8180)
    rig.write("RAL", 0x11111111)
    rig.write("RAL", 0x22222222, 3)
    rig.write("CTRL", 0x0400_0008)
    assert rig.read("CTRL") == 0
    for name in ("RDBAL", "EIMS", "GPIE", "IVAR", "MRQC", "RXCTRL", "TDBAL", "FCTRL", "EICR"):
        assert rig.read(name) == 0, name
    assert rig.read("RAL").to_bytes(4, "little") == MAC[:4]
    assert rig.read("RAH") == 1 << 31 | int.from_bytes(MAC[4:], "little")
    assert rig.read("RAH", 3) == 0
    assert rig.read("RXPBSIZE") == 0x80000
    assert rig.read("TXPBSIZE") == 0x28000
    assert rig.read("DCA_RXCTRL", 5) == 1 << 12
    assert rig.read("SRRCTL", 5) == 0x402
    assert rig.config(4, 2) == 6
    assert rig.config(0x72, 2) & 0xC000 == 0x8000
    assert rig.read_at(0x18, bar=4) == 0x21


@pytest.mark.conformance("H3-4")
def test_input_pins_ignore_writes(rig: Rig) -> None:
    before = rig.read("ESDP")
    assert before & 4
    rig.write("ESDP", before & ~4)
    assert rig.read("ESDP") == before
    rig.write("ESDP", before & ~4 | 0x400)  # as an output it takes the value
    assert not rig.read("ESDP") & 4


@pytest.mark.conformance("H4.3-1")
@pytest.mark.conformance("H6.4-4")
def test_eeprom_is_loaded_some_time_after_a_reset(rig: Rig) -> None:
    rig.write("CTRL", 1 << 26)
    assert not rig.read("EEC") & 1 << 9
    assert not rig.read("RDRXCTL") & 1 << 3
    rig.advance(100 * MS)
    eec = rig.read("EEC")
    assert eec & 1 << 9
    assert eec & 1 << 8
    assert 1 << ((eec >> 11 & 0xF) + 6) == 1 << 14
    assert rig.read("RDRXCTL") & 1 << 3


@pytest.mark.conformance("H4.3-2")
@pytest.mark.conformance("H4.3-3")
def test_checksum_read_through_eerd_is_what_linux_wants(rig: Rig) -> None:
    words = {w: eeprom_word(rig, w) for w in range(0x80)}
    assert words[0x2C] == 0x81
    total = sum(words[w] for w in range(0x40))
    for pointer in range(3, 0x0F):
        section = words[pointer]
        if section not in (0, 0xFFFF) and words[section] not in (0, 0xFFFF):
            total += sum(words[section + 1 + i] for i in range(words[section]))
    assert total & 0xFFFF == 0xBABA


@pytest.mark.conformance("H4.3-4")
def test_damage_inside_a_section_breaks_the_checksum() -> None:
    image = make_image(MAC)
    assert checksum_sum(image) == 0xBABA
    image[0x41] ^= 1
    assert checksum_sum(image) != 0xBABA


@pytest.mark.conformance("H4.3-5")
def test_second_eeprom_read_drops_done_first(rig: Rig) -> None:
    eeprom_word(rig, 0x2C)
    rig.write("EERD", 0x3F << 2 | 1)
    assert not rig.read("EERD") & 2
    rig.advance(1000)
    assert rig.read("EERD") & 2
    assert rig.read("EERD") >> 16 != 0x81


@pytest.mark.conformance("H5-1")
@pytest.mark.conformance("H5-2")
def test_software_semaphore_is_taken_by_reading(rig: Rig) -> None:
    assert rig.read("SWSM") & 1 == 0
    assert rig.read("SWSM") & 1 == 1
    rig.write("SWSM", 0)
    assert rig.read("SWSM") & 1 == 0
    rig.write("SWSM", 2)
    assert rig.read("SWSM") & 2


def test_absent_phy_module_and_firmware_look_absent(rig: Rig) -> None:
    rig.write("MSCA", 0x4C010008)
    assert not rig.read("MSCA") & 1 << 30
    assert rig.read("MSRWD") == 0xFFFF0000
    assert rig.read("I2CCTL") == 0xF
    rig.write("I2CCTL", 0x8)  # clock low, data released
    assert rig.read("I2CCTL") == 0xC
    assert rig.read("FWSM") == 0x8000
    assert rig.read("HICR") == 0


@pytest.mark.conformance("H18-1")
def test_flow_director_init_is_done_at_once(rig: Rig) -> None:
    rig.write("FDIRCTRL", 1)
    assert rig.read("FDIRCTRL") & 8
    rig.write("FDIRCMD", 1)
    assert rig.read("FDIRCMD") & 3 == 0


@pytest.mark.conformance("H6.4-7")
def test_transmit_queue_needs_the_transmit_dma_first(rig: Rig) -> None:
    rig.write("TXDCTL", 1 << 25)
    assert not rig.read("TXDCTL") & 1 << 25
    rig.write("DMATXCTL", 1)
    rig.write("TXDCTL", 1 << 25)
    assert rig.read("TXDCTL") & 1 << 25


def test_beyond_the_registers_is_an_absent_flash(rig: Rig) -> None:
    assert rig.read_at(0x20000) == 0xFFFFFFFF
    assert rig.page["unsupported_requests"] == 0
    assert rig.read_at(0x80000) == 0xFFFFFFFF
    assert rig.page["unsupported_requests"] == 1


@pytest.mark.conformance("H16.4-1")
def test_ixy_initialisation_finds_everything_it_polls_for() -> None:
    """The table of ixy.py's register conversation, with its endless polls made finite."""
    rig = Rig()
    rig.set_config(4, rig.config(4, 2) | 6)

    def poll(name: str, bits: int, wanted: int) -> None:
        for _ in range(1000):
            if rig.read(name) & bits == wanted:
                return
            rig.advance(10 * MS)
        raise AssertionError(f"{name} never showed {wanted:#x}")

    rig.write("EIMC", 0x7FFFFFFF)
    rig.write("CTRL", 0x04000008)
    poll("CTRL", 0x04000008, 0)
    rig.advance(10 * MS)
    rig.write("EIMC", 0x7FFFFFFF)
    poll("EEC", 0x200, 0x200)
    poll("RDRXCTL", 8, 8)
    rig.write("AUTOC", rig.read("AUTOC") & ~0xE000 | 0x6000)
    rig.write("AUTOC", rig.read("AUTOC") & ~0x180)
    rig.write("AUTOC", rig.read("AUTOC") | 0x1000)
    for name in ("GPRC", "GPTC", "GORCL", "GORCH", "GOTCL", "GOTCH"):
        assert rig.read(name) == 0
    rig.write("RXCTRL", rig.read("RXCTRL") & ~1)
    rig.write("RXPBSIZE", 0x20000)
    rig.write("HLREG0", rig.read("HLREG0") | 2)
    rig.write("RDRXCTL", rig.read("RDRXCTL") | 2)
    rig.write("FCTRL", rig.read("FCTRL") | 0x400)
    rig.write("SRRCTL", rig.read("SRRCTL") & ~0x0E000000 | 0x02000000)
    rig.write("SRRCTL", rig.read("SRRCTL") | 0x10000000)
    ring, buffers = rig.map(8192), rig.map(512 * 2048)
    rig.ram.bytes[ring : ring + 8192] = b"\xff" * 8192  # DD everywhere, as ixy leaves it
    for name, value in (("RDBAL", ring), ("RDBAH", 0), ("RDLEN", 8192), ("RDH", 0), ("RDT", 0)):
        rig.write(name, value)
    rig.write("CTRL_EXT", rig.read("CTRL_EXT") | 0x10000)
    rig.write("DCA_RXCTRL", rig.read("DCA_RXCTRL") & ~0x1000)
    rig.write("RXCTRL", rig.read("RXCTRL") | 1)
    rig.write("HLREG0", rig.read("HLREG0") | 0x401)
    rig.write("TXPBSIZE", 0xA000)
    rig.write("DTXMXSZRQ", 0xFFFF)
    rig.write("RTTDCS", rig.read("RTTDCS") & ~0x40)
    tx = rig.map(8192)
    for name, value in (("TDBAL", tx), ("TDBAH", 0), ("TDLEN", 8192)):
        rig.write(name, value)
    rig.write("TXDCTL", rig.read("TXDCTL") & ~0x3F3F3F | 0x00040824)
    rig.write("DMATXCTL", 1)
    for i in range(512):
        rig.ram.words64[ring // 8 + 2 * i] = buffers + i * 2048
        rig.ram.words64[ring // 8 + 2 * i + 1] = 0
    rig.write("RXDCTL", rig.read("RXDCTL") | 0x02000000)
    poll("RXDCTL", 0x02000000, 0x02000000)
    rig.write("RDH", 0)
    rig.write("RDT", 0x1FF)
    poll("RDT", 0x1FF, 0x1FF)
    rig.write("TDH", 0)
    rig.write("TDT", 0)
    rig.write("TXDCTL", rig.read("TXDCTL") | 0x02000000)
    poll("TXDCTL", 0x02000000, 0x02000000)
    rig.write("FCTRL", rig.read("FCTRL") | 0x300)
    poll("LINKS", 1 << 30, 1 << 30)
    assert rig.read("LINKS") >> 28 & 3 == 3
    # and traffic flows, without any interrupt set up and WTHRESH 4
    rig.wire(frame(64))
    assert rig.dwords(ring, 0)[2] & 3 == 3
    rig.put_tx(tx, 0, rig.map(2048), frame(64))
    assert len(rig.frames(rig.write("TDT", 1))) == 1
    assert rig.done(tx, 0)
