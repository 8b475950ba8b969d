"""MSI: one message by the request's edge, mask and pending bit, an aligned group of messages."""

from __future__ import annotations

import pytest

from bus.recorder import Recorder
from nodes.nic.configspace import ConfigSpace
from nodes.nic.msi import CONTROL, Msi
from tests.nodes.nic.rig import MAC, MS, Rig, frame

LSC = 1 << 20
MESSAGE = (0xFEE01000, 0x31)


@pytest.fixture
def rig() -> Rig:
    """MSI set up as Linux does, the device in legacy mode, LSC enabled."""
    rig = Rig()
    rig.enable()
    rig.link()
    rig.set_config(0x54, 0xFEE01000, 4)
    rig.set_config(0x58, 0, 4)
    rig.set_config(0x5C, 0x31, 2)
    rig.set_config(4, 0x406)
    rig.set_config(0x52, 1, 2)
    rig.write("EIMS", LSC)
    return rig


class Group:
    """The capability of a card that asks for eight messages."""

    def __init__(self, granted: int) -> None:
        rig = Rig()
        self.space = ConfigSpace(MAC)
        self.said: list[tuple[int, int]] = []
        self.msi = Msi(
            self.space,
            rig.page.words,
            Recorder(rig.ram.recorder_words("eth0")),
            lambda address, data: self.said.append((address, data)),
        )
        self.space.put(0x54, 0xFEE02000)
        self.space.put(0x5C, 0x40)
        self.space.put(CONTROL, 1 | 3 << 1 | granted << 4 | 1 << 7 | 1 << 8, 2)
        self.msi.set_allowed(True)


@pytest.mark.conformance("A2.2-1")
def test_message_number_replaces_the_low_bits_of_the_data() -> None:
    group = Group(granted=3)
    group.msi.message(5)
    assert group.said == [(0xFEE02000, 0x45)]


def test_messages_that_were_not_granted_share_the_ones_that_were() -> None:
    group = Group(granted=1)
    group.msi.message(5)
    group.msi.message(4)
    assert group.said == [(0xFEE02000, 0x41), (0xFEE02000, 0x40)]


@pytest.mark.conformance("A2.2-2")
def test_masked_message_is_pending_once_and_sent_once() -> None:
    group = Group(granted=3)
    group.space.put(0x60, 4)
    group.msi.message(2)
    group.msi.message(2)
    assert group.space.get(0x64, 4) == 4
    assert group.said == []
    group.space.put(0x60, 0)
    group.msi.release()
    group.msi.release()
    assert group.said == [(0xFEE02000, 0x42)]
    assert group.space.get(0x64, 4) == 0


def test_mask_bit_of_the_card_holds_its_message(rig: Rig) -> None:
    rig.set_config(0x60, 1, 4)
    assert rig.msis(rig.write("EICS", LSC)) == []
    assert rig.config(0x64) == 1
    assert rig.msis(rig.set_config(0x60, 0, 4)) == [MESSAGE]
    assert rig.config(0x64) == 0
    page = rig.page
    assert (page["msi_raised"], page["msi_out"], page["msi_pending"]) == (1, 1, 0)


def test_request_becomes_one_message_and_no_wire(rig: Rig) -> None:
    said = rig.write("EICS", LSC)
    assert rig.msis(said) == [MESSAGE]
    assert rig.wires(said) == []
    assert rig.msis(rig.write("EICS", LSC)) == []
    rig.read("EICR")
    assert rig.msis(rig.write("EICS", LSC)) == [MESSAGE]


def test_masking_in_the_device_and_unmasking_with_a_cause_left_is_a_new_edge(rig: Rig) -> None:
    rig.write("EICS", LSC)
    rig.write("EIMC", 0xFFFFFFFF)
    assert rig.msis(rig.write("EIMS", LSC)) == [MESSAGE]


def test_messages_of_the_one_request_are_moderated_by_eitr_0(rig: Rig) -> None:
    rig.rx_queue(0)
    rig.write("IVAR", 0x8083)
    rig.write("EIAM", 0xFFFF)
    rig.write("FCTRL", 0x400)
    rig.write("RXCTRL", 1)
    rig.write("EITR", 0x80000000 | 0x3D0, 0)
    rig.write("EIMS", 8)
    assert rig.msis(rig.wire(frame())) == [MESSAGE]
    start = rig.clock.ns
    assert rig.read("EICR") == 8
    assert rig.msis(rig.write("EIMS", 8)) == []
    assert rig.msis(rig.wire(frame())) == []
    assert rig.wake == start + 249856
    assert rig.msis(rig.advance(249855)) == []
    assert rig.msis(rig.advance(1)) == [MESSAGE]
    assert rig.msis(rig.advance(MS)) == []


def test_without_bus_mastering_the_message_waits(rig: Rig) -> None:
    rig.set_config(4, 2)
    assert rig.msis(rig.write("EICS", LSC)) == []
    assert rig.msis(rig.set_config(4, 6)) == [MESSAGE]


def test_msix_with_the_device_in_legacy_mode_speaks_through_vector_0(rig: Rig) -> None:
    rig.set_config(0x52, 0, 2)
    rig.program_msix(1)
    assert rig.vectors(rig.write("EICS", LSC)) == [0]
    assert rig.vectors(rig.write("EICS", LSC)) == []
