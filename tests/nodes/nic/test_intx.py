"""INTx: the request as a level on a virtual wire, and what holds the wire down."""

from __future__ import annotations

from typing import Any

import pytest

from bus.messages import IntxMessage
from tests.nodes.nic.rig import Rig, frame

LSC = 1 << 20
ASSERT, DEASSERT = [(1, 1)], [(1, 0)]


@pytest.fixture
def rig() -> Rig:
    """A device in legacy mode with memory decode, LSC enabled."""
    rig = Rig()
    rig.enable()
    rig.link()
    rig.write("EIMS", LSC)
    return rig


def status(rig: Rig) -> int:
    return rig.config(6, 2) >> 3 & 1


def said_by(rig: Rig, *calls: Any) -> list[tuple[int, int]]:
    """Wire messages of several accesses in a row."""
    before = len(rig.said)
    for call in calls:
        call()
    return rig.wires(rig.said[before:])


def test_wire_rises_with_the_request_and_falls_when_the_cause_is_read(rig: Rig) -> None:
    said = rig.write("EICS", LSC)
    assert rig.wires(said) == ASSERT
    assert rig.msis(said) == []
    assert rig.wires(rig.write("EICS", LSC | 1)) == []
    assert said_by(rig, lambda: rig.read("EICR")) == DEASSERT
    page = rig.page
    assert (page["intx_asserts"], page["intx_deasserts"]) == (1, 1)


def test_one_of_two_causes_keeps_the_wire_up(rig: Rig) -> None:
    rig.write("EIMS", 1)
    rig.write("EICS", LSC | 1)
    assert rig.wires(rig.write("EICR", LSC)) == []
    assert rig.wires(rig.write("EICR", 1)) == DEASSERT


@pytest.mark.conformance("A1.5-2")
def test_status_follows_the_request_while_the_wire_is_disabled(rig: Rig) -> None:
    rig.write("EICS", LSC)
    assert rig.wires(rig.set_config(4, 0x406)) == DEASSERT
    assert status(rig) == 1
    assert said_by(rig, lambda: rig.read("EICR")) == []
    assert status(rig) == 0
    rig.write("EICS", LSC)
    assert status(rig) == 1
    assert rig.wires(rig.set_config(4, 0x006)) == ASSERT


@pytest.mark.parametrize("control", [0x52, 0x72], ids=["MSI", "MSI-X"])
def test_messages_take_the_place_of_the_wire(rig: Rig, control: int) -> None:
    rig.write("EICS", LSC)
    enable = 1 if control == 0x52 else 0x8000
    assert rig.wires(rig.set_config(control, enable)) == DEASSERT
    assert rig.wires(rig.set_config(control, 0)) == ASSERT


def test_wire_needs_no_bus_mastering(rig: Rig) -> None:
    rig.set_config(4, 2)
    assert rig.wires(rig.write("EICS", LSC)) == ASSERT


def test_wire_is_silent_in_d3hot_and_after_it(rig: Rig) -> None:
    rig.write("EICS", LSC)
    assert rig.wires(rig.set_config(0x44, 3)) == DEASSERT
    assert rig.wires(rig.set_config(0x44, 0)) == []
    assert status(rig) == 0


@pytest.mark.parametrize("reset", ["CTRL.RST", "FLR"])
def test_reset_lets_the_wire_fall(rig: Rig, reset: str) -> None:
    rig.write("EICS", LSC)
    said = rig.write("CTRL", 1 << 26) if reset == "CTRL.RST" else rig.set_config(0xA8, 0x8000)
    assert rig.wires(said) == DEASSERT
    assert status(rig) == 0


def test_msix_mode_of_the_device_takes_the_request_away(rig: Rig) -> None:
    rig.write("EICS", LSC)
    assert rig.wires(rig.write("GPIE", 0x10)) == DEASSERT


def test_legacy_handler_as_linux_has_it(rig: Rig) -> None:
    """EIMC all, read EICR, NAPI, EIMS again: a frame that came meanwhile raises the wire anew."""
    rig.rx_queue(0)
    rig.write("EIAM", 0xFFFF)
    rig.write("IVAR", 0x8080)
    rig.write("FCTRL", 0x400)
    rig.write("RXCTRL", 1)
    rig.write("EIMS", 1)
    assert rig.wires(rig.wire(frame())) == ASSERT
    assert rig.wires(rig.write("EIMC", 0xFFFFFFFF)) == DEASSERT
    assert rig.read("EICR") == 1
    assert rig.read("EICR") == 0
    assert rig.wires(rig.wire(frame())) == []
    assert rig.wires(rig.write("EIMS_EX", 1)) == ASSERT


def test_wire_waits_for_eitr_0_and_falls_at_once(rig: Rig) -> None:
    rig.write("EITR", 0x80000000 | 0x28, 0)
    assert rig.wires(rig.write("EICS", LSC)) == ASSERT
    assert said_by(rig, lambda: rig.read("EICR")) == DEASSERT
    assert rig.wires(rig.write("EICS", LSC)) == []
    assert rig.wires(rig.advance(10240)) == ASSERT


def test_level_that_nobody_took_is_counted(rig: Rig) -> None:
    rig.nic.undelivered("apic", [IntxMessage(1, 1)], True)
    rig.nic.undelivered("apic", [IntxMessage(1, 0)], False)
    page = rig.page
    assert (page["intx_lost_peer_dead"], page["intx_lost_peer_full"]) == (1, 1)
