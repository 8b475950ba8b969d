"""INTx from a NIC to its driver: I/O APIC, local APIC, fasteoi flow, sharing, affinity, hot-unplug.

A machine on the simulation. eth0 has its own driver; eth1 and eth2 are probed, not opened, and get
a driver that asks for INTx: its handler reads EICR, which takes the request away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bus.messages import EoiBroadcast, Interrupt, IntxMessage, MemRead, MemWrite, PeerSilent
from nodes.apic.page import APIC_SCHEMA
from nodes.cpu.kernel.irq.affinity import irq_set_affinity
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED, IRQ_NONE, IRQF_SHARED
from nodes.cpu.kernel.irq.gsi import (
    acpi_register_gsi,
    acpi_unregister_gsi,
    pci_intx,
    pci_irq,
    pci_irq_disable,
)
from nodes.cpu.kernel.irq.io_apic import entry_high, entry_low
from nodes.cpu.kernel.irq.manage import (
    disable_irq_nosync,
    enable_irq,
    remove_action,
    request_irq,
)
from nodes.cpu.kernel.percpu import Context, Cpu, MmioRead
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.tables import publish, replica
from nodes.cpu.page import ARCH_IRQS
from orchestrator import ledger
from tests.nodes.cpu.harness import ERAS, BareCpu, Box

EICR, EICS, EIMS = 0x800, 0x808, 0x880
REMOTE_IRR, MASKED = 1 << 14, 1 << 16


@replica("test-intx")
def apply_user(cpu: Cpu, nic: int, value: tuple[int, bool] | None) -> None:
    """(irq, whether it quiets its device) of the test's driver for a NIC."""
    users: dict[int, int] = cpu.module_data.setdefault("test-intx", {})
    if value is None:
        remove_action(cpu, cpu.irq.desc[users.pop(nic)], cpu.machine.nics[nic])
        return
    users[nic], quiets = value

    def intr(_irq: int, _dev: object) -> Context:
        if not quiets:
            yield
            return IRQ_NONE
        causes = yield MmioRead(nic, EICR)
        seen = cpu.module_data.setdefault("test-seen", [])
        seen.append((nic, causes & 0xFFFF))  # its link came up meanwhile, too
        return IRQ_HANDLED if causes else IRQ_NONE

    name = cpu.machine.nics[nic].name
    dev = cpu.machine.nics[nic]
    assert request_irq(cpu, users[nic], intr, IRQF_SHARED, name, dev) == 0


class Intx:
    """A box whose eth1 and eth2 use INTx; ``shared``: on one pin."""

    def __init__(self, era: str = "6.1", *, cpus: int = 2, shared: bool = True) -> None:
        self.box = Box(era, cpus=cpus, nics=3, bonded=False, pci_lines=1 if shared else 8)
        self.cpu = self.cpu_of(0)
        self.irqs: dict[int, int] = {}
        self.log: list[tuple[str, str, Any]] = []
        self.box.machine.simulation.watch = lambda now, s, r, m: self.log.append((s, r, m))

    def cpu_of(self, number: int) -> Cpu:
        node: Any = self.box.machine.simulation.node(f"cpu{number}")
        cpu: Cpu = node.cpu
        return cpu

    def do(self, context: Context) -> None:
        """A task of the boot CPU, to its end."""
        done: list[bool] = []

        def task() -> Context:
            yield from context
            done.append(True)

        kthread_run(self.cpu, "test", task())
        self.box.machine.simulation.send("cpu0", PeerSilent(1), "eth0")  # a turn
        assert self.box.machine.wait(lambda: bool(done), 1000)

    def request(self, nic: int, *, quiets: bool = True) -> int:
        def probe() -> Context:
            irq = self.irqs[nic] = yield from pci_irq(self.cpu, nic)
            yield from pci_intx(self.cpu, nic, enable=True)
            yield from publish(self.cpu, "test-intx", nic, (irq, quiets))
            self.cpu.post(self.cpu.machine.nics[nic].name, MemWrite(0, EIMS, 1))

        self.do(probe())
        self.box.live(1)
        return self.irqs[nic]

    def raise_(self, *nics: int) -> None:
        """A cause in each of these devices."""

        def kick() -> Context:
            for nic in nics:
                self.cpu.post(self.cpu.machine.nics[nic].name, MemWrite(0, EICS, 1))
            yield

        self.do(kick())

    def seen(self, number: int) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = self.cpu_of(number).module_data.get("test-seen", [])
        return seen

    def count(self, irq: int) -> list[int]:
        return [page.run("irqs")[irq] for page in self.box.pages.values()]

    def entry(self, pin: int) -> int:
        page = self.box.machine.ram.page("apic", APIC_SCHEMA)
        return page.run("redirection")[pin]

    def home(self, pin: int) -> int:
        """The CPU that the pin's entry names, of two in the flat model."""
        return (self.entry(pin) >> 56).bit_length() - 1

    def sent(self, kind: type, to: str = "") -> list[Any]:
        return [m for _, r, m in self.log if type(m) is kind and (not to or r == to)]


@pytest.mark.parametrize("era", ERAS)
def test_a_driver_that_asks_for_intx_gets_its_interrupt(era: str) -> None:
    intx = Intx(era, shared=False)
    irq = intx.request(1)
    if era != "2.6.18":
        assert irq == 17  # its GSI; in 2.6.18 it bears its vector's number
    assert not intx.entry(17) & MASKED
    for turn in range(1, 4):
        intx.raise_(1)
        intx.box.live(1)
        assert sum(intx.count(irq)) == turn
    assert intx.seen(0) + intx.seen(1) == [(1, 1)] * 3
    assert not intx.entry(17) & REMOTE_IRR
    wires = [m for s, r, m in intx.log if s == "eth1" and type(m) is IntxMessage]
    assert [m.asserted for m in wires] == [1, 0] * 3
    assert len(intx.sent(EoiBroadcast, "apic")) == 3
    assert ledger.settled(intx.box.machine).faults == []


ROWS = {
    "2.6.18": "   IO-APIC-level  eth1, eth2",
    "3.10": "   IO-APIC-fasteoi   eth1, eth2",
    "6.1": "   IO-APIC  16-fasteoi   eth1, eth2",
}


@pytest.mark.parametrize("era", ERAS)
def test_two_devices_share_a_level_interrupt(era: str) -> None:
    """Both assert before the handlers run; each device is quieted by its own."""
    intx = Intx(era)
    irq = intx.request(1)
    assert intx.request(2) == irq
    intx.raise_(1, 2)
    intx.box.live(1)
    seen = intx.seen(0) + intx.seen(1)
    assert {nic for nic, causes in seen if causes} == {1, 2}
    assert 1 <= sum(intx.count(irq)) <= 2
    intx.raise_(2)
    intx.box.live(1)
    seen = intx.seen(0) + intx.seen(1)
    assert seen[-2:] == [(1, 0), (2, 1)]
    text = intx.box.proc("/proc/interrupts")
    (row,) = [line for line in text.splitlines() if line.strip().startswith(f"{irq}:")]
    assert row.endswith(ROWS[era])
    page = intx.box.machine.ram.page("apic", APIC_SCHEMA)
    assert (page["lines"], page["intx_shared"]) == (0, 1)
    assert ledger.settled(intx.box.machine).faults == []


def test_a_level_that_nobody_quiets_comes_again_until_the_line_is_disabled() -> None:
    """Nobody cared: 100000 are too many for a test, but the line never comes to rest."""
    intx = Intx(shared=False)
    irq = intx.request(1, quiets=False)
    intx.raise_(1)
    intx.box.live(1)
    before = sum(intx.count(irq))
    assert before > 10
    page = intx.box.machine.ram.page("apic", APIC_SCHEMA)
    assert page["ioapic_again"] >= before - 1
    assert len(intx.sent(IntxMessage)) == 1


def test_boot_is_linuxs_conversation() -> None:
    """Who is there, then every pin: read, mask, read back; the high half of an entry goes first."""
    box = Box(bonded=False, boot=False)
    log: list[Any] = []
    box.machine.simulation.watch = lambda now, s, r, m: (
        log.append(m) if r == "apic" and type(m) in (MemWrite, MemRead) else None
    )
    box.boot()
    read = [MemRead(tag, 0, 0x10) for tag in range(1, 4)]
    assert log[:8] == [
        MemWrite(0, 0, 0), read[0], MemWrite(0, 0, 1), read[1], MemWrite(0, 0, 2), read[2],
        MemWrite(0, 0, 0), MemWrite(0, 0x10, 2 << 24),
    ]  # fmt: skip
    pin = [
        MemWrite(0, 0, 0x10), MemRead(4, 0, 0x10),
        MemWrite(0, 0, 0x11), MemWrite(0, 0x10, 0), MemWrite(0, 0, 0x10), MemWrite(0, 0x10, MASKED),
        MemWrite(0, 0, 0x10), MemRead(5, 0, 0x10),
    ]  # fmt: skip
    assert log[8:16] == pin
    assert len([m for m in log if type(m) is MemRead]) == 3 + 2 * 24
    assert "IOAPIC[0]: apic_id 2, version 32, address 0xfec00000, GSI 0-23" in box.said()


ISA = {
    "2.6.18": (0x31, 0x39, 1 << 8 | 1 << 11),
    "3.10": (0x30, 0x31, 1 << 8 | 1 << 11),
}


@pytest.mark.parametrize("era", list(ISA))
def test_isa_pins_are_edge_and_open_where_the_era_routes_them_at_boot(era: str) -> None:
    intx = Intx(era)
    timer, keyboard, how = ISA[era]
    assert intx.entry(2) == timer | how | 1 << 56  # IRQ 0 is wired to pin 2
    assert intx.entry(1) == keyboard | how | 1 << 56
    assert intx.entry(0) == MASKED
    assert intx.entry(16) == MASKED


def test_firmware_leftovers_are_ended_at_boot() -> None:
    """A level entry in service, an edge entry that is open, and one for SMIs."""
    box = Box(bonded=False, boot=False)
    apic: Any = box.machine.simulation.node("apic")
    apic.ioapic.set_line(20, True)
    for pin, low in ((20, 0x8061), (3, 0x62), (9, 0x200)):
        apic.ioapic.write(0, 0x10 + 2 * pin)
        apic.ioapic.write(0x10, low)
    apic.outbox.clear()
    assert apic.ioapic.entries[20] & REMOTE_IRR
    box.boot()
    entries = apic.ioapic.entries
    assert (entries[20], entries[3], entries[9]) == (MASKED, MASKED, 0x200)
    assert not [line for line in box.said() if "Unable to reset IRR" in line]


def test_a_large_machine_names_its_cpus_by_id() -> None:
    small, large = BareCpu(cpus=8, boot=False).cpu, BareCpu(cpus=9, boot=False).cpu
    assert [entry_high(cpu, 3) for cpu in (small, large)] == [8 << 24, 3 << 24]
    lows = [entry_low(cpu, 0x41, level=True, masked=True) for cpu in (small, large)]
    assert lows == [0x1A841, 0x1A041]


@pytest.mark.parametrize("era", ERAS)
def test_affinity_rewrites_the_entry_and_the_line_follows(era: str) -> None:
    intx = Intx(era, shared=False)
    irq = intx.request(1)
    home = intx.home(17)
    for to in (1 - home, home):
        before = intx.count(irq)
        intx.do(_set_affinity(intx.cpu, irq, 1 << to))
        for _ in range(4):
            intx.raise_(1)
            intx.box.live(2)
        assert intx.home(17) == to
        grown = [now - then for now, then in zip(intx.count(irq), before, strict=True)]
        assert (grown[1 - to], grown[to]) == (1, 3)  # the first one moves it
        assert not intx.entry(17) & (MASKED | REMOTE_IRR)
    assert len(intx.seen(0)) == len(intx.seen(1)) == 4
    assert ledger.settled(intx.box.machine).faults == []


def _set_affinity(cpu: Cpu, irq: int, mask: int) -> Context:
    yield from irq_set_affinity(cpu, irq, mask)


def test_a_move_masks_ends_rewrites_and_unmasks() -> None:
    intx = Intx(shared=False)
    irq = intx.request(1)
    intx.do(_set_affinity(intx.cpu, irq, 1 << 1 - intx.home(17)))
    intx.log.clear()
    intx.raise_(1)
    intx.box.live(2)
    register, done = 0, []
    for _, receiver, message in intx.log:
        if receiver != "apic":
            continue
        if type(message) is MemWrite and message.offset == 0:
            register = message.value
        elif type(message) is MemWrite:
            done.append(("high" if register & 1 else "low", bool(message.value & MASKED)))
        elif type(message) is EoiBroadcast:
            done.append(("eoi", False))
    assert done == [
        ("low", True), ("eoi", False), ("high", False), ("low", True), ("low", False),
    ]  # fmt: skip


@pytest.mark.parametrize("era", ERAS)
def test_the_line_of_a_cpu_that_goes_offline_moves_to_one_that_stays(era: str) -> None:
    intx = Intx(era, shared=False)
    irq = intx.request(1)
    intx.do(_set_affinity(intx.cpu, irq, 2))
    intx.raise_(1)
    intx.box.live(2)
    assert intx.entry(17) >> 56 == 2
    assert intx.box.run("chcpu", "-d", "1").code == 0
    assert intx.entry(17) >> 56 == 1
    before = intx.count(irq)[0]
    for _ in range(2):
        intx.raise_(1)
        intx.box.live(1)
    assert intx.count(irq)[0] == before + 2
    assert not intx.entry(17) & (MASKED | REMOTE_IRR)


@pytest.mark.parametrize("era", ERAS)
def test_a_level_that_came_as_an_edge_is_ended_by_the_eoi_register(era: str) -> None:
    """A replay by IPI: no EOI is broadcast, yet remote IRR goes."""
    intx = Intx(era, shared=False)
    irq = intx.request(1)
    apic: Any = intx.box.machine.simulation.node("apic")
    number = intx.home(17)
    vector = intx.entry(17) & 0xFF
    apic.ioapic.entries[17] |= REMOTE_IRR
    intx.log.clear()
    intx.box.machine.simulation.send(f"cpu{number}", Interrupt(vector, 0, 0), "apic")
    intx.box.live(1)
    assert sum(intx.count(irq)) == 1
    assert not apic.ioapic.entries[17] & REMOTE_IRR
    assert MemWrite(0, 0x40, vector) in intx.sent(MemWrite, "apic")
    page = intx.box.pages[f"cpu{number}"]
    assert page.run("arch_irqs")[ARCH_IRQS.index("MIS")] == 1


@pytest.mark.parametrize("era", ERAS)
def test_a_level_that_comes_while_its_line_is_disabled_waits_for_enable_irq(era: str) -> None:
    """2.6.18 masks at once; later kernels when it comes. The device still asserts afterwards."""
    intx = Intx(era, cpus=1, shared=False)
    irq = intx.request(1)

    def call(function: Callable[[Cpu, int], None]) -> Context:
        function(intx.cpu, irq)
        yield

    intx.do(call(disable_irq_nosync))
    intx.raise_(1)
    intx.box.live(2)
    assert intx.entry(17) & MASKED
    assert intx.seen(0) == []
    intx.do(call(enable_irq))
    intx.box.live(2)
    assert intx.seen(0) == [(1, 1)]
    assert not intx.entry(17) & (MASKED | REMOTE_IRR)


def test_the_last_user_masks_the_pin_and_gives_the_irq_back() -> None:
    intx = Intx()
    irq = intx.request(1)
    intx.request(2)
    intx.do(_leave(intx.cpu, 1))
    assert not intx.entry(16) & MASKED
    intx.raise_(2)
    intx.box.live(1)
    assert sum(intx.count(irq)) == 1
    intx.do(_leave(intx.cpu, 2))
    intx.box.live(1)
    assert intx.entry(16) & MASKED
    assert irq not in intx.cpu.irq.desc
    assert irq not in intx.cpu_of(1).irq.desc
    intx.raise_(2)
    intx.box.live(1)
    assert sum(intx.count(irq)) == 1
    assert intx.request(1) == irq


def _leave(cpu: Cpu, nic: int) -> Context:
    yield from publish(cpu, "test-intx", nic, None)
    yield from pci_irq_disable(cpu, nic)


def test_a_device_that_is_gone_gives_its_irq_back() -> None:
    intx = Intx()
    irq = intx.request(1)
    intx.request(2)
    intx.box.machine.kill("eth1")
    intx.do(_leave(intx.cpu, 1))
    assert intx.cpu.irq.gsi[16].users == 1
    intx.do(_leave(intx.cpu, 2))
    intx.box.live(1)
    assert irq not in intx.cpu.irq.desc
    intx.do(pci_irq_disable(intx.cpu, 2))
    assert 16 not in intx.cpu.irq.gsi


def test_a_gsi_has_one_irq_however_many_devices_ask() -> None:
    intx = Intx()
    got: list[int] = []

    def ask() -> Context:
        for _ in range(2):
            got.append((yield from acpi_register_gsi(intx.cpu, 20)))
        yield from acpi_unregister_gsi(intx.cpu, 20)
        assert 20 in intx.cpu.irq.gsi
        yield from acpi_unregister_gsi(intx.cpu, 20)
        assert 20 not in intx.cpu.irq.gsi

    intx.do(ask())
    assert got == [20, 20]


def test_a_nic_that_dies_lets_go_of_its_wire() -> None:
    """The port's link is lost: the storm of a device that nobody quiets ends."""
    intx = Intx(shared=False)
    irq = intx.request(1, quiets=False)
    intx.raise_(1)
    intx.box.live(1)
    page = intx.box.machine.ram.page("apic", APIC_SCHEMA)
    assert page["lines"] == 1 << 17
    intx.box.machine.kill("eth1")
    intx.box.live(1)
    assert page["lines"] == 0
    count = sum(intx.count(irq))
    intx.box.live(1)
    assert sum(intx.count(irq)) == count
    assert ledger.settled(intx.box.machine).faults == []
