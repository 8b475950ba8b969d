"""Sleeping in atomic context: who says so, in which words, and what becomes of the sleeper."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bus.messages import PeerLost
from nodes.cpu.kernel.hrtimer import nanosleep
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.locks.mutex import Mutex, mutex_lock, mutex_unlock
from nodes.cpu.kernel.locks.spinlock import Spinlock, spin_lock, spin_unlock
from nodes.cpu.kernel.percpu import ALL_ONES, USER, Context, Cpu, MmioRead
from nodes.cpu.kernel.softirq import (
    NET_RX_SOFTIRQ,
    local_bh_disable,
    local_bh_enable,
    raise_softirq_irqoff,
)
from nodes.cpu.kernel.timer import msleep
from tests.nodes.cpu.duo import ON
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu, handled

COUNTED = (("preempt_count", "on"),)
VECTOR = 0x41


def bugs(bench: BareCpu) -> list[str]:
    return [line for line in bench.log() if line.startswith("BUG: ")]


def under_spinlock(cpu: Cpu, sleep: Callable[[], Context], done: list[int]) -> Context:
    table = Spinlock(40, "t")
    yield from spin_lock(cpu, table)
    yield from sleep()
    done.append(cpu.preempt_count)
    yield from spin_unlock(cpu, table)


# ---------------------------------------------------------------- might_sleep


@pytest.mark.parametrize(
    ("era", "lines"),
    [
        (
            "2.6.18",
            [
                "BUG: sleeping function called from invalid context at kernel/mutex.c",
                "in_atomic():1, irqs_disabled():0",
            ],
        ),
        (
            "3.10",
            [
                "BUG: sleeping function called from invalid context at kernel/mutex.c",
                "in_atomic(): 1, irqs_disabled(): 0, pid: {pid}, name: test",
            ],
        ),
        (
            "6.1",
            [
                "BUG: sleeping function called from invalid context at kernel/locking/mutex.c",
                "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: {pid}, name: test",
                "preempt_count: 1, expected: 0",
            ],
        ),
    ],
)
def test_mutex_lock_under_a_spinlock(era: str, lines: list[str]) -> None:
    bench, done = BareCpu(era, overrides=COUNTED), []
    mutex = Mutex(41, "m")
    task = bench.task(under_spinlock(bench.cpu, lambda: mutex_lock(bench.cpu, mutex), done))
    bench.run_for(10 * MS)
    log = bench.log()
    at = log.index(lines[0])
    assert log[at : at + len(lines)] == [line.format(pid=task.pid) for line in lines]
    assert " mutex_lock" in log[at:]
    assert done == [1]  # the mutex was free: nothing slept


@pytest.mark.parametrize("era", ERAS)
def test_mutex_lock_with_interrupts_off_in_a_softirq_and_in_an_interrupt(era: str) -> None:
    for where in ("irqs off", "BH off", "softirq", "hardirq"):
        bench = BareCpu(era, overrides=COUNTED)
        mutex = Mutex(41, "m")

        def off(cpu: Cpu, mutex: Mutex = mutex) -> Context:
            local_irq_disable(cpu)
            yield from mutex_lock(cpu, mutex)
            local_irq_enable(cpu)

        def bh_off(cpu: Cpu, mutex: Mutex = mutex) -> Context:
            local_bh_disable(cpu)
            yield from mutex_lock(cpu, mutex)
            yield from local_bh_enable(cpu)

        def softirq(cpu: Cpu, mutex: Mutex = mutex) -> Context:
            yield from mutex_lock(cpu, mutex)

        def handler(
            irq: int, dev: object, mutex: Mutex = mutex, bench: BareCpu = bench, where: str = where
        ) -> Context:
            if where == "hardirq":
                yield from mutex_lock(bench.cpu, mutex)
            raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
            return handled(irq, dev)

        if where == "irqs off":
            bench.task(off(bench.cpu))
        elif where == "BH off":
            bench.task(bh_off(bench.cpu))
        else:
            bench.irq(VECTOR, handler)
            bench.softirq(NET_RX_SOFTIRQ, softirq if where == "softirq" else nothing)
            bench.vector(VECTOR)
        bench.run_for(10 * MS)
        assert len(bugs(bench)) == 1, where
        answer = next(line for line in bench.log() if line.startswith("in_atomic()"))
        atomic = where != "irqs off"
        disabled = where == "irqs off" or (where == "hardirq" and era != "2.6.18")
        spaces = ":" if era == "2.6.18" else ": "
        assert answer.startswith(
            f"in_atomic(){spaces}{int(atomic)}, irqs_disabled(){spaces}{int(disabled)}"
        ), where


def nothing(_cpu: Cpu) -> Context:
    yield


def test_at_most_one_report_a_second() -> None:
    bench, mutex = BareCpu(overrides=COUNTED), Mutex(41, "m")

    def task(cpu: Cpu) -> Context:
        for pause_ms in (1, 1, 1500):
            local_irq_disable(cpu)
            yield from mutex_lock(cpu, mutex)
            local_irq_enable(cpu)
            yield from mutex_unlock(cpu, mutex)
            yield from msleep(cpu, pause_ms)
        local_irq_disable(cpu)
        yield from mutex_lock(cpu, mutex)
        local_irq_enable(cpu)

    bench.task(task(bench.cpu))
    bench.run_for(3 * SECOND)
    assert len(bugs(bench)) == 2


def test_a_kernel_that_does_not_count_says_nothing_of_a_spinlock() -> None:
    bench, done, mutex = BareCpu(), [], Mutex(41, "m")
    bench.task(under_spinlock(bench.cpu, lambda: mutex_lock(bench.cpu, mutex), done))
    bench.run_for(10 * MS)
    assert bugs(bench) == []
    assert done == [0]


def test_held_locks_stand_in_the_report_where_lockdep_knows_them() -> None:
    bench, done, mutex = BareCpu(overrides=ON), [], Mutex(41, "m")
    task = bench.task(under_spinlock(bench.cpu, lambda: mutex_lock(bench.cpu, mutex), done))
    bench.run_for(10 * MS)
    log = bench.log()
    at = log.index(f"1 lock held by test/{task.pid}:")
    assert log[at + 1].endswith("(t){+.+.}-{2:2}, at: under_spinlock")


# ---------------------------------------------------------------- schedule


@pytest.mark.parametrize(
    ("era", "text"),
    [
        ("2.6.18", "BUG: scheduling while atomic: test/0x00000001/{pid}"),
        ("3.10", "BUG: scheduling while atomic: test/{pid}/0x00000001"),
        ("6.1", "BUG: scheduling while atomic: test/{pid}/0x00000001"),
    ],
)
@pytest.mark.parametrize("sleep", [msleep, nanosleep])
def test_a_sleep_under_a_spinlock_is_said_and_happens(
    era: str, text: str, sleep: Callable[[Cpu, int], Context]
) -> None:
    bench, done = BareCpu(era, overrides=COUNTED), []
    duration = 20 if sleep is msleep else 20 * MS
    others: list[int] = []

    def other(cpu: Cpu) -> Context:
        others.append(cpu.preempt_count)
        yield USER

    task = bench.task(under_spinlock(bench.cpu, lambda: sleep(bench.cpu, duration), done))
    bench.task(other(bench.cpu), "other")
    bench.run_for(15 * MS)
    assert others == [0]  # who runs meanwhile is not atomic
    assert not done
    bench.run_for(50 * MS)
    assert set(bugs(bench)) == {text.format(pid=task.pid)}
    assert done == [1]  # its count came back with it
    assert bench.cpu.preempt_count == 0


def test_without_the_count_the_spinlock_sleeps_unseen() -> None:
    bench, done = BareCpu(), []
    bench.task(under_spinlock(bench.cpu, lambda: msleep(bench.cpu, 5), done))
    bench.run_for(50 * MS)
    assert bugs(bench) == []
    assert done == [0]


@pytest.mark.parametrize("era", ERAS)
def test_a_sleep_with_bottom_halves_off_is_seen_by_every_kernel(era: str) -> None:
    bench, done = BareCpu(era), []

    def task(cpu: Cpu) -> Context:
        local_bh_disable(cpu)
        yield from msleep(cpu, 5)
        done.append(cpu.in_softirq())
        yield from local_bh_enable(cpu)

    bench.task(task(bench.cpu))
    bench.run_for(50 * MS)
    assert "scheduling while atomic" in bugs(bench)[0]
    assert done == [True]
    assert bench.cpu.preempt_count == 0


def test_a_sleep_with_interrupts_off_turns_them_on() -> None:
    bench, seen = BareCpu(), []

    def task(cpu: Cpu) -> Context:
        local_irq_disable(cpu)
        yield from msleep(cpu, 5)
        seen.append(cpu.irqs_on)

    bench.task(task(bench.cpu))
    bench.run_for(50 * MS)
    assert seen == [True]
    assert bugs(bench) == []


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("where", ["softirq", "hardirq"])
def test_a_sleep_in_an_interrupt_puts_the_interrupted_task_to_sleep(era: str, where: str) -> None:
    bench, order = BareCpu(era), []

    def sleeper(cpu: Cpu) -> Context:
        order.append("sleeps")
        yield from msleep(cpu, 10)
        order.append("woke")

    def handler(irq: int, dev: object) -> Context:
        if where == "hardirq":
            yield from sleeper(bench.cpu)
        else:
            raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
            yield
        return handled(irq, dev)

    def victim(cpu: Cpu) -> Context:
        cpu.lapic.accept(VECTOR)
        for _ in range(20):
            yield USER
        order.append("victim ends")

    bench.softirq(NET_RX_SOFTIRQ, sleeper)
    bench.irq(VECTOR, handler)
    task = bench.task(victim(bench.cpu), "victim")
    bench.run_for(5 * MS)
    assert order == ["sleeps"]
    assert bench.cpu.current is bench.cpu.idle
    assert bench.cpu.preempt_count == 0
    bench.run_for(100 * MS)
    assert order == ["sleeps", "woke", "victim ends"]
    assert f"victim/{task.pid}" in bugs(bench)[0] or era == "2.6.18"
    assert bench.cpu.preempt_count == 0
    assert bench.cpu.irqs_on


def test_what_the_interrupted_task_was_to_be_told_sleeps_with_it() -> None:
    """A read had just ended when the interrupt came; another task is interrupted meanwhile."""
    bench, told = BareCpu("3.10", nics=1, boot=False), {}
    bench.turn(("eth0", PeerLost(1)))  # a read is all ones at once
    bench.settle()

    def handler(irq: int, dev: object) -> Context:
        if bench.cpu.current.comm == "reader":
            yield from msleep(bench.cpu, 10)
        return handled(irq, dev)

    def reader(cpu: Cpu) -> Context:
        cpu.lapic.accept(VECTOR)
        told["reader"] = yield MmioRead(0, 8)

    def other(cpu: Cpu) -> Context:
        cpu.lapic.eoi()  # of the interrupt that sleeps
        cpu.lapic.accept(VECTOR + 0x10)
        told["other"] = yield

    bench.irq(VECTOR, handler)
    bench.irq(VECTOR + 0x10, handled)
    bench.task(reader(bench.cpu), "reader")
    bench.task(other(bench.cpu), "other")
    bench.run_for(100 * MS)
    assert told == {"reader": ALL_ONES, "other": None}


def test_the_idle_task_cannot_sleep() -> None:
    bench = BareCpu()

    def handler(irq: int, dev: object) -> Context:
        yield from msleep(bench.cpu, 10)
        return handled(irq, dev)

    bench.irq(VECTOR, handler)
    bench.vector(VECTOR)
    bench.run_for(10 * MS)
    log = bench.log()
    assert log[-1] == "Kernel panic - not syncing: Fatal exception in interrupt"
    assert "bad: scheduling from the idle thread!" in log
    assert bench["online"] == 0


def test_a_task_that_ends_with_a_count_is_noted_and_takes_it_along() -> None:
    bench = BareCpu(overrides=COUNTED)
    task = bench.task(spin_lock(bench.cpu, Spinlock(40, "t")))
    bench.run_for(10 * MS)
    assert f"note: test[{task.pid}] exited with preempt_count 1" in bench.log()
    assert bench.cpu.preempt_count == 0
