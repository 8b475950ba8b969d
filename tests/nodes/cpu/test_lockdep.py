"""The lock validator: what it finds before it deadlocks, in which words, and what it lets pass."""

from __future__ import annotations

from typing import Any

import pytest

from nodes.cpu.kernel.irq.desc import IRQ_HANDLED, IRQ_WAKE_THREAD
from nodes.cpu.kernel.irq.sim import irq_sim_fire
from nodes.cpu.kernel.irqflags import local_irq_enable
from nodes.cpu.kernel.locks.rwlock import RwLock, read_lock, read_unlock, write_lock, write_unlock
from nodes.cpu.kernel.locks.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_irq,
    spin_trylock,
    spin_unlock,
)
from nodes.cpu.kernel.percpu import Context, Cpu
from nodes.cpu.kernel.softirq import (
    NET_RX_SOFTIRQ,
    local_bh_disable,
    local_bh_enable,
    raise_softirq_irqoff,
)
from nodes.cpu.kernel.tasklet import tasklet_init, tasklet_schedule
from nodes.cpu.kernel.timer import Timer
from tests.nodes.cpu.duo import ON, Duo
from tests.nodes.cpu.harness import ERAS, MS, BareCpu, handled
from tests.nodes.cpu.lines import LineBench
from tests.nodes.cpu.lockuses import (
    VARIANTS,
    VECTOR,
    in_hardirq,
    in_process,
    in_softirq,
    ordered,
    report,
    run_in,
    titles,
    use,
)

# ---------------------------------------------------------------- one class, two uses


@pytest.mark.conformance("K7.3-1")
def test_a_class_used_in_hardirq_and_later_with_interrupts_on_is_reported_without_a_deadlock() -> (
    None
):
    bench, table = BareCpu(overrides=ON), Spinlock(40, "&table->lock")

    def lookup(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, table)
        yield from spin_unlock(cpu, table)

    def table_interrupt() -> Context:
        yield from spin_lock(bench.cpu, table)
        yield from spin_unlock(bench.cpu, table)

    in_hardirq(bench, table_interrupt)
    assert report(bench) == []
    pid = in_process(bench, lookup(bench.cpu))
    address = f"{table.address(bench.cpu):016x}"
    assert [line for line in report(bench) if line not in ("handler", "  handler")] == [
        "================================",
        "WARNING: inconsistent lock state",
        "6.1.0 #1 Not tainted",
        "--------------------------------",
        "inconsistent {IN-HARDIRQ-W} -> {HARDIRQ-ON-W} usage.",
        f"test/{pid} [HC0[0]:SC0[0]:HE1:SE1] takes:",
        f"{address} (&table->lock){{?...}}-{{2:2}}, at: lookup",
        "{IN-HARDIRQ-W} state was registered at:",
        "  spin_lock",
        "  table_interrupt",
        "  handle_irq_event",
        "  handle_edge_irq",
        "  common_interrupt",
        "  interrupt",
        "",
        "other info that might help us debug this:",
        " Possible unsafe locking scenario:",
        "",
        "       CPU0",
        "       ----",
        "  lock(&table->lock);",
        "  <Interrupt>",
        "    lock(&table->lock);",
        "",
        " *** DEADLOCK ***",
        "",
        f"no locks held by test/{pid}.",
        "",
        "stack backtrace:",
        f"CPU: 0 PID: {pid} Comm: test Not tainted 6.1.0",
        "Call Trace:",
        " <TASK>",
        " spin_lock",
        " lookup",
        " </TASK>",
    ]
    assert table.holder(bench.cpu) is None  # it went on, and nothing hung


@pytest.mark.conformance("K7.3-1")
@pytest.mark.parametrize(
    ("era", "title", "usage", "line"),
    [
        (
            "2.6.18",
            "[ INFO: inconsistent lock state ]",
            "inconsistent {in-softirq-W} -> {softirq-on-W} usage.",
            " (t){-+..}, at: use",
        ),
        (
            "3.10",
            "[ INFO: inconsistent lock state ]",
            "inconsistent {IN-SOFTIRQ-W} -> {SOFTIRQ-ON-W} usage.",
            " (t){+.?...}, at: use",
        ),
        (
            "6.1",
            "WARNING: inconsistent lock state",
            "inconsistent {IN-SOFTIRQ-W} -> {SOFTIRQ-ON-W} usage.",
            " (t){+.?.}-{2:2}, at: use",
        ),
    ],
)
def test_each_era_has_its_own_words(era: str, title: str, usage: str, line: str) -> None:
    bench, table = BareCpu(era, overrides=ON), Spinlock(40, "t")
    in_softirq(bench, lambda: use(bench.cpu, table))
    in_process(bench, use(bench.cpu, table))
    text = report(bench)
    assert text[1] == title
    assert usage in text
    assert [one for one in text if one.endswith(line)]
    assert ("6.1.0 #1 Not tainted" in text) == (era == "6.1")


#: 7.2: (holder, other) -> the weakest variant that is safe for the holder
NEEDED = {
    ("process", "softirq"): "bh",
    ("process", "hardirq"): "irq",
    ("softirq", "hardirq"): "irq",
}
WRONG = [
    (holder, other, variant)
    for (holder, other), needed in NEEDED.items()
    for variant in ("none", "bh")
    if (variant == "none" or needed == "irq") and not (holder == "softirq" and variant == "bh")
]
RIGHT = [
    ("process", "process", "none"),
    ("process", "process", "bh"),  # more than is needed is no fault
    ("process", "process", "irq"),
    ("process", "softirq", "bh"),
    ("process", "softirq", "irq"),
    ("process", "softirq", "irqsave"),
    ("process", "hardirq", "irq"),
    ("process", "hardirq", "irqsave"),
    ("softirq", "softirq", "none"),
    ("softirq", "hardirq", "irq"),
    ("softirq", "hardirq", "irqsave"),
    ("hardirq", "hardirq", "none"),
]


@pytest.mark.conformance("K7.2-1")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("first", ["holder", "other"])
@pytest.mark.parametrize(("holder", "other", "variant"), WRONG)
def test_each_wrong_choice_is_reported_whoever_comes_first(
    era: str, first: str, holder: str, other: str, variant: str
) -> None:
    bench, table = BareCpu(era, overrides=ON), Spinlock(40, "t")
    uses = [
        (holder, lambda: use(bench.cpu, table, variant)),
        (other, lambda: use(bench.cpu, table)),
    ]
    for context, make in uses if first == "holder" else uses[::-1]:
        assert report(bench) == []
        run_in(bench, context, make)
    assert len(titles(bench)) == 1
    assert "inconsistent lock state" in titles(bench)[0]
    assert table.holder(bench.cpu) is None


@pytest.mark.conformance("K7.2-2")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("holder", "other", "variant"), RIGHT)
def test_the_right_choice_is_left_alone(era: str, holder: str, other: str, variant: str) -> None:
    bench, table = BareCpu(era, overrides=ON), Spinlock(40, "t")
    for _ in range(2):
        run_in(bench, holder, lambda: use(bench.cpu, table, variant))
        run_in(bench, other, lambda: use(bench.cpu, table))
    assert report(bench) == []


@pytest.mark.parametrize(("holder", "other", "variant"), WRONG)
def test_the_report_comes_before_the_deadlock_which_then_is_real(
    holder: str, other: str, variant: str
) -> None:
    bench, table = BareCpu(overrides=ON), Spinlock(40, "t")
    reached: list[str] = []

    def interrupted() -> Context:
        reached.append("wants it")
        yield from spin_lock(bench.cpu, table)
        reached.append("has it")

    def hardirq(irq: int, dev: object) -> Context:
        if other == "hardirq":
            yield from interrupted()
        else:
            raise_softirq_irqoff(bench.cpu, NET_RX_SOFTIRQ)
            yield
        return handled(irq, dev)

    def window() -> Context:
        yield from VARIANTS[variant][0](bench.cpu, table)
        bench.cpu.lapic.accept(VECTOR + 0x10)
        for _ in range(10):
            yield
        yield from VARIANTS[variant][1](bench.cpu, table)

    bench.irq(VECTOR + 0x10, hardirq)
    if holder == "process":
        bench.softirq(NET_RX_SOFTIRQ, lambda _cpu: interrupted())
    run_in(bench, holder, window)
    assert reached == ["wants it"]
    assert len(titles(bench)) == 1
    assert table.holder(bench.cpu) == 0  # for ever


def test_only_one_report_then_it_is_off_on_all_cpus() -> None:
    duo, table, other = Duo(), Spinlock(40, "t"), Spinlock(41, "u")
    for bench in duo.both:
        for lock in (table, other):
            in_softirq(bench, lambda lock=lock, cpu=bench.cpu: use(cpu, lock))  # type: ignore[misc]
            in_process(bench, use(bench.cpu, lock))
    assert len(titles(duo.zero)) == 1
    assert titles(duo.one) == []
    assert not duo.one.cpu.lockdep.on()  # type: ignore[union-attr]


def test_what_one_cpu_did_is_held_against_the_other() -> None:
    duo, table = Duo(), Spinlock(40, "t")
    in_softirq(duo.one, lambda: use(duo.one.cpu, table))
    in_process(duo.zero, use(duo.zero.cpu, table))
    text = report(duo.zero)
    assert text[1] == "WARNING: inconsistent lock state"
    at = text.index("{IN-SOFTIRQ-W} state was registered at:")
    assert text[at + 1] == "  (on CPU1)"


def test_interrupts_turned_on_under_a_lock_that_is_taken_in_them() -> None:
    bench, table = BareCpu(overrides=ON), Spinlock(40, "t")

    def careless(cpu: Cpu) -> Context:
        yield from spin_lock_irq(cpu, table)
        local_irq_enable(cpu)
        yield
        yield from spin_unlock(cpu, table)

    in_hardirq(bench, lambda: use(bench.cpu, table))
    pid = in_process(bench, careless(bench.cpu))
    text = report(bench)
    assert "inconsistent {IN-HARDIRQ-W} -> {HARDIRQ-ON-W} usage." in text
    assert f"1 lock held by test/{pid}:" in text
    assert text[-4:-1] == [" <TASK>", " local_irq_enable", " careless"]


def test_bottom_halves_turned_on_under_a_lock_that_softirqs_take() -> None:
    bench, table = BareCpu(overrides=ON), Spinlock(40, "t")

    def careless(cpu: Cpu) -> Context:
        local_bh_disable(cpu)
        yield from spin_lock(cpu, table)
        yield from local_bh_enable(cpu)
        yield from spin_unlock(cpu, table)

    in_softirq(bench, lambda: use(bench.cpu, table))
    in_process(bench, careless(bench.cpu))
    assert "inconsistent {IN-SOFTIRQ-W} -> {SOFTIRQ-ON-W} usage." in report(bench)


@pytest.mark.conformance("K7.2-1")
def test_a_lock_shared_with_a_timer_needs_bh_too() -> None:
    bench, table = BareCpu(overrides=ON), Spinlock(40, "t")
    timer = Timer(lambda cpu: use(cpu, table))
    bench.cpu.timers.mod_timer(timer, bench.cpu.jiffies() + 2)
    bench.run_for(100 * MS)
    in_process(bench, use(bench.cpu, table))
    assert titles(bench) == ["WARNING: inconsistent lock state"]


@pytest.mark.conformance("K7.2-1")
@pytest.mark.parametrize(("variant", "reported"), [("none", True), ("bh", False)])
def test_a_lock_shared_with_a_tasklet_needs_bh_in_a_process(variant: str, reported: bool) -> None:
    bench, table = BareCpu(overrides=ON), Spinlock(40, "t")
    tasklet = tasklet_init(bench.cpu, lambda cpu: use(cpu, table))

    def task(cpu: Cpu) -> Context:
        tasklet_schedule(cpu, tasklet)
        yield
        yield from use(cpu, table, variant)

    in_process(bench, task(bench.cpu))
    in_process(bench, task(bench.cpu))
    assert bool(titles(bench)) == reported


@pytest.mark.conformance("K7.2-3")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
@pytest.mark.parametrize(
    ("variant", "reported"), [("none", True), ("bh", True), ("irqsave", False)]
)
def test_an_irq_thread_needs_irqsave_for_what_its_handler_takes_too(
    era: str, variant: str, reported: bool
) -> None:
    bench, table = LineBench(era, overrides=dict(ON)), Spinlock(40, "t")
    ran: list[str] = []

    def handler(_irq: int, _dev: object) -> Context:
        yield from use(bench.cpu, table)
        return IRQ_WAKE_THREAD

    def thread_fn(_irq: int, _dev: object) -> Context:
        yield from use(bench.cpu, table, variant)
        ran.append(bench.cpu.current.comm)
        return IRQ_HANDLED

    bench.line(5)
    assert bench.request(5, handler, thread_fn=thread_fn) == 0
    for _ in range(2):
        irq_sim_fire(bench.cpu, 5)
        bench.settle()
    assert ran == ["irq/5-dev"] * 2
    assert bool(titles(bench)) == reported


@pytest.mark.conformance("K7.2-3")
@pytest.mark.parametrize("era", ["3.10", "6.1"])
def test_a_forced_thread_has_bottom_halves_off_so_the_plain_lock_does_against_softirqs(
    era: str,
) -> None:
    bench = LineBench(era, overrides={**dict(ON), "threadirqs": "on"})
    table = Spinlock(40, "t")
    seen: list[tuple[str, bool, bool]] = []

    def handler(_irq: int, _dev: object) -> Context:
        cpu = bench.cpu
        yield from use(cpu, table)
        seen.append((cpu.current.comm, cpu.in_irq(), cpu.in_softirq()))
        return IRQ_HANDLED

    bench.line(5)
    assert bench.request(5, handler) == 0
    irq_sim_fire(bench.cpu, 5)
    bench.settle()
    in_softirq(bench, lambda: use(bench.cpu, table))
    irq_sim_fire(bench.cpu, 5)
    bench.settle()
    assert seen == [("irq/5-dev", False, True)] * 2
    assert report(bench) == []


# ---------------------------------------------------------------- what is no fault


def test_trylock_may_go_against_the_order() -> None:
    bench, a, b = BareCpu(overrides=ON), Spinlock(40, "A"), Spinlock(41, "B")

    def against(cpu: Cpu) -> Context:
        yield from spin_lock(cpu, b)
        assert (yield from spin_trylock(cpu, a))
        yield from spin_unlock(cpu, a)
        yield from spin_unlock(cpu, b)

    in_process(bench, ordered(bench.cpu, a, b))
    in_process(bench, against(bench.cpu))
    assert report(bench) == []


def test_readers_in_interrupts_suffer_readers_but_no_writers_with_interrupts_on() -> None:
    def reads(cpu: Cpu, lock: RwLock) -> Context:
        yield from read_lock(cpu, lock)
        yield from read_unlock(cpu, lock)

    def writes(cpu: Cpu, lock: RwLock) -> Context:
        yield from write_lock(cpu, lock)
        yield from write_unlock(cpu, lock)

    bench, table = BareCpu(overrides=ON), RwLock(40, "rw")
    in_hardirq(bench, lambda: reads(bench.cpu, table))
    in_process(bench, reads(bench.cpu, table))
    assert report(bench) == []
    in_process(bench, writes(bench.cpu, table))
    text = report(bench)
    assert "inconsistent {IN-HARDIRQ-R} -> {HARDIRQ-ON-W} usage." in text
    assert any(line.endswith(" (rw){+?.+}-{2:2}, at: writes") for line in text)


@pytest.mark.parametrize("era", ERAS)
def test_who_frees_what_it_does_not_hold_is_told(era: str) -> None:
    bench, table = BareCpu(era, overrides=(("prove_locking", "on"),)), Spinlock(40, "t")
    pid = in_process(bench, spin_unlock(bench.cpu, table))
    assert "bad unlock balance detected!" in titles(bench)[0]
    assert f"test/{pid} is trying to release lock (t) at:" in report(bench)


def test_without_prove_locking_nobody_looks() -> None:
    bench, table = BareCpu(), Spinlock(40, "t")
    assert bench.cpu.lockdep is None
    in_softirq(bench, lambda: use(bench.cpu, table))
    in_process(bench, use(bench.cpu, table))
    assert report(bench) == []


def test_the_same_run_gives_the_same_report() -> None:
    def once() -> Any:
        bench, a, b = BareCpu(overrides=ON), Spinlock(40, "A"), Spinlock(41, "B")
        in_process(bench, ordered(bench.cpu, a, b))
        in_process(bench, ordered(bench.cpu, b, a))
        return bench.log()

    assert once() == once()
