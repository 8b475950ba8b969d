"""PCI by the kernel against a real device: capability walks, MSI-X and MSI set up and put away."""

from __future__ import annotations

from collections.abc import Generator
from errno import EINVAL, ENOSPC, ERANGE
from typing import Any

import pytest

from bus.messages import CfgWrite, IntxMessage, MemWrite, MsiWrite, PeerBack, PeerLost
from nodes.cpu.kernel import pci, pciirq, pcimsi
from nodes.cpu.kernel.irq.manage import free_irq, request_irq
from nodes.cpu.kernel.percpu import Context
from nodes.nic.registers import KEYS
from tests.nodes.cpu.harness import ERAS, BareCpu, handled
from tests.nodes.nic.rig import Rig

LSC = 1 << 20
INTX_DISABLE = 0x400


class Pair:
    """A booted CPU, and a device that nobody has probed; what one posts the other gets."""

    def __init__(self, era: str = "6.1", overrides: tuple[tuple[str, str], ...] = ()) -> None:
        self.bench = BareCpu(era, nics=1, boot=False, overrides=overrides)
        self.bench.turn(("eth0", PeerLost(1)))
        self.bench.settle()
        self.bench.turn(("eth0", PeerBack(2)))
        self.bench.outbox.clear()
        self.rig = Rig()
        self.cpu = self.bench.cpu
        self.cpu.machine = self.cpu.machine._replace(ioapics=1)  # of which nobody asks anything
        self.said: list[Any] = []  # by the device to the interrupt controller
        self.heard: list[Any] = []  # by the device

    def run(self, context: Generator[Any, Any, Any]) -> Any:
        """Run kernel code to its end; what it returns."""
        got: list[Any] = []

        def task() -> Context:
            got.append((yield from context))

        self.bench.task(task())
        for _ in range(1000):
            self.bench.settle()
            self.pump()
            if got and not self.bench.outbox.get("eth0"):
                return got[0]
        raise AssertionError("it does not end")

    def pump(self) -> None:
        posted = self.bench.outbox.pop("eth0", [])
        self.heard += posted
        for peer, message in self.rig.give(*(("cpu0", m) for m in posted)):
            if peer == "cpu0":
                self.bench.turn(("eth0", message), budget=0)
            elif peer == "apic":
                self.said.append(message)

    def device(self, name: str, value: int, index: int = 0) -> None:
        """A register write by the driver."""
        self.cpu.post("eth0", MemWrite(0, KEYS[name][index], value))
        self.bench.turn()
        self.pump()

    def interrupts(self) -> list[tuple[int, int]]:
        """Messages since the last look."""
        found = [tuple(m) for m in self.said if isinstance(m, (MsiWrite, IntxMessage))]
        self.said.clear()
        return found

    def ready(self) -> None:
        self.run(pci.enable_device(self.cpu, 0))


def fill(pair: Pair, free: int) -> None:
    """Leave this many device vectors."""
    irq = 1000
    while True:
        try:
            pair.cpu.vectors.activate(irq, 1, 1)
        except OSError:
            break
        irq += 1
    for taken in range(1000, 1000 + free):
        pair.cpu.vectors.release(taken)


@pytest.fixture
def pair() -> Pair:
    return Pair()


# -- configuration space


@pytest.mark.conformance("A1.1-2")
def test_write_to_an_empty_slot_changes_nothing_and_is_over_at_once(pair: Pair) -> None:
    before = bytes(pair.rig.nic.function.space)
    pair.bench.turn(("eth0", PeerLost(2)))
    pair.run(pci.write_config(pair.cpu, 0, 4, 2, 7))
    assert pair.heard == []
    pair.bench.turn(("eth0", PeerBack(3)))
    assert pair.run(pci.read_config(pair.cpu, 0, 4, 2)) == 0
    assert bytes(pair.rig.nic.function.space) == before


def test_capabilities_are_found_by_walking_both_lists(pair: Pair) -> None:
    for cap, at in ((1, 0x40), (5, 0x50), (0x11, 0x70), (0x10, 0xA0), (3, 0xE0), (0x0D, 0)):
        assert pair.run(pci.pci_find_capability(pair.cpu, 0, cap)) == at
    for cap, at in ((1, 0x100), (3, 0x140), (0x10, 0)):
        assert pair.run(pci.pci_find_ext_capability(pair.cpu, 0, cap)) == at


@pytest.mark.parametrize("next_byte", [0x40, 0x50, 0x3C, 0xFF])
def test_broken_capability_list_ends_the_walk(pair: Pair, next_byte: int) -> None:
    pair.rig.nic.function.space.put(0x51, next_byte, 1)
    assert pair.run(pci.pci_find_capability(pair.cpu, 0, 0x77)) == 0


def test_extended_list_that_bites_its_tail_ends_the_walk(pair: Pair) -> None:
    pair.rig.nic.function.space.put(0x140, 0x10010003)
    assert pair.run(pci.pci_find_ext_capability(pair.cpu, 0, 0x77)) == 0


def test_no_capability_is_found_where_nobody_answers(pair: Pair) -> None:
    pair.bench.turn(("eth0", PeerLost(2)))
    assert pair.run(pci.pci_find_capability(pair.cpu, 0, 5)) == 0
    assert pair.run(pci.pci_find_ext_capability(pair.cpu, 0, 1)) == 0
    assert pair.run(pcimsi.pci_enable_msi(pair.cpu, 0)) == -EINVAL
    assert pair.run(pci.pcie_flr(pair.cpu, 0)) < 0


def test_serial_number(pair: Pair) -> None:
    assert pair.run(pci.pci_get_dsn(pair.cpu, 0)) == 0x001B21FFFF000001


def test_function_level_reset(pair: Pair) -> None:
    pair.ready()
    assert pair.run(pci.read_config(pair.cpu, 0, 4, 2)) == 6
    assert pair.run(pci.pcie_flr(pair.cpu, 0)) == 0
    assert pair.run(pci.read_config(pair.cpu, 0, 4, 2)) == 0


# -- MSI-X


@pytest.mark.parametrize("era", ERAS)
def test_msix_vectors_reach_their_lines(era: str) -> None:
    pair = Pair(era)
    pair.ready()
    entries = pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 1, 3))
    assert len(entries) == 3
    assert len({entry.irq for entry in entries}) == len({e.vector for e in entries}) == 3
    control = pair.run(pci.read_config(pair.cpu, 0, 0x72, 2))
    assert control & 0xC000 == 0x8000
    assert pair.run(pci.read_config(pair.cpu, 0, 4, 2)) & INTX_DISABLE
    pair.device("GPIE", 0x10)
    pair.device("EIMS_EX", 0xFFFFFFFF)
    pair.device("EICS_EX", 0b110)
    assert pair.interrupts() == []  # every entry is masked until its line is started up
    for entry in entries:
        pcimsi.msi_setup_irq(pair.cpu, entry)
        assert request_irq(pair.cpu, entry.irq, handled, 0, f"eth0-{entry.msi_index}", pair) == 0
    pair.bench.turn()
    pair.pump()
    expected = [
        (pcimsi.msi_address(pair.cpu, entry.target), pcimsi.msi_data(pair.cpu, entry.vector))
        for entry in entries
    ]
    assert pair.interrupts() == expected[1:]
    pair.device("EICS_EX", 1)
    assert pair.interrupts() == expected[:1]


@pytest.mark.parametrize(
    ("era", "masked_as_a_whole", "masks"), [("2.6.18", 0, 0), ("3.10", 1, 2), ("6.1", 1, 64)]
)
def test_order_in_which_the_table_is_written(era: str, masked_as_a_whole: int, masks: int) -> None:
    pair = Pair(era)
    pair.ready()
    pair.heard.clear()
    pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 2, 2))
    writes = [m for m in pair.heard if isinstance(m, (CfgWrite, MemWrite))]
    control = [m.value for m in writes if isinstance(m, CfgWrite) and m.offset == 0x72]
    assert control == [0xC03F] * masked_as_a_whole + [0x803F]
    table = [m for m in writes if isinstance(m, MemWrite)]
    assert sum(m.offset % 16 == 12 and m.value == 1 for m in table) == masks
    assert all(m.value == 1 for m in table if m.offset % 16 == 12)
    first = writes[0]
    assert isinstance(first, MemWrite if era == "2.6.18" else CfgWrite)


def test_range_that_cannot_be_had(pair: Pair) -> None:
    pair.ready()
    assert pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 3, 2)) == -ERANGE
    assert pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 65, 100)) == -ENOSPC
    assert pair.cpu.vectors.cfg == {}
    assert not pair.run(pci.read_config(pair.cpu, 0, 0x72, 2)) & 0x8000


def test_fewer_vectors_than_wanted_when_the_space_is_nearly_full(pair: Pair) -> None:
    pair.ready()
    fill(pair, free=2)
    entries = pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 2, 10))
    assert len(entries) == 2
    pcimsi.msi_free_irqs(pair.cpu, entries)
    pair.cpu.vectors.activate(1000, 1, 1)
    assert pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 2, 10)) == -ENOSPC
    entry = pair.run(pcimsi.pci_enable_msi(pair.cpu, 0))
    assert entry.vector
    assert pair.run(pcimsi.pci_enable_msi(pair.cpu, 0)) == -ENOSPC


def test_msix_put_away_gives_the_wire_back(pair: Pair) -> None:
    pair.ready()
    pair.device("EIMS", LSC)
    entries = pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 1, 1))
    pair.device("EICS", LSC)
    assert pair.interrupts() == []
    pair.run(pcimsi.disable_msix(pair.cpu, 0))
    pcimsi.msi_free_irqs(pair.cpu, entries)
    assert pair.interrupts() == [(1, 1)]
    assert pair.cpu.vectors.cfg == {}


# -- MSI


@pytest.mark.parametrize("era", ERAS)
def test_msi_reaches_its_line_once_it_is_started(era: str) -> None:
    pair = Pair(era)
    pair.ready()
    entry = pair.run(pcimsi.pci_enable_msi(pair.cpu, 0))
    pair.device("EIMS", LSC)
    pair.device("EICS", LSC)
    assert pair.interrupts() == []
    desc = pcimsi.msi_setup_irq(pair.cpu, entry)
    assert desc.chip_name == "PCI-MSI"
    assert request_irq(pair.cpu, entry.irq, handled, 0, "eth0", pair) == 0
    pair.bench.turn()
    pair.pump()
    message = (pcimsi.msi_address(pair.cpu, 0), pcimsi.msi_data(pair.cpu, entry.vector))
    assert pair.interrupts() == [message]
    pair.bench.vector(entry.vector)
    pair.bench.settle()
    pair.pump()
    assert pair.bench.page.run("irqs")[entry.irq] == 1


def test_msi_put_away_gives_the_wire_back_and_leaves_no_mask(pair: Pair) -> None:
    pair.ready()
    entry = pair.run(pcimsi.pci_enable_msi(pair.cpu, 0))
    pcimsi.msi_setup_irq(pair.cpu, entry)
    assert request_irq(pair.cpu, entry.irq, handled, 0, "eth0", pair) == 0
    pair.run(free_irq(pair.cpu, entry.irq, pair))
    pair.run(pcimsi.pci_disable_msi(pair.cpu, 0))
    assert pair.run(pci.read_config(pair.cpu, 0, 0x52, 2)) & 1 == 0
    assert pair.run(pci.read_config(pair.cpu, 0, 0x60, 4)) == 0
    assert pair.run(pci.read_config(pair.cpu, 0, 4, 2)) & INTX_DISABLE == 0
    pair.device("EIMS", LSC)
    pair.device("EICS", LSC)
    assert pair.interrupts() == [(1, 1)]


def test_message_of_msi_can_be_readdressed(pair: Pair) -> None:
    pair.ready()
    entry = pair.run(pcimsi.pci_enable_msi(pair.cpu, 0))
    line = pcimsi.MsiCapability(pair.cpu.machine.pci_function(0), entry.at)
    line.write_msg(pair.cpu, 0, 0x77)
    line.unmask(pair.cpu)
    pair.bench.turn()
    pair.pump()
    pair.device("EIMS", LSC)
    pair.device("EICS", LSC)
    assert pair.interrupts() == [(pcimsi.msi_address(pair.cpu, 0), 0x77)]


# -- whatever there is


def test_driver_gets_msix_if_it_can(pair: Pair) -> None:
    pair.ready()
    irqs = pair.run(pciirq.pci_alloc_irq_vectors(pair.cpu, 0, 1, 3))
    assert (irqs.kind, len(irqs.entries)) == (pciirq.PCI_IRQ_MSIX, 3)
    pair.run(pciirq.pci_free_irq_vectors(pair.cpu, 0, irqs))
    assert not pair.run(pci.read_config(pair.cpu, 0, 0x72, 2)) & 0x8000
    irqs = pair.run(pciirq.pci_alloc_irq_vectors(pair.cpu, 0, 1, 3, pciirq.PCI_IRQ_MSI))
    assert (irqs.kind, len(irqs.entries)) == (pciirq.PCI_IRQ_MSI, 1)
    pair.run(pciirq.pci_free_irq_vectors(pair.cpu, 0, irqs))
    assert not pair.run(pci.read_config(pair.cpu, 0, 0x52, 2)) & 1


@pytest.mark.parametrize("era", ERAS)
def test_kernel_booted_with_nomsi_has_the_wire_only(era: str) -> None:
    pair = Pair(era, overrides=(("pci_msi", "off"),))
    pair.ready()
    assert pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 1, 1)) == -EINVAL
    assert pair.run(pcimsi.pci_enable_msi(pair.cpu, 0)) == -EINVAL
    messages = pciirq.PCI_IRQ_MSIX | pciirq.PCI_IRQ_MSI
    assert pair.run(pciirq.pci_alloc_irq_vectors(pair.cpu, 0, 1, 3, messages)) == -EINVAL
    assert pair.run(pciirq.pci_alloc_irq_vectors(pair.cpu, 0, 2, 3)) == -EINVAL
    irqs = pair.run(pciirq.pci_alloc_irq_vectors(pair.cpu, 0, 1, 3))
    assert irqs.kind == pciirq.PCI_IRQ_LEGACY
    assert irqs.irq in pair.cpu.irq.desc
    pair.device("EIMS", LSC)
    pair.device("EICS", LSC)
    assert pair.interrupts() == [(1, 1)]
    pair.run(pciirq.pci_free_irq_vectors(pair.cpu, 0, irqs))
    assert irqs.irq not in pair.cpu.irq.desc


def test_last_vector_is_msis_when_msix_finds_too_few(pair: Pair) -> None:
    pair.ready()
    fill(pair, free=1)
    assert pair.run(pcimsi.pci_enable_msix_range(pair.cpu, 0, 2, 3)) == -ENOSPC
    irqs = pair.run(pciirq.pci_alloc_irq_vectors(pair.cpu, 0, 1, 3, pciirq.PCI_IRQ_MSI))
    assert irqs.kind == pciirq.PCI_IRQ_MSI
