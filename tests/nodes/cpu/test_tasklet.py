"""Tasklets: scheduling, order, disabling, killing, several CPUs, a CPU that goes offline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nodes.cpu.kernel.irq.desc import IRQ_HANDLED
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Cpu
from nodes.cpu.kernel.softirq import (
    BLOCK_SOFTIRQ,
    TIMER_SOFTIRQ,
    __raise_softirq_irqoff,
    local_bh_disable,
    local_bh_enable,
    raise_softirq,
)
from nodes.cpu.kernel.tasklet import (
    PRIVATE,
    SHARED,
    TASKLET_STATE_RUN,
    TASKLET_STATE_SCHED,
    Tasklet,
    takeover_tasklets,
    tasklet_disable,
    tasklet_disable_nosync,
    tasklet_enable,
    tasklet_hi_schedule,
    tasklet_init,
    tasklet_kill,
    tasklet_kill_immediate,
    tasklet_schedule,
)
from nodes.cpu.trace import TRACEPOINTS
from tests.nodes.cpu.harness import ERAS, MS, BareCpu
from tests.nodes.cpu.interleavings import Rig
from tests.nodes.cpu.several import Several

VECTOR = 0x41


def in_interrupt(bench: BareCpu, function: Callable[[Cpu], None]) -> None:
    """Run it in a hard interrupt that arrives now."""

    def handler(_irq: int, _dev: object) -> int:
        function(bench.cpu)
        return IRQ_HANDLED

    bench.irq(VECTOR, handler)
    bench.vector(VECTOR)


def noting(bench: BareCpu, order: list[Any], name: str, boundaries: int = 1) -> Tasklet:
    def func(_cpu: Cpu) -> Context:
        order.append(name)
        for _ in range(boundaries):
            yield

    return tasklet_init(bench.cpu, func, name=name)


def state(bench: BareCpu, tasklet: Tasklet) -> int:
    return bench.ram.atomics.load(tasklet.word)


# ---------------------------------------------------------------- one CPU


@pytest.mark.conformance("K3.6-1")
@pytest.mark.parametrize("era", ERAS)
def test_scheduled_twice_it_runs_once(era: str) -> None:
    bench, order = BareCpu(era), []
    tasklet = noting(bench, order, "a")

    def twice(cpu: Cpu) -> None:
        tasklet_schedule(cpu, tasklet)
        tasklet_schedule(cpu, tasklet)

    in_interrupt(bench, twice)
    bench.settle()
    assert order == ["a"]
    assert state(bench, tasklet) == 0


@pytest.mark.conformance("K3.6-1")
def test_scheduled_while_it_runs_it_runs_once_more() -> None:
    bench, order = BareCpu(), []
    tasklet = noting(bench, order, "a", 10)
    in_interrupt(bench, lambda cpu: tasklet_schedule(cpu, tasklet))
    bench.run_until(lambda: bool(order))
    assert state(bench, tasklet) == TASKLET_STATE_RUN  # SCHED went before the function began
    bench.vector(VECTOR)
    bench.settle()
    assert order == ["a", "a"]


@pytest.mark.conformance("K3.6-2")
@pytest.mark.parametrize("era", ERAS)
def test_it_may_schedule_itself_and_runs_in_the_next_pass(era: str) -> None:
    bench, passes = BareCpu(era), []

    def func(cpu: Cpu) -> None:
        passes.append(bench["softirq_restarts"])
        if len(passes) < 4:
            tasklet_schedule(cpu, tasklet)

    tasklet = tasklet_init(bench.cpu, func)
    in_interrupt(bench, lambda cpu: tasklet_schedule(cpu, tasklet))
    bench.settle()
    assert passes == [0, 1, 2, 3]


@pytest.mark.conformance("K3.6-4")
@pytest.mark.parametrize("era", ERAS)
def test_a_disabled_one_burns_all_passes_and_keeps_ksoftirqd_busy_until_enabled(era: str) -> None:
    bench, order = BareCpu(era), []
    tasklet = noting(bench, order, "a")
    tasklet_disable_nosync(bench.cpu, tasklet)
    in_interrupt(bench, lambda cpu: tasklet_schedule(cpu, tasklet))
    number = bench.cpu.softirq.number["TASKLET"]
    bench.run_until(lambda: bench["ksoftirqd_wakeups"] == 1)
    assert bench.page.run("softirqs")[number] == 10
    before = bench["ksoftirqd_runs"]
    bench.turn(budget=2000)
    assert bench["ksoftirqd_runs"] > before + 10
    assert bench.cpu.current.comm == "ksoftirqd/0"
    assert order == []
    assert state(bench, tasklet) & TASKLET_STATE_SCHED
    raised = bench.page.run("softirqs_raised")[number]
    tasklet_schedule(bench.cpu, tasklet)  # scheduled already: nothing happens
    assert bench.page.run("softirqs_raised")[number] == raised
    tasklet_enable(bench.cpu, tasklet)
    bench.settle()
    assert order == ["a"]
    assert bench.cpu.softirq.pending == 0


def test_disables_nest() -> None:
    bench, order = BareCpu(), []
    tasklet = noting(bench, order, "a")
    for _ in range(2):
        tasklet_disable_nosync(bench.cpu, tasklet)
    in_interrupt(bench, lambda cpu: tasklet_schedule(cpu, tasklet))
    tasklet_enable(bench.cpu, tasklet)
    bench.turn(budget=300)
    assert order == []
    tasklet_enable(bench.cpu, tasklet)
    bench.settle()
    assert order == ["a"]


@pytest.mark.conformance("K3.6-5")
def test_different_ones_run_one_after_the_other_on_one_cpu() -> None:
    bench, inside = BareCpu(), []

    def func_of(name: str) -> Callable[[Cpu], Context]:
        def func(_cpu: Cpu) -> Context:
            inside.append(f"{name} begins")
            yield
            yield
            inside.append(f"{name} ends")

        return func

    tasklets = [tasklet_init(bench.cpu, func_of(name)) for name in "ab"]
    in_interrupt(bench, lambda cpu: [tasklet_schedule(cpu, t) for t in tasklets] and None)
    bench.settle()
    assert inside == ["a begins", "a ends", "b begins", "b ends"]


@pytest.mark.conformance("K3.6-7")
@pytest.mark.parametrize("era", ERAS)
def test_high_ones_run_before_timers_and_normal_ones_after_block(era: str) -> None:
    bench, order = BareCpu(era), []

    def note(name: str) -> Callable[[Cpu], Context]:
        def action(_cpu: Cpu) -> Context:
            order.append(name)
            yield

        return action

    bench.softirq(TIMER_SOFTIRQ, note("TIMER"))
    bench.softirq(BLOCK_SOFTIRQ, note("BLOCK"))
    low, high = noting(bench, order, "normal"), noting(bench, order, "high")

    def schedule_all(cpu: Cpu) -> None:
        tasklet_schedule(cpu, low)
        raise_softirq(cpu, BLOCK_SOFTIRQ)
        raise_softirq(cpu, TIMER_SOFTIRQ)
        tasklet_hi_schedule(cpu, high)

    in_interrupt(bench, schedule_all)
    bench.settle()
    assert order == ["high", "TIMER", "BLOCK", "normal"]


@pytest.mark.conformance("K3.6-8")
@pytest.mark.parametrize("high", [False, True])
@pytest.mark.parametrize(("era", "ran"), [("2.6.18", "CBA"), ("3.10", "ABC"), ("6.1", "ABC")])
def test_order_of_three(era: str, ran: str, high: bool) -> None:
    bench, order = BareCpu(era), []
    tasklets = [noting(bench, order, name) for name in "ABC"]
    schedule = tasklet_hi_schedule if high else tasklet_schedule
    in_interrupt(bench, lambda cpu: [schedule(cpu, t) for t in tasklets] and None)
    bench.settle()
    assert "".join(order) == ran


@pytest.mark.parametrize("era", ERAS)
def test_bottom_halves_off_hold_tasklets(era: str) -> None:
    bench, order = BareCpu(era), []
    tasklet = noting(bench, order, "tasklet")

    def task(cpu: Cpu) -> Context:
        local_bh_disable(cpu)
        tasklet_schedule(cpu, tasklet)
        yield
        order.append("enable")
        yield from local_bh_enable(cpu)

    bench.task(task(bench.cpu))
    bench.settle()
    assert order == ["enable", "tasklet"]


@pytest.mark.parametrize("era", ERAS)
def test_scheduled_by_a_task_it_is_ksoftirqds(era: str) -> None:
    bench, ran = BareCpu(era), []
    tasklet = tasklet_init(bench.cpu, lambda cpu: ran.append(cpu.current.comm))

    def task(cpu: Cpu) -> Context:
        tasklet_schedule(cpu, tasklet)
        yield

    bench.task(task(bench.cpu))
    bench.settle()
    assert ran == ["ksoftirqd/0"]


@pytest.mark.parametrize("era", ERAS)
def test_kill_waits_for_the_scheduled_run_and_leaves_it_idle(era: str) -> None:
    bench, order = BareCpu(era), []
    tasklet = noting(bench, order, "ran", 30)

    def task(cpu: Cpu) -> Context:
        tasklet_schedule(cpu, tasklet)
        yield from tasklet_kill(cpu, tasklet)
        order.append("killed")

    bench.task(task(bench.cpu))
    bench.run_for(50 * MS)
    assert order == ["ran", "killed"]
    assert state(bench, tasklet) == 0


def test_killing_from_an_interrupt_is_reported() -> None:
    bench = BareCpu()
    tasklet = noting(bench, [], "a")
    in_interrupt(bench, lambda cpu: list(tasklet_kill(cpu, tasklet)) and None)
    bench.settle()
    assert "Attempt to kill tasklet from interrupt" in bench.log()


@pytest.mark.parametrize(("era", "text"), [("3.10", "kernel BUG"), ("6.1", "WARNING")])
def test_one_on_the_list_without_sched_is_reported(era: str, text: str) -> None:
    bench, order = BareCpu(era), []
    tasklet = noting(bench, order, "a")

    def broken(cpu: Cpu) -> None:
        tasklet_schedule(cpu, tasklet)
        cpu.ram.atomics.clear_bits(tasklet.word, TASKLET_STATE_SCHED)

    in_interrupt(bench, broken)
    for _ in range(20):
        bench.turn()
    assert any(text in line for line in bench.log())
    assert order == []


def test_its_numbers_run_out_with_a_message() -> None:
    bench = BareCpu()
    for _ in range(PRIVATE - 1):  # the interrupt layer has one, to send interrupts again
        noting(bench, [], "a")
    with pytest.raises(MemoryError):
        noting(bench, [], "a")
    with pytest.raises(ValueError, match="tasklet numbers"):
        tasklet_init(bench.cpu, lambda cpu: None, SHARED)


@pytest.mark.parametrize(("high", "event"), [(False, "tasklet"), (True, "tasklet_hi")])
def test_its_tracepoints(high: bool, event: str) -> None:
    bench = BareCpu()
    bench.cpu.recorder.mask = (1 << 63) - 1
    tasklet = noting(bench, [], "rx_tasklet")
    schedule = tasklet_hi_schedule if high else tasklet_schedule
    in_interrupt(bench, lambda cpu: schedule(cpu, tasklet))
    bench.settle()
    for name in (f"{event}_entry", f"{event}_exit"):
        number = TRACEPOINTS[name].number
        found = [r for r in bench.cpu.recorder.read()[0] if r.event == number]
        assert [(r.a, bench.cpu.symbols[r.b]) for r in found] == [(tasklet.number, "rx_tasklet")]


# ---------------------------------------------------------------- two CPUs


class Shared:
    """One tasklet that both CPUs of a rig know; notes who runs it, and that never both do."""

    def __init__(self, rig: Rig, number: int = 3) -> None:
        self.ran: list[int] = []
        self.inside: list[int] = []
        self.length = 8
        self.tasklets = [tasklet_init(b.cpu, self.func, number, "both") for b in rig.benches]

    def func(self, cpu: Cpu) -> Context:
        self.ran.append(cpu.number)
        self.inside.append(cpu.number)
        for _ in range(self.length):
            assert self.inside == [cpu.number], "it runs on two CPUs at once"
            yield
        self.inside.remove(cpu.number)


@pytest.mark.conformance("K3.6-3")
@pytest.mark.parametrize("era", ERAS)
def test_a_second_cpu_spins_through_passes_until_the_first_has_finished(era: str) -> None:
    rig = Rig(era, 2)
    shared = Shared(rig)
    zero, one = rig.benches
    shared.length = 20
    in_interrupt(zero, lambda cpu: tasklet_schedule(cpu, shared.tasklets[0]))
    while not shared.ran:
        rig.step(0)
    in_interrupt(one, lambda cpu: tasklet_schedule(cpu, shared.tasklets[1]))
    number = one.cpu.softirq.number["TASKLET"]
    before = one.page.run("softirqs")[number]
    for _ in range(12):
        rig.step(1)
    assert shared.ran == [0]
    assert one.page.run("softirqs")[number] - before >= 2  # it was put back and raised again
    for _ in range(200):
        rig.step(0)
        rig.step(1)
    assert shared.ran == [0, 1]
    assert state(zero, shared.tasklets[0]) == 0


@pytest.mark.conformance("K3.6-5")
def test_different_ones_run_at_the_same_time_on_two_cpus() -> None:
    rig = Rig("6.1", 2)
    first, second = Shared(rig, 1), Shared(rig, 2)
    for bench, shared in zip(rig.benches, (first, second), strict=True):
        tasklet = shared.tasklets[bench.cpu.number]
        in_interrupt(bench, lambda cpu, t=tasklet: tasklet_schedule(cpu, t))
    together = False
    for _ in range(40):
        rig.step(0)
        rig.step(1)
        together |= bool(first.inside and second.inside)
    assert together


@pytest.mark.conformance("K3.6-6")
def test_it_runs_on_the_cpu_that_scheduled_it() -> None:
    rig = Rig("3.10", 2)
    shared = Shared(rig)  # made on both; nobody owns it
    for number in (1, 0, 1):
        in_interrupt(rig.benches[number], lambda cpu: tasklet_schedule(cpu, _of(cpu, shared)))
        for _ in range(60):
            rig.step(number)
    assert shared.ran == [1, 0, 1]


def _of(cpu: Cpu, shared: Shared) -> Tasklet:
    return shared.tasklets[cpu.number]


@pytest.mark.parametrize("era", ERAS)
def test_disable_waits_for_the_other_cpu(era: str) -> None:
    rig = Rig(era, 2)
    shared = Shared(rig)
    shared.length = 200
    zero, one = rig.benches
    order: list[str] = []
    in_interrupt(zero, lambda cpu: tasklet_schedule(cpu, shared.tasklets[0]))
    while not shared.ran:
        rig.step(0)

    def task(cpu: Cpu) -> Context:
        yield from tasklet_disable(cpu, shared.tasklets[1])
        order.append(f"disabled while {shared.inside}")

    one.task(task(one.cpu))
    for _ in range(50):
        rig.step(1)
        rig.step(0)
    assert order == []
    for _ in range(60_000):
        rig.step(0)
        rig.step(1)
        if order:
            break
    assert order == ["disabled while []"]


# ---------------------------------------------------------------- a CPU goes offline


def test_a_dying_cpus_tasklets_go_to_the_end_of_another_cpus_lists() -> None:
    pair, order = Several("3.10"), []

    def func(cpu: Cpu) -> None:
        order.append(cpu.name)

    low = [tasklet_init(bench.cpu, func, 5) for bench in pair.all]
    high = [tasklet_init(bench.cpu, func, 6) for bench in pair.all]
    dying = pair.one.cpu
    local_bh_disable(dying)
    tasklet_schedule(dying, low[1])
    tasklet_hi_schedule(dying, high[1])
    dying.preempt_count = 0
    dying.softirq.pending = 0  # what else was pending is lost with the CPU

    def go_down(cpu: Cpu) -> Context:
        cpu.online = False
        yield from takeover_tasklets(cpu, 0)
        while True:
            cpu.current.state = 1
            yield SCHEDULE

    pair.one.task(go_down(dying))
    pair.live(MS)
    pair.live(MS)
    assert order == ["cpu0", "cpu0"]
    assert [len(vec) for vec in dying.tasklets.vec] == [0, 0]
    assert all(pair.zero.ram.atomics.load(t.word) == 0 for t in (low[0], high[0]))


def test_kill_immediate_takes_it_off_the_dead_cpus_list_only() -> None:
    bench, order = BareCpu("3.10"), []
    tasklet = noting(bench, order, "a")
    local_bh_disable(bench.cpu)
    tasklet_schedule(bench.cpu, tasklet)
    bench.cpu.online = False
    tasklet_kill_immediate(bench.cpu, tasklet)
    assert not bench.cpu.tasklets.vec[0]
    bench.cpu.preempt_count = 0
    __raise_softirq_irqoff(bench.cpu, bench.cpu.softirq.number["TASKLET"])
    bench.settle()
    assert order == []


# ---------------------------------------------------------------- anything at any time


class Anything:
    """Random schedules, disables and kills of three tasklets by two CPUs' interrupts and tasks."""

    def __init__(self, era: str) -> None:
        self.rig = Rig(era, 2)
        self.rng = self.rig.rng
        self.shared = [Shared(self.rig, number) for number in range(3)]
        self.wanted = [0, 0, 0]  # runs that somebody is waiting for: 1 from schedule to func
        self.disables: list[tuple[int, int]] = []  # (cpu, tasklet)
        self.killing = 0
        for n, shared in enumerate(self.shared):
            for tasklet in shared.tasklets:
                tasklet.func = self._func(n)
        for bench in self.rig.benches:
            bench.irq(VECTOR, lambda _i, _d, c=bench.cpu: self._handler(c))

    def _func(self, n: int) -> Callable[[Cpu], Context]:
        def func(cpu: Cpu) -> Context:
            self.wanted[n] = 0
            yield from self.shared[n].func(cpu)
            if self.rng.random() < 0.2:
                self._schedule(cpu, n)

        return func

    def _schedule(self, cpu: Cpu, n: int) -> None:
        if not self.killing:  # who kills sees to it that nobody schedules
            self.wanted[n] = 1
            schedule = tasklet_schedule if self.rng.random() < 0.7 else tasklet_hi_schedule
            schedule(cpu, self.shared[n].tasklets[cpu.number])

    def _handler(self, cpu: Cpu) -> int:
        self._schedule(cpu, self.rng.randrange(3))
        return IRQ_HANDLED

    def _task(self, cpu: Cpu) -> Context:
        n = self.rng.randrange(3)
        tasklet = self.shared[n].tasklets[cpu.number]
        what = self.rng.random()
        if what < 0.4:
            self._schedule(cpu, n)
        elif what < 0.8:
            yield from tasklet_disable(cpu, tasklet)
            assert not self.shared[n].inside, "it runs although it is disabled"
            for _ in range(self.rng.randrange(30)):
                assert not self.shared[n].inside, "it runs although it is disabled"
                yield
            tasklet_enable(cpu, tasklet)
        else:
            self.killing += 1
            yield from tasklet_kill(cpu, tasklet)
            assert not self.shared[n].inside
            assert not self.wanted[n], "it was killed before it ran"
            self.killing -= 1
        yield

    def play(self, seed: int) -> None:
        rng, rig = self.rng, self.rig
        rng.seed(seed)
        for shared in self.shared:
            shared.length = rng.randrange(1, 12)
        for bench in rig.benches:
            for _ in range(rng.randrange(3)):
                bench.task(self._task(bench.cpu))
        arrivals = rng.randrange(8)
        for _ in range(60_000):
            number = rng.randrange(2)
            if arrivals and rng.random() < 0.2:
                arrivals -= 1
                rig.benches[number].vector(VECTOR)
            rig.step(number)  # the core checks that no softirq nests
            if not arrivals and all(self._at_rest(b.cpu) for b in rig.benches):
                break
        else:
            raise AssertionError("it never comes to rest")
        assert self.wanted == [0, 0, 0], "a scheduled tasklet did not run"
        for shared in self.shared:
            assert rig.ram.atomics.load(shared.tasklets[0].word) == 0
        assert all(b.cpu.preempt_count == 0 for b in rig.benches)

    def _at_rest(self, cpu: Cpu) -> bool:
        tasks = [t for t in cpu.rq.all.values() if t.comm == "test"]
        return not (tasks or cpu.levels or cpu.softirq.pending or cpu.lapic.irr)


@pytest.mark.conformance("K3.6-3", "K3.4-5")
@pytest.mark.parametrize("era", ERAS)
def test_never_twice_at_once_and_never_forgotten_whatever_happens(era: str) -> None:
    anything = Anything(era)
    for seed in range(300):
        anything.play(seed)
