"""Several CPUs: IPIs, the record rings, remote wake-ups, replicas."""

from __future__ import annotations

from typing import Any

import pytest

from bus.ram import CSD_RECORDS
from nodes.cpu.kernel import smp
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.sched import SCHEDULE, TASK_INTERRUPTIBLE, wake_up_process
from nodes.cpu.kernel.smp import call_function_single, queue_remote_wakeup
from nodes.cpu.kernel.softirq import __raise_softirq_irqoff, raise_softirq_irqoff
from nodes.cpu.kernel.tables import KINDS, publish
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.kernel.words import OTHER_WORK
from nodes.cpu.kernel.workqueue import INIT_WORK, schedule_work
from nodes.cpu.page import ARCH_IRQS
from tests.nodes.cpu.harness import ERAS, MS, BareCpu
from tests.nodes.cpu.several import Several
from tests.nodes.cpu.workqueue.bench import now

NOTE = 900  # a record function that only tests have


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Records that arrived: (CPU, source, value, in hard interrupt, interrupts on)."""
    seen: list[tuple[Any, ...]] = []

    def note(cpu: Cpu, source: int, record: list[int]) -> Context | None:
        seen.append((cpu.number, source, record[1], cpu.in_irq(), cpu.irqs_on))
        return None

    monkeypatch.setitem(smp.REMOTE_FUNCTIONS, NOTE, note)
    return seen


def send(cpu: Cpu, target: int, values: range) -> Context:
    for value in values:
        yield from call_function_single(cpu, target, [NOTE, value])
        yield


# ---------------------------------------------------------------- call function


@pytest.mark.parametrize(("era", "vector"), [("2.6.18", 0xFC), ("3.10", 0xFB), ("6.1", 0xFB)])
def test_a_call_to_another_cpu_is_a_record_and_an_ipi_with_nothing_but_its_vector(
    era: str, vector: int, noted: list[tuple[Any, ...]]
) -> None:
    pair = Several(era)
    before = pair.arch(1, "CAL")
    pair.zero.task(send(pair.zero.cpu, 1, range(7, 8)))
    pair.live(MS)
    assert noted == [(1, 0, 7, True, False)]
    assert pair.icr == [(0, 1 << 56 | 1 << 14 | vector)]
    assert pair.arch(1, "CAL") - before == 1


def test_a_record_of_a_cpu_that_is_not_known_to_be_online_yet_is_taken(
    noted: list[tuple[Any, ...]],
) -> None:
    """cpu_online_mask comes to one CPU after the other: who has it may call one that has not."""
    three = Several(cpus=3)
    two = three.all[2].cpu
    two.online_cpus = [0, 2]
    three.one.task(send(three.one.cpu, 2, range(7, 8)))
    three.live(MS)
    assert noted == [(2, 1, 7, True, False)]


def test_softirqs_raised_by_a_call_run_when_its_interrupt_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def raise_it(cpu: Cpu, _source: int, _record: list[int]) -> Context | None:
        raise_softirq_irqoff(cpu, 3)
        return None

    def action(cpu: Cpu) -> Context:
        ran.append(cpu.name)
        yield

    monkeypatch.setitem(smp.REMOTE_FUNCTIONS, NOTE, raise_it)
    pair = Several()
    pair.one.softirq(3, action)
    pair.zero.task(send(pair.zero.cpu, 1, range(1)))
    pair.live(MS)
    assert ran == ["cpu1"]
    assert pair.one["ksoftirqd_wakeups"] == 0


def test_a_full_ring_makes_the_sender_wait_and_loses_nothing(
    noted: list[tuple[Any, ...]],
) -> None:
    pair = Several()
    count = CSD_RECORDS * 2 + 5
    sender = pair.zero.task(send(pair.zero.cpu, 1, range(count)))
    for _ in range(3 * count):
        pair.zero.step()  # nobody takes anything yet
    assert len(pair.zero.ram.csd_ring(0, 1)) == CSD_RECORDS
    assert sender.pid in pair.zero.cpu.rq.all  # it spins in csd_lock
    while sender.pid in pair.zero.cpu.rq.all or len(pair.zero.ram.csd_ring(0, 1)):
        pair.deliver()
        pair.one.settle()
        pair.zero.step()
    assert [value for _, _, value, _, _ in noted] == list(range(count))


def test_several_records_of_one_turn_are_announced_once(noted: list[tuple[Any, ...]]) -> None:
    pair = Several()
    pair.zero.task(send(pair.zero.cpu, 1, range(10)))
    pair.zero.turn(budget=64)
    assert len(pair.zero.outbox["apic"]) == 1
    pair.live(MS)
    assert len(noted) == 10


def test_interrupts_come_through_while_the_sender_waits_for_ring_space() -> None:
    pair, ran = Several(), []
    pair.zero.irq(0x41, lambda irq, dev: ran.append(irq) or 1)
    while pair.zero.ram.csd_ring(0, 1).push([NOTE]):
        pass
    pair.zero.task(send(pair.zero.cpu, 1, range(1)))
    pair.zero.step(5)
    pair.zero.vector(0x41)
    pair.zero.step(5)
    assert ran == [0x41]


# ---------------------------------------------------------------- reschedule


@pytest.mark.conformance("K8.1-2")
def test_a_remote_wake_up_is_a_reschedule_ipi_that_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair, woke = Several(), []

    def sleeper(cpu: Cpu) -> Context:
        cpu.current.state = TASK_INTERRUPTIBLE
        yield SCHEDULE
        woke.append(cpu.name)

    task = pair.one.task(sleeper(pair.one.cpu))
    pair.one.settle()

    def wake(cpu: Cpu, _source: int, _record: list[int]) -> Context | None:
        wake_up_process(cpu, task)
        return None

    monkeypatch.setitem(smp.REMOTE_FUNCTIONS, NOTE, wake)

    def waker(cpu: Cpu) -> Context:
        yield from queue_remote_wakeup(cpu, 1, [NOTE])

    pair.zero.task(waker(pair.zero.cpu))
    pair.live(MS)
    assert woke == ["cpu1"]
    assert pair.icr == [(0, 1 << 56 | 1 << 14 | 0xFD)]
    assert pair.res(1) == 1
    assert pair.zero["wakeups_remote"] == 1


@pytest.mark.conformance("K8.1-1", "K8.1-2")
@pytest.mark.parametrize("era", ERAS)
def test_a_pure_reschedule_ipi_is_counted_and_runs_no_softirq(era: str) -> None:
    bench, ran = BareCpu(era), []

    def action(_cpu: Cpu) -> Context:
        ran.append("NET_RX")
        yield

    bench.softirq(3, action)
    __raise_softirq_irqoff(bench.cpu, 3)
    switches = bench["ctxt"]
    bench.vector(bench.cpu.params.reschedule_vector)
    bench.settle()
    assert ran == []
    assert bench.page.run("arch_irqs")[ARCH_IRQS.index("RES")] == 1
    assert bench["ctxt"] == switches
    assert bench.cpu.preempt_count == 0
    assert bench.cpu.lapic.isr == 0


# ---------------------------------------------------------------- replicas


def test_a_published_value_reaches_every_online_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Any, Any]] = []
    monkeypatch.setitem(KINDS, "test", lambda cpu, key, value: seen.append((cpu.name, key, value)))
    pair = Several()

    def writer(cpu: Cpu) -> Context:
        yield from publish(cpu, "test", 5, ("a", b"\x01", 2**40, None))

    pair.zero.task(writer(pair.zero.cpu))
    pair.live(MS)
    value = ("a", b"\x01", 2**40, None)
    assert seen == [("cpu0", 5, value), ("cpu1", 5, value)]
    assert pair.zero.ram.handover(0).in_use() == 0


# ---------------------------------------------------------------- works


@pytest.mark.conformance("K5.10-2")
def test_keventd_runs_a_work_on_two_cpus_at_once() -> None:
    pair, order = Several("2.6.18"), []

    def function(cpu: Cpu) -> Context:
        order.append(f"{cpu.name} begins")
        yield from msleep(cpu, 20)
        order.append(f"{cpu.name} ends")

    works = [INIT_WORK(b.cpu, OTHER_WORK, "both", function) for b in pair.all]  # one PENDING bit
    assert now(schedule_work(pair.zero.cpu, works[0]))
    assert not now(schedule_work(pair.one.cpu, works[1]))  # queued already
    pair.live(MS)
    assert now(schedule_work(pair.one.cpu, works[1]))  # it runs, so it may be queued again
    for _ in range(40):
        pair.live(MS)
    assert order == ["cpu0 begins", "cpu1 begins", "cpu0 ends", "cpu1 ends"]
