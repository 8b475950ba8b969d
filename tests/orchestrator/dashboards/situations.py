"""Machines in a situation, each with the sentence that a screen has for it."""

from __future__ import annotations

from collections.abc import Callable

from dashboard_bench import Bench

Case = tuple[str, str, Callable[[Bench], None]]
CASES: list[Case] = []


def case(table: str, text: str) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """The decorated function makes the situation in which ``table`` says ``text``."""

    def register(situation: Callable[[Bench], None]) -> Callable[[Bench], None]:
        CASES.append((table, text, situation))
        return situation

    return register


def bench_with(situation: Callable[[Bench], None]) -> Bench:
    bench = Bench()
    bench.network()
    bench.look()
    situation(bench)
    bench.look()
    return bench
