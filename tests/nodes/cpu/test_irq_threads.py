"""irq threads: who wakes them, what they hold masked, how they are scheduled."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.irq.desc import (
    IRQ_HANDLED,
    IRQ_WAKE_THREAD,
    IRQCHIP_EOI_THREADED,
    IRQD_IRQ_MASKED,
    IRQF_NO_THREAD,
    IRQF_ONESHOT,
    IRQF_PERCPU,
    IrqChip,
)
from nodes.cpu.kernel.irq.manage import disable_irq_nosync, free_irq
from nodes.cpu.kernel.irq.sim import irq_sim_assert, irq_sim_deassert, irq_sim_fire
from nodes.cpu.kernel.irq.x86_chips import ack_apic_level, mask, unmask
from nodes.cpu.kernel.percpu import USER, Context
from nodes.cpu.kernel.sched import TASK_DEAD, sched_set_fifo
from tests.nodes.cpu.harness import Box, handled
from tests.nodes.cpu.lines import SHARED, LineBench, Recorder

IRQ = 5
threaded = pytest.mark.parametrize("era", ["3.10", "6.1"])


def wake(_irq: int, _dev: object) -> int:
    return IRQ_WAKE_THREAD


def comms(bench: LineBench) -> list[str]:
    return [task.comm for task in bench.cpu.rq.all.values() if task.comm.startswith("irq/")]


@threaded
def test_a_thread_has_its_lines_name_and_runs_as_a_task(era: str) -> None:
    bench, seen = LineBench(era), []

    def thread_fn(_irq: int, _dev: object) -> int:
        cpu = bench.cpu
        seen.append((cpu.current.comm, cpu.in_interrupt(), cpu.irqs_on, cpu.current.rt_priority))
        return IRQ_HANDLED

    bench.line(IRQ)
    assert bench.request(IRQ, wake, name="mouse", thread_fn=thread_fn) == 0
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert seen == [("irq/5-mouse", False, True, 50)]
    assert bench.cpu.irq.desc[IRQ].threads_active == 0


@threaded
@pytest.mark.conformance("K1.8-1")
def test_wakes_while_the_thread_runs_are_one_more_run(era: str) -> None:
    bench = LineBench(era)
    thread = Recorder(bench, length=400)
    bench.line(IRQ)
    bench.request(IRQ, wake, thread_fn=thread)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: thread.runs == 1)
    for _ in range(3):
        irq_sim_fire(bench.cpu, IRQ)
        before = bench.counted(IRQ)
        bench.run_until(lambda before=before: bench.counted(IRQ) == before + 1)
    assert not thread.ended
    bench.settle()
    assert thread.runs == 2


@threaded
@pytest.mark.parametrize("flow", ["level", "fasteoi"])
@pytest.mark.conformance("K1.8-2")
def test_a_shared_oneshot_line_stays_masked_until_all_its_threads_are_done(
    era: str, flow: str
) -> None:
    bench, masked_after = LineBench(era), []
    desc = bench.line(IRQ, flow)

    def thread_fn(name: str, length: int) -> Any:
        def run(_irq: int, _dev: object) -> Context:
            for _ in range(length):
                yield
            masked_after.append((name, bench.wire(IRQ).masked))
            return IRQ_HANDLED

        return run

    for name, length in (("short", 20), ("long", 200)):
        flags = SHARED | IRQF_ONESHOT
        assert bench.request(IRQ, wake, flags, name, name, thread_fn(name, length)) == 0
    bench.settle()  # both threads wait
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: len(masked_after) == 1)
    bench.step(5)
    assert desc.threads_oneshot == 0b10
    assert bench.wire(IRQ).masked
    bench.settle()
    assert masked_after == [("short", True), ("long", True)]
    assert desc.threads_oneshot == 0
    assert not bench.wire(IRQ).masked


@threaded
@pytest.mark.parametrize("flow", ["level", "fasteoi"])
@pytest.mark.conformance("K1.8-3")
def test_a_oneshot_line_whose_thread_was_not_woken_is_unmasked_at_once(era: str, flow: str) -> None:
    bench = LineBench(era)
    thread = Recorder(bench)
    desc = bench.line(IRQ, flow)
    bench.request(IRQ, handled, IRQF_ONESHOT, thread_fn=thread)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: bench.counted(IRQ) == 1 and not bench.cpu.stack)
    assert not desc.state & IRQD_IRQ_MASKED
    assert not bench.wire(IRQ).masked
    assert thread.runs == 0


@pytest.mark.parametrize(
    "overrides", [{"fasteoi_oneshot": "thread", "level_unmask": "not-oneshot"}]
)
@pytest.mark.parametrize("flow", ["level", "fasteoi"])
def test_until_3_x_only_the_thread_unmasks_a_oneshot_line(
    flow: str, overrides: dict[str, str]
) -> None:
    bench = LineBench("3.10", overrides=overrides)
    bench.line(IRQ, flow)
    bench.request(IRQ, handled, IRQF_ONESHOT, thread_fn=Recorder(bench))
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert bench.wire(IRQ).masked


@threaded
def test_a_oneshot_level_device_is_quieted_by_its_thread_and_not_taken_meanwhile(era: str) -> None:
    bench = LineBench(era)
    desc = bench.line(IRQ, "fasteoi")

    def thread_fn(irq: int, _dev: object) -> Context:
        for _ in range(300):
            yield
        irq_sim_deassert(bench.cpu, irq)
        return IRQ_HANDLED

    bench.request(IRQ, None, IRQF_ONESHOT, thread_fn=thread_fn)
    irq_sim_assert(bench.cpu, IRQ)
    bench.settle()
    assert bench.counted(IRQ) == 1
    assert not desc.state & IRQD_IRQ_MASKED


def test_an_eoi_that_the_chip_wants_from_the_thread_comes_from_there() -> None:
    bench, calls = LineBench("6.1"), []

    def eoi(cpu: Any, desc: Any) -> None:
        calls.append(cpu.in_irq())
        ack_apic_level(cpu, desc)

    chip = IrqChip(
        "late", irq_mask=mask, irq_unmask=unmask, irq_eoi=eoi, flags=IRQCHIP_EOI_THREADED
    )
    bench.line(IRQ, "fasteoi", chip=chip)
    bench.request(IRQ, None, IRQF_ONESHOT, thread_fn=Recorder(bench))
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert calls == [False]
    assert bench.cpu.lapic.isr == 0


@threaded
def test_a_line_disabled_meanwhile_is_not_unmasked_by_its_thread(era: str) -> None:
    bench = LineBench(era)
    thread = Recorder(bench, length=200)
    bench.line(IRQ, "fasteoi")
    bench.request(IRQ, None, IRQF_ONESHOT, thread_fn=thread)
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: thread.runs == 1)
    disable_irq_nosync(bench.cpu, IRQ)
    bench.settle()
    assert bench.wire(IRQ).masked


@threaded
def test_waking_a_thread_that_is_not_there_is_warned_about_once(era: str) -> None:
    bench = LineBench(era)
    bench.line(IRQ)
    bench.request(IRQ, wake, name="odd")
    for _ in range(2):
        irq_sim_fire(bench.cpu, IRQ)
        bench.settle()
    text = "IRQ 5 device odd returned IRQ_WAKE_THREAD but no thread function available."
    assert [line for line in bench.log() if "WAKE_THREAD" in line] == [text]


@threaded
def test_free_irq_ends_the_thread_after_what_it_still_has_to_do(era: str) -> None:
    bench = LineBench(era)
    thread = Recorder(bench, length=100)
    desc = bench.line(IRQ)
    bench.request(IRQ, None, IRQF_ONESHOT, name="mouse", thread_fn=thread)
    task = desc.actions[0].thread
    assert task is not None
    irq_sim_fire(bench.cpu, IRQ)
    bench.run_until(lambda: thread.runs == 1)
    assert bench.run(free_irq(bench.cpu, IRQ, "dev")) == "mouse"
    assert thread.ended
    assert task.state == TASK_DEAD
    assert comms(bench) == []


def test_free_irq_ends_a_thread_that_never_ran() -> None:
    bench = LineBench()
    bench.line(IRQ)
    bench.request(IRQ, None, IRQF_ONESHOT, thread_fn=Recorder(bench))
    bench.run(free_irq(bench.cpu, IRQ, "dev"))
    assert comms(bench) == []


# ---------------------------------------------------------------- threadirqs

ON = {"threadirqs": "on"}


@pytest.mark.parametrize(("era", "irqs_on"), [("3.10", True), ("6.1", False)])
def test_a_forced_handler_runs_in_a_thread_with_bottom_halves_off(era: str, irqs_on: bool) -> None:
    bench, seen = LineBench(era, overrides=ON), []
    desc = bench.line(IRQ, "fasteoi")

    def handler(_irq: int, _dev: object) -> int:
        cpu = bench.cpu
        seen.append((cpu.current.comm, cpu.in_irq(), cpu.in_softirq(), cpu.irqs_on))
        return IRQ_HANDLED

    assert bench.request(IRQ, handler, name="disk") == 0
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert seen == [("irq/5-disk", False, True, irqs_on)]
    assert not desc.state & IRQD_IRQ_MASKED
    assert bench.cpu.preempt_count == 0
    assert bench.cpu.irqs_on


@threaded
@pytest.mark.parametrize("flags", [IRQF_NO_THREAD, IRQF_PERCPU, IRQF_ONESHOT])
def test_some_handlers_are_not_forced(era: str, flags: int) -> None:
    bench, seen = LineBench(era, overrides=ON), []
    bench.line(IRQ)
    bench.request(IRQ, lambda i, d: seen.append(bench.cpu.in_irq()) or 1, flags)
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert seen == [True]


@pytest.mark.parametrize(
    ("era", "threads"), [("3.10", ["irq/5-disk"]), ("6.1", ["irq/5-disk", "irq/5-s-disk"])]
)
def test_6_1_gives_a_forced_handler_with_a_thread_of_its_own_a_second_one(
    era: str, threads: list[str]
) -> None:
    bench, seen = LineBench(era, overrides=ON), []
    desc = bench.line(IRQ, "fasteoi")

    def note(what: str, result: int) -> Any:
        def run(_irq: int, _dev: object) -> int:
            seen.append((what, bench.cpu.in_irq(), bench.cpu.current.comm))
            return result

        return run

    bench.request(
        IRQ, note("handler", IRQ_WAKE_THREAD), 0, "disk", "dev", note("thread", IRQ_HANDLED)
    )
    assert comms(bench) == threads
    irq_sim_fire(bench.cpu, IRQ)
    bench.settle()
    assert [what for what, *_ in seen] == ["handler", "thread"]
    assert seen[0][1] == (era == "3.10")
    assert seen[1][2] == threads[-1]
    assert desc.threads_active == 0
    assert not desc.state & IRQD_IRQ_MASKED
    bench.run(free_irq(bench.cpu, IRQ, "dev"))
    assert comms(bench) == []


@threaded
def test_a_nic_works_with_threadirqs_and_takes_its_threads_with_it(era: str) -> None:
    box = Box(era, cpus=2, nics=1, overrides=(("threadirqs", "on"),))
    assert box.ping("-c", "3").code == 0

    def threads() -> list[str]:
        names = [row[1] for cpu in ("cpu0", "cpu1") for row in box.ask(cpu, "state")["tasks"]]
        return [name.partition("-")[2] for name in names if name.startswith("irq/")]

    assert threads() == ["eth0-TxRx-0", "eth0", "eth0-TxRx-1"]
    assert box.run("pci-remove", "eth0").code == 0
    box.live(10)
    assert threads() == []


# ---------------------------------------------------------------- SCHED_FIFO


def spin(bench: LineBench, order: list[str], name: str, times: int) -> Context:
    for _ in range(times):
        order.append(name)
        yield USER
    order.append(f"{name} ends")


def test_a_woken_fifo_task_runs_before_fair_ones_and_to_its_end() -> None:
    bench, order = LineBench(), []
    bench.task(spin(bench, order, "fair", 20), nice=-20)
    bench.run_until(lambda: len(order) >= 3)
    fifo = bench.task(spin(bench, order, "fifo", 20_000))
    sched_set_fifo(fifo, 1)
    bench.cpu.need_resched = True
    bench.settle()
    first, last = order.index("fifo"), order.index("fifo ends")
    assert set(order[first:last]) == {"fifo"}
    assert order[-1] == "fair ends"


def test_the_higher_fifo_priority_preempts_and_the_preempted_goes_on_before_its_equals() -> None:
    bench, order = LineBench(), []
    for name, priority in (("a", 50), ("b", 50)):
        sched_set_fifo(bench.task(spin(bench, order, name, 30)), priority)
    bench.run_until(lambda: len(order) == 5)
    sched_set_fifo(bench.task(spin(bench, order, "high", 5)), 60)
    bench.cpu.need_resched = True
    bench.settle()
    changes = [name for i, name in enumerate(order) if i == 0 or order[i - 1][0] != name[0]]
    assert changes == ["a", "high", "a", "b"]


def test_a_fifo_task_leaves_the_fair_ones_clock_alone() -> None:
    bench, order = LineBench(), []
    fifo = bench.task(spin(bench, order, "fifo", 100))
    sched_set_fifo(fifo, 50)
    before = bench.cpu.rq.min_vruntime
    bench.settle()
    assert bench.cpu.rq.min_vruntime >= before
    fair = bench.task(spin(bench, order, "fair", 3))
    assert fair.vruntime >= -6_000_000
    bench.settle()
