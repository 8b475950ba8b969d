"""RCU: grace periods on demand, what counts as a quiescent state, and who reports a stall."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.params import PRESETS
from nodes.cpu.kernel.percpu import USER, Context, Cpu, Pause
from nodes.cpu.kernel.rcu import call_rcu, rcu_read_lock, rcu_read_unlock, synchronize_rcu
from nodes.cpu.kernel.rcu_stall import till_stall_check
from nodes.cpu.page import ARCH_IRQS
from tests.nodes.cpu.harness import ERAS, MS, SECOND, BareCpu
from tests.nodes.cpu.several import Several

TREE = ("3.10", "6.1")
SHORT = (("rcu_cpu_stall_timeout", "3"),)


def hog(cpu: Cpu, duration_ns: int, *, user: bool = False) -> Context:
    """Keeps its CPU: in the kernel, or in user mode."""
    end = cpu.now() + duration_ns
    while cpu.now() < end:
        yield USER if user else Pause(min(end, cpu.now() + MS))


class Sync:
    """A task of ``cpu`` that waits for a grace period; ``over_ns`` is when it was over."""

    def __init__(self, machine: Several, number: int = 0) -> None:
        self.over_ns: int | None = None
        bench = machine.all[number]
        self.began_ns = bench.ns

        def wait() -> Context:
            yield from synchronize_rcu(bench.cpu)
            self.over_ns = bench.cpu.now()

        machine.task(number, wait())

    @property
    def took_ms(self) -> float:
        assert self.over_ns is not None
        return (self.over_ns - self.began_ns) / MS


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("number", [0, 1])
def test_an_idle_machine_passes_a_grace_period_within_some_ticks(era: str, number: int) -> None:
    machine = Several(era)
    sync = Sync(machine, number)
    machine.live(100 * MS)
    assert 0 < sync.took_ms < 10 * 1000 / machine.zero.cpu.params.hz
    assert machine.zero["rcu_gp_seq"] % 4 == 0


@pytest.mark.parametrize("era", ERAS)
def test_nothing_runs_for_rcu_when_nobody_asked(era: str) -> None:
    machine = Several(era)
    Sync(machine)
    machine.live(200 * MS)
    before = [(b["lapic_timer"], b["rcu_gp_seq"]) for b in machine.all]
    assert [b.wake for b in machine.all] == [None, None]
    machine.live(SECOND)
    assert [(b["lapic_timer"], b["rcu_gp_seq"]) for b in machine.all] == before


def test_with_one_cpu_there_is_nothing_to_wait_for() -> None:
    bench, over = BareCpu(), []

    def wait() -> Context:
        yield from synchronize_rcu(bench.cpu)
        over.append(bench["rcu_gp_seq"])

    bench.task(wait())
    bench.settle()
    assert over == [0]


@pytest.mark.parametrize("era", ERAS)
def test_a_grace_period_waits_for_a_cpu_that_stays_in_the_kernel(era: str) -> None:
    machine = Several(era)
    machine.task(1, hog(machine.one.cpu, 300 * MS))
    machine.live(20 * MS)
    sync = Sync(machine)
    machine.live(250 * MS)
    assert sync.over_ns is None
    machine.live(100 * MS)
    assert sync.took_ms > 270


@pytest.mark.parametrize("era", ERAS)
def test_a_tick_in_user_mode_is_a_quiescent_state(era: str) -> None:
    machine = Several(era)
    machine.task(1, hog(machine.one.cpu, 150 * MS, user=True))
    machine.live(20 * MS)
    sync = Sync(machine)
    machine.live(100 * MS)
    assert sync.took_ms < 12 * 1000 / machine.zero.cpu.params.hz


@pytest.mark.parametrize("era", TREE)
def test_a_callback_runs_in_the_rcu_softirq_of_its_own_cpu(era: str) -> None:
    machine, ran = Several(era), []
    softirqs = machine.one.page.run("softirqs")[9]

    def caller(cpu: Cpu) -> Context:
        call_rcu(cpu, lambda cpu: ran.append((cpu.number, cpu.in_serving_softirq())))
        yield

    machine.task(1, caller(machine.one.cpu))
    machine.live(100 * MS)
    assert ran == [(1, True)]
    assert machine.one.page.run("softirqs")[9] > softirqs
    assert machine.one["rcu_qlen"] == 0


def test_a_callback_queued_during_a_grace_period_waits_for_the_next_one() -> None:
    machine, ran = Several(), []
    machine.task(1, hog(machine.one.cpu, 100 * MS))
    machine.live(10 * MS)
    Sync(machine)
    machine.live(30 * MS)
    seq = machine.zero["rcu_gp_seq"]
    assert seq % 4 == 1
    machine.zero.cpu.rcu.call(lambda cpu: ran.append(machine.zero["rcu_gp_seq"]))
    machine.live(200 * MS)
    assert ran == [seq - 1 + 8]


def test_sleeping_for_rcu_inside_a_read_side_section_warns() -> None:
    bench = BareCpu()

    def wrong() -> Context:
        rcu_read_lock(bench.cpu)
        yield from synchronize_rcu(bench.cpu)
        rcu_read_unlock(bench.cpu)

    bench.task(wrong())
    bench.settle()
    assert "Illegal synchronize_rcu() in RCU read-side critical section" in bench.log()


# ---------------------------------------------------------------- stalls


def stalled(era: str) -> Several:
    """cpu1 dies while it computes; then somebody wants a grace period."""
    machine = Several(era, overrides=SHORT)
    machine.task(1, hog(machine.one.cpu, 60 * SECOND))
    machine.live(20 * MS)
    machine.dead.append(1)
    Sync(machine)
    return machine


def test_6_1_names_the_cpu_that_holds_up_the_grace_period() -> None:
    machine = stalled("6.1")
    machine.live(2900 * MS)
    assert machine.said("rcu:") == []
    machine.live(200 * MS)
    lines = machine.said("rcu:")
    assert lines[0] == "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"
    assert lines[1].startswith("rcu: \t1-...0: (1 GPs behind) idle=")
    assert "/1/0x4000000000000000 softirq=" in lines[1]
    (detail,) = machine.said("detected by")
    assert detail.startswith("\t(detected by 0, t=752 jiffies, g=")  # 3 s at 250 Hz, and two more
    assert detail.endswith(" q=1 ncpus=2)")
    assert machine.said("self-detected") == []


def test_3_10_names_it_in_one_line() -> None:
    machine = stalled("3.10")
    machine.live(3100 * MS)
    (line,) = machine.said("INFO: rcu_sched")
    assert line.startswith(
        "INFO: rcu_sched detected stalls on CPUs/tasks: { 1} (detected by 0, t=3002 jiffies, g="
    )


def test_2_6_18_says_nothing_and_waits_for_ever() -> None:
    machine = stalled("2.6.18")
    machine.live(4 * SECOND)
    assert machine.said("rcu") == []
    assert machine.zero["rcu_gp_seq"] % 4 == 1


def test_the_report_comes_again_after_three_times_the_time_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.nodes.cpu.several.SLICE_NS", MS)
    machine = stalled("6.1")
    machine.live(12 * SECOND)
    assert len(machine.said("detected stalls")) == 1
    machine.live(SECOND)
    assert len(machine.said("detected stalls")) == 2


def test_the_default_is_21_seconds_and_the_parameter_has_its_range() -> None:
    assert PRESETS["6.1"].rcu_cpu_stall_timeout == PRESETS["3.10"].rcu_cpu_stall_timeout == 21
    for asked, seconds in (("1", 3), ("1000", 300), ("21", 21)):
        bench = BareCpu("3.10", overrides=(("rcu_cpu_stall_timeout", asked),))
        assert till_stall_check(bench.cpu) == seconds * 1000


@pytest.mark.parametrize(
    ("era", "text"),
    [
        ("3.10", "INFO: rcu_sched self-detected stall on CPU { 1}  (t=3000 jiffies g="),
        ("6.1", "rcu: INFO: rcu_sched self-detected stall on CPU"),
    ],
)
def test_a_cpu_that_loops_with_interrupts_on_reports_itself_with_its_stack(
    era: str, text: str
) -> None:
    machine = Several(era, overrides=SHORT)
    machine.task(1, hog(machine.one.cpu, 10 * SECOND))
    machine.live(20 * MS)
    Sync(machine)
    machine.live(3100 * MS)
    assert len(machine.said(text)) == 1
    assert machine.said("detected by") == []
    assert " hog" in machine.one.log()


def test_a_cpu_that_died_while_idle_holds_up_nothing() -> None:
    machine = Several(overrides=SHORT)
    machine.dead.append(1)
    sync = Sync(machine)
    machine.live(100 * MS)
    assert sync.over_ns is not None
    assert machine.one["rcu_dynticks"] % 2 == 0


def test_a_frozen_cpu_ends_the_stall_when_it_thaws() -> None:
    machine = stalled("6.1")
    machine.live(3100 * MS)
    machine.dead.clear()
    machine.all[1].cpu.current.gen = hog(machine.one.cpu, MS)  # the loop ends
    machine.live(100 * MS)
    assert machine.zero["rcu_gp_seq"] % 4 == 0


def test_the_tick_of_an_idle_cpu_goes_on_only_while_callbacks_wait() -> None:
    machine = Several()
    loc = ARCH_IRQS.index("LOC")
    before = machine.one.page.run("arch_irqs")[loc]
    Sync(machine, 1)
    machine.live(200 * MS)
    assert 2 <= machine.one.page.run("arch_irqs")[loc] - before <= 12
    assert not machine.one.cpu.timers.tick_running
