"""Flow handlers: every era's states, counting, masking and acknowledging.

Kernels before the flow handlers came to x86 have them on other architectures: ``GENERIC`` runs
2.6.18 with ``irq_flow=handlers``. An arrival "on another CPU" is played by a second vector of the
same line: a line's flow state lives on one CPU here.
"""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQ_NONE,
    IRQCHIP_EOI_IF_HANDLED,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQD_IRQ_MASKED,
    IRQF_DISABLED,
    IRQF_ONESHOT,
    IRQF_SHARED,
    IRQS_PENDING,
    IRQS_REPLAY,
    IrqChip,
    IrqDesc,
)
from nodes.cpu.kernel.irq.manage import disable_irq_nosync, enable_irq
from nodes.cpu.kernel.irq.sim import (
    irq_sim_assert,
    irq_sim_create,
    irq_sim_deassert,
    irq_sim_fire,
    irq_sim_line,
)
from nodes.cpu.kernel.irq.x86_chips import (
    IO_APIC,
    PCI_MSI_18,
    PCI_MSIX_18,
    XT_PIC,
    ack_apic_level,
)
from nodes.cpu.kernel.percpu import Context
from tests.nodes.cpu.harness import handled
from tests.nodes.cpu.lines import IRQ, CountingChip, LineBench, Recorder, eras

GENERIC: list[tuple[str, dict[str, str]]] = [
    ("2.6.18", {"irq_flow": "handlers"}),
    ("3.10", {}),
    ("6.1", {}),
]
#: 2.6.39 is no preset; its flow behaviours are.
V2_6_39 = {
    "disabled_sets_pending": "never",
    "level_unmask": "not-oneshot",
    "fasteoi_oneshot": "thread",
}
generic = pytest.mark.parametrize(("era", "overrides"), GENERIC, ids=[e for e, _ in GENERIC])


def other_vector(bench: LineBench, desc: IrqDesc, vector: int) -> None:
    """Map a second vector to the line and let it arrive."""
    bench.cpu.irq.vector_irq[vector] = desc
    bench.cpu.lapic.accept(vector)


# ---------------------------------------------------------------- lines, each flow


@eras
@pytest.mark.parametrize("flow", ["edge", "level", "fasteoi", "simple", "percpu"])
def test_a_pulse_runs_the_handler_once_and_is_seen_on_the_bus(era: str, flow: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    desc = bench.line(IRQ, flow)
    assert bench.request(IRQ, handler) == 0
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert handler.runs == 1
    assert bench.ipis == [desc.vector]
    assert bench.counted(IRQ) == 1
    assert bench.cpu.lapic.isr == 0
    assert not desc.state & (IRQD_IRQ_INPROGRESS | IRQD_IRQ_MASKED)


@eras
@pytest.mark.parametrize("flow", ["level", "fasteoi"])
def test_a_level_comes_again_after_its_eoi_until_the_device_is_quiet(era: str, flow: str) -> None:
    bench, runs = LineBench(era), []

    def handler(irq: int, _dev: object) -> int:
        runs.append(bench.ns)
        if len(runs) == 3:
            irq_sim_deassert(bench.cpu, irq)
        return IRQ_HANDLED

    bench.line(IRQ, flow)
    bench.request(IRQ, handler)
    irq_sim_assert(bench.cpu, IRQ)
    bench.settle()
    assert len(runs) == 3
    assert len(bench.ipis) == 3
    assert bench.counted(IRQ) == 3


@eras
def test_all_handlers_of_a_chain_run_and_their_results_are_ored(era: str) -> None:
    bench, order = LineBench(era), []
    bench.line(IRQ)
    for name, result in (("a", IRQ_HANDLED), ("b", IRQ_NONE), ("c", IRQ_HANDLED)):

        def handler(_irq: int, _dev: object, name: str = name, result: int = result) -> int:
            order.append(name)
            return result

        assert bench.request(IRQ, handler, IRQF_SHARED, name, name) == 0
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert order == ["a", "b", "c"]


# ---------------------------------------------------------------- edge


@generic
@pytest.mark.conformance("K1.6-1", "K1.6-3")
def test_edge_nested_arrivals_are_one_more_run_and_not_counted(
    era: str, overrides: dict[str, str]
) -> None:
    bench = LineBench(era, overrides=overrides)
    handler = Recorder(bench, length=20)
    desc = bench.line(IRQ)
    bench.request(IRQ, handler, IRQF_DISABLED)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: handler.runs == 1)
    before = bench["vectors_taken"]
    other_vector(bench, desc, 0x41)
    other_vector(bench, desc, 0x51)
    bench.cpu.irqs_on = True
    bench.run_until(lambda: bench["vectors_taken"] == before + 2 and len(bench.cpu.stack) == 1)
    assert handler.runs == 1
    assert desc.istate & IRQS_PENDING
    assert desc.state & IRQD_IRQ_MASKED
    assert bench.wire(IRQ).masked
    bench.cpu.irqs_on = False
    bench.run_until(lambda: handler.runs == 2)
    assert not bench.wire(IRQ).masked  # taken off before the second run
    bench.settle()
    assert handler.runs == 2
    assert bench.counted(IRQ) == 1


@eras
@pytest.mark.conformance("K1.6-8")
def test_an_edge_that_came_twice_while_disabled_is_delivered_once_after_enable(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    bench.line(IRQ)
    bench.request(IRQ, handler)
    disable_irq_nosync(bench.cpu, IRQ)
    for _ in range(2):
        irq_sim_fire(bench.cpu, IRQ)
        bench.settle()
    assert handler.runs == 0
    enable_irq(bench.cpu, IRQ)
    bench.settle()
    assert handler.runs == 1


@pytest.mark.parametrize(
    ("chip", "delivered"), [(PCI_MSI_18, 0), (PCI_MSIX_18, 1)], ids=["msi", "msi-x"]
)
def test_2_6_18_has_nothing_to_resend_an_msi_with_but_the_device_may_have_kept_it(
    chip: IrqChip, delivered: int
) -> None:
    bench = LineBench("2.6.18")
    handler = Recorder(bench)
    bench.line(IRQ, chip=chip, latch=True)
    bench.wire(IRQ).masked = chip is PCI_MSIX_18
    bench.request(IRQ, handler)
    disable_irq_nosync(bench.cpu, IRQ)
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    enable_irq(bench.cpu, IRQ)
    bench.settle()
    assert handler.runs == delivered


def test_a_chip_that_cannot_retrigger_is_helped_by_the_tasklet_where_the_kernel_has_it() -> None:
    for era, runs in (("3.10", 0), ("6.1", 1)):
        bench = LineBench(era)
        handler = Recorder(bench)
        chip = CountingChip(IO_APIC, "ack", "mask", "unmask").chip
        desc = bench.line(IRQ, chip=chip)
        bench.request(IRQ, handler)
        disable_irq_nosync(bench.cpu, IRQ)
        irq_sim_fire(bench.cpu, IRQ)
        bench.settle()
        enable_irq(bench.cpu, IRQ)
        # 3.10 marks REPLAY although nothing was sent; 6.1 because the tasklet will
        assert desc.istate & IRQS_REPLAY
        assert not desc.istate & IRQS_PENDING
        bench.settle()
        assert handler.runs == runs, era


def test_6_1_marks_replay_only_if_something_was_sent() -> None:
    bench = LineBench("6.1", overrides={"sw_resend": "no"})
    desc = bench.line(IRQ, chip=CountingChip(IO_APIC, "ack", "mask", "unmask").chip)
    bench.request(IRQ, handled)
    disable_irq_nosync(bench.cpu, IRQ)
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    enable_irq(bench.cpu, IRQ)
    assert not desc.istate & (IRQS_REPLAY | IRQS_PENDING)


# ---------------------------------------------------------------- level


@pytest.mark.parametrize(("era", "overrides"), [("3.10", V2_6_39), ("3.10", {}), ("6.1", {})])
def test_a_level_that_came_while_disabled_is_unmasked_by_enable_and_not_resent(
    era: str, overrides: dict[str, str]
) -> None:
    bench = LineBench(era, overrides=overrides)
    handler = Recorder(bench)
    lazy = CountingChip(XT_PIC, "mask", "unmask", "mask_ack")  # XT-PIC itself masks at once
    desc = bench.line(IRQ, "level", chip=lazy.chip)
    bench.request(IRQ, handler)
    disable_irq_nosync(bench.cpu, IRQ)
    irq_sim_assert(bench.cpu, IRQ)
    bench.settle()
    assert desc.state & IRQD_IRQ_MASKED
    assert bench.wire(IRQ).masked
    irq_sim_deassert(bench.cpu, IRQ)
    enable_irq(bench.cpu, IRQ)
    assert not desc.state & IRQD_IRQ_MASKED
    assert not desc.istate & IRQS_PENDING
    bench.settle()
    assert handler.runs == 0


@eras
def test_a_level_that_still_stands_comes_after_enable(era: str) -> None:
    bench, runs = LineBench(era), []

    def handler(irq: int, _dev: object) -> int:
        runs.append(1)
        irq_sim_deassert(bench.cpu, irq)
        return IRQ_HANDLED

    bench.line(IRQ, "level")
    bench.request(IRQ, handler)
    disable_irq_nosync(bench.cpu, IRQ)
    irq_sim_assert(bench.cpu, IRQ)
    bench.settle()
    assert not runs
    enable_irq(bench.cpu, IRQ)
    bench.settle()
    assert len(runs) == 1


@generic
def test_a_level_line_in_progress_is_left_masked(era: str, overrides: dict[str, str]) -> None:
    bench = LineBench(era, overrides=overrides)
    handler = Recorder(bench, length=20)
    desc = bench.line(IRQ, "level")
    bench.request(IRQ, handler, IRQF_DISABLED)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: handler.runs == 1)
    before = bench["vectors_taken"]
    other_vector(bench, desc, 0x41)
    bench.cpu.irqs_on = True
    bench.run_until(lambda: bench["vectors_taken"] == before + 1 and len(bench.cpu.stack) == 1)
    bench.cpu.irqs_on = False
    assert handler.runs == 1
    assert not desc.istate & IRQS_PENDING
    assert bench.wire(IRQ).masked
    bench.settle()
    assert handler.runs == 1
    assert not bench.wire(IRQ).masked  # by the first one's end


# ---------------------------------------------------------------- what eras do when disabled

FLOW_WHEN_DISABLED = [
    # era, overrides, flow, counted, pending, masked
    ("2.6.18", {}, "simple", 1, False, False),
    ("2.6.18", {}, "level", 1, True, True),
    ("2.6.18", {}, "fasteoi", 1, True, False),
    ("2.6.18", {}, "edge", 0, True, True),
    ("3.10", V2_6_39, "simple", 1, False, False),
    ("3.10", V2_6_39, "level", 1, False, True),
    ("3.10", V2_6_39, "fasteoi", 1, False, True),
    ("3.10", {}, "simple", 1, True, False),
    ("3.10", {}, "level", 1, True, True),
    ("3.10", {}, "fasteoi", 1, True, True),
    ("3.10", {}, "edge", 0, True, True),
    ("6.1", {}, "simple", 0, True, False),
    ("6.1", {}, "level", 0, True, True),
    ("6.1", {}, "fasteoi", 0, True, True),
    ("6.1", {}, "edge", 0, True, True),
]


@pytest.mark.parametrize(
    ("era", "overrides", "flow", "counted", "pending", "masked"), FLOW_WHEN_DISABLED
)
def test_an_arrival_on_a_disabled_line(
    era: str, overrides: dict[str, str], flow: str, counted: int, pending: bool, masked: bool
) -> None:
    bench = LineBench(era, overrides={"irq_flow": "handlers", **overrides})
    handler = Recorder(bench)
    names = ("mask", "unmask", "ack", "eoi", "mask_ack")
    base = XT_PIC if flow == "level" else IO_APIC
    chip = None
    if flow != "simple":
        chip = CountingChip(base, *(n for n in names if getattr(base, f"irq_{n}"))).chip
    desc = bench.line(IRQ, flow, chip=chip)
    bench.request(IRQ, handler)
    desc.state |= IRQD_IRQ_DISABLED  # lazily, in every era
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert handler.runs == 0
    assert bench.counted(IRQ) == counted
    assert bool(desc.istate & IRQS_PENDING) == pending
    assert bench.wire(IRQ).masked == masked
    assert bench.cpu.lapic.isr == 0


def test_2_6_18_counts_every_arrival_a_disabled_one_too() -> None:
    bench = LineBench("2.6.18")
    bench.line(IRQ)
    bench.request(IRQ, handled)
    disable_irq_nosync(bench.cpu, IRQ)
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert bench.counted(IRQ) == 1


# ---------------------------------------------------------------- fasteoi

EOI_PATHS = ("handled", "disabled", "no-action", "in-progress", "oneshot")


@generic
@pytest.mark.parametrize("path", EOI_PATHS)
@pytest.mark.conformance("K1.6-4")
def test_fasteoi_ends_each_arrival_exactly_once(
    era: str, overrides: dict[str, str], path: str
) -> None:
    bench = LineBench(era, overrides=overrides)
    handler = Recorder(bench, length=20)
    spy = CountingChip(IO_APIC, "eoi", "mask", "unmask")
    desc = bench.line(IRQ, "fasteoi", chip=spy.chip)
    arrivals = 1
    if path == "no-action":
        bench.wire(IRQ).masked = False
        desc.state &= ~IRQD_IRQ_DISABLED
    else:
        flags = IRQF_DISABLED | (IRQF_ONESHOT if path == "oneshot" else 0)
        assert bench.request(IRQ, handler, flags) == 0
    if path == "disabled":
        desc.state |= IRQD_IRQ_DISABLED
    irq_sim_fire(bench.cpu, IRQ)
    if path == "in-progress":
        arrivals = 2
        bench.run_until(lambda: handler.runs == 1)
        other_vector(bench, desc, 0xE1)
        bench.cpu.irqs_on = True
        bench.run_until(lambda: spy.calls.count("eoi") == 1 and len(bench.cpu.stack) == 1)
        bench.cpu.irqs_on = False
    bench.settle()
    assert spy.calls.count("eoi") == arrivals
    assert bench.cpu.lapic.isr == 0


@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.conformance("K1.6-5")
def test_fasteoi_while_in_progress_drops_the_event_after_eoi(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench, length=20)
    desc = bench.line(IRQ, "fasteoi")
    bench.request(IRQ, handler)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: handler.runs == 1)
    before = bench["vectors_taken"]
    other_vector(bench, desc, 0xE1)  # of a higher class: the line's own is still in service
    bench.cpu.irqs_on = True
    bench.run_until(lambda: bench["vectors_taken"] == before + 1 and len(bench.cpu.stack) == 1)
    bench.cpu.irqs_on = False
    assert not desc.istate & IRQS_PENDING
    bench.settle()
    assert handler.runs == 1
    assert bench.counted(IRQ) == 1


@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_chip_with_eoi_if_handled_gets_none_for_what_was_not_run(era: str) -> None:
    bench = LineBench(era)
    spy = CountingChip(IO_APIC, "eoi", "mask", "unmask", flags=IRQCHIP_EOI_IF_HANDLED)
    desc = bench.line(IRQ, "fasteoi", chip=spy.chip)
    bench.request(IRQ, handled)
    desc.state |= IRQD_IRQ_DISABLED
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert "eoi" not in spy.calls


# ---------------------------------------------------------------- percpu, bad


@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.conformance("K1.6-6")
def test_the_percpu_flow_has_no_states_and_may_be_entered_again(era: str) -> None:
    bench, depths, states = LineBench(era), [], []
    desc = bench.line(IRQ, "percpu", vector=0x41)

    def handler(_irq: int, _dev: object) -> Context:
        depths.append(len(bench.cpu.stack))
        states.append((desc.state & IRQD_IRQ_INPROGRESS, desc.istate & IRQS_PENDING))
        for _ in range(10):
            yield
        return IRQ_HANDLED

    bench.request(IRQ, handler)
    desc.state |= IRQD_IRQ_DISABLED  # not even that is looked at
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: len(depths) == 1)
    other_vector(bench, desc, 0xE1)
    bench.cpu.irqs_on = True
    bench.run_until(lambda: len(depths) == 2)
    bench.settle()
    assert depths == [1, 2]
    assert states == [(0, 0), (0, 0)]
    assert bench.counted(IRQ) == 2
    assert bench.cpu.lapic.isr == 0


@eras
@pytest.mark.conformance("K1.6-7")
def test_a_bad_interrupt_is_printed_counted_and_acknowledged(era: str) -> None:
    bench = LineBench(era)
    desc = irq_sim_create(bench.cpu, IRQ, "bad", chip=IO_APIC)
    bench.wire(IRQ).masked = False
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert "unexpected IRQ trap at vector 05" in bench.log()
    assert any("handle_bad_irq" in line for line in bench.log())
    assert bench.counted(IRQ) == 1
    assert bench.cpu.lapic.isr == 0
    assert desc.depth == 1


@eras
@pytest.mark.conformance("A6.11-6")
def test_two_pulses_before_the_first_is_taken_are_one_interrupt(era: str) -> None:
    bench = LineBench(era)
    handler = Recorder(bench)
    bench.line(IRQ)
    bench.request(IRQ, handler)
    irq_sim_fire(bench.cpu, IRQ)
    irq_sim_fire(bench.cpu, IRQ)
    merged = bench["lapic_merged"]
    bench.settle()
    assert len(bench.ipis) == 2
    assert bench["lapic_merged"] == merged + 1
    assert handler.runs == 1


def test_a_level_is_taken_again_only_after_the_eoi() -> None:
    bench = LineBench()
    desc = bench.line(IRQ, "fasteoi")
    desc.chip_data.unmask(bench.cpu)
    wire = irq_sim_line(bench.cpu, IRQ)
    irq_sim_assert(bench.cpu, IRQ)
    irq_sim_assert(bench.cpu, IRQ)
    assert wire.sent == 1
    ack_apic_level(bench.cpu, desc)
    assert wire.sent == 2
