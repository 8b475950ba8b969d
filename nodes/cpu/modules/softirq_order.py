"""Who of the ten runs first? Raise every softirq of the era in reverse order, log what ran when.

From process context with bottom halves off: none of them can run before all are pending. Then
``local_bh_enable`` runs them, and each action notes itself before it does its usual work.
Result: ``softirq_order: order=HI,TIMER,... first=HI n=10``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.printk import printk
from nodes.cpu.kernel.softirq import Action, local_bh_disable, local_bh_enable
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
    before = dict(cpu.softirq.actions)
    for number in range(len(names)):
        cpu.softirq.open_softirq(number, _noting(names[number], before.get(number), order))
    local_bh_disable(cpu)
    for number in reversed(range(len(names))):
        printk(cpu, f"{NAME}: raise {names[number]}")
        cpu.softirq.raise_irqoff(number)
        yield
    yield from local_bh_enable(cpu)
    while len(order) < len(names):
        yield from msleep(cpu, 1)  # ksoftirqd was runnable and has the rest
    cpu.softirq.actions.clear()
    cpu.softirq.actions.update(before)
    report(cpu, NAME, order=",".join(order), first=order[0], n=len(order))
    return 0


def _noting(name: str, action: Action | None, order: list[str]) -> Action:
    """An action that notes its first run, then does what the vector's user wants."""

    def run(cpu: Cpu) -> Context:
        if name not in order:
            order.append(name)
        if action is not None:
            yield from action(cpu)
        yield

    return run
