"""The lock validator on two classes and more: safe over unsafe, orders, circles."""

from __future__ import annotations

import pytest

from nodes.cpu.kernel.locks.spinlock import Spinlock
from tests.nodes.cpu.duo import ON, Duo
from tests.nodes.cpu.harness import ERAS, MS, BareCpu
from tests.nodes.cpu.lockuses import in_hardirq, in_process, ordered, report, titles, use

# ---------------------------------------------------------------- two classes


@pytest.mark.conformance("K7.3-2")
@pytest.mark.parametrize(
    ("era", "title"),
    [
        ("2.6.18", "[ INFO: hard-safe -> hard-unsafe lock order detected ]"),
        ("3.10", "[ INFO: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected ]"),
        ("6.1", "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"),
    ],
)
def test_an_unsafe_lock_under_a_safe_one_is_reported_though_no_interrupt_takes_it(
    era: str, title: str
) -> None:
    bench, a, b = BareCpu(era, overrides=ON), Spinlock(40, "A"), Spinlock(41, "B")
    in_hardirq(bench, lambda: use(bench.cpu, a))
    in_process(bench, use(bench.cpu, b))
    assert report(bench) == []
    in_process(bench, use(bench.cpu, a, "irqsave", use(bench.cpu, b)))
    text = report(bench)
    irq = "hard" if era == "2.6.18" else "HARDIRQ"
    assert text[1] == title
    rule = {"2.6.18": 54, "3.10": 54, "6.1": 53}[era]
    assert (text[0], text[2 if era == "2.6.18" else 3]) == ("=" * rule, "-" * rule)
    assert f"but this new dependency connects a {irq}-irq-safe lock:" in text
    assert f"... which became {irq}-irq-safe at:" in text
    assert f"... which became {irq}-irq-unsafe at:" in text
    assert "  interrupt" in text  # the path of A in the interrupt
    assert (" Possible interrupt unsafe locking scenario:" in text) == (era != "2.6.18")
    assert any("is trying to acquire:" in line for line in text)


def test_the_dependency_is_found_through_locks_in_between() -> None:
    bench = BareCpu(overrides=ON)
    a, b, c = (Spinlock(40 + n, name) for n, name in enumerate("ABC"))
    cpu = bench.cpu
    in_hardirq(bench, lambda: use(cpu, a))
    in_process(bench, use(cpu, b, "irq", use(cpu, c, "none")))  # B before C, interrupts off
    in_process(bench, use(cpu, c))  # C is unsafe: allowed, nobody safe is before it
    in_process(bench, use(cpu, a, "irq", use(cpu, b)))
    text = report(bench)
    assert text[1] == "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"
    assert "Chain exists of:" in text
    assert "  A --> B --> C" in text


@pytest.mark.parametrize(
    ("era", "title"),
    [
        ("2.6.18", "[ INFO: possible irq lock inversion dependency detected ]"),
        ("3.10", "[ INFO: possible irq lock inversion dependency detected ]"),
        ("6.1", "WARNING: possible irq lock inversion dependency detected"),
    ],
)
@pytest.mark.parametrize("last", ["safe", "unsafe"])
def test_a_change_of_use_is_checked_against_the_chain_it_stands_in(
    era: str, title: str, last: str
) -> None:
    bench, a, b = BareCpu(era, overrides=ON), Spinlock(40, "A"), Spinlock(41, "B")
    cpu = bench.cpu
    in_process(bench, use(cpu, a, "irqsave", use(cpu, b)))
    steps = [lambda: in_hardirq(bench, lambda: use(cpu, a)), lambda: in_process(bench, use(cpu, b))]
    for step in steps[::-1] if last == "safe" else steps:
        assert report(bench) == []
        step()
    text = report(bench)
    assert text[1] == title
    assert any("just changed the state of lock:" in line for line in text)
    irq = "hard-irq-" if era == "2.6.18" else "HARDIRQ-"
    if last == "safe":
        assert f"but this lock took another, {irq}unsafe lock in the past:" in text
    else:
        assert f"but this lock was taken by another, {irq}safe lock in the past:" in text
    assert "the shortest dependencies between 2nd lock and 1st lock:" in text


@pytest.mark.parametrize(
    ("era", "title", "rules"),
    [
        ("2.6.18", "[ INFO: possible circular locking dependency detected ]", (55, 55)),
        ("3.10", "[ INFO: possible circular locking dependency detected ]", (54, 55)),
        ("6.1", "WARNING: possible circular locking dependency detected", (54, 54)),
    ],
)
def test_two_orders_of_two_locks(era: str, title: str, rules: tuple[int, int]) -> None:
    bench, a, b = BareCpu(era, overrides=ON), Spinlock(40, "A"), Spinlock(41, "B")
    in_process(bench, ordered(bench.cpu, a, b))
    in_process(bench, ordered(bench.cpu, b, a))
    text = report(bench)
    assert text[1] == title
    assert (text[0], text[2 if era == "2.6.18" else 3]) == ("=" * rules[0], "-" * rules[1])
    assert "which lock already depends on the new lock." in text
    at = next(n for n, line in enumerate(text) if line.startswith("-> #1"))
    assert " (B)" in text[at]
    assert text[at + 1 : at + 3] == ["       spin_lock", "       ordered"]
    assert " (A)" in next(line for line in text if line.startswith("-> #0"))
    if era != "2.6.18":
        at = text.index(" Possible unsafe locking scenario:")
        assert text[at + 4 : at + 8] == [
            "  lock(B);",
            f"{'':31}lock(A);",
            f"{'':31}lock(B);",
            "  lock(A);",
        ]


def test_two_orders_on_two_cpus_are_reported_before_they_meet() -> None:
    duo, a, b = Duo(), Spinlock(40, "A"), Spinlock(41, "B")
    in_process(duo.zero, ordered(duo.zero.cpu, a, b))
    in_process(duo.one, ordered(duo.one.cpu, b, a))
    text = report(duo.one)
    assert text[1] == "WARNING: possible circular locking dependency detected"
    assert "       (on another CPU)" in text


def test_a_circle_of_three() -> None:
    bench = BareCpu(overrides=ON)
    a, b, c = (Spinlock(40 + n, name) for n, name in enumerate("ABC"))
    for first, second in ((a, b), (b, c), (c, a)):
        assert report(bench) == []
        in_process(bench, ordered(bench.cpu, first, second))
    text = report(bench)
    assert "  A --> B --> C" in text
    assert [line[:5] for line in text if line.startswith("-> #")] == ["-> #2", "-> #1", "-> #0"]


@pytest.mark.parametrize("era", ERAS)
def test_a_lock_inside_itself_or_inside_its_class(era: str) -> None:
    bench, one, two = BareCpu(era, overrides=ON), Spinlock(40, "q", 40), Spinlock(41, "q", 40)
    in_process(bench, ordered(bench.cpu, one, two))
    assert "possible recursive locking detected" in titles(bench)[0]
    bench = BareCpu(era, overrides=ON)
    bench.task(ordered(bench.cpu, one, one))
    bench.run_for(5 * MS)
    text = report(bench)
    assert "possible recursive locking detected" in text[1]
    assert (" May be due to missing lock nesting notation" in text) == (era != "2.6.18")
    assert one.holder(bench.cpu) == 0  # and there it spins
