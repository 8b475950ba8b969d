"""smp_call_function and its relatives: who is interrupted, in which order, who waits for whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nodes.cpu.kernel import csd, smp
from nodes.cpu.kernel.irqflags import local_irq_disable, local_irq_enable
from nodes.cpu.kernel.params import PRESETS
from nodes.cpu.kernel.percpu import Context, Cpu, Pause
from nodes.cpu.kernel.smpcall import (
    EBUSY,
    on_each_cpu,
    smp_call_function,
    smp_call_function_many,
    smp_call_function_single,
)
from nodes.cpu.kernel.softirq import raise_softirq_irqoff
from tests.nodes.cpu.harness import ERAS, MS, SECOND
from tests.nodes.cpu.several import Several

DO_NOTHING, SLOW = 910, 911
ALL_BUT_SELF = 3 << 18
QUEUES = ("3.10", "6.1")

Ran = list[tuple[Any, ...]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ran]:
    """What ran where: (CPU, source, argument, in hard interrupt, interrupts on)."""
    seen: Ran = []

    def do_nothing(cpu: Cpu, source: int, record: list[int]) -> Context | None:
        seen.append((cpu.number, source, record[1], cpu.in_irq(), cpu.irqs_on))
        return None

    def slow(cpu: Cpu, _source: int, _record: list[int]) -> Context:
        end = cpu.now() + 5 * MS
        while cpu.now() < end:
            yield Pause(end)
        seen.append((cpu.number, "slow"))

    monkeypatch.setitem(smp.REMOTE_FUNCTIONS, DO_NOTHING, do_nothing)
    monkeypatch.setitem(smp.REMOTE_FUNCTIONS, SLOW, slow)
    return seen


def values(ran: Ran, cpu: int = 1) -> list[Any]:
    return [note[2] if len(note) > 2 else note[1] for note in ran if note[0] == cpu]


class Call:
    """A task that makes calls to one CPU; ``returned`` grows as they return."""

    def __init__(
        self,
        machine: Several,
        sender: int,
        target: int,
        *numbers: int,
        wait: bool,
        function: int = DO_NOTHING,
    ) -> None:
        self.returned: list[int] = []
        cpu = machine.all[sender].cpu

        def caller() -> Context:
            for number in numbers:
                error = yield from smp_call_function_single(
                    cpu, target, function, [number], wait=wait
                )
                self.returned.append(error)

        self.task = machine.task(sender, caller())


# ---------------------------------------------------------------- one target


@pytest.mark.parametrize("era", ERAS)
def test_a_call_that_waits_returns_when_the_function_has_run(era: str, ran: Ran) -> None:
    machine = Several(era)
    cal = machine.cal(1)
    call = Call(machine, 0, 1, 7, wait=True)
    machine.zero.step(3)
    assert (ran, call.returned) == ([], [])
    machine.live(MS)
    assert ran == [(1, 0, 7, True, False)]
    assert call.returned == [0]
    assert machine.cal(1) - cal == 1
    assert machine.zero.ram.csd_ring(0, 1).slot_use(smp.CSD_ON_STACK) == (era != "2.6.18")


@pytest.mark.parametrize("era", QUEUES)
def test_a_call_without_waiting_returns_before_it_has_run(era: str, ran: Ran) -> None:
    machine = Several(era)
    call = Call(machine, 0, 1, 7, wait=False)
    machine.zero.step(3)
    assert (ran, call.returned) == ([], [0])
    machine.live(MS)
    assert values(ran) == [7]


def test_in_2_6_18_a_call_without_waiting_still_waits_until_it_was_begun(ran: Ran) -> None:
    machine = Several("2.6.18")
    call = Call(machine, 0, 1, 7, wait=False, function=SLOW)
    machine.zero.step(5)
    assert call.returned == []
    machine.live(2 * MS)
    assert (ran, call.returned) == ([], [0])
    machine.live(10 * MS)
    assert ran == [(1, "slow")]


@pytest.mark.parametrize("era", QUEUES)
def test_the_own_cpu_runs_it_at_once_with_interrupts_off(era: str, ran: Ran) -> None:
    machine = Several(era)
    call = Call(machine, 0, 0, 7, wait=True)
    machine.live(MS)
    assert ran == [(0, 0, 7, False, False)]
    assert call.returned == [0]
    assert machine.zero.cpu.irqs_on
    assert machine.icr == []


def test_in_2_6_18_calling_oneself_is_an_error(ran: Ran) -> None:
    machine = Several("2.6.18")
    call = Call(machine, 0, 0, 7, wait=True)
    machine.live(MS)
    assert (ran, call.returned) == ([], [-EBUSY])
    assert machine.zero["warnings"] == 1


@pytest.mark.parametrize("era", QUEUES)
@pytest.mark.parametrize("wait", [False, True])
def test_a_cpu_that_is_not_online_is_refused(era: str, wait: bool, ran: Ran) -> None:
    machine = Several(era)
    machine.zero.cpu.online_cpus = [0]
    call = Call(machine, 0, 1, 7, wait=wait)
    machine.live(MS)
    assert (ran, call.returned, machine.icr) == ([], [-smp.ENXIO], [])


@pytest.mark.conformance("K8.2-1")
@pytest.mark.parametrize("era", QUEUES)
def test_two_senders_make_one_ipi_and_two_runs_in_queue_order(era: str, ran: Ran) -> None:
    machine = Several(era, cpus=3)
    cal = machine.cal(1)
    machine.icr.clear()
    calls = [Call(machine, sender, 1, sender, wait=False) for sender in (2, 0)]
    machine.all[2].run_for(MS // 10)  # cpu2's call first, though cpu0's ring is looked at first
    machine.zero.ns += MS
    machine.zero.run_for(MS // 10)
    machine.deliver()
    assert machine.vectors() == [(2, 1 << 56 | 0xFB)]
    machine.live(MS)
    assert values(ran) == [2, 0]
    assert [call.returned for call in calls] == [[0], [0]]
    assert machine.cal(1) - cal == 1
    machine.task(0, smp_call_function_single(machine.zero.cpu, 1, DO_NOTHING, [9], wait=False))
    machine.live(MS)
    assert values(ran) == [2, 0, 9]  # the queue was empty again, so it got an IPI of its own
    assert machine.vectors() == [(0, 1 << 56 | 0xFB)]


@pytest.mark.conformance("K8.2-2")
@pytest.mark.parametrize("era", QUEUES)
def test_the_second_asynchronous_call_waits_for_the_csd_of_the_first(era: str, ran: Ran) -> None:
    machine = Several(era, cpus=3)
    machine.dead.append(1)  # it does not answer for now
    call = Call(machine, 0, 1, 1, 2, wait=False)
    machine.live(MS)
    assert call.returned == [0]
    other = Call(machine, 0, 2, 3, wait=False)  # whoever it is for: the csd belongs to the sender
    machine.live(MS)
    assert other.returned == []
    machine.dead.clear()
    machine.zero.outbox.setdefault("apic", [])
    machine.one.vector(0xFB)
    machine.live(2 * MS)
    assert call.returned == [0, 0]
    assert values(ran) == [1, 2]
    machine.live(MS)
    assert other.returned == [0]
    assert values(ran, 2) == [3]


@pytest.mark.parametrize(("era", "early"), [("3.10", False), ("6.1", True)])
def test_an_asynchronous_csd_is_free_before_or_after_the_function(
    era: str, early: bool, ran: Ran
) -> None:
    machine = Several(era)
    call = Call(machine, 0, 1, 1, 2, wait=False, function=SLOW)
    machine.live(2 * MS)
    assert ran == []
    assert call.returned == ([0, 0] if early else [0])
    machine.live(20 * MS)
    assert len(ran) == 2


@pytest.mark.parametrize("era", QUEUES)
def test_a_synchronous_csd_is_free_after_the_function(era: str, ran: Ran) -> None:
    machine = Several(era)
    call = Call(machine, 0, 1, 1, wait=True, function=SLOW)
    machine.live(2 * MS)
    assert (ran, call.returned) == ([], [])
    machine.live(10 * MS)
    assert call.returned == [0]


@pytest.mark.parametrize(("era", "order"), [("3.10", [1, 2, 3]), ("6.1", [2, 1, 3])])
def test_synchronous_calls_run_first_in_the_last_era(era: str, order: list[int], ran: Ran) -> None:
    machine = Several(era, cpus=4)
    machine.dead.append(1)
    for sender, wait in ((0, False), (2, True), (3, False)):
        Call(machine, sender, 1, {0: 1, 2: 2, 3: 3}[sender], wait=wait)
        machine.live(MS)
    machine.dead.clear()
    machine.one.vector(0xFB)
    machine.live(MS)
    assert values(ran) == order


@pytest.mark.conformance("K8.2-3")
@pytest.mark.parametrize("era", ERAS)
def test_calling_with_interrupts_off_warns_once_and_goes_on(era: str, ran: Ran) -> None:
    machine = Several(era)
    cpu, returned = machine.zero.cpu, []

    def caller() -> Context:
        for number in (1, 2):
            local_irq_disable(cpu)
            error = yield from smp_call_function_single(cpu, 1, DO_NOTHING, [number], wait=False)
            local_irq_enable(cpu)
            returned.append(error)

    machine.task(0, caller())
    machine.live(2 * MS)
    assert returned == [0, 0]
    assert values(ran) == [1, 2]
    assert machine.zero["warnings"] == 1


@pytest.mark.parametrize(("era", "warns"), [("3.10", 0), ("6.1", 1)])
def test_only_the_last_era_minds_a_call_from_a_softirq(era: str, warns: int, ran: Ran) -> None:
    machine = Several(era)
    machine.zero.softirq(
        3, lambda cpu: smp_call_function_single(cpu, 1, DO_NOTHING, [1], wait=False)
    )
    raise_softirq_irqoff(machine.zero.cpu, 3)
    machine.zero.wake = 0
    # ksoftirqd runs it: that is a softirq too
    machine.live(2 * MS)
    assert values(ran) == [1]
    assert machine.zero["warnings"] == warns


@pytest.mark.parametrize("era", ERAS)
def test_two_cpus_that_call_each_other_and_wait_both_return(era: str, ran: Ran) -> None:
    machine = Several(era)
    calls = [Call(machine, 0, 1, 1, wait=True), Call(machine, 1, 0, 2, wait=True)]
    machine.live(5 * MS)
    assert [call.returned for call in calls] == [[0], [0]]


def test_in_2_6_18_there_is_one_call_in_the_machine_at_a_time(ran: Ran) -> None:
    machine = Several("2.6.18", cpus=3)
    machine.dead.append(1)
    held = Call(machine, 0, 1, 1, wait=False)
    machine.live(MS)
    other = Call(machine, 2, 0, 2, wait=False)  # has nothing to do with cpu1
    machine.live(5 * MS)
    assert (held.returned, other.returned) == ([], [])
    machine.dead.clear()
    machine.one.vector(0xFC)
    machine.live(2 * MS)
    assert (held.returned, other.returned) == ([0], [0])


# ---------------------------------------------------------------- many targets


@pytest.mark.parametrize("era", ERAS)
def test_everybody_else_is_one_icr_write_with_the_shorthand(era: str, ran: Ran) -> None:
    machine = Several(era, cpus=4)
    machine.task(0, smp_call_function(machine.zero.cpu, DO_NOTHING, [5], wait=True))
    machine.live(MS)
    assert machine.vectors() == [(0, ALL_BUT_SELF | 0xFC)]
    assert sorted(note[0] for note in ran) == [1, 2, 3]


@pytest.mark.parametrize("era", QUEUES)
def test_some_cpus_are_one_logical_destination(era: str, ran: Ran) -> None:
    machine = Several(era, cpus=4)
    call = smp_call_function_many(machine.zero.cpu, (0, 1, 3, 9), DO_NOTHING, [5], wait=True)
    machine.task(0, call)
    machine.live(MS)
    assert machine.vectors() == [(0, 0b1010 << 56 | 1 << 11 | 0xFC)]
    assert sorted(note[0] for note in ran) == [1, 3]


def test_above_eight_cpus_each_gets_its_own_ipi(ran: Ran) -> None:
    machine = Several("6.1", cpus=10)
    call = smp_call_function_many(machine.zero.cpu, (1, 9), DO_NOTHING, [5], wait=True)
    machine.task(0, call)
    machine.live(MS)
    assert machine.vectors() == [(0, 1 << 56 | 0xFC), (0, 9 << 56 | 0xFC)]
    assert sorted(note[0] for note in ran) == [1, 9]


@pytest.mark.parametrize("era", QUEUES)
def test_a_mask_of_one_other_cpu_is_a_single_call(era: str, ran: Ran) -> None:
    machine = Several(era, cpus=3)
    call = smp_call_function_many(machine.zero.cpu, (0, 2), DO_NOTHING, [5], wait=True)
    machine.task(0, call)
    machine.live(MS)
    assert machine.vectors() == [(0, 2 << 56 | 0xFB)]
    assert values(ran, 2) == [5]


@pytest.mark.parametrize(
    ("era", "icr"), [("3.10", ALL_BUT_SELF | 0xFC), ("6.1", 0b1100 << 56 | 1 << 11 | 0xFC)]
)
def test_a_busy_queue_gets_no_second_ipi_in_the_last_era(era: str, icr: int, ran: Ran) -> None:
    machine = Several(era, cpus=4)
    machine.dead.append(1)
    Call(machine, 0, 1, 1, wait=False)
    machine.live(MS)
    machine.icr.clear()
    machine.task(0, smp_call_function(machine.zero.cpu, DO_NOTHING, [5], wait=False))
    machine.live(MS)
    assert machine.vectors() == [(0, icr)]


@pytest.mark.parametrize("era", ERAS)
def test_on_each_cpu_includes_the_own_one_with_interrupts_off(era: str, ran: Ran) -> None:
    machine = Several(era, cpus=3)
    machine.task(0, on_each_cpu(machine.zero.cpu, DO_NOTHING, [5], wait=True))
    machine.live(MS)
    assert sorted(ran) == [(0, 0, 5, False, False), (1, 0, 5, True, False), (2, 0, 5, True, False)]
    assert machine.zero.cpu.irqs_on


# ---------------------------------------------------------------- a CPU that never answers


def test_the_waiter_of_6_1_reports_the_silent_cpu_and_goes_on_when_it_answers(ran: Ran) -> None:
    assert PRESETS["6.1"].csd_lock_timeout == 5000
    machine = Several("6.1", overrides=(("csd_lock_timeout", "100"),))
    machine.dead.append(1)
    call = Call(machine, 0, 1, 7, wait=True)
    machine.live(99 * MS)
    assert machine.said("csd:") == []
    machine.live(2 * MS)
    first = machine.said("csd:")
    assert first[0].startswith("csd: Detected non-responsive CSD lock (#1) on CPU#0, waiting 100")
    assert first[0].endswith(" ns for CPU#01 do_nothing(0x0).")
    assert first[1:] == [
        "\tcsd: CSD lock (#1) unresponsive.",
        "csd: Re-sending CSD lock (#1) IPI from CPU#00 to CPU#01",
    ]
    machine.live(100 * MS)
    assert machine.said("csd: Continued non-responsive CSD lock (#1) on CPU#0, waiting 200")
    machine.dead.clear()
    machine.one.vector(0xFB)
    machine.live(MS)
    assert call.returned == [0]
    assert machine.said("csd:")[-1] == (
        "csd: CSD lock (#1) got unstuck on CPU#00, CPU#01 released the lock."
    )


def test_the_report_says_what_the_other_cpu_is_busy_with(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(cpu: Cpu, _source: int, _record: list[int]) -> Context:
        while True:
            yield Pause(cpu.now() + 10 * MS)

    monkeypatch.setitem(smp.REMOTE_FUNCTIONS, SLOW, hang)
    machine = Several("6.1", cpus=3, overrides=(("csd_lock_timeout", "100"),))
    Call(machine, 0, 1, 7, wait=True, function=SLOW)
    Call(machine, 2, 1, 7, wait=True)
    machine.live(110 * MS)
    assert machine.said("handling this request")
    assert machine.said("handling prior hang(0x0) request")
    assert not machine.said("Re-sending")


def test_csd_lock_timeout_sets_when_and_zero_is_never(ran: Ran) -> None:
    for timeout_ms, reports in ((100, 1), (0, 0)):
        machine = Several("6.1", overrides=(("csd_lock_timeout", str(timeout_ms)),))
        machine.dead.append(1)
        Call(machine, 0, 1, 7, wait=True)
        machine.live(150 * MS)
        assert len(machine.said("Detected non-responsive")) == reports


@pytest.mark.parametrize("era", ["2.6.18", "3.10"])
def test_before_that_only_the_soft_lockup_watchdog_sees_it(
    era: str, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csd, "CSD_RETRY_NS", 10 * MS)  # look less often: same end, less work
    machine = Several(era, overrides=(("watchdog_thresh", "1"),))
    machine.dead.append(1)
    Call(machine, 0, 1, 7, wait=True)
    machine.live((12 if era == "2.6.18" else 3) * SECOND)
    assert machine.said("csd:") == []
    assert len(machine.said("BUG: soft lockup")) == 1
