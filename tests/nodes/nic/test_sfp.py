"""The SFP+ cage: I2C by waveforms, modules' memory, presence, and what the link makes of it."""

from __future__ import annotations

import pytest

from nodes.nic import sfp
from nodes.nic.link import LOCK_NS, NEGOTIATION_NS
from tests.nodes.nic.hands import I2cHands, NoAckError
from tests.nodes.nic.rig import MS, Rig


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.enable()
    return rig


@pytest.mark.conformance("H7.6-5")
def test_bytes_come_through_waveforms_and_an_empty_cage_never_acknowledges(rig: Rig) -> None:
    hands = I2cHands(rig)
    assert hands.read(0xA0, 0) == b"\x03"
    assert hands.accesses > 300  # as a driver's log has it
    assert hands.read(0xA0, 0x25, 3) == bytes.fromhex("001b21")
    rig.device.link.set_module(None)
    with pytest.raises(NoAckError, match="a0"):
        hands.read(0xA0, 0)
    assert rig.read("I2CCTL") == 0xF  # let go of after the failure
    rig.device.link.set_module("sr")
    assert hands.read(0xA0, 3) == b"\x10"


def test_pins_are_open_drain(rig: Rig) -> None:
    assert rig.read("I2CCTL") == 0xF
    rig.write("I2CCTL", 0x8)  # clock low, data released
    assert rig.read("I2CCTL") == 0xC
    rig.write("I2CCTL", 0x2)
    assert rig.read("I2CCTL") == 0x3


@pytest.mark.parametrize("module", sfp.MODULES)
def test_a_whole_chip_reads_in_one_go_with_checksums_that_hold(rig: Rig, module: str) -> None:
    rig.device.link.set_module(module)
    image = I2cHands(rig).read(0xA0, 0, 256)
    assert sum(image[:63]) & 0xFF == image[63]
    assert sum(image[64:95]) & 0xFF == image[95]
    assert image[20:36].decode().strip() == "Bottomhalf"
    assert image[68:84].decode().strip() == "001B21000001"


def test_reading_wraps_at_the_end_of_a_chip_and_identity_cannot_be_written(rig: Rig) -> None:
    hands = I2cHands(rig)
    assert hands.read(0xA0, 255, 2) == b"\0\x03"
    with pytest.raises(NoAckError):
        hands.write(0xA0, 0, b"\x77")
    assert hands.read(0xA0, 0) == b"\x03"


def test_only_optics_have_diagnostics_and_received_power_follows_the_light(rig: Rig) -> None:
    hands = I2cHands(rig)
    with pytest.raises(NoAckError, match="a2"):
        hands.read(0xA2, 0)
    rig.device.link.set_module("lr")
    rig.device.light(True)
    image = hands.read(0xA2, 0, 256)
    assert sum(image[:95]) & 0xFF == image[95]
    assert int.from_bytes(image[104:106], "big") == 5000  # 0.5 mW
    rig.device.light(False)
    assert hands.read(0xA2, 104, 2) == b"\0\0"
    hands.write(0xA2, 118, b"\x08")
    assert hands.read(0xA2, 118) == b"\x08"


def test_a_start_in_the_middle_of_a_byte_begins_anew(rig: Rig) -> None:
    hands = I2cHands(rig)
    hands.start()
    for bit in (1, 0, 1):
        hands._bit_out(bit)
    assert hands.read(0xA0, 0) == b"\x03"


def test_a_reset_of_the_port_lets_go_of_the_bus(rig: Rig) -> None:
    hands = I2cHands(rig)
    hands.start()
    hands.send(0xA0)
    rig.write("CTRL", 1 << 26)
    assert rig.read("I2CCTL") == 0xF
    assert hands.read(0xA0, 0) == b"\x03"


def test_presence_pin_tells_and_interrupts_and_without_module_there_is_no_link(rig: Rig) -> None:
    rig.link()
    assert rig.read("ESDP") & 4
    rig.write("GPIE", 1 << 2)
    rig.device.link.set_module(None)
    rig.give()
    assert not rig.read("ESDP") & 4
    assert rig.read("LINKS") == 0
    assert rig.read("EICR") == 1 << 26 | 1 << 20
    rig.device.link.set_module("da")
    rig.give()
    assert rig.read("ESDP") & 4
    rig.advance(LOCK_NS)
    assert rig.read("LINKS") >> 28 == 7


def test_a_link_mode_of_1_gbit_does_not_understand_the_far_end(rig: Rig) -> None:
    rig.link()
    autoc = rig.read("AUTOC")
    rig.write("AUTOC", autoc & ~0xE000)
    assert rig.read("LINKS") >> 30  # takes effect with AN_RESTART only
    rig.write("AUTOC", autoc & ~0xE000 | 0x1000)
    rig.advance(NEGOTIATION_NS + 100 * MS)
    assert rig.read("LINKS") == 0
    rig.write("AUTOC", autoc | 0x1000)
    rig.advance(NEGOTIATION_NS)
    assert rig.read("LINKS") >> 28 == 7
