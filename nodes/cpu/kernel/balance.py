"""The SCHED softirq: a busy CPU's regular look at the others, after kernel/sched/fair.c.

The tick raises it when the look is due, if there are other CPUs. Only the look is modelled: tasks
do not migrate here, so it finds nothing to move. An idle CPU has no tick and does not look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodes.cpu.kernel.jiffies import msecs_to_jiffies, time_after_eq
from nodes.cpu.kernel.percpu import Context
from nodes.cpu.kernel.softirq import open_softirq, raise_softirq_irqoff

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: A busy CPU looks this often (min_interval times busy_factor of a small machine).
BALANCE_INTERVAL_MS = 64


def setup(cpu: Cpu) -> None:
    """SCHED exists since 2.6.20."""
    if "SCHED" in cpu.softirq.number:
        open_softirq(cpu, cpu.softirq.number["SCHED"], run_rebalance_domains)


def trigger_load_balance(cpu: Cpu) -> None:
    """From the tick."""
    number = cpu.softirq.number.get("SCHED")
    if number is None or len(cpu.online_cpus) < 2:
        return
    if time_after_eq(cpu.jiffies(), cpu.rq.next_balance):
        raise_softirq_irqoff(cpu, number)


def run_rebalance_domains(cpu: Cpu) -> Context:
    """The SCHED softirq."""
    cpu.rq.next_balance = cpu.jiffies() + msecs_to_jiffies(cpu, BALANCE_INTERVAL_MS)
    yield
