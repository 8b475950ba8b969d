"""Non-posted accesses: the CPU stalls, and what ends the stall."""

from __future__ import annotations

from typing import Any

import pytest

from bus.messages import (
    CfgRead,
    CfgWrite,
    Completion,
    Interrupt,
    MemRead,
    MemWrite,
    PeerBack,
    PeerLost,
)
from nodes.cpu.kernel.drivers.ixgbe.hw import read_reg
from nodes.cpu.kernel.hrtimer import HrTimer
from nodes.cpu.kernel.pci import read_config, write_config
from nodes.cpu.kernel.percpu import ALL_ONES, Context, Cpu, MmioRead
from nodes.cpu.lapic import NMI
from nodes.cpu.page import CONTEXTS
from tests.nodes.cpu.harness import MS, BareCpu

TIMEOUT_NS = 50 * MS
STALLED = CONTEXTS.index("stalled")


@pytest.fixture
def bench() -> BareCpu:
    """A CPU with one NIC whose node is there and says nothing yet."""
    bench = BareCpu(nics=1, boot=False)
    bench.turn(("eth0", PeerLost(1)))
    bench.settle()
    assert "ixgbe 0000:01:00.0: probe failed with error -19" in bench.log()
    bench.turn(("eth0", PeerBack(2)))
    bench.outbox.clear()
    for field in ("mmio_reads", "mmio_all_ones", "mmio_timeouts"):
        bench.page[field] = 0
    return bench


def reader(cpu: Cpu, got: list[int], offset: int = 8) -> Context:
    value: int = yield MmioRead(0, offset)
    got.append(value)


def stall(bench: BareCpu, got: list[int]) -> MemRead:
    """Start a read; the message that went out."""
    bench.task(reader(bench.cpu, got), "reader")
    bench.settle()
    message = bench.outbox["eth0"][-1]
    assert isinstance(message, MemRead)
    return message


def test_a_read_stalls_the_cpu_until_its_completion(bench: BareCpu) -> None:
    got: list[int] = []
    message = stall(bench, got)
    assert (message.bar, message.offset) == (0, 8)
    assert bench["context"] == STALLED
    assert bench["stalled_on"] == 1
    assert bench.wake is not None
    assert TIMEOUT_NS - MS < bench.wake - bench.ns <= TIMEOUT_NS
    bench.turn(("eth0", Completion(message.tag, 0x1234)))
    bench.settle()
    assert got == [0x1234]
    assert bench["stalled_on"] == 0
    assert bench["mmio_reads"] == 1


def test_while_stalled_no_context_runs_and_vectors_only_set_irr(bench: BareCpu) -> None:
    got: list[int] = []
    order: list[str] = []
    bench.irq(0x41, lambda irq, dev: order.append("interrupt") or 1)
    bench.cpu.timers.hrtimer_start(HrTimer(lambda cpu: order.append("timer")), bench.ns + MS)

    def other(_cpu: Cpu) -> Context:
        order.append("other")
        yield

    message = stall(bench, got)
    bench.task(other(bench.cpu), nice=-20)
    bench.vector(0x41)
    boundaries = bench["boundaries"]
    bench.run_for(20 * MS)
    assert order == []
    assert bench["boundaries"] == boundaries
    assert bench.page.run("irr")[1] == 1 << (0x41 - 64)
    bench.turn(("eth0", Completion(message.tag, 5)))
    bench.settle()
    assert got == [5]
    assert sorted(order) == ["interrupt", "other", "timer"]


def test_between_two_reads_of_a_run_an_interrupt_is_taken(bench: BareCpu) -> None:
    got: list[object] = []
    bench.irq(0x41, lambda irq, dev: got.append("interrupt") or 1)
    bench.cpu.timers.hrtimer_start(HrTimer(lambda cpu: got.append("timer")), bench.ns + MS)

    def task(_cpu: Cpu) -> Context:
        for offset in (8, 12, 16):
            got.append((yield MmioRead(0, offset)))

    bench.task(task(bench.cpu), "reader")
    bench.settle()
    bench.run_for(2 * MS)  # the timer's interrupt comes while the CPU stalls, and the device's
    bench.vector(0x41)
    assert got == []
    for value in (1, 2, 3):
        message = bench.outbox["eth0"][-1]
        assert isinstance(message, MemRead)
        bench.turn(("eth0", Completion(message.tag, value)))
        bench.settle()
    assert sorted(got[:2], key=str) == ["interrupt", "timer"]
    assert got[2:] == [1, 2, 3]


def test_an_nmi_does_not_eat_what_a_read_has_brought(bench: BareCpu) -> None:
    got: list[int] = []
    message = stall(bench, got)
    bench.turn(("apic", Interrupt(2, NMI, 0)))
    bench.turn(("eth0", Completion(message.tag, 9)))
    bench.settle()
    assert got == [9]


def test_an_answer_to_another_read_is_ignored(bench: BareCpu) -> None:
    got: list[int] = []
    message = stall(bench, got)
    bench.turn(("eth0", Completion(message.tag + 1, 7)))
    assert got == []
    assert bench["context"] == STALLED
    bench.turn(("eth0", Completion(message.tag, 8)))
    bench.settle()
    assert got == [8]


@pytest.mark.conformance("A11.3-3")
@pytest.mark.conformance("H15-1")
def test_with_the_link_lost_a_read_is_all_ones_at_once(bench: BareCpu) -> None:
    got: list[int] = []
    bench.turn(("eth0", PeerLost(2)))
    before = bench.ns
    bench.task(reader(bench.cpu, got))
    bench.settle()
    assert got == [ALL_ONES]
    assert bench.ns - before < 3000
    assert "eth0" not in bench.outbox
    assert (bench["mmio_all_ones"], bench["mmio_timeouts"]) == (1, 0)


def test_a_link_that_is_lost_during_the_stall_ends_it(bench: BareCpu) -> None:
    got: list[int] = []
    stall(bench, got)
    bench.turn(("eth0", PeerLost(2)))
    bench.settle()
    assert got == [ALL_ONES]
    assert bench["mmio_all_ones"] == 1


def test_a_frozen_device_costs_the_completion_timeout(bench: BareCpu) -> None:
    got: list[int] = []
    began = bench.ns
    message = stall(bench, got)
    bench.run_for(TIMEOUT_NS - MS)
    assert got == []
    bench.run_for(2 * MS)
    assert got == [ALL_ONES]
    assert bench["mmio_timeouts"] == 1
    assert bench.ns - began < TIMEOUT_NS + 2 * MS
    bench.turn(("eth0", Completion(message.tag, 9)))  # thawed: too late
    bench.settle()
    assert got == [ALL_ONES]


def test_configuration_space_is_read_and_written_non_posted(bench: BareCpu) -> None:
    got: list[Any] = []

    def task(cpu: Cpu) -> Context:
        got.append((yield from read_config(cpu, 0, 0x04, 2)))
        yield from write_config(cpu, 0, 0x04, 2, 0x406)
        got.append("written")

    bench.task(task(bench.cpu))
    bench.settle()
    read = bench.outbox["eth0"].pop()
    assert read == CfgRead(read.tag, 0x04, 2)
    bench.turn(("eth0", Completion(read.tag, 0xABCD_0147)))
    bench.settle()
    written = bench.outbox["eth0"].pop()
    assert written == CfgWrite(written.tag, 0x04, 2, 0x406)
    assert got == [0x0147]
    bench.turn(("eth0", Completion(written.tag, 0)))
    bench.settle()
    assert got == [0x0147, "written"]


@pytest.mark.conformance("A1.1-1")
@pytest.mark.parametrize(("size", "value"), [(1, 0xFF), (2, 0xFFFF), (4, 0xFFFF_FFFF)])
def test_configuration_of_a_lost_device_reads_all_ones_of_its_size(
    bench: BareCpu, size: int, value: int
) -> None:
    got: list[int] = []
    bench.turn(("eth0", PeerLost(2)))

    def task(cpu: Cpu) -> Context:
        got.append((yield from read_config(cpu, 0, 0, size)))

    bench.task(task(bench.cpu))
    bench.settle()
    assert got == [value]


def test_what_the_runtime_could_not_deliver_is_counted_and_a_read_among_it_fails(
    bench: BareCpu,
) -> None:
    got: list[int] = []
    message = stall(bench, got)
    bench.node.undelivered("eth0", [MemWrite(0, 0x6018, 1), MemWrite(0, 0x6018, 2), message], True)
    bench.settle()
    assert bench["mmio_lost"] == 2
    assert got == [ALL_ONES]


def test_a_read_that_met_a_full_queue_waits_for_its_timeout(bench: BareCpu) -> None:
    got: list[int] = []
    message = stall(bench, got)
    bench.node.undelivered("eth0", [message], False)
    bench.run_for(TIMEOUT_NS - MS)
    assert got == []
    bench.run_for(2 * MS)
    assert got == [ALL_ONES]


# ---------------------------------------------------------------- one register, or the device?


class FakeAdapter:
    """As much of an adapter as reading a register needs."""

    def __init__(self) -> None:
        self.nic = 0
        self.removed = False


def read_with_answers(bench: BareCpu, answers: list[int]) -> tuple[list[int], FakeAdapter, int]:
    """Read GPRC through the driver; the device answers like this. (value, adapter, reads)."""
    adapter, got = FakeAdapter(), []

    def task(cpu: Cpu) -> Context:
        got.append((yield from read_reg(cpu, adapter, 0x4074)))  # type: ignore[arg-type]

    bench.task(task(bench.cpu))
    bench.settle()
    reads = 0
    while "eth0" in bench.outbox:
        for message in bench.outbox.pop("eth0"):
            reads += 1
            bench.turn(("eth0", Completion(message.tag, answers.pop(0))))
        bench.run_for(4 * MS)
    return got, adapter, reads


@pytest.mark.conformance("H15-2")
def test_one_register_of_all_ones_is_not_a_removal(bench: BareCpu) -> None:
    got, adapter, reads = read_with_answers(bench, [ALL_ONES, 0x80080, ALL_ONES])
    assert got == [ALL_ONES]
    assert not adapter.removed
    assert reads == 3
    assert bench.log()[-1] != "ixgbe 0000:01:00.0: Adapter removed"


def test_status_of_all_ones_five_times_is_a_removal(bench: BareCpu) -> None:
    began = bench.ns
    got, adapter, reads = read_with_answers(bench, [ALL_ONES] * 6)
    assert got == [ALL_ONES]
    assert adapter.removed
    assert reads == 6
    assert bench.log()[-1] == "ixgbe 0000:01:00.0: Adapter removed"
    assert bench.ns - began >= 12 * MS  # 3 ms between two looks


def test_older_drivers_believe_the_ones() -> None:
    bench = BareCpu("3.10", nics=1, boot=False)
    bench.turn(("eth0", PeerLost(1)))
    bench.settle()
    bench.turn(("eth0", PeerBack(2)))
    bench.outbox.clear()
    got, adapter, reads = read_with_answers(bench, [ALL_ONES])
    assert (got, adapter.removed, reads) == ([ALL_ONES], False, 1)
