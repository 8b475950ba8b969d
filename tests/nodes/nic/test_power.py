"""A slot takes its power from the card and gives it again."""

from __future__ import annotations

from bus.messages import (
    CfgRead,
    CfgWrite,
    Completion,
    LinkState,
    MemRead,
    MemWrite,
    SlotPower,
)
from nodes.machine import APIC, LAN
from nodes.nic.configspace import AER
from tests.nodes.nic.rig import Rig, balanced, frame

RAL0 = 0xA200
ONES = 0xFFFFFFFF


def test_without_power_reads_are_all_ones_writes_vanish_and_the_laser_is_off() -> None:
    rig = Rig()
    rig.enable()
    said = rig.give((APIC, SlotPower(0)))
    assert [m.up for peer, m in said if peer == LAN and isinstance(m, LinkState)][-1] == 0
    said = rig.give(
        ("cpu0", MemWrite(0, RAL0, 0x1234)),
        ("cpu0", CfgWrite(1, 4, 2, 6)),
        ("cpu0", MemRead(2, 0, RAL0)),
        ("cpu0", CfgRead(3, 0, 2)),
    )
    answers = [message for _, message in said if isinstance(message, Completion)]
    assert answers == [Completion(1, 0), Completion(2, ONES), Completion(3, 0xFFFF)]
    balanced(rig)


def test_a_write_right_behind_the_loss_of_power_vanishes_too() -> None:
    rig = Rig()
    rig.enable()
    rig.give((APIC, SlotPower(0)), ("cpu0", MemWrite(0, RAL0, 0x1234)))
    assert rig.page["unsupported_requests"] == 0
    assert rig.page["mmio_writes"] > 0


def test_with_power_again_the_card_is_as_from_the_factory() -> None:
    rig = Rig()
    rig.enable()
    rig.give(("cpu0", MemWrite(0, RAL0, 0x1234)), ("cpu0", CfgWrite(1, AER + 8, 4, ONES)))
    rig.give((APIC, SlotPower(0)))
    said = rig.give((APIC, SlotPower(1)))
    assert [m.up for peer, m in said if peer == LAN and isinstance(m, LinkState)][-1] == 1
    said = rig.give(
        ("cpu0", CfgRead(1, 4, 2)),
        ("cpu0", CfgRead(2, AER + 8, 4)),  # sticky bits need power
        ("cpu0", MemRead(3, 0, RAL0)),  # memory is not decoded
    )
    answers = [message for _, message in said if isinstance(message, Completion)]
    assert answers == [Completion(1, 0), Completion(2, 0), Completion(3, ONES)]
    balanced(rig)


def test_frames_and_messages_that_were_under_way_end_with_a_name() -> None:
    rig = Rig()
    rig.up(itr=0xFF8)
    rig.rx_queue(fill=False)  # what comes waits in the packet buffer
    rig.wire(frame(), frame(), frame())
    rig.write("EIMC_EX", 0xFFFFFFFF, 0)
    rig.give((APIC, SlotPower(0)))
    rig.wire(frame())
    balanced(rig)
    assert rig.page.run("rx_frames_in")[0] == 4


def test_only_the_slot_can_do_that_and_only_function_0_is_there() -> None:
    rig = Rig()
    before = rig.page["unexpected"]
    rig.give(("cpu0", SlotPower(0)))
    assert rig.page["unexpected"] == before + 1
    assert rig.give(("cpu0", CfgRead(1, 0, 4, 1))) == [("cpu0", Completion(1, ONES))]
    assert rig.give(("cpu0", CfgRead(1, 0, 4))) != [("cpu0", Completion(1, ONES))]
