"""Who of the ten runs first? Raise every softirq of the era in reverse order, log what ran when.

From process context with bottom halves off: none of them can run before all are pending. Then
``local_bh_enable`` runs them, and each action notes itself before it does its usual work. One
action more: NET_RX raises the vector ``again`` while it runs, which has to wait for the next pass,
whether its number is lower or higher. Result::

    softirq_order: raised=RCU,...,TIMER,HI
    softirq_order: order=HI,TIMER,...,RCU first=HI n=10 again=HI next_pass=HI preempt_count=0x101

``order`` is the order of first runs, ``next_pass`` what ran when all of them had run,
``preempt_count`` what stood there in the first one.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.softirq import (
    NET_RX_SOFTIRQ,
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


class Notes:
    """What ran so far."""

    def __init__(self, again: int) -> None:
        self.again = again  # the vector that NET_RX raises
        self.raised_again = False
        self.order: list[str] = []
        self.next_pass = ""
        self.preempt_count = 0


@module(NAME, params={"again": ("HI", "softirq that NET_RX raises once more while it runs")})
def init(cpu: Cpu, params: Values) -> Context:
    """Raise all softirqs in reverse order and log the order in which they run."""
    names = cpu.params.softirq_names
    if params["again"] not in names:
        return -EINVAL
    notes = Notes(names.index(params["again"]))
    before = list(cpu.softirq.actions)
    for number, action in enumerate(before):
        open_softirq(cpu, number, _noting(number, action, notes))
    raised = list(reversed(range(len(names))))
    local_bh_disable(cpu)
    for number in raised:
        raise_softirq(cpu, number)
        yield
    report(cpu, NAME, raised=",".join(names[number] for number in raised))
    yield from local_bh_enable(cpu)
    while len(notes.order) < len(names) or not notes.next_pass:
        yield from msleep(cpu, 1)  # ksoftirqd was runnable and has the rest
    for number, action in enumerate(before):
        open_softirq(cpu, number, action)
    report(
        cpu,
        NAME,
        order=",".join(notes.order),
        first=notes.order[0],
        n=len(notes.order),
        again=names[notes.again],
        next_pass=notes.next_pass,
        preempt_count=f"{notes.preempt_count:#x}",
    )
    return 0


def _noting(number: int, action: Action, notes: Notes) -> Action:
    """An action that notes its runs, then does what the vector's user wants."""

    def run(cpu: Cpu) -> Context:
        names = cpu.params.softirq_names
        notes.preempt_count = notes.preempt_count or cpu.preempt_count
        if names[number] not in notes.order:
            notes.order.append(names[number])
        elif number == notes.again and notes.raised_again and len(notes.order) == len(names):
            notes.next_pass = notes.next_pass or names[number]
        if number == NET_RX_SOFTIRQ and not notes.raised_again:
            notes.raised_again = True
            raise_softirq(cpu, notes.again)
        yield from action(cpu)

    return run
