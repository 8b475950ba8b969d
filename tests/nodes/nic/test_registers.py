"""BAR0's table: addresses, aliases, masks, self-clearing bits, EEPROM, semaphores, pins."""

from __future__ import annotations

import pytest

from bus.messages import LinkState
from nodes.nic import registers
from nodes.nic.device import Device, Outside
from nodes.nic.eeprom import checksum_sum, make_image
from nodes.nic.registers import ACCESS, DECODE, TABLE
from tests.nodes.nic.hands import eeprom_word, give, take
from tests.nodes.nic.rig import MAC, MS, Rig, frame


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.enable()
    return rig


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
    assert words[0x2C] & 1
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
    assert rig.read("EERD") >> 16 != 1


@pytest.mark.conformance("H5-1")
@pytest.mark.conformance("H5-2")
def test_software_semaphore_is_taken_by_reading(rig: Rig) -> None:
    assert rig.read("SWSM") & 1 == 0
    assert rig.read("SWSM") & 1 == 1
    rig.write("SWSM", 0)
    assert rig.read("SWSM") & 1 == 0
    rig.write("SWSM", 2)
    assert rig.read("SWSM") & 2


@pytest.mark.conformance("H5-4")
def test_resource_that_firmware_owns_cannot_be_had_until_it_lets_go(rig: Rig) -> None:
    rig.device.semaphores.firmware_takes(1)
    assert rig.read("GSSR") == 1 << 5
    assert not take(rig, 1)
    assert take(rig, 2)  # another resource is free
    rig.device.semaphores.firmware_takes(0)
    assert take(rig, 1)
    assert rig.read("GSSR") == 3
    give(rig, 3)
    assert rig.read("GSSR") == 0


@pytest.mark.conformance("H3-1")
@pytest.mark.conformance("H5-3")
def test_ports_of_one_chip_share_its_semaphores_and_nothing_else(rig: Rig) -> None:
    chip: dict[int, int] = {}
    nowhere = Outside(*[lambda *_: None] * len(Outside._fields))
    words, recorder = memoryview(bytearray(16384)).cast("Q"), rig.device._recorder
    first, second = (
        Device(words, rig.device.dma, recorder, MAC, nowhere, port=port, chip=chip)
        for port in (0, 1)
    )
    gssr, status, gpie = (registers.address_of(name) for name in ("GSSR", "STATUS", "GPIE"))
    first.write32(gssr, 3)
    first.write32(gpie, 0x10)
    assert second.read32(gssr) == 3
    assert second.read32(gpie) == 0
    assert [port.read32(status) & 0xC for port in (first, second)] == [0, 4]
    second.write32(registers.address_of("CTRL"), 1 << 26)
    assert first.read32(gssr) == 3


def test_semaphore_that_firmware_holds_does_not_show_software_its_bit(rig: Rig) -> None:
    rig.device.semaphores.firmware_holds = True
    assert not take(rig, 1)
    rig.device.semaphores.firmware_holds = False
    assert take(rig, 1)


def test_semaphores_survive_a_port_reset_but_not_power_on(rig: Rig) -> None:
    take(rig, 2)
    rig.read("SWSM")
    rig.write("CTRL", 1 << 26)
    rig.set_config(0xA8, 0x8000)  # function level reset
    rig.enable()
    assert rig.read("GSSR") == 2
    assert rig.read("SWSM") == 1
    rig.device.power_on()
    assert rig.read("GSSR") == 0


def test_firmware_looks_absent(rig: Rig) -> None:
    assert rig.read("FWSM") == 0x8000
    for name in ("HICR", "MANC", "FACTPS", "MMNGC"):
        rig.write(name, 0xFFFFFFFF)
        assert rig.read(name) == 0


def mdio(rig: Rig, operation: int, port: int, device: int, address: int) -> None:
    rig.write("MSCA", 1 << 30 | operation << 26 | port << 21 | device << 16 | address)
    assert not rig.read("MSCA") & 1 << 30


@pytest.mark.conformance("H7.6-6")
def test_mdio_reads_what_a_phy_has_and_ones_where_there_is_none(rig: Rig) -> None:
    mdio(rig, 0, 3, 1, 8)
    mdio(rig, 3, 3, 1, 8)
    assert rig.read("MSRWD") >> 16 == 0xFFFF  # bits 15:14 are not 10b: nobody
    rig.device.mdio.phys[3, 1] = {8: 0x8000}
    mdio(rig, 0, 3, 1, 8)
    mdio(rig, 3, 3, 1, 8)
    assert rig.read("MSRWD") >> 16 == 0x8000
    mdio(rig, 3, 3, 2, 8)
    assert rig.read("MSRWD") >> 16 == 0xFFFF
    rig.write("MSRWD", 0x1234)
    mdio(rig, 0, 3, 1, 9)
    mdio(rig, 1, 3, 1, 9)
    mdio(rig, 0, 3, 1, 8)
    mdio(rig, 2, 3, 1, 8)  # reads 8, goes on to 9
    mdio(rig, 3, 3, 1, 8)
    assert rig.read("MSRWD") >> 16 == 0x1234


def test_part_number_is_a_string_block(rig: Rig) -> None:
    assert eeprom_word(rig, 0x15) == 0xFAFA
    block = eeprom_word(rig, 0x16)
    length = eeprom_word(rig, block)
    words = [eeprom_word(rig, block + 1 + i) for i in range(length - 1)]
    assert b"".join(w.to_bytes(2, "big") for w in words) == b"BH8259-001"


@pytest.mark.parametrize("kind", [3, 4, 5, 6])
def test_each_kind_of_module_has_its_initialisation_words(rig: Rig, kind: int) -> None:
    at = eeprom_word(rig, 0x2B) + 1
    while (found := eeprom_word(rig, at)) != kind:
        assert found != 0xFFFF, "the list ended"
        at += 2
    words = eeprom_word(rig, at + 1) + 1
    sent = 0
    while (word := eeprom_word(rig, words + sent)) != 0xFFFF:
        rig.write("CORECTL", word)
        sent += 1
    assert sent
    assert rig.read("CORECTL") == 0


def test_firmware_version_is_no_preproduction_one_and_there_is_no_lesm(rig: Rig) -> None:
    firmware = eeprom_word(rig, 0x0F)
    assert eeprom_word(rig, eeprom_word(rig, firmware + 4) + 7) > 5
    assert eeprom_word(rig, firmware + 2) == 0xFFFF


def test_eeprom_is_granted_and_a_word_can_be_written(rig: Rig) -> None:
    assert not rig.read("EEC") & 1 << 7
    rig.write("EEC", 1 << 6)
    assert rig.read("EEC") & 1 << 7
    rig.write("EEC", 0)
    assert not rig.read("EEC") & 1 << 7
    rig.write("EEWR", 0xBEEF << 16 | 0x200 << 2 | 1)
    assert rig.read("EEWR") & 2
    assert eeprom_word(rig, 0x200) == 0xBEEF


#: (register, elements, bits written, bits that must read back) of ``ethtool -t``'s register test.
ETHTOOL = [
    ("FCRTL", 1, 0x8007FFF0, 0x8007FFF0), ("FCRTH", 1, 0x8007FFF0, 0x8007FFF0),
    ("PFCTOP", 1, 0xFFFFFFFF, 0xFFFFFFFF), ("VLNCTRL", 1, 0, 0),
    ("RDBAL", 4, 0xFFFFFF80, 0xFFFFFF80), ("RDBAH", 4, 0xFFFFFFFF, 0xFFFFFFFF),
    ("RDLEN", 4, 0x000FFFFF, 0x000FFF80), ("RDT", 4, 0x0000FFFF, 0x0000FFFF),
    ("TDBAL", 4, 0xFFFFFFFF, 0xFFFFFF80), ("TDBAH", 4, 0xFFFFFFFF, 0xFFFFFFFF),
    ("TDLEN", 4, 0x000FFF80, 0x000FFF80), ("RXCTRL", 1, 1, 1),
    ("RAL", 16, 0xFFFFFFFF, 0xFFFFFFFF), ("RAH", 16, 0x800CFFFF, 0x8001FFFF),
    ("MTA", 128, 0xFFFFFFFF, 0xFFFFFFFF),
]  # fmt: skip


@pytest.mark.parametrize(("name", "count", "write", "mask"), ETHTOOL)
def test_ethtool_register_test(rig: Rig, name: str, count: int, write: int, mask: int) -> None:
    """Queues are enabled while tails are tried; the device must bear the garbage in their bases."""
    for q in range(4):
        rig.write("RXDCTL", 1 << 25, q)
    for index in range(count):
        before = rig.read(name, index)
        for pattern in (0x5A5A5A5A, 0xA5A5A5A5, 0x00000000, 0xFFFFFFFF):
            rig.write(name, pattern & write, index)
            assert rig.read(name, index) == pattern & write & mask
            rig.write(name, before, index)


def test_ethtool_toggles_status_in_vain(rig: Rig) -> None:
    before = rig.read("STATUS")
    rig.write("STATUS", 0xFFFFFFFF)
    assert rig.read("STATUS") == before


@pytest.mark.parametrize("how", ["CTRL.RST", "CTRL.LNK_RST", "FLR", "D3hot"])
def test_after_any_reset_every_register_reads_as_after_power_on(rig: Rig, how: str) -> None:
    rig.link()
    rig.advance(100 * MS)
    rig.read("EICR")
    passing = ("FRTIMER", "LINKS")
    offsets = [o for o, slot in DECODE.items() if slot.register.name not in passing]
    expected = {o: rig.device.peek32(o) for o in offsets if not DECODE[o].register.survives}
    for offset in expected:
        if DECODE[offset].register.name not in ("CTRL", "EEWR"):
            rig.write_at(offset, 0xA5A5_A5A5)
    changed = sum(rig.device.peek32(o) != v for o, v in expected.items())
    assert changed > len(expected) // 2
    if how.startswith("CTRL"):
        rig.write("CTRL", 1 << (26 if how == "CTRL.RST" else 3))
    elif how == "FLR":
        rig.set_config(0xA8, 0x8000)
    else:
        rig.set_config(0x44, 3)
        rig.set_config(0x44, 0)
    rig.enable()
    rig.give()
    rig.advance(100 * MS)
    for name in ("EICR", "MLFC"):  # the link may have gone and come
        rig.read(name)
    for offset, value in expected.items():
        assert rig.device.peek32(offset) == value, registers.name_of(offset)


def test_looking_changes_nothing(rig: Rig) -> None:
    rig.link()
    rig.give(("lan", LinkState(0, 10000)))
    before = {offset: rig.device.peek32(offset) for offset in DECODE}
    assert {offset: rig.device.peek32(offset) for offset in DECODE} == before
    assert before[registers.address_of("eicr")] == 1 << 20
    assert before[registers.address_of("MLFC")] == 1
    assert rig.read("MLFC") == 1
    assert rig.device.peek32(registers.address_of("MLFC")) == 0


def test_names_and_fields_of_a_register() -> None:
    assert registers.address_of("RDT[3]") == 0x10D8
    assert registers.address_of("0x42a0") == 0x42A0
    with pytest.raises(KeyError):
        registers.address_of("RDT[128]")
    fields = registers.decode(registers.address_of("LINKS"), 0x70000080)
    assert [(f.name, value, text) for f, value, text in fields] == [
        ("UP", 1, ""), ("SPEED", 3, "10G"), ("UP_COPY", 1, ""),
    ]  # fmt: skip
    assert registers.decode(0x08F00, 1) == []


def test_fields_do_not_overlap() -> None:
    for register in TABLE:
        used = 0
        for field in register.fields:
            bits = (1 << field.high + 1) - (1 << field.low)
            assert 0 <= field.low <= field.high <= 31
            assert not used & bits, f"{register.name}.{field.name}"
            used |= bits


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
