"""Arming, deleting and running timers: what each call promises, flags, slack, leaks, events."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.hrtimer import HrTimer
from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.percpu import USER, Context, Cpu
from nodes.cpu.kernel.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, wake_up_process
from nodes.cpu.kernel.timer import (
    MAX_SCHEDULE_TIMEOUT,
    TIMER_DEFERRABLE,
    TIMER_IRQSAFE,
    Timer,
    schedule_timeout,
    timer_setup,
)
from nodes.cpu.trace import TRACEPOINTS
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu

VECTOR = 0x41


def armed(bench: BareCpu, delay: int, function: Any = lambda cpu: None, flags: int = 0) -> Timer:
    timer = Timer(function, flags)
    bench.cpu.timers.mod_timer_pinned(timer, bench.cpu.jiffies() + delay)
    return timer


# ---------------------------------------------------------------- arming


@pytest.mark.parametrize("era", ERAS)
def test_adding_a_pending_timer_is_a_bug(era: str) -> None:
    bench = BareCpu(era)
    timer = armed(bench, 50)

    def task(cpu: Cpu) -> Context:
        yield
        cpu.timers.add_timer(timer)

    victim = bench.task(task(bench.cpu))
    bench.settle()
    assert any("kernel BUG at" in line for line in bench.log())
    assert victim.gen is None  # the oops ended it


@pytest.mark.parametrize("era", ERAS)
def test_add_timer_arms_for_the_expiry_it_carries(era: str) -> None:
    bench, fired = BareCpu(era), []
    timer = Timer(lambda cpu: fired.append(cpu.jiffies()))
    timer.expires = bench.cpu.jiffies() + 20
    bench.cpu.timers.add_timer(timer)
    bench.run_for(SECOND)
    assert fired[0] - timer.expires in (0, 1)


@pytest.mark.parametrize("era", ERAS)
def test_mod_timer_pending_arms_nothing_that_is_not_pending(era: str) -> None:
    bench, fired = BareCpu(era), []
    timers = bench.cpu.timers
    timer = Timer(lambda cpu: fired.append(cpu.jiffies()))
    assert not timers.mod_timer_pending(timer, bench.cpu.jiffies() + 5)
    assert not timer.pending()
    timers.mod_timer(timer, bench.cpu.jiffies() + 100)
    assert timers.mod_timer_pending(timer, bench.cpu.jiffies() + 5)
    bench.run_for(30 * SECOND // bench.cpu.params.hz)
    assert len(fired) == 1


@pytest.mark.parametrize("era", ERAS)
def test_the_same_expiry_again_changes_nothing(era: str) -> None:
    bench, order = BareCpu(era), []
    timers, expires = bench.cpu.timers, bench.cpu.jiffies() + 20
    first, second = (Timer(lambda cpu, n=n: order.append(n)) for n in ("first", "second"))
    timers.mod_timer(first, expires)
    timers.mod_timer(second, expires)
    assert timers.mod_timer(first, expires)  # keeps its place
    bench.run_for(SECOND)
    assert order == (["second", "first"] if era == "6.1" else ["first", "second"])


@pytest.mark.parametrize("era", ERAS)
def test_timer_reduce_makes_earlier_never_later(era: str) -> None:
    bench = BareCpu(era)
    timers, now = bench.cpu.timers, bench.cpu.jiffies()
    timer = armed(bench, 1000)
    assert timers.timer_reduce(timer, now + 2000)
    assert timer.expires == now + 1000
    assert timers.timer_reduce(timer, now + 30)
    assert timer.expires == now + 30
    timers.del_timer(timer)
    assert not timers.timer_reduce(timer, now + 500)
    assert timer.expires == now + 500


@pytest.mark.conformance("K4.2-6")
@pytest.mark.parametrize(("era", "slack"), [("2.6.18", False), ("3.10", True), ("6.1", False)])
def test_slack_moves_a_far_expiry_to_where_timers_meet(era: str, slack: bool) -> None:
    bench = BareCpu(era)
    timers, now = bench.cpu.timers, bench.cpu.jiffies()
    for offset in range(40):
        expires = now + 1000 + offset
        timer = Timer(lambda cpu: None)
        timers.mod_timer(timer, expires)
        if not slack:
            assert timer.expires == expires
            continue
        # even a well aligned expiry moves: the bits where it differs from the limit decide
        window = range(expires + 1, expires + (1000 + offset) // 256 + 1)
        zeros = {j: (j & -j).bit_length() for j in window}
        assert timer.expires in window
        assert zeros[timer.expires] == max(zeros.values())  # trailing zeros maximised


@pytest.mark.conformance("K4.2-6")
def test_near_pinned_and_own_slack() -> None:
    bench = BareCpu("3.10")
    timers, now = bench.cpu.timers, bench.cpu.jiffies()
    near, pinned, on, none, wide = (Timer(lambda cpu: None) for _ in range(5))
    timers.mod_timer(near, now + 255)
    assert near.expires == now + 255
    odd = now + 1001 + (now + 1001) % 2 + 1  # an odd jiffy, a little over 1000 away
    timers.mod_timer_pinned(pinned, odd)
    on.expires = odd
    timers.add_timer_on(on, 0)
    timers.set_timer_slack(none, 0)
    timers.mod_timer(none, odd)
    assert pinned.expires == on.expires == none.expires == odd
    timers.set_timer_slack(wide, 100)
    timers.mod_timer(wide, odd)
    assert odd < wide.expires <= odd + 100
    assert wide.expires % 32 == 0


# ---------------------------------------------------------------- deleting


@pytest.mark.parametrize("era", ERAS)
def test_a_callback_cannot_be_deleted_while_it_runs(era: str) -> None:
    bench, seen = BareCpu(era), []

    def function(cpu: Cpu) -> Context:
        seen.append(cpu.timers.try_to_del_timer_sync(timer))
        yield

    timer = armed(bench, 5, function)
    bench.run_for(SECOND)
    assert seen == [-1]
    assert bench.cpu.timers.try_to_del_timer_sync(timer) == 0
    timer = armed(bench, 5, function)
    assert bench.cpu.timers.try_to_del_timer_sync(timer) == 1


@pytest.mark.parametrize("era", ERAS)
def test_del_timer_sync_from_the_callback_itself_never_returns(era: str) -> None:
    bench, after = BareCpu(era), []

    def function(cpu: Cpu) -> Context:
        yield from cpu.timers.del_timer_sync(timer)
        after.append("returned")

    timer = armed(bench, 5, function)
    interrupts: list[int] = []
    bench.irq(VECTOR, lambda irq, _dev: interrupts.append(irq) or IRQ_HANDLED)
    bench.run_for(100 * MS)  # it is due after 5 jiffies, at most 50 ms
    assert bench["softirq_now"] == 2  # still in TIMER
    bench.vector(VECTOR)
    bench.run_for(MS)
    assert after == []
    assert interrupts == [VECTOR]  # hard interrupts come through: the CPU is not dead


@pytest.mark.parametrize(("flags", "warnings"), [(0, 1), (TIMER_IRQSAFE, 0)])
def test_del_timer_sync_in_a_hard_interrupt_warns_unless_irqsafe(flags: int, warnings: int) -> None:
    bench = BareCpu("3.10")
    timer = armed(bench, 500, flags=flags)

    def handler(_irq: int, _dev: object) -> Context:
        yield from bench.cpu.timers.del_timer_sync(timer)
        return IRQ_HANDLED

    bench.irq(VECTOR, handler)
    bench.vector(VECTOR)
    bench.settle()
    assert bench["warnings"] == warnings
    assert not timer.pending()


# ---------------------------------------------------------------- running


@pytest.mark.parametrize(("flags", "irqs_on"), [(0, True), (TIMER_IRQSAFE, False)])
def test_an_irqsafe_callback_runs_with_interrupts_off(flags: int, irqs_on: bool) -> None:
    bench, seen = BareCpu("6.1"), []

    def function(cpu: Cpu) -> Context:
        seen.append(cpu.irqs_on)
        yield
        seen.append(cpu.irqs_on)

    armed(bench, 5, function, flags)
    bench.run_for(SECOND)
    assert seen == [irqs_on, irqs_on]
    assert bench.cpu.irqs_on


@pytest.mark.conformance("K4.2-5")
def test_a_leaked_preempt_count_is_a_bug_in_2_6_18() -> None:
    bench = BareCpu("2.6.18")

    def leaky(cpu: Cpu) -> None:
        cpu.preempt_count += 1

    armed(bench, 5, leaky)
    bench.run_for(SECOND)
    log = bench.log()
    assert "huh, entered leaky with preempt_count 00000100, exited with 00000101?" in log
    assert any("kernel BUG at kernel/timer.c" in line for line in log)
    assert any("Kernel panic" in line for line in log)  # a BUG in an interrupt ends the kernel


@pytest.mark.conformance("K4.2-5")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_leaked_preempt_count_warns_once_and_is_restored_later(era: str) -> None:
    bench, counts = BareCpu(era), []

    def leaky(cpu: Cpu) -> None:
        counts.append(cpu.preempt_count)
        cpu.preempt_count += 1

    for delay in (5, 5, 9):
        armed(bench, delay, leaky)
    bench.run_for(SECOND)
    assert counts == [0x100] * 3
    said = [line for line in bench.log() if "preempt leak" in line]
    assert said == ["timer: leaky preempt leak: 00000100 -> 00000101"]
    assert bench["warnings"] == 1
    assert bench.cpu.preempt_count == 0


@pytest.mark.parametrize(("era", "waits"), [("2.6.18", False), ("3.10", True), ("6.1", True)])
def test_a_deferrable_timer_does_not_wake_an_idle_cpu(era: str, waits: bool) -> None:
    bench, fired = BareCpu(era), []
    timer = timer_setup(bench.cpu, lambda cpu: fired.append(cpu.now()), TIMER_DEFERRABLE)
    bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + 10)
    bench.run_for(SECOND)
    assert bool(fired) != waits
    bench.task(iter_busy(bench.cpu, 10 * MS))  # the tick comes back with work
    bench.settle()
    assert len(fired) == 1


def iter_busy(cpu: Cpu, ns: int) -> Context:
    end = cpu.now() + ns
    while cpu.now() < end:
        yield USER


# ---------------------------------------------------------------- sleeping by jiffies


@pytest.mark.parametrize("era", ERAS)
def test_schedule_timeout_says_what_is_left_when_woken_early(era: str) -> None:
    bench, left = BareCpu(era), []

    def sleeper(cpu: Cpu) -> Context:
        cpu.current.state = TASK_INTERRUPTIBLE
        left.append((yield from schedule_timeout(cpu, 100)))
        cpu.current.state = TASK_INTERRUPTIBLE
        left.append((yield from schedule_timeout(cpu, 10)))

    task = bench.task(sleeper(bench.cpu))
    bench.run_for(30 * SECOND // bench.cpu.params.hz)
    wake_up_process(bench.cpu, task)
    bench.run_for(SECOND)
    assert left == [70, 0]
    assert bench.wake is None  # its timer is gone


def test_schedule_timeout_without_an_end_arms_no_timer() -> None:
    bench, left = BareCpu(), []

    def sleeper(cpu: Cpu) -> Context:
        cpu.current.state = TASK_INTERRUPTIBLE
        left.append((yield from schedule_timeout(cpu, MAX_SCHEDULE_TIMEOUT)))

    task = bench.task(sleeper(bench.cpu))
    bench.settle()
    assert bench.wake is None
    wake_up_process(bench.cpu, task)
    bench.settle()
    assert left == [MAX_SCHEDULE_TIMEOUT]


def test_schedule_timeout_of_less_than_nothing_is_reported() -> None:
    bench, left = BareCpu(), []

    def sleeper(cpu: Cpu) -> Context:
        cpu.current.state = TASK_INTERRUPTIBLE
        left.append((yield from schedule_timeout(cpu, -5)))
        left.append(cpu.current.state)

    bench.task(sleeper(bench.cpu))
    bench.settle()
    assert left == [0, TASK_RUNNING]
    assert "schedule_timeout: wrong timeout value fffffffffffffffb" in bench.log()


# ---------------------------------------------------------------- tracepoints


def test_the_events_of_a_timers_life() -> None:
    bench = BareCpu("6.1")
    bench.cpu.recorder.mask = (1 << 63) - 1
    bench.turn()
    timer = timer_setup(bench.cpu, lambda cpu: None, 0, "my_timer_fn")
    bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + 50)
    bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + 20)
    started = bench.cpu.jiffies()
    bench.run_for(SECOND)
    names = {point.number: name for name, point in TRACEPOINTS.items()}
    records = [
        (names[r.event], r)
        for r in bench.cpu.recorder.read()[0]
        if names[r.event].startswith("timer_") and r.a & 0xFFFFFF == timer.number
    ]
    assert [name for name, _ in records] == [
        "timer_init", "timer_start", "timer_cancel", "timer_start", "timer_cancel",
        "timer_expire_entry", "timer_expire_exit",
    ]  # fmt: skip
    for _, record in records:
        assert bench.cpu.symbols[record.a >> 32 & 0xFFFF] == "my_timer_fn"
    starts = [r.b for name, r in records if name == "timer_start"]
    assert starts == [started + 50, started + 20]
    entry = next(r for name, r in records if name == "timer_expire_entry")
    assert entry.b == started + 21  # baseclk: when the bucket ended


def test_the_events_of_an_hrtimers_life() -> None:
    bench = BareCpu("6.1")
    bench.cpu.recorder.mask = (1 << 63) - 1
    bench.turn()
    expires = bench.ns + MS
    bench.cpu.timers.hrtimer_start(HrTimer(lambda cpu: None, "my_hrtimer_fn"), expires)
    bench.run_for(2 * MS)
    names = {point.number: name for name, point in TRACEPOINTS.items()}
    found = [
        (names[r.event], bench.cpu.symbols[r.a >> 32 & 0xFFFF], r.b)
        for r in bench.cpu.recorder.read()[0]
        if names[r.event].startswith("hrtimer_")
    ]
    assert found[1:] == [
        ("hrtimer_start", "my_hrtimer_fn", expires),
        ("hrtimer_cancel", "my_hrtimer_fn", expires),
        ("hrtimer_expire_entry", "my_hrtimer_fn", expires),
        ("hrtimer_expire_exit", "my_hrtimer_fn", expires),
    ]
    assert found[0][0] == "hrtimer_init"
