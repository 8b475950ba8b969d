"""Who of the ten runs first? Raise every softirq of the era in reverse order, log what ran when.

From process context with bottom halves off: none of them can run before all are pending. Then
``local_bh_enable`` runs them, and each action notes itself before it does its usual work.
Result: ``softirq_order: order=HI,TIMER,... first=HI n=10``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.softirq import (
    Action,
    local_bh_disable,
    local_bh_enable,
    open_softirq,
    raise_softirq,
)
from nodes.cpu.kernel.timer import msleep
from nodes.cpu.modules import Values, module, report

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

NAME = "softirq_order"


@module(NAME)
def init(cpu: Cpu, params: Values) -> Context:
    """Raise all softirqs in reverse order and log the order in which they run."""
    names = cpu.params.softirq_names
    order: list[str] = []
    before = list(cpu.softirq.actions)
    for number, action in enumerate(before):
        open_softirq(cpu, number, _noting(names[number], action, order))
    local_bh_disable(cpu)
    for number in reversed(range(len(names))):
        printk(cpu, f"{NAME}: raise {names[number]}")
        raise_softirq(cpu, number)
        yield
    yield from local_bh_enable(cpu)
    while len(order) < len(names):
        yield from msleep(cpu, 1)  # ksoftirqd was runnable and has the rest
    for number, action in enumerate(before):
        open_softirq(cpu, number, action)
    report(cpu, NAME, order=",".join(order), first=order[0], n=len(order))
    return 0


def _noting(name: str, action: Action, order: list[str]) -> Action:
    """An action that notes its first run, then does what the vector's user wants."""

    def run(cpu: Cpu) -> Context:
        if name not in order:
            order.append(name)
        yield from action(cpu)

    return run
