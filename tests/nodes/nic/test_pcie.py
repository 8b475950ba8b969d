"""PCIe function: configuration space, BARs, MSI-X table and pending bits, resets."""

from __future__ import annotations

import pytest

from bus.recorder import Recorder
from nodes.nic.pending import PendingBits
from tests.nodes.nic.rig import MS, Rig, frame

ALL = 0xFFFFFFFF


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.conformance("H1.5-1")
@pytest.mark.conformance("H1.5-2")
@pytest.mark.conformance("A1.4-1")
@pytest.mark.parametrize(
    ("offset", "size"), [(0x10, 0x80000), (0x20, 0x4000)], ids=["BAR0", "BAR4"]
)
def test_bar_sizing(rig: Rig, offset: int, size: int) -> None:
    rig.set_config(offset, ALL, 4)
    low = rig.config(offset)
    assert low & 0xF in (0x4, 0xC)
    assert (~(low & ~0xF) & ALL) + 1 == size
    rig.set_config(offset + 4, ALL, 4)
    assert rig.config(offset + 4) == ALL
    rig.set_config(offset, 0xFEA80000, 4)
    assert rig.config(offset) == 0xFEA80000 | low & 0xF


@pytest.mark.conformance("H1.5-3")
def test_msix_control_has_two_writable_bits(rig: Rig) -> None:
    assert rig.config(0x72, 2) & 0x7FF == 0x3F
    rig.set_config(0x72, 0xFFFF)
    assert rig.config(0x72, 2) == 0xC03F
    rig.set_config(0x72, 0)
    assert rig.config(0x72, 2) == 0x003F
    assert rig.config(0x74) == 4
    assert rig.config(0x78) == 0x2004


@pytest.mark.conformance("H1.5-4")
@pytest.mark.conformance("A1.3-2")
def test_without_memory_decode_reads_are_all_ones_and_writes_vanish(rig: Rig) -> None:
    assert rig.read("STATUS") == ALL
    rig.enable()
    rig.write("WUC", 0x1234)
    rig.set_config(4, 4)
    rig.write("WUC", 0x5678)
    assert rig.read("WUC") == ALL
    rig.set_config(4, 6)
    assert rig.read("WUC") == 0x1234
    assert rig.page["unsupported_requests"] == 3


@pytest.mark.conformance("A1.3-3")
def test_only_defined_command_bits_stick(rig: Rig) -> None:
    rig.set_config(4, 0xFFFF)
    assert rig.config(4, 2) == 0x0547


@pytest.mark.conformance("A1.6-1")
@pytest.mark.conformance("A2.5-1")
def test_capability_chains_end_and_name_what_they_should(rig: Rig) -> None:
    at, found = rig.config(0x34, 1), []
    while at:
        found.append((at, rig.config(at, 1)))
        at = rig.config(at + 1, 1)
        assert len(found) < 10
    assert found == [(0x40, 1), (0x50, 5), (0x70, 0x11), (0xA0, 0x10), (0xE0, 3)]
    at, ids = 0x100, []
    while at:
        header = rig.config(at)
        ids.append(header & 0xFFFF)
        at = header >> 20
        assert len(ids) < 10
    assert ids == [1, 3]


def test_identity_and_link_width(rig: Rig) -> None:
    assert rig.config(0) == 0x10FB8086
    assert rig.config(8) == 0x02000001
    assert rig.config(0xB2, 2) == 0x1082
    assert rig.config(0xAA, 2) & 1 << 5 == 0


@pytest.mark.conformance("H1.5-5")
def test_leaving_d3_resets_the_function(rig: Rig) -> None:
    rig.enable()
    rig.program_msix(2)
    rig.write("EIMS", 5)
    rig.write("RDBAL", 0x1000)
    rig.write("RAL", 0)
    rig.set_config(0x44, 3)
    assert rig.read("STATUS") == ALL
    rig.set_config(0x44, 0)
    assert rig.config(4, 2) == 0
    rig.enable()
    assert rig.read("EIMS") == 0
    assert rig.read("RDBAL") == 0
    assert rig.read("RAL") == 0x00211B00
    assert rig.read_at(0xC, bar=4) == 1
    assert rig.config(0x72, 2) & 0xC000 == 0


@pytest.mark.conformance("A2.5-4")
def test_function_level_reset(rig: Rig) -> None:
    rig.enable()
    rig.set_config(0x10, 0xFEA80000, 4)
    rig.write("WUC", 3)
    rig.set_config(0xA8, 0x8000)
    assert rig.config(0xA8, 2) & 0x8000 == 0
    rig.advance(100 * MS)
    assert rig.config(4, 2) == 0
    assert rig.config(0x10) == 0xC
    rig.enable()
    assert rig.read("WUC") == 0


def test_indirect_access_by_the_io_bar(rig: Rig) -> None:
    rig.set_config(4, 7)
    rig.write_at(0, 0x5800, bar=2)
    rig.write_at(4, 0x77, bar=2)
    assert rig.read("WUC") == 0x77
    assert rig.read_at(4, bar=2) == 0x77


# -- MSI-X


def ready() -> Rig:
    """MSI-X set up for vectors 0 and 1, every vector enabled in the device."""
    rig = Rig()
    rig.enable()
    rig.program_msix(2)
    rig.write("GPIE", 0x10)
    rig.write("EIAC", 0xFFFF)
    rig.write("EIMS_EX", ALL)
    return rig


def mask(rig: Rig, vector: int, masked: int) -> list[int]:
    return rig.vectors(rig.write_at(16 * vector + 12, masked, bar=4))


@pytest.mark.conformance("A4.4-1")
@pytest.mark.conformance("A4.4-3")
def test_masked_vector_becomes_one_pending_bit_and_one_message() -> None:
    rig = ready()
    mask(rig, 0, 1)
    for _ in range(3):
        assert rig.msis(rig.write("EICS_EX", 1)) == []
    assert rig.read_at(0x2000, bar=4) == 1
    rig.write_at(0x2000, 0, bar=4)
    assert rig.read_at(0x2000, bar=4) == 1
    assert mask(rig, 0, 0) == [0]
    assert rig.read_at(0x2000, bar=4) == 0
    assert mask(rig, 0, 0) == []
    page = rig.page
    assert (page["msi_raised"], page["msi_out"], page["msi_merged_pba"]) == (3, 1, 2)


@pytest.mark.conformance("A4.4-2")
def test_function_mask_holds_and_releases_all() -> None:
    rig = ready()
    rig.set_config(0x72, 0xC000)
    assert rig.msis(rig.write("EICS_EX", 3)) == []
    assert rig.read_at(0xC, bar=4) == 0
    assert rig.vectors(rig.set_config(0x72, 0x8000)) == [0, 1]


@pytest.mark.conformance("A4.4-4")
def test_odd_access_to_the_table_changes_nothing() -> None:
    rig = ready()
    rig.write_at(2, 0, bar=4)
    rig.write_at(9, 0, bar=4)
    assert rig.read_at(0, bar=4) == 0xFEE00000
    assert rig.read_at(8, bar=4) == 0x20


@pytest.mark.conformance("A4.4-5")
def test_mask_around_the_handler_as_old_kernels_do() -> None:
    rig = ready()
    assert rig.vectors(rig.write("EICS_EX", 1)) == [0]
    mask(rig, 0, 1)
    rig.write("EICS_EX", 1)
    rig.write("EICS_EX", 1)
    assert mask(rig, 0, 0) == [0]


@pytest.mark.conformance("A4.4-6")
@pytest.mark.conformance("A4.4-8")
def test_table_is_writable_while_disabled_and_nothing_is_sent() -> None:
    rig = ready()
    rig.set_config(0x72, 0)
    rig.write_at(0x10, 0xFEE03000, bar=4)
    assert rig.read_at(0x10, bar=4) == 0xFEE03000
    assert rig.msis(rig.write("EICS_EX", 5)) == []
    assert rig.vectors(rig.set_config(0x72, 0x8000)) == [0]
    assert rig.read_at(0x2000, bar=4) == 4  # vector 2 was never unmasked


@pytest.mark.conformance("A4.4-7")
def test_target_is_taken_when_the_message_leaves() -> None:
    rig = ready()
    mask(rig, 0, 1)
    rig.write("EICS_EX", 1)
    rig.write_at(0, 0xFEE05000, bar=4)
    rig.write_at(8, 0x99, bar=4)
    assert rig.msis(rig.write_at(12, 0, bar=4)) == [(0xFEE05000, 0x99)]


def test_low_bits_of_a_message_address_do_not_count() -> None:
    rig = ready()
    rig.write_at(0, 0xFEE05003, bar=4)
    assert rig.msis(rig.write("EICS_EX", 1)) == [(0xFEE05000, 0x20)]


def test_pending_message_waits_for_bus_mastering() -> None:
    rig = ready()
    mask(rig, 0, 1)
    rig.write("EICS_EX", 1)
    rig.set_config(4, 2)
    assert mask(rig, 0, 0) == []
    assert rig.vectors(rig.set_config(4, 6)) == [0]


def test_data_is_in_memory_before_the_message() -> None:
    rig = Rig()
    rig.up()
    ring, _ = rig.rx_queue(0)
    states = []
    send = rig.nic.msix._write

    def spy(address: int, data: int) -> None:
        states.append(rig.dwords(ring, 0)[2] & 1)
        send(address, data)

    rig.nic.msix._write = spy
    rig.wire(frame())
    assert states == [1]


def test_interrupt_account_balances_after_reset_and_masking() -> None:
    rig = ready()
    mask(rig, 0, 1)
    for _ in range(3):
        rig.write("EICS_EX", 3)
    rig.set_config(0xA8, 0x8000)
    page = rig.page
    assert page["msi_raised"] == 6
    assert page["msi_raised"] == (
        page["msi_out"] + page["msi_merged_pba"] + page["msi_cleared"] + page["msi_pending"]
    )
    assert page["msi_cleared"] == 1


@pytest.mark.parametrize("auto_clear", [0xFFFF, 0], ids=["EIAC", "EICR"])
def test_vectors_set_up_again_as_a_whole_lose_nothing(auto_clear: int) -> None:
    """As a guest's vectors are when one more is used: off, written anew, on."""
    rig = ready()
    rig.write("EIAC", auto_clear)
    rig.set_config(0x72, 0)
    assert rig.msis(rig.write("EICS_EX", 2)) == []
    for v in range(3):
        rig.write_at(16 * v + 12, 1, bar=4)
    for v in range(3):
        rig.write_at(16 * v, 0xFEE07000, bar=4)
        rig.write_at(16 * v + 8, 0x50 + v, bar=4)
        assert rig.msis(rig.write_at(16 * v + 12, 0, bar=4)) == []
    assert rig.msis(rig.set_config(0x72, 0x8000)) == [(0xFEE07000, 0x51)]
    assert rig.read("EICS") == (0 if auto_clear else 2)
    rig.write("EICR", 2)
    assert rig.msis(rig.write("EICS_EX", 2)) == [(0xFEE07000, 0x51)]


class Signals(PendingBits):
    """Vectors that speak through something that may be taken away and given back, as a guest's
    event descriptors are."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.page.words, Recorder(rig.ram.recorder_words("eth0")))
        self.there = 0
        self.sent: list[int] = []
        self.set_allowed(True)

    def masked(self, vector: int) -> bool:
        return not self.there >> vector & 1

    def send(self, vector: int) -> None:
        self.sent.append(vector)

    def publish(self) -> None:
        pass


def test_vectors_without_anybody_to_signal_wait_for_one() -> None:
    signals = Signals(Rig())
    signals.message(1)
    signals.message(1)
    signals.message(3)
    assert (signals.sent, signals.pending) == ([], 0b1010)
    signals.there = 0b0010
    signals.release()
    signals.message(1)
    assert (signals.sent, signals.pending) == ([1, 1], 0b1000)


def test_master_disable_also_holds_what_was_pending() -> None:
    rig = ready()
    mask(rig, 0, 1)
    rig.write("EICS_EX", 1)
    rig.write("CTRL", 4)
    assert mask(rig, 0, 0) == []
    assert rig.read_at(0x2000, bar=4) == 1
