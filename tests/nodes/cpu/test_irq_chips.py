"""Chips: what is called for a line, what stands in for an operation that a chip lacks, and the
entries of a NIC's MSI-X table."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.irq.chip import irq_disable, irq_shutdown, irq_startup, mask_irq, unmask_irq
from nodes.cpu.kernel.irq.desc import (
    IRQ_DELAYED_DISABLE,
    IRQ_DISABLE_UNLAZY,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_MASKED,
    IRQS_PENDING,
    IrqChip,
)
from nodes.cpu.kernel.irq.manage import disable_irq_nosync
from nodes.cpu.kernel.irq.sim import irq_sim_fire
from nodes.cpu.kernel.irq.x86_chips import IO_APIC, PCI_MSI
from tests.nodes.cpu.harness import Box, handled, posted
from tests.nodes.cpu.lines import IRQ, CountingChip, LineBench, Recorder, eras

# ---------------------------------------------------------------- chips and their fallbacks


@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.conformance("K1.5-1")
def test_disable_is_lazy_and_the_next_interrupt_masks(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    spy = CountingChip(PCI_MSI, "ack", "mask", "unmask", "retrigger")
    desc = bench.line(IRQ, chip=spy.chip)
    bench.request(IRQ, handler)
    spy.calls.clear()
    disable_irq_nosync(bench.cpu, IRQ)
    assert not spy.calls
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert spy.calls == ["mask", "ack"]
    assert desc.istate & IRQS_PENDING
    assert handler.runs == 0


LAZY = [
    # era, setting, masked at once
    ("2.6.18", 0, True),
    ("2.6.18", IRQ_DELAYED_DISABLE, False),
    ("3.10", 0, False),
    ("3.10", IRQ_DISABLE_UNLAZY, False),
    ("6.1", 0, False),
    ("6.1", IRQ_DISABLE_UNLAZY, True),
]


@pytest.mark.parametrize(("era", "setting", "at_once"), LAZY)
def test_who_masks_at_once_when_the_chip_cannot_disable(
    era: str, setting: int, at_once: bool
) -> None:
    bench = LineBench(era, overrides={"irq_flow": "handlers"})
    desc = bench.line(IRQ)
    bench.request(IRQ, handled)
    desc.settings |= setting
    disable_irq_nosync(bench.cpu, IRQ)
    assert bench.wire(IRQ).masked == at_once
    assert desc.state & IRQD_IRQ_DISABLED


FALLBACKS = [
    (irq_startup, ("startup", "enable", "unmask"), ["startup"]),
    (irq_startup, ("enable", "unmask"), ["enable"]),
    (irq_startup, ("unmask",), ["unmask"]),
    (irq_shutdown, ("shutdown", "disable", "mask"), ["shutdown"]),
    (irq_shutdown, ("disable", "mask"), ["disable"]),
    (irq_shutdown, ("mask",), ["mask"]),
    (irq_disable, ("disable", "mask"), ["disable"]),
    (irq_disable, ("mask", "unmask"), []),
]


@pytest.mark.parametrize(("operation", "has", "calls"), FALLBACKS)
def test_what_is_called_when_a_chip_lacks_the_operation(
    operation: Any, has: tuple[str, ...], calls: list[str]
) -> None:
    bench = LineBench()
    spy = CountingChip(IrqChip("none"), *has)
    desc = bench.line(IRQ, chip=spy.chip)
    if operation is not irq_startup:
        irq_startup(bench.cpu, desc)
        spy.calls.clear()
    operation(bench.cpu, desc)
    assert spy.calls == calls
    disabled = operation is not irq_startup
    assert bool(desc.state & IRQD_IRQ_DISABLED) == disabled
    if operation is irq_shutdown:
        assert desc.state & IRQD_IRQ_MASKED
        assert desc.depth == 1
    if operation is irq_disable:
        assert bool(desc.state & IRQD_IRQ_MASKED) == ("disable" in has)


@pytest.mark.parametrize(("era", "calls"), [("3.10", 2), ("6.1", 1)])
def test_masking_a_masked_line_calls_the_chip_until_some_era(era: str, calls: int) -> None:
    bench = LineBench(era)
    spy = CountingChip(IO_APIC, "mask", "unmask")
    desc = bench.line(IRQ, chip=spy.chip)
    unmask_irq(bench.cpu, desc)
    spy.calls.clear()
    mask_irq(bench.cpu, desc)
    mask_irq(bench.cpu, desc)
    assert spy.calls == ["mask"] * calls


# ---------------------------------------------------------------- the NIC's MSI-X lines


def vector_controls(writes: list[Any]) -> list[tuple[int, int]]:
    """(entry, mask bit) of the writes to the MSI-X table's control words."""
    found = [w for w in writes if w.bar == 4 and w.offset < 0x400 and w.offset % 16 == 12]
    return [(w.offset // 16, w.value) for w in found]


@eras
def test_a_nic_entry_is_unmasked_at_request_and_masked_at_free(era: str) -> None:
    box = Box(era, cpus=1, nics=1, boot=False)
    writes = posted(box, "eth0")
    box.boot()
    controls = vector_controls(writes)
    for entry in (0, 1):
        mine = [value for number, value in controls if number == entry]
        first = [0] if era == "2.6.18" else [1, 0]  # it trusts in the mask of the reset
        assert mine[: len(first)] == first
        assert mine[-1] == 0
    before = len(writes)
    assert box.run("pci-remove", "eth0").code == 0
    after = vector_controls(writes[before:])
    assert after[-2:] == [(0, 1), (1, 1)]


@pytest.mark.parametrize(("era", "masks"), [("2.6.18", True), ("3.10", False), ("6.1", False)])
def test_only_2_6_18_masks_the_entry_for_each_interrupt(era: str, masks: bool) -> None:
    box = Box(era, cpus=1, nics=1)
    writes = posted(box, "eth0")
    assert box.ping("-c", "2").code == 0
    controls = vector_controls(writes)
    assert bool(controls) == masks
    if masks:
        of_queue_0 = [value for entry, value in controls if entry == 0]
        assert of_queue_0 == [1, 0] * (len(of_queue_0) // 2)
