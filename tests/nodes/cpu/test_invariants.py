"""The rules of who may stand on whom; and WARN and BUG, which tell when something is wrong."""

from __future__ import annotations

import pytest

from nodes.cpu.invariants import InvariantError, broken
from nodes.cpu.kernel.bug import bug, warn, warn_once
from nodes.cpu.kernel.percpu import LEVEL_NMI, LEVEL_SOFTIRQ, Context, Cpu
from nodes.cpu.kernel.sched import TASK_DEAD
from tests.nodes.cpu.harness import BareCpu


@pytest.mark.parametrize(
    ("levels", "count", "says"),
    [
        ([], 0, ""),
        ([0x41], 0x10000, ""),
        ([0x41, 0x51], 0x20000, ""),
        ([LEVEL_SOFTIRQ], 0x100, ""),
        ([LEVEL_SOFTIRQ, 0x41], 0x10100, ""),
        ([LEVEL_SOFTIRQ, 0x41, LEVEL_NMI], 0x120100, ""),
        ([], 0x200, ""),
        ([LEVEL_SOFTIRQ, LEVEL_SOFTIRQ], 0x100, "softirq runs on top of a softirq"),
        ([0x41, LEVEL_SOFTIRQ], 0x10100, "softirq runs on top of a hard interrupt"),
        ([0x41, 0x41], 0x20000, "0x41 runs on top of itself"),
        ([LEVEL_NMI, LEVEL_NMI], 0x220000, "NMI runs on top of an NMI"),
        ([LEVEL_NMI, 0x41], 0x120000, "taken inside an NMI"),
        ([0x41], 0, "does not show 1 hard interrupts"),
        ([], 0x10000, "does not show 0 hard interrupts"),
        ([LEVEL_SOFTIRQ], 0, "does not show the softirq"),
        ([], 0x100, "shows a softirq that does not run"),
        ([LEVEL_NMI], 0x10000, "does not show 1 NMIs"),
        ([], -1, "preempt_count is"),
    ],
)
def test_each_rule(levels: list[int], count: int, says: str) -> None:
    bench = BareCpu()
    bench.cpu.current = bench.task(iter(()))  # type: ignore[arg-type]
    bench.cpu.levels, bench.cpu.preempt_count = levels, count
    said = broken(bench.cpu)
    assert says in said if says else said == ""


def test_a_broken_rule_stops_the_simulation() -> None:
    bench = BareCpu()

    def task(cpu: Cpu) -> Context:
        cpu.preempt_count += 0x10000
        yield

    bench.task(task(bench.cpu))
    with pytest.raises(InvariantError, match="cpu0: preempt_count 0x10000"):
        bench.settle()


@pytest.mark.parametrize(
    ("era", "line"),
    [
        ("2.6.18", "BUG: warning at kernel/softirq.c/_complain()"),
        ("3.10", "WARNING: at kernel/softirq.c _complain()"),
        ("6.1", "WARNING: CPU: 0 PID: {pid} at kernel/softirq.c _complain"),
    ],
)
def test_a_warning_names_place_task_and_call_trace(era: str, line: str) -> None:
    bench = BareCpu(era)
    task = bench.task(_body(bench.cpu), comm="probe")
    bench.settle()
    log = bench.log()
    assert line.format(pid=task.pid) in log
    assert "Call Trace:" in log
    assert log[log.index(" <TASK>") + 1 : log.index(" </TASK>")] == [" _complain", " _body"]
    assert bench["warnings"] == 2


def _body(cpu: Cpu) -> Context:
    yield from _complain(cpu)


def _complain(cpu: Cpu) -> Context:
    warn(cpu, "kernel/softirq.c")
    for _ in range(3):
        warn_once(cpu, "kernel/softirq.c")
    yield


def test_bug_ends_the_task_and_nothing_else() -> None:
    bench, ran = BareCpu(), []

    def bad(cpu: Cpu) -> Context:
        yield
        raise bug(cpu, "kernel/timer.c")

    def good(_cpu: Cpu) -> Context:
        for n in range(5):
            yield
            ran.append(n)

    task = bench.task(bad(bench.cpu))
    bench.task(good(bench.cpu))
    bench.settle()
    assert task.state == TASK_DEAD
    assert ran == [0, 1, 2, 3, 4]
    assert "kernel BUG at kernel/timer.c!" in bench.log()


def test_bug_in_an_interrupt_is_the_end_of_the_cpu() -> None:
    bench = BareCpu()

    def handler(_irq: int, _dev: object) -> Context:
        yield
        raise bug(bench.cpu, "drivers/net/ixgbe")

    bench.irq(0x41, handler)
    bench.vector(0x41)
    bench.settle()
    assert bench.log()[-1] == "Kernel panic - not syncing: Fatal exception in interrupt"
    assert bench["online"] == 0
    bench.vector(0x41)
    assert bench.turn() is None
    assert bench["vectors_taken"] == 1
