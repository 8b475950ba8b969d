"""Timers that two CPUs arm and delete: whose base, waiting for a callback, a CPU going offline."""

from __future__ import annotations

import pytest

from bus.messages import IcrWrite, Interrupt
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.timer import Timer
from nodes.cpu.kernel.timer_shared import (
    SharedTimer,
    add_timer_on,
    del_timer,
    del_timer_sync,
    mod_timer,
    shared_timer_setup,
    timer_pending,
    timers_dead_cpu,
    try_to_del_timer_sync,
)
from tests.nodes.cpu.harness import ERAS, SECOND, BareCpu
from tests.nodes.cpu.interleavings import Rig


class Two:
    """A rig of two CPUs that know one timer; where and when its callback ran."""

    def __init__(self, era: str) -> None:
        self.rig = Rig(era, 2)
        self.cpus = [bench.cpu for bench in self.rig.benches]
        self.length = 1
        self.inside: list[int] = []
        self.ran: list[tuple[int, int]] = []  # (CPU, jiffies)
        self.views = [shared_timer_setup(cpu, self.function, 9) for cpu in self.cpus]

    def function(self, cpu: Cpu) -> Context:
        assert self.inside == []
        self.inside.append(cpu.number)
        self.ran.append((cpu.number, cpu.jiffies()))
        for _ in range(self.length):
            yield
        self.inside.clear()

    def view(self, number: int) -> tuple[Cpu, SharedTimer]:
        return self.cpus[number], self.views[number]

    def mod(self, number: int, delay: int) -> bool:
        """As if CPU ``number`` called it now."""
        self.sync(number)
        cpu, timer = self.view(number)
        was = mod_timer(cpu, timer, cpu.jiffies() + delay)
        self.rig.benches[number].wake = self.rig.ns
        return was

    def sync(self, number: int) -> None:
        """Before something is done for a CPU from outside: it takes its next turn now."""
        bench = self.rig.benches[number]
        bench.ns = bench.wake = self.rig.ns
        self.cpus[number].steps = 0

    def task(self, number: int, gen: Context) -> None:
        self.sync(number)
        self.rig.benches[number].task(gen)

    def steps(self, count: int, end: int | None = None) -> None:
        """Boundaries of both in turn; where nobody has one, time goes on, to ``end`` at most."""
        rig = self.rig
        for n in range(count):
            wakes = [b.wake for b in rig.benches if b.wake is not None]
            soonest = min(wakes, default=end)
            if soonest is None or (end is not None and soonest >= end):
                rig.ns = rig.ns if end is None else end
                return
            rig.ns = max(rig.ns, soonest)
            bench = rig.benches[n % 2]
            if bench.wake is not None and bench.wake <= rig.ns:
                self._step(bench)

    def _step(self, bench: BareCpu) -> None:
        rig = self.rig
        bench.ns = rig.ns
        bench.turn(budget=1)
        rig.ns = max(rig.ns, bench.ns)
        for message in bench.outbox.pop("apic", ()):
            if not isinstance(message, IcrWrite):
                continue
            target = rig.benches[message.icr >> 56]
            vector = Interrupt(message.icr & 0xFF, message.icr >> 8 & 7, 0)
            target.node.turn([("apic", vector)], 0)
            target.wake = rig.ns

    def live(self, jiffies: int) -> None:
        end = self.rig.ns + jiffies * SECOND // self.cpus[0].params.hz
        while self.rig.ns < end:
            self.steps(2, end)


@pytest.mark.parametrize("era", ERAS)
def test_arming_it_elsewhere_takes_it_along(era: str) -> None:
    two = Two(era)
    assert not two.mod(0, 10)
    assert two.mod(1, 20)  # it was pending, on the other CPU's base
    two.live(100)
    assert [number for number, _ in two.ran] == [1]  # the entry left behind is a husk
    assert not timer_pending(*two.view(0))


@pytest.mark.parametrize("era", ERAS)
def test_it_goes_to_and_fro_and_fires_once_each_time(era: str) -> None:
    two = Two(era)
    for number in (0, 1, 0, 1, 0):
        two.mod(number, 10 + 5 * number)
    two.live(60)
    assert [number for number, _ in two.ran] == [0]
    two.mod(1, 5)
    two.live(60)
    assert [number for number, _ in two.ran] == [0, 1]


def test_deleted_by_the_other_cpu_it_does_not_fire() -> None:
    two = Two("3.10")
    two.mod(0, 10)
    assert del_timer(*two.view(1))
    assert not del_timer(*two.view(1))
    two.live(50)
    assert two.ran == []


def until_inside(two: Two, number: int) -> None:
    two.length = 400
    two.mod(number, 3)
    for _ in range(100_000):
        two.steps(2)
        if two.inside:
            return
    raise AssertionError("it does not fire")


@pytest.mark.parametrize("era", ERAS)
def test_armed_elsewhere_while_its_callback_runs_it_stays_on_its_base(era: str) -> None:
    two = Two(era)
    until_inside(two, 0)
    two.length = 1
    assert not two.mod(1, 10)
    assert timer_pending(*two.view(0))
    two.live(100)
    assert [number for number, _ in two.ran] == [0, 0]


@pytest.mark.parametrize("era", ERAS)
def test_del_timer_sync_waits_for_the_callback_on_the_other_cpu(era: str) -> None:
    two, order = Two(era), []
    until_inside(two, 0)
    assert try_to_del_timer_sync(*two.view(1)) == -1

    def task(cpu: Cpu) -> Context:
        was = yield from del_timer_sync(cpu, two.views[1])
        order.append((was, list(two.inside)))

    two.task(1, task(two.cpus[1]))
    two.steps(100)
    assert order == []
    two.steps(3000)
    assert order == [(0, [])]


def test_del_timer_does_not_wait() -> None:
    two = Two("6.1")
    until_inside(two, 0)
    assert not del_timer(*two.view(1))
    assert two.inside == [0]


def test_del_timer_sync_in_its_own_callback_hangs_that_cpu() -> None:
    two, after = Two("3.10"), []

    def function(cpu: Cpu) -> Context:
        yield from del_timer_sync(cpu, two.views[cpu.number])
        after.append(cpu.number)

    two.views[0].function = function
    two.mod(0, 3)
    two.live(50)
    assert after == []
    assert two.rig.benches[0]["softirq_now"] == 2


@pytest.mark.parametrize("era", ERAS)
def test_add_timer_on_arms_the_other_cpus_base_by_an_ipi(era: str) -> None:
    two = Two(era)
    cpu, timer = two.view(0)
    expires = cpu.jiffies() + 1000
    two.task(0, add_timer_on(cpu, timer, 1, expires))
    two.live(10)
    assert timer_pending(cpu, timer)
    assert two.views[1].entry.pending()
    assert two.views[1].entry.expires == expires  # no slack
    two.live(1100)
    assert [number for number, _ in two.ran] == [1]


def test_adding_a_pending_one_is_a_bug() -> None:
    two = Two("6.1")
    two.mod(1, 1000)
    two.task(0, add_timer_on(*two.view(0), 0, 5))
    two.steps(100)
    log = [text for _, _, text in two.rig.ram.log(0).lines()]
    assert any("kernel BUG" in text for text in log)


@pytest.mark.parametrize("era", ERAS)
def test_a_dying_cpus_timers_move_and_its_own_stay_behind(era: str) -> None:
    two, left = Two(era), []
    more = [shared_timer_setup(cpu, two.function, 10) for cpu in two.cpus]
    two.mod(1, 30)
    mod_timer(two.cpus[1], more[1], two.cpus[1].jiffies() + 40)
    private = Timer(lambda cpu: None)
    two.cpus[1].timers.mod_timer(private, two.cpus[1].jiffies() + 50)

    def go_down(cpu: Cpu) -> Context:
        left.append((yield from timers_dead_cpu(cpu, 0)))

    two.task(1, go_down(two.cpus[1]))
    two.live(120)
    assert [number for number, _ in two.ran] == [0, 0]
    assert left[0] >= 1
    assert not private.pending()


@pytest.mark.parametrize("era", ERAS)
def test_armed_and_deleted_at_random_it_fires_when_it_should_and_never_twice(era: str) -> None:
    """The last word of both CPUs decides; the model is one expiry."""
    two = Two(era)
    rng = two.rig.rng
    for seed in range(120):
        rng.seed(seed)
        two.ran.clear()
        due: int | None = None
        for _ in range(rng.randrange(1, 8)):
            number = rng.randrange(2)
            two.sync(number)
            if rng.random() < 0.75:
                due = two.cpus[number].jiffies() + rng.randrange(60, 90)
                where = number
                mod_timer(*two.view(number), due)
            else:
                del_timer(*two.view(number))
                due = None
            two.rig.benches[number].wake = two.rig.ns
            two.live(rng.randrange(4))
        two.live(200)
        if due is None:
            assert two.ran == [], seed
        else:
            assert [n for n, _ in two.ran] == [where], seed
            assert 0 <= two.ran[0][1] - due <= 16, seed
