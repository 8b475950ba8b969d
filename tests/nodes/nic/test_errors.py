"""AER: what unsupported requests, aborted and unanswered reads leave behind."""

from __future__ import annotations

import pytest

from tests.nodes.nic.rig import Rig, frame

ALL = 0xFFFFFFFF
STATUS, MASK, SEVERITY, COR_STATUS, COR_MASK, CONTROL, HEADER = range(0x104, 0x120, 4)
DEVCTL, DEVSTA = 0xA8, 0xAA
UR, TIMEOUT = 1 << 20, 1 << 14
BASE = 0xFEA80000


@pytest.fixture
def rig() -> Rig:
    """BARs placed, memory decode off."""
    rig = Rig()
    rig.set_config(0x10, BASE, 4)
    return rig


@pytest.mark.conformance("A11.3-1")
def test_posted_write_to_nobody_is_a_non_fatal_unsupported_request(rig: Rig) -> None:
    rig.write_at(0x5800, 7)
    assert rig.config(DEVSTA, 2) & 0xF == 0b1010  # non-fatal, unsupported request
    assert rig.config(STATUS) == UR
    assert rig.config(CONTROL) & 0x1F == 20
    assert [rig.config(HEADER + 4 * i) for i in range(4)] == [0x40000001, 0xF, BASE + 0x5800, 0]
    assert rig.config(COR_STATUS) == 0


@pytest.mark.conformance("A11.3-2")
@pytest.mark.conformance("A2.5-3")
def test_error_bits_stay_after_the_message_until_ones_are_written(rig: Rig) -> None:
    rig.set_config(DEVCTL, 0x281F)
    rig.write_at(0, 0)
    assert rig.page["err_nonfatal"] == 1
    assert rig.config(STATUS) == UR
    rig.set_config(STATUS, ~UR & ALL, 4)
    assert rig.config(STATUS) == UR
    rig.set_config(STATUS, UR, 4)
    assert rig.config(STATUS) == 0
    assert rig.config(DEVSTA, 2) & 0xF == 0b1010
    rig.set_config(DEVSTA, 0xF)
    assert rig.config(DEVSTA, 2) & 0xF == 0


def test_unsupported_read_is_advisory_as_its_answer_tells(rig: Rig) -> None:
    assert rig.read_at(8) == ALL
    assert rig.config(DEVSTA, 2) & 0xF == 0b1001  # correctable, unsupported request
    assert rig.config(COR_STATUS) == 1 << 13
    assert rig.config(STATUS) == 0  # advisory errors are masked after power-on
    rig.set_config(COR_MASK, 0, 4)
    rig.set_config(DEVCTL, 0x2819)
    rig.read_at(8)
    assert rig.config(STATUS) == UR
    assert rig.config(HEADER) == 1
    assert (rig.page["err_cor"], rig.page["err_nonfatal"]) == (1, 0)


def test_severity_makes_it_fatal_whether_it_was_posted_or_not(rig: Rig) -> None:
    rig.set_config(SEVERITY, UR, 4)
    rig.set_config(DEVCTL, 0x281C)
    rig.read_at(8)
    assert rig.config(DEVSTA, 2) & 0xF == 0b1100
    assert (rig.page["err_fatal"], rig.page["err_cor"]) == (1, 0)


def test_masked_error_sets_its_bit_and_nothing_else(rig: Rig) -> None:
    rig.set_config(MASK, UR, 4)
    rig.set_config(DEVCTL, 0x281F)
    rig.write_at(0, 0)
    assert rig.config(STATUS) == UR
    assert rig.config(CONTROL) & 0x1F == 0
    assert rig.config(HEADER) == 0
    assert rig.page["err_nonfatal"] == 0


def test_header_of_the_first_error_stands_until_that_is_cleared(rig: Rig) -> None:
    rig.write_at(0x10, 0)
    rig.write_at(0x20, 0)
    assert rig.config(HEADER + 8) == BASE + 0x10
    rig.set_config(STATUS, UR, 4)
    rig.write_at(0x30, 0)
    assert rig.config(HEADER + 8) == BASE + 0x30


def test_header_of_a_64_bit_address_has_four_words(rig: Rig) -> None:
    rig.set_config(0x14, 0x38, 4)
    rig.write_at(0x10, 0)
    assert [rig.config(HEADER + 4 * i) for i in range(4)] == [0x60000001, 0xF, 0x38, BASE + 0x10]


def test_serr_reports_without_device_control_and_says_so_in_status(rig: Rig) -> None:
    rig.write_at(0, 0)
    assert rig.page["err_nonfatal"] == 0
    rig.set_config(4, 0x100)
    rig.write_at(0, 0)
    assert rig.page["err_nonfatal"] == 1
    assert rig.config(6, 2) & 1 << 14
    rig.set_config(6, 1 << 14)
    assert not rig.config(6, 2) & 1 << 14


def test_unanswered_read_is_a_completion_timeout_without_a_header(rig: Rig) -> None:
    rig.nic.function.aer.completion_timeout()
    assert rig.config(STATUS) == TIMEOUT
    assert rig.config(DEVSTA, 2) & 0xF == 0b0010
    assert rig.config(CONTROL) & 0x1F == 14
    assert rig.config(HEADER) == 0


def test_refused_dma_read_is_a_received_master_abort_and_a_refused_write_is_not() -> None:
    rig = Rig()
    rig.up()
    rig.rx_queue(0)
    rig.ram.iommu(0).unmap(rig.device.receive.queue(0).base + 8192)  # the buffers
    rig.wire(frame())
    assert rig.page["dma_refused"] == 1
    assert not rig.config(6, 2) & 1 << 13
    ring = rig.tx_queue()
    rig.put_tx(ring, 0, rig.dma, frame())
    rig.ram.words64[ring // 8] = rig.ram.layout.total_bytes - 4096
    rig.write("TDT", 1)
    assert rig.page["tx_dma_refused"] == 1
    assert rig.config(6, 2) & 1 << 13
    assert rig.config(STATUS) == 0  # no error of the requester's


def test_error_words_survive_a_reset_of_the_function(rig: Rig) -> None:
    rig.set_config(MASK, TIMEOUT, 4)
    rig.write_at(0, 0)
    rig.set_config(DEVCTL, 0x8000)
    assert rig.config(STATUS) == UR
    assert rig.config(MASK) == TIMEOUT
    assert rig.config(CONTROL) & 0x1F == 20
    assert rig.config(DEVSTA, 2) & 0xF == 0
