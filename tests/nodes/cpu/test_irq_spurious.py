"""The spurious detector: what it counts, when it disables a line, what it prints, who revives it.

Long runs feed the detector directly (``note``); the ends of the path (an interrupt that nobody
handles, the line that falls silent) are played with software lines.
"""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    IRQD_IRQ_DISABLED,
    IRQF_IRQPOLL,
    IRQF_ONESHOT,
    IRQF_TIMER,
    IRQS_POLL_INPROGRESS,
    IRQS_SPURIOUS_DISABLED,
    IrqDesc,
)
from nodes.cpu.kernel.irq.manage import enable_irq
from nodes.cpu.kernel.irq.sim import irq_sim_assert, irq_sim_deassert, irq_sim_fire
from nodes.cpu.kernel.irq.spurious import SPURIOUS_DEFERRED, note_interrupt
from tests.nodes.cpu.harness import ERAS, MS, handled
from tests.nodes.cpu.lines import SHARED, LineBench, Recorder

IRQ = 5
NOT_MINE = IRQ_NONE
eras = pytest.mark.parametrize("era", ERAS)
later = pytest.mark.parametrize("era", ["3.10", "6.1"])


def not_mine(_irq: int, _dev: object) -> int:
    return IRQ_NONE


def note(bench: LineBench, desc: IrqDesc, result: int, times: int = 1) -> None:
    """The detector hears ``times`` results, all within one jiffy."""
    for _ in range(times):
        for _ in note_interrupt(bench.cpu, desc, result):
            pass


def stray_line(era: str, flow: str = "edge", **overrides: str) -> tuple[LineBench, IrqDesc]:
    bench = LineBench(era, overrides=overrides)
    desc = bench.line(IRQ, flow)
    assert bench.request(IRQ, not_mine, SHARED, "a", "a") == 0
    return bench, desc


# ---------------------------------------------------------------- the threshold


@eras
@pytest.mark.conformance("K1.9-1")
def test_a_hundred_thousand_in_a_row_disable_the_line_at_the_last_one(era: str) -> None:
    bench, desc = stray_line(era)
    note(bench, desc, IRQ_NONE, 99_999)
    assert not desc.state & IRQD_IRQ_DISABLED
    note(bench, desc, IRQ_NONE)
    assert desc.state & IRQD_IRQ_DISABLED
    assert desc.depth == 1
    assert bool(desc.istate & IRQS_SPURIOUS_DISABLED) == (era != "2.6.18")
    assert (desc.irq_count, desc.irqs_unhandled) == (0, 0)


THRESHOLD = [(99_900, 100, False), (99_901, 99, True)]


@eras
@pytest.mark.parametrize(("unhandled", "good", "disabled"), THRESHOLD)
@pytest.mark.conformance("K1.9-1")
def test_a_window_needs_more_than_99900_unhandled(
    era: str, unhandled: int, good: int, disabled: bool
) -> None:
    bench, desc = stray_line(era)
    note(bench, desc, IRQ_NONE, unhandled)
    note(bench, desc, IRQ_HANDLED, good)
    assert bool(desc.state & IRQD_IRQ_DISABLED) == disabled
    assert desc.irq_count == 0


@eras
@pytest.mark.parametrize(("good", "disabled"), [(4, True), (5, False)])
def test_a_smaller_window_keeps_the_share(era: str, good: int, disabled: bool) -> None:
    bench, desc = stray_line(era, spurious_window="5000")
    note(bench, desc, IRQ_NONE, 2000)
    note(bench, desc, IRQ_HANDLED, good)
    note(bench, desc, IRQ_NONE, 2999 - good)
    assert not desc.state & IRQD_IRQ_DISABLED
    note(bench, desc, IRQ_NONE, 1)
    assert bool(desc.state & IRQD_IRQ_DISABLED) == disabled


@eras
@pytest.mark.conformance("K1.9-2")
def test_one_stray_among_good_ones_never_disables_and_each_window_starts_anew(era: str) -> None:
    bench, desc = stray_line(era)
    for _ in range(2):
        note(bench, desc, IRQ_NONE)
        note(bench, desc, IRQ_HANDLED, 99_999)
        assert (desc.irq_count, desc.irqs_unhandled) == (0, 0)
    assert not desc.state & IRQD_IRQ_DISABLED


@eras
def test_strays_that_come_rarely_accumulate_only_in_2_6_18(era: str) -> None:
    bench, desc = stray_line(era)
    for _ in range(5):
        bench.ns += 200 * MS
        note(bench, desc, IRQ_NONE)
    assert desc.irqs_unhandled == (5 if era == "2.6.18" else 1)


def test_6_1_counts_only_from_the_first_unhandled_one_on() -> None:
    counts = []
    for era in ERAS:
        bench, desc = stray_line(era)
        note(bench, desc, IRQ_HANDLED, 10)
        counts.append(desc.irq_count)
        note(bench, desc, IRQ_NONE)
        note(bench, desc, IRQ_HANDLED, 4)
        counts.append(desc.irq_count)
    assert counts == [10, 15, 10, 15, 0, 5]


@pytest.mark.parametrize("era", ["3.10", "2.6.18"])
def test_before_6_1_the_count_of_good_interrupts_wraps(era: str) -> None:
    bench, desc = stray_line(era)
    note(bench, desc, IRQ_HANDLED, 99_999)
    assert desc.irq_count == 99_999
    note(bench, desc, IRQ_HANDLED)
    assert desc.irq_count == 0


@eras
@pytest.mark.conformance("K1.9-3")
def test_a_new_handler_restarts_the_counts(era: str) -> None:
    bench, desc = stray_line(era)
    note(bench, desc, IRQ_NONE, 50)
    assert bench.request(IRQ, handled, SHARED, "b", "b") == 0
    kept = (50, 50) if era == "2.6.18" else (0, 0)  # since 2.6.20
    assert (desc.irq_count, desc.irqs_unhandled) == kept


# ---------------------------------------------------------------- the whole way


@eras
def test_a_line_that_nobody_cares_for_falls_silent_and_says_why(era: str) -> None:
    bench, desc = stray_line(era, "fasteoi")
    desc.irq_count = desc.irqs_unhandled = 99_990
    desc.last_unhandled = bench.cpu.jiffies()
    irq_sim_assert(bench.cpu, IRQ)
    bench.run_for(5 * MS)
    said = bench.log()
    at = said.index('irq 5: nobody cared (try booting with the "irqpoll" option)')
    assert "Call Trace:" in said[at:]
    handlers = said.index("handlers:", at)
    assert "not_mine" in said[handlers + 1]
    assert said[handlers + 2] == "Disabling IRQ #5"
    assert bench.counted(IRQ) in (10, 11)  # lazily: 6.1 takes one more and masks
    assert desc.state & IRQD_IRQ_DISABLED
    assert bench.cpu.lapic.isr == 0


def test_a_threaded_handlers_line_names_both() -> None:
    bench = LineBench("6.1")
    desc = bench.line(IRQ)

    def hard(_irq: int, _dev: object) -> int:
        return IRQ_NONE

    def soft(_irq: int, _dev: object) -> int:
        return IRQ_NONE

    bench.request(IRQ, hard, thread_fn=soft)
    note(bench, desc, IRQ_NONE, 100_000)
    line = bench.log()[bench.log().index("handlers:") + 1]
    first, second = line.split(" threaded ")
    assert first.startswith("[<00000000")
    assert first.endswith("] hard")
    assert second.endswith("] soft")


@eras
def test_noirqdebug_switches_the_detector_off(era: str) -> None:
    bench, desc = stray_line(era, noirqdebug="on")
    note(bench, desc, IRQ_NONE, 100_000)
    assert not desc.state & IRQD_IRQ_DISABLED
    assert desc.irq_count == 0


@pytest.mark.parametrize(("era", "revived"), [("2.6.18", False), ("3.10", True), ("6.1", True)])
@pytest.mark.conformance("K1.7-5")
def test_a_new_shared_handler_revives_a_line_since_2_6_26(era: str, revived: bool) -> None:
    bench, desc = stray_line(era)
    note(bench, desc, IRQ_NONE, 100_000)
    newcomer = Recorder(bench)
    bench.request(IRQ, newcomer, SHARED, "b", "b")
    assert bool(desc.state & IRQD_IRQ_DISABLED) != revived
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert newcomer.runs == revived


# ---------------------------------------------------------------- bogus returns


@pytest.mark.parametrize(("era", "unhandled"), [("2.6.18", 1), ("3.10", 0), ("6.1", 0)])
def test_a_bogus_return_value_is_reported(era: str, unhandled: int) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ)
    bench.request(IRQ, lambda i, d: 0x1F4)
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert "irq event 5: bogus return value 1f4" in bench.log()
    assert desc.irqs_unhandled == unhandled


def test_only_the_first_hundred_bogus_values_are_reported() -> None:
    bench, desc = stray_line("6.1")
    note(bench, desc, 0x1F4, 100)
    before = bench.ram.log(0).count
    note(bench, desc, 0x1F4, 5)
    assert bench.cpu.irq.bogus_reports == 100
    assert bench.ram.log(0).count == before


# ---------------------------------------------------------------- threads


def test_until_2_6_39_waking_a_thread_counts_as_handled() -> None:
    bench, desc = stray_line("3.10", spurious_threads="handled")
    note(bench, desc, IRQ_WAKE_THREAD, 3)
    assert (desc.irq_count, desc.irqs_unhandled) == (3, 0)


def test_in_3_x_the_thread_itself_tells_the_detector() -> None:
    bench = LineBench("3.10")
    desc = bench.line(IRQ)
    bench.request(IRQ, lambda i, d: IRQ_WAKE_THREAD, thread_fn=not_mine)
    bench.settle()
    note(bench, desc, IRQ_WAKE_THREAD)
    assert (desc.irq_count, desc.irqs_unhandled) == (0, 0)
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert (desc.irq_count, desc.irqs_unhandled) == (1, 1)


def test_6_1_looks_at_the_next_interrupt_whether_the_thread_did_anything() -> None:
    bench, desc = stray_line("6.1")
    note(bench, desc, IRQ_WAKE_THREAD)  # the first one: judged later
    assert desc.threads_handled_last & SPURIOUS_DEFERRED
    assert desc.irqs_unhandled == 0
    desc.threads_handled += 1
    note(bench, desc, IRQ_WAKE_THREAD)  # it did
    assert desc.irqs_unhandled == 0
    note(bench, desc, IRQ_WAKE_THREAD)  # it did not
    assert desc.irqs_unhandled == 1
    note(bench, desc, IRQ_WAKE_THREAD | IRQ_HANDLED)
    assert not desc.threads_handled_last & SPURIOUS_DEFERRED


def test_6_1_a_thread_that_handles_keeps_the_line() -> None:
    bench = LineBench("6.1")
    desc = bench.line(IRQ)
    thread = Recorder(bench)
    bench.request(IRQ, None, IRQF_ONESHOT, thread_fn=thread)
    for _ in range(5):
        irq_sim_fire(bench.cpu, IRQ)
        bench.settle()
    assert thread.runs == 5
    assert desc.threads_handled == 5
    assert desc.irqs_unhandled == 0


# ---------------------------------------------------------------- the poll timer


@pytest.mark.parametrize(("era", "polled"), [("2.6.18", False), ("3.10", True), ("6.1", True)])
def test_a_disabled_shared_line_is_polled_ten_times_a_second(era: str, polled: bool) -> None:
    bench, desc = stray_line(era)
    states: list[int] = []
    bench.request(IRQ, lambda i, d: states.append(desc.istate) or IRQ_HANDLED, SHARED, "b", "b")
    note(bench, desc, IRQ_NONE, 100_000)
    bench.run_for(1000 * MS)
    assert (8 <= len(states) <= 10) if polled else not states
    assert all(state & IRQS_POLL_INPROGRESS for state in states)
    assert bench.counted(IRQ) == 0
    assert desc.state & IRQD_IRQ_DISABLED
    assert not desc.istate & IRQS_POLL_INPROGRESS


NOT_POLLED: list[tuple[dict[str, str], int, int]] = [
    # behaviours, flags of the first action, actions
    ({}, 0, 1),
    ({}, SHARED | IRQF_TIMER, 1),
    ({"spurious_poll": "shared-with-second"}, SHARED, 1),
]


@pytest.mark.parametrize(("overrides", "flags", "actions"), NOT_POLLED)
def test_whom_the_poll_timer_leaves_alone(
    overrides: dict[str, str], flags: int, actions: int
) -> None:
    bench, runs = LineBench("3.10", overrides=overrides), []
    desc = bench.line(IRQ)
    bench.request(IRQ, lambda i, d: runs.append(i) or IRQ_NONE, flags)
    assert len(desc.actions) == actions
    note(bench, desc, IRQ_NONE, 100_000)
    assert desc.istate & IRQS_SPURIOUS_DISABLED
    bench.run_for(500 * MS)
    assert not runs


# ---------------------------------------------------------------- irqfixup


@pytest.mark.parametrize(("option", "runs"), [("off", 0), ("irqfixup", 3), ("irqpoll", 3)])
def test_irqfixup_asks_the_other_lines_handlers_for_a_misrouted_one(option: str, runs: int) -> None:
    bench, desc = stray_line("6.1", irqfixup=option)
    other = Recorder(bench)
    bench.line(6)
    bench.request(6, other, SHARED)
    for _ in range(3):
        irq_sim_fire(bench.cpu, IRQ)
        bench.settle()
    assert other.runs == runs
    assert desc.irqs_unhandled == (0 if runs else 3)


@later
@pytest.mark.parametrize(("option", "runs"), [("irqfixup", 0), ("irqpoll", 1)])
def test_irqpoll_asks_the_other_lines_with_each_interrupt_of_a_line_that_is_to_poll(
    era: str, option: str, runs: int
) -> None:
    bench, other = LineBench(era, overrides={"irqfixup": option}), Recorder(LineBench(era))
    for irq in (IRQ, 6):
        bench.line(irq)
    bench.request(IRQ, handled, IRQF_IRQPOLL)
    bench.request(6, other, SHARED)
    irq_sim_fire(bench.cpu, IRQ)  # handled, and all the same
    bench.settle()
    assert other.runs == runs


# ---------------------------------------------------------------- a driver that comes back


def test_a_level_that_was_given_up_works_again_when_its_device_is_quiet_and_it_is_enabled() -> None:
    bench, desc = stray_line("6.1", "fasteoi")
    desc.irq_count = desc.irqs_unhandled = 99_999
    desc.last_unhandled = bench.cpu.jiffies()
    irq_sim_assert(bench.cpu, IRQ)
    bench.run_for(5 * MS)
    assert desc.depth == 1
    runs: list[Any] = []
    irq_sim_deassert(bench.cpu, IRQ)
    desc.istate &= ~IRQS_SPURIOUS_DISABLED
    enable_irq(bench.cpu, IRQ)
    bench.request(IRQ, lambda i, d: runs.append(i) or IRQ_HANDLED, SHARED, "b", "b")
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert runs == [IRQ]
