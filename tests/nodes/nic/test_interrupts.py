"""EICR, EIMS, EIAC, EIAM, EITR, IVAR: section 8.6 of the register facts, and the EITR table."""

from __future__ import annotations

import pytest

from tests.nodes.nic.rig import MS, Rig, frame


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.enable()
    rig.link()
    return rig


def msix(itr: int = 0, queues: int = 2) -> Rig:
    """Up as Linux does, with receive queues 0 and a frame at hand."""
    rig = Rig()
    rig.up(queues=queues, itr=itr)
    rig.rx_queue(0)
    return rig


@pytest.mark.conformance("H8.6-1")
def test_mask_is_set_and_cleared_bit_by_bit(rig: Rig) -> None:
    rig.write("EIMS", 0x10)
    rig.write("EIMS", 0x20)
    assert rig.read("EIMS") == 0x30
    rig.write("EIMC", 0x10)
    assert rig.read("EIMS") == 0x20
    rig.write("EIMS", 0)
    assert rig.read("EIMS") == 0x20
    assert rig.read("EIMC") == 0x20


@pytest.mark.conformance("H8.6-2")
@pytest.mark.conformance("H7.6-4")
def test_legacy_cause_latches_while_masked_and_reading_releases_the_line(rig: Rig) -> None:
    rig.write("EICS", 1 << 20)
    assert rig.read("EICS") == 1 << 20
    assert not rig.config(6, 2) & 8
    rig.write("EIMS", 1 << 20)
    assert rig.config(6, 2) & 8
    assert rig.read("EICR") == 1 << 20
    assert rig.read("EICR") == 0
    assert not rig.config(6, 2) & 8


@pytest.mark.conformance("H8.6-3")
def test_legacy_auto_mask_holds_the_next_queue_cause(rig: Rig) -> None:
    rig.rx_queue(0)
    rig.write("EIAM", 0xFFFF)
    rig.write("IVAR", 0x8080)
    rig.write("FCTRL", 0x400)
    rig.write("RXCTRL", 1)
    rig.write("EIMS", 1)
    rig.wire(frame())
    assert rig.config(6, 2) & 8
    assert rig.read("EICR") == 1
    assert rig.read("EIMS") == 0
    rig.wire(frame())
    assert rig.read("EICS") == 1
    assert not rig.config(6, 2) & 8
    rig.write("EIMS", 1)
    assert rig.config(6, 2) & 8


def test_legacy_request_becomes_one_msi_message(rig: Rig) -> None:
    rig.set_config(0x54, 0xFEE01000, 4)
    rig.set_config(0x5C, 0x31, 2)
    rig.set_config(0x52, 1, 2)
    rig.write("EIMS", 1 << 20)
    assert rig.msis(rig.write("EICS", 1 << 20)) == [(0xFEE01000, 0x31)]
    assert rig.msis(rig.write("EICS", 1 << 20)) == []
    rig.read("EICR")
    assert rig.msis(rig.write("EICS", 1 << 20)) == [(0xFEE01000, 0x31)]


@pytest.mark.conformance("H8.6-4")
def test_auto_clear_at_emission_and_one_message_for_a_moderated_burst() -> None:
    rig = msix(itr=0x28)
    rig.write("EIAM_EX", 0)
    assert rig.vectors(rig.wire(frame())) == [0]
    assert rig.read("EICS") & 1 == 0
    for _ in range(3):
        assert rig.vectors(rig.wire(frame())) == []
    assert rig.read("EICS") & 1 == 1
    assert rig.vectors(rig.advance(10239)) == []
    assert rig.vectors(rig.advance(1)) == [0]
    assert rig.vectors(rig.advance(1 * MS)) == []
    assert rig.read("EICS") & 1 == 0


@pytest.mark.conformance("H8.6-5")
def test_auto_masked_cause_goes_out_at_the_unmasking_write() -> None:
    rig = msix()
    assert rig.vectors(rig.wire(frame())) == [0]
    assert rig.read("EIMS_EX") & 1 == 0
    assert rig.read("EIMS_EX") & 2 == 2
    assert rig.vectors(rig.wire(frame())) == []
    assert rig.read("EICS") & 1 == 1
    assert rig.vectors(rig.write("EIMS_EX", 1)) == [0]


@pytest.mark.conformance("H8.6-6")
def test_other_clear_disable_keeps_queue_causes(rig: Rig) -> None:
    rig.write("GPIE", 0x30)
    rig.write("EICS", 1 << 20 | 1)
    assert rig.read("EICR") & ~(1 << 31) == 1 << 20 | 1
    assert rig.read("EICS") == 1


@pytest.mark.conformance("H8.6-7")
def test_reading_eics_changes_nothing(rig: Rig) -> None:
    rig.write("EICS", 1 << 20 | 5)
    assert rig.read("EICS") == rig.read("EICS") == 1 << 20 | 5


@pytest.mark.conformance("H8.6-8")
def test_counter_is_left_alone_or_loaded_by_the_write() -> None:
    rig = msix(itr=0xC8)
    rig.write("EIAM_EX", 0)
    rig.wire(frame())
    assert rig.vectors(rig.wire(frame())) == []
    assert rig.vectors(rig.write("EITR", 0x80000008)) == []  # CNT_WDIS: the wait goes on
    assert rig.vectors(rig.write("EITR", 0x00000008)) == [0]


@pytest.mark.conformance("H8.6-9")
def test_queue_without_a_valid_entry_never_interrupts() -> None:
    rig = msix()
    rig.write("IVAR", 0)
    ring = rig.device.receive.queue(0).base
    assert rig.vectors(rig.wire(frame())) == []
    assert rig.dwords(ring, 0)[2] & 1
    assert rig.read("EICS") & 0xFFFF == 0


@pytest.mark.conformance("H8.6-10")
def test_vectors_above_31_have_their_own_registers() -> None:
    rig = msix()
    rig.write("EIMS_EX", 1 << 3, 1)
    assert rig.vectors(rig.write("EICS_EX", 1 << 3, 1)) == [35]
    assert rig.read("EICS_EX", 1) == 0  # above 15 always auto-cleared


@pytest.mark.conformance("H8.6-11")
def test_other_cause_without_a_valid_entry_stays_latched() -> None:
    rig = msix()
    rig.write("IVAR_MISC", 0)
    assert rig.msis(rig.write("EICS", 1 << 20)) == []
    assert rig.read("EICS") == 1 << 20


def test_other_cause_goes_to_its_vector_once_until_cleared() -> None:
    rig = msix()
    assert rig.vectors(rig.write("EICS", 1 << 20)) == [2]
    assert rig.vectors(rig.write("EICS", 1 << 20)) == []
    assert rig.read("EICS") == 1 << 20
    rig.write("EICR", 1 << 20)
    assert rig.read("EICS") == 0
    assert rig.vectors(rig.write("EICS", 1 << 20)) == [2]


def test_masked_other_cause_goes_out_when_unmasked() -> None:
    rig = msix()
    rig.write("EIMC", 1 << 20)
    assert rig.vectors(rig.write("EICS", 1 << 20)) == []
    assert rig.vectors(rig.write("EIMS", 1 << 20)) == [2]


@pytest.mark.conformance("H17.3-1")
def test_enabling_the_summary_bit_alone_enables_nothing_else(rig: Rig) -> None:
    rig.write("EIMS", 0x80000000)
    assert rig.read("EIMS") == 0x80000000
    rig.write("EICS", 1 << 20)
    assert not rig.config(6, 2) & 8


def test_without_auto_clear_a_second_message_needs_a_second_edge() -> None:
    rig = msix()
    rig.write("EIAC", 0)
    rig.write("EIAM_EX", 0)
    assert rig.vectors(rig.wire(frame())) == [0]
    assert rig.vectors(rig.wire(frame())) == []
    rig.write("EICR", 1)
    assert rig.vectors(rig.wire(frame())) == [0]


def test_mask_during_the_wait_keeps_the_cause_for_later() -> None:
    rig = msix(itr=0xC8)
    rig.write("EIAM_EX", 0)
    rig.wire(frame())
    rig.wire(frame())
    rig.write("EIMC_EX", 1)
    assert rig.vectors(rig.advance(1 * MS)) == []
    assert rig.vectors(rig.write("EIMS_EX", 1)) == [0]


@pytest.mark.parametrize(
    ("raw", "interval_ns"),
    [
        (0x000, 0), (0x008, 2048), (0x028, 10240), (0x0C8, 51200), (0x3D0, 249856),
        (0x79E, 497664), (0xFF8, 1046528),
    ],
)  # fmt: skip
def test_interval_table(raw: int, interval_ns: int) -> None:
    rig = msix(itr=raw)
    rig.write("EIAM_EX", 0)
    rig.wire(frame())
    first = rig.clock.ns
    said = rig.wire(frame())
    if interval_ns == 0:
        assert rig.vectors(said) == [0]
        return
    assert rig.vectors(said) == []
    assert rig.wake == first + interval_ns
    assert rig.vectors(rig.advance(interval_ns - 1)) == []
    assert rig.vectors(rig.advance(1)) == [0]


def test_worked_trace_of_auto_mask_with_moderation() -> None:
    """The timeline of the reference facts, section 9: three packets, ITR 10.24 us."""
    rig = msix(itr=0x28)
    start = rig.clock.ns

    def at(microseconds: float) -> list[int]:
        return rig.vectors(rig.advance(start + round(microseconds * 1000) - rig.clock.ns))

    assert rig.vectors(rig.wire(frame())) == [0]  # t = 0: message 1
    assert at(1) == []
    assert rig.vectors(rig.wire(frame())) == []  # masked
    assert at(5) == []
    assert rig.vectors(rig.write("EIMS_EX", 1)) == []  # pending, the counter runs
    assert at(10.23) == []
    assert at(10.24) == [0]  # message 2
    assert at(12) == []
    assert rig.vectors(rig.wire(frame())) == []
    assert at(15) == []
    assert rig.vectors(rig.write("EIMS_EX", 1)) == []
    assert at(20.47) == []
    assert at(20.48) == [0]  # message 3


def test_every_cause_and_message_is_counted_by_vector() -> None:
    rig = msix(itr=0x28)
    for _ in range(3):
        rig.wire(frame())
    rig.write("EIMS_EX", 1)
    rig.advance(1 * MS)
    assert rig.page.run("causes")[0] == 3
    assert rig.page.run("msi_by_vector")[0] == 2
    assert rig.page.run("moderated")[0] == 1
    assert rig.page.run("itr_ns")[:2] == [10240, 10240]


@pytest.mark.conformance("H6.4-2")
def test_master_disable_stops_messages_and_dma() -> None:
    rig = msix()
    ring = rig.tx_queue()
    rig.put_tx(ring, 0, rig.map(2048), frame())
    rig.write("CTRL", 4)
    assert rig.write("TDT", 1) == []
    assert rig.wire(frame()) == []
    assert not rig.done(ring, 0)
    assert rig.page["msi_raised"] == 0
    assert rig.page.run("rx_buffered") == [1, 0, 0]


@pytest.mark.conformance("A1.3-1")
def test_cause_survives_while_bus_mastering_is_off() -> None:
    rig = msix()
    rig.set_config(4, 2)
    assert rig.msis(rig.write("EICS", 1 << 20)) == []
    assert rig.read("EICS") == 1 << 20
    assert rig.vectors(rig.set_config(4, 6)) == [2]


def test_legacy_set_enables_what_auto_mask_would_mask(rig: Rig) -> None:
    """As Linux saw the hardware do, and why it does not set such causes in legacy mode."""
    rig.write("EIAM", 1)
    rig.write("EICS", 3)
    assert rig.read("EIMS") == 1


def test_legacy_clearing_by_writing_ones_masks_as_reading_does(rig: Rig) -> None:
    rig.write("EIAM", 0xFFFF)
    rig.write("EIMS", 3)
    rig.write("EICS", 2)
    rig.write("EICR", 2)
    assert rig.read("EIMS") == 0


def test_immediate_set_bypasses_moderation() -> None:
    rig = msix(itr=0xFF8)
    rig.write("EIAM_EX", 0)
    rig.wire(frame())
    assert rig.vectors(rig.write("EICS_EX", 1)) == []
    rig.write("GPIE", 0xC0000076)  # EIMEN
    assert rig.vectors(rig.write("EICS_EX", 1)) == [0]


def test_counter_can_be_read_and_loaded() -> None:
    rig = msix(itr=0x3D0)
    rig.wire(frame())
    value = rig.read("EITR")
    assert value & 0xFF8 == 0x3D0
    assert value >> 21 & 0x7F == 122 >> 2
    rig.write("EIAM_EX", 0)
    rig.write("EIMS_EX", 1)
    rig.write("EITR", 2 << 21 | 0x3D0)  # eight units of 2.048 us from now
    rig.wire(frame())
    assert rig.wake == rig.clock.ns + 8 * 2048


def test_masking_a_vector_clears_its_pending_bit_with_pba_support() -> None:
    rig = msix()
    rig.write_at(12, 1, bar=4)
    rig.wire(frame())
    assert rig.read_at(0x2000, bar=4) == 1
    rig.write("EIMC_EX", 1)
    assert rig.read_at(0x2000, bar=4) == 0
    assert rig.page["msi_cleared"] == 1


def test_pending_bit_outlives_masking_without_pba_support() -> None:
    rig = msix()
    rig.write("GPIE", 0x40000036)
    rig.write_at(12, 1, bar=4)
    rig.wire(frame())
    rig.write("EIMC_EX", 1)
    assert rig.read_at(0x2000, bar=4) == 1
    rig.write("PBACL", 1)
    assert rig.read_at(0x2000, bar=4) == 0
