"""Spinlocks: what each variant switches off and on, and who waits for whom."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.locks.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_bh,
    spin_lock_irq,
    spin_lock_irqsave,
    spin_trylock,
    spin_unlock,
    spin_unlock_bh,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)
from nodes.cpu.kernel.percpu import Context, Cpu, Pause
from nodes.cpu.kernel.sched import kthread_run
from nodes.cpu.kernel.softirq import (
    NET_RX_SOFTIRQ,
    __raise_softirq_irqoff,
    local_bh_disable,
    local_bh_enable,
    raise_softirq_irqoff,
)
from tests.nodes.cpu.duo import Duo
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu, Box, handled

COUNTED = (("preempt_count", "on"),)
VECTOR = 0x41


def lock() -> Spinlock:
    return Spinlock(40, "&table->lock")


def run(bench: BareCpu, gen: Context) -> None:
    bench.task(gen)
    bench.settle()


# ---------------------------------------------------------------- the variants


@pytest.mark.parametrize("era", ERAS)
def test_each_variant_switches_off_what_its_name_says_and_puts_it_back(era: str) -> None:
    bench, table = BareCpu(era, overrides=COUNTED), lock()
    bh = bench.cpu.params.softirq_disable_offset
    seen: list[tuple[int, bool]] = []

    def task(cpu: Cpu) -> Context:
        def note() -> None:
            seen.append((cpu.preempt_count, cpu.irqs_on))

        yield from spin_lock(cpu, table)
        note()
        assert table.holder(cpu) == 0
        yield from spin_unlock(cpu, table)
        yield from spin_lock_bh(cpu, table)
        note()
        yield from spin_unlock_bh(cpu, table)
        yield from spin_lock_irq(cpu, table)
        note()
        yield from spin_unlock_irq(cpu, table)
        flags = yield from spin_lock_irqsave(cpu, table)
        note()
        yield from spin_unlock_irqrestore(cpu, table, flags)
        note()
        assert table.holder(cpu) is None

    run(bench, task(bench.cpu))
    assert seen == [(1, True), (bh + 1, True), (1, False), (1, False), (0, True)]


@pytest.mark.conformance("K7.1-1")
def test_unlock_irq_turns_interrupts_on_where_they_were_off_before_and_irqrestore_does_not() -> (
    None
):
    bench, table, seen = BareCpu(), lock(), []

    def task(cpu: Cpu) -> Context:
        local_irq_disable(cpu)
        flags = yield from spin_lock_irqsave(cpu, table)
        yield from spin_unlock_irqrestore(cpu, table, flags)
        seen.append(cpu.irqs_on)
        yield from spin_lock_irq(cpu, table)
        yield from spin_unlock_irq(cpu, table)
        seen.append(cpu.irqs_on)

    run(bench, task(bench.cpu))
    assert seen == [False, True]


@pytest.mark.conformance("K7.1-2")
@pytest.mark.parametrize(
    ("era", "prove", "said"),
    [
        ("2.6.18", "off", "BUG: warning at kernel/softirq.c/local_bh_enable()"),
        ("3.10", "off", "WARNING: at kernel/softirq.c local_bh_enable()"),
        ("6.1", "on", "WARNING: CPU: 0 PID: "),
        ("6.1", "off", None),  # lockdep_assert_irqs_enabled: only who validates is told
    ],
)
def test_unlock_bh_with_interrupts_off_warns(era: str, prove: str, said: str | None) -> None:
    bench, table = BareCpu(era, overrides=(("prove_locking", prove),)), lock()

    def task(cpu: Cpu) -> Context:
        yield from spin_lock_bh(cpu, table)
        local_irq_disable(cpu)
        yield from spin_unlock_bh(cpu, table)
        local_irq_enable(cpu)

    run(bench, task(bench.cpu))
    found = [line for line in bench.log() if "kernel/softirq.c" in line]
    assert [line.startswith(said) for line in found] == [True] if said else found == []


@pytest.mark.conformance("K7.1-3")
def test_softirqs_raised_under_a_bh_lock_run_at_the_outermost_bh_enable() -> None:
    bench, outer, inner = BareCpu(), lock(), Spinlock(41, "inner")
    order: list[str] = []

    def action(cpu: Cpu) -> Context:
        assert outer.holder(cpu) is None  # after the lock is free
        order.append("NET_RX")
        yield

    def task(cpu: Cpu) -> Context:
        yield from spin_lock_bh(cpu, outer)
        yield from spin_lock_bh(cpu, inner)
        __raise_softirq_irqoff(cpu, NET_RX_SOFTIRQ)
        yield
        yield from spin_unlock_bh(cpu, inner)
        order.append("inner unlocked")
        yield from spin_unlock_bh(cpu, outer)
        order.append("outer unlocked")

    bench.softirq(NET_RX_SOFTIRQ, action)
    run(bench, task(bench.cpu))
    assert order == ["inner unlocked", "NET_RX", "outer unlocked"]
    assert bench["ksoftirqd_wakeups"] == 0


@pytest.mark.conformance("K7.1-4")
def test_no_softirq_starts_while_interrupts_are_off_and_bh_enable_warns_in_there() -> None:
    bench, table = BareCpu("3.10"), lock()
    order: list[str] = []

    def action(_cpu: Cpu) -> Context:
        order.append("NET_RX")
        yield

    def handler(_irq: int, _dev: object) -> int:
        raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
        return handled(_irq, _dev)

    def task(cpu: Cpu) -> Context:
        yield from spin_lock_irq(cpu, table)
        cpu.lapic.accept(VECTOR)
        for _ in range(20):
            yield
        order.append("unlock")
        yield from spin_unlock_irq(cpu, table)
        local_irq_disable(cpu)
        local_bh_disable(cpu)
        yield from local_bh_enable(cpu)
        local_irq_enable(cpu)

    bench.softirq(NET_RX_SOFTIRQ, action)
    bench.irq(VECTOR, handler)
    run(bench, task(bench.cpu))
    assert order == ["unlock", "NET_RX"]
    assert any("WARNING: at kernel/softirq.c" in line for line in bench.log())


def test_a_kernel_that_does_not_count_sees_no_spinlock() -> None:
    bench, table, seen = BareCpu(), lock(), []

    def task(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        seen.append((cpu.preempt_count, cpu.in_atomic()))
        yield from spin_unlock(cpu, table)

    run(bench, task(bench.cpu))
    assert seen == [(0, False)]


def test_trylock_never_waits() -> None:
    bench, table, got = BareCpu(overrides=COUNTED), lock(), []

    def task(cpu: Cpu) -> Context:
        got.append((yield from spin_trylock(cpu, table)))
        got.append((yield from spin_trylock(cpu, table)))
        got.append(cpu.preempt_count)
        yield from spin_unlock(cpu, table)
        got.append(cpu.preempt_count)

    run(bench, task(bench.cpu))
    assert got == [True, False, 1, 0]


# ---------------------------------------------------------------- who waits


def test_a_cpu_spins_until_the_other_lets_go_and_takes_interrupts_meanwhile() -> None:
    duo, table, order = Duo(), lock(), []
    go: list[bool] = []

    def holder(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        order.append("cpu0 has it")
        while not go:
            yield
        order.append("cpu0 lets go")
        yield from spin_unlock(cpu, table)

    def waiter(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        order.append("cpu1 has it")
        yield from spin_unlock(cpu, table)

    def handler(_irq: int, _dev: object) -> int:
        order.append("interrupt on cpu1")
        return handled(_irq, _dev)

    duo.one.irq(VECTOR, handler)
    duo.zero.task(holder(duo.zero.cpu))
    while not order:
        duo.step(0)
    duo.one.task(waiter(duo.one.cpu))
    for _ in range(50):
        duo.step(1)
    duo.one.vector(VECTOR)
    for _ in range(50):
        duo.step(1)
    go.append(True)
    for _ in range(50):
        duo.step(0)
        duo.step(1)
    assert order == ["cpu0 has it", "interrupt on cpu1", "cpu0 lets go", "cpu1 has it"]


def test_with_interrupts_off_a_spinning_cpu_takes_none() -> None:
    duo, table, ran = Duo(), lock(), []
    duo.zero.ram.atomics.store(table.word, 1)  # cpu0 has it
    duo.one.irq(VECTOR, lambda _irq, _dev: ran.append("x") or handled(_irq, _dev))
    duo.one.task(spin_lock_irq(duo.one.cpu, table))
    for _ in range(20):
        duo.step(1)
    duo.one.vector(VECTOR)
    for _ in range(50):
        duo.step(1)
    assert not ran
    duo.zero.ram.atomics.store(table.word, 0)
    for _ in range(20):
        duo.step(1)
    assert table.holder(duo.one.cpu) == 1


def test_a_lock_of_a_killed_cpu_stays_held() -> None:
    box, table, got = Box(cpus=2), lock(), []
    simulation = box.machine.simulation
    one: Any = simulation.node("cpu1")
    zero: Any = simulation.node("cpu0")

    def holder(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        while True:
            yield Pause(cpu.now() + MS)

    def waiter(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        got.append(cpu.number)

    kthread_run(one.cpu, "holder", holder(one.cpu))
    box.ping("-c", "1", cpu="cpu0")
    box.live(5)
    assert table.holder(zero.cpu) == 1
    simulation.kill("cpu1")
    kthread_run(zero.cpu, "waiter", waiter(zero.cpu))
    box.live(50)
    assert not got
    assert table.holder(zero.cpu) == 1


def test_a_lock_of_its_own_cpu_is_waited_for_in_vain() -> None:
    bench, table, order = BareCpu(), lock(), []

    def task(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        order.append("once")
        yield from spin_lock(cpu, table)
        order.append("twice")

    bench.task(task(bench.cpu))
    bench.run_for(500 * MS)
    assert order == ["once"]
    assert bench.cpu.current.comm == "test"  # it still has the CPU


@pytest.mark.parametrize(
    ("era", "text"),
    [
        ("2.6.18", "BUG: soft lockup detected on CPU#0!"),
        ("3.10", "BUG: soft lockup - CPU#0 stuck for 2"),
        ("6.1", "watchdog: BUG: soft lockup - CPU#0 stuck for 2"),
    ],
)
def test_the_deadlock_ends_as_a_soft_lockup_in_the_log(era: str, text: str) -> None:
    bench, table = BareCpu(era), lock()

    def task(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        yield from spin_lock(cpu, table)

    bench.task(task(bench.cpu))
    bench.run_for(25 * SECOND)
    log = bench.log()
    assert len([line for line in log if line.startswith(text)]) == 1
    assert " do_raw_spin_lock" in log


@pytest.mark.conformance("K7.2-1")
@pytest.mark.parametrize("era", ERAS)
def test_a_plain_lock_in_a_process_deadlocks_with_the_softirq_that_comes_in_between(
    era: str,
) -> None:
    bench, table, order = BareCpu(era), lock(), []

    def receive(cpu: Cpu) -> Context:
        order.append("NET_RX wants it")
        yield from spin_lock(cpu, table)
        order.append("NET_RX has it")
        yield from spin_unlock(cpu, table)

    def handler(_irq: int, _dev: object) -> int:
        raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
        return handled(_irq, _dev)

    def task(cpu: Cpu, lock_it: Callable[..., Context], unlock: Callable[..., Context]) -> Context:
        yield from lock_it(cpu, table)
        cpu.lapic.accept(VECTOR)
        for _ in range(20):
            yield
        yield from unlock(cpu, table)
        order.append("process done")

    bench.softirq(NET_RX_SOFTIRQ, receive)
    bench.irq(VECTOR, handler)
    bench.task(task(bench.cpu, spin_lock_bh, spin_unlock_bh))
    bench.run_for(10 * MS)
    assert order == ["NET_RX wants it", "NET_RX has it", "process done"]
    order.clear()
    bench.task(task(bench.cpu, spin_lock, spin_unlock))
    bench.run_for(10 * MS)
    assert order == ["NET_RX wants it"]
    assert table.holder(bench.cpu) == 0


@pytest.mark.conformance("K7.2-2")
def test_the_softirq_side_may_use_the_plain_lock() -> None:
    duo, table = Duo(), lock()
    inside: list[int] = []
    worst: list[int] = [0]
    in_softirq: list[int] = [0]

    def critical(cpu: Cpu) -> Context:
        inside.append(cpu.number)
        worst[0] = max(worst[0], len(inside))
        for _ in range(3):
            yield
        inside.remove(cpu.number)

    def receive(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        in_softirq[0] += 1
        yield from critical(cpu)
        yield from spin_unlock(cpu, table)

    def task(cpu: Cpu) -> Context:
        for _ in range(10):
            yield from spin_lock_bh(cpu, table)
            yield from critical(cpu)
            yield from spin_unlock_bh(cpu, table)

    rng = random.Random(1)
    for bench in duo.both:
        bench.softirq(NET_RX_SOFTIRQ, receive)
        bench.irq(VECTOR, raise_net_rx(bench))
        bench.task(task(bench.cpu))
    for _ in range(1500):
        number = rng.randrange(2)
        if rng.random() < 0.05:
            duo.both[number].vector(VECTOR)
        duo.step(number)
    for _ in range(500):
        duo.step(0)
        duo.step(1)
    assert duo.idle()
    assert worst == [1]
    assert in_softirq[0] > 20
    assert not [line for line in duo.log() if "WARNING" in line]


def raise_net_rx(bench: BareCpu) -> Callable[[int, object], int]:
    def handler(_irq: int, _dev: object) -> int:
        raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
        return handled(_irq, _dev)

    return handler


def test_a_deadlock_costs_few_looks_and_a_short_wait_is_short() -> None:
    bench, table = BareCpu(), lock()
    bench.ram.atomics.store(table.word, 2)  # cpu1 has it
    before = bench["boundaries"]
    bench.task(spin_lock(bench.cpu, table))
    bench.run_for(SECOND)
    assert bench["boundaries"] - before < 10_000
    bench = BareCpu()
    bench.ram.atomics.store(table.word, 2)
    bench.task(spin_lock(bench.cpu, table))
    bench.run_for(100_000)
    bench.ram.atomics.store(table.word, 0)
    freed_ns = bench.ns
    bench.run_until(lambda: table.holder(bench.cpu) == 0)
    assert bench.ns - freed_ns < 20_000
