"""Taking PENDING from a work that somebody has in hand: who waits, and how."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.workqueue import (
    cancel_work,
    cancel_work_sync,
    mod_delayed_work,
    queue_delayed_work_on,
    queue_work_on,
)
from nodes.cpu.kernel.workqueue.work import mark_work_canceling
from tests.nodes.cpu.harness import MS, BareCpu
from tests.nodes.cpu.several import Several
from tests.nodes.cpu.workqueue.bench import CMWQ, Log, compute, now

VECTOR = 0x52


@pytest.mark.parametrize("era", CMWQ)
def test_a_task_gives_way_to_the_one_of_its_cpu_that_holds_pending(era: str) -> None:
    """A thread that took a work off cpu1's list sleeps until it is told; one of highest priority
    that wants the same work must not spin before it."""
    two = Several(era, 2)
    log = Log(*two.all)
    busy, work = log.work("a", compute), log.work("b")
    zero = two.zero.cpu
    two.task(0, queue_work_on(zero, 1, zero.wq.system_wq, busy))
    two.task(0, queue_work_on(zero, 1, zero.wq.system_wq, work))
    two.until(lambda: log.order == ["a begins"])
    answers: list[bool] = []

    def cancel(cpu: Cpu) -> Context:
        answers.append((yield from cancel_work(cpu, work)))

    two.task(0, cancel(zero))
    while not zero.wq.questions.waiting:
        two.zero.step()
    two.zero.step(3)  # it has asked, and sleeps
    two.deliver()
    two.one.step(40)  # taken off; the answer is on its way
    two.zero.task(cancel(zero), "second", nice=-20)
    two.live(50 * MS)
    assert sorted(answers) == [False, True]
    assert log.order == ["a begins", "a ends"]


@pytest.mark.parametrize("era", CMWQ)
def test_a_hard_interrupt_leaves_a_work_that_is_on_its_way_to_its_own_cpu(era: str) -> None:
    two = Several(era, 2)
    log = Log(*two.all)
    work, one = log.work("a"), two.one.cpu
    found: list[bool] = []

    def handler(_irq: int, _dev: object) -> Context:
        found.append((yield from mod_delayed_work(two.zero.cpu, wq, work, 5)))
        return IRQ_HANDLED

    wq = two.zero.cpu.wq.system_wq
    two.zero.irq(VECTOR, handler)
    assert now(queue_delayed_work_on(one, 0, one.wq.system_wq, log.view(one, "a"), 0))
    two.zero.vector(VECTOR)  # before the IPI of the record
    two.zero.step(40)
    assert found == [True]
    two.one.turn()  # its IPI leaves
    two.live(40 * MS)
    assert log.order == ["a begins", "a ends"]


@pytest.mark.parametrize("era", CMWQ)
def test_mod_delayed_work_of_a_work_that_is_being_cancelled_is_true_and_does_nothing(
    era: str,
) -> None:
    two = Several(era, 2)
    log, cpu = Log(*two.all), two.zero.cpu
    work = log.work("a")
    cpu.ram.atomics.test_and_set(work.number)
    mark_work_canceling(cpu, work)
    assert now(mod_delayed_work(cpu, cpu.wq.system_wq, work, 0))
    two.live(10 * MS)
    assert log.order == []


def test_a_canceller_of_2_6_18_lets_others_run_while_somebody_has_pending() -> None:
    """The only CPU answers its question at once: it would loop without a boundary."""
    bench = BareCpu("2.6.18")
    log, cpu = Log(bench), bench.cpu
    work = log.work("a")
    answers: list[bool] = []

    def cancel() -> Context:
        answers.append((yield from cancel_work_sync(cpu, work)))

    cpu.ram.atomics.test_and_set(work.number)
    bench.task(cancel())
    bench.run_for(5 * MS)
    assert answers == []
    cpu.ram.atomics.release(work.number)
    bench.run_for(5 * MS)
    assert answers == [False]
