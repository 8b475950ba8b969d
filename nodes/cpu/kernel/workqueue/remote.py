"""A question to another CPU and its answer: what in Linux is a look under another pool's lock.

The question is a record whose last word is a ticket; whoever takes it answers with that ticket. A
task sleeps until then; a softirq spins, which lets interrupts in. With interrupts off nobody may
ask: two that asked each other would never answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nodes.cpu.kernel.bug import warn_once
from nodes.cpu.kernel.percpu import SCHEDULE, Context, Pause
from nodes.cpu.kernel.sched import TASK_UNINTERRUPTIBLE, Task, wake_up_process
from nodes.cpu.kernel.smp import call_function_single, remote_function

if TYPE_CHECKING:
    from nodes.cpu.kernel.percpu import Cpu

#: Record: the answer to ticket 1 is 2.
ANSWER = 122
SPIN_NS = 5_000


class Questions:
    """What this CPU has asked and is waiting for."""

    def __init__(self) -> None:
        self.last = 0
        self.waiting: dict[int, Task | None] = {}  # by ticket
        self.answers: dict[int, int] = {}


def ask(cpu: Cpu, target: int, record: Sequence[int]) -> Context:
    """Send ``record`` with a ticket behind it; returns the answer, 0 if nobody may ask here."""
    if not cpu.irqs_on:
        warn_once(cpu, "kernel/workqueue.c", "another CPU's pool, with interrupts off")
        return 0
    questions = cpu.wq.questions
    questions.last += 1
    ticket = questions.last
    sleeps = not cpu.in_atomic() and cpu.current is not cpu.idle
    questions.waiting[ticket] = cpu.current if sleeps else None
    yield from call_function_single(cpu, target, [*record, ticket])
    while ticket not in questions.answers:
        if sleeps:
            cpu.current.state = TASK_UNINTERRUPTIBLE
            yield SCHEDULE
        else:
            yield Pause(cpu.now() + SPIN_NS)
    return questions.answers.pop(ticket)


def answer(cpu: Cpu, target: int, ticket: int, value: int) -> Context:
    yield from call_function_single(cpu, target, [ANSWER, ticket, value])


@remote_function(ANSWER)
def _answer(cpu: Cpu, _source: int, record: list[int]) -> None:
    questions = cpu.wq.questions
    if record[1] not in questions.waiting:
        return
    task = questions.waiting.pop(record[1])
    questions.answers[record[1]] = record[2]
    if task is not None:
        wake_up_process(cpu, task)
